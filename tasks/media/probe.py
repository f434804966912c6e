"""Probes of media files, without decoding: picture and sound, when they start and how long they are.

Headers lie about lengths (an edit list: header 120 frames, shown 88), so packets are counted, less those that a player
discards. Times are on the file's own clock, which is ffmpeg's: its earliest track starts at 0.
"""

import json
import math
import subprocess
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from schemas.media import Frozen, Modality
from schemas.rejections import UnreadableClip
from tasks.media.programs import MOST_PIXELS, ONLY_THE_FILE, TimeLimit, complaint, program

VERSION = 2  # of what a probe says: part of the address under which it is kept

HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
STILL_FORMATS = ("_pipe", "image2")
FASTEST_FPS = 240.0  # that a header is believed
FASTEST_COUNTED_FPS = 1000.0  # that packets are believed: beyond it their times are nonsense
LEAST_SECONDS, BYTES_PER_SECOND = 60.0, 10e6  # what ffprobe may take; a disk gives ten times as much


class VideoProbe(Frozen):
    """The picture of a file, as a player shows it."""

    width: int  # after rotation and with square pixels
    height: int
    fps: float
    frames: int  # that are presented
    start: float
    square_pixels: bool = True
    interlaced: bool = False
    hdr: bool = False
    untagged: bool = False  # HDR that does not tell its primaries and matrix
    alpha: bool = False
    still: bool = False  # an image

    @property
    def seconds(self) -> float:
        """Seconds from the first frame until the last one has been shown."""
        return self.frames / self.fps


class AudioProbe(Frozen):
    """The first sound track of a file."""

    channels: int
    rate: int
    start: float
    seconds: float

    @property
    def end(self) -> float:
        """The time at which the sound is over, on the file's clock."""
        return self.start + self.seconds


class Probe(Frozen):
    """The picture and the sound of a file."""

    video: VideoProbe | None = None
    audio: AudioProbe | None = None


Probes = Mapping[str, Probe]  # by content hash


