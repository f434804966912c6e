"""References: matched to their targets, scaled as asked, encoded once; what is refused and what is warned of."""

import json

import pytest
from safetensors.torch import load_file

from flows.cli import main
from models.ltx2.adapter import lora_metadata
from schemas.endpoints import ENDPOINTS
from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Plan, Prefix, Reference, generate
from schemas.preview import GivenFile, PreviewSample
from schemas.rejections import RequestRejected, SilentClip
from tasks.base_model import base, precision
from tasks.encode import Encoders, encode_clips
from tasks.fit import fit_all_given, fit_samples
from tasks.storage.store import store
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
BOTH = Plan(video=generate(Reference()), audio=generate(Reference()))
SCALED = Plan(video=generate(Reference(downscale=2, temporal_scale=2)), audio=generate(Reference()))
SEEDED = {  # the seeds' recommended starting configurations, URLs replaced
    "ic-lora/a2a": {
        "training_data_url": "clips.zip",
        "trigger_phrase": "tonech4nge",
        "rank": 32,
        "number_of_steps": 2000,
        "learning_rate": 0.0002,
        "audio_duration_seconds": 5.0,
        "validation": [{"prompt": "tonech4nge", "reference_audio_url": "a_start.wav"}],
    },
    "ic-lora/av2av": {
        "training_data_url": "clips.zip",
        "trigger_phrase": "av_st9le",
        "rank": 32,
        "number_of_steps": 2000,
        "learning_rate": 0.0002,
        "reference_downscale_factor": 1,
        "reference_temporal_scale_factor": 1,
        "number_of_frames": 89,
        "frame_rate": 24,
        "resolution": "medium",
        "aspect_ratio": "1:1",
        "validation": [{"prompt": "av_st9le a neon-lit street", "reference_video_url": "a_start.mp4"}],
    },
    "av2av-masked": {
        "training_data_url": "clips.zip",
        "trigger_phrase": "repl4ce",
        "rank": 32,
        "number_of_steps": 2000,
        "learning_rate": 0.0002,
        "number_of_frames": 89,
        "frame_rate": 24,
        "resolution": "medium",
        "aspect_ratio": "1:1",
        "validation": [
            {
                "prompt": "repl4ce the screen with ocean waves",
                "video_url": "a_end.mp4",
                "mask_url": "a_mask.png",
                "reference_video_url": "a_start.mp4",
            }
        ],
    },
}


# --- encoded once -------------------------------------------------------------------------------------------------


def encoded(samples, plan, previews=()):
    fitted = fit_samples(samples, BUCKET, plan.tracks, FitOptions()).samples
    latents, reused, made = encode_clips(
        fitted, previews, "bad", Encoders(base(), precision()), lambda done, total: None
    )
    return latents, reused.artifacts, made


def test_a_clip_that_was_a_target_is_not_encoded_again_as_a_reference_of_the_same_size(tmp_path):
    target = clips.kept(clips.video(tmp_path / "a.mp4", 20, sound=True))
    other = clips.kept(clips.video(tmp_path / "b.mp4", 20, sound=True, extra=("-vf", "hue=h=90")))
    alone = Sample(name="a", caption="clip", files={"target": target})
    both = Sample(name="b", caption="clip", files={"target": other, "reference": target})
    first, _, made = encoded((alone,), Plan(video=generate(Prefix(steps=1)), audio=generate(Prefix(steps=2))))
    assert made == 3  # picture, sound, caption
    latents, reused, made = encoded((both,), BOTH)
    assert (reused, made) == (3, 2)  # picture and sound of the other clip alone
    old = {file.modality: file.artifact for file in first.samples[0].latents}
    assert {f.modality: f.artifact for f in latents.samples[0].latents if f.role == "reference"} == old
    assert encoded((both,), SCALED)[1:] == (4, 1)  # a smaller picture is another picture


# --- scaled, in training as in previews ---------------------------------------------------------------------------


