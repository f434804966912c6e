"""Matching: which files are a sample, whose caption is whose, what an archive may not hold."""

import pytest

from schemas.layout import AUDIO_PAIRS, MASKED_PAIRS, PLAIN_AUDIO, PLAIN_VIDEOS, VIDEO_PAIRS
from schemas.rejections import DuplicateName, MissingRole, NothingFound, Rejections, UnsupportedFile
from tasks.dataset.captions import decode, with_trigger
from tasks.dataset.matching import match_samples
from tasks.manifests import Extracted
from tasks.storage.store import keep


@pytest.fixture
def matched(tmp_path):
    """Match an archive of empty media files; captions have content."""

    def match(layout, *names, **captions):
        files = []
        for name in (*names, *captions):
            (tmp_path / "file").write_bytes(captions.get(name, b"") or b"")
            files.append(keep(tmp_path / "file", name))
        return match_samples(Extracted(archive="data.zip", files=tuple(files), ignored=(".DS_Store",)), layout)

    return match


def names(result):
    return [sample.name for sample in result.samples]


def ignored(result):
    return [one.file for one in result.ignored]


def files(sample):
    return {role: file.name for role, file in sample.files.items()}


# --- samples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["wav", "mp3", "flac", "ogg", "aac", "m4a", "WAV"])
def test_every_listed_audio_format_is_a_sample(matched, extension):
    assert names(matched(PLAIN_AUDIO, f"a.{extension}")) == ["a"]


def test_a_caption_belongs_to_the_clip_of_its_base_name(matched):
    result = matched(PLAIN_AUDIO, "a.wav", "b.wav", **{"a.txt": b" the first \n"})
    assert [(s.name, s.caption) for s in result.samples] == [("a", "the first"), ("b", "")]
    assert str(result.warnings[0]) == "b: no caption"


def test_the_same_video_name_in_other_folders_is_another_sample_with_its_own_caption(matched):
    result = matched(PLAIN_VIDEOS, "a/clip.mp4", "b/clip.mp4", **{"a/clip.txt": b"of a", "b/clip.txt": b"of b"})
    assert [(s.name, s.caption) for s in result.samples] == [("a/clip", "of a"), ("b/clip", "of b")]


def test_two_formats_of_one_video_name_are_two_samples_that_share_a_caption(matched):
    result = matched(PLAIN_VIDEOS, "a.mp4", "a.mov", **{"a.txt": b"shared"})
    assert [(s.name, s.caption) for s in result.samples] == [("a.mov", "shared"), ("a.mp4", "shared")]


def test_a_caption_in_another_folder_is_not_a_videos_but_a_sounds(matched):
    assert matched(PLAIN_VIDEOS, "a/clip.mp4", **{"clip.txt": b"far"}).samples[0].caption == ""
    assert matched(PLAIN_AUDIO, "a/clip.wav", **{"clip.txt": b"far"}).samples[0].caption == "far"


def test_a_pair_is_two_files_of_one_base_name_whatever_their_case_and_folder(matched):
    [sample] = matched(AUDIO_PAIRS, "in/Take_START.wav", "out/take_end.MP3", **{"texts/take.txt": b"caption"}).samples
    assert files(sample) == {"reference": "in/Take_START.wav", "target": "out/take_end.MP3"}
    assert sample.caption == "caption"


def test_only_the_last_suffix_is_taken_off(matched):
    assert names(matched(AUDIO_PAIRS, "my_start_take_start.wav", "my_start_take_end.wav")) == ["my_start_take"]


@pytest.mark.parametrize(
    "mask", ["n_mask.png", "n_mask.jpg", "n_mask.jpeg", "n_mask.bmp", "n_mask.webp", "n_mask.webm"]
)
def test_a_triplet_has_an_image_or_a_video_as_its_mask(matched, mask):
    [sample] = matched(MASKED_PAIRS, "n_start.mp4", "n_end.webm", mask).samples
    assert files(sample) == {"reference": "n_start.mp4", "target": "n_end.webm", "mask": mask}


def test_a_caption_next_to_its_clip_comes_before_one_elsewhere(matched):
    result = matched(PLAIN_AUDIO, "x/a.wav", **{"y/a.txt": b"far", "x/a.txt": b"near"})
    assert result.samples[0].caption == "near" and ignored(result) == [".DS_Store", "y/a.txt"]


def test_captions_that_could_both_be_meant_are_not_guessed(matched):
    result = matched(PLAIN_AUDIO, "a.wav", **{"x/a.txt": b"one", "y/a.txt": b"other"})
    assert result.samples[0].caption == "" and "x/a.txt and y/a.txt" in result.warnings[0].text


def test_names_are_compared_whatever_way_their_accents_are_written(matched):
    result = matched(PLAIN_AUDIO, "cafe\u0301.wav", **{"caf\u00e9.txt": b"found"})
    assert [(s.name, s.caption) for s in result.samples] == [("caf\u00e9", "found")]


