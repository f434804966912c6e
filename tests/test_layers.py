"""The rooms stay apart: nothing imports upward, and only flows/ knows the endpoints."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["schemas", "models", "tasks", "flows"]  # each may import those before it
FILES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_imports_upward(path):
    above = ROOMS[ROOMS.index(path.parts[0]) + 1 :]
    assert not [name for name in imported(path) if name.split(".")[0] in above]


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] in ("models", "tasks")], ids=str)
def test_tasks_and_models_cannot_ask_which_endpoint_they_serve(path):
    assert not [name for name in imported(path) if name.startswith("schemas.endpoints")]


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "schemas"], ids=str)
def test_schemas_are_pydantic_and_the_standard_library(path):
    assert not [name for name in imported(path) if name.split(".")[0] in ("torch", "prefect", "numpy", "fsspec")]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_grows_beyond_what_can_be_read(path):
    assert len((ROOT / path).read_text().splitlines()) <= 300
