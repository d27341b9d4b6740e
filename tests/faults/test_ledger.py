"""B2, B6, B8: whatever dies, breaks off or runs full, the ledger says what the provider says, and says it once.

The oracle is the provider's own log: each call carries our id of the request that it was made for.
"""

import asyncio
import math
import random
import sqlite3
import subprocess
import time
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from bench.chaos import ChaosUpstream
from tests.faults.conftest import ADMIN, SECRET, Node
from tests.faults.kept import ledger_rows
from tests.gateway import CHAT, MODELS, chat
from tests.servers import free_port

pytestmark = pytest.mark.anyio

SIZES = [
    pytest.param("sqlite", 600, 120, id="600"),
    pytest.param("sqlite", 50_000, 2_000, id="50000", marks=pytest.mark.long),
    pytest.param("postgres", 50_000, 2_000, id="50000-postgres", marks=pytest.mark.long),
]
"""Where the ledger is, requests, and how many of them are over from one kill to the next, be the machine fast or slow."""
CLIENTS = 12
MAY_LACK = {"orphan", "left", "unreachable", "timeout"}
"""Endings of a row whose call the provider may never have seen."""
GATHERED = 2.0
"""Seconds around a kill in which a request's own row may still have been in memory: 50 ms, and what a busy machine adds."""
UNHARMED = 60
"""Requests after the last kill. What answers them is stopped, not killed: that loses no row, however near the kill was."""
KIB = 1024
INPUT, OUTPUT = 590, 790
"""Nano-USD a token: what stands for the price of a model that nobody has a price for."""

CONFIG = """
providers:
  calm: {{dialect: openai, base_url: '{calm}', api_key: key-of-calm, models: [{models}]}}
  moody: {{dialect: openai, base_url: '{moody}', api_key: key-of-moody, models: [{models}]}}
models:
  mixed: {{targets: [moody/mock-small, calm/mock-small]}}
"""


