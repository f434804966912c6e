"""Clips as phones, editors and shops make them: what is seen of them in the end."""

import resource
import subprocess

import numpy as np
import pytest

from schemas.media import Bucket, FitOptions, FittedAudio, Picture, Sample
from schemas.plan import Track
from schemas.rejections import NothingLeft, UnreadableClip
from tasks.fit import fit_samples
from tasks.media.ffmpeg import decode_audio, decode_video
from tasks.media.probe import probe
from tests.support import clips

BUCKET = Bucket.of(Picture(width=64, height=64, frames=17, fps=24))
VIDEO = (Track(role="target", modality="video"),)
AUDIO = (Track(role="target", modality="audio"),)
AS_IS = FitOptions(normalize=False)
SCALED = FitOptions(normalize=False, auto_scale=True)
LOSSLESS = ("-c:v", "ffv1")


def fit_one(path, tracks=VIDEO, bucket=BUCKET, fitting=AS_IS):
    sample = Sample(name="a", caption="", files={"target": clips.kept(path)})
    return fit_samples((sample,), bucket, tracks, fitting).samples[0].clips["target"]


def seen(path, fitting=AS_IS, bucket=BUCKET):
    return decode_video(path, fit_one(path, VIDEO, bucket, fitting).video).astype(int)


def drawn(path, size, drawing, extra=LOSSLESS, frames=17):
    """A black picture with a drawing on it."""
    source = f"color=black:s={size}:r=24,format=gbrp,{drawing}"
    clips.ffmpeg("-f", "lavfi", "-i", source, "-frames:v", str(frames), *extra, str(path))
    return path


RED_ON_TOP = "drawbox=w=iw:h=ih/2:c=red:t=fill"


@pytest.mark.parametrize(("degrees", "side"), [(0, "top"), (90, "left"), (180, "bottom"), (270, "right")])
def test_a_phones_clip_is_seen_upright(tmp_path, degrees, side):
    flat = drawn(tmp_path / "a.mp4", "96x64", RED_ON_TOP, ("-c:v", "libx264", "-qp", "4", "-pix_fmt", "yuv420p"))
    turned = tmp_path / "turned.mp4"
    clips.ffmpeg("-i", str(flat), "-c", "copy", "-metadata:s:v", f"rotate={degrees}", str(turned))
    red = seen(turned)[8, :, :, 0] > 128
    parts = {"top": red[:28], "bottom": red[36:], "left": red[:, :28], "right": red[:, 36:]}
    assert [name for name, part in parts.items() if part.mean() > 0.95] == [side]


def test_pixels_that_are_not_square_are_stretched_before_the_picture_is_cropped(tmp_path):
    box = "drawbox=x=24:w=16:h=ih:c=white:t=fill"  # of 64 stored columns, 128 shown: in the middle 64 it is 32 wide
    path = drawn(tmp_path / "a.mkv", "64x64", f"{box},setsar=2")
    white = seen(path)[8, 32, :, 0] > 128
    assert white.sum() == pytest.approx(32, abs=2) and white[17:47].all()


@pytest.mark.parametrize("size", ["95x63", "63x95", "33x1001", "2x2"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p10le"])
def test_sizes_may_be_odd(tmp_path, size, pixels):
    path = drawn(tmp_path / "a.mkv", size, "negate", (*LOSSLESS, "-pix_fmt", pixels))
    frames = seen(path)
    assert frames.shape == (17, 64, 64, 3) and frames.min() > 250


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "gray16le", "rgba64le"])
def test_more_bits_than_eight_give_the_same_grey(tmp_path, pixels):
    fill = "drawbox=w=iw:h=ih:c=0x808080:t=fill"
    path = drawn(tmp_path / "a.mkv", "96x64", fill, (*LOSSLESS, "-pix_fmt", pixels))
    assert np.abs(seen(path) - 128).max() <= 2


