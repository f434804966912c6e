"""Steps of the pipeline: plain functions made into Prefect tasks with a cache key, retries, and progress in the UI."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.serializers import JSONSerializer, prefect_json_object_decoder
from prefect.tasks import Task
from pydantic import BaseModel
from tqdm import tqdm

from schemas.errors import TransientError
from schemas.rejections import InputRejected
from schemas.settings import settings
from tasks.board import board
from tasks.run_id import current_run
from tasks.storage.store import key_of
from tasks.storage.usage import addresses_in, record_usage

SECONDS_BETWEEN_UPDATES = 1.0  # a progress artifact is a row on the server
BAR_SECONDS = 0.5
MOST_LISTED = 10  # texts in a line of the log; the dataset report has all

P = ParamSpec("P")
R = TypeVar("R")


def decoded(data: dict[str, Any]) -> Any:
    """A part of a step's result, decoded from the cache.

    Prefect writes the class's name beside it, and takes the bare JSON where no class has that name any more. Refused,
    the result counts as missing, and the step is done again.

    Raises:
        ValueError: no class has that name.
    """
    found = prefect_json_object_decoder(data)
    if found is data and "__class__" in data:
        raise ValueError(f"no class {data['__class__']}")
    return found


# of one call of a step: whether its work was done, or its result taken from the cache
WORKED: ContextVar[list[str] | None] = ContextVar("worked", default=None)
STEPS: ContextVar[list[tuple[str, bool]] | None] = ContextVar("steps", default=None)  # of a run, and if reused

AS_JSON: JSONSerializer[Any] = JSONSerializer(object_decoder=f"{__name__}.decoded")


def step_key(step: str, version: int) -> Callable[[TaskRunContext, dict[str, Any]], str]:
    """Cache key `<step>/v<version>/<sha256 of the arguments>`: raise the version when the step's result changes."""

    def key(context: TaskRunContext, arguments: dict[str, Any]) -> str:
        return f"{step}/v{version}/{key_of(arguments)}"

    return key


class Step(Task[P, R]):
    """A task that tells in its run's log what it did, also where its result comes from the cache."""

    says: Callable[[Any], str]

    def __call__(self, *arguments: P.args, **more: P.kwargs) -> R:  # type: ignore[override]
        worked: list[str] = []
        mark = WORKED.set(worked)
        try:
            result = super().__call__(*arguments, **more)
        finally:
            WORKED.reset(mark)
        if FlowRunContext.get() and not isinstance(result, State):  # a caller that asks for the state looks itself
            self._tell(result, reused=not worked)
        return result

    def _tell(self, result: R, *, reused: bool) -> None:
        get_run_logger().info("%s%s: %s", self.name, ", reused" if reused else "", self.says(result))
        if (steps := STEPS.get()) is not None:
            steps.append((self.name, reused))


def listed(texts: Sequence[object]) -> str:
    """Texts for the end of a log line; of many, the first."""
    more = f"; and {len(texts) - MOST_LISTED} more" if len(texts) > MOST_LISTED else ""
    return "".join(f"; {text}" for text in texts[:MOST_LISTED]) + more


@contextmanager
def saying_what_is_reused() -> Iterator[None]:
    """Tell in one line of the run's log, at its end, which steps it found already done."""
    steps: list[tuple[str, bool]] = []
    mark = STEPS.set(steps)
    try:
        yield
    finally:
        STEPS.reset(mark)
        done = {name for name, reused in steps if not reused}  # a second download of one file is no reuse
        if names := [name for name in dict.fromkeys(name for name, _ in steps) if name not in done]:
            get_run_logger().info("reused, not done again: %s", ", ".join(names))