def test_files_that_are_no_media_are_ignored_and_said_so(matched):
    result = matched(PLAIN_AUDIO, "a.wav", "README.md", "meta.json", **{"orphan.txt": b"x"})
    assert names(result) == ["a"] and ignored(result) == [".DS_Store", "README.md", "meta.json", "orphan.txt"]


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webm", "a.gif", "a.mp3"])
def test_images_and_unlisted_media_are_refused_among_videos(matched, name):
    with pytest.raises(UnsupportedFile) as refused:
        matched(PLAIN_VIDEOS, "good.mp4", name)
    [detail] = refused.value.details()
    assert (detail.loc, detail.type, detail.input) == (("body", "training_data_url"), "unsupported_video_format", name)


def test_an_image_is_taken_as_a_mask_only(matched):
    with pytest.raises(UnsupportedFile, match=r"n_start.png: images are not taken as reference"):
        matched(MASKED_PAIRS, "n_start.png", "n_start.mp4", "n_end.mp4", "n_mask.png")


def test_a_video_without_a_suffix_is_refused_among_pairs(matched):
    with pytest.raises(UnsupportedFile, match=r"loose.mp4: its name ends in none of _start, _end"):
        matched(VIDEO_PAIRS, "a_start.mp4", "a_end.mp4", "loose.mp4")


@pytest.mark.parametrize(("layout", "other"), [(PLAIN_AUDIO, "x/a.wav"), (PLAIN_AUDIO, "A.mp3")])
def test_names_are_unique_across_the_archive(matched, layout, other):
    with pytest.raises(DuplicateName) as refused:
        matched(layout, "a.wav", other)
    assert (refused.value.file, refused.value.other) == (other, "a.wav")


@pytest.mark.parametrize("layout", [PLAIN_AUDIO, PLAIN_VIDEOS])
def test_two_ways_to_write_one_accent_are_one_name(matched, layout):
    extension = layout.slots[0].extensions[0]
    with pytest.raises(DuplicateName):
        matched(layout, f"caf\u00e9{extension}", f"cafe\u0301{extension}")


def test_videos_that_differ_in_case_alone_are_two_samples(matched):
    assert names(matched(PLAIN_VIDEOS, "a.mp4", "A.mp4")) == ["A", "a"]


@pytest.mark.parametrize(
    ("layout", "given", "role", "wanted"),
    [
        (AUDIO_PAIRS, ["n_end.wav"], "reference", "n_start.wav"),
        (AUDIO_PAIRS, ["n_start.wav"], "target", "n_end.wav"),
        (VIDEO_PAIRS, ["n_start.mp4"], "target", "n_end.mp4"),
        (MASKED_PAIRS, ["n_start.mp4", "n_end.mp4"], "mask", "n_mask.mp4"),
        (MASKED_PAIRS, ["n_start.mp4", "n_mask.png"], "target", "n_end.mp4"),
    ],
)
def test_a_missing_piece_is_named(matched, layout, given, role, wanted):
    with pytest.raises(MissingRole) as refused:
        matched(layout, *given)
    assert (refused.value.role, refused.value.wanted) == (role, wanted)


def test_all_faults_of_an_archive_are_told_together(matched):
    with pytest.raises(Rejections) as refused:
        matched(VIDEO_PAIRS, "a_start.mp4", "b_end.mp4", "c.png", "d_start.mp4", "x/d_start.mp4", "d_end.mp4")
    assert [type(fault).__name__ for fault in refused.value.faults] == [
        "UnsupportedFile",
        "DuplicateName",
        "MissingRole",
        "MissingRole",
    ]


def test_an_archive_without_a_sample_is_refused_with_the_formats_that_are_wanted(matched):
    with pytest.raises(NothingFound) as refused:
        matched(PLAIN_AUDIO, "README.md")
    assert refused.value.details()[0].type == "archive_file_count_below_minimum"
    assert ".flac" in refused.value.supported_extensions


# --- captions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    ["é 猫".encode(), "é 猫".encode("utf-8-sig"), "é 猫".encode("utf-16"), b"\xfe\xff" + "é 猫".encode("utf-16-be")],
)
def test_captions_are_read_in_the_encodings_that_editors_write(raw):
    assert decode(raw + b"") == "é 猫"


def test_a_caption_in_no_unicode_encoding_is_latin_1():
    assert decode("café".encode("latin-1")) == "café"


@pytest.mark.parametrize(
    ("caption", "trigger", "prompt"),
    [
        ("a cat", "", "a cat"),
        ("a cat", "st9le", "st9le a cat"),
        ("", "st9le", "st9le"),
        ("st9le a cat", "st9le", "st9le a cat"),
        ("st9le, a cat", " st9le ", "st9le, a cat"),
        ("avocado", "av", "av avocado"),
    ],
)
def test_the_trigger_phrase_stands_in_front_once(caption, trigger, prompt):
    assert with_trigger(caption, trigger) == prompt
