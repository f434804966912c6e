"""What a release leaves behind: a home with finished trainings, packed. `python -m tests.support.warm_home FILE`.

Made by the last release and run under the next one: nothing may be encoded or trained again, and nothing may break. The
base model is left out, because it can be made anew; the clips are kept, because no two encoders write the same bytes.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

from tests.support.chains import path_of, requests_in

PROGRAM = Path(sys.executable).with_name("ltx-flows")
KEPT = ("store", "files", "requests")
PACKED = Path(__file__).parents[1] / "golden" / "warm_home.tar.xz"


def main(packed):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        with tarfile.open(packed, "w:xz", preset=9) as archive:
            for each in KEPT:
                archive.add(folder / each, each)


def make(folder):
    """Run every request with a home of this folder, and note what came of each."""
    environment = {**os.environ, "LTX_FLOWS_HOME": str(folder), "LTX_FLOWS_BASE_MODEL": "tiny"}
    (folder / "requests").mkdir()
    for number, (endpoint, path) in enumerate(requests_in(folder / "files").items()):
        body = json.loads(path.read_text())
        if "number_of_frames" in body:
            body["validation"] = []  # a reel of pictures of random weights is 2 MB of noise
            path.write_text(json.dumps(body))
        command = [PROGRAM, "run", endpoint, str(path)]
        said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        lora = path_of(json.loads(said)["lora_file"]).read_bytes()
        note = {"endpoint": endpoint, "body": body, "lora": sha256(lora).hexdigest()}
        written = json.dumps(note, indent=1).replace((folder / "files").as_uri(), "FILES")
        (folder / "requests" / f"{number}.json").write_text(written)


def unpack(folder, packed=PACKED):
    """The home in this folder, and what was asked and came of it: `[{"endpoint", "body", "lora": sha256}]`."""
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    notes = [path.read_text() for path in sorted((folder / "requests").iterdir())]
    return [json.loads(note.replace("FILES", (folder / "files").as_uri())) for note in notes]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
