"""Start, warm up, load, rest, judge, write: `python -m bench.soak --minutes 30`."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
import uvloop

from bench.chaos import ChaosUpstream
from bench.processes import Process, free_port, share_out
from bench.run import RESULTS, ROOT
from bench.soak.callers import Callers, Operator
from bench.soak.learned import fill
from bench.soak.oracle import Oracle
from bench.soak.report import Found, draw, markdown
from bench.soak.verdict import Line, at_rest, flat, flowed, logs, nothing_held, value
from bench.soak.watch import Census, Sample, Watch
from sentinel_gateway.core.access import DEFAULT_TENANT
from sentinel_gateway.core.evidence import realm

RATE: Final = 120.0
MINUTES: Final = 30.0
WARM_UP: Final = 1 / 2
"""Of the whole, and no more than `MOST_WARM_UP` seconds: until what is bounded is full, remembered vectors and plans last."""
MOST_WARM_UP: Final = 900.0
FIRST: Final = 20.0
"""Seconds of the same mixture before the gateway is first looked at, at rest: what is loaded late is loaded by then."""
REST: Final = 25.0
"""Seconds: two censuses, and what is done behind the last answers."""
ADMIN: Final = "admin-key-of-the-soak-0123456789-abcdefghij"
CONFIG: Final = """
providers:
  calm: {{dialect: openai, base_url: '{calm}', api_key: key-of-calm, models: [mock-small]}}
  uneasy: {{dialect: openai, base_url: '{uneasy}', api_key: key-of-uneasy, models: [mock-small]}}
  moody: {{dialect: openai, base_url: '{moody}', api_key: key-of-moody, models: [mock-small]}}
  torn: {{dialect: openai, base_url: '{torn}', api_key: key-of-torn, models: [mock-small]}}
  busy: {{dialect: openai, base_url: '{busy}', api_key: key-of-busy, models: [mock-small]}}
models:
  mixed: {{targets: [uneasy/mock-small, calm/mock-small]}}
