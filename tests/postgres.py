"""A PostgreSQL server of our own for the ledger's tests, from Debian's package."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def programs():
    """The newest server's folder, or None where the package is not installed."""
    return BINARIES[-1].parent if BINARIES else None


@contextmanager
def server():
    """A fresh server on loopback; yields its URL."""
    with TemporaryDirectory(prefix="postgres-") as name:  # pytest's own folders are closed to other users
        yield from started(Path(name))


def started(folder):
    port = free_port()
    data = folder / "data"
    if os.getuid() == 0:  # PostgreSQL refuses root
        shutil.chown(folder, "postgres")
    as_owner(["initdb", "--pgdata", data, "--username", "ltx", "--auth", "trust", "--no-sync"])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    as_owner(["pg_ctl", "--pgdata", data, "--wait", "--log", folder / "log", "--options", options, "start"])
    try:
        yield f"postgresql+psycopg://ltx@127.0.0.1:{port}/postgres"
    finally:
        as_owner(["pg_ctl", "--pgdata", data, "--mode", "immediate", "stop"])


def as_owner(command):
    command = [programs() / command[0], *command[1:]]
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