def hdr(path, code, tags, pixels="yuv420p10le"):
    """A flat grey of a PQ or HLG signal value."""
    luma, chroma = np.full(96 * 64, 64 + 876 * code), np.full(96 * 64 // 2, 512)
    frame = np.concatenate([luma, chroma]).round().astype("<u2").tobytes()
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", pixels, "-s", "96x64", "-framerate", "24"]
    codec = ("-c:v", "libx265", "-x265-params", "log-level=error")
    subprocess.run([*command, "-i", "-", *codec, *tags, str(path)], input=frame * 17, check=True)
    return path


BT2020 = ("-color_primaries", "bt2020", "-colorspace", "bt2020nc")


@pytest.mark.parametrize("tags", [(), BT2020])
def test_hdr_is_brought_to_the_range_of_a_screen_with_and_without_all_of_its_tags(tmp_path, tags):
    levels = [
        seen(hdr(tmp_path / f"{code}.mkv", code, ("-color_trc", "smpte2084", *tags))).mean()
        for code in (0.0, 0.508, 0.58, 0.75)  # black, 100, 203 and 1000 nits
    ]
    assert levels == pytest.approx([0, 157, 192, 255], abs=3)  # untouched they would be 0, 130, 148, 191


def test_hlg_is_brought_to_the_range_of_a_screen(tmp_path):
    path = hdr(tmp_path / "a.mkv", 0.75, ("-color_trc", "arib-std-b67", *BT2020))
    assert probe(path).video.hdr and seen(path).mean() == pytest.approx(193, abs=3)


def test_interlaced_fields_do_not_comb(tmp_path):
    path = tmp_path / "a.mkv"
    moving = "testsrc2=s=96x64:r=48,geq=lum='255*lt(mod(X-3*N,32),16)':cb=128:cr=128"
    woven = ("-vf", "tinterlace=mode=interleave_top,setfield=tff")
    interlaced = (*woven, "-flags", "+ildct+ilme", "-x264opts", "tff=1")
    clips.ffmpeg("-f", "lavfi", "-i", moving, "-frames:v", "20", "-c:v", "libx264", "-qp", "4", *interlaced, str(path))
    assert probe(path).video.interlaced

    def combing(frames):
        return np.abs(frames[2:15, 1:-1] - (frames[2:15, :-2] + frames[2:15, 2:]) / 2).mean()

    raw = fit_one(path).video
    woven_frames = decode_video(path, raw.model_copy(update={"filters": raw.filters.partition(",")[2]})).astype(int)
    assert combing(seen(path)) < combing(woven_frames) / 4


def test_a_progressive_clip_in_an_interlaced_container_is_left_as_it_is(tmp_path):
    path = clips.counting(tmp_path / "a.mkv", 20, 24, ("-vf", "setfield=tff", *LOSSLESS))
    assert clips.grey_numbers(path, fit_one(path).video) == list(range(17))


@pytest.mark.parametrize("name", ["a.mov", "a.mkv"])
def test_a_transparent_clip_shows_its_colours(tmp_path, name):
    codec = ("-c:v", "qtrle" if name == "a.mov" else "ffv1", "-pix_fmt", "argb" if name == "a.mov" else "bgra")
    path = drawn(tmp_path / name, "96x64", "drawbox=w=iw:h=ih:c=lime:t=fill", codec)
    assert probe(path).video.alpha and np.abs(seen(path) - [0, 255, 0]).max() <= 3


def test_what_is_transparent_in_a_mask_is_black(tmp_path):
    mask = tmp_path / "mask.png"
    half = "color=white:s=64x64,format=rgba,geq=r=255:g=255:b=255:a='255*lt(X,32)'"
    clips.ffmpeg("-f", "lavfi", "-i", half, "-frames:v", "1", str(mask))
    files = {"target": clips.kept(clips.video(tmp_path / "t.mp4")), "mask": clips.kept(mask)}
    tracks = (*VIDEO, Track(role="mask", modality="video"))
    sample = Sample(name="a", caption="", files=files)
    fitted = fit_samples((sample,), BUCKET, tracks, AS_IS).samples[0].clips["mask"].video
    frames = decode_video(mask, fitted)
    assert frames[:, :, :30].min() > 250 and frames[:, :, 34:].max() < 5


def test_a_cover_picture_beside_a_video_is_not_taken_for_it(tmp_path):
    cover, both = tmp_path / "cover.png", tmp_path / "both.mp4"
    clips.ffmpeg("-f", "lavfi", "-i", "color=red:s=200x200", "-frames:v", "1", str(cover))
    video = clips.counting(tmp_path / "a.mp4", 20, 24, ("-c:v", "libx264", "-qp", "1", "-pix_fmt", "yuv444p"))
    inputs = ("-i", str(cover), "-i", str(video), "-map", "0", "-map", "1")
    clips.ffmpeg(*inputs, "-c", "copy", "-disposition:v:0", "attached_pic", str(both))
    assert (probe(both).video.width, probe(both).video.frames) == (96, 20)
    assert np.diff(seen(both).mean(axis=(1, 2, 3))).round() == pytest.approx([4] * 16, abs=1)


def test_times_that_are_years_apart_cost_neither_time_nor_memory(tmp_path):
    path = clips.video(tmp_path / "a.avi", 40, sound=True)
    raw = bytearray(path.read_bytes())
    rate = raw.index(b"strh") + 28  # dwScale and dwRate of the picture: one frame in 46 days
    raw[rate : rate + 8] = (4_000_000).to_bytes(4, "little") + (1).to_bytes(4, "little")
    path.write_bytes(raw)
    clip = fit_one(path, fitting=SCALED)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert len(decode_video(path, clip.video)) == 17
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 400_000)