def previewed(plan, **files):
    tracks = tuple(
        GivenFile(track=t, file=clips.kept(files.get(f"{t.role}_{t.modality}", files["reference_video"])), where=("v",))
        for t in plan.given_tracks
    )
    sample = PreviewSample(name="preview 1", prompt="p", given=tracks)
    return fit_all_given((sample,), plan, BUCKET, FitOptions()).samples[0]


def test_a_preview_mirrors_the_references_scale_and_keeps_its_own_length(tmp_path):
    start = clips.video(tmp_path / "s.mp4", 20, sound=True)
    preview = previewed(SCALED, reference_video=start)
    sample = Sample(name="a", caption="", files={"target": clips.kept(start), "reference": clips.kept(start)})
    latents = encoded((sample,), SCALED, previews=(preview,))[0]
    assert (latents.samples[0].fps, latents.previews[0].fps) == (pytest.approx(24), 24)
    for each in (latents.samples[0], latents.previews[0]):
        shapes = {
            (f.role, f.modality): load_file(f"{store().root}/{f.artifact.address}")["latent"].shape
            for f in each.latents
        }
        assert shapes["reference", "video"] == (128, 2, 1, 1)
        assert shapes["reference", "audio"][0] in (17, 18, 19)  # 17 / 24 s = 17.7 steps


def test_factors_are_in_the_loras_metadata_only_when_they_scale():
    assert lora_metadata(BOTH) == {}
    assert lora_metadata(SCALED) == {
        "reference_downscale_factor": "2",
        "reference_spatial_scale_factor": "2",
        "reference_temporal_scale_factor": "2",
    }


# --- what is refused, what is warned of ---------------------------------------------------------------------------


def test_a_silent_reference_is_refused_by_name_and_role(tmp_path):
    start, end = clips.video(tmp_path / "n_start.mp4", 20), clips.video(tmp_path / "n_end.mp4", 20, sound=True)
    sample = Sample(name="n", caption="", files={"reference": clips.kept(start), "target": clips.kept(end)})
    with pytest.raises(SilentClip, match=r"n_start.mp4: the reference clip has no audio track"):
        fit_samples((sample,), BUCKET, BOTH.tracks, FitOptions())


def test_a_previews_sound_is_the_reference_videos_own_or_a_separate_one(tmp_path):
    silent, sound = clips.video(tmp_path / "s.mp4", 20), clips.tone(tmp_path / "s.wav", 1.0)
    with pytest.raises(SilentClip, match=r"s.mp4: the reference clip has no audio track"):
        previewed(BOTH, reference_video=silent)
    audio = previewed(BOTH, reference_video=silent, reference_audio=sound).clips["reference"].audio
    assert audio.source == clips.kept(sound).sha256


def test_the_request_says_which_field_brought_the_references_sound():
    read = ENDPOINTS["ic-lora/av2av"].validation_sample.model_validate
    tracks = BOTH.given_tracks
    own = read({"prompt": "p", "reference_video_url": "a.mp4"})
    separate = read({"prompt": "p", "reference_video_url": "a.mp4", "reference_audio_url": "a.wav"})
    assert [(url, where[-1]) for _, url, where in own.given(tracks, ())] == [("a.mp4", "reference_video_url")] * 2
    assert [url for _, url, _ in separate.given(tracks, ())] == ["a.mp4", "a.wav"]


def test_files_of_other_shapes_than_their_target_are_warned_of(tmp_path):
    start, end = clips.video(tmp_path / "s.mkv", 20), clips.video(tmp_path / "e.mkv", 20, extra=("-vf", "crop=64:64"))
    sample = Sample(name="n", caption="", files={"reference": clips.kept(start), "target": clips.kept(end)})
    [warning] = fit_samples((sample,), BUCKET, Plan(video=generate(Reference())).tracks, FitOptions()).warnings
    assert str(warning).startswith("n: the reference is 96x64, the target is 64x64: they are cropped differently")


