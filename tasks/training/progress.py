"""Progress of a training on the run's page and in its log."""

from typing import assert_never

from prefect import get_run_logger

from tasks.step import Progress
from tasks.training.job import Beat, Event, Failed, Finished, Prepared, Previewed, Retrying, Saved, Started, Stepped

LOGGED_STEPS = 20


class TrainingProgress:
    """Shows a training's events on the run's page and in its log."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.progress = Progress("train", "Optimisation steps")
        self.log = get_run_logger()

    def __call__(self, event: Event) -> None:
        match event:
            case Prepared():
                self._say_plan(event)
            case Started():
                self.log.info(
                    "training %d parameters on %s from step %d", event.trained_parameters, event.device, event.step
                )
            case Stepped():
                self.progress(event.step, self.steps)
                if event.step % max(1, self.steps // LOGGED_STEPS) == 0:
                    self._say_step(event)
            case Saved() | Beat():
                pass
            case Previewed():
                self.log.info("preview %d after step %d", event.sample + 1, event.step)
            case Finished():
                if event.skipped:
                    self.log.warning("%d updates were not finite and were left out", len(event.skipped))
                self.log.info("adapter written")
            case Retrying() | Failed():
                self.log.warning("%s", event.message)
            case _:
                assert_never(event)

    def _say_plan(self, event: Prepared) -> None:
        self.log.info(
            "the longest sample, %d tokens, fits; %d of %d blocks are computed twice to save memory; attention: %s; "
            "blocks %s",
            event.tokens,
            event.recomputed,
            event.layers,
            event.attention,
            "compiled" if event.compiled else "not compiled",
        )
        if event.remark:
            self.log.warning("the blocks could not be compiled: %s", event.remark)

    def _say_step(self, event: Stepped) -> None:
        losses = ", ".join(f"{name} {value:.4f}" for name, value in event.losses.items())
        self.log.info(
            "step %d of %d: loss %s, gradient norm %.3g, %.0f tokens/s",
            event.step,
            self.steps,
            losses,
            event.gradient_norm,
            event.tokens_per_second,
        )