def test_a_picture_too_large_for_memory_is_refused_from_its_header(tmp_path):
    bomb = tmp_path / "a.png"
    clips.ffmpeg("-f", "lavfi", "-i", "color=black:s=12000x8000,format=gray", "-frames:v", "1", str(bomb))
    assert bomb.stat().st_size < 300_000
    files = {"target": clips.kept(clips.video(tmp_path / "t.mp4")), "mask": clips.kept(bomb)}
    tracks = (*VIDEO, Track(role="mask", modality="video"))
    with pytest.raises(UnreadableClip, match=r"a.png: .*it has no picture, or one that is too large"):
        fit_samples((Sample(name="a", caption="", files=files),), BUCKET, tracks, AS_IS)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.ogg", "a.aac"])
def test_a_sound_that_was_cut_off_is_as_long_as_what_is_left(tmp_path, name):
    path = clips.tone(tmp_path / name, 6.0, rate=44_100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 1.0 < probe(path).audio.seconds < 3.4  # an ogg page, of which only whole ones count, may hold a second
    with pytest.raises(NothingLeft, match=r"a: have [123]\.?[0-9]* s, need 5 s"):
        fit_one(path, AUDIO, Bucket(seconds=5.0))


def test_an_m4a_that_was_cut_off_is_refused(tmp_path):
    path = clips.tone(tmp_path / "a.m4a", 6.0, rate=44_100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableClip):
        fit_one(path, AUDIO, Bucket(seconds=5.0))


def test_sound_that_is_promised_and_does_not_decode_is_noticed(tmp_path):
    path = clips.tone(tmp_path / "a.mp4", 6.0, rate=44_100)
    promised = probe(path).audio.seconds
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 4) + whole[len(whole) // 4 * 3 :])
    with pytest.raises(UnreadableClip):
        decode_audio(path, FittedAudio(source="", start_seconds=0.0, seconds=promised), 16_000)


def test_start_and_end_are_normalised_each_for_itself(tmp_path):
    loud, quiet = clips.tone(tmp_path / "l.wav", 1.2, peak=0.8), clips.tone(tmp_path / "q.wav", 1.2, peak=0.1)
    sample = Sample(name="a", caption="", files={"target": clips.kept(loud), "reference": clips.kept(quiet)})
    tracks = (*AUDIO, Track(role="reference", modality="audio"))
    clip = fit_samples((sample,), Bucket(seconds=1.0), tracks, FitOptions()).samples[0].clips
    assert clip["target"].audio.gain == pytest.approx(0.891 / 0.8, abs=0.01)
    assert clip["reference"].audio.gain == pytest.approx(0.891 / 0.1, abs=0.1)


def test_two_frames_fill_the_bucket_with_its_sound_when_clips_are_scaled(tmp_path):
    path = clips.video(tmp_path / "a.mkv", 2, 24, sound=True)
    clip = fit_one(path, (*VIDEO, *AUDIO), fitting=SCALED)
    assert decode_audio(path, clip.audio, 16_000).shape == (2, round(17 / 24 * 16_000))
