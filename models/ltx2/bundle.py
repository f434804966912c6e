"""The folder of a base model: where it is, whether its files are whole, and a fingerprint of each component."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from schemas.errors import BaseModelUnavailable

TINY = "tiny"
TINY_FOLDER = "tiny-v2"  # raise the number when models/ltx2/tiny.py changes what it writes
COMPONENTS = ("transformer", "connectors", "vae", "audio_vae", "vocoder", "text_encoder", "tokenizer")
RANDOM_WEIGHTS = (
    f"RANDOM WEIGHTS: the base model `{TINY}` is for trying things out, and what is trained on it is of no use; for "
    "trainings that count, set LTX_FLOWS_BASE_MODEL to a folder or a Hub id such as diffusers/LTX-2.3-Diffusers"
)
BLOCKS, BLOCK_BYTES = 64, 1 << 16  # of a weight file that its fingerprint reads
AGAIN = "fetch it again, or remove it where it came from the Hub: the next run downloads it"
ADVICE = (
    "the base model is a diffusers-format LTX-2.3 folder with " + ", ".join(COMPONENTS) + ", or a Hub id such as "
    "diffusers/LTX-2.3-Diffusers: accept its licence on huggingface.co and log in with `hf auth login`; "
    f"`{TINY}` needs neither"
)


def is_tiny(base_model: str) -> bool:
    """Whether the base model is the tiny one, whose weights are random and whose previews are noise."""
    return base_model == TINY


def is_here(base_model: str) -> bool:
    """Whether the base model is a folder of this machine, or made on it; any other name is an id on the Hub."""
    return is_tiny(base_model) or Path(base_model).expanduser().is_dir()


def resolve(base_model: str, home: Path) -> str:
    """The base model's folder; of `tiny` the tiny bundle's, which is built once, and anew where it is damaged.

    One process at a time: see tasks/base_model.py.

    Raises:
        BaseModelUnavailable: a file of the folder is shorter than it says.
    """
    from models.ltx2 import tiny  # noqa: PLC0415

    if not is_tiny(base_model):
        _check_lengths(Path(base_model).expanduser())
        return base_model
    final = home / "base" / TINY_FOLDER
    final.parent.mkdir(parents=True, exist_ok=True)
    if not tiny.is_whole(final):
        shutil.rmtree(final, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{TINY_FOLDER}.", suffix=".part", dir=final.parent))
        tiny.build(part)
        part.rename(final)
    return str(final)


def _check_lengths(folder: Path) -> None:
    """Refuse weight files that a broken download or copy has cut, before anything is computed with the others."""
    for path in sorted(folder.glob("*/*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
            try:
                ends = [entry["data_offsets"][1] for name, entry in json.loads(file.read(min(header, size))).items()
                        if name != "__metadata__"]  # fmt: skip
            except (ValueError, KeyError, TypeError, AttributeError):
                ends = [size]
        if size != 8 + header + max(ends, default=0):
            raise BaseModelUnavailable(
                f"{path} is damaged: it has {size} bytes, and its header says otherwise; {AGAIN}"
            )


def check_headers(folder: Path) -> int:
    """Check a base model's files by their headers and indexes alone; return the number of weights.

    Raises:
        BaseModelUnavailable: one is missing or cut, or it is no LTX-2.3.
    """
    for component in COMPONENTS:
        folder_of(str(folder), component)
    _check_lengths(folder)
    for index in sorted(folder.glob("*/*.safetensors.index.json")):
        shards = set(_json(index)["weight_map"].values())
        if gone := sorted(shard for shard in shards if not (index.parent / shard).is_file()):
            raise BaseModelUnavailable(f"{index.parent} lacks {len(gone)} of its files, e.g. {gone[0]}; {AGAIN}")
    if not _json(folder / "transformer" / "config.json").get("cross_attn_mod"):
        raise BaseModelUnavailable(f"{folder} is not an LTX-2.3: its transformer lacks text modulation")
    return sum(_count(path) for path in folder.glob("*/*.safetensors"))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, FileNotFoundError) as error:
        raise BaseModelUnavailable(f"{path} cannot be read ({error}); {AGAIN}") from error


def _count(path: Path) -> int:
    with path.open("rb") as file:
        names = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return len(names.keys() - {"__metadata__"})


def fingerprint(base: str, component: str) -> str:
    """Fingerprint of a component's weights, for cache keys: sha256 over its files.

    Small files count whole; weight files by name, size and 64 evenly spaced blocks, so that 40 GB stay cheap.
    """
    digest = hashlib.sha256()
    folder = folder_of(base, component)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}\0{size}\0".encode())
        with path.open("rb") as file:
            if path.suffix != ".safetensors" or size <= BLOCKS * BLOCK_BYTES:
                digest.update(file.read())
                continue
            for block in range(BLOCKS):
                file.seek(block * (size - BLOCK_BYTES) // (BLOCKS - 1))
                digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()


def folder_of(base: str, component: str) -> Path:
    """The folder of a component's files on this machine."""
    folder = Path(base).expanduser() / component
    if not folder.is_dir():
        raise BaseModelUnavailable(f"{base} has no folder {component}; {ADVICE}")
    return folder
