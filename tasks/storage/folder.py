"""Folders behind any fsspec URL: files appear in them whole or not at all, and every fault names its place."""

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import StoreRefused, StoreUnavailable, store_error
from tasks.storage.durable import appearing, make_folder, on_disk
from tasks.storage.patience import Patience

CHUNK = 1 << 20
S3_PARTS = {"chunksize": 8 * CHUNK, "max_concurrency": 2}  # by default s3fs holds 500 MB of a file in memory
S3_CONFIG = {
    "signature_version": "s3v4",  # else links are signed as it was done before 2014
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"mode": "standard", "max_attempts": 3},
}
LEAST_SECONDS, BYTES_PER_SECOND = 60.0, 200e3  # what one call may take; any line that is of use gives more
LISTING_SECONDS = 600.0
REMOVED_AT_ONCE = 1000  # S3's limit
Answer = TypeVar("Answer")


class Stored(NamedTuple):
    """One file of a folder, with its size and age."""

    address: str
    size: int
    age: float  # seconds

    @property
    def kind(self) -> str:
        return self.address.split("/", 1)[0]


class Place:
    """A folder of files under one fsspec URL.

    A remote folder that does not answer, or breaks off, is asked again for as long as the settings say.

    Raises:
        StoreUnavailable: it did not answer in all that time.
        StoreFull, StoreRefused: somebody has to make room, or let us in; or nothing here speaks the URL's protocol.
    """

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {"use_listings_cache": False}  # others write here, too
        if url.startswith(("s3://", "s3a://")):
            options["config_kwargs"] = S3_CONFIG
        self.url = url.split("?", 1)[0]
        try:
            self.fs, self.root = fsspec.url_to_fs(url, **options)
        except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
            raise StoreRefused(
                f"{self.url} cannot be opened ({error}); write a folder or s3://bucket/folder"
            ) from error
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self.on_s3 = "s3" in self.fs.protocol
        self._parts = S3_PARTS if self.on_s3 else {}

    def path(self, address: str) -> str:
        return f"{self.root}/{address}"

    def size(self, address: str) -> int | None:
        """Bytes of a file, or None where there is none."""
        try:
            if self.is_local:  # a tenth of what fsspec takes, and a run asks thousands of times
                with self._asking(address):
                    return Path(self.path(address)).stat().st_size
            return int(self._patiently(address, lambda: self._call("size", self.path(address))))
        except FileNotFoundError:
            return None

    def put(self, path: Path, address: str) -> None:
        """Copy a local file here: a reader never sees half of the file, and afterwards a power cut does not lose it."""
        if self.is_local:
            with self._asking(address), appearing(Path(self.path(address))) as part:
                shutil.copyfile(path, part)
            return
        size = path.stat().st_size

        def send() -> None:
            self._call("put_file", str(path), self.path(address), seconds=time_for(size), **self._parts)
            if self._call("size", self.path(address)) != size:
                raise StoreUnavailable(f"{self.url}/{address} arrived incomplete; run again")

        self._patiently(address, lambda: self._into_what_is_there(send))

    def take(self, path: Path, address: str) -> None:
        """Move a local file here, with the promises of `put`, and without a copy where both are on one disk."""
        if self.is_local:
            with self._asking(address):
                if _moved(path, Path(self.path(address))):
                    return
        self.put(path, address)

    def write(self, content: bytes, address: str, *, lasting: bool = True) -> None:
        """Write a small file, whole or not at all.

        Args:
            lasting: a power cut leaves it. Not worth its time where what is lost is found out again in a moment.
        """
        if self.is_local:
            with self._asking(address), appearing(Path(self.path(address)), lasting=lasting) as part:
                part.write_bytes(content)
            return
        send = partial(self._call, "pipe_file", self.path(address), content)
        self._patiently(address, lambda: self._into_what_is_there(send))

    def fetch(self, address: str, folder: Path) -> Path:
        """Local path of a file: the file itself, or a copy in the folder. FileNotFoundError where there is none."""
        if self.is_local:
            return Path(self.path(address))
        path = folder / Path(address).name

        def receive() -> None:
            size = int(self._call("size", self.path(address)))
            self._call("get_file", self.path(address), str(path), seconds=time_for(size), **self._parts)

        self._patiently(address, receive)
        return path

    def sha256(self, address: str) -> str:
        """Digest of a file here, read a piece at a time."""

        def read() -> str:
            digest = hashlib.sha256()
            with self.fs.open(self.path(address), "rb", block_size=4 * CHUNK) as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
            return digest.hexdigest()

        return self._patiently(address, read)

    def read(self, address: str) -> bytes | None:
        """The bytes of a JSON note, or None where there is none. A note that came cut off does not count as damaged."""

        def receive() -> bytes:
            path = self.path(address)
            content = Path(path).read_bytes() if self.is_local else bytes(self._call("cat_file", path))
            if not content.endswith(b"}") and self._call("size", path) != len(content):
                raise StoreUnavailable(f"{self.url}/{address} could not be read to its end; run again")
            return content

        try:
            return self._patiently(address, receive)
        except FileNotFoundError:
            return None

    def remove(self, address: str) -> None:
        """Remove a file; one that is gone already is no fault."""
        with suppress(FileNotFoundError):
            self._patiently(address, lambda: self._call("rm_file", self.path(address)))

    def remove_all(self, folder: str) -> None:
        """Remove a folder and all that is in it; what is gone already is no fault."""
        if self.is_local:
            shutil.rmtree(self.path(folder), ignore_errors=True)
            return
        addresses = [file.address for file in self.files(folder)]
        if not self.on_s3:
            for address in addresses:
                self.remove(address)
            return
        for first in range(0, len(addresses), REMOVED_AT_ONCE):
            some = [self.path(address) for address in addresses[first : first + REMOVED_AT_ONCE]]
            self._patiently(folder, partial(self._call, "bulk_delete", some, seconds=LISTING_SECONDS))

    def files(self, folder: str = "") -> Iterator[Stored]:
        """All files of the place, or of one of its folders."""
        now = datetime.now(UTC).timestamp()
        found: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            place = self.path(folder).rstrip("/")
            found = self._patiently(folder, lambda: self._call("find", place, detail=True, seconds=LISTING_SECONDS))
        for path, info in found.items():
            written: Any = info.get("mtime") or info.get("LastModified") or now
            moment = written.timestamp() if isinstance(written, datetime) else float(written)
            yield Stored(path.removeprefix(self.root).lstrip("/"), int(info["size"]), now - moment)

    def link(self, address: str, seconds: int) -> str:
        """URL at which a client opens a file; on S3 the link needs no credentials for that many seconds."""
        if self.is_local:
            return Path(self.path(address)).as_uri()
        return str(self._patiently(address, lambda: self.fs.sign(self.path(address), expiration=seconds)))

    def end_uploads(self, older_than: float) -> int:
        """Abort multipart uploads that nobody has finished in so many seconds: on S3 they are kept, and paid for."""
        if not self.on_s3:
            return 0
        bucket, _, prefix = self.root.partition("/")
        before = datetime.now(UTC) - timedelta(seconds=older_than)
        cut: list[Any] = []
        with suppress(FileNotFoundError):
            cut = self._patiently("", lambda: self._call("list_multipart_uploads", bucket))
            cut = [upload for upload in cut if upload["Key"].startswith(prefix) and upload["Initiated"] <= before]
            for upload in cut:
                self._patiently("", partial(self._call, "abort_mpu", bucket, upload["Key"], upload["UploadId"]))
        return len(cut)

    def _into_what_is_there(self, send: Callable[[], object]) -> None:
        """Send a file; a missing bucket shows only when a file is sent there."""
        try:
            send()
        except FileNotFoundError as error:
            if _code(error) == "NoSuchUpload":  # it was completed, and the answer was lost
                raise StoreUnavailable(f"{self.url} lost an upload; run again") from error
            raise StoreRefused(f"{self.url} is not there; create it first") from error

    def _call(self, method: str, *arguments: Any, seconds: float = LEAST_SECONDS, **more: Any) -> Any:
        """Call the file system, for so many seconds at most where a limit can be set."""
        if isinstance(self.fs, AsyncFileSystem):
            return sync(self.fs.loop, getattr(self.fs, f"_{method}"), *arguments, timeout=seconds, **more)
        return getattr(self.fs, method)(*arguments, **more)

    def _patiently(self, address: str, ask: Callable[[], Answer]) -> Answer:
        """Ask, and ask again where the other side does not answer: an outage may pass in minutes; a run took hours."""
        patience = Patience()
        while True:
            try:
                with self._asking(address):
                    return ask()
            except StoreUnavailable as fault:
                if self.is_local:
                    raise
                patience.wait(fault)

    @contextmanager
    def _asking(self, address: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except self._faults as error:
            raise store_error(f"{self.url}/{address}".rstrip("/"), error, refused=self._refuses(error)) from error

    @cached_property
    def _faults(self) -> tuple[type[Exception], ...]:
        if not self.on_s3:
            return (OSError,)
        from tasks.storage.s3_faults import FAULTS  # noqa: PLC0415  # s3fs costs a second: only where it is needed

        return FAULTS

    def _refuses(self, error: BaseException) -> bool:
        if not self.on_s3:
            return False
        from tasks.storage.s3_faults import is_refusal  # noqa: PLC0415

        return is_refusal(error)


def time_for(size: int) -> float:
    """Seconds that a transfer of so many bytes may take; a transfer that takes longer fails."""
    return LEAST_SECONDS + size / BYTES_PER_SECOND


def _moved(path: Path, final: Path) -> bool:
    """Move a file within its disk, durably; False where the destination is on another disk."""
    make_folder(final.parent)
    on_disk(path)
    try:
        path.replace(final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    on_disk(final.parent)
    return True


def _code(error: BaseException) -> str:
    """S3's code of a fault; s3fs keeps its own error as the cause."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
