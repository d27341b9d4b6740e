"""Three gateways behind nginx, a Redis Cluster of three and PostgreSQL, while somebody kills and restarts them: `make scale-out`.

Says what callers saw, what the provider saw and what the ledger holds, and ends with 1 if a promise of the contract did not hold.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench.run import describe_machine
from tests.scale_out.fleet import NODES, OUTPUT, Fleet, running
from tests.scale_out.load import Load, Program, loading
from tests.scale_out.network import Network, network, own_network
from tests.scale_out.verdict import Promise, between_kills, ledger, limit, nobody_failed

RPM = 120
THINKING = 150
"""Milliseconds of the provider `quick`, so that there is always something under way."""
RESULTS = Path(__file__).parents[2] / "bench" / "results"
PATIENCE = 60.0


class Plan(NamedTuple):
    """How much, and how long (seconds)."""

    streams: int
    rate: float
    quiet: float
    chunk: int
    """Milliseconds from one word of a stream to the next."""
    tokens: int
    """Words of a stream."""
    outage: float


FULL = Plan(streams=200, rate=30, quiet=15, chunk=500, tokens=60, outage=10)
QUICK = Plan(streams=20, rate=15, quiet=2, chunk=100, tokens=30, outage=3)


class Act(NamedTuple):
    """In which nobody may fail; `time.monotonic()`."""

    name: str
    began: float
    ended: float


@dataclass
class Story:
    """What was done, and what came of it."""

    plan: Plan
    fleet: Fleet
    load: Load
    kills: list[float] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)

    async def quiet(self) -> None:
        began = time.monotonic()
        await asyncio.sleep(self.plan.quiet)
        self._end("nothing is wrong", began)

    async def kill_nodes(self) -> None:
        """Each in its turn, and somebody starts it again."""
        for number in range(NODES):
            self.kills.append(self.fleet.kill(number))
            await asyncio.sleep(1)
            back = await self.fleet.start(number)
            self.told.append(f"node {number + 1} was killed, started a second later, and ready {back:.1f} s after that")
            await asyncio.sleep(self.plan.quiet / 3)
        await asyncio.sleep(1)

    async def kill_redis(self) -> None:
        """One of the three: its third of the slots is gone with it, and the cluster refuses to serve the others."""
        began = time.monotonic()
        self.fleet.redis.nodes[1].stop()
        await asyncio.sleep(self.plan.outage)
        down = (await self.fleet.services("redis")).count("down")
        await asyncio.to_thread(self.fleet.redis.nodes[1].start)
        back = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while set(await self.fleet.services("redis")) != {"up"}:  # noqa: ASYNC110 - it happens elsewhere
                await asyncio.sleep(0.1)
        self.told.append(
            f"a Redis node was away for {self.plan.outage:g} s: {down} gateways did without the cluster, and all used it again "
            f"{time.monotonic() - back:.1f} s after it had come back"
        )
        await asyncio.sleep(1)
        self.promises.append(Promise("the loss of a Redis node is noticed", f"by {down} of {NODES}", down == NODES))
        self._end("a Redis node is killed", began)

    async def restart_all(self) -> None:
        """SIGTERM, one after the other, each with its share of the streams."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while self.load.live < 0.95 * self.plan.streams:  # noqa: ASYNC110 - many bring it about
                await asyncio.sleep(0.1)
        least = self.plan.streams
        for number in range(NODES):
            live = self.load.live
            least = min(least, live)
            drained = await self.fleet.stop(number)
            back = await self.fleet.start(number)
            self.told.append(
                f"node {number + 1} was told to stop with {live} streams live on all: ended after {drained:.1f} s, "
                f"ready again {back:.1f} s later"
            )
        self.promises.append(
            Promise("streams are live while nodes restart", f"{least} or more", least >= 0.9 * self.plan.streams)
        )
        self._end("a rolling restart", began)

    def judge(self) -> None:
        """When all is over: who was sent in an act is answered later."""
        for name, began, ended in self.acts:
            asked = [one for one in self.load.between(began, ended) if not any(map(one.was_under_way, self.kills))]
            self.promises.append(nobody_failed(name, asked, at_least=1))
        (_, _, peace), (_, afterwards, _), *_ = self.acts
        asked = [one for one in self.load.between(0, afterwards) if one.ended > peace]
        self.promises.append(between_kills(asked, self.kills))

    def _end(self, name: str, began: float) -> None:
        self.acts.append(Act(name, began, time.monotonic()))


