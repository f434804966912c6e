"""How fast a training step is: `python benchmarks/train_step.py --tiny|--full [--peer] [--compile]`.

For each endpoint's plan at its default shape: seconds per step, tokens per second, the share of the matmul rate
that this machine reaches, peak memory, and what of a step is neither forward, backward nor optimiser. --tiny: the tiny
base, pictures of 256x256x33, for CPUs. --full: the shape of LTX-2.3 with random weights, on a GPU.
"""

import argparse
import gc
import logging
import sys
import time
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Callback, Trainer
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.peer import Peer
from benchmarks.shapes import Base, Case, cases, random_clip
from models.engine.acceleration import compile_blocks
from models.engine.batches import Feed, moved
from models.engine.preflight import preflight
from models.engine.rng import repeat_exactly
from models.engine.trainer import LoraTraining, Schedule, trainer_options
from models.ltx2.adapter import add_adapter
from models.ltx2.attention import use_attention
from models.ltx2.loading import pick_device
from models.training_inputs import Streams
from models.weights.lora_linear import store_linears
from schemas.media import Modality

RANK = 32
WARM = 3  # first steps, not counted
BOTH: tuple[Modality, ...] = ("video", "audio")


class Clocked(LoraTraining):
    """Adds up what goes into forward, backward, clipping and the optimiser's own step."""

    inside = 0.0

    def losses(self, streams: Streams) -> torch.Tensor:
        with self.clock():
            return super().losses(streams)

    def backward(self, loss: torch.Tensor) -> None:
        with self.clock():
            loss.backward()

    def clip(self) -> torch.Tensor:
        with self.clock():
            return super().clip()

    def zero_grad(self, set_to_none: bool = True) -> None:
        with self.clock():
            super().zero_grad(set_to_none)

    def configure_optimizers(self) -> dict[str, Any]:
        made = super().configure_optimizers()
        step = made["optimizer"].step

        @wraps(step)
        def clocked(*arguments: Any, **more: Any) -> Any:
            with self.clock():
                return step(*arguments, **more)

        made["optimizer"].step = clocked
        return made

    def clock(self) -> "_Clock":
        return _Clock(self)


class _Clock:
    def __init__(self, module: Clocked) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.began = work()

    def __exit__(self, *_: object) -> None:
        self.module.inside += work() - self.began


class Wall(Callback):
    """Times each step and, between two of them, the peer's: a busy machine slows both alike."""

    def __init__(self, peer: Peer | None, streams: Streams) -> None:
        self.peer, self.streams = peer, streams
        self.began = self.worked = 0.0
        self.work: list[float] = []
        self.seconds: list[float] = []
        self.inside: list[float] = []
        self.theirs: list[float] = []
        self.losses: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Clocked, *_: object) -> None:
        ended = now()
        self.seconds.append(ended - self.began)
        self.work.append(work() - self.worked)
        self.inside.append(pl_module.inside)
        assert pl_module.measured is not None
        self.losses.append(pl_module.measured.losses.sum())
        if self.peer:
            self.peer.step(self.streams)
            self.theirs.append(now() - ended)
        pl_module.inside = 0.0
        self.began, self.worked = now(), work()


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def work() -> float:
    """Seconds that the training thread has worked, not those that a busy machine kept it waiting; on a GPU all."""
    return now() if torch.cuda.is_available() else time.thread_time()


def useful_flops(base: Base, case: Case, streams: Streams) -> int:
    """Products of forward, backward to the inputs, and adapters, counted on a model without memory."""
    model = base.skeleton()
    add_adapter(model, RANK, case.plan.modalities, 0)
    module = LoraTraining(model, Schedule(steps=1, learning_rate=1))
    (there,) = moved((streams,), lambda tensor: tensor.to("meta"))
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product_flops}) as counter:
        module.losses(there).sum().backward()
    return counter.get_total_flops()


def product_flops(into: torch.Size, left: torch.Size, right: torch.Size, **_: object) -> int:
    """Of a product added in place, which the counter does not know."""
    return 2 * left[0] * left[1] * right[1]


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Products per second of a large square matmul: the best of five."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        began = now()
        for _ in range(5):
            left @ right
        seconds.append((now() - began) / 5)
    return 2 * side**3 / min(seconds)


