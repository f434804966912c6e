"""A doctor of whom one check at a time is asked."""

import pytest

from flows import doctor
from flows.doctor import examine


@pytest.fixture
def setting(setting, monkeypatch, tmp_path):
    """The same, on a machine to which nothing of the Hub has come."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return setting


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