@dataclass
class _Packets:
    """Packet times of one stream, without packets that are not presented; a film has half a million."""

    count: int = 0
    times: "array[float]" = field(default_factory=lambda: array("d"))  # s, of those that have one
    end: float = -math.inf
    seconds: float = 0.0  # of all, where none has a time

    @property
    def told(self) -> bool:
        """Whether every packet has a time: AVI and raw streams leave out times that B-frames change."""
        return len(self.times) == self.count

    def add(self, time: str, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        if time != "N/A":
            self.times.append(float(time))
            self.end = max(self.end, float(time) + seconds)


def probe(path: Path, name: str | None = None, kind: Modality = "video") -> Probe:
    """Probe a file.

    Args:
        path: the file; its extension does not matter.
        name: what messages call it.
        kind: what it is wanted for.

    Raises:
        UnreadableClip: it is no media file.
        MissingTool: ffprobe is not installed.
        ProgramKilled: ffprobe was ended by somebody else.
    """
    name = name or path.name
    about, streams = _about(path, name, kind)
    picture = next(filter(_is_picture, streams), None)
    sound = next((s for s in streams if s["codec_type"] == "audio"), None)
    if picture and picture["width"] * picture["height"] > MOST_PIXELS:
        size = f"{picture['width']} x {picture['height']} pixels are more than a frame may have"
        raise UnreadableClip(name, kind="video", reason=size)
    packets = _packets(path, name, kind)
    zero = _number(about["format"].get("start_time"))
    still = any(mark in about["format"]["format_name"] for mark in STILL_FORMATS)
    return Probe(
        video=_video(picture, packets[picture["index"]], zero, still) if picture else None,
        audio=_sound(path, sound, packets[sound["index"]], zero, alone=picture is None) if sound else None,
    )


def frame_times(path: Path) -> list[float]:
    """The time at which each frame is shown, on the file's own clock; empty where the file has no times."""
    about, streams = _about(path, path.name, "video")
    picture = next(filter(_is_picture, streams))
    packets = _packets(path, path.name, "video")[picture["index"]]
    zero = _number(about["format"].get("start_time"))
    return sorted(time - zero for time in packets.times) if packets.told else []


def _about(path: Path, name: str, kind: Modality) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The headers of a file, and of each of its streams."""
    about = json.loads("".join(_ffprobe(path, ("-show_streams", "-show_format", "-of", "json"), name, kind)))
    return about, [stream for stream in about.get("streams", []) if "codec_type" in stream]


def _ffprobe(path: Path, options: tuple[str, ...], name: str, kind: Modality) -> Iterator[str]:
    """ffprobe's lines as they are written. A file that keeps ffprobe busy for too long counts as unreadable."""
    safe = [word for option, value in ONLY_THE_FILE.items() for word in (f"-{option}", value)]
    command = [program("ffprobe"), "-v", "error", *safe, *options, f"file:{path}"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace")
        limit = TimeLimit(process, LEAST_SECONDS + path.stat().st_size / BYTES_PER_SECOND)
        try:
            assert process.stdout is not None
            with process.stdout:
                yield from process.stdout
            process.wait()
        finally:
            limit.cancel()
            process.kill()
            process.wait()
        if process.returncode:
            reason = limit.check(process.returncode, "ffprobe", name) or complaint(errors, first=True)
            raise UnreadableClip(name, kind=kind, reason=reason)


def _packets(path: Path, name: str, kind: Modality) -> defaultdict[int, _Packets]:
    """Packets by stream, in one pass over the file."""
    fields = ("-show_entries", "packet=stream_index,pts_time,duration_time,flags", "-of", "csv=p=0")
    found: defaultdict[int, _Packets] = defaultdict(_Packets)
    for line in _ffprobe(path, fields, name, kind):
        row = line.strip().split(",")
        if len(row) > 3 and "D" not in row[3]:
            found[int(row[0])].add(row[1], _number(row[2]))
    return found


def _video(stream: dict[str, Any], packets: _Packets, zero: float, still: bool) -> VideoProbe:
    width, height = int(stream["width"]), int(stream["height"])
    shape = _fraction(stream.get("sample_aspect_ratio", "1:1").replace(":", "/")) or 1.0
    turned = round(_rotation(stream) / 90) % 2 == 1
    width = width if shape == 1.0 else max(1, round(width * shape))
    return VideoProbe(
        width=height if turned else width,
        height=width if turned else height,
        fps=_fps(stream, sorted(packets.times) if packets.told else []),
        frames=packets.count,
        start=(min(packets.times, default=zero) if packets.told else _number(stream.get("start_time"), zero)) - zero,
        square_pixels=shape == 1.0,
        interlaced=stream.get("field_order", "progressive") not in ("progressive", "unknown"),
        hdr=stream.get("color_transfer") in HDR_TRANSFERS,
        untagged=not {"color_primaries", "color_space"} <= stream.keys(),
        alpha=stream.get("pix_fmt", "").startswith(("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8")),
        still=still,
    )


def _sound(path: Path, stream: dict[str, Any], packets: _Packets, zero: float, *, alone: bool) -> AudioProbe:
    """The sound track, as long as it decodes to, where that length can be known at once.

    mp3 packets hold up to 0.04 s of padding; the header of a flac that was cut off tells its old length.
    """
    import soundfile  # noqa: PLC0415 - 0.15 s that only looking into files costs

    found = _audio(stream, packets, zero)
    try:
        plain = soundfile.info(path).duration if alone else found.seconds
    except soundfile.LibsndfileError:
        return found
    return found.model_copy(update={"seconds": min(plain, found.seconds)})


def _audio(stream: dict[str, Any], packets: _Packets, zero: float) -> AudioProbe:
    """The sound track, its length from the packets: headers are up to 0.14 s off, raw .aac has none at all."""
    start = _number(stream.get("start_time"), packets.times[0] if packets.times else zero)
    return AudioProbe(
        channels=int(stream.get("channels", 0)),
        rate=int(stream.get("sample_rate", 0)),
        start=start - zero,
        seconds=max(packets.end - start, 0.0) if packets.times else packets.seconds,
    )


def _fps(stream: dict[str, Any], times: list[float]) -> float:
    """The header's mean rate, unless packets contradict it; their times are rounded to ms in some containers."""
    stated = [_fraction(stream.get(field)) for field in ("avg_frame_rate", "r_frame_rate")]
    spread = times[-1] - times[0] if times else 0.0
    counted = (len(times) - 1) / spread if spread > 0 else 0.0
    if not 0 < counted <= FASTEST_COUNTED_FPS:
        return next(
            (rate for rate in reversed(stated) if 0 < rate <= FASTEST_FPS), 25.0
        )  # H.264 in AVI: mean is doubled
    slack = max(0.005, 0.002 / spread)
    return next((rate for rate in stated if abs(counted - rate) <= slack * rate), counted)


def _rotation(stream: dict[str, Any]) -> float:
    return next((float(data["rotation"]) for data in stream.get("side_data_list", []) if "rotation" in data), 0.0)


def _is_picture(stream: dict[str, Any]) -> bool:
    """Whether a stream is a video track with frames to show, and no cover art."""
    cover = stream.get("disposition", {}).get("attached_pic")
    return stream["codec_type"] == "video" and bool(stream.get("width")) and not cover


def _fraction(text: str | None) -> float:
    numerator, _, denominator = (text or "0").partition("/")
    return 0.0 if denominator == "0" else float(Fraction(int(numerator), int(denominator or 1)))


def _number(text: str | None, otherwise: float = 0.0) -> float:
    return otherwise if text in (None, "N/A", "") else float(text)
