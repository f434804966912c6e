"""Archives: what is read, what is ignored, and what is refused before a byte of it is written."""

import io
import struct
import tarfile
import tracemalloc
import zipfile

import pytest
from pydantic import ValidationError

from schemas.rejections import ArchiveRejected, DuplicateName, Rejections
from schemas.settings import settings
from tasks.dataset.archive import extract_archive
from tasks.manifests import Extracted
from tasks.storage.store import store
from tests.support import clips


@pytest.fixture
def extracted(tmp_path):
    def extract(content):
        raw = clips.zipped(content) if isinstance(content, dict) else content
        return extract_archive(clips.raw_archive(tmp_path / "data.zip", raw))

    return extract


def entry(name, content=b"x", **fields):
    """A zip of one entry with some of its fields changed."""
    buffer = io.BytesIO()
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr(info, content)
    return buffer.getvalue()


def refused(extracted, content):
    with pytest.raises(ArchiveRejected) as caught:
        extracted(content)
    [detail] = caught.value.details()
    assert (detail.loc, detail.type) == (("body", "training_data_url"), "invalid_archive")
    return str(caught.value)


def test_every_file_is_in_the_store_under_its_content(extracted):
    result = extracted({"a/x.wav": b"one", "a/x.txt": b"two"})
    assert [file.name for file in result.files] == ["a/x.wav", "a/x.txt"]
    with store().media(result.files[0].sha256) as path:
        assert path.read_bytes() == b"one"


def test_macos_metadata_and_hidden_files_are_ignored(extracted):
    hidden = ["__MACOSX/._x.wav", "a/__MACOSX/y.wav", ".DS_Store", "a/.hidden/z.wav", "Thumbs.db", "a/desktop.ini"]
    result = extracted(dict.fromkeys(hidden, b"junk") | {"x.wav": b"one"})
    assert [file.name for file in result.files] == ["x.wav"] and result.ignored == tuple(sorted(hidden))


def test_backslashes_separate_folders(extracted):
    assert extracted(entry("a\\x.wav")).files[0].name == "a/x.wav"


@pytest.mark.parametrize("name", ["../x.wav", "a/../../x.wav", "/abs.wav", "C:/x.wav", "..\\..\\evil.wav", "C:\\x.wav"])
def test_paths_that_lead_out_of_the_archive_are_refused(extracted, name):
    assert "unsafe path" in refused(extracted, entry(name))


def test_links_are_refused(extracted):
    assert "is a link" in refused(
        extracted, entry("x.wav", b"/etc/passwd", create_system=3, external_attr=0o120777 << 16)
    )


def test_duplicate_entries_are_refused(extracted):
    buffer = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("a.wav", b"1")
        bundle.writestr("a.wav", b"2")
    with pytest.raises(DuplicateName):
        extracted(buffer.getvalue())


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a zip"), (b"<!doctype html><title>Sign in", "web page"), (b"PK\x03\x04 cut off", "not a zip")],
)
def test_what_is_no_zip_is_refused(extracted, content, reason):
    assert reason in refused(extracted, content)


