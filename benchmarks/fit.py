"""How fast clips are fit: ten 5 s 1080p clips to 89 frames at 768x768, against a plain ffmpeg pipe in the same run.

    python benchmarks/fit.py [--runs 3]

Three ways, in turns: `pipe` is ffmpeg writing raw frames that nobody keeps; `fit` is what the step does (probing, and
decoding every frame once to see that it is there); `read` is what encoding reads: frames of the bucket's size in a
buffer of their own. CPU seconds and memory count this process and its children.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

from schemas.media import Bucket, FitOptions, FittedSample, Picture, Sample
from schemas.plan import Track
from schemas.settings import settings
from tasks.fit import fit_samples
from tasks.media.ffmpeg import decode_video
from tasks.storage.store import keep, store

CLIPS, SECONDS, RATES = 10, 5, (24, 30, 60)
BUCKET = Bucket.of(Picture(width=768, height=768, frames=89, fps=24))
TRACKS = (Track(role="target", modality="video"),)
PLAIN = "fps=24:round=up:start_time=0,crop='min(iw,ih)':'min(iw,ih)':exact=1,"
PLAIN += "scale=768:768:flags=bicubic+accurate_rnd+full_chroma_int"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {settings().media_workers} at a time")
    with tempfile.TemporaryDirectory(prefix="ltx-flows-") as name:
        folder = Path(name)
        paths = [_clip(folder / f"{number}.mp4", RATES[number % len(RATES)], number) for number in range(CLIPS)]
        found: dict[str, list[tuple[float, float, float]]] = {"pipe": [], "fit": [], "read": []}
        for run in range(runs):
            _fresh_home(folder / f"home{run}")
            samples = tuple(Sample(name=p.stem, caption="", files={"target": keep(p, p.name)}) for p in paths)
            fitted: list[FittedSample] = []
            found["pipe"].append(_measured(lambda: [_pipe(path) for path in paths]))
            found["fit"].append(_measured(lambda: fitted.extend(_fit(samples))))  # noqa: B023 - called at once
            found["read"].append(_measured(lambda: [_read(one) for one in fitted]))  # noqa: B023
        _show(found)


def _clip(path: Path, fps: int, seed: int) -> Path:
    """A busy picture: what compresses well would flatter every decoder."""
    picture = f"testsrc2=s=1920x1080:r={fps}:d={SECONDS},noise=alls=20:allf=t:all_seed={seed}"
    tone = f"sine=f=440:d={SECONDS}"
    codec = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac")
    sources = ("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone)
    subprocess.run(["ffmpeg", "-v", "error", *sources, *codec, str(path)], check=True)
    return path


def _fresh_home(home: Path) -> None:
    """Nothing is remembered from the run before."""
    os.environ["LTX_FLOWS_HOME"] = str(home)
    settings.cache_clear()


def _pipe(path: Path) -> None:
    output = ("-an", "-vf", PLAIN, "-frames:v", "89", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
    with subprocess.Popen(
        ["ffmpeg", "-v", "error", "-threads", "2", "-i", str(path), *output], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while process.stdout.read(1 << 20):
            pass


def _fit(samples: tuple[Sample, ...]) -> tuple[FittedSample, ...]:
    return fit_samples(samples, BUCKET, TRACKS, FitOptions(auto_scale=True)).samples


def _read(sample: FittedSample) -> None:
    video = sample.clips["target"].video
    assert video is not None
    with store().media(video.source) as path:
        decode_video(path, video)


def _measured(work: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds, CPU seconds, peak MB of this process and its children together."""
    with _Peak() as peak:
        cpu, start = _cpu(), time.perf_counter()
        work()
        seconds, spent = time.perf_counter() - start, _cpu() - cpu
    return seconds, spent, peak.bytes / 2**20


def _cpu() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


class _Peak:
    """Resident memory of this process and its children, looked at a hundred times a second."""

    def __enter__(self) -> "_Peak":
        self.bytes, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.01):
            self.bytes = max(self.bytes, sum(map(_resident, [os.getpid(), *_children()])))


def _children() -> list[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(word) for task in tasks for word in _text(task).split()]


def _resident(process: int) -> int:
    fields = _text(Path(f"/proc/{process}/statm")).split()
    return int(fields[1]) * resource.getpagesize() if fields else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended meanwhile


def _show(found: dict[str, list[tuple[float, float, float]]]) -> None:
    plain = statistics.median(cpu for _, cpu, _ in found["pipe"])
    print(f"medians of {len(found['pipe'])} runs, the highest peak")
    print(f"{'':6}{'clips/s':>9}{'CPU-s':>8}{'of pipe':>9}{'peak MB':>9}")
    for way, runs in found.items():
        seconds, cpu = (statistics.median(run[k] for run in runs) for k in (0, 1))
        peak = max(run[2] for run in runs)
        print(f"{way:6}{CLIPS / seconds:9.2f}{cpu:8.1f}{cpu / plain:9.2f}{peak:9.0f}")


if __name__ == "__main__":
    main()
