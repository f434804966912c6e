"""Probing: containers, packets and headers that lie; what is no clip at all."""

import pytest

from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Track
from schemas.rejections import NothingLeft, UnreadableClip
from tasks.fit import fit_samples
from tasks.media.probe import probe
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
VIDEO = (Track(role="target", modality="video"),)
VIDEO_AUDIO = (*VIDEO, Track(role="target", modality="audio"))
AS_IS = FitOptions(normalize=False)
SCALED = FitOptions(normalize=False, auto_scale=True)


def sample(path, name=None, caption=""):
    return Sample(name=name or path.stem, caption=caption, files={"target": clips.kept(path)})


def test_frames_hidden_by_an_edit_list_are_not_counted(tmp_path):
    path = clips.video(tmp_path / "a.mp4", 40, extra=("-bf", "2"))
    cut = tmp_path / "cut.mp4"
    clips.ffmpeg("-ss", "0.5", "-i", str(path), "-c", "copy", str(cut))
    assert probe(cut).video.frames == 28


@pytest.mark.parametrize(
    "options",
    [("-f", "mpegts"), ("-movflags", "frag_keyframe+empty_moov", "-f", "mp4"), ("-f", "matroska"), ("-f", "avi")],
)
def test_every_container_tells_its_frames_and_their_rate(tmp_path, options):
    path = clips.video(tmp_path / "a.mp4", 40, 30, sound=True)
    clips.ffmpeg("-i", str(path), "-c:v", "libx264", "-bf", "2", *options, str(tmp_path / "b"))
    found = probe(tmp_path / "b").video
    assert (found.frames, found.fps) == (40, pytest.approx(30, abs=0.01))
    fit_samples((sample(tmp_path / "b"),), BUCKET, VIDEO_AUDIO, SCALED)


def test_a_cover_picture_is_no_video(tmp_path):
    cover, song = tmp_path / "cover.png", tmp_path / "song.mp3"
    clips.ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64", "-frames:v", "1", str(cover))
    clips.ffmpeg(
        "-i",
        str(clips.tone(tmp_path / "t.wav", 1.2)),
        "-i",
        str(cover),
        "-map",
        "0",
        "-map",
        "1",
        "-disposition:v",
        "attached_pic",
        str(song),
    )
    assert probe(song).video is None
    with pytest.raises(UnreadableClip, match="it has no picture"):
        fit_samples((sample(song),), BUCKET, VIDEO, AS_IS)


def test_a_gif_is_refused_whatever_its_name(tmp_path):
    clips.ffmpeg("-i", str(clips.video(tmp_path / "a.mp4")), "-f", "gif", str(tmp_path / "b.mp4"))
    with pytest.raises(UnreadableClip, match="it is a file of the kind gif"):
        fit_samples((sample(tmp_path / "b.mp4"),), BUCKET, VIDEO, AS_IS)


@pytest.mark.parametrize(
    "extra",
    [
        ("-vf", "interlace", "-flags", "+ildct+ilme"),
        ("-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc"),
    ],
)
def test_interlaced_and_hdr_clips_decode(tmp_path, extra):
    path = clips.video(tmp_path / "a.mp4", 40, extra=extra)
    assert probe(path).video.interlaced or probe(path).video.hdr
    assert len(fit_samples((sample(path),), BUCKET, VIDEO, SCALED).samples) == 1


def test_rotated_clips_and_pixels_that_are_not_square_are_measured_as_shown(tmp_path):
    turned, wide = tmp_path / "turned.mp4", clips.video(tmp_path / "wide.mp4", 17, extra=("-vf", "setsar=2"))
    clips.ffmpeg("-i", str(clips.video(tmp_path / "a.mp4")), "-c", "copy", "-metadata:s:v", "rotate=90", str(turned))
    assert (probe(turned).video.width, probe(turned).video.height) == (64, 96)
    assert (probe(wide).video.width, probe(wide).video.height) == (192, 64)
    fit_samples((sample(turned), sample(wide)), BUCKET, VIDEO, AS_IS)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"])
def test_what_is_no_media_file_is_refused_by_the_name_its_author_gave_it(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableClip) as refused:
        fit_samples((sample(tmp_path / "a.mp4"),), BUCKET, VIDEO, AS_IS)
    assert refused.value.file == "a.mp4" and "ltx-flows" not in str(refused.value)


LONG = Bucket.of(Picture(width=64, height=64, frames=33, fps=24))


def test_a_truncated_file_has_only_the_frames_that_are_in_it(tmp_path):
    path = clips.video(tmp_path / "a.mp4", 40, extra=("-movflags", "faststart", "-g", "1"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(NothingLeft, match=r"a: have [12][0-9] frames at 24 fps, need 33"):
        fit_samples((sample(path),), LONG, VIDEO, AS_IS)


def test_frames_that_are_in_the_file_but_do_not_decode_are_noticed(tmp_path):
    path = clips.video(tmp_path / "a.mp4", 40, extra=("-movflags", "faststart", "-g", "1"))
    whole, size = path.read_bytes(), path.stat().st_size
    path.write_bytes(whole[: size // 3] + bytes(size // 3) + whole[size // 3 * 2 :])
    assert probe(path).video.frames == 40
    with pytest.raises(UnreadableClip, match=r"a.mp4: cannot be decoded as video \([0-9]+ of 33 frames"):
        fit_samples((sample(path),), LONG, VIDEO, AS_IS)
