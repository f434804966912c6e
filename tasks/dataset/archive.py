"""Archives: checked first, then every file goes into the store under its content hash. Never unpacked into folders,
so that no name in an archive can become a path of ours. The attack behind each rule: docs/media-rules.md, section 5.
"""

import hashlib
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import FULL
from schemas.faults import refuse
from schemas.media import MediaFile
from schemas.rejections import ArchiveRejected, DuplicateName, InputRejected
from schemas.settings import settings
from tasks.dataset.names import _clean, is_hidden
from tasks.manifests import Extracted
from tasks.storage.folder import CHUNK
from tasks.storage.store import keep, store, temporary_folder

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
BOMB_RATIO, BOMB_BYTES = 200, 100 * 2**20  # media barely compress: such a file unpacks to nothing of use
LOCAL_HEADER = 30  # bytes before an entry's name
END, END64, END64_LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
LONGEST_END = 22 + 0xFFFF  # bytes: the last record and a comment
LISTING_BYTES = 1024  # of the listing for each entry, on average; a name alone may have 65535
BROKEN = (
    zipfile.BadZipFile, RuntimeError, NotImplementedError, UnicodeDecodeError, OSError, EOFError, ValueError,
    zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip


def extract_archive(archive: MediaFile) -> Extracted:
    """Read a zip archive into the store.

    Raises:
        ArchiveRejected, DuplicateName, Rejections: it is no zip, broken or unsafe; every bad entry is named.
    """
    with store().media(archive.sha256) as path, _opened(path, archive.name) as bundle:
        # not is_dir(): it fails where a name is empty
        entries = [entry for entry in bundle.infolist() if not entry.filename.endswith("/")]
        _check_archive(bundle, entries, archive.name)
        names = [_clean(entry.filename) for entry in entries]
        wanted = [(entry, name) for entry, name in zip(entries, names, strict=True) if not is_hidden(name)]
        _check_entries(entries, [name for _, name in wanted])
        _check_ratio(entries, archive.name)
        _check_overlaps(path, bundle, entries, archive.name)
        files = tuple(_read(bundle, entry, name) for entry, name in wanted)
    hidden = sorted(name for name in names if is_hidden(name))
    return Extracted(archive=archive.name, files=files, ignored=tuple(hidden))


@contextmanager
def _opened(path: Path, name: str) -> Iterator[zipfile.ZipFile]:
    _check_listing(path, name)
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


def _check_listing(path: Path, name: str) -> None:
    """Bound the number of listed entries before zipfile reads them: a million entries cost a gigabyte of memory."""
    most = settings().max_archive_entries
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, LONGEST_END + 76), 2)
        tail = file.read()
    at = len(tail) - 22 if tail[-22:].startswith(END) else tail.rfind(END)  # in the order that zipfile looks
    if at < 0 or len(tail) < at + 22:
        return  # zipfile will say that it is no archive
    count, size = struct.unpack("<HI", tail[at + 10 : at + 16])
    record = tail[max(at - 76, 0) : at]
    if len(record) == 76 and record.startswith(END64) and record[56:].startswith(END64_LOCATOR):
        count, size = struct.unpack("<QQ", record[32:48])
    if count > most:
        raise ArchiveRejected(name, f"{count} entries, at most {most} are allowed")
    if size > most * LISTING_BYTES:
        raise ArchiveRejected(name, f"its list of files has {size} bytes, at most {most * LISTING_BYTES} are allowed")


def _check_archive(bundle: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Check the size of an archive before anything is read."""
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
    if name.lower().endswith(ARCHIVES) and not is_hidden(_clean(name)):
        return "the archive contains another archive; unpack it first"
    return _size_fault(entry)


def _size_fault(entry: zipfile.ZipInfo) -> str | None:
    if entry.file_size > settings().max_entry_bytes:
        return f"{entry.file_size} bytes unpacked, at most {settings().max_entry_bytes} are allowed"
    if entry.file_size > BOMB_BYTES and entry.file_size > BOMB_RATIO * max(entry.compress_size, 1):
        return f"unpacks to {entry.file_size} bytes from {entry.compress_size}: no media file does"
    return None


def _check_ratio(entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Bound the compression ratio of all entries together: a zip bomb may be split below the bound for one file."""
    total, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if total > BOMB_BYTES and total > BOMB_RATIO * max(packed, 1):
        raise ArchiveRejected(name, f"unpacks to {total} bytes from {packed}: no set of media does")


def _check_overlaps(path: Path, bundle: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Refuse entries that share bytes: a small archive then unpacks to any size; zipfile reads them without a word."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    ends = [entry.header_offset for entry in ordered[1:]] + [bundle.start_dir]
    with path.open("rb") as file:
        for entry, end in zip(ordered, ends, strict=True):
            if entry.header_offset < 0:
                raise ArchiveRejected(name, f"broken or unsafe: {entry.filename} lies outside of the archive")
            file.seek(entry.header_offset)
            header = file.read(LOCAL_HEADER)
            lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            if entry.header_offset + LOCAL_HEADER + lengths + entry.compress_size > end:
                raise ArchiveRejected(name, f"broken or unsafe: {entry.filename} overlaps with other entries")


def _read(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> MediaFile:
    with temporary_folder() as folder:
        path = folder / "entry"
        try:
            digest = _copy(bundle, entry, path)
        except BROKEN as error:
            if getattr(error, "errno", None) in FULL:  # nothing is wrong with the archive
                raise
            raise ArchiveRejected(name, _why(error)) from error
        return keep(path, name, digest)


def _copy(bundle: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> str:
    """Unpack an entry; the sha256 of its bytes, which are read once."""
    left, digest = entry.file_size, hashlib.sha256()
    with bundle.open(entry) as source, path.open("wb") as target:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                raise zipfile.BadZipFile("longer than declared")
            target.write(chunk)
            digest.update(chunk)
    if left:
        raise EOFError("shorter than declared")
    return digest.hexdigest()


def _why(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return "is packed by a method that cannot be read; pack it as an ordinary zip"
    return f"cannot be unpacked ({error}); pack or upload it again"
