"""Files that no sample uses: why each is ignored, and how a caption would have to be called."""

import pytest

from schemas.layout import AUDIO_PAIRS, MASKED_PAIRS, PLAIN_AUDIO, PLAIN_VIDEOS, VIDEO_PAIRS
from tasks.dataset.matching import match_samples
from tasks.manifests import Extracted
from tasks.storage.store import keep

PLAIN = {PLAIN_AUDIO: "wav", PLAIN_VIDEOS: "mp4"}
PAIRED = {AUDIO_PAIRS: "wav", VIDEO_PAIRS: "mp4", MASKED_PAIRS: "mp4"}


@pytest.fixture
def matched(tmp_path):
    """Match an archive of these names; each file has its name as content."""

    def match(layout, *names):
        files = []
        for name in names:
            (tmp_path / "file").write_text(name)
            files.append(keep(tmp_path / "file", name))
        return match_samples(Extracted(archive="data.zip", files=tuple(files), ignored=()), layout)

    return match


def clips_of(layout, name):
    if layout in PLAIN:
        return [f"{name}.{PLAIN[layout]}"]
    return [f"{name}{slot.suffix}.{PAIRED[layout]}" for slot in layout.slots]


LAYOUTS = [*PLAIN, *PAIRED]
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=["sounds", "videos", "a2a", "av2av", "masked"])


# --- captions without case ----------------------------------------------------------------------------------------


@each_layout
@pytest.mark.parametrize("caption", ["walk.txt", "walk.TXT", "Walk.txt", "WALK.Txt"])
def test_a_captions_name_is_read_without_case_in_every_layout(matched, layout, caption):
    result = matched(layout, *clips_of(layout, "walk"), caption)
    assert (result.samples[0].caption, result.ignored) == (caption, ())


@each_layout
def test_the_caption_that_is_spelled_as_its_clip_comes_first(matched, layout):
    result = matched(layout, *clips_of(layout, "Walk"), "walk.txt", "Walk.txt")
    assert result.samples[0].caption == "Walk.txt"
    assert [(one.file, one.reason) for one in result.ignored] == [
        ("walk.txt", "not used: the caption of Walk is Walk.txt")
    ]


def test_a_caption_that_is_spelled_as_one_clip_is_not_anothers(matched):
    result = matched(PLAIN_VIDEOS, "walk.mp4", "Walk.mp4", "walk.txt")
    assert {sample.name: sample.caption for sample in result.samples} == {"Walk": "", "walk": "walk.txt"}


def test_two_captions_that_differ_from_their_clip_in_case_alone_are_not_guessed(matched):
    result = matched(PLAIN_VIDEOS, "walk.mp4", "Walk.txt", "WALK.txt")
    assert result.samples[0].caption == ""
    assert {one.reason for one in result.ignored} == {
        "one of several captions that walk could have, so none is used: keep one"
    }


# --- names that are nearly right ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "stray", "reason"),
    [
        (PLAIN_VIDEOS, "s1.mp4.txt", "not the name of a caption: rename it to s1.txt"),
        (PLAIN_AUDIO, "S1.WAV.txt", "not the name of a caption: rename it to s1.txt"),
        (VIDEO_PAIRS, "s1_end.txt", "not the name of a caption: rename it to s1.txt"),
        (VIDEO_PAIRS, "s1_start.mp4.TXT", "not the name of a caption: rename it to s1.txt"),
        (MASKED_PAIRS, "s1_mask.txt", "not the name of a caption: rename it to s1.txt"),
        (PLAIN_VIDEOS, "texts/s1.txt", "not the name of a caption: move it to s1.txt"),
        (PLAIN_VIDEOS, "orphan.txt", "a caption without a clip: no sample is called orphan"),
        (AUDIO_PAIRS, "orphan_end.txt", "a caption without a clip: no sample is called orphan_end"),
        (PLAIN_VIDEOS, "s1.caption", "not read as a caption: write its text into s1.txt"),
        (PLAIN_VIDEOS, "s1.mp4.json", "not read as a caption: write its text into s1.txt"),
        (AUDIO_PAIRS, "s1_end.md", "not read as a caption: write its text into s1.txt"),
    ],
)
def test_a_caption_by_another_name_is_told_the_name_it_should_have(matched, layout, stray, reason):
    result = matched(layout, *clips_of(layout, "s1"), stray)
    [ignored] = result.ignored
    assert (ignored.file, ignored.reason, ignored.meant_as_caption) == (stray, reason, True)
    assert result.samples[0].caption == ""


@each_layout
def test_a_caption_that_takes_the_name_it_is_told_is_used(matched, layout):
    stray = f"elsewhere/{clips_of(layout, 's1')[0]}.txt"
    [ignored] = matched(layout, *clips_of(layout, "s1"), stray).ignored
    renamed = ignored.reason.rpartition(" to ")[2]
    assert matched(layout, *clips_of(layout, "s1"), renamed).samples[0].caption == renamed


def test_a_caption_for_clips_of_several_folders_is_told_each(matched):
    result = matched(PLAIN_VIDEOS, "a/s1.mp4", "b/s1.mp4", "s1.txt")
    assert result.ignored[0].reason == "not the name of a caption: move it to a/s1.txt or b/s1.txt"


@pytest.mark.parametrize("table", ["captions.csv", "metadata.jsonl", "x/metadata.csv", "captions.json", "captions.txt"])
def test_a_table_of_captions_is_told_what_to_do_with_it(matched, table):
    [ignored] = matched(PLAIN_VIDEOS, "a/s1.mp4", table).ignored
    told = "a table of captions is not read: write each into a text file named as its clip, such as a/s1.txt"
    assert (ignored.reason, ignored.meant_as_caption) == (told, True)


@pytest.mark.parametrize("name", ["README.md", "LICENSE.txt", "readme.TXT", "x.log"])
def test_other_files_are_no_captions(matched, name):
    [ignored] = matched(PLAIN_VIDEOS, "s1.mp4", name).ignored
    assert (ignored.reason, ignored.meant_as_caption) == ("neither a media file nor a caption", False)


def test_a_file_that_was_packed_twice_is_named(tmp_path):
    (tmp_path / "file").write_text("the same")
    names = ("a_start.mp4", "a_end.mp4", "b_start.mp4", "b_end.mp4")
    files = tuple(keep(tmp_path / "file", name) for name in names)
    warnings = match_samples(Extracted(archive="data.zip", files=files, ignored=()), VIDEO_PAIRS).warnings
    assert [str(one) for one in warnings if one.text != "no caption"] == [
        "a: a_start.mp4 and a_end.mp4 are the same file: there is nothing to learn from it",
        "b: b_start.mp4 and b_end.mp4 are the same file: there is nothing to learn from it",
        "b: b_end.mp4 is the same file as a_end.mp4: it counts double",
    ]
