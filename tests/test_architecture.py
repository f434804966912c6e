"""A stranger finds the way: the map names every file, and no file or function is longer than can be read at once."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("schemas", "models", "tasks", "flows")
FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
MAP = (ROOT / "docs" / "architecture.md").read_text().replace("\\_", "_")
ROWS = re.findall(r"^\| ([a-z0-9_/]+\.py) \| (.+) \|$", MAP, re.MULTILINE)
STEPS = ["download", "extract", "match", "fit", "encode", "train", "validate", "upload", "bill"]
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 40


def test_the_map_names_every_file_once():
    named = [row[0] for row in ROWS]
    assert sorted(named) == sorted(str(path) for path in FILES if path.name != "__init__.py")


@pytest.mark.parametrize(("path", "holds"), ROWS, ids=[row[0] for row in ROWS])
def test_a_file_is_told_in_three_to_eight_words(path, holds):
    assert 3 <= len(holds.split()) <= 8


def test_all_that_the_documents_name_is_there():
    documents = [path.read_text().replace("\\_", "_") for path in (ROOT / "docs").glob("*.md")]
    named = {name for text in documents for name in re.findall(r"`((?:schemas|models|tasks|flows)/[\w/.]+)`", text)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_nine_steps_are_nine_files_and_the_pipeline_calls_each():
    rows = [row[0] for row in ROWS if row[1].startswith("step:")][: len(STEPS)]
    assert rows == [f"tasks/{step}.py" for step in STEPS]
    called = {
        node.func.id
        for node in ast.walk(ast.parse((ROOT / "flows/pipeline.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called >= set(STEPS)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_and_no_function_grows_beyond_what_can_be_read(path):
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= MOST_LINES
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {node.name for node in functions if node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION}
    assert long == set()


def test_files_of_tests_and_benchmarks_are_no_longer_either():
    files = [path for room in ("tests", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    long = [
        path for path in files if "node_modules" not in path.parts and len(path.read_text().splitlines()) > MOST_LINES
    ]
    assert len(files) > 100 and long == []