def test_a_truncated_zip_and_an_empty_one_are_refused(extracted):
    whole = clips.zipped({"a.wav": b"x" * 1000})
    assert "incomplete" in refused(extracted, whole[:600])
    assert "empty" in refused(extracted, clips.zipped({}))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_is_refused_whatever_its_name(extracted, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as bundle:
        bundle.addfile(tarfile.TarInfo("a.wav"))
    assert "not a zip" in refused(extracted, buffer.getvalue())


def test_junk_before_and_after_the_archive_is_accepted(extracted):
    whole = clips.zipped({"a.wav": b"x" * 1000, "b.wav": b"y" * 1000})
    assert len(extracted(b"junk" * 10 + whole).files) == 2
    assert len(extracted(whole + b"junk" * 10).files) == 2


def test_a_zip64_archive_is_accepted(extracted):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle, bundle.open("a.wav", "w", force_zip64=True) as target:
        target.write(b"one")
    assert [file.size for file in extracted(buffer.getvalue()).files] == [3]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_method_that_can_be_read_is_and_its_damage_is_refused_by_name(extracted, method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as bundle:
        bundle.writestr("a.wav", bytes(range(256)) * 8)
    whole = bytearray(buffer.getvalue())
    assert extracted(bytes(whole)).files[0].size == 2048
    whole[60:80] = bytes(20)
    assert refused(extracted, bytes(whole)).startswith("a.wav: cannot be unpacked")


def test_names_in_an_encoding_of_their_own_are_accepted(extracted):
    sent = "\u732b.wav".encode("shift-jis")
    whole = clips.zipped({"ab.wav": b"x"}).replace(b"ab.wav", sent)
    assert [file.size for file in extracted(whole).files] == [1]


def test_a_name_ends_where_a_zero_byte_stands(extracted):
    whole = clips.zipped({"a.wav#.txt": b"x"}).replace(b"#", b"\0")
    assert [file.name for file in extracted(whole).files] == ["a.wav"]
    hidden = clips.zipped({"../a.wav#.txt": b"x"}).replace(b"#", b"\0")
    assert "unsafe path" in refused(extracted, hidden)


@pytest.mark.parametrize("declared", [10, 1000])
def test_a_file_that_is_not_as_long_as_declared_is_refused(extracted, declared):
    whole = bytearray(clips.zipped({"a.wav": b"x" * 100}))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = whole.index(mark) + offset
        whole[at : at + 4] = struct.pack("<I", declared)
    assert refused(extracted, bytes(whole)).startswith("a.wav: cannot be unpacked")


def test_a_bad_checksum_is_refused_by_the_entrys_name(extracted):
    whole = bytearray(clips.zipped({"good.wav": b"g" * 100, "bad.wav": b"x" * 100}))
    whole[whole.index(b"x" * 100)] ^= 1
    assert refused(extracted, bytes(whole)).startswith("bad.wav: cannot be unpacked")


def test_an_encrypted_entry_is_refused(extracted):
    whole = bytearray(clips.zipped({"a.wav": b"x"}))
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    assert "a.wav: is encrypted" in refused(extracted, bytes(whole))


def test_an_unknown_packing_method_is_refused(extracted):
    whole = bytearray(clips.zipped({"a.wav": b"x"}))
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = whole.index(mark) + offset
        whole[at : at + 2] = struct.pack("<H", 99)
    assert "method that cannot be read" in refused(extracted, bytes(whole))


def test_names_that_claim_utf8_and_are_not_are_refused(extracted):
    whole = bytearray(clips.zipped({"\u00e9.wav": b"x"})).replace("\u00e9".encode(), b"\xff\xff")
    assert "not valid UTF-8" in refused(extracted, bytes(whole))


def test_an_archive_in_the_archive_is_refused(extracted):
    assert "another archive" in refused(extracted, {"a.wav": b"x", "more.zip": b"y"})


def test_a_bomb_is_refused(extracted):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("a.wav", bytes(101 * 2**20))
    assert "no media file does" in refused(extracted, buffer.getvalue())


def test_entries_that_share_their_bytes_are_refused(extracted):
    whole = bytearray(clips.zipped({"a.wav": b"x" * 50, "b.wav": b"x" * 50}))
    second = whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 1)
    whole[second + 42 : second + 46] = struct.pack("<I", 0)  # b's bytes are said to be where a's are
    assert "overlaps" in refused(extracted, bytes(whole))


def test_one_file_that_is_listed_many_times_is_refused(extracted):
    whole = clips.zipped({"a.wav": b"x" * 50})
    listed, end = whole.index(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    names = [whole[listed:end].replace(b"a.wav", name) for name in (b"a.wav", b"b.wav", b"c.wav")]
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, 3 * (end - listed), listed, 0)
    assert "overlaps" in refused(extracted, whole[:listed] + b"".join(names) + last)


# --- a hostile archive costs little -------------------------------------------------------------------------------


def test_many_small_bombs_are_a_bomb_and_nothing_of_them_is_kept(extracted, home):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in ("a.wav", "b.wav"):
            bundle.writestr(name, bytes(60 * 2**20))
    assert "unpacks to 125829120 bytes from" in refused(extracted, buffer.getvalue())
    assert len(list((home / "store" / "files").glob("*[!n]"))) == 1  # the archive itself, not its note (.json)


def test_an_archive_that_lists_too_much_is_refused_before_its_list_is_read(extracted, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for number in range(20_001):
            bundle.writestr(f"{number}.txt", b"")
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", None)
    assert "20001 entries, at most 20000" in refused(extracted, buffer.getvalue())


@pytest.mark.parametrize("zip64", [False, True])
def test_a_list_that_is_longer_than_it_says_is_bounded_by_its_bytes(extracted, monkeypatch, zip64):
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", None)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 0xFFFFFFFE, 0, 0)
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 1 << 40, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    assert "its list of files has" in refused(extracted, (record + locator if zip64 else b"") + end)


def test_a_large_file_is_never_in_memory_as_a_whole(tmp_path):
    archive = clips.raw_archive(tmp_path / "data.zip", clips.zipped({"a.wav": bytes(64 * 2**20)}))
    tracemalloc.start()
    extract_archive(archive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("MAX_ARCHIVE_ENTRIES", "3 entries, at most 2"), ("MAX_ARCHIVE_BYTES", "3 bytes unpacked, at most 2")],
)
def test_limits_hold_before_anything_is_unpacked(extracted, monkeypatch, limit, reason):
    monkeypatch.setenv(f"LTX_FLOWS_{limit}", "2")
    settings.cache_clear()
    assert reason in refused(extracted, {"a.wav": b"1", "b.wav": b"2", "c.wav": b"3"})


def test_a_single_file_has_a_limit_too(extracted, monkeypatch):
    monkeypatch.setenv("LTX_FLOWS_MAX_ENTRY_BYTES", "2")
    settings.cache_clear()
    assert "a.wav: 3 bytes unpacked, at most 2" in refused(extracted, {"a.wav": b"123"})


def test_all_bad_entries_are_named_together(extracted):
    with pytest.raises(Rejections) as caught:
        extracted({"../a.wav": b"1", "good.wav": b"2", "b.zip": b"3"})
    assert [fault.file for fault in caught.value.faults] == ["../a.wav", "b.zip"]


def test_a_manifest_whose_file_is_gone_is_no_manifest(extracted, home):
    result = extracted({"a.wav": b"x"})
    (home / "store" / "files" / result.files[0].sha256).unlink()
    with pytest.raises(ValidationError, match=r"file gone: a.wav"):
        Extracted.model_validate_json(result.model_dump_json())


def test_an_entry_without_a_name_is_no_sample_and_no_trouble(extracted):
    nameless = bytearray(clips.zipped({"a": b"x"}))
    for mark, offset in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        nameless[nameless.index(mark) + offset] = 0
        nameless[nameless.index(mark) + offset + 2] = 1  # its letter is an extra field now
    assert [file.name for file in extracted(bytes(nameless)).files] == [""]


def test_very_long_and_odd_names_are_only_names(extracted):
    names = ["n" * 300 + ".wav", "a", "a/b.wav", "caf\u00e9.wav"]
    assert [file.name for file in extracted(dict.fromkeys(names, b"x")).files] == names