def told_step(
    name: str, says: Callable[[Any], str], *, device: bool = False, **options: Any
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a step under a cache key of its own, tagged `gpu` where it may use one.

    No step is tagged with its name: the first step of each new set of tags waits two seconds for Prefect's limits.
    """

    def made(work: Callable[P, R]) -> Task[P, R]:
        whole: dict[str, Any] = {"task_run_name": name, "persist_result": True, "result_serializer": AS_JSON} | options
        tags = ["gpu"] if device else []
        step: Step[P, R] = Step(fn=_noting(work), name=name, tags=tags, retry_condition_fn=worth_retrying, **whole)
        step.says = says
        return step

    return made


def step(
    name: str,
    version: int,
    says: Callable[[Any], str],
    retry_delay_seconds: list[float] | None = None,
    *,
    device: bool = False,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a cached step: its arguments are its key, its result a small JSON manifest.

    Raise `version` when the step makes something else of the same arguments, or when its result's class has another
    name. Artifacts have versions of their own: a step that is done again finds the artifacts it has made before. All
    artifacts that its result names are in use from then on.

    Args:
        name: of the step, in its key and its log.
        version: of what it makes.
        says: what it did, in a line, from its result.
        retry_delay_seconds: before each further try.
        device: whether it computes on the GPU, where there is one.
    """
    delays = retry_delay_seconds or [5, 30]
    key = step_key(name, version)
    return told_step(name, says, device=device, cache_key_fn=key, retries=len(delays), retry_delay_seconds=delays)


def _noting(work: Callable[P, R]) -> Callable[P, R]:
    @wraps(work)
    def noted(*words: P.args, **more: P.kwargs) -> R:
        if (worked := WORKED.get()) is not None:
            worked.append(work.__name__)
        try:
            result = work(*words, **more)
        except InputRejected as error:
            if TaskRunContext.get():
                get_run_logger().error("422 %s", error)  # before Prefect's words on the failed task
            raise
        note_in_use(result)
        return result

    return noted


def note_in_use(result: Any) -> None:
    """Record a result's artifacts as in use, before the result is returned: old ones may be pruned at any moment."""
    if isinstance(result, BaseModel) and (run_id := current_run()):
        record_usage(run_id, addresses_in(result))


def effect(name: str, retry_delay_seconds: list[float]) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a step for its effect elsewhere: never taken from the cache.

    A run that goes on does the step again; so doing it twice must change nothing.
    """
    return task(
        task_run_name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(retry_delay_seconds),
        retry_delay_seconds=retry_delay_seconds,
        retry_condition_fn=worth_retrying,
    )


def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a fault may pass by itself: a silent clip stays silent, a defect of ours stays one."""
    return isinstance(state.result(raise_on_failure=False), TransientError | OSError | httpx.HTTPError)


class Progress:
    """A progress bar on the run's page, and on stderr for command-line users."""

    def __init__(self, step: str, description: str) -> None:
        self.step, self.description = step, description
        self.artifact: UUID | None = None
        self.bar = tqdm(
            desc=f"{step:9}", file=sys.stderr, mininterval=BAR_SECONDS, disable=not settings().progress_bars
        )
        self.shown = time.monotonic()
        self._show(0.0)

    def __call__(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)
        now = time.monotonic()
        if done < total and now - self.shown < SECONDS_BETWEEN_UPDATES:
            return
        self.shown = now
        self._show(100.0 * done / max(total, 1))
        if done >= total:
            self.bar.close()

    def _show(self, percent: float) -> None:
        board().show(f"progress of {self.step} {id(self)}", lambda: self._draw(percent))

    def _draw(self, percent: float) -> None:
        if self.artifact is None:
            made = create_progress_artifact(progress=percent, key=self.step, description=self.description)
            assert isinstance(made, UUID)  # a coroutine only where the caller is one
            self.artifact = made
        else:
            update_progress_artifact(self.artifact, progress=percent)


class Usage:
    """The usage note of one run: begun with the run, added to after each step, closed at its end."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        note_usage(run_id, ())

    def note(self, *manifests: BaseModel) -> None:
        """Record that these manifests' artifacts are in use from now on."""
        note_usage(self.run_id, tuple(addresses_in(*manifests)))

    def end(self) -> None:
        """Close the note: the run makes nothing any more."""
        note_usage(self.run_id, (), ended=True)


@effect("note what is used", [2, 10, 30])
def note_usage(run_id: str, addresses: tuple[str, ...], *, ended: bool = False) -> None:
    """Add addresses to a run's usage note."""
    record_usage(run_id, addresses, ended=ended)
