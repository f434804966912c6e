"""Brings samples to the training, in an order and with noise that follow from the seed and the step alone.

A resumed run therefore repeats what an uninterrupted one does, and several devices share the samples out.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from models.noising import step_generator
from models.trainer import Schedule, Streams, TrainingSample, TrainingStream, sample_index, training_streams
from models.transformer import StreamInput

Batch = tuple[Streams, ...]
Move = Callable[[Tensor], Tensor]


class Feed:
    """One batch per step. Counts steps, and goes on from where a checkpoint was taken.

    For a GPU the next batch is noised and pinned in a thread while this one is computed: nothing waits. On the CPU
    there is nothing idle to do it.
    """

    def __init__(
        self,
        samples: Sequence[TrainingSample],
        schedule: Schedule,
        device: torch.device,
        *,
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self.samples, self.schedule, self.device = samples, schedule, device
        self.rank, self.devices = rank, devices
        self.ahead = device.type == "cuda"
        self.done = 0

    def __len__(self) -> int:
        return self.schedule.steps

    def draws(self, step: int) -> range:
        """Which of all draws this device takes in a step: none is taken twice."""
        first = (step * self.devices + self.rank) * self.schedule.batch
        return range(first, first + self.schedule.batch)

    def batch(self, step: int) -> Batch:
        """What this device learns from in a step, on the CPU."""
        seed = self.schedule.seed
        chosen = ((draw, self.samples[sample_index(draw, len(self.samples), seed)]) for draw in self.draws(step))
        return tuple(training_streams(sample, step_generator(seed, draw)) for draw, sample in chosen)

    def worst(self) -> Batch:
        """A batch of the sample that makes the longest sequence: where it fits, all do."""
        batches = (training_streams(sample, step_generator(self.schedule.seed, 0)) for sample in self.samples)
        longest = max(batches, key=lambda streams: sum(stream.length for stream in streams.values()))
        return self._there((longest,) * self.schedule.batch)

    def __iter__(self) -> Iterator[Batch]:
        return self._ahead() if self.ahead else self._in_turn()

    def _in_turn(self) -> Iterator[Batch]:
        while self.done < len(self):
            self.done += 1
            yield self.batch(self.done - 1)

    def _ahead(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as worker:
            waiting = worker.submit(self._pinned, self.done)
            while self.done < len(self):
                ready = waiting.result()
                self.done += 1
                if self.done < len(self):
                    waiting = worker.submit(self._pinned, self.done)
                yield self._there(ready)

    def _pinned(self, step: int) -> Batch:
        pinned = self.device.type == "cuda"
        return moved(self.batch(step), torch.Tensor.pin_memory) if pinned else self.batch(step)

    def _there(self, batch: Batch) -> Batch:
        return moved(batch, lambda tensor: tensor.to(self.device, non_blocking=True))

    def state_dict(self) -> dict[str, int]:
        """Kept in Lightning's checkpoint."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Called by Lightning before the first step of a resumed run."""
        self.done = state["done"]


def moved(batch: Batch, move: Move) -> Batch:
    """The same batch with every tensor elsewhere."""
    return tuple({modality: _moved(stream, move) for modality, stream in streams.items()} for streams in batch)


def _moved(stream: TrainingStream, move: Move) -> TrainingStream:
    tokens = stream.input.tokens
    there = replace(
        tokens,
        latent=move(tokens.latent),
        sigma=move(tokens.sigma),
        position=move(tokens.position),
        learn=move(tokens.learn),
    )
    context, sigma = move(stream.input.context), move(stream.input.sigma)
    return TrainingStream(StreamInput(there, context, sigma), move(stream.velocity))
