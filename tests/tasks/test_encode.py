"""Nothing is encoded twice: latents outlive prefix, rank, steps, captions and endpoints."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from safetensors.torch import load_file

from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Plan, Prefix, generate
from tasks.base_model import base, precision
from tasks.encode import Encoders, encode_clips
from tasks.fit import fit_samples
from tasks.storage.store import Store, store
from tests.support.clips import kept, video

BUCKET = Bucket.of(Picture(width=64, height=64, frames=9, fps=24))
BOTH = Plan(video=generate(Prefix(steps=1)), audio=generate(Prefix(steps=2)))
SILENT = Plan(video=generate(Prefix(steps=1)))


def quietly(done, total):
    """Progress that nobody looks at."""


@pytest.fixture
def samples(tmp_path):
    hues = {"a": 0, "b": 90, "c": 180}
    files = {n: video(tmp_path / f"{n}.mp4", 12, sound=True, extra=("-vf", f"hue=h={hue}")) for n, hue in hues.items()}
    return tuple(Sample(name=n, caption=f"clip {n}", files={"target": kept(path)}) for n, path in files.items())


def encoded(samples, plan=BOTH, bucket=BUCKET, previews=(), phrase=""):
    fitted = fit_samples(samples, bucket, plan.tracks, FitOptions()).samples
    prompted = tuple(s.model_copy(update={"caption": phrase + s.caption}) for s in fitted)
    latents, reused, made = encode_clips(prompted, previews, "bad", Encoders(base(), precision()), quietly)
    return latents, reused.artifacts, made


def test_a_second_run_encodes_nothing(samples):
    first = encoded(samples)
    assert first[1:] == (0, 9)  # three clips: picture, sound, caption
    assert encoded(samples) == (first[0], 9, 0)


def test_another_prefix_encodes_no_clip(samples):
    encoded(samples)
    longer = Plan(video=generate(Prefix(steps=2)), audio=generate(Prefix(steps=9)))
    assert encoded(samples, longer)[2] == 0


def test_another_trigger_phrase_encodes_captions_and_no_clip(samples):
    encoded(samples)
    assert encoded(samples, phrase="zoomy ")[1:] == (6, 3)


def test_one_clip_more_encodes_one_clip(samples):
    encoded(samples[:2])
    assert encoded(samples)[1:] == (6, 3)


def test_a_plan_without_sound_reuses_the_pictures(samples):
    encoded(samples)
    assert encoded(samples, SILENT)[1:] == (6, 0)


def test_another_size_is_another_latent(samples):
    encoded(samples[:1])
    wider = Bucket.of(Picture(width=96, height=64, frames=9, fps=24))
    assert encoded(samples[:1], bucket=wider)[1:] == (2, 1)  # the sound stays


def test_a_latent_that_is_gone_is_made_anew(samples):
    latents, _, _ = encoded(samples)
    gone = latents.samples[1].latents[0].artifact.address
    store().remove(gone)
    assert encoded(samples) == (latents, 8, 1)


def test_two_runs_at_once_encode_each_clip_once(samples, monkeypatch):
    base()  # threads of one process would draw its random weights from one generator
    made = []
    publish = Store.publish
    monkeypatch.setattr(
        Store, "publish", lambda self, path, name, *rest: made.append(name) or publish(self, path, name, *rest)
    )
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(encoded, samples) for _ in range(2)]
        first, second = (future.result()[0] for future in both)
    latents = [name for name in made if name.startswith("latents/")]
    assert first == second
    assert len(latents) == len(set(latents)) == 9


def test_it_is_known_how_long_a_reused_latent_took(samples):
    encoded(samples)
    fitted = fit_samples(samples, BUCKET, BOTH.tracks, FitOptions()).samples
    _, reused, _ = encode_clips(fitted, (), "", Encoders(base(), precision()), quietly)
    assert reused.seconds > 0


def test_latents_have_the_models_shapes(samples):
    sample = encoded(samples[:1])[0].samples[0]
    shapes = {}
    for file in sample.latents:
        with store().local(file.artifact) as path:
            shapes[file.role, file.modality] = tuple(load_file(path)["latent"].shape)
    assert shapes == {("target", "video"): (128, 2, 2, 2), ("target", "audio"): (10, 128)}  # 9 / 24 s = 9.4 steps


def test_previews_need_the_negative_prompt_once(samples):
    fitted = fit_samples(samples[:1], BUCKET, BOTH.tracks, FitOptions()).samples
    latents, reused, made = encode_clips(fitted, fitted, "bad", Encoders(base(), precision()), quietly)
    assert (reused.artifacts, made) == (0, 4)  # a clip that is both is encoded once
    assert latents.negative is not None
