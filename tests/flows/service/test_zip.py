"""The archive that our pages make of a folder of clips: what every zip reader reads, and what `extract` takes."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import flows.service
from tasks.dataset.archive import extract_archive
from tasks.storage.store import keep

NODE = shutil.which("node")
PROGRAM = Path(__file__).parents[2] / "clients" / "zip.mjs"
SCRIPT = Path(flows.service.__file__).parent / "static" / "zip.js"
FILES = {"walk.mp4": b"\0" * 5000, "deep/er/zwölf.txt": b"a walk", "empty.txt": b"", "b.wav": bytes(range(256)) * 300}
IN_32_BITS = 0xFFFFFFFF

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def made(folder, most=IN_32_BITS, files=FILES):
    named = []
    for number, (path, content) in enumerate(files.items()):
        (folder / str(number)).write_bytes(content)
        named += [path, folder / str(number)]
    script = shutil.copy(SCRIPT, folder / "zip.mjs")  # so that node knows that it is a module
    command = [NODE, PROGRAM, script, folder / "clips.zip"]
    done = subprocess.run([*command, str(most), *named], check=True, capture_output=True, text=True)
    assert int(done.stdout) == sum(map(len, files.values()))
    return folder / "clips.zip"


@pytest.mark.parametrize("most", [IN_32_BITS, 5500, 100, 1])
def test_every_file_comes_out_as_it_went_in_however_large_the_archive(tmp_path, most):
    with zipfile.ZipFile(made(tmp_path, most)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}


def test_the_same_files_make_the_same_archive(tmp_path):
    first = made(tmp_path).read_bytes()
    assert made(tmp_path, files=dict(reversed(FILES.items()))).read_bytes() == first


def test_a_run_takes_it(tmp_path):
    extracted = extract_archive(keep(made(tmp_path), "clips.zip"))
    assert "zwölf.txt" in str(extracted)
