"""A remote file system that fails as told: `faulty:///folder` keeps its files in a local folder."""

import errno
import os
import random
import shutil
import time
from pathlib import Path
from uuid import uuid4

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

SERVICE_UNAVAILABLE = OSError(errno.EBUSY, "503 Slow Down")  # what s3fs makes of it
FAULTS = {
    "raises": OSError(errno.EIO, "broken pipe"),
    "busy": SERVICE_UNAVAILABLE,
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "times out": TimeoutError("timed out"),
    "refuses": PermissionError(errno.EACCES, "Access Denied"),
}
KINDS = (*FAULTS, "truncates", "slow")


class Trouble:
    """What goes wrong: from the n-th call on, so many calls in a row."""

    def __init__(self, kind=None, first=0, calls=0):
        self.kind, self.first, self.calls, self.seen = kind, first, calls, 0

    @classmethod
    def of(cls, seed, most_calls):
        dice = random.Random(seed)
        return cls(dice.choice(KINDS), dice.randrange(most_calls), dice.choice((1, 2, 3, 1000)))

    def strikes(self):
        self.seen += 1
        if not self.first < self.seen <= self.first + self.calls:
            return False
        if self.kind in FAULTS:
            raise FAULTS[self.kind]
        if self.kind == "slow":
            time.sleep(0.005)
        return self.kind == "truncates"


class Faulty(AbstractFileSystem):
    """Every call may fail; a file appears whole or not at all, as on S3."""

    protocol = "faulty"
    trouble = Trouble()

    def __init__(self, **more):
        super().__init__(**more)
        self.inner = LocalFileSystem()

    def ls(self, path, detail=True, **more):
        self.trouble.strikes()
        return self.inner.ls(path, detail=detail)

    def info(self, path, **more):
        self.trouble.strikes()
        return self.inner.info(path)

    def cat_file(self, path, start=None, end=None, **more):
        cut = self.trouble.strikes()
        content = Path(path).read_bytes()
        return content[: len(content) // 2] if cut else content

    def get_file(self, rpath, lpath, **more):
        cut = self.trouble.strikes()
        shutil.copyfile(rpath, lpath)
        if cut:
            os.truncate(lpath, Path(lpath).stat().st_size // 2)

    def put_file(self, lpath, rpath, **more):
        self.trouble.strikes()
        Path(rpath).parent.mkdir(parents=True, exist_ok=True)
        part = Path(f"{rpath}.{uuid4().hex}")
        shutil.copyfile(lpath, part)
        part.replace(rpath)

    def pipe_file(self, path, value, **more):
        self.trouble.strikes()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        part = Path(f"{path}.{uuid4().hex}")
        part.write_bytes(value)
        part.replace(path)

    def rm_file(self, path):
        self.trouble.strikes()
        Path(path).unlink()

    def sign(self, path, expiration=None, **more):
        return f"faulty://{path}"

    def _open(self, path, mode="rb", **more):
        self.trouble.strikes()
        return Path(path).open(mode)


fsspec.register_implementation("faulty", Faulty, clobber=True)
