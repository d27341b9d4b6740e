"""What looking costs: hits beside 200 open dashboards, and pages over a long past: `python -m bench.dashboard`.

A gateway with the built-in provider and a ledger of a million rows. Hits are asked with and without dashboards in turn, slice by
slice of one run, so that what else the machine does is in both. Pages are asked for once each, right after the start, with ten
thousand stored answers: what they take the first time is what they take.
"""

import argparse
import asyncio
import http.client
import os
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlencode

import uvloop

from bench.load import Clients, Message, closed_loop
from bench.processes import Process, free_port, share_out
from bench.run import GATEWAY, RESULTS, describe_machine
from bench.workloads import AT_ONCE, same, unique
from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.closing import Closer
from sentinel_gateway.ports.ledger import Handled, Intent, Settled, Spent

ROWS: Final = 1_000_000
ENTRIES: Final = 10_000
LOOKING: Final = 200
ROUNDS: Final = 8
SECONDS: Final = 4.0
SETTLING: Final = 1.0
"""Seconds after dashboards were opened, or closed, that are not counted."""
COST_BAR: Final = 5.0
"""Per cent of the CPU of a hit."""
PAGE_BAR: Final = 300.0
"""Milliseconds."""
ADMIN: Final = "bench-admin-key-of-this-run-alone-0123456789"
MICROS: Final = 1_000_000
PAGES: Final = (
    *(f"/dashboard{path}" for path in ("", "/providers", "/semantic", "/cache", "/money", "/keys", "/alerts", "/playground")),
    *(f"/dashboard{path}" for path in ("/explain", "/config", "/config?only=all", "/audit", "/keys/list", "/alerts/now")),
    *(f"/dashboard/savings?span={span}" for span in ("hour", "day", "week", "month", "quarter")),
    *(f"/dashboard/money/shares?by={by}&days={days}" for days in (1, 30, 90) for by in ("tenant", "key", "model", "day")),
    "/dashboard/money/export.csv?by=key&days=90",
    "/dashboard/audit/audit.csv",
    *(f"/dashboard/providers/now?hours={hours}" for hours in (1, 24)),
    "/dashboard/cache?words=000000009999",
    "/dashboard/cache?tag=none",
    "/dashboard/cache?preview=1&tag=none",
    "/dashboard/cache?preview=1&older_than=86400",
    "/dashboard/semantic?threshold=0.9",
    "/dashboard/explain?id=unknown",
)


class Took(NamedTuple):
    """What a page took, in milliseconds: by the clock, and of CPU, which is right also where others have the machine as well."""

    clock: float
    cpu: float


class Slice(NamedTuple):
    """CPU of the gateway for each good answer in microseconds, answers a second, and frames that dashboards were sent."""

    cpu: float
    rate: float
    frames: int


def ask_by(number: int, at: int, chance: random.Random) -> Iterator[Handled | Settled]:
    """A hit, or a miss and the call for it: of one of 50 keys of 5 tenants, of 10 models."""
    id_, model = f"{number:032x}", f"m{chance.randrange(10)}"
    who = f"tenant {number % 5}", f"key_{number % 50:016x}", "/v1/chat/completions"
    if chance.random() < 1 / 3:
        yield Handled(id_, at, *who, 200, "exact", "memory", f"demo/{model}", "demo", model, saved=900, duration=400)
        return
    took = int(chance.lognormvariate(13.5, 1))
    yield Handled(id_, at, *who, 200, "miss", "", f"demo/{model}", "demo", model, 1, duration=took)
    intent = Intent(id_, 1, at, *who, f"demo/{model}", "demo", model)
    yield Settled(intent, "answered", Spent(9, 0, 0, 9, 0, 900), duration=took)


def fill(folder: Path, rows: int, days: int) -> str:
    """Make a ledger of so many rows, spread over so many days up to now; the id of a request in it."""
    folder.mkdir(parents=True, exist_ok=True)
    database = make_database(folder, None)
    now, chance, number, written = time.time(), random.Random(1), 0, 0
    while written < rows:
        batch: list[Handled | Settled] = []
        while len(batch) < min(10_000, rows - written):
            batch += ask_by(number, int((now - 86_400 * days * chance.random()) * MICROS), chance)
            number += 1
        database.copy(batch)
        written += len(batch)
    database.close()
    return f"{number - 1:032x}"


