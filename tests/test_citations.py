"""Every citation resolves: what code and documents cite of docs/ and tests/golden/ is there, in this repository."""

import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("schemas", "models", "tasks", "flows", "tests", "benchmarks")
CODE = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.parts]
PAGES = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "tests" / "golden" / "README.md"]
RULES = "docs/media-rules.md"
FILES = sorted(path.relative_to(ROOT) for path in {*CODE, *PAGES} - {Path(__file__)})

LABEL = r"[A-Z]\d?\b|\d+"
LIST = rf"(?:{LABEL})(?:(?:, (?:and )?| and | to )(?:{LABEL}))*"
PLACE = rf"(?:section|reading|note)s? (?:{LIST})|[A-Z]\d?(?=[).;:,]|$)"
DOCUMENT = re.compile(rf"(?<![\w./-])docs/[\w./-]+?\.md\b(?:, (?:and )?(?:{PLACE}))*")
BARE_READING = re.compile(rf"\b(readings?) ({LIST})")
GOLDEN = re.compile(r"tests/golden/[\w*./-]*[\w*]")
ELSEWHERE = re.compile(
    r"(?<!\w)facts/|\b(?:design|style|layout)\.md|\bseeds/|(?<!tests/)\bgolden/\w|\breference/\w+\.py|\.\./shared"
)


def words_of(path):
    """Its text without line ends, so that a citation may go on in the next line, also of a comment."""
    return re.sub(r"\s*\n\s*(?:# )?", " ", (ROOT / path).read_text())


def labels_in(text):
    """`1 to 3, 7 and C2` -> 1, 2, 3, 7, C2."""
    for part in re.split(r", (?:and )?| and ", text):
        first, _, last = part.partition(" to ")
        yield from map(str, range(int(first), int(last) + 1)) if last else [first]


@lru_cache
def places_of(document):
    """Headings are sections; items that are numbered are readings or notes, as the heading above them says."""
    places, kind = set(), ""
    for line in (ROOT / document).read_text().splitlines():
        if heading := re.match(r"##+ (\w+)\. (.*)", line):
            places.add(("section", heading[1]))
            kind = "reading" if "reading" in heading[2].lower() else ""
            kind = "note" if "official numbers" in heading[2] else kind
        elif kind and (item := re.match(r"(\d+)\. ", line)):
            places.add((kind, item[1]))
    return places


def cited_in(text):
    """(document, kind, label) of every citation."""
    for citation in DOCUMENT.findall(text):
        document, _, places = citation.partition(".md")
        yield f"{document}.md", None, None
        for kind, labels, letter in re.findall(rf"(section|reading|note)s? ({LIST})|\b([A-Z]\d?)\b", places):
            yield from ((f"{document}.md", kind or "section", label) for label in labels_in(labels or letter))


def in_files(check):
    """What a check finds in each file where it finds anything."""
    return {str(path): found for path in FILES if (found := sorted(set(check(words_of(path)))))}


def test_what_is_cited_of_the_documents_is_in_them():
    def lost(text):
        for document, kind, label in cited_in(text):
            if not (ROOT / document).is_file() or (kind and (kind, label) not in places_of(document)):
                yield f"{document}, {kind} {label}" if kind else document

    assert in_files(lost) == {}


def test_a_reading_without_a_document_is_one_of_the_media_rules_which_its_file_cites():
    def lost(text):
        for reading, labels in BARE_READING.findall(DOCUMENT.sub("", text)):
            if RULES not in text or not {("reading", label) for label in labels_in(labels)} <= places_of(RULES):
                yield f"{reading} {labels}"

    assert in_files(lost) == {}


def test_golden_files_that_are_cited_exist():
    assert in_files(lambda text: [name for name in GOLDEN.findall(text) if not list(ROOT.glob(name))]) == {}


def test_nothing_outside_of_the_repository_is_cited():
    assert in_files(ELSEWHERE.findall) == {}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("docs/media-rules.md, readings 1 to 3 and 16", ["1", "2", "3", "16"]),
        ("docs/ltx2.md, sections A and E, note 1; then", ["A", "E", "1"]),
        ("(docs/ltx2.md, C2) and", ["C2"]),
        ("docs/ltx2.md, section C2, row 1", ["C2"]),
        ("docs/ltx2.md, A sentence goes on", []),
    ],
)
def test_citations_are_read_as_they_are_written(text, labels):
    assert [label for _, kind, label in cited_in(text) if kind] == labels


def test_the_documents_have_what_code_cites_by_number():
    assert {f"{n}" for n in range(1, 23)} == {n for kind, n in places_of(RULES) if kind == "reading"}
    assert {"A", "C2", "E", "F", "G"} <= {n for kind, n in places_of("docs/ltx2.md") if kind == "section"}