@dataclass
class Client:
    """What callers have seen."""

    answered: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Our ids of the requests that were answered whole, when they were asked and when answered (`time.monotonic()`)."""
    sources: Counter[str] = field(default_factory=Counter)
    aborted: int = 0
    broken: int = 0


async def ask(session: aiohttp.ClientSession, seen: Client, number: int, chance: random.Random) -> None:
    """One request: new or asked before, whole or streamed, some broken off by the caller."""
    old = chance.random() < 0.4
    stream, leaves = chance.random() < 0.3, chance.random() < 0.12
    began = time.monotonic()
    body = chat(f"Old question {chance.randrange(20)}" if old else f"New question {number}", "mixed", stream=stream)
    try:
        async with session.post(CHAT, json=body) as response:
            if leaves:
                await response.content.readany()
                response.close()
                seen.aborted += 1
                return
            await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError):
        seen.broken += 1
        return
    if response.status == 200:
        seen.answered[response.headers["x-sentinel-id"]] = began, time.monotonic()
        seen.sources[response.headers["x-cache"]] += 1


class Story:
    """A gateway that is killed again and again while clients ask, and a provider that fails now and then."""

    def __init__(self, home: Path, upstream: ChaosUpstream, *, database: str | None = None, **environ: str) -> None:
        self.home = home
        self._database = database
        self.kills: list[float] = []
        self.up = asyncio.Event()
        self._environ = {
            "SENTINEL_SECRET": SECRET,
            "SENTINEL_ADMIN_KEY": ADMIN,
            "SENTINEL_DATA_DIR": str(home / "data"),
            "SENTINEL_CACHE__SEMANTIC__ENABLED": "false",
            "SENTINEL_SERVER__DRAIN_NOTICE": "0",
            "PORT": str(free_port()),
        } | environ
        if database is not None:
            self._environ["SENTINEL_DATABASE_URL"] = database
        moody = upstream.url_with("err=503;err_rate=0.2;chunk_ms=2")
        config = CONFIG.format(calm=upstream.url_with("chunk_ms=2"), moody=moody, models=", ".join(MODELS))
        file = home / "sentinel.yaml"
        file.touch(mode=0o600)
        file.write_text(config)
        self.node: Node

    async def begin(self) -> Node:
        self.node = await asyncio.to_thread(Node, self.home, self._environ)
        self.up.set()
        return self.node

    async def kill(self) -> None:
        self.up.clear()
        self.kills.append(time.monotonic())
        await asyncio.to_thread(self.node.kill)
        await self.begin()

    async def end(self) -> None:
        await asyncio.to_thread(self.node.stop)

    def rows(self, question: str) -> list[tuple]:
        """What the ledger holds."""
        return ledger_rows(self.home / "data", question, self._database)


async def many(story: Story, seen: Client, count: int, every: float = math.inf, *, first: int = 0) -> None:
    """All requests, a dozen at a time, and a kill whenever `every` of them are over."""
    numbers, chance, over = iter(range(first, first + count)), random.Random(first + count), 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal over
        for number in numbers:
            await story.up.wait()
            await ask(session, seen, number, chance)
            over += 1

    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(story.node.base_url, timeout=timeout) as session:
        working = asyncio.gather(*(work(session) for _ in range(CLIENTS)))
        try:
            while not working.done():
                await asyncio.wait([working], timeout=0.002)
                if over >= every * (len(story.kills) + 1):
                    await story.kill()
        finally:
            working.cancel()
        await working


@pytest.mark.parametrize(("kind", "count", "every"), SIZES)
async def test_the_ledger_is_the_providers_own_log(request, tmp_path, anyio_backend, kind, count, every):
    seen = Client()
    database = request.getfixturevalue(kind).fresh() if kind == "postgres" else None
    async with ChaosUpstream(keep_calls=4 * count) as upstream:
        story = Story(tmp_path, upstream, database=database)
        await story.begin()
        await many(story, seen, count, every)
        killed = len(seen.answered)
        await many(story, seen, UNHARMED, first=count)
        await story.end()
        calls = [call for call in upstream.calls if call.method == "POST"]
    asked = Counter(call.headers["x-request-id"] for call in calls)
    rows = story.rows("SELECT id, number, ending, completion_tokens, prompt_tokens, cost FROM attempts")
    booked = Counter(row[0] for row in rows)
    endings = Counter(row[2] for row in rows)
    print(f"{count} requests, {len(calls)} calls, {len(rows)} rows {dict(endings)}; {len(story.kills)} kills; {seen.sources}")
    assert story.kills, "nothing was killed"
    assert seen.aborted, "nobody has left"
    assert seen.sources["exact"], "nothing was answered from the cache"
    assert endings["broken"], "the provider has not failed"
    assert endings["orphan"], "nothing was under way when it was killed"

    assert {key for key in asked if asked[key] > booked[key]} == set(), "a call without its row"
    unseen = {key for key in booked if booked[key] > asked[key]}
    more = {row[0] for row in rows if row[2] in MAY_LACK}
    assert unseen <= more, "a row of a call that nobody made"
    assert len({row[:2] for row in rows}) == len(rows)

    told = {call.headers["x-request-id"]: call.tokens_sent for call in calls if call.status == 200}
    wrong = {row for row in rows if row[2] == "answered" and row[3] != told[row[0]]}
    assert wrong == set(), "tokens that the provider has not told"

    answered = [row for row in rows if row[2] == "answered"]
    assert sum(row[5] for row in answered) == sum(INPUT * row[4] + OUTPUT * row[3] for row in answered), "not to the last digit"

    handled = {key for (key,) in story.rows("SELECT id FROM requests")}
    lost = [key for key in seen.answered if key not in handled]
    print(f"{len(seen.answered)} answered, {len(lost)} of them without a row: within {GATHERED:g} s of a kill")
    ended = [seen.answered[key][1] for key in lost]
    assert [when for when in ended if not any(abs(kill - when) < GATHERED for kill in story.kills)] == []
    written = written_by_then(seen, story.kills, asked)
    assert written, "no call was made after an answer"
    # A stream's row may come a moment after its last byte, once its answer is kept: one of each client's at a kill.
    assert len(written - handled) <= CLIENTS * len(story.kills), "the next call writes it"
    after = list(seen.answered)[killed:]
    assert len(after) > CLIENTS, "hardly anything was answered after the last kill"
    assert set(after) <= handled, "a stop has lost the row of a request"


def written_by_then(seen: Client, kills: list[float], asked: Mapping[str, int]) -> set[str]:
    """Requests that were answered before another was asked for which the same gateway made a call: that wrote both."""
    lives: defaultdict[int, dict[str, tuple[float, float]]] = defaultdict(dict)
    for key, times in seen.answered.items():
        first, last = (bisect(kills, moment) for moment in times)
        if first == last:
            lives[first][key] = times
    written: set[str] = set()
    for answered in lives.values():
        latest = max((began for key, (began, _) in answered.items() if key in asked), default=0.0)
        written |= {key for key, (_, ended) in answered.items() if ended < latest}
    return written


def mount(*args: str) -> int:
    """The exit status: not everybody may."""
    return subprocess.run(["mount", *args], capture_output=True, check=False).returncode


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_costs_no_row_and_the_503_ends_by_itself(tmp_path, anyio_backend, absent):
    journal = tmp_path / "data" / "journal"
    journal.mkdir(parents=True, mode=0o700)
    if mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(journal)):
        absent("the right to mount a small file system")
    taken = sqlite3.connect(tmp_path / "data" / "ledger.db", isolation_level=None)
    taken.execute("BEGIN EXCLUSIVE")  # so that nothing makes room
    try:
        async with ChaosUpstream() as upstream:
            story = Story(tmp_path, upstream, SENTINEL_LEDGER__SPILL_BYTES=str(32 * KIB))
            node = await story.begin()
            answers, number = Counter(), 0
            async with aiohttp.ClientSession(node.base_url) as session:
                while not answers[503]:
                    number += 1
                    async with session.post(CHAT, json=chat(f"{number}?", "calm/mock-small")) as response:
                        answers[response.status] += 1
                        refusal = await response.json()
                assert answers.keys() == {200, 503}
                assert "make room" in refusal["error"]["message"]
                assert response.headers["retry-after"]
                assert sum(file.stat().st_size for file in journal.rglob("*.segment")) > 30 * KIB, "the disk was not full"
                assert (await node.services())["ledger"] == "down"
                before = answers[200]
                assert mount("-o", "remount,size=8m", str(journal)) == 0
                async with asyncio.timeout(30):
                    while answers[200] == before:
                        await asyncio.sleep(0.05)
                        async with session.post(CHAT, json=chat(f"after {number}?", "calm/mock-small")) as response:
                            answers[response.status] += 1
            taken.close()
            await story.end()
            told = [event["event"] for event in node.events("ledger_journal")]
            assert told == ["ledger_journal_refused", "ledger_journal_recovered"]
        rows = story.rows("SELECT count(*), count(DISTINCT id), sum(ending = 'answered') FROM attempts")
        assert rows == [(answers[200],) * 3]
    finally:
        unmount(journal)


async def test_a_backup_that_is_made_meanwhile_has_equal_sums(tmp_path, anyio_backend):
    """By SQLite's own backup, as docs/ledger.md says; what came later is in the original."""
    seen, copies, rows = Client(), [], 0
    async with ChaosUpstream() as upstream:
        story = Story(tmp_path, upstream)
        node = await story.begin()
        asking = asyncio.create_task(many(story, seen, 100_000))
        while len(copies) < 3:
            await asyncio.sleep(0.1)
            copy, before = tmp_path / f"backup-{len(copies)}.db", rows
            rows = await asyncio.to_thread(_back_up, tmp_path / "data" / "ledger.db", copy)
            if rows > before:
                copies.append(copy)
        asking.cancel()
        await asyncio.wait([asking])
        await story.end()
        assert node.complaints == []
    everything = dict(story.rows(KEPT))
    sizes = []
    for copy in copies:
        connection = sqlite3.connect(copy)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kept = dict(connection.execute(KEPT).fetchall())
        connection.close()
        assert kept.items() <= everything.items()
        sizes.append(len(kept))
    assert 0 < sizes[0] < sizes[-1] <= len(everything)


KEPT = "SELECT id || number, completion_tokens FROM attempts"


def _back_up(original: Path, copy: Path) -> int:
    """Make one; how many calls are in it."""
    if not original.exists():
        return 0
    source, target = sqlite3.connect(f"file:{original}?mode=ro", uri=True), sqlite3.connect(copy)
    try:
        source.backup(target)
        return int(target.execute("SELECT count(*) FROM attempts").fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0
    finally:
        source.close()
        target.close()