def add_up(folder: Path) -> float:
    """Close what is over, as the gateway does beside its work; CPU seconds."""
    database, began = make_database(folder, None), time.process_time()
    closer = Closer(database, time.time)
    while closer.work(60.0):
        pass
    database.close()
    return time.process_time() - began


class Visitor:
    """A browser that is signed in as the operator."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: dict[str, str] = {}
        _, form = self._ask("GET", "/dashboard/sign-in")
        found = re.search(r'name="token" value="([^"]*)"', form)
        self._ask("POST", "/dashboard/sign-in", urlencode({"token": found[1] if found else "", "key": ADMIN, "to": ""}))

    def __repr__(self) -> str:
        return f"<Visitor of {self._port}>"

    def time(self, path: str) -> float:
        """From the request to the last byte, in milliseconds. Raises ValueError for anything but a page."""
        began = time.perf_counter()
        status, _ = self._ask("GET", path)
        took = 1000 * (time.perf_counter() - began)
        if status != http.client.OK:
            raise ValueError(f"{path} answered {status}")
        return took

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = {"accept": "text/html", "content-type": "application/x-www-form-urlencoded", "cookie": cookies}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            for line in answer.headers.get_all("set-cookie") or ():
                name, _, value = line.partition(";")[0].partition("=")
                self._cookies[name] = value
            return answer.status, answer.read().decode()
        finally:
            connection.close()


class Dashboards:
    """So many open dashboards, on a thread of their own: each reads the frames that it is sent."""

    def __init__(self, port: int, count: int) -> None:
        self.frames = 0
        self._port = port
        self._count = count
        self._looking: list[asyncio.Task[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Dashboards {self._count}, {self.frames} frames>"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._looking = [self._loop.create_task(self._look()) for _ in range(self._count)]
        self._loop.run_forever()

    async def _end(self) -> None:
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def _look(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        writer.write(b"GET /dashboard/events?page=overview HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        try:
            while line := await reader.readline():
                self.frames += line.startswith(b"data: {")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@contextmanager
def looked_at(port: int, count: int) -> Iterator[Dashboards | None]:
    """While so many dashboards are open."""
    dashboards = Dashboards(port, count) if count else None
    try:
        time.sleep(SETTLING)
        yield dashboards
    finally:
        if dashboards is not None:
            dashboards.close()
            time.sleep(SETTLING)


def measure(process: Process, port: int, count: int, *, seconds: float) -> Slice:
    """Exact hits of 32 clients beside so many dashboards."""
    make = same("Which spade fits a small clay bed?", model="demo")(iter(()))
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with looked_at(port, count) as dashboards:
        before, cpu = 0 if dashboards is None else dashboards.frames, process.cpu_seconds()
        report = uvloop.run(closed_loop(url, make, AT_ONCE, seconds=seconds))
        cpu = process.cpu_seconds() - cpu
        frames = 0 if dashboards is None else dashboards.frames - before
    return Slice(cpu / report.good * 1e6, report.good / report.seconds, frames)


def hits(process: Process, port: int, *, rounds: int, seconds: float) -> list[tuple[Slice, Slice]]:
    """Without and with dashboards, in turn."""
    measure(process, port, 0, seconds=seconds)
    found = []
    for number in range(rounds):
        order = (0, LOOKING) if number % 2 else (LOOKING, 0)
        pair = {count: measure(process, port, count, seconds=seconds) for count in order}
        found.append((pair[0], pair[LOOKING]))
    return found


def pages(process: Process, port: int, asked: str) -> dict[str, Took]:
    """What each takes the first time, with so many entries stored."""
    make = unique(model="demo", logprobs=True)(iter(range(ENTRIES)))  # compared with no other, which would take minutes

    def message(number: int) -> Message:
        return make(number)

    uvloop.run(closed_loop(f"http://127.0.0.1:{port}/v1/chat/completions", message, Clients(32), requests=ENTRIES))
    visitor = Visitor(port)
    process.wait_until_quiet()
    found = {}
    for path in (*PAGES, f"/dashboard/explain?id={asked}"):
        cpu = process.cpu_seconds()
        found[path] = Took(visitor.time(path), 1000 * (process.cpu_seconds() - cpu))
    return found


def report(lines: Sequence[str], took: dict[str, dict[str, Took]], slices: Sequence[tuple[Slice, Slice]]) -> str:
    """As Markdown."""
    machine = describe_machine()
    told = [
        f"# Dashboards, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"`python -m bench.dashboard`. {machine.cpu}, {machine.cores} cores, load {machine.load_average:.1f} at the end.",
        "",
        *lines,
        "",
        "## Pages",
        "",
        f"Milliseconds of the gateway's CPU, and from request to last byte, the first time it is asked for. Bar: {PAGE_BAR:.0f}.",
        "",
        f"| page or part | {' | '.join(took)} |",
        f"|---|{'---|' * len(took)}",
    ]
    names = list(dict.fromkeys(path.partition("id=0")[0] for found in took.values() for path in found))
    by_name = {when: {path.partition("id=0")[0]: one for path, one in found.items()} for when, found in took.items()}
    told += [
        f"| `{name}` | {' | '.join(f'{found[name].cpu:.0f}, {found[name].clock:.0f}' for found in by_name.values())} |"
        for name in names
    ]
    told += ["", f"## Hits beside {LOOKING} open dashboards", "", "| us CPU a hit | without | with | more | frames a second |"]
    told += ["|---|---|---|---|---|"]
    shares = [100 * (looked.cpu / alone.cpu - 1) for alone, looked in slices]
    told += [
        f"| round {number} | {alone.cpu:.1f} | {looked.cpu:.1f} | {share:+.1f} % | {looked.frames / SECONDS:.0f} |"
        for number, ((alone, looked), share) in enumerate(zip(slices, shares, strict=True), 1)
    ]
    least = [min(pair[side].cpu for pair in slices) for side in (0, 1)]  # others only ever add to it
    alone, looked = (statistics.median(pair[side].cpu for pair in slices) for side in (0, 1))
    told += [f"| median | {alone:.1f} | {looked:.1f} | {statistics.median(shares):+.1f} % | |"]
    told += [
        f"| least | {least[0]:.1f} | {least[1]:.1f} | {100 * (least[1] / least[0] - 1):+.1f} % (bar: {COST_BAR:.0f} %) | |",
        "",
    ]
    return "\n".join(told)


def run(rows: int, rounds: int, seconds: float, folder: Path) -> str:
    """All of it; the report. Raises ProcessFailed."""
    cores = share_out(sorted(os.sched_getaffinity(0)))
    lines, took, slices = [], {}, []
    for days in (7, 90):
        data, port = folder / f"{days}" / "data", free_port()
        asked = fill(data, rows, days)
        lines.append(f"- {rows:,} rows of {days} days: added up in {add_up(data):.0f} s of CPU, once, beside the gateway's work.")
        environment = {"PORT": str(port), "SENTINEL_DATA_DIR": str(data), "SENTINEL_ADMIN_KEY": ADMIN, "LOG_LEVEL": "warning"}
        environment |= {"HOME": str(folder)}
        with Process("gateway", GATEWAY, environment=environment, directory=folder, core=cores.gateway, grace=5.0) as process:
            process.wait_until_ready(port)
            took[f"{days} days"] = pages(process, port, asked)
            if days == 90:  # noqa: PLR2004 - the last: once is enough
                os.sched_setaffinity(0, {cores.load})
                slices = hits(process, port, rounds=rounds, seconds=seconds)
    return report(lines, took, slices)


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows, one round: does it work?")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the report (default bench/results)")
    arguments = parser.parse_args()
    size = (ROWS // 100, 1, 1.0) if arguments.quick else (ROWS, ROUNDS, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        told = run(*size, Path(folder))
    name = "quick" if arguments.quick else "dashboard"
    (arguments.out / f"{datetime.now(UTC):%Y-%m-%d}-{name}.md").write_text(told)
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
