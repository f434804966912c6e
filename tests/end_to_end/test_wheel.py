"""The wheel alone, away from the sources: every command works, whatever else is named `models` where it is typed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import tomllib
import zipfile
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from schemas.endpoints import ENDPOINTS

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "models", "tasks", "flows")
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "prefect.yaml", *ROOMS)
SECONDS = 240
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the sources, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder / "out")]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=folder, check=True, timeout=SECONDS)
    (made,) = (folder / "out").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of a fresh environment that has the wheel, and our own one's libraries."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=SECONDS)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"])  # its own .pth files are not read
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    pip += ["--ignore-installed"]  # our own environment has it, too
    subprocess.run([*pip, str(wheel)], check=True, timeout=SECONDS)
    return folder / "bin"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A working folder with modules of the names of ours, as other projects have them."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for room in ROOMS:
        (folder / f"{room}.py").write_text("raise SystemExit('somebody else's')\n")
    return folder


@pytest.fixture
def ltx_flows(installed, elsewhere, home):
    """Start a command of the installed wheel."""

    def start(*arguments, **more):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more
        return subprocess.Popen(
            [installed / "ltx-flows", *arguments],
            cwd=elsewhere,
            env=environment | {"LTX_FLOWS_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finished(process):
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == ours | {"flows/hosting/prefect.yaml"}
    assert not (ROOT / "flows/hosting/prefect.yaml").exists()
    assert zipfile.ZipFile(wheel).read("flows/hosting/prefect.yaml") == (ROOT / "prefect.yaml").read_bytes()


def test_the_installed_command_says_its_version(ltx_flows):
    assert finished(ltx_flows("--version"))[:2] == (0, f"ltx-flows {PROJECT['version']}\n")


@pytest.mark.long
def test_doctor_and_a_demonstration_run_from_the_wheel(ltx_flows, home):
    code, out, err = finished(ltx_flows("doctor"))
    assert (code, "MISSING" in out) == (0, False), out + err
    code, out, err = finished(ltx_flows("demo", "audio-extend-prefix"))
    assert code == 0, err[-2000:]
    lora = Path(re.search(r"LoRA +(\S+)", out)[1])
    assert lora.is_relative_to(home) and lora.stat().st_size > 0


@pytest.mark.long
def test_serve_and_deploy_work_from_the_wheel(ltx_flows, home):
    serving = ltx_flows("serve", "--port", "0", PYTHONUNBUFFERED="1")
    try:
        said = []
        while not (said and said[-1].startswith("history")):
            said.append(serving.stdout.readline())
            assert said[-1], serving.stderr.read()[-2000:]
        url = said[-1].split()[1]
        assert said[0].startswith("RANDOM WEIGHTS")
        assert httpx.get(url, follow_redirects=True, timeout=20).status_code == 200
        reached = {
            "PREFECT_API_URL": (home / "server" / "url").read_text(),
            "PREFECT_API_AUTH_STRING": f"ltx:{(home / 'server' / 'password').read_text()}",
        }
        code, out, err = finished(ltx_flows("deploy", **reached))
        flows = [name.replace("/", "-") for name in ENDPOINTS]
        names = [f"{flow}/{flow}" for flow in flows]
        assert (code, sorted(out.split())) == (0, sorted(names)), err[-2000:]
        time.sleep(1)
        serving.send_signal(signal.SIGINT)
        code, out, err = finished(serving)
        assert (code, out.splitlines()[-1][:16]) == (0, "ltx-flows: ended"), err[-2000:]
    finally:
        serving.kill()
        serving.communicate()


# --- versions -----------------------------------------------------------------------------------------------------


def requirements():
    extras = [each for group in PROJECT["optional-dependencies"].values() for each in group]
    return [Requirement(each) for each in (*PROJECT["dependencies"], *extras)]


@pytest.mark.parametrize("needed", requirements(), ids=lambda needed: needed.name)
def test_the_pinned_versions_are_within_the_ranges_of_the_package(needed):
    pins = {canonicalize_name(name): version for name, version in PINS.items()}
    assert needed.specifier.contains(pins.get(canonicalize_name(needed.name), "nothing pins it")), needed


def test_what_is_installed_agrees_with_itself():
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout
