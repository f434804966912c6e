"""2,000 broken archives and media files: each is accepted or refused with a 422, and leaves nothing lying around."""

import io
import json
import random
import struct
import tempfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.layout import MASKED_PAIRS, PLAIN_AUDIO, PLAIN_VIDEOS
from schemas.media import Bucket, FitOptions, Picture, Sample
from schemas.plan import Track
from schemas.rejections import InputRejected
from tasks.dataset.archive import extract_archive
from tasks.dataset.matching import match_samples
from tasks.fit import fit_samples
from tasks.storage.store import keep
from tests.support import clips
from tests.support.sweeps import swept

pytestmark = pytest.mark.slow(seconds=15)

ARCHIVES, MEDIA, RANDOM = 1770, 180, 50  # cases of each kind; only the last two start programs
BATCHES = 10
BUCKET = Bucket.of(Picture(width=32, height=32, frames=9, fps=24))
VIDEO = (Track(role="target", modality="video"),)
AUDIO = (Track(role="target", modality="audio"),)
FITTING = FitOptions(auto_scale=True, preserve_pitch=False, split_above_seconds=30.0)
MARKS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06")
NAMES = (
    *("a.wav", "a.txt", "../a.wav", "/a.wav", "C:\\a.wav", "x/a.wav", "a_start.mp4", "a_end.mp4", "a_mask.png", "\0"),
    *("__MACOSX/._a.wav", "caf\u00e9.wav", "cafe\u0301.wav", "n" * 300 + ".wav", "a.wav/b.wav", "", ".", "b.zip"),
)


@pytest.fixture
def workplace(tmp_path, monkeypatch, home):
    """The only two folders that may be written to; nothing else may appear in the one around them."""
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert {path.name for path in tmp_path.iterdir()} <= {"work", "home"}
    assert list((tmp_path / "work").iterdir()) == []


def outcome(work):
    """`accepted`, or the body of a 422; anything else is the bug that is looked for."""
    try:
        work()
    except InputRejected as refused:
        body = {"detail": [detail.model_dump(mode="json") for detail in refused.details()]}
        assert body["detail"] and json.loads(json.dumps(body)) == body
        assert all(detail["msg"] and detail["type"] for detail in body["detail"])
        return "refused"
    return "accepted"


def kept(content, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        return keep(path, name)


# --- mutations ----------------------------------------------------------------------------------------------------


def scratched(chance, content):
    """A few bytes changed, a piece cut out, doubled or zeroed, or the end cut off."""
    raw = bytearray(content)
    at, length = chance.randrange(len(raw)), chance.randrange(1, 64)
    match chance.randrange(6):
        case 0:
            raw[at : at + length] = bytes(len(raw[at : at + length]))
        case 1:
            del raw[at : at + length]
        case 2:
            raw[at:at] = raw[at : at + length]
        case 3:
            del raw[at:]
        case _:
            for _ in range(chance.randrange(1, 9)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
    return bytes(raw)


def mislabelled(chance, content):
    """A field of a zip's own records changed: sizes, offsets, flags, methods, counts, lengths."""
    raw = bytearray(content)
    found = [at for mark in MARKS for at in range(len(raw)) if raw.startswith(mark, at)]
    at = chance.choice(found or [0]) + chance.randrange(4, 46)
    value = chance.choice((0, 1, 0xFF, 0xFFFF, 0xFFFFFFFF, chance.randrange(1 << 32)))
    size = chance.choice((1, 2, 4))
    raw[at : at + size] = struct.pack("<I", value)[:size][: max(len(raw) - at, 0)]
    return bytes(raw)


def a_zip(chance, suffix):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", chance.choice((0, 8, 12, 14))) as bundle:
        for number in range(chance.randrange(5)):
            usual = chance.random() < 0.8
            info = zipfile.ZipInfo(f"{number}.{chance.choice((suffix, 'txt'))}" if usual else chance.choice(NAMES))
            info.external_attr = 0 if usual else chance.choice((0o100644, 0o120777, 0o040755)) << 16
            bundle.writestr(info, chance.randbytes(chance.randrange(200)), bundle.compression)
    return buffer.getvalue()


def broken_zip(number):
    chance = random.Random(f"archive {number}")
    content = a_zip(chance, ("wav", "mp4", "mp4")[number % 3])
    for _ in range(chance.choice((0, 1, 1, 2, 3))):
        content = chance.choice((scratched, mislabelled))(chance, content or b"\0")
    return content


def wrong_head(chance, content):
    """Most of what a decoder believes stands in the first bytes, or in mp4's last."""
    raw = bytearray(content)
    for _ in range(chance.randrange(1, 12)):
        at = chance.randrange(min(len(raw), 600))
        raw[at if chance.random() < 0.7 else -at - 1] = chance.choice((0, 255, chance.randrange(256)))
    return bytes(raw)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """One small file of each kind."""
    folder = tmp_path_factory.mktemp("seeds")
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=24:d=0.5", "-f", "lavfi", "-i", "sine=d=0.5")
    videos = [folder / f"a{suffix}" for suffix in (".mp4", ".mov", ".mkv", ".avi")]
    sounds = [folder / f"a{suffix}" for suffix in (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac")]
    for path in videos:
        clips.ffmpeg(*picture, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", str(path))
    for path in sounds:
        clips.ffmpeg("-f", "lavfi", "-i", "sine=d=0.6", str(path))
    return [(path.name, path.read_bytes()) for path in (*videos, *sounds)]


# --- the passes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", swept(range(BATCHES), short=2))
def test_broken_archives_are_accepted_or_refused(workplace, batch):
    layouts = (PLAIN_AUDIO, PLAIN_VIDEOS, MASKED_PAIRS)

    def read(number):
        match_samples(extract_archive(kept(broken_zip(number), "data.zip")), layouts[number % 3])

    with warnings.catch_warnings(action="ignore", category=UserWarning):  # zipfile's, while duplicates are made
        found = [outcome(lambda: read(number)) for number in range(batch, ARCHIVES, BATCHES)]  # noqa: B023
    assert len(found) == ARCHIVES // BATCHES and set(found) == {"accepted", "refused"}


def fitted(name, content):
    film = name.endswith((".mp4", ".mov", ".mkv", ".avi"))
    tracks, bucket = (VIDEO, BUCKET) if film else (AUDIO, Bucket(seconds=0.5))
    sample = Sample(name="a", caption="", files={"target": kept(content, name)})
    fit_samples((sample,), bucket, tracks, FITTING)


@pytest.mark.parametrize("batch", swept(range(BATCHES), short=2))
def test_broken_media_are_accepted_or_refused(workplace, seeds, batch):
    def case(number):
        chance = random.Random(f"media {number}")
        name, content = seeds[number % len(seeds)]
        return outcome(lambda: fitted(name, chance.choice((scratched, wrong_head))(chance, content)))

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(case, range(batch, MEDIA, BATCHES)))
    assert len(found) == MEDIA // BATCHES


def test_random_bytes_with_a_media_suffix_are_refused(workplace):
    def case(number):
        chance = random.Random(f"bytes {number}")
        suffix = chance.choice(("mp4", "mov", "mkv", "avi", "wav", "mp3", "flac", "ogg", "m4a", "aac"))
        return outcome(lambda: fitted(f"a.{suffix}", chance.randbytes(chance.randrange(4096))))

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(case, range(RANDOM)))
    assert found.count("refused") >= RANDOM * 0.9
