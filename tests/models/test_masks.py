"""Masks: white is regenerated, black is kept; from the file to the latent cells, and what is warned of."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from models.ltx2.adapter import add_adapter
from models.ltx2.transformer import velocities
from models.noise import generator_of
from models.sampler import Guidance, draw_noise, sample
from models.training_inputs import conditioned, training_loss, training_streams
from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Mask, Plan, generate
from schemas.preview import GivenFile, PreviewSample
from tasks.base_model import base, precision
from tasks.encode import Encoders, encode_clips
from tasks.fit import fit_all_given, fit_samples
from tasks.media.ffmpeg import decode_video
from tasks.storage.store import store
from tests.support import clips
from tests.support.tensors import PLANS, random_sample, tiny_transformer

BUCKET = Bucket.of(Picture(width=96, height=64, frames=17, fps=24))
MASKED = Plan(video=generate(Mask()))


def image(path, white):
    """A 96x64 mask that is 255 where `white` says so."""
    pixels = np.zeros((64, 96), np.uint8)
    pixels[white] = 255
    Image.fromarray(pixels).save(path)
    return path


def fitted(tmp_path, mask):
    target = clips.video(tmp_path / "target.mp4", 20)
    files = {"target": clips.kept(target), "mask": clips.kept(mask)}
    return fit_samples((Sample(name="m", caption="", files=files),), BUCKET, MASKED.tracks, FitOptions())


def cells(tmp_path, mask):
    """The latent cells that a mask opens, through the steps of the flow."""
    samples = fitted(tmp_path, mask).samples
    latents, _, _ = encode_clips(samples, (), "", Encoders(base(), precision()), lambda done, total: None)
    [found] = [file.artifact for file in latents.samples[0].latents if file.role == "mask"]
    with store().local(found) as path:
        return load_file(path)["latent"]


def test_an_image_opens_its_cells_in_every_step(tmp_path):
    opened = cells(tmp_path, image(tmp_path / "mask.png", np.s_[40, 33]))  # one white pixel: second row and column
    assert opened.shape == (3, 2, 3) and opened.dtype == torch.bool
    assert opened.nonzero().tolist() == [[0, 1, 1], [1, 1, 1], [2, 1, 1]]


def test_a_moving_mask_opens_each_cell_in_the_time_groups_of_the_vae(tmp_path):
    """White on the left until frame 8, on the right from frame 9 on: the groups are 0, 1-8 and 9-16."""
    left, right = "drawbox=w=32:h=64:c=white:t=fill:enable='lt(n,9)'", "drawbox=x=64:w=32:h=64:c=white:t=fill"
    boxes = f"{left},{right}:enable='gte(n,9)'"
    path = tmp_path / "mask.mkv"
    clips.ffmpeg("-f", "lavfi", "-i", f"color=black:s=96x64:r=24,{boxes}", "-frames:v", "20", "-c:v", "ffv1", str(path))
    assert cells(tmp_path, path)[:, 0].tolist() == [[True, False, False]] * 2 + [[False, False, True]]


def test_white_of_a_compressed_video_is_white_and_its_black_is_black(tmp_path):
    path = tmp_path / "mask.mp4"  # H.264 writes 16 to 235 instead of 0 to 255
    source = "color=black:s=96x64:r=24,drawbox=w=48:h=64:c=white:t=fill,format=yuv420p"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-frames:v", "20", "-c:v", "libx264", str(path))
    frames = decode_video(path, fitted(tmp_path, path).samples[0].clips["mask"].video)
    assert frames[:, :, :44].min() >= 250 and frames[:, :, 52:].max() <= 5


def test_a_mask_has_the_geometry_of_its_clip(tmp_path):
    """Both are 4:3 files that fill 3:2: the same rows are cropped off both."""
    target, mask = tmp_path / "t.mkv", tmp_path / "m.png"
    box = "drawbox=x=20:y=16:w=48:h=24:c=white:t=fill"
    for path, options in ((target, ("20", "-c:v", "ffv1", "-pix_fmt", "gbrp")), (mask, ("1",))):
        clips.ffmpeg("-f", "lavfi", "-i", f"color=black:s=128x96:r=24,{box}", "-frames:v", *options, str(path))
    files = {"target": clips.kept(target), "mask": clips.kept(mask)}
    found = fit_samples((Sample(name="m", caption="", files=files),), BUCKET, MASKED.tracks, FitOptions())
    seen, of_mask = (decode_video(p, found.samples[0].clips[r].video) for p, r in ((target, "target"), (mask, "mask")))
    assert ((seen > 127) == (of_mask > 127)).mean() > 0.99
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("white", "warning"),
    [
        (np.s_[:0], "m: the mask is all black: nothing of the clip would be regenerated"),
        (np.s_[:], "m: the mask is all white: all of the clip would be regenerated"),
        (np.s_[3, 3], None),
    ],
)
def test_a_mask_of_one_colour_is_warned_of_and_one_white_pixel_is_enough(tmp_path, white, warning):
    found = fitted(tmp_path, image(tmp_path / "mask.png", white)).warnings
    assert [str(one) for one in found] == ([warning] if warning else [])


def test_the_mask_of_a_preview_is_warned_of_too(tmp_path):
    files = {"target": clips.video(tmp_path / "target.mp4", 20), "mask": image(tmp_path / "mask.png", np.s_[:0])}
    given = tuple(GivenFile(track=t, file=clips.kept(files[t.role]), where=("v",)) for t in MASKED.given_tracks)
    preview = PreviewSample(name="preview 1", prompt="p", given=given)
    warnings = fit_all_given((preview,), MASKED, BUCKET, FitOptions()).warnings
    assert [str(one) for one in warnings] == [
        "preview 1: the mask is all black: nothing of the clip would be regenerated"
    ]


def test_dark_grey_is_black(tmp_path):
    Image.fromarray(np.full((64, 96), 100, np.uint8)).save(tmp_path / "mask.png")
    assert "all black" in fitted(tmp_path, tmp_path / "mask.png").warnings[0].text
    assert not cells(tmp_path, tmp_path / "mask.png").any()


def black():
    clip = random_sample(PLANS["masked"])
    return clip.latents | {("mask", "video"): torch.zeros(5, 2, 2, dtype=torch.bool)}


def test_a_sample_without_white_trains_its_sound_and_teaches_nothing_of_its_picture():
    transformer = tiny_transformer()
    add_adapter(transformer, 4, ("video", "audio"), seed=0)
    clip = random_sample(PLANS["masked"])
    clip.latents.update(black())
    streams = training_streams(conditioned(clip), generator_of("noise", 0, 0))
    losses = training_loss(velocities(transformer, {m: each.input for m, each in streams.items()}), streams)
    assert losses["video"].item() == 0 and losses["audio"].item() > 0


def test_a_preview_without_white_gives_its_source_back():
    bucket = Bucket.of(Picture(width=64, height=64, frames=33, fps=25))
    given = black()
    given["reference", "audio"] = given["reference", "audio"][:5]
    context = random_sample(PLANS["masked"]).context
    result = sample(
        tiny_transformer(), PLANS["masked"], bucket, given=given, positive=context, negative=context,
        guidance=Guidance(steps=2, stg_block=0), noise=draw_noise(PLANS["masked"], bucket, 0),
    )  # fmt: skip
    assert result["video"].equal(given["target", "video"])
