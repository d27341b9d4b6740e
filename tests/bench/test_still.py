"""A machine that stands still is told from a program that is late."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.still import ATTEMPTS, STOOD_STILL, Awake, undisturbed

ROOT = Path(__file__).parents[2]
STOPS = """
import asyncio, os, signal
from tests.still import undisturbed

attempts = 0

@undisturbed
async def fails_when_it_stands_still():
    global attempts
    attempts += 1
    if attempts == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
        raise AssertionError

asyncio.run(fails_when_it_stands_still())
print(attempts)
"""


def test_what_fails_while_the_machine_stands_still_is_tried_again():
    with subprocess.Popen([sys.executable, "-c", STOPS], cwd=ROOT, stdout=subprocess.PIPE) as program:
        os.waitpid(program.pid, os.WUNTRACED)
        time.sleep(2 * STOOD_STILL)
        program.send_signal(signal.SIGCONT)
        assert program.stdout.read() == b"2\n"


def test_what_fails_while_it_runs_is_not():
    attempts = 0

    @undisturbed
    async def fails() -> None:
        nonlocal attempts
        attempts += 1
        raise AssertionError(f"attempt {attempts}")

    with pytest.raises(AssertionError, match="attempt"):
        asyncio.run(fails())
    assert attempts < ATTEMPTS, "it can't stand still each time"


def test_it_goes_while_the_program_waits_a_little_or_computes_and_not_while_it_is_held():
    moments, computed = iter([10.0, 10.25, 12.25, 14.25]), iter([1.0, 1.0, 3.0, 3.0])
    clock = Awake(moments.__next__, computed.__next__)
    assert [clock(), clock(), clock()] == [10.25, 12.25, 12.25]
    assert clock.slept == 2.0
