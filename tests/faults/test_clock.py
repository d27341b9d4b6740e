"""F12: the machine's clock jumps, by an hour or by a second. Nothing ends early for it, and nothing is kept longer.

The gateway is a program whose `time.time` is what a file says: the wall clock, as NTP, daylight saving or an operator sets it.
"""

import asyncio
import json
import time
from datetime import datetime

import pytest

from tests.faults.conftest import Node

pytestmark = pytest.mark.anyio

HOUR = 3600
START = 5 * HOUR
JUMPS = [START + HOUR, START - HOUR, START + 1, START - 1]
"""Beside the machine's clock: an hour ahead of what it was at the start, two hours back, and so on."""
WALL_CLOCK = """
import time
_of_the_machine, _file = time.time, {file!r}

def _time():
    with open(_file) as told:
        return _of_the_machine() + float(told.read())

time.time = _time
"""
TTL = 200
REQUESTS = 30


class Clock:
    """The wall clock of the programs that find it on their path."""

    def __init__(self, folder) -> None:
        self.folder = folder / "clock"
        self.folder.mkdir()
        self._file = self.folder / "offset"
        (self.folder / "sitecustomize.py").write_text(WALL_CLOCK.format(file=str(self._file)))
        self.jump(START)

    def jump(self, seconds: int) -> None:
        """So many seconds beside the machine's, from now on."""
        moved = self._file.with_suffix(".new")
        moved.write_text(str(seconds))
        moved.replace(self._file)


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """`PYTHONPATH` is what all programs of these tests are given."""
    clock = Clock(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(clock.folder), prepend=":")
    return clock


def lifetime(answer) -> int:
    """The seconds that a hit has left."""
    assert answer.headers["x-cache"] == "exact", answer.headers
    return int(answer.headers["cache-status"].partition("ttl=")[2])


async def test_nothing_ends_early_and_nothing_lasts_longer(start, upstream, clock):
    node = await start(MEMORY_CACHE_SIZE="1000", SENTINEL_LIMITS__REQUESTS_PER_MINUTE=str(REQUESTS))
    assert (await node.asks("Kept?", **{"x-cache-ttl": str(TTL)})).status == 200
    left = lifetime(await node.asks("Kept?"))
    assert 0.9 * TTL - 20 < left <= TTL

    upstream.script("err=503", times=100)
    while await circuit_of(node) != "open":
        assert (await node.asks("Who fails?")).status == 502
    asked = upstream.count
    for jump in JUMPS:
        clock.jump(jump)
        answer = await node.asks("Kept?")
        assert left - 20 <= lifetime(answer) <= left
        assert 0 <= int(answer.headers["age"]) <= 20
        assert await circuit_of(node) == "open", "its pause is no shorter"
        assert (await node.asks("Who fails?")).status == 502
    assert upstream.count <= asked + 2 * len(JUMPS) + 2, "one a second, by the clock that does not jump"

    refused = None
    while refused is None:
        answer = await node.asks("Kept?")
        refused = answer if answer.status == 429 else None
    for jump in JUMPS:
        clock.jump(jump)
        answer = await node.asks("Kept?")
        if answer.status == 429:
            assert 0 < int(answer.headers["retry-after"]) <= 60 / REQUESTS + 1
    await asyncio.sleep(60 / REQUESTS + 0.1)
    clock.jump(START - HOUR)
    assert (await node.asks("Kept?")).status == 200, "its tokens came back on time"
    assert abs(told_at(node) - time.time() - START) < 60, "its wall clock is the one that jumps"


def told_at(node: Node) -> float:
    """The time of its first line, in Unix seconds."""
    first = json.loads(node.lines.read_text().splitlines()[0])
    return datetime.fromisoformat(first["timestamp"]).timestamp()


async def circuit_of(node: Node) -> str:
    told = (await node.gets("/admin/circuits")).json["targets"]
    return told[0]["state"] if told else "closed"
