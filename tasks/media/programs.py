"""ffmpeg's programs, run on files that strangers made: which are installed, and which formats they may open."""

import shutil
import subprocess
from threading import Timer
from typing import IO, Any

from schemas.errors import MissingTool, ProgramKilled

# What ffmpeg may take a file for. A playlist (hls, concat, dash) would make it open other files and addresses.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,h264,hevc,asf,mp3,wav,w64,aiff,flac,ogg,aac,"
    "png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,image2"
)
MOST_PIXELS = 8192 * 8192  # of a frame; an image of 16384 x 16384 takes a gigabyte and may be a file of 300 kB
ONLY_THE_FILE = {"format_whitelist": FORMATS, "protocol_whitelist": "file,pipe", "max_pixels": str(MOST_PIXELS)}

# beside what every build has
ENCODERS = frozenset({"libx264", "aac", "png", "rawvideo"})
FILTERS = frozenset(
    {"aresample", "atrim", "bwdif", "crop", "format", "fps", "premultiply", "reverse", "scale", "select",
     "setparams", "setpts", "setsar", "settb", "tonemap", "tpad", "trim", "zscale"}
)  # fmt: skip

PACKAGES = {"ffmpeg": "ffmpeg", "ffprobe": "ffmpeg", "rubberband": "rubberband-cli"}


def program(name: str, otherwise: str = "") -> str:
    """Path of a program; `otherwise` says how to do without it.

    Raises:
        MissingTool: it is not installed.
    """
    if found := shutil.which(name):
        return found
    raise MissingTool(name, PACKAGES[name], otherwise)


def abilities(kind: str) -> frozenset[str]:
    """Names of ffmpeg's `encoders` or `filters`."""
    done = subprocess.run(["ffmpeg", "-hide_banner", f"-{kind}"], capture_output=True, text=True, check=False)
    return frozenset(words[1] for line in done.stdout.splitlines() if len(words := line.split()) > 1)


def version(name: str) -> str | None:
    """A program's version, or None where it is not installed."""
    if not shutil.which(name):
        return None
    option = "--version" if name == "rubberband" else "-version"
    done = subprocess.run([name, option], capture_output=True, text=True, check=False)
    first = (done.stdout or done.stderr).strip().splitlines()[0]  # rubberband answers on stderr
    return first.removeprefix(f"{name} version ").split(" ")[0]


class TimeLimit:
    """Time limit of a process: a file can be made to take for ever, and a disk can stop answering."""

    def __init__(self, process: subprocess.Popen[Any], seconds: float) -> None:
        self.process, self.seconds, self.over = process, seconds, False
        self.timer = self._begun()

    def renew(self) -> None:
        """Start the whole time limit again."""
        self.timer.cancel()
        self.timer = self._begun()

    def cancel(self) -> None:
        """End the limit: the process may take as long as needed."""
        self.timer.cancel()

    def _begun(self) -> Timer:
        timer = Timer(self.seconds, self._end)
        timer.daemon = True
        timer.start()
        return timer

    def _end(self) -> None:
        self.over = True
        self.process.kill()

    def check(self, code: int, name: str, file: str) -> str | None:
        """The reason why a process ended before its work was done, if neither the process nor the file is the reason.

        Raises:
            ProgramKilled: somebody else ended it, such as a system that was short of memory.
        """
        if self.over:
            return f"it takes more than {self.seconds:.0f} s to read"
        if code < 0:
            raise ProgramKilled(f"{name} was ended by signal {-code} while it read {file}; run again")
        return None


def complaint(errors: IO[bytes], *, first: bool = False) -> str:
    """The last (or first) message of ffmpeg, without the address of its object."""
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return without_paths(lines[0 if first else -1]) if lines else "it ends early"


def without_paths(line: str) -> str:
    """A line of ffmpeg for users: without paths, which are of our store."""
    if "not on whitelist" in line:
        return f"it is a file of the kind {line[1:].split(' ', maxsplit=1)[0]}"
    return line.split("] ", 1)[-1].rsplit(": ", 1)[-1].strip()
