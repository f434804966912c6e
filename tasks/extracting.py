"""Archives: looked through first, then every file into the store under its content hash. Never unpacked into folders,
so that no name in an archive can become a path of ours. What each rule is against: facts/media.md, section 5.
"""

import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import model_validator

from schemas.errors import ArchiveRejected, DuplicateName, InputRejected
from schemas.media import Frozen, MediaFile
from schemas.settings import settings
from tasks.keeping import keep
from tasks.looking import refuse
from tasks.store import CHUNK, media_address, store, temporary_folder

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz")
BOMB_RATIO, BOMB_BYTES = 200, 100 * 2**20  # media barely compress: such a file unpacks to nothing of use
LOCAL_HEADER = 30  # bytes before an entry's name
BROKEN = (zipfile.BadZipFile, RuntimeError, NotImplementedError, UnicodeDecodeError, OSError, EOFError, zlib.error)


class Extracted(Frozen):
    """The files of an archive, all of them in the store: a manifest that names one that is gone is no manifest."""

    archive: str
    files: tuple[MediaFile, ...]
    ignored: tuple[str, ...]

    @model_validator(mode="after")
    def _present(self) -> "Extracted":
        for file in self.files:
            if store().size(media_address(file.sha256)) != file.size:
                raise ValueError(f"file gone: {file.name}")
        return self


def extract_archive(archive: MediaFile) -> Extracted:
    """Read a zip archive into the store.

    Raises:
        ArchiveRejected, DuplicateName, Rejections: it is no zip, broken or unsafe; every bad entry is named.
    """
    with store().media(archive.sha256) as path, _opened(path, archive.name) as bundle:
        entries = [entry for entry in bundle.infolist() if not entry.is_dir()]
        _check_archive(bundle, entries, archive.name)
        names = [_clean(entry.filename) for entry in entries]
        wanted = [(entry, name) for entry, name in zip(entries, names, strict=True) if not _ignored(name)]
        _check_entries(entries, [name for _, name in wanted])
        _check_overlaps(path, bundle, entries, archive.name)
        files = tuple(_read(bundle, entry, name) for entry, name in wanted)
    return Extracted(archive=archive.name, files=files, ignored=tuple(sorted(name for name in names if _ignored(name))))


@contextmanager
def _opened(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        bundle = zipfile.ZipFile(path)
    except UnicodeDecodeError as error:
        raise ArchiveRejected(name, "its file names are not valid UTF-8; pack it again") from error
    except BROKEN as error:
        with path.open("rb") as file:
            page = file.read(64).lstrip().startswith(b"<")
        hint = (
            "it is a web page (a login page?), not a zip archive" if page else "not a zip archive, or an incomplete one"
        )
        raise ArchiveRejected(name, hint) from error
    with bundle:
        yield bundle


def _check_archive(bundle: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Its size, before anything is read."""
    limits = settings()
    if not entries:
        raise ArchiveRejected(name, "the archive is empty")
    if len(bundle.infolist()) > limits.max_archive_entries:
        raise ArchiveRejected(
            name, f"{len(bundle.infolist())} entries, at most {limits.max_archive_entries} are allowed"
        )
    total = sum(entry.file_size for entry in entries)
    if total > limits.max_archive_bytes:
        raise ArchiveRejected(name, f"{total} bytes unpacked, at most {limits.max_archive_bytes} are allowed")


def _check_entries(entries: Sequence[zipfile.ZipInfo], wanted: Sequence[str]) -> None:
    faults: list[InputRejected] = [
        ArchiveRejected(entry.filename, reason) for entry in entries if (reason := _entry_fault(entry))
    ]
    seen: set[str] = set()
    for name in wanted:
        if name in seen:
            faults.append(DuplicateName(name, name))
        seen.add(name)
    if faults:
        refuse(faults)


def _entry_fault(entry: zipfile.ZipInfo) -> str | None:
    name = entry.filename.replace("\\", "/")
    mode = stat.S_IFMT(entry.external_attr >> 16)
    if name.startswith("/") or ".." in name.split("/") or (name[1:2] == ":" and name[:1].isalpha()):
        return "unsafe path: it leads out of the archive"
    if mode not in (0, stat.S_IFREG):
        return "is a link or a device, not a file"
    if entry.flag_bits & 1:
        return "is encrypted; pack it without a password"
    if name.lower().endswith(ARCHIVES) and not _ignored(_clean(name)):
        return "the archive contains another archive; unpack it first"
    return _size_fault(entry)


def _size_fault(entry: zipfile.ZipInfo) -> str | None:
    if entry.file_size > settings().max_entry_bytes:
        return f"{entry.file_size} bytes unpacked, at most {settings().max_entry_bytes} are allowed"
    if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * max(entry.compress_size, 1):
        return f"unpacks to {entry.file_size} bytes from {entry.compress_size}: no media file does"
    return None


def _check_overlaps(path: Path, bundle: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Entries that share bytes make a small archive unpack to any size; zipfile reads them without a word."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in ordered[1:]] + [bundle.start_dir]
    with path.open("rb") as file:
        for entry, end in zip(ordered, ends, strict=True):
            file.seek(entry.header_offset)
            header = file.read(LOCAL_HEADER)
            lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            if entry.header_offset + LOCAL_HEADER + lengths + entry.compress_size > end:
                raise ArchiveRejected(name, f"broken or unsafe: {entry.filename} overlaps with other entries")


def _read(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> MediaFile:
    with temporary_folder() as folder:
        path = folder / "entry"
        try:
            _copy(bundle, entry, path)
        except BROKEN as error:
            raise ArchiveRejected(name, _why(error)) from error
        return keep(path, name)


def _copy(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    left = entry.file_size
    with bundle.open(entry) as source, path.open("wb") as target:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("longer than declared")
            target.write(chunk)
    if left:
        raise EOFError("shorter than declared")


def _why(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return "is packed by a method that cannot be read; pack it as an ordinary zip"
    return f"cannot be unpacked ({error}); pack or upload it again"


def _clean(name: str) -> str:
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _ignored(name: str) -> bool:
    parts = name.split("/")
    return any(part == "__MACOSX" or part.startswith(".") for part in parts) or parts[-1].lower() in (
        "thumbs.db", "desktop.ini",
    )  # fmt: skip
