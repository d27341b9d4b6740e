"""What the loop waits for a thread that keeps the interpreter is seen, and none is where a thread gives it away."""

import time

import pytest

from bench.learning import waits

pytestmark = pytest.mark.anyio

LONG = 0.01
"""Seconds: between what one step of the interpreter takes here, and what another process takes away from us."""


def hold(seconds: float) -> int:
    """In one step of the interpreter, which no other thread can break into."""
    start = time.perf_counter()
    steps = 0
    while time.perf_counter() - start < seconds:
        sum(range(2_000_000))
        steps += 1
    return steps


async def test_a_thread_that_keeps_the_interpreter_is_seen():
    rounds = [await waits(lambda: hold(0.1)) for _ in range(5)]
    assert all(steps > 0 and took >= 0.1 for steps, took, _ in rounds)
    assert max(max(seen, default=0.0) for _, _, seen in rounds) > LONG


async def test_a_thread_that_sleeps_is_not():
    best, rounds = LONG, 0
    while best >= LONG and rounds < 100:
        best = max((await waits(lambda: time.sleep(0.05)))[2], default=0.0)
        rounds += 1
    assert best < LONG
