"""The training process: `python -m tasks.training JOB.json`. Writes its events as JSON lines on stdout.

The process ends with its parent, which holds the other end of stdin. On several devices Lightning starts one more
process for each, by the same command; the first of them loads, saves and tells, the others end when the first does.
"""

import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from tasks.bulk_import import in_bulk

with in_bulk():
    import torch
    from lightning import Trainer

    from models.engine.acceleration import compile_blocks, worth_compiling
    from models.engine.batches import Feed
    from models.engine.preflight import preflight
    from models.engine.rng import repeat_exactly, seed_all
    from models.engine.trainer import LoraTraining, Schedule, trainer_options
    from models.ltx2 import loading as base_model
    from models.ltx2.adapter import add_adapter, lora_metadata
    from models.ltx2.attention import use_attention
    from models.weights.lora_linear import visits
    from schemas.errors import DeviceFailed, DeviceFull, LtxFlowsError
    from tasks.training import checkpoint
    from tasks.training.callbacks import Reporter, Say, Voice, read_samples
    from tasks.training.job import Event, Failed, Job, Prepared
    from tasks.training.parent import end_with_parent

SECONDS_BETWEEN_LOOKS = 0.5
DEVICE_FAULTS = ("CUDA error", "cuDNN error", "CUBLAS", "cuBLAS", "NCCL", "CUDA driver error", "HIP error")


def run(job: Job, say: Say) -> None:
    """Train by the job, going on from the folder's checkpoint if there is one.

    Raises:
        CheckpointMismatch: the folder's checkpoint is damaged or of another job.
        DeviceFull: the device ran out of memory.
        DeviceFailed: it reported another fault; nothing can be computed on it by this process any more.
        TrainingDiverged: the adapter's numbers are not finite any more.
    """
    try:
        _train(job, Voice(say))
    except torch.OutOfMemoryError as error:
        raise DeviceFull(str(error).splitlines()[0]) from error
    except RuntimeError as error:
        if not is_device_fault(error):
            raise
        raise DeviceFailed(str(error).splitlines()[0]) from error


def is_device_fault(error: RuntimeError) -> bool:
    """Whether the device, its driver or one of its libraries failed, rather than the computation asked of it."""
    return isinstance(error, torch.AcceleratorError) or str(error).startswith(DEVICE_FAULTS)


def _train(job: Job, voice: Voice) -> None:
    rank = process_rank()
    device = _device(job, rank)
    plan = job.plans[0]
    dtype = base_model.dtype_of(job.dtype)
    repeat_exactly(job.deterministic)
    transformer = base_model.load_transformer(
        job.base, plan.modalities, device, dtype, job.base_weights, job.offload_blocks, beat=voice.beat
    )
    voice.beat()
    attention = use_attention(transformer, device, job.deterministic)
    add_adapter(transformer, job.rank, plan.modalities, job.seed)
    schedule = Schedule(steps=job.steps, learning_rate=job.learning_rate, seed=job.seed)
    module = LoraTraining(transformer, schedule)
    identity = checkpoint.identity_of(job, module)
    last = checkpoint.to_go_on_from(job.folder, identity)  # before anything is spent
    seed_all(job.seed)
    feed = Feed(read_samples(job), schedule, device, rank=rank, devices=job.devices)
    fit = preflight(module, longest := feed.worst(), device, recompute_all=job.recompute_all)
    wanted = worth_compiling(job.compile, device, job.steps, visits=visits(transformer))
    remark = compile_blocks(module, longest) if wanted else None
    del longest
    if rank == 0:
        compiled = wanted and remark is None
        voice.say(Prepared(**asdict(fit), attention=attention, compiled=compiled, remark=remark or ""))
    reporter = Reporter(job, transformer, device, voice, identity)
    trainer = Trainer(
        **trainer_options(schedule, device, job.devices, deterministic=job.deterministic), callbacks=[reporter]
    )
    trainer.fit(module, feed, ckpt_path=last, weights_only=True)
    if trainer.is_global_zero:
        voice.say(reporter.finish(lora_metadata(plan)))


def process_rank() -> int:
    """Rank of this process; Lightning numbers the processes that it starts."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _device(job: Job, rank: int) -> torch.device:
    """This process's own device: the job's for the first process, the following ones for the next."""
    device = base_model.pick_device(job.device)
    if device.type == "cuda" and job.devices > 1:
        return torch.device("cuda", rank)
    return device


def end_with_first(first: int) -> None:
    """End a further process with the first one, which started it: else it would wait for gradients for ever."""
    while os.getppid() == first:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def main() -> None:
    """Entry point of the process."""
    end_with_parent()
    if process_rank():
        threading.Thread(target=end_with_first, args=(os.getppid(),), daemon=True).start()
    try:
        run(Job.of(Path(sys.argv[1]).read_text()), _say)
    except LtxFlowsError as error:
        _say(Failed(error=type(error).__name__, message=str(error)))
        sys.exit(1)


def _say(event: Event) -> None:
    print(event.model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
