"""debug_dataset: an archive that a person can open, with the clips as the model saw them.

One file per sample: reference, mask and target side by side with the target's sound, the given prefix framed in white.
Beside it the caption as it was encoded, and a manifest of every window, filter and gain.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from models.preview import beside
from schemas.media import FittedAudio, FittedSample, FittedVideo, Role, video_frames
from schemas.plan import Plan
from tasks.captions import with_trigger
from tasks.ffmpeg import decode_audio, decode_video, write_video
from tasks.step import Progress, step
from tasks.store import Artifact, key_of, store, temporary_folder

VERSION = 1
RATE = 48000
FRAME = 4  # pixels of the white frame around given pictures
ORDER: tuple[Role, ...] = ("reference", "mask", "target")
LONG_AGO = (2026, 1, 1, 0, 0, 0)  # the same data set gives the same archive


@step("debug", version=VERSION)
def debug_dataset(samples: tuple[FittedSample, ...], plans: tuple[Plan, ...], trigger_phrase: str) -> Artifact:
    """Fitted clips, captions and manifest in one archive."""
    progress = Progress("debug-dataset", "Clips written")
    address = f"debug/{key_of(VERSION, samples, plans, trigger_phrase)}.zip"
    with temporary_folder() as folder:
        path = folder / "debug_dataset.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for done, (sample, plan) in enumerate(zip(samples, plans, strict=True)):
                add_sample(archive, folder, sample, plan, with_trigger(sample.caption, trigger_phrase))
                progress(done + 1, len(samples))
        return store().publish(path, address)


def add_sample(archive: zipfile.ZipFile, folder: Path, sample: FittedSample, plan: Plan, prompt: str) -> None:
    """One sample's clip, caption and manifest."""
    manifest = {"sample": sample.model_dump(mode="json"), "plan": plan.model_dump(mode="json"), "prompt": prompt}
    _add(archive, f"{sample.name}.json", json.dumps(manifest, indent=2, ensure_ascii=False).encode())
    _add(archive, f"{sample.name}.txt", prompt.encode())
    sounds = {role: _sound(clip.audio) for role in ORDER if (clip := sample.clips.get(role)) and clip.audio}
    if plan.video:
        path = folder / "clip.mp4"
        pictures = _pictures(sample, plan)
        height, width = pictures.shape[1:3]
        write_video(path, iter(pictures), sample.fps, (width, height), sounds.get("target"), RATE)
        _add(archive, f"{sample.name}.mp4", path.read_bytes())
    for role, sound in sounds.items():
        path = folder / "clip.wav"
        soundfile.write(path, sound.T, RATE, subtype="PCM_16")
        _add(archive, f"{sample.name}_{role}.wav", path.read_bytes())


def _pictures(sample: FittedSample, plan: Plan) -> np.ndarray:
    shown = {role: _frames(clip.video) for role in ORDER if (clip := sample.clips.get(role)) and clip.video}
    if plan.video and (steps := plan.video.prefix_steps()):
        shown["target"] = _framed(shown["target"], video_frames(steps))
    return beside(*(torch.from_numpy(frames) for frames in shown.values())).numpy()


def _framed(frames: np.ndarray, given: int) -> np.ndarray:
    marked = frames.copy()
    for edge in (np.s_[:given, :FRAME], np.s_[:given, -FRAME:], np.s_[:given, :, :FRAME], np.s_[:given, :, -FRAME:]):
        marked[edge] = 255
    return marked


def _frames(video: FittedVideo) -> np.ndarray:
    with store().media(video.source) as path:
        return decode_video(path, video)


def _sound(audio: FittedAudio) -> np.ndarray:
    with store().media(audio.source) as path:
        return decode_audio(path, audio, RATE)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, LONG_AGO), content, zipfile.ZIP_DEFLATED)
