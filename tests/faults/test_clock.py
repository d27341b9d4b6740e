"""F12: the machine's clock jumps, by an hour or by a second. Nothing ends early for it, and nothing is kept longer.

The gateway is a program whose `time.time` is what a file says: the wall clock, as NTP, daylight saving or an operator sets it. It
lives where summer time ends, and is there when it does.
"""

import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial

import pytest

from sentinel_gateway.core.circuit import PROBE_SECONDS
from tests.faults.conftest import ADMIN, Node
from tests.process.conftest import DEADLINE

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
SLEEP = """
import time
_of_the_machine, asleep = time.clock_gettime, 0.0
time.clock_gettime = lambda which: _of_the_machine(which) + (0 if which == time.CLOCK_MONOTONIC else asleep)
from sentinel_gateway.stores.clock import SteadyClock
clock = SteadyClock()
before, asleep = clock(), 8 * 3600.0
print(clock() - before >= asleep)
"""
"""The machine sleeps for a night: Linux' clocks go on, but for the monotonic one."""
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


def beside(moment: datetime) -> int:
    """So far beside the machine's clock is this one now."""
    return round(moment.timestamp() - time.time())


class Lifetime:
    """What a hit had left at some moment, and what it has to have left later: no clock but the monotonic one is asked."""

    def __init__(self, left: int, asked: float) -> None:
        self._left, self._asked, self._told = left, asked, time.monotonic()

    def check(self, left: int, asked: float) -> None:
        """To a second, and one for what is told in whole ones."""
        now = time.monotonic()
        assert self._left - (now - self._asked) - 2 <= left <= self._left - (asked - self._told) + 2, "early, or late"


def lifetime(answer) -> int:
    """The seconds that a hit has left."""
    assert answer.headers["x-cache"] == "exact", answer.headers
    return int(answer.headers["cache-status"].partition("ttl=")[2])


async def test_nothing_ends_early_and_nothing_lasts_longer(start, upstream, clock):
    node = await start(MEMORY_CACHE_SIZE="1000", SENTINEL_LIMITS__REQUESTS_PER_MINUTE=str(REQUESTS))
    assert (await node.asks("Kept?", **{"x-cache-ttl": str(TTL)})).status == 200
    asked = time.monotonic()
    left = lifetime(await node.asks("Kept?"))
    kept = Lifetime(left, asked)
    assert left <= TTL

    upstream.script("err=503", times=100)
    while await circuit_of(node) != "open":
        assert (await node.asks("Who fails?")).status == 502
    calls, opened = upstream.count, time.monotonic()
    for jump in JUMPS:
        clock.jump(jump)
        asked = time.monotonic()
        answer = await node.asks("Kept?")
        kept.check(lifetime(answer), asked)
        assert 0 <= int(answer.headers["age"]) <= TTL
        assert await circuit_of(node) == "open", "its pause is no shorter"
        assert (await node.asks("Who fails?")).status == 502
    seconds = time.monotonic() - opened
    assert upstream.count <= calls + seconds / PROBE_SECONDS + 2, "one a second, by the clock that does not jump"

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


async def test_started_again_by_a_clock_that_was_set_back_nothing_lasts_longer(start, upstream, clock, tmp_path):
    """At noon, an hour later, and two hours before that. What was spent stays spent, what was done once is not done again, and
    an answer whose age nobody knows is none."""
    noon = beside(datetime(2026, 10, 25, 12, tzinfo=UTC))
    own = {
        "SENTINEL_BUDGET__DAY": "1",
        "TZ": "Europe/Berlin",
        "SENTINEL_DATA_DIR": str(tmp_path / "data"),
        "MEMORY_CACHE_SIZE": "9",
    }
    clock.jump(noon)
    node = await start(**own)
    await clears_nothing(node)
    assert (await node.asks("Kept?", **{"x-cache-ttl": str(3 * HOUR)})).status == 200
    once = await node.asks("Once?", **{"idempotency-key": "once"})
    found = await stored(node, "Kept?")
    assert found.headers["x-cache"] == "exact"
    left, audited = found.headers["x-budget-remaining"], await audit_of(node)
    assert float(left) < 1, "nothing was spent"
    for jump, kept in ((noon + HOUR, True), (noon - HOUR, False)):
        await asyncio.to_thread(node.stop)
        clock.jump(jump)
        node = await start(**own)
        await clears_nothing(node)
        assert (await stored(node, "Kept?", patient=kept)).status == (200 if kept else 504)
        again = await node.asks("Once?", **{"idempotency-key": "once"})
        assert (again.status, again.text) == (200, once.text), "it was done once"
        assert again.headers["x-budget-remaining"] == left, "it was spent in this day"
        assert upstream.count == 2
        audited, before = await audit_of(node), audited
        assert len(audited) > len(before) > 0
        assert audited[-len(before) :] == before, "in the order in which it was done, whatever the clock said"


