"""What one run is making, another leaves alone; a claim ends with its holder."""

import subprocess
import sys

from tasks.storage.claims import Claims, wait_for

HOLD = """
import sys, time
from tasks.storage.claims import Claims
with Claims() as claims:
    print(*claims.take(sys.argv[1:]), flush=True)
    sys.stdin.read()
"""


def other_run(*names):
    command = [sys.executable, "-c", HOLD, *names]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().split() == list(names)
    return process


def test_what_another_run_is_making_is_left_to_it():
    with other_run("clip-1"), Claims() as claims:
        assert claims.take(["clip-1", "clip-2"]) == ["clip-2"]


def test_what_is_given_back_can_be_claimed_again():
    with Claims() as claims, Claims() as others:
        claims.take(["clip-1"])
        claims.release("clip-1")
        assert others.take(["clip-1"]) == ["clip-1"]


def test_a_claim_ends_with_its_killed_holder():
    with other_run("clip-1") as process:
        process.kill()
        process.wait()
        wait_for("clip-1")
        with Claims() as claims:
            assert claims.take(["clip-1"]) == ["clip-1"]


def test_waiting_ends_when_it_is_made():
    with other_run("clip-1") as process:
        process.stdin.close()
        wait_for("clip-1")
    assert process.returncode == 0
