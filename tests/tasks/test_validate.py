"""The preview reel: what stands beside what, what is put back exactly, what one hears."""

import subprocess

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from models.reel_frames import caption_band
from schemas.media import Bucket, FitOptions, Picture
from schemas.plan import Mask, Plan, Prefix, Reference, generate
from schemas.preview import GivenFile, PreviewSample
from tasks.base_model import base, precision
from tasks.fit import fit_all_given
from tasks.storage.store import store
from tasks.validate import Decoders, Segment, panels, write_audio_reel, write_video_reel
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=9, fps=24))
SOUND = Bucket(seconds=1.0)
MASKED = Plan(video=generate(Mask(), Reference()), audio=generate(Reference()))
SCALED = Plan(video=generate(Reference(downscale=2, temporal_scale=1)), audio=generate(Reference()))
NOISE = torch.arange(9 * 64 * 64 * 3).reshape(9, 64, 64, 3).remainder(251).to(torch.uint8)


def quietly(done, total):
    """Progress that nobody looks at."""


@pytest.fixture
def files(tmp_path):
    """A source, a reference of another hue, a mask whose left half is white."""
    pixels = np.zeros((64, 96), np.uint8)
    pixels[:, :48] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    source = clips.video(tmp_path / "source.mp4", 20, sound=True)
    reference = clips.video(tmp_path / "reference.mp4", 20, sound=True, extra=("-vf", "hue=h=120"))
    return {"target": source, "reference": reference, "mask": tmp_path / "mask.png"}


def preview(plan, files, bucket=BUCKET):
    given = tuple(GivenFile(track=t, file=clips.kept(files[t.role]), where=("v",)) for t in plan.given_tracks)
    sample = PreviewSample(name="preview 1", prompt="a prompt", given=given)
    return fit_all_given((sample,), plan, bucket, FitOptions()).samples[0]


def segment(tmp_path, sample, step, **latents):
    save_file(latents, tmp_path / f"{step}.safetensors")
    artifact = store().publish(tmp_path / f"{step}.safetensors", f"previews/{step}")
    return Segment(step=step, sample=sample, latents=artifact)


def test_with_a_mask_source_reference_and_result_stand_side_by_side(files):
    shown = panels(preview(MASKED, files), MASKED.video, NOISE)
    assert list(shown) == ["source", "reference", "result"]
    assert not shown["source"].equal(shown["reference"])


def test_kept_pixels_are_the_source_exactly_and_the_white_region_is_the_result(files):
    shown = panels(preview(MASKED, files), MASKED.video, NOISE)
    assert shown["result"][:, :, 33:].equal(shown["source"][:, :, 33:])
    assert shown["result"][:, :, :31].equal(NOISE[:, :, :31])


def test_a_reference_stands_beside_its_result_and_a_prefix_alone(files):
    assert list(panels(preview(SCALED, files), SCALED.video, NOISE)) == ["reference", "result"]
    prefix = Plan(video=generate(Prefix(steps=1)))
    shown = panels(preview(prefix, files), prefix.video, NOISE)
    assert list(shown) == ["result"] and shown["result"][1:].equal(NOISE[1:])


def decoded(path, width):
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    return raw.reshape(18, -1, width, 3).astype(int)


def test_a_reel_has_a_segment_per_preview_with_labels_and_the_sound_of_the_results(files, tmp_path):
    sample = preview(MASKED, files)
    latents = {"video": torch.randn(128, 2, 2, 2), "audio": torch.randn(9, 128)}
    segments = [segment(tmp_path, sample, step, **latents) for step in (0, 100)]
    write_video_reel(tmp_path / "reel.mp4", segments, MASKED, BUCKET, Decoders(base(), precision()), quietly)
    frames = decoded(tmp_path / "reel.mp4", 3 * 64)
    shown = panels(sample, MASKED.video, NOISE)
    assert frames.shape[1] == 64 + caption_band(3 * 64, "", ("a", "b", "c")).shape[0]
    for panel, name in enumerate(("source", "reference")):
        seen = frames[:9, :64, 64 * panel : 64 * panel + 64]
        assert np.abs(seen - shown[name].numpy()).mean() < 12  # H.264 in between
    clips.ffmpeg("-i", str(tmp_path / "reel.mp4"), str(tmp_path / "reel.wav"))
    sound, rate = soundfile.read(tmp_path / "reel.wav")
    assert len(sound) / rate == pytest.approx(18 / 24, abs=0.05) and np.abs(sound).max() > 0.01


def test_a_reel_of_sound_plays_each_reference_and_then_its_result(tmp_path):
    plan = Plan(audio=generate(Reference()))
    sample = preview(plan, {"reference": clips.tone(tmp_path / "r.wav", 1.2, rate=44100)}, SOUND)
    segments = [segment(tmp_path, sample, step, audio=torch.randn(25, 128)) for step in (0, 100)]
    told = []
    decoders = Decoders(base(), precision())
    write_audio_reel(
        tmp_path / "reel.wav", segments, plan, SOUND, decoders, lambda done, total: told.append((done, total))
    )
    sound, rate = soundfile.read(tmp_path / "reel.wav")
    reference, first, again, second = np.split(sound[:, 0], 4)
    assert (len(sound), rate, told) == (4 * 48000, 48000, [(1, 2), (2, 2)])
    assert np.abs(np.fft.rfft(reference)).argmax() == 440 and np.array_equal(reference, again)
    assert np.abs(reference).max() == pytest.approx(0.891, abs=0.01)  # normalised, as the model was given it
    assert not np.allclose(first, second) and np.abs(first).max() > 0.01