def measure(base: Base, case: Case, asked: argparse.Namespace, rate: float) -> str:
    """One line of the table. On a GPU the peer is measured last, alone: both bases would not fit."""
    model = base.model(case.plan.modalities)
    store_linears(model, asked.base_weights)
    use_attention(model, base.device, asked.deterministic)
    add_adapter(model, RANK, case.plan.modalities, 0)
    schedule = Schedule(steps=asked.steps, learning_rate=2e-4)
    module = Clocked(model, schedule)
    feed = Feed([random_clip(case, base.widths)], schedule, base.device)
    (streams,) = feed.worst()
    fit = preflight(module, (streams,), base.device, recompute_all=False)
    if asked.compile and (remark := compile_blocks(module, (streams,))):
        sys.exit(f"the blocks cannot be compiled here: {remark}")
    cuda = base.device.type == "cuda"
    wall = Wall(Peer(base.model(BOTH), RANK, case.plan.modalities) if asked.peer and not cuda else None, streams)
    if cuda:
        torch.cuda.reset_peak_memory_stats(base.device)
    options = trainer_options(schedule, base.device, deterministic=asked.deterministic)
    Trainer(**options, callbacks=[wall]).fit(module, feed)
    memory = f"{torch.cuda.max_memory_allocated(base.device) / 2**30:.1f} GiB" if cuda else "-"
    if asked.peer and cuda:
        del model, module
        gc.collect()  # modules, hooks and graphs refer to each other in circles
        torch.cuda.empty_cache()
        wall.theirs = alone(Peer(base.model(BOTH), RANK, case.plan.modalities), streams, asked.steps)
    seconds, share = median(wall.seconds[WARM:]), overhead(wall)
    useful = useful_flops(base, case, feed.batch(0)[0] if not cuda else streams) / seconds / rate
    blocks = f"{fit.recomputed}/{fit.layers} recomputed"
    line = f"{case.name:24} {seconds:9.4f} {fit.tokens / seconds:10.0f} {useful:7.1%} {share:8.1%}"
    line += f" {torch.stack(wall.losses).mean().item():7.4f}"
    return line + f" {memory:>9} {blocks:>18}" + peer_columns(wall, cuda)


def overhead(wall: Wall) -> float:
    """The share of a step that is neither forward, backward, clipping nor the optimiser."""
    both = zip(wall.inside[WARM:], wall.work[WARM:], strict=True)
    return median(1 - inside / seconds for inside, seconds in both)


def alone(peer: Peer, streams: Streams, steps: int) -> list[float]:
    seconds = []
    for _ in range(steps):
        began = now()
        peer.step(streams)
        seconds.append(now() - began)
    return seconds


def peer_columns(wall: Wall, cuda: bool) -> str:
    if not wall.theirs:
        return ""
    mine, theirs = wall.seconds[WARM:], wall.theirs[WARM:]
    ratio = median(mine) / median(theirs) if cuda else median(a / b for a, b in zip(mine, theirs, strict=True))
    return f" {median(theirs):9.4f} {ratio:7.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--tiny", action="store_true")
    size.add_argument("--full", action="store_true")
    parser.add_argument("--peer", action="store_true", help="also stock diffusers + PEFT, and ours / theirs")
    parser.add_argument("--only", default="", help="plans whose name contains this")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--compile", action="store_true", help="train through compiled blocks")
    parser.add_argument("--base-weights", choices=("bf16", "fp8", "int8"), default="bf16")
    parser.add_argument("--any-order", dest="deterministic", action="store_false", help="the fastest attention")
    asked = parser.parse_args()
    repeat_exactly(asked.deterministic)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1 if asked.tiny else torch.get_num_threads())  # tiny products gain nothing from more
    device = pick_device("auto")
    if asked.full and device.type != "cuda":
        sys.exit("--full needs a CUDA device: 22 billion weights; use --tiny here")
    base = Base(asked.tiny, device)
    rate = matmul_rate(device, base.dtype)
    print(f"{device}, {base.dtype}, matmul {rate / 1e12:.2f} TFLOP/s, rank {RANK}, batch 1, text of 1024 tokens")
    titles = ("plan", "s/step", "tokens/s", "useful", "overhead", "loss", "peak", "blocks", "peer s", "ratio")
    print("{:24} {:>9} {:>10} {:>7} {:>8} {:>7} {:>9} {:>18} {:>9} {:>7}".format(*titles))
    for case in cases(asked.tiny):
        if asked.only in case.name:
            print(measure(base, case, asked, rate), flush=True)


if __name__ == "__main__":
    main()
