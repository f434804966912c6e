"""A PostgreSQL server of our own, from Debian's package: for the ledger's tests, and to be taken away under runs."""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from sqlalchemy import create_engine, text

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def programs():
    """The newest server's folder, or None where the package is not installed."""
    return BINARIES[-1].parent if BINARIES else None


@contextmanager
def server():
    """A fresh server on loopback; yields its URL."""
    with database() as there:
        yield there.url


@contextmanager
def database():
    """A fresh server on loopback that can be taken away; yields it."""
    with TemporaryDirectory(prefix="postgres-") as name:  # pytest's own folders are closed to other users
        there = Database(Path(name))
        try:
            yield there
        finally:
            there.stop()


class Database:
    """A PostgreSQL server that can be ended or held still, and goes on with what it has written."""

    def __init__(self, folder):
        self.folder, self.data, self.port = folder, folder / "data", free_port()
        if os.getuid() == 0:  # PostgreSQL refuses root
            shutil.chown(folder, "postgres")
        as_owner(["initdb", "--pgdata", self.data, "--username", "ltx", "--auth", "trust", "--no-sync"])
        self.start()

    @property
    def url(self):
        return f"postgresql+psycopg://ltx@127.0.0.1:{self.port}/postgres"

    @property
    def note(self):
        """The file that says which process it is; gone when it has ended."""
        return self.data / "postmaster.pid"

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        command = ["pg_ctl", "--pgdata", self.data, "--wait", "--log", self.folder / "log", "--options", options]
        as_owner([*command, "start"])

    def stop(self):
        """As if its machine had lost its power: the next start mends what this has left."""
        if self.note.exists():
            self.let_go()
            as_owner(["pg_ctl", "--pgdata", self.data, "--mode", "immediate", "stop"])

    def hold(self):
        """Connections to it stand, and nothing is answered: as when its disk hangs."""
        self._send(signal.SIGSTOP)

    def let_go(self):
        self._send(signal.SIGCONT)

    def _send(self, sign):
        postmaster = psutil.Process(int(self.note.read_text().splitlines()[0]))
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sign)


def another(url, name):
    """The URL of one more database on a server, empty."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{url.rpartition('/')[0]}/{name}"


def as_owner(command):
    command = [programs() / command[0], *command[1:]]
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
