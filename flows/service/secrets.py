"""Secrets that this installation has made for itself, in HOME/service, readable by its owner alone."""

import os
import secrets
from functools import lru_cache
from pathlib import Path

from schemas.settings import settings


def secret(name: str, size: int) -> bytes:
    """The secret of that name, made when it is first asked for."""
    return _secret(settings().home_folder / "service" / f"{name}.secret", size)


@lru_cache(maxsize=16)
def _secret(path: Path, size: int) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(f".{os.getpid()}.part")
    if not path.exists():
        handle = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(size))
        try:
            os.link(part, path)  # the first one wins
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_bytes()
