"""The command line: run, plan, serve, demo, bills, doctor. One JSON document on stdout, everything else on stderr."""

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from flows.request_file import allow_files, read_request
from flows.unfinished import Unfinished, unfinished
from models.ltx2.bundle import RANDOM_WEIGHTS, is_tiny
from schemas.endpoint import Endpoint
from schemas.endpoints import ENDPOINTS
from schemas.errors import LtxFlowsError
from schemas.rejections import InputRejected
from schemas.request import TrainRequest
from schemas.settings import settings
from tasks.storage.home import private_home

DONE, FAILED, REJECTED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, 1 (a line on stderr for each fault) or 2 (a 422 body on stdout)."""
    options = _parser().parse_args(arguments)
    with _stdout_for_json() as out:
        try:
            if options.command is not _doctor:  # which tells them with the rest
                settings()
            options.command(options, out)
        except InputRejected as error:
            _print({"detail": [detail.model_dump(mode="json") for detail in error.details()]}, out)
            return REJECTED
        except (LtxFlowsError, OSError) as error:
            print("\n".join(f"ltx-flows: {line}" for line in str(error).splitlines()), file=sys.stderr)
            return FAILED
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ltx-flows", description="LoRA training for LTX-2.3 on your own GPU.")
    parser.add_argument("--version", action="version", version=f"ltx-flows {version('ltx-flows')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the flow here and now")
    run.add_argument("endpoint", choices=ENDPOINTS, metavar="ENDPOINT")
    run.add_argument("request", type=Path, metavar="REQUEST.json")
    run.add_argument("--output", type=Path, metavar="DIR", help="put the finished files here instead of OUTPUTS")
    run.set_defaults(command=_run)

    plan = commands.add_parser("plan", help="everything up to fitting: no encoder, no GPU, no training")
    plan.add_argument("endpoint", choices=ENDPOINTS, metavar="ENDPOINT")
    plan.add_argument("request", type=Path, metavar="REQUEST.json")
    plan.set_defaults(command=_plan)

    demo = commands.add_parser("demo", help="train the tiny base model on clips made on the spot")
    demo.add_argument("endpoint", choices=ENDPOINTS, nargs="?", default="extend-prefix", metavar="ENDPOINT")
    demo.set_defaults(command=_demo)

    serve = commands.add_parser("serve", help="Prefect server, deployments, a worker and the HTTP API, until Ctrl-C")
    _add_serving(serve)
    serve.set_defaults(command=_serve)

    deploy = commands.add_parser("deploy", help="work pool and deployments on the Prefect server of PREFECT_API_URL")
    _add_deploying(deploy)
    deploy.set_defaults(command=_deploy)

    _add_keeping(commands)
    return parser


def _add_keeping(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bills = commands.add_parser("bills", help="the ledger")
    form = bills.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--csv", action="store_true", help="as CSV")
    bills.set_defaults(command=_bills)

    cache = commands.add_parser("cache", help="how much the store holds, and removing what no recent run needs")
    _add_pruning(cache)
    cache.set_defaults(command=_cache)

    doctor = commands.add_parser("doctor", help="what is ready on this machine and what is missing")
    doctor.add_argument("--online", action="store_true", help="also ask the Hub whether the base model may be read")
    doctor.set_defaults(command=_doctor)


def _add_serving(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--host", default="127.0.0.1", help="where the API listens (127.0.0.1)")
    serve.add_argument("--port", type=int, default=8484, help="the API's port (8484)")
    serve.add_argument("--tls-self-signed", action="store_true", help="https with a certificate of our own making")
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="https with this certificate")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's key")


def _add_deploying(deploy: argparse.ArgumentParser) -> None:
    deploy.add_argument("--on", choices=("process", "docker", "kubernetes"), default="process", help="kind of worker")
    deploy.add_argument("--notify", metavar="URL", help="Apprise URL told of every run's end; '' tells nobody any more")


def _add_pruning(cache: argparse.ArgumentParser) -> None:
    cache.add_argument("action", choices=("du", "prune"))
    cache.add_argument("--older-than", type=float, default=7, metavar="DAYS", help="prune: spare what is younger (7)")
    cache.add_argument("--keep-runs", type=float, default=30, metavar="DAYS", help="prune: spare what runs used (30)")
    cache.add_argument("--max-gib", type=float, metavar="GIB", help="prune: then the oldest, until so much is left")


def _run(options: argparse.Namespace, out: TextIO) -> None:
    endpoint, request = read_request(options.endpoint, options.request)
    if options.output:
        os.environ["LTX_FLOWS_OUTPUTS"] = str(options.output.absolute())
        settings.cache_clear()
    with unfinished(endpoint.name, request) as note:
        _say_random_weights()
        _print(_told_again(note) or _run_flow(endpoint, request, note), out)
        out.flush()


def _plan(options: argparse.Namespace, out: TextIO) -> None:
    from flows.plan import plan_run  # noqa: PLC0415  # each command imports what it needs: `plan` must answer at once

    asked = read_request(options.endpoint, options.request)
    _say_random_weights()
    _print(plan_run(*asked).model_dump(mode="json"), out)


def _demo(options: argparse.Namespace, out: TextIO) -> None:
    from flows.demo import make_demo, summary  # noqa: PLC0415

    allow_files()
    os.environ["LTX_FLOWS_BASE_MODEL"] = "tiny"
    settings.cache_clear()
    private_home()
    endpoint = ENDPOINTS[options.endpoint]
    request = endpoint.read(make_demo(endpoint))
    with unfinished(endpoint.name, request) as note:
        out.write(summary(_told_again(note) or _run_flow(endpoint, request, note)))


def _serve(options: argparse.Namespace, out: TextIO) -> None:
    from flows.serve import Serving, serve  # noqa: PLC0415

    serve(Serving(options.host, options.port, options.tls_self_signed, options.tls_cert, options.tls_key), out)


def _deploy(options: argparse.Namespace, out: TextIO) -> None:
    from flows.hosting.prefect_server import ADDRESS, prefect_server  # noqa: PLC0415

    if not os.environ.get(ADDRESS):
        raise LtxFlowsError(f"set {ADDRESS} to the server of your team; for this machine alone: ltx-flows serve")
    with prefect_server():
        from flows.hosting.deployments import deploy  # noqa: PLC0415
        from flows.hosting.notifications import check_notify_url, notify  # noqa: PLC0415

        check_notify_url(options.notify)
        out.write("".join(f"{name}\n" for name in deploy(options.on, silence=True)))
        if options.notify is not None:
            notify(options.notify)


def _bills(options: argparse.Namespace, out: TextIO) -> None:
    from tasks.ledger.bills import as_csv, bills, table  # noqa: PLC0415

    private_home()
    rows = bills()
    if options.json:
        _print([row.model_dump(mode="json") for row in rows], out)
    else:
        out.write(as_csv(rows) if options.csv else table(rows))


def _cache(options: argparse.Namespace, out: TextIO) -> None:
    from tasks.retention import DAY, prune, usage  # noqa: PLC0415

    private_home()
    if options.action == "prune":
        most = None if options.max_gib is None else round(options.max_gib * 2**30)
        gone = prune(options.older_than * DAY, options.keep_runs * DAY, most)
        out.write(f"removed {gone.files} files, {gone.size / 2**20:.1f} MiB\n")
    for kind, (files, size) in usage().items():
        out.write(f"{kind:10} {files:>8} files {size / 2**20:>12.1f} MiB\n")


def _doctor(options: argparse.Namespace, out: TextIO) -> None:
    from flows.doctor import examine  # noqa: PLC0415

    missing = []
    for found in examine(online=options.online):
        print(f"{'ok     ' if found.ready else 'MISSING'}  {found.what}: {found.state}", file=out, flush=True)
        missing += [] if found.ready else [found.what]
    if missing:
        raise LtxFlowsError(f"not ready: {', '.join(dict.fromkeys(missing))}")


def _say_random_weights() -> None:
    if is_tiny(settings().base_model):
        print(f"ltx-flows: {RANDOM_WEIGHTS}", file=sys.stderr)


def _told_again(note: Unfinished) -> dict[str, Any] | None:
    """The result of a run that was killed after its bill, before anybody read the result; not run or billed again."""
    run_id = note.first_run()
    if run_id is None:
        return None
    from tasks.ledger.outcomes import told_again  # noqa: PLC0415

    result = told_again(str(run_id))
    if result is None:
        return None
    print(f"run {run_id} had ended and was billed; this is what it made", file=sys.stderr)
    return dict(result.model_dump(mode="json"))


def _run_flow(endpoint: Endpoint[Any], request: TrainRequest, note: Unfinished) -> dict[str, Any]:
    """Run the endpoint's flow in this process, on this HOME's Prefect server."""
    from flows.hosting.prefect_server import entrance, prefect_environment, prefect_server  # noqa: PLC0415

    os.environ.setdefault("LTX_FLOWS_PROGRESS_BARS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve each other where cores are shared
    settings.cache_clear()
    os.environ.update(prefect_environment())  # Prefect reads its environment on import
    ahead = threading.Thread(target=import_module, args=("flows.local_run",))  # waited for, however this ends
    ahead.start()  # five seconds, as Prefect's server takes to start
    with prefect_server():
        print(f"its pages: {entrance()}", file=sys.stderr)
        ahead.join()
        from prefect.context import refresh_global_settings_context  # noqa: PLC0415

        from flows.local_run import run_here  # noqa: PLC0415

        refresh_global_settings_context()  # the server's address was not known before
        outcome = run_here(endpoint.name, request, note)
    if isinstance(outcome, LtxFlowsError):
        raise outcome
    if isinstance(outcome, BaseException):
        raise LtxFlowsError(f"the run failed: {type(outcome).__name__}: {outcome}; its log above says where")
    return dict(outcome.model_dump(mode="json"))


@contextmanager
def _stdout_for_json() -> Iterator[TextIO]:
    """The real stdout; meanwhile all other output, of C libraries too, goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out:
            yield out
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _print(document: Any, out: TextIO) -> None:  # any JSON
    json.dump(document, out, indent=2, ensure_ascii=False)
    out.write("\n")


if __name__ == "__main__":
    sys.exit(main())