# --- plan, as typed -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pairs (and masks) of 90 frames for the seeds' configurations, and 5 s of sound."""
    folder = tmp_path_factory.mktemp("seeds")
    start, end = (clips.video(folder / f"a_{side}.mp4", 90, sound=True) for side in ("start", "end"))
    clips.tone(folder / "a_start.wav", 5.0)
    clips.ffmpeg("-f", "lavfi", "-i", "color=white:s=48x64,pad=96:64", "-frames:v", "1", str(folder / "a_mask.png"))
    videos = {"a_start.mp4": start, "a_end.mp4": end, "b_start.mp4": start, "b_end.mp4": end, "a.txt": b"a street"}
    sounds = {f"{name}_{side}.wav": folder / "a_start.wav" for name in "ab" for side in ("start", "end")}
    masks = {"a_mask.png": folder / "a_mask.png", "b_mask.mp4": start}
    for name, files in (("a2a", sounds), ("av2av", videos), ("masked", videos | masks)):
        (folder / f"{name}.zip").write_bytes(clips.zipped(files))
    return folder


def planned(folder, capfd, name, **changes):
    archive = {"ic-lora/a2a": "a2a.zip", "ic-lora/av2av": "av2av.zip", "av2av-masked": "masked.zip"}[name]
    (folder / "request.json").write_text(json.dumps(SEEDED[name] | {"training_data_url": archive} | changes))
    code = main(["plan", name, str(folder / "request.json")])
    return code, json.loads(capfd.readouterr().out)


@pytest.mark.parametrize(("name", "usd"), [("ic-lora/a2a", "4.6"), ("ic-lora/av2av", "13.6"), ("av2av-masked", "13.6")])
def test_plan_accepts_the_seeds_recommended_starting_configuration(folder, capfd, name, usd):
    code, answer = planned(folder, capfd, name)
    assert (code, answer["kept"], answer["skipped"], answer["billable_units"], answer["usd"]) == (0, 2, [], 2000, usd)
    assert [sample["name"] for sample in answer["samples"]] == ["a", "b"]
    assert answer["samples"][0]["files"].keys() == {slot.role for slot in ENDPOINTS[name].layout.slots}


def test_plan_refuses_a_slow_down_that_leaves_broken_steps_and_lists_the_frame_counts(folder, capfd):
    code, answer = planned(folder, capfd, "ic-lora/av2av", reference_temporal_scale_factor=2)
    [fault] = answer["detail"]
    assert (code, fault["loc"], fault["type"]) == (2, ["body", "reference_temporal_scale_factor"], "multiple_of")
    assert "number_of_frames 89 and validation_number_of_frames 89" in fault["msg"]
    assert fault["msg"].endswith("frame counts that work with factor 2: 17, 33, 49, 65, 81, 97, 113")
    assert fault["ctx"]["fitting"] == [17, 33, 49, 65, 81, 97, 113]


@pytest.mark.parametrize("name", SEEDED)
def test_splitting_into_scenes_is_ignored_with_a_warning(folder, capfd, name):
    code, answer = planned(folder, capfd, name, split_input_into_scenes=True, split_input_duration_threshold=1.0)
    assert (code, answer["kept"]) == (0, 2)
    assert answer["warnings"][0].startswith("split_input_into_scenes is ignored")


def test_splitting_is_not_warned_of_where_it_is_done():
    request = ENDPOINTS["extend-prefix"].read(
        {"training_data_url": "s3://b/clips.zip", "split_input_into_scenes": True}
    )
    assert request.notes == () and request.fitting.split_above_seconds == 30


def test_a_downscale_is_checked_against_the_previews_size_too():
    body = SEEDED["ic-lora/av2av"] | {"reference_downscale_factor": 4}
    with pytest.raises(RequestRejected, match=r"validation_resolution 960x960 .* factors that fit: 1, 2, 3, 6"):
        ENDPOINTS["ic-lora/av2av"].read(body)
    assert ENDPOINTS["ic-lora/av2av"].read(body | {"validation_resolution": "medium"})
