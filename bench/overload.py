"""More than can be served: `python -m bench.overload`.

Mock, gateway and clients are processes of their own; the mock takes `LATENCY_MS` for an answer, so that the gateway's own work is
what limits. Requests come when they are planned, whatever became of those before (open loop), from a generator that has to send
what was planned, or the run fails. Goodput: whole answers a second.

- The knee: the highest rate at which nobody is refused and the slowest in a hundred take no more than 50 ms longer than at
  leisure.
- What is served, and what is refused, from half of the knee to five times it; of misses, and of hits.
- Probes, `/metrics` and `/api/monitoring` at three times the knee (`watching.py`).
- Twice the knee for half a minute, from clients who ask three more times and don't listen when they are told to wait; then less.
- Ten thousand streams in which nothing is said, beside ordinary requests (`streams.py`).
- Five hundred who read a byte a second (`streams.py`).
"""

import argparse
import gc
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from bench.client import Exchange
from bench.flood import MOST_CLIENTS, TOO_MUCH, Crowd, enough, flood
from bench.load import MakeMessage, Quantiles, Turn
from bench.overload_report import Bar, Curve, Point, Recovery, Report, markdown, pictures
from bench.processes import Cores, Process, free_port, share_out
from bench.run import GATEWAY, RESULTS, ROOT, describe_machine, prepare
from bench.streams import IDLE, LONG, idle_streams, slow_readers
from bench.watching import watch
from bench.workloads import Numbers, respelled, unique

LATENCY_MS: Final = 100
MOCK: Final = f"latency_ms={LATENCY_MS};tokens=250"
IMAGES: Final = ROOT / "docs" / "images"
LEISURE: Final = 200.0
"""Requests a second that are no work."""
SANE: Final = 0.050
"""Seconds by which the slowest in a hundred may take longer than at leisure, below the knee."""
FIRST: Final = 800.0
STEP: Final = 1.15
"""Times as many as before: where the knee is looked for."""
LOOK: Final = 2.0
"""Seconds."""
LOOKS: Final = 2
MISSES: Final = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
HITS: Final = (0.5, 1.0, 1.5, 2.0, 2.5)
"""Times the knee. The generator has one core as the gateway has, and can't send five times as many hits as that can answer."""
SENT: Final = 0.95
"""Of what was planned, or it is no open loop."""
KEPT: Final = 0.9
KEPT_OF_HITS: Final = 0.6
"""Ours: to refuse one costs a sixth of what it costs to answer it, so refusals take more from the others."""
SLOWER: Final = 2.0
"""Times as slow as at half of the knee, or by `SANE`: a hit takes a millisecond."""
TOLD: Final = 0.020
"""Seconds in which whoever is refused has to know."""
SWITCH: Final = 0.0002
"""Seconds that the thread which sends waits, at most, for the one that reads ten thousand heartbeats."""
FILES: Final = 40_000
"""Open files of each process, where nothing says how many it may have."""
ROOM: Final = {
    "SENTINEL_SERVER__MAX_CONNECTIONS": "15000",
    "SENTINEL_SERVER__MAX_IN_FLIGHT": "15000",
    "SENTINEL_PROVIDERS__GROQ__TIMEOUTS__IDLE": "600",
}
"""For ten thousand silent streams: as it comes, they would end for want of places, and after a minute."""


class Plan(NamedTuple):
    """Seconds of each point, after how many that don't count; of the storm, and after it; streams, and slow readers."""

    seconds: float = 8.0
    warm_up: float = 2.0
    storm: float = 30.0
    after: float = 15.0
    streams: int = 10_000
    readers: int = 500
    held: float = 48.0
    """Seconds for which the streams are held, once all are there."""
    watched: float = 20.0
    """Seconds of each rate at which somebody watches."""


