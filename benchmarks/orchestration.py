"""What the pipeline itself costs per clip, and how soon a second run with another rank trains.

    python benchmarks/orchestration.py [--clips 10 100 1000] [--no-second-run]

Per clip: the real flow on a Prefect server of its own, cold and then with another rank, with the media work, the
encoders and the training taken out: probes, decoded sound, latents and the adapter are constants. What is left is
hashing, the store, manifests, cache keys and Prefect. Second run: the real command on 50 real sounds and the tiny
base, imports included.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import soundfile
import torch
from safetensors.torch import save_file

from flows.hosting.prefect_server import prefect_server
from schemas.endpoints import ENDPOINTS
from schemas.settings import settings
from tasks.media.probe import AudioProbe, Probe
from tasks.training.job import Finished

STEPS = ("download", "extract", "match", "fit", "dataset_report", "encode", "train", "upload", "bill")
NAME = "audio-extend-prefix"
REUSED = 50


def sounds(path: Path, clips: int) -> Path:
    """An archive of so many sounds of 0.6 s, no two of the same bytes."""
    wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(9600) / 16000)
    with zipfile.ZipFile(path, "w") as bundle:
        for number in range(clips):
            sound = io.BytesIO()
            soundfile.write(sound, wave * (1 - number / (2 * clips)), 16000, format="WAV")
            bundle.writestr(f"{number:04}.wav", sound.getvalue())
            bundle.writestr(f"{number:04}.txt", f"tone {number}")
    return path


def body(archive: Path, rank: int) -> dict[str, Any]:
    return {
        "training_data_url": archive.as_uri(),
        "rank": rank,
        "number_of_steps": 100,
        "audio_duration_seconds": 0.5,
        "conditioning_seconds": 0.2,
    }


def take_out_the_work() -> None:
    """Constants in place of media, encoders and training."""
    probe = Probe(audio=AudioProbe(channels=1, rate=16000, start=0.0, seconds=0.6))
    latent = {"latent": torch.zeros(10, 128)}

    def constant(wanted: Any, encoders: Any) -> Any:
        return ((want, latent) for want in wanted)

    def trained(job: Any, on_event: Any) -> list[Any]:
        key = "diffusion_model.transformer_blocks.0.audio_attn1.to_k.lora_A.weight"
        save_file({key: torch.zeros(1, 1)}, job.folder / "lora.safetensors")
        (job.folder / "losses.json").write_text("{}")
        return [Finished(adapter=job.folder / "lora.safetensors", losses=job.folder / "losses.json", previews=())]

    from tasks import encode as encoding  # noqa: PLC0415  # they import Prefect
    from tasks import fit as fitting  # noqa: PLC0415
    from tasks import train  # noqa: PLC0415
    from tasks.dataset import inspect as looking  # noqa: PLC0415  # they import Prefect

    replacements: list[tuple[Any, str, Any]] = [
        (looking, "probe", lambda path, name, kind: probe),
        (fitting, "decode_audio", lambda path, content, rate, name: np.full((1, 100), 0.5, np.float32)),
        (encoding, "_ENCODERS", {"audio": constant, "text": constant}),
        (train, "train_in_child", trained),
        (train, "loss_card", lambda losses: None),
    ]
    for module, name, replacement in replacements:
        setattr(module, name, replacement)


def timed_steps(pipeline: Any, seconds: dict[str, float]) -> None:
    def timed(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*words: Any, **more: Any) -> Any:
            begun = time.perf_counter()
            try:
                return step(*words, **more)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun

        return run

    for name in STEPS:
        setattr(pipeline, name, timed(name, getattr(pipeline, name)))


def per_clip(counts: list[int]) -> None:
    """Seconds of every step, cold and with another rank, by number of clips."""
    from flows import pipeline  # noqa: PLC0415  # Prefect reads its environment on import
    from flows.endpoints import FLOWS  # noqa: PLC0415

    take_out_the_work()
    seconds: dict[str, float] = {}
    timed_steps(pipeline, seconds)
    print(f"{'clips':>6} {'run':>8} {'total s':>8} {'ms/clip':>8}  " + " ".join(f"{name[:8]:>8}" for name in STEPS))
    with tempfile.TemporaryDirectory() as folder:
        for clips in counts:
            archive = sounds(Path(folder) / f"{clips}.zip", clips)
            for run, rank in (("cold", 8), ("rank 16", 16)):
                seconds.clear()
                begun = time.perf_counter()
                FLOWS[NAME](ENDPOINTS[NAME].read(body(archive, rank)))
                total = time.perf_counter() - begun
                parts = " ".join(f"{seconds.get(name, 0):8.2f}" for name in STEPS)
                print(f"{clips:>6} {run:>8} {total:8.2f} {1000 * total / clips:8.1f}  {parts}", flush=True)


def second_run(folder: Path) -> None:
    """The command as typed: when the flow begins, and when its training says that it starts and has done steps."""
    archive = sounds(folder / "sounds.zip", REUSED)
    for run, rank in (("first run", 8), ("another rank", 16)):
        request = folder / f"{rank}.json"
        request.write_text(json.dumps(body(archive, rank)))
        begun = time.perf_counter()
        command = [sys.executable, "-m", "flows.cli", "run", NAME, str(request)]
        said = {"Beginning flow run": 0.0, "latents and text features reused": 0.0, "training ": 0.0, "step 5 ": 0.0}
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                for words in [words for words, at in said.items() if words in line and not at]:
                    said[words] = time.perf_counter() - begun
                    print(line.rsplit(" - ", 1)[-1].strip()) if "reused" in words else None
                if line.startswith("reused"):
                    print(line.strip())
        flow, _, training, steps = said.values()
        told = f"{run} on {REUSED} sounds: the flow begins {flow:.1f} s after the command; "
        told += f"{training - flow:.1f} s later training starts, {steps - flow:.1f} s later step 5 is done; "
        print(f"{told}load {os.getloadavg()[0]:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--no-second-run", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"LTX_FLOWS_HOME": f"{folder}/home", "LTX_FLOWS_ALLOW_FILE_ROOT": "/"}
        settings.cache_clear()
        with prefect_server():
            if not options.no_second_run:
                second_run(Path(folder))
            if options.clips:
                per_clip(options.clips)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
