"""Training batches, in an order and with noise that follow from the seed and the step alone.

A resumed run therefore repeats what an uninterrupted one does, and several devices share the samples out.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from models.engine.trainer import Schedule, sample_index
from models.ltx2.transformer import StreamInput
from models.noise import generator_of
from models.training_inputs import Streams, TrainingSample, TrainingStream, conditioned, training_streams

Batch = tuple[Streams, ...]
Move = Callable[[Tensor], Tensor]


class Feed:
    """Iterator over batches, one per step; counts steps, and goes on from the step of a checkpoint.

    The next batch is noised, and for a GPU pinned, in a thread while this one is computed: nothing waits.
    """

    def __init__(
        self,
        samples: Iterable[TrainingSample],
        schedule: Schedule,
        device: torch.device,
        *,
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        self.samples = [conditioned(sample) for sample in samples]
        self.schedule, self.device = schedule, device
        self.rank, self.devices = rank, devices
        self.done = 0

    def __len__(self) -> int:
        return self.schedule.steps

    def draws(self, step: int) -> range:
        """Indices of the draws that this device takes in a step: no draw is taken twice."""
        first = (step * self.devices + self.rank) * self.schedule.batch
        return range(first, first + self.schedule.batch)

    def batch(self, step: int) -> Batch:
        """The batch that this device learns from in a step, on the CPU."""
        seed = self.schedule.seed
        chosen = ((draw, self.samples[sample_index(draw, len(self.samples), seed)]) for draw in self.draws(step))
        return tuple(training_streams(sample, generator_of("noise", seed, draw)) for draw, sample in chosen)

    def worst(self) -> Batch:
        """A batch of the sample with the longest sequence: where this batch fits, all do."""
        lengths = [sum(each.tokens.latent.shape[1] for each in sample.values()) for sample in self.samples]
        longest = self.samples[lengths.index(max(lengths))]
        return self._there(
            (training_streams(longest, generator_of("noise", self.schedule.seed, 0)),) * self.schedule.batch
        )

    def __iter__(self) -> Iterator[Batch]:
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
        """The state kept in Lightning's checkpoint."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the state; called by Lightning before the first step of a resumed run."""
        self.done = state["done"]


def moved(batch: Batch, move: Move) -> Batch:
    """The batch with every tensor moved elsewhere."""
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
