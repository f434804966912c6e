"""`doctor` says what is ready and, for what is missing, the remedy; its list is whole whatever one check comes upon."""

import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from flows import doctor
from flows.cli import main
from flows.doctor import examine
from models.ltx2 import needs
from schemas.errors import MissingTool
from schemas.settings import settings
from tasks.checks import device, places
from tasks.media.programs import ENCODERS, FILTERS, abilities
from tests.support.clips import kept, video

REAL = "diffusers/LTX-2.3-Diffusers"
WHOLE = ["settings", "ffmpeg", "ffprobe", "rubberband", "C compiler", "device", "GPU memory", "main memory", "disk",
         "base model", "Hub", "store", "outputs", "ledger", "Prefect server", "API port"]  # fmt: skip


def found():
    return {finding.what: finding for finding in examine()}


@pytest.fixture
def setting(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    def to(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"LTX_FLOWS_{name}", str(value))
        settings.cache_clear()

    return to


@pytest.fixture
def quick(monkeypatch):
    """Only the named checks: each test below looks at one."""

    def only(*names):
        checks = doctor._checks
        monkeypatch.setattr(doctor, "_checks", lambda online: [each for each in checks(online) if each[0] in names])
        return [finding for finding in examine() if finding.what in names]

    return only


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program of ours first on PATH."""

    def put(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")

    return put


def test_a_machine_that_has_everything_is_ready():
    findings = found()
    assert [what for what, finding in findings.items() if not finding.ready] == []
    assert list(findings) == WHOLE
    assert "RANDOM WEIGHTS" in findings["base model"].state


# --- the list is always whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("broken"), ImportError("libcudart.so"), SystemExit(3), OSError("disk")])
def test_a_check_that_crashes_is_a_failing_line_and_not_the_end(error, monkeypatch):
    def crash(*arguments, **options):
        raise error

    monkeypatch.setattr(doctor, "import_module", crash)
    findings = found()
    assert list(findings) == WHOLE
    crashed = [what for what, finding in findings.items() if not finding.ready]
    assert crashed == [what for what in WHOLE if what not in ("settings", "Prefect server", "API port")]
    assert str(error) in findings["disk"].state


def test_a_check_that_hangs_is_a_failing_line_and_not_the_end(monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    monkeypatch.setattr(
        doctor, "_checks", lambda online: [("store", lambda: time.sleep(5)), ("API port", doctor._port)]
    )
    assert [(each.what, each.ready, each.state[:12]) for each in examine()][1:] == [
        ("store", False, "no answer in"),
        ("API port", True, "8484, free" if "free" in doctor._port().state else "8484, taken:"),
    ]


def test_settings_that_cannot_be_read_are_lines_and_the_rest_is_looked_at_without_them(setting):
    setting(DEVICES="zero", STOER="s3://team/store", COMPILE="perhaps")
    findings = list(examine())
    assert [each.state.split("=")[0].split(" is ")[0] for each in findings if each.what == "setting"] == [
        "LTX_FLOWS_STOER",
        "LTX_FLOWS_DEVICES",
        "LTX_FLOWS_COMPILE",
    ]
    assert [each.what for each in findings if each.what != "setting"] == WHOLE[1:]
    assert [each.what for each in findings if not each.ready] == ["setting"] * 3


def test_the_command_prints_every_line_and_its_exit_status_says_whether_something_is_missing(setting, capfd):
    setting(DEVICE="cuda:7")
    assert main(["doctor"]) == 1
    told = capfd.readouterr()
    assert [line[9:].split(":")[0] for line in told.out.splitlines()] == WHOLE
    assert told.err.splitlines()[-1].startswith("ltx-flows: not ready: ") and "device" in told.err


def test_the_command_lists_settings_that_cannot_be_read(setting, capfd, quick):
    quick("API port")
    setting(DEVICES="zero")
    assert main(["doctor"]) == 1
    assert "MISSING  setting: LTX_FLOWS_DEVICES=zero must be a whole number" in capfd.readouterr().out


# --- programs -----------------------------------------------------------------------------------------------------


def test_missing_programs_are_named_with_the_line_to_type(tmp_path, monkeypatch, quick):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {finding.what: finding.state for finding in quick("ffmpeg", "ffprobe", "rubberband")} == {
        "ffmpeg": "type: apt-get install ffmpeg",
        "ffprobe": "type: apt-get install ffmpeg",
        "rubberband": "type: apt-get install rubberband-cli",
    }


@pytest.mark.parametrize(("lacking", "kind"), [("libx264", "encoders"), ("zscale", "filters")])
def test_an_ffmpeg_without_what_is_used_is_named_with_what_it_lacks(lacking, kind, program, quick):
    program("ffmpeg", f'/usr/bin/ffmpeg "$@" | if [ "$2" = -{kind} ]; then grep -v {lacking}; else cat; fi')
    [ffmpeg] = quick("ffmpeg")
    assert (ffmpeg.ready, f" lacks {lacking}; put a full build" in ffmpeg.state) == (False, True)


def test_a_program_that_says_nothing_is_a_failing_line(program, quick):
    program("rubberband", "exit 127")
    [rubberband] = quick("rubberband")
    assert (rubberband.ready, rubberband.state.startswith("the check itself failed")) == (False, True)


def test_all_filters_and_encoders_of_our_commands_are_asked_for():
    media = Path(device.__file__).parents[1] / "media"
    code = "".join((media / name).read_text() for name in ("filters.py", "ffmpeg.py"))
    words = set(re.findall(r"[a-z0-9]+", " ".join(re.findall(r'"[^"\n]*"', code))))
    used = set(re.findall(r"[\",]([a-z0-9]+)(?:=|\")", code)) & abilities("filters")
    assert used - {"colorspace"} <= FILTERS <= words  # which is an option, too
    assert set(re.findall(r'codec": "(\w+)"', code)) <= ENCODERS


def test_the_step_that_needs_ffprobe_says_how_to_get_it(tmp_path, monkeypatch):
    from tasks.media.probe import probe

    clip = video(tmp_path / "a.mp4", 9)
    kept(clip)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="ffprobe is not installed; type: apt-get install ffmpeg"):
        probe(clip)


# --- the device ---------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """A GPU as torch tells of it: so much memory free, of 80 GB."""

    def with_free(free, count=1):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * 1e9), int(80e9)))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")

    return with_free


@pytest.mark.parametrize(
    ("cuda", "driver", "visible", "reason"),
    [
        (
            None,
            "580.1",
            None,
            r"it is a build for the CPU; type: pip install --force-reinstall --no-deps torch==[\d.]+",
        ),
        (
            "13.0",
            "535.183.01",
            None,
            r"its CUDA 13.0 needs driver 580 or newer, and here is 535.183.01; update the drive",
        ),
        ("12.8", "470.1", None, "its CUDA 12.8 needs driver 525 or newer"),
        ("13.0", "580.1", "", "CUDA_VISIBLE_DEVICES hides it; unset it"),
        ("13.0", "580.1", "-1", "CUDA_VISIBLE_DEVICES hides it; unset it"),
        ("13.0", "580.1", None, "Torch not compiled with CUDA enabled; check that nvidia-smi and /dev/nvidia"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_named_with_the_reason(
    cuda, driver, visible, reason, program, monkeypatch, quick
):
    program("nvidia-smi", f"echo 'NVIDIA RTX 4090, {driver}'")
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    [finding] = quick("device")
    assert not finding.ready
    assert re.search(rf"nvidia-smi sees NVIDIA RTX 4090, and torch \S+ cannot use it: {reason}", finding.state)
    assert finding.state.endswith("or set LTX_FLOWS_DEVICE=cpu, if that is meant")


def test_a_gpu_that_nobody_wants_is_no_fault(program, setting, quick):
    program("nvidia-smi", "echo 'NVIDIA RTX 4090, 535.1'")
    setting(DEVICE="cpu")
    assert [finding.ready for finding in quick("device")] == [True]


@pytest.mark.parametrize("script", ["echo 'NVIDIA-SMI has failed'; exit 9", "echo No devices were found"])
def test_a_driver_without_a_gpu_is_no_gpu(script, program):
    program("nvidia-smi", script)
    assert device.gpus_of_the_driver() == []


def test_a_real_base_without_a_gpu_is_not_ready_unless_the_cpu_is_meant(setting, quick, monkeypatch):
    monkeypatch.setattr(device, "gpus_of_the_driver", list)
    setting(BASE_MODEL=REAL)
    [finding] = quick("device")
    assert (finding.ready, "no GPU is seen" in finding.state) == (False, True)
    setting(DEVICE="cpu")
    assert [finding.ready for finding in quick("device")] == [True]


def test_more_gpus_than_there_are_are_named(gpu, setting, quick):
    gpu(80, count=1)
    setting(DEVICES=2)
    assert [each.state for each in quick("device")] == ["2 GPUs are asked for by DEVICE and DEVICES, and torch sees 1"]


def test_a_gpu_that_does_not_compute_is_named(gpu, quick, monkeypatch):
    def no_kernel(*sizes, **options):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    gpu(80)
    monkeypatch.setattr(torch, "ones", no_kernel)
    [finding] = quick("device")
    assert (finding.ready, "does not compute (CUDA error: no kernel image" in finding.state) == (False, True)


@pytest.mark.parametrize(
    ("free", "kept_as", "ready", "words"),
    [
        (79.0, "bf16", True, "trains without offload: sound, video, video with sound, references"),
        (26.0, "bf16", True, "trains without offload: sound"),
        (
            20.0,
            "bf16",
            False,
            "prompts take 25.7; end what uses it (nvidia-smi), or set LTX_FLOWS_TEXT_ENCODER_WEIGHTS",
        ),
        (20.0, "int8", True, "trains without offload: sound"),
        (9.0, "int8", False, "prompts take 14.6; end what uses it (nvidia-smi), or use another GPU"),
    ],
)
def test_free_gpu_memory_is_compared_with_what_the_base_needs(free, kept_as, ready, words, gpu, setting, quick):
    gpu(free)
    setting(BASE_MODEL=REAL, TEXT_ENCODER_WEIGHTS=kept_as)
    [finding] = quick("GPU memory")
    assert (finding.ready, words in finding.state) == (ready, True), finding.state


def test_the_tiny_base_fits_every_gpu(gpu, quick):
    gpu(1.0)
    assert [finding.state for finding in quick("GPU memory")] == ["1.0 GB of 80.0 GB free"]


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        ((True, "bf16", "bf16", 0, 0), needs.ON_THE_CPU),
        ((False, "bf16", "bf16", 79, 16), needs.CONNECTORS),
        ((False, "fp8", "bf16", 79, 16), needs.TRANSFORMER),
        ((False, "bf16", "int8", 79, 16), needs.GEMMA),
        ((False, "bf16", "bf16", 24, 5), needs.TRANSFORMER),
    ],
)
def test_main_memory_is_what_passes_through_it(arguments, needed):
    assert needs.main_memory(*arguments, may_offload=True) == needed


def test_too_little_main_memory_is_named(monkeypatch, setting, quick):
    setting(BASE_MODEL=REAL, DEVICE="cpu")
    monkeypatch.setattr(places, "free_memory", lambda: int(70e9))
    [finding] = quick("main memory")
    assert (finding.ready, finding.state[:36]) == (False, "70.0 GB free, 76.0 GB needed; end ot")


def test_a_containers_limit_is_its_memory(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    monkeypatch.setattr(places, "CGROUP", tmp_path)
    assert places.free_memory() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert places.free_memory() > 2_000_000


def test_a_compiler_and_headers_are_needed_where_a_gpu_compiles(gpu, program, monkeypatch, quick, setting, tmp_path):
    gpu(80)
    assert [finding.ready for finding in quick("C compiler")] == [True]
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    [finding] = quick("C compiler")
    assert (finding.ready, "Python's headers are missing" in finding.state) == (False, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    [finding] = quick("C compiler")
    assert (finding.ready, finding.state.startswith("type: apt-get install gcc libc6-dev")) == (False, True)
    setting(COMPILE="off")
    assert [finding.ready for finding in quick("C compiler")] == [True]


# --- disks, places and the ledger ---------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_for_a_base_that_is_to_be_fetched_is_named(monkeypatch, setting, quick):
    setting(BASE_MODEL=REAL)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": int(50e9)}))
    [finding] = quick("disk")
    assert (finding.ready, finding.state.count("50.0 GB free"), "101.0 GB needed" in finding.state) == (False, 2, True)
    assert finding.state.endswith("or put LTX_FLOWS_HOME or HF_HOME on another disk")


def test_a_home_that_is_a_file_is_named(setting, quick, tmp_path):
    (tmp_path / "file").touch()
    setting(HOME=tmp_path / "file")
    [finding] = quick("disk")
    assert (finding.ready, "file may not be read or written" in finding.state) == (False, True)


@pytest.mark.parametrize("what", ["store", "outputs"])
@pytest.mark.parametrize("url", ["/dev/null/place", "nothing://place", "s3://nobody/place"])
def test_a_place_that_cannot_be_written_is_named(what, url, setting, quick, request):
    if url.startswith("s3"):
        request.getfixturevalue("s3")
    setting(**{what.upper(): url})
    [finding] = quick(what)
    assert (finding.ready, url.rstrip("/") in finding.state) == (False, True), finding.state
    assert re.search("check its owner|write a folder or s3://|create it first", finding.state)


@pytest.mark.parametrize("what", ["store", "outputs"])
def test_a_place_on_s3_is_written_read_back_and_cleared(what, s3, setting, quick):
    setting(**{what.upper(): f"s3://data/doctor-{what}"})
    assert [finding.ready for finding in quick(what)] == [True]
    assert s3.find(f"data/doctor-{what}") == []


def test_a_store_that_gives_back_something_else_is_named(setting, quick, monkeypatch):
    monkeypatch.setattr("tasks.storage.folder.Place.read", lambda place, address: b"[]")
    [finding] = quick("outputs")
    assert (finding.ready, "does not give back what was put there" in finding.state) == (False, True)


def test_a_ledger_of_a_newer_version_is_named(home, quick):
    assert [finding.ready for finding in quick("ledger")] == [True]
    with sqlite3.connect(home / "ledger.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    [finding] = quick("ledger")
    assert (finding.ready, finding.state.startswith("the ledger was used by a newer ltx-flows")) == (False, True)


def test_a_ledger_whose_driver_is_not_installed_is_named(setting, quick):
    setting(DATABASE_URL="postgresql+pg8000://ltx:geheim@host/ledger")
    [finding] = quick("ledger")
    assert (finding.ready, 'pip install "ltx-flows[postgres]"' in finding.state) == (False, True)
    assert "geheim" not in finding.state


def test_a_damaged_ledger_is_named(home, quick):
    home.mkdir()
    (home / "ledger.db").write_bytes(b"garbage" * 1000)
    [finding] = quick("ledger")
    assert (finding.ready, "is damaged" in finding.state) == (False, True)


def test_a_prefect_server_that_does_not_answer_is_named(monkeypatch, quick):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    [finding] = quick("Prefect server")
    assert (finding.ready, "unset PREFECT_API_URL" in finding.state) == (False, True)


def test_a_taken_port_is_said(quick):
    with socket.create_server(("127.0.0.1", 0)) as door:
        from flows.serve import Serving

        taken = type("Taken", (Serving,), {"__init__": lambda self: Serving.__init__(self, port=door.getsockname()[1])})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flows.serve.Serving", taken)
            [finding] = quick("API port")
    assert "taken: `serve` runs, or needs another --port" in finding.state


# --- the base model and the Hub -----------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path):
    """A base model's folder that is all headers."""
    folder = tmp_path / "base"
    for component in ("transformer", "connectors", "vae", "audio_vae", "vocoder", "text_encoder", "tokenizer"):
        (folder / component).mkdir(parents=True)
    header = json.dumps({"weight": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    (folder / "vae" / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    (folder / "transformer" / "config.json").write_text('{"cross_attn_mod": true}')
    return folder


SPOILS = {
    "has no folder vocoder": lambda folder: (folder / "vocoder").rmdir(),
    "is damaged: it has": lambda folder: (folder / "vae" / "model.safetensors").write_bytes(bytes(20)),
    "lacks 1 of its files, e.g. b.safetensors": lambda folder: (
        folder / "text_encoder" / "model.safetensors.index.json"
    ).write_text('{"weight_map": {"x": "b.safetensors"}}'),
    "config.json cannot be read": lambda folder: (folder / "transformer" / "config.json").write_text("{"),
    "is not an LTX-2.3": lambda folder: (folder / "transformer" / "config.json").write_text("{}"),
}


@pytest.mark.parametrize("words", [None, *SPOILS])
def test_a_base_model_is_looked_at_by_its_headers(words, bundle, setting, quick):
    if words:
        SPOILS[words](bundle)
    setting(BASE_MODEL=bundle)
    [finding] = quick("base model")
    assert (finding.ready, (words or "1 weights; by their headers the files are whole") in finding.state) == (
        not words,
        True,
    )


@pytest.mark.parametrize("name", ["nowhere/at/all", "../nowhere"])
def test_a_base_model_that_can_be_nowhere_is_named(name, setting, quick):
    setting(BASE_MODEL=name)
    [finding] = quick("base model")
    assert (finding.ready, "neither a folder nor the id" in finding.state) == (False, True)


def test_the_checks_need_no_torch_to_say_that_it_is_broken(home):
    code = "import sys; sys.modules['torch'] = None\nfrom flows.cli import main; sys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    lines = done.stdout.splitlines()
    assert (done.returncode, [line[9:].split(":")[0] for line in lines]) == (1, WHOLE), done.stderr
    assert "torch" in next(line for line in lines if "device:" in line)