"""
SPEED: Final = "latency_ms=15;chunk_ms=4;chunks=8;tokens=40"
MOODS: Final = {
    "calm": SPEED,
    "uneasy": f"{SPEED};err=503;err_rate=0.03",
    "moody": f"{SPEED};err=503;err_rate=0.5",
    "torn": f"{SPEED};cut_after=3",
    "busy": f"{SPEED};err=429;err_rate=0.1;retry_after=1",
}
BOUNDED: Final = {
    "MEMORY_CACHE_SIZE": "2000",
    "SENTINEL_CACHE__SEMANTIC__ENTRIES": "2000",
    "SENTINEL_CACHE__DISK__BYTES": "64MiB",
}
"""So small that they are full when the warm-up is over."""
KEYS: Final[Mapping[str, Any]] = {
    "app": {
        "limits": {"requests_per_minute": 1_000_000, "tokens_per_minute": 1_000_000_000, "concurrency": 1_000},
        "budget": {"day": 100_000},
    },
    "poor": {"limits": {"requests_per_minute": 30}},
}


class Plan(NamedTuple):
    """How long, and how much."""

    rate: float
    seconds: float

    @property
    def warm_up(self) -> float:
        return min(WARM_UP * self.seconds, MOST_WARM_UP)


class Soak:
    """The provider, the gateway, and those around it."""

    def __init__(self, plan: Plan, folder: Path, upstream: ChaosUpstream) -> None:
        self.oracle = Oracle(upstream)
        self._plan = plan
        self._folder = folder
        self._upstream = upstream
        self._port = free_port()
        self._base_url = f"http://127.0.0.1:{self._port}"
        self._middle: Census | None = None

    def __repr__(self) -> str:
        return f"<Soak {self._base_url} {self._plan}>"

    async def run(self) -> Found:
        """All of it. Raises ProcessFailed."""
        core = share_out(sorted(os.sched_getaffinity(0))).gateway
        command = (sys.executable, "-m", "sentinel_gateway", "serve")
        await fill(self._folder / "data", realm(DEFAULT_TENANT, ""))
        with Process(
            "gateway", command, environment=self._environment(), directory=self._folder, core=core, grace=60.0
        ) as gateway:
            await asyncio.to_thread(gateway.wait_until_ready, self._port)
            keys = await self._make_keys()
            watch = Watch(gateway.pid, self._folder / "census.json")
            async with self._gathering():
                await self._load(keys, Plan(self._plan.rate, FIRST))
                before = await self._rest(watch)
                callers, operator, planned = await self._watched(watch, keys)
                after, told, held = await self._rest(watch), await self._metrics(), await self._held()
        self.oracle.gather()
        last, middle = watch.census(), self._middle or watch.census()
        settled = [sample for sample in watch.samples if sample.at - watch.samples[0].at >= self._plan.warm_up]
        wrong = [*callers.wrong, *operator.wrong]
        return Found(
            date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            rate=self._plan.rate,
            minutes=self._plan.seconds / 60,
            warm_up=self._plan.warm_up,
            lines=[
                *flat(settled),
                *at_rest(before, after),
                nothing_held(value(told, "sentinel_in_flight"), held),
                self._ledger(),
                *self._logs(told),
                *flowed(callers.came, callers.sources, planned, wrong),
            ],
            samples=watch.samples,
            grown={kind: more for kind, count in last.kinds.items() if (more := count - middle.kinds.get(kind, 0)) > 0},
        )

    def _environment(self) -> dict[str, str]:
        urls = {name: self._upstream.url_with(mood) for name, mood in MOODS.items()}
        file = self._folder / "sentinel.yaml"
        file.touch(mode=0o600)
        file.write_text(CONFIG.format(**urls))
        census = Path(__file__).parent / "census"
        return BOUNDED | {
            "HOME": str(self._folder),
            "PORT": str(self._port),
            "PYTHONPATH": f"{census}:{ROOT / 'src'}",
            "SOAK_CENSUS": str(self._folder / "census.json"),
            "SENTINEL_ADMIN_KEY": ADMIN,
            "SENTINEL_DATA_DIR": str(self._folder / "data"),
        }

    async def _make_keys(self) -> dict[str, str]:
        made = {}
        async with self._operator() as session:
            for name, wanted in KEYS.items():
                async with session.post("/admin/keys", json={"name": name, **wanted}) as answer:
                    answer.raise_for_status()
                    made[name] = (await answer.json())["key"]
        return made

    def _operator(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self._base_url, headers={"authorization": f"Bearer {ADMIN}"})

    @asynccontextmanager
    async def _gathering(self) -> AsyncIterator[None]:
        gathering = asyncio.create_task(self.oracle.keep_gathering())
        try:
            yield
        finally:
            await _end(gathering)

    async def _load(self, keys: Mapping[str, str], plan: Plan) -> tuple[Callers, Operator, int]:
        callers, operator, stopped = Callers(self._base_url, keys), Operator(self._base_url, ADMIN), asyncio.Event()
        looking = asyncio.create_task(operator.look(stopped))
        planned = await callers.run(plan.rate, plan.seconds)
        stopped.set()
        await looking
        return callers, operator, planned

    async def _watched(self, watch: Watch, keys: Mapping[str, str]) -> tuple[Callers, Operator, int]:
        watch.samples.clear()
        watching = asyncio.create_task(watch.keep_looking(lambda sample: self._told(watch, sample)))
        try:
            return await self._load(keys, self._plan)
        finally:
            await _end(watching)

    def _told(self, watch: Watch, sample: Sample) -> None:
        at = sample.at - watch.samples[0].at
        if self._middle is None and at >= self._plan.warm_up:
            self._middle = watch.census()
        if len(watch.samples) % 12 == 1:
            print(
                f"{at / 60:5.1f} min  {sample.resident / 1e6:7.1f} MB  {sample.descriptors:4} descriptors  "
                f"{sample.threads:3} threads  {sample.objects:8,} objects  {sample.tasks:4} tasks",
                flush=True,
            )

    async def _rest(self, watch: Watch) -> Sample:
        """As it is when nobody asks; connections of providers, which are kept for the next, are not counted."""
        await asyncio.sleep(REST)
        seen = watch.look()
        return msgspec.structs.replace(seen, descriptors=seen.descriptors - self._upstream.open_connections)

    async def _metrics(self) -> str:
        async with self._operator() as session, session.get("/metrics") as answer:
            return await answer.text()

    async def _held(self) -> float:
        """USD, of all budgets."""
        async with self._operator() as session, session.get("/api/monitoring/budgets") as answer:
            budgets = (await answer.json())["budgets"]
        return float(sum(budget["held"] for budget in budgets))

    def _ledger(self) -> Line:
        faults = self.oracle.faults(self._folder / "data" / "ledger.db")
        seen = f"{self.oracle.asked.total():,} calls; {faults or 'nothing differs'}"
        return Line("the ledger is the provider's own log", seen, "nothing differs", not faults)

    def _logs(self, told: str) -> list[Line]:
        with (self._folder / "gateway.log").open(errors="replace") as lines:
            return logs(lines, told)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def soak(plan: Plan, folder: Path) -> Found:
    """Run it in a folder that is empty."""
    async with ChaosUpstream(keep_calls=1_000_000) as upstream:
        return await Soak(plan, folder, upstream).run()


def main() -> int:
    """Soak, write, print; 1 if something was not as promised."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second (default 120)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the report (default bench/results)")
    parser.add_argument("--keep", type=Path, help="an empty directory to run in, kept with its logs")
    arguments = parser.parse_args()
    plan = Plan(arguments.rate, 60 * arguments.minutes)
    with tempfile.TemporaryDirectory(prefix="sentinel-soak-") as name:
        found = uvloop.run(soak(plan, arguments.keep or Path(name)))
    stem = f"{found.date[:10]}-soak"
    report = markdown(found, f"make soak MINUTES={arguments.minutes:g} RATE={arguments.rate:g}", f"{stem}.svg")
    (arguments.out / f"{stem}.md").write_text(report)
    (arguments.out / f"{stem}.svg").write_text(draw(found))
    (arguments.out / f"{stem}.json").write_text(json.dumps(msgspec.to_builtins(found)) + "\n")
    print(report)
    return 0 if found.held else 1


if __name__ == "__main__":
    sys.exit(main())
