"""Validation media: each file gives what a preview needs, or is refused by its request field."""

import pytest

from schemas.media import Bucket, FitOptions, Picture
from schemas.plan import Mask, Plan, Prefix, Reference, Track, generate
from schemas.preview import GivenFile, PreviewSample
from schemas.rejections import ClipTooShort, SilentClip
from tasks.fit import fit_all_given
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
SOUND_BUCKET = Bucket(seconds=1.0)
VIDEO_AUDIO = (Track(role="target", modality="video"), Track(role="target", modality="audio"))
VIDEO, AUDIO = VIDEO_AUDIO[:1], VIDEO_AUDIO[1:]
MASK = Track(role="mask", modality="video")
AS_IS = FitOptions(normalize=False)
WHERE = ("validation", 0, "video_url")
OPENING = Plan(video=generate(Prefix(steps=2)), audio=generate(Prefix(steps=9)))


def fit_given(sample, *order):
    return fit_all_given((sample,), *order).samples[0]


def preview(*given):
    files = tuple(GivenFile(track=track, file=clips.kept(path), where=WHERE) for track, path in given)
    return PreviewSample(name="preview", prompt="a prompt", given=files)


def test_a_validation_clip_gives_its_opening_at_the_previews_frame_rate(tmp_path):
    path = clips.counting(tmp_path / "a.mkv", 20, 48)
    fitted = fit_given(preview((VIDEO[0], path)), Plan(video=generate(Prefix(steps=2))), BUCKET, AS_IS)
    assert clips.grey_numbers(path, fitted.clips["target"].video) == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert fitted.caption == "a prompt"


def test_a_validation_clip_shorter_than_the_prefix_is_refused_with_its_request_field(tmp_path):
    given = preview((VIDEO[0], clips.video(tmp_path / "short.mp4", 12, 48)))
    with pytest.raises(ClipTooShort) as refused:
        fit_given(given, Plan(video=generate(Prefix(steps=2))), BUCKET, AS_IS)
    [detail] = refused.value.details()
    assert (detail.loc, detail.type) == (("body", *WHERE), "video_duration_too_short")
    assert str(refused.value) == "short.mp4: have 6 frames at 24 fps, need 9; use a longer clip"


def test_a_validation_sound_shorter_than_the_prefix_is_refused_but_codec_padding_is_not(tmp_path):
    plan = Plan(audio=generate(Prefix(steps=25)))
    fit_given(preview((AUDIO[0], clips.tone(tmp_path / "enough.wav", 0.985))), plan, SOUND_BUCKET, AS_IS)
    with pytest.raises(ClipTooShort, match=r"have 0.9 s of sound, need 1 s; .* conditioning_seconds to 0.9"):
        fit_given(preview((AUDIO[0], clips.tone(tmp_path / "short.wav", 0.9))), plan, SOUND_BUCKET, AS_IS)


def test_a_silent_validation_clip_is_refused_when_its_sound_is_continued(tmp_path):
    path = clips.video(tmp_path / "a.mp4")
    with pytest.raises(SilentClip) as refused:
        fit_given(preview((VIDEO_AUDIO[0], path), (VIDEO_AUDIO[1], path)), OPENING, BUCKET, AS_IS)
    assert refused.value.details()[0].loc == ("body", *WHERE)


def test_a_validation_reference_needs_the_previews_length(tmp_path):
    plan = Plan(video=generate(Mask(), Reference(downscale=2, temporal_scale=2)))
    target, short = clips.video(tmp_path / "t.mp4", 17), clips.video(tmp_path / "r.mp4", 16)
    tracks = {track.role: track for track in plan.given_tracks}
    with pytest.raises(ClipTooShort, match=r"r.mp4: have 16 frames at 24 fps, need 17"):
        fit_given(preview((tracks["target"], target), (tracks["reference"], short)), plan, BUCKET, AS_IS)
    fitted = fit_given(preview((tracks["reference"], target)), plan, BUCKET, AS_IS)
    assert (fitted.clips["reference"].video.frames, fitted.clips["reference"].video.width) == (9, 32)


def test_a_mask_of_validation_media_holds_its_last_frame(tmp_path):
    plan = Plan(video=generate(Mask()))
    target, mask = clips.video(tmp_path / "t.mp4", 20), clips.counting(tmp_path / "m.mkv", 3, 24)
    fitted = fit_given(preview((VIDEO[0], target), (MASK, mask)), plan, BUCKET, AS_IS)
    assert clips.grey_numbers(mask, fitted.clips["mask"].video) == [0, 1] + [2] * 15


def test_a_reference_keeps_silence_after_its_track_ends_but_a_separate_sound_must_be_long_enough(tmp_path):
    plan = Plan(video=generate(Reference()), audio=generate(Reference()))
    tracks = {track.modality: track for track in plan.given_tracks}
    film, sound = clips.video(tmp_path / "f.mp4", 20, sound=True), clips.tone(tmp_path / "s.wav", 0.5)
    fitted = fit_given(preview((tracks["video"], film), (tracks["audio"], film)), plan, BUCKET, AS_IS)
    assert fitted.clips["reference"].audio.seconds == pytest.approx(17 / 24)
    with pytest.raises(ClipTooShort, match=r"s.wav: have 0.5 s of sound, need 0.708 s"):
        fit_given(preview((tracks["video"], film), (tracks["audio"], sound)), plan, BUCKET, AS_IS)


def test_the_sound_of_an_opening_is_normalised_when_asked(tmp_path):
    plan = Plan(audio=generate(Prefix(steps=12)))
    given = preview((AUDIO[0], clips.tone(tmp_path / "a.wav", 1.0, peak=0.1)))
    audio = fit_given(given, plan, SOUND_BUCKET, FitOptions()).clips["target"].audio
    assert (audio.seconds, audio.gain) == (0.48, pytest.approx(8.91, abs=0.05))
