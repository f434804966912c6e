"""A folder behind any fsspec URL: files appear in it whole or not at all, and every fault says where it was."""

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.store_errors import StoreRefused, StoreUnavailable, store_error

CHUNK = 1 << 20
S3_PARTS = {"chunksize": 8 * CHUNK, "max_concurrency": 2}  # by default s3fs holds 500 MB of a file in memory


class Stored(NamedTuple):
    """One file of a place."""

    address: str
    size: int
    age: float  # seconds

    @property
    def kind(self) -> str:
        return self.address.split("/", 1)[0]


class Place:
    """Files under one fsspec URL.

    Raises:
        StoreUnavailable: it does not answer; it may pass.
        StoreFull, StoreRefused: somebody has to make room, or let us in.
    """

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {"use_listings_cache": False}  # others write here, too
        if url.startswith(("s3://", "s3a://")):
            options["config_kwargs"] = {"signature_version": "s3v4"}  # else links are signed as it was done before 2014
        self.fs, self.root = fsspec.url_to_fs(url, **options)
        self.url = url.split("?", 1)[0]
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self.on_s3 = "s3" in self.fs.protocol
        self._parts = S3_PARTS if self.on_s3 else {}

    def path(self, address: str) -> str:
        return f"{self.root}/{address}"

    def size(self, address: str) -> int | None:
        """Bytes of a file, or None where there is none."""
        with self._asking(address):
            try:
                if self.is_local:  # a tenth of what fsspec takes, and a run asks thousands of times
                    return Path(self.path(address)).stat().st_size
                return int(self.fs.size(self.path(address)))
            except FileNotFoundError:
                return None

    def put(self, path: Path, address: str) -> None:
        """Copy a local file here; a reader never sees half of it, and one that arrived short is none."""
        with self._asking(address):
            if self.is_local:
                with _appearing(Path(self.path(address))) as part:
                    shutil.copyfile(path, part)
                return
            try:
                self.fs.put_file(str(path), self.path(address), **self._parts)
            except FileNotFoundError as error:
                raise self._not_there() from error
        if self.size(address) != path.stat().st_size:
            raise StoreUnavailable(f"{self.url}/{address} arrived incomplete; run again")

    def write(self, content: bytes, address: str) -> None:
        """A note, whole or not at all."""
        with self._asking(address):
            if self.is_local:
                with _appearing(Path(self.path(address))) as part:
                    part.write_bytes(content)
                return
            try:
                self.fs.pipe_file(self.path(address), content)
            except FileNotFoundError as error:
                raise self._not_there() from error

    def fetch(self, address: str, folder: Path) -> Path:
        """A file as a local one: itself, or a copy in the folder. FileNotFoundError where there is none."""
        if self.is_local:
            return Path(self.path(address))
        path = folder / Path(address).name
        with self._asking(address):
            self.fs.get_file(self.path(address), str(path), **self._parts)
        return path

    def sha256(self, address: str) -> str:
        """Of what is kept here, read a piece at a time."""
        digest = hashlib.sha256()
        with self._asking(address), self.fs.open(self.path(address), "rb", block_size=4 * CHUNK) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def read(self, address: str) -> bytes | None:
        """A note in JSON, or None where there is none. One that came cut off is no note that is damaged."""
        with self._asking(address):
            try:
                path = self.path(address)
                content = Path(path).read_bytes() if self.is_local else bytes(self.fs.cat_file(path))
            except FileNotFoundError:
                return None
        if not content.endswith(b"}") and self.size(address) not in (len(content), None):
            raise StoreUnavailable(f"{self.url}/{address} could not be read to its end; run again")
        return content

    def remove(self, address: str) -> None:
        """Remove a file; one that is gone already is no fault."""
        with self._asking(address), suppress(FileNotFoundError):
            self.fs.rm_file(self.path(address))

    def files(self, folder: str = "") -> Iterator[Stored]:
        """All files of the place, or of a folder of it."""
        now = datetime.now(UTC).timestamp()
        found: dict[str, Any] = {}
        with self._asking(folder), suppress(FileNotFoundError):
            found = self.fs.find(self.path(folder).rstrip("/"), detail=True)
        for path, info in found.items():
            written: Any = info.get("mtime") or info.get("LastModified") or now
            moment = written.timestamp() if isinstance(written, datetime) else float(written)
            yield Stored(path.removeprefix(self.root).lstrip("/"), int(info["size"]), now - moment)

    def link(self, address: str, seconds: int) -> str:
        """Where a client opens a file; on S3 it needs no credentials for so long."""
        if self.is_local:
            return Path(self.path(address)).as_uri()
        with self._asking(address):
            return str(self.fs.sign(self.path(address), expiration=seconds))

    def end_uploads(self, older_than: float) -> int:
        """End uploads in parts that nobody has finished in so many seconds: on S3 they are kept, and paid for."""
        if not self.on_s3:
            return 0
        bucket, _, prefix = self.root.partition("/")
        before = datetime.now(UTC) - timedelta(seconds=older_than)
        cut: list[Any] = []
        with self._asking(""), suppress(FileNotFoundError):
            cut = [u for u in self.fs.list_multipart_uploads(bucket) if u["Key"].startswith(prefix)]
            cut = [u for u in cut if u["Initiated"] <= before]
            for upload in cut:
                self.fs.abort_mpu(bucket, upload["Key"], upload["UploadId"])
        return len(cut)

    def _not_there(self) -> StoreRefused:
        return StoreRefused(f"{self.url} is not there; create it first")

    @contextmanager
    def _asking(self, address: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except self._faults as error:
            raise store_error(f"{self.url}/{address}".rstrip("/"), error) from error

    @cached_property
    def _faults(self) -> tuple[type[Exception], ...]:
        if not self.on_s3:
            return (OSError,)
        from tasks.s3 import FAULTS  # noqa: PLC0415  # s3fs costs a second: only where it is needed

        return FAULTS


@contextmanager
def _appearing(final: Path) -> Iterator[Path]:
    """Where to write what appears by a rename, so that what is cut off is left under another name."""
    part = Path(f"{final}.{uuid.uuid4().hex}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