@asynccontextmanager
async def asking(plan: Plan, fleet: Fleet, load: Load, budget: int) -> AsyncIterator[None]:
    """Everybody asks until the context is left, and is heard to the end."""
    keys = {
        "everybody": await fleet.create_key("everybody"),
        "limited": await fleet.create_key("limited", "--rpm", str(RPM)),
        "poor": await fleet.create_key("poor", "--budget-day", f"{budget / 1e9:.9f}"),
    }
    await asyncio.gather(*(fleet.start(number) for number in range(NODES)))
    programs = [
        Program("everybody", keys["everybody"], plan.rate),
        Program("limited", keys["limited"], 6.0, limited=True),
        Program("poor", keys["poor"], 4.0, old=False, limited=True),
    ]
    stopped = asyncio.Event()
    async with asyncio.TaskGroup() as clients:
        for program in programs:
            clients.create_task(load.program(program, stopped))
        for number in range(plan.streams):
            clients.create_task(_listen_later(load, keys["everybody"], number, plan, stopped))
        try:
            yield
        finally:
            stopped.set()


async def _listen_later(load: Load, key: str, number: int, plan: Plan, stopped: asyncio.Event) -> None:
    """Streams of one length that begin together would end together."""
    await asyncio.sleep(number * plan.chunk * plan.tokens / 1000 / plan.streams)
    await load.listen(key, f"Listener {number}", stopped)


async def tell(plan: Plan, made: Network, home: Path) -> Story:
    """The whole story, judged."""
    budget = int(4.0 * 12 * OUTPUT * (plan.quiet * 3 + plan.outage))
    async with (
        running(made, home, thinking=THINKING, chunk=plan.chunk, tokens=plan.tokens) as fleet,
        loading(fleet.front) as load,
    ):
        story = Story(plan, fleet, load)
        async with asking(plan, fleet, load, budget):
            await story.quiet()
            await story.kill_nodes()
            await story.kill_redis()
            await story.restart_all()
        for number in range(NODES):
            await fleet.stop(number)
        story.judge()
        story.promises.append(limit(load.of("limited"), RPM))
        story.promises += ledger(fleet, load, story.kills, budget)
        complaints = [line for node in fleet.nodes.values() for line in node.complaints]
        story.promises.append(Promise("no node has a fault of its own", f"{len(complaints)} {complaints[:1]}", not complaints))
    return story


def report(story: Story, kind: str, command: str) -> str:
    """As Markdown."""
    plan, asked, machine = story.plan, story.load.asked, describe_machine()
    cached = sum(one.outcome == "exact" for one in asked)
    seconds = plan.chunk * plan.tokens / 1000
    told = "\n".join(f"- {line}" for line in story.told)
    judged = "\n".join(f"| {said} | {found} | {'held' if held else '**BROKEN**'} |" for said, found, held in story.promises)
    return f"""# Scale-out, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC

`{command}` on {machine.cores} cores ({machine.cpu}, {machine.kernel}, Python {machine.python}, load {machine.load_average:.1f}).
Machines are {kind}.

Three gateways behind nginx (`deploy/nginx/sentinel.conf`, TLS), a Redis Cluster of three, PostgreSQL; {plan.streams} streams of
{seconds:g} s at a time and {plan.rate + 10:g} other requests a second: {len(asked)} in all, {cached} of them from the cache.

{told}

| promise | found | |
|---|---|---|
{judged}
"""


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.scale_out.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short streams: does it work? No figures to quote")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report (default bench/results)")
    arguments = parser.parse_args()
    own_network()
    with tempfile.TemporaryDirectory(prefix="scale-out-") as name, network() as made:
        story = uvloop.run(tell(QUICK if arguments.quick else FULL, made, Path(name)))
        command = "make scale-out" if len(sys.argv) == 1 else " ".join(["python -m tests.scale_out.run", *sys.argv[1:]])
        text = report(story, made.kind, command)
    (arguments.out / f"{datetime.now(UTC):%Y-%m-%d}-scale-out.md").write_text(text)
    print(text)
    return 0 if all(promise.held for promise in story.promises) else 1


if __name__ == "__main__":
    sys.exit(main())