class Rig:
    """A running gateway, and how to send to it."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}/v1/chat/completions"

    def __repr__(self) -> str:
        return f"<Rig {self.url}>"

    def measure(self, make: MakeMessage, rate: float, plan: Plan) -> Point:
        """One rate, once it has lasted for a while."""
        done = flood(self.url, make, [(rate, plan.warm_up + plan.seconds)], enough(rate)).done
        self.process.wait_until_quiet()
        return point(done, rate, plan)


def point(done: Sequence[tuple[Turn, Exchange]], rate: float, plan: Plan) -> Point:
    """What came of the requests that were planned in the plan's seconds, and what was served in them."""
    begun = min(turn.planned for turn, _ in done) + plan.warm_up
    end = begun + plan.seconds
    counted = [(turn, exchange) for turn, exchange in done if turn.planned >= begun]
    good = [exchange.last_byte - turn.planned for turn, exchange in counted if not exchange.problem]
    refused = [exchange for _, exchange in counted if exchange.problem in TOO_MUCH]
    waits = [exchange.wait for exchange in refused if exchange.wait]
    return Point(
        rate=rate,
        sent=sum(exchange.sent <= end + SLACK for _, exchange in counted) / len(counted),
        goodput=sum(begun <= exchange.last_byte < end for _, exchange in done if not exchange.problem) / plan.seconds,
        accepted=Quantiles.of(good),
        refused=len(refused) / len(counted),
        told=Quantiles.of([exchange.last_byte - exchange.sent for exchange in refused]),
        waits=Quantiles.of(waits),
        distinct_waits=len(set(waits)),
        without_wait=len(refused) - len(waits),
        problems=dict(Counter(exchange.problem for _, exchange in counted if exchange.problem)),
        lateness=Quantiles.of([exchange.sent - turn.planned for turn, exchange in counted]),
    )


SLACK: Final = 0.05
"""Seconds after the last planned moment in which what was planned may still be sent."""


def is_sane(found: Point, leisure: Point) -> bool:
    """Is this below the knee?"""
    return not found.problems and found.accepted.p99 <= leisure.accepted.p99 + SANE


def find_knee(rig: Rig, make: MakeMessage, plan: Plan) -> tuple[float, list[Point]]:
    """The rate, and all that were tried: ever higher ones, until one is too high each time that it is looked at."""
    short = plan._replace(seconds=LOOK, warm_up=1.0)
    leisure = rig.measure(make, LEISURE, short)
    tried, knee, rate = [leisure], LEISURE, FIRST
    while True:
        looks = (rig.measure(make, rate, short) for _ in range(LOOKS))
        for look in looks:
            tried.append(look)
            if is_sane(look, leisure):
                break
        else:
            return knee, tried
        knee, rate = rate, rate * STEP


def curve(rig: Rig, name: str, make: MakeMessage, times: Sequence[float], plan: Plan) -> Curve:
    """From half of the knee up."""
    knee, tried = find_knee(rig, make, plan)
    return Curve(name, knee, tried, [rig.measure(make, knee * share, plan) for share in times])


def storm(rig: Rig, make: MakeMessage, knee: float, plan: Plan) -> Recovery:
    """Twice the knee from clients who insist, then 0.7 of it."""
    steps = [(2 * knee, plan.storm), (0.7 * knee, plan.after)]
    found = flood(rig.url, make, steps, Crowd(MOST_CLIENTS, retries=3))
    begun = min(turn.planned for turn, _ in found.done)
    planned: Counter[int] = Counter(int(turn.planned - begun) for turn, _ in found.done)
    served: Counter[int] = Counter(int(turn.planned - begun) for turn, exchange in found.done if not exchange.problem)
    seconds = range(round(plan.storm + plan.after))
    attempts = (found.asked_again + len(found.done)) / len(found.done)
    return Recovery(2.0, round(plan.storm), attempts, [served[at] / max(1, planned[at]) for at in seconds])


def bars_of(found: Curve, *, kept: float = KEPT) -> Iterator[Bar]:
    """What is asked of a curve, at three times the knee or at the last point below it; `kept` of its peak is to be served."""
    peak = max(point.goodput for point in found.points)
    calm, high = found.points[0], next((p for p in found.points if p.rate >= 3 * found.knee - 1), found.points[-1])
    at = f"{found.name}, {high.rate / found.knee:.3g} times the knee"
    yield Bar(f"{at}: goodput of the peak", high.goodput / peak, kept, least=True)
    slower = max(SLOWER * calm.accepted.p99, calm.accepted.p99 + SANE)
    yield Bar(f"{at}: p99 of the accepted, ms", 1000 * high.accepted.p99, 1000 * slower)
    yield Bar(f"{at}: p99 of refusals, ms", 1000 * high.told.p99, 1000 * TOLD)
    yield Bar(f"{at}: refusals without Retry-After", float(high.without_wait), 0.0)
    yield Bar(f"{at}: different waits", float(high.distinct_waits), 32.0 if high.refused else 0.0, least=True)
    yield Bar(f"{found.name}: sent of what was planned", min(point.sent for point in found.points), SENT, least=True)
    others = sum(count for p in found.points for problem, count in p.problems.items() if problem not in TOO_MUCH)
    yield Bar(f"{found.name}: neither served nor refused", float(others), 0.0)