async def test_a_node_whose_clock_is_wrong_goes_by_that_of_the_database(start, clock, postgres):
    """What ends in an hour for all the other nodes has not ended hours ago."""
    node = await start(SENTINEL_DATABASE_URL=postgres.fresh())
    assert abs(node.events("database_clock_differs")[0]["seconds"] - START) < 60, "it is hours ahead"
    body = {"name": "short", "expires": time.time() + HOUR}
    asked = partial(node.request, "POST", "/admin/keys", body, authorization=f"Bearer {ADMIN}")
    made = await asyncio.to_thread(asked)
    assert made.status == 201, made
    key = {"authorization": f"Bearer {made.json['key']}"}
    assert (await node.asks("Who is this?", **key)).status == 200


async def test_the_end_of_summer_time_is_a_moment_like_others(start, clock):
    """And so is a leap second, which the machine's clock makes up for by a jump, one way or the other."""
    end = datetime(2026, 10, 25, 1, tzinfo=UTC)
    begun = time.monotonic()
    clock.jump(beside(end) - 2)
    node = await start(MEMORY_CACHE_SIZE="1000", TZ="Europe/Berlin")
    assert (await node.asks("Kept?", **{"x-cache-ttl": str(TTL)})).status == 200
    asked = time.monotonic()
    kept = Lifetime(lifetime(await node.asks("Kept?")), asked)
    for jump in (0, 1, -1):
        clock.jump(beside(end) + jump)
        asked = time.monotonic()
        kept.check(lifetime(await node.asks("Kept?")), asked)
    await asyncio.to_thread(node.stop)
    told = [json.loads(line)["timestamp"] for line in node.lines.read_text().splitlines()]
    moments = [datetime.fromisoformat(one).timestamp() - end.timestamp() for one in told]
    assert moments == sorted(moments), "a log goes on as time does"
    assert -5 < moments[0] <= moments[-1] < time.monotonic() - begun + 5, "in UTC"


async def test_a_night_in_which_the_machine_sleeps_passes_as_others_do():
    """Else what is kept for an hour would be served for nine, and a budget's day would end late."""
    ran = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", SLEEP], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


async def stored(node: Node, question: str, *, patient: bool = True):
    """The stored answer. Who is patient asks again: a look-up on the disk of a busy machine may be late."""
    async with asyncio.timeout(DEADLINE):
        while (found := await node.asks(question, **{"cache-control": "only-if-cached"})).status != 200 and patient:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return found


async def clears_nothing(node: Node) -> None:
    """Something for the audit log."""
    ask = partial(node.request, "POST", "/admin/cache/clear", {"tag": "of nothing"}, authorization=f"Bearer {ADMIN}")
    assert (await asyncio.to_thread(ask)).status == 200


async def audit_of(node: Node) -> list[tuple[int, str]]:
    """What is in it, the newest first, by number."""
    return [(entry["id"], entry["action"]) for entry in (await node.gets("/admin/audit")).json["data"]]


def told_at(node: Node) -> float:
    """The time of its first line, in Unix seconds."""
    first = json.loads(node.lines.read_text().splitlines()[0])
    return datetime.fromisoformat(first["timestamp"]).timestamp()


async def circuit_of(node: Node) -> str:
    told = (await node.gets("/admin/circuits")).json["targets"]
    return told[0]["state"] if told else "closed"
