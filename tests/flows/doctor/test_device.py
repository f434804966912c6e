"""The device, its memory and what compiles for it, as `doctor` finds them."""

import re

import pytest
import torch

from models.ltx2 import needs
from tasks.checks import device, places
from tests.support.doctor import REAL


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