def bars_of_storm(found: Recovery) -> Iterator[Bar]:
    """What is asked of the time after it, and that it was one."""
    after = found.served[found.ended :]
    yield Bar("storm: attempts for each request", found.attempts, 1.5, least=True)
    yield Bar("storm: served from 10 s after it", min(after[10:]), 0.95, least=True)


@contextmanager
def gateway(
    directory: Path, name: str, upstream: str, cores: Cores, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Rig]:
    """A gateway of its own, with `more` variables."""
    folder, port = directory / name, free_port()
    environment = {"PORT": str(port), "LOG_LEVEL": "warn", "PYTHONPATH": str(ROOT / "src")}
    environment |= {**prepare("gateway", folder, upstream), **more}
    with Process(name, GATEWAY, environment=environment, directory=folder, core=cores.gateway) as process:
        process.wait_until_ready(port)
        yield Rig(process, port)


def run(plan: Plan, directory: Path) -> Report:
    """All of it. Raises ProcessFailed."""
    start, machine, cores = time.perf_counter(), describe_machine(), share_out(sorted(os.sched_getaffinity(0)))
    files = raise_file_limit()
    gc.disable()  # our own pauses would be taken for the gateway's
    sys.setswitchinterval(SWITCH)
    os.sched_setaffinity(0, {cores.load})
    command = (sys.executable, "-m", "bench.chaos", "--keep-calls", "10000")
    numbers: Numbers = itertools.count()
    misses, hits = unique()(numbers), respelled("Which hoe?")(numbers)
    with Process("mock", command, environment={"PYTHONPATH": str(ROOT)}, directory=directory, core=cores.mock) as mock:
        origin = mock.wait_for_line().removesuffix("/v1")
        usual = f"{origin}/{MOCK}/v1"
        with gateway(directory, "overload", usual, cores) as rig:
            curves = [curve(rig, "misses", misses, MISSES, plan), curve(rig, "hits", hits, HITS, plan)]
            watched = watch(rig.url, rig.port, misses, curves[0].knee, seconds=plan.watched)
            recovery = storm(rig, misses, curves[0].knee, plan)
        leisure = curves[0].knee / 2
        with gateway(directory, "idle", usual, cores, {**ROOM, "GROQ_BASE_URL": f"{origin}/{IDLE}/v1"}) as rig:
            idle = idle_streams(rig.process, rig.port, plan.streams, rate=leisure, held=plan.held, files=files)
        with gateway(directory, "slow", usual, cores, {"GROQ_BASE_URL": f"{origin}/{LONG}/v1"}) as rig:
            slow = slow_readers(rig.process, rig.port, int(origin.rpartition(":")[2]), plan.readers, rate=leisure / 4)
    bars = [*bars_of(curves[0]), *bars_of(curves[1], kept=KEPT_OF_HITS), *watched.bars(), *bars_of_storm(recovery)]
    bars += [*idle.bars(), *slow.bars()]
    seconds, date = time.perf_counter() - start, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return Report(date, commit(), machine, seconds, curves, watched, recovery, idle, slow, bars)


def commit() -> str:
    """What is measured; with a plus if it was changed since."""
    described = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*")
    told = subprocess.run(described, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    return told.stdout.strip() or "unknown"


def raise_file_limit() -> int:
    """As many open files as we may have: the children inherit that. How many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def main() -> int:
    """Measure, write, print; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="shorter, with fewer streams: does it work? Writes no pictures")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the report (default bench/results)")
    arguments = parser.parse_args()
    plan = Plan(1.5, 1.0, 8.0, 12.0, 500, 50, 48.0, 4.0) if arguments.quick else Plan()
    with tempfile.TemporaryDirectory() as folder:
        report = run(plan, Path(folder))
    name = f"{report.date.split()[0]}-{'overload-quick' if arguments.quick else 'overload'}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{name}.md").write_text(markdown(report))
    (arguments.out / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if not arguments.quick:
        for title, drawn in pictures(report):
            (IMAGES / f"overload-{title}.svg").write_text(drawn)
    print(markdown(report))
    return int(not all(bar.holds for bar in report.bars))


if __name__ == "__main__":
    sys.exit(main())
