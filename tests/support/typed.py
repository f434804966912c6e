"""Commands as a person types them, and the requests of a first try."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.clips import tone, video, zipped

FRAMES = 17


def command(home, *arguments, **environment):
    # a name of its own in the environment of the whole tree of processes
    return subprocess.Popen(
        [Path(sys.executable).with_name("ltx-flows"), *map(str, arguments)],
        env={**os.environ, "LTX_FLOWS_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def path_of(file):
    return Path(unquote(urlsplit(file["url"]).path))


def living(home):
    """Command lines of processes that belong to a HOME."""
    marker = f"LTX_FLOWS_HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (process / "environ").read_bytes() and (process / "stat").read_text().split(")")[1][1] != "Z":
                found.append((process / "cmdline").read_bytes())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def video_request(folder):
    """Ordinary clips: other sizes and rates than the bucket, a folder, a caption each, one too short, some junk."""
    video(folder / "walk.mp4", frames=24, fps=30, sound=True)
    video(folder / "run.mov", frames=20, fps=25, sound=True)
    video(folder / "blink.mp4", frames=8, fps=24, sound=True)
    video(folder / "opening.mp4", frames=20, fps=24, sound=True)
    clips = {
        "walk.mp4": folder / "walk.mp4",
        "walk.txt": b"a walk",
        "near/run.mov": folder / "run.mov",
        "near/run.txt": b"a run",
        "blink.mp4": folder / "blink.mp4",
        "__MACOSX/._walk.mp4": b"junk",
    }
    (folder / "clips.zip").write_bytes(zipped(clips))
    return {
        "training_data_url": "clips.zip",
        "trigger_phrase": "zoomy",
        "rank": 8,
        "number_of_steps": 100,
        "learning_rate": 0.001,
        "resolution": "low",
        "aspect_ratio": "16:9",
        "number_of_frames": 20,
        "with_audio": True,
        "validation_resolution": "low",
        "validation_aspect_ratio": "16:9",
        "validation_number_of_frames": FRAMES,
        "validation": [{"prompt": "zoomy a walk goes on", "video_url": "opening.mp4"}],
        "stg_scale": 0,
        "debug_dataset": True,
    }


def audio_request(folder):
    for name, seconds in (("a.wav", 1.2), ("b.mp3", 1.5), ("c.m4a", 1.3), ("short.wav", 0.6), ("opening.wav", 1.0)):
        tone(folder / name, seconds, rate=44100)
    names = ("a.wav", "b.mp3", "c.m4a", "short.wav")
    (folder / "sounds.zip").write_bytes(zipped({name: folder / name for name in names} | {"a.txt": b"a low tone"}))
    return {
        "training_data_url": "sounds.zip",
        "rank": 8,
        "number_of_steps": 100,
        "learning_rate": 0.001,
        "audio_duration_seconds": 1.0,
        "conditioning_seconds": 0.4,
        "validation": [{"prompt": "a tone goes on", "audio_url": "opening.wav"}],
    }


def silent_request(folder):
    video(folder / "silent.mp4", frames=20)
    (folder / "silent.zip").write_bytes(zipped({"silent.mp4": folder / "silent.mp4"}))
    return {"training_data_url": "silent.zip", "number_of_frames": 17, "with_audio": True}
