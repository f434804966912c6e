"""Debug dataset: an archive that a person can open, with the clips as the model saw them.

One film per sample with the target's sound: reference, mask and target side by side over the prompt. The given opening
of a target is framed; in a mask, white is the region its author drew, grey the cells regenerated because of that.
Beside each film the prompt, every sound (and its given opening), and one manifest of all windows, filters and gains.
"""

import json
import zipfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from models.ltx2.geometry import regenerated_cells, white_pixels
from models.reel_frames import captioned
from schemas.media import FittedSample, Role
from schemas.plan import Plan
from schemas.units import AUDIO_STEPS_PER_SECOND, FRAMES_PER_STEP, LATENT_CELL, video_frames
from tasks.dataset.captions import with_trigger
from tasks.media.ffmpeg import write_video
from tasks.media.read import read_frames, read_sound
from tasks.step import Progress, step
from tasks.storage.store import Artifact, key_of, store, temporary_folder

VERSION = 2
RATE = 48000
GREY = 96
EDGES = ((6, 0), (4, 255))  # pixels and their colour: white in black shows on any picture
ORDER: tuple[Role, ...] = ("reference", "mask", "target")
LONG_AGO = (2026, 1, 1, 0, 0, 0)  # the same data set gives the same archive

Shown = Callable[[int, int], None]


@step("debug", version=3, says=lambda archive: f"the archive, {archive.size:,} bytes")
def debug_dataset(samples: tuple[FittedSample, ...], plans: tuple[Plan, ...], trigger_phrase: str) -> Artifact:
    """Fitted clips, captions and manifest in one archive."""
    progress = Progress("debug-dataset", "Clips written")
    address = f"debug/{key_of(VERSION, samples, plans, trigger_phrase)}.zip"
    with temporary_folder() as folder:
        path = folder / "debug_dataset.zip"
        write_debug_dataset(path, samples, plans, trigger_phrase, progress)
        return store().publish(path, address)


def write_debug_dataset(
    path: Path, samples: tuple[FittedSample, ...], plans: tuple[Plan, ...], trigger_phrase: str, progress: Shown
) -> None:
    """Write every sample's clips and prompt, and the manifest of all."""
    manifest = []
    with zipfile.ZipFile(path, "w") as archive:
        for done, (sample, plan) in enumerate(zip(samples, plans, strict=True), start=1):
            prompt = with_trigger(sample.caption, trigger_phrase)
            names = [_add(archive, name, file) for name, file in _files(path.parent, sample, plan, prompt)]
            about = {"name": sample.name, "prompt": prompt, "in_this_archive": names}
            manifest.append(about | {"sample": sample.model_dump(mode="json"), "plan": plan.model_dump(mode="json")})
            progress(done, len(samples))
        content = json.dumps({"samples": manifest}, indent=2, ensure_ascii=False).encode()
        archive.writestr(zipfile.ZipInfo("manifest.json", LONG_AGO), content, zipfile.ZIP_DEFLATED)


def _files(folder: Path, sample: FittedSample, plan: Plan, prompt: str) -> Iterator[tuple[str, Path]]:
    """Each file with its name in the archive; a file exists until the next one is asked for."""
    text, film, wav = folder / "prompt.txt", folder / "clip.mp4", folder / "clip.wav"
    text.write_text(prompt, encoding="utf-8")
    yield f"{sample.name}.txt", text
    sounds = {
        str(role): read_sound(clip.audio, RATE) for role in ORDER if (clip := sample.clips.get(role)) and clip.audio
    }
    if plan.video:
        frames = captioned(_pictures(sample, plan), prompt)
        first = next(frames)
        pixels = (frame.numpy() for frame in chain([first], frames))
        write_video(film, pixels, sample.fps, (first.shape[1], first.shape[0]), sounds.get("target"), RATE)
        yield f"{sample.name}.mp4", film
    if plan.audio and (steps := plan.audio.kept.opening):
        sounds |= {"given": sounds["target"][:, : round(steps / AUDIO_STEPS_PER_SECOND * RATE)]}
    for what, sound in sounds.items():
        soundfile.write(wav, sound.T, RATE, subtype="PCM_16")
        yield f"{sample.name}_{what}.wav", wav


def _pictures(sample: FittedSample, plan: Plan) -> dict[str, Tensor]:
    shown = {str(role): read_frames(clip.video) for role in ORDER if (clip := sample.clips.get(role)) and clip.video}
    if "mask" in shown:
        shown["mask"] = opened(shown["mask"])
    if plan.video and (steps := plan.video.kept.opening):
        frame_in_place(shown["target"][: video_frames(steps)])
    return shown


def opened(mask: Tensor) -> Tensor:
    """A mask, uint8 [F, H, W, 3], with the latent cells that it opens in grey around its white."""
    white = white_pixels(mask)
    cells = regenerated_cells(white).repeat_interleave(LATENT_CELL, 1).repeat_interleave(LATENT_CELL, 2)
    later = cells[1:].repeat_interleave(FRAMES_PER_STEP, 0)
    grey = torch.cat([cells[:1], later]).to(torch.uint8) * GREY
    return torch.where(white, 255, grey)[..., None].expand(-1, -1, -1, 3)


def frame_in_place(frames: Tensor) -> None:
    """Draw a frame around every picture of [F, H, W, 3], which marks them as given."""
    for width, colour in EDGES:
        for edge in (frames[:, :width], frames[:, -width:], frames[:, :, :width], frames[:, :, -width:]):
            edge.fill_(colour)


def _add(archive: zipfile.ZipFile, name: str, file: Path) -> str:
    archive.writestr(zipfile.ZipInfo(name, LONG_AGO), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return name
