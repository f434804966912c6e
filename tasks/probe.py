"""What a media file is, without decoding it: its picture, its sound, when they start and how long they are.

Headers lie about lengths (an edit list: header 120 frames, shown 88), so packets are counted, less those that a player
discards. Times are on the file's own clock, which is ffmpeg's: its earliest track starts at 0.
"""

import json
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import UnreadableClip
from schemas.media import Frozen, Modality
from tasks.media_tool import ONLY_THE_FILE, program, without_paths

VERSION = 1  # of what a probe says: part of the address under which it is kept

HDR_TRANSFERS = ("smpte2084", "arib-std-b67")
STILL_FORMATS = ("_pipe", "image2")
FASTEST_FPS = 240.0


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
    alpha: bool = False
    still: bool = False  # an image

    @property
    def seconds(self) -> float:
        """From the first frame until the last one has been shown."""
        return self.frames / self.fps


class AudioProbe(Frozen):
    """The first sound track of a file."""

    channels: int
    rate: int
    start: float
    seconds: float

    @property
    def end(self) -> float:
        """When the sound is over, on the file's clock."""
        return self.start + self.seconds


class Probe(Frozen):
    """What a file holds."""

    video: VideoProbe | None = None
    audio: AudioProbe | None = None


class _Packet(NamedTuple):
    stream: int
    time: float | None
    seconds: float


def probe(path: Path, name: str | None = None, kind: Modality = "video") -> Probe:
    """Look into a file.

    Args:
        path: the file; its extension does not matter.
        name: what messages call it.
        kind: what it is wanted for.

    Raises:
        UnreadableClip: it is no media file.
        MissingTool: ffprobe is not installed.
    """
    options = ("-show_streams", "-show_format", "-of", "json")
    about = json.loads(_ffprobe(path, options, name or path.name, kind))
    streams = about.get("streams", [])
    picture = next((s for s in streams if s["codec_type"] == "video" and not _is_cover(s)), None)
    sound = next((s for s in streams if s["codec_type"] == "audio"), None)
    packets = _packets(path, name or path.name, kind)
    zero = _number(about["format"].get("start_time"))
    still = any(mark in about["format"]["format_name"] for mark in STILL_FORMATS)
    return Probe(
        video=_video(picture, [p for p in packets if p.stream == picture["index"]], zero, still) if picture else None,
        audio=_sound(path, sound, packets, zero, alone=picture is None) if sound else None,
    )


def _ffprobe(path: Path, options: tuple[str, ...], name: str, kind: Modality) -> str:
    safe = [word for option, value in ONLY_THE_FILE.items() for word in (f"-{option}", value)]
    command = [program("ffprobe"), "-v", "error", *safe, *options, f"file:{path}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise UnreadableClip(name, kind=kind, reason=without_paths(lines[0]) if lines else "unknown format")
    return done.stdout


def _packets(path: Path, name: str, kind: Modality) -> list[_Packet]:
    """Of all streams, in one pass over the file; without those that are not presented."""
    fields = ("-show_entries", "packet=stream_index,pts_time,duration_time,flags", "-of", "csv=p=0")
    rows = (line.split(",") for line in _ffprobe(path, fields, name, kind).splitlines() if line)
    return [
        _Packet(int(row[0]), None if row[1] == "N/A" else float(row[1]), _number(row[2]))
        for row in rows
        if len(row) > 3 and "D" not in row[3]
    ]


def _video(stream: dict[str, Any], packets: list[_Packet], zero: float, still: bool) -> VideoProbe:
    width, height = int(stream["width"]), int(stream["height"])
    shape = _fraction(stream.get("sample_aspect_ratio", "1:1").replace(":", "/")) or 1.0
    turned = round(_rotation(stream) / 90) % 2 == 1
    width = width if shape == 1.0 else round(width * shape)
    times = sorted(packet.time for packet in packets if packet.time is not None)
    return VideoProbe(
        width=height if turned else width,
        height=width if turned else height,
        fps=_fps(stream, times),
        frames=len(packets),
        start=times[0] - zero if times else 0.0,
        square_pixels=shape == 1.0,
        interlaced=stream.get("field_order", "progressive") not in ("progressive", "unknown"),
        hdr=stream.get("color_transfer") in HDR_TRANSFERS,
        alpha=stream.get("pix_fmt", "").startswith(("rgba", "bgra", "argb", "abgr", "yuva", "gbrap", "ya", "pal8")),
        still=still,
    )


def _sound(path: Path, stream: dict[str, Any], packets: list[_Packet], zero: float, *, alone: bool) -> AudioProbe:
    """As long as it decodes to, where that can be known at once: mp3 packets hold up to 0.04 s of padding."""
    import soundfile  # noqa: PLC0415 - 0.15 s that only looking into files costs

    found = _audio(stream, [p for p in packets if p.stream == stream["index"]], zero)
    try:
        return found.model_copy(update={"seconds": soundfile.info(path).duration}) if alone else found
    except soundfile.LibsndfileError:
        return found


def _audio(stream: dict[str, Any], packets: list[_Packet], zero: float) -> AudioProbe:
    """Length from the packets: headers are up to 0.14 s off, raw .aac has none at all."""
    times = [packet.time for packet in packets if packet.time is not None]
    start = _number(stream.get("start_time"), times[0] if times else zero)
    ends = [packet.time + packet.seconds for packet in packets if packet.time is not None]
    seconds = max(ends) - start if ends else sum(packet.seconds for packet in packets)
    return AudioProbe(
        channels=int(stream.get("channels", 0)),
        rate=int(stream.get("sample_rate", 0)),
        start=start - zero,
        seconds=seconds,
    )


def _fps(stream: dict[str, Any], times: list[float]) -> float:
    """The header's mean rate, unless packets say that it lies; their times are rounded to ms in some containers."""
    stated = [_fraction(stream.get(field)) for field in ("avg_frame_rate", "r_frame_rate")]
    spread = times[-1] - times[0] if times else 0.0
    counted = (len(times) - 1) / spread if spread > 0 else 0.0
    if not counted:
        return next(
            (rate for rate in reversed(stated) if 0 < rate <= FASTEST_FPS), 25.0
        )  # H.264 in AVI: mean is doubled
    slack = max(0.005, 0.002 / spread)
    return next((rate for rate in stated if abs(counted - rate) <= slack * rate), counted)


def _rotation(stream: dict[str, Any]) -> float:
    return next((float(data["rotation"]) for data in stream.get("side_data_list", []) if "rotation" in data), 0.0)


def _is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _fraction(text: str | None) -> float:
    numerator, _, denominator = (text or "0").partition("/")
    return 0.0 if denominator == "0" else float(Fraction(int(numerator), int(denominator or 1)))


def _number(text: str | None, otherwise: float = 0.0) -> float:
    return otherwise if text in (None, "N/A", "") else float(text)
