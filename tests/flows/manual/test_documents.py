"""The documents hang together: links lead somewhere, every error has a remedy, the site builds."""

import inspect
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.manual.__main__ import ROOT
from schemas import errors, rejections

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()
CLASSES = [
    each
    for module in (errors, rejections)
    for each in vars(module).values()
    if inspect.isclass(each) and issubclass(each, errors.LtxFlowsError) and each.__module__ == module.__name__
]
ROOTS = {"InputRejected", "DataRejected"}  # never raised themselves


def anchors(path):
    """Anchors of a page's headings, as MkDocs and the forges make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(document):
    lost = []
    for link in LINK.findall(re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)):
        place, _, anchor = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            lost.append(link)
    assert lost == []


def test_every_page_is_in_the_site_s_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [str(path.relative_to(ROOT / "docs")) for path in DOCUMENTS if path.is_relative_to(ROOT / "docs")]
    assert [page for page in pages if f": {page}\n" not in navigation] == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda each: each.__name__)
def test_every_error_has_a_remedy(kind):
    assert kind.__name__ in ROOTS or f"`{kind.__name__}`" in TROUBLESHOOTING


@pytest.mark.parametrize("kind", rejections.DataRejected.__subclasses__(), ids=lambda each: each.__name__)
def test_the_remedies_for_data_are_found_by_the_message(kind):
    message = re.sub(r"\{\w+\}", "...", kind.message)
    assert message in TROUBLESHOOTING or message == "...: ..."


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed; type: pip install 'ltx-flows[docs]'")
def test_the_site_builds_and_no_link_is_broken(tmp_path):
    for name in ("docs", "mkdocs.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "site" / "endpoints" / "extend-prefix.html").is_file()
