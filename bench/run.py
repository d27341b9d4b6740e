"""The bench: mock upstream and gateway as processes of their own, the load generator in this one, one report.

CPU time is read from the kernel's clock of the gateway's process around each slice of load, its work behind the answers
included. Rounds are interleaved, so that a slow minute of the machine falls on all workloads alike.
"""

import argparse
import importlib.metadata
import itertools
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import uvloop
from msgspec.structs import replace

from bench.load import Clients, closed_loop
from bench.processes import Cores, Process, free_port, get, share_out
from bench.report import Figure, Machine, Results, Slice, markdown
from bench.semantic import Cost, Semantic
from bench.workloads import (
    AT_ONCE,
    BY_NAME,
    IN_SCOPE,
    KEY,
    MOCK,
    WORKLOADS,
    Numbers,
    Target,
    Workload,
    asked_before,
    providers,
    workloads,
)
from sentinel_gateway.core.access import Grant, operator
from sentinel_gateway.core.budgets import NO_BUDGET, Budget
from sentinel_gateway.core.issuance import Draw, Minter, create
from sentinel_gateway.core.limits import LARGEST, Limits
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.keys import SqlKeys
from sentinel_gateway.stores.secret import gateway_secret

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "bench" / "results"

# The bars of docs/design.md section 4.
CPU_BARS: Final = {
    "exact hit": 60.0,
    "exact hit, respelled": 60.0,
    "miss": 220.0,
    "miss, with a key": 220.0,
    "miss, bypassed": 220.0,
    "stream": 40.0,
    "stream, routed": 40.0,
    "stream, translated": 40.0,
    "semantic hit": 4000.0,
}
"""Microseconds of the gateway's CPU time; of a stream for each content chunk, the request's own share included."""
FLOORS_THERE: Final = {"floor, answer": 39.4, "floor, relay": 142.5, "floor, stream": 31.0}
"""Microseconds that the floors took on the machine on which those bars were set (medians of 2 to 4 rounds, 2026-11-21)."""
EMBED_LONG_THERE: Final = 12.7
"""Milliseconds that the embedding of 128 tokens took there."""
FIRST_BYTE_BAR: Final = 1.0
MEMORY_BAR: Final = 130.0
START_BAR: Final = 1.5
SEMANTIC_MEMORY_BAR: Final = 260.0
SEMANTIC_START_BAR: Final = 3.0
ON_LOOP_BAR: Final = 0.3
SEARCH_BAR: Final = 2.0
STAGES: Final = (sys.executable, "-m", "bench.semantic")

LIBRARIES: Final = (
    "sentinel-gateway",
    "uvicorn",
    "uvloop",
    "httptools",
    "aiohappyeyeballs",
    "aiohttp",
    "msgspec",
    "cachebox",
    "onnxruntime",
    "numpy",
)
BUDGETS: Final[Mapping[Target, Budget]] = {"keyed": NO_BUDGET, "accounted": Budget(day=2**50, month=2**52)}
"""Of the key of the workloads, by the gateways that ask for one: never spent."""
GATEWAY: Final = (str(Path(sys.executable).with_name("sentinel")), "serve")


class Plan(msgspec.Struct, frozen=True):
    """How often each workload is measured, for how many seconds after how many to warm up; what is started, and how often."""

    rounds: int
    seconds: float
    in_scope: int = IN_SCOPE
    """Questions stored before anything is compared."""
    pairs: int = 1
    """Of short slices of each of `PAIRS`."""
    stages: bool = False
    """Measure the stages of the semantic tier as well, in a process of their own."""
    warm_up: float = 0.3
    starts: int = 3
    gateway: tuple[str, ...] = GATEWAY


FULL: Final = Plan(rounds=5, seconds=2.0, pairs=40, stages=True)
QUICK: Final = Plan(rounds=1, seconds=0.5, in_scope=500)


class Pair(NamedTuple):
    """What one workload takes beyond another, by its name in the report; `bar` in microseconds."""

    name: str
    of: str
    without: str
    floor: str
    bar: float | None = None


PAIRS: Final = (
    Pair("a key and its limits, a hit", "exact hit, with a key", "exact hit", "floor, answer", 8.0),
    Pair("key, limits, budgets and ledger, a hit", "exact hit, accounted", "exact hit, bare", "floor, answer", 15.0),
    Pair("key, limits, budgets and ledger, a miss", "miss, accounted", "miss, bare", "floor, relay"),
)
"""Short slices in turn: what they differ by is smaller than what the slices of two rounds lie apart."""


class Gateway(NamedTuple):
    """A running gateway, and how many seconds it took to be ready."""

    process: Process
    port: int
    ready_after: float


class Bench:
    """The running mock, and what is measured with it."""

    def __init__(self, plan: Plan, cores: Cores, directory: Path, mock: Process) -> None:
        self._plan = plan
        self._cores = cores
        self._directory = directory
        self._mock = mock
        self._mock_port = urlsplit(mock.wait_for_line()).port
        self._upstream = f"http://127.0.0.1:{self._mock_port}/{MOCK}/v1"
        self._numbers: Numbers = itertools.count()

    @contextmanager
    def gateway(self, target: Target, name: str = "", more: Mapping[str, str] = MappingProxyType({})) -> Iterator[Gateway]:
        """The gateway of some workloads, with `more` variables; one of another `name` has a directory of its own."""
        name = name or target
        directory, port = self._directory / name, free_port()
        environment = {"PORT": str(port), **prepare(target, directory, self._upstream), **more}
        start = time.perf_counter()
        command, core = self._plan.gateway, self._cores.gateway
        with Process(name, command, environment=environment, directory=directory, core=core) as process:
            process.wait_until_ready(port)
            yield Gateway(process, port, time.perf_counter() - start)

    @contextmanager
    def floor(self) -> Iterator[Gateway]:
        """Server and client without a gateway, where the gateway runs."""
        port = free_port()
        environment = {"PYTHONPATH": str(ROOT), "PORT": str(port)}
        command, core = (sys.executable, "-m", "bench.floor", self._upstream), self._cores.gateway
        with Process("floor", command, environment=environment, directory=self._directory, core=core) as process:
            process.wait_until_ready(port)
            yield Gateway(process, port, 0.0)

    def measure(
        self, workload: Workload, round_: int, servers: Mapping[Target, Gateway], *, seconds: float | None = None
    ) -> Slice:
        """One slice of load, as long as the plan's unless told otherwise."""
        server, port, _ = servers.get(workload.target) or Gateway(self._mock, self._mock_port or 0, 0.0)
        url = f"http://127.0.0.1:{port}{f'/{MOCK}' if server is self._mock else ''}{workload.path}"
        make, clients = workload.make(self._numbers), workload.clients
        uvloop.run(closed_loop(url, make, Clients(1), requests=1))
        uvloop.run(closed_loop(url, make, clients, seconds=self._plan.warm_up))
        server.wait_until_quiet()
        calls, cpu = self._upstream_calls(), server.cpu_seconds()
        report = uvloop.run(closed_loop(url, make, clients, seconds=seconds or self._plan.seconds))
        server.wait_until_quiet()
        calls, cpu = self._upstream_calls() - calls, server.cpu_seconds() - cpu
        return Slice(
            workload=workload.name,
            round=round_,
            requests=report.requests,
            good=report.good,
            problems=report.problems,
            rate=report.rate,
            latency_p50=report.latency.p50,
            latency_p99=report.latency.p99,
            first_byte_p50=report.first_byte.p50,
            per_event_p50=report.per_event.p50,
            cpu_per_unit=cpu / max(1, report.good * workload.units),
            upstream_calls=calls / max(1, report.requests),
            expected_upstream_calls=workload.upstream_calls,
        )

    def measure_pair(self, pair: Pair, number: int, servers: Mapping[Target, Gateway]) -> float:
        """CPU seconds that one workload takes beyond another: two short slices, one right after the other."""
        both = [BY_NAME[pair.without], BY_NAME[pair.of]]
        found = {}
        for workload in both if number % 2 == 0 else both[::-1]:
            found[workload.name] = self.measure(workload, number, servers, seconds=self._plan.seconds / 5).cpu_per_unit
        return found[pair.of] - found[pair.without]

    def fill(self, gateway: Gateway, questions: int) -> None:
        """Have these many questions answered, so that there is something to compare with."""
        url = f"http://127.0.0.1:{gateway.port}/v1/chat/completions"
        uvloop.run(closed_loop(url, asked_before, AT_ONCE, requests=questions))
        gateway.process.wait_until_quiet()

    def _upstream_calls(self) -> int:
        calls: int = msgspec.json.decode(get(self._mock_port or 0, "/__calls?last=0")[1])["calls"]
        return calls


def run(plan: Plan) -> tuple[list[Figure], list[Slice]]:
    """Start everything, measure everything, stop everything. Raises ProcessFailed."""
    available = os.sched_getaffinity(0)
    cores = share_out(sorted(available))
    command = (sys.executable, "-m", "bench.chaos", "--keep-calls", "0")
    environment = {"PYTHONPATH": str(ROOT)}
    os.sched_setaffinity(0, {cores.load})
    try:
        with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as name:
            directory = Path(name)
            with Process("mock", command, environment=environment, directory=directory, core=cores.mock) as mock:
                found, slices = _measure_all(plan, Bench(plan, cores, directory, mock))
            return _with_stages(found, directory, cores.gateway) if plan.stages else found, slices
    finally:
        os.sched_setaffinity(0, available)


def _measure_all(plan: Plan, bench: Bench) -> tuple[list[Figure], list[Slice]]:
    starts: dict[bool, list[float]] = {False: [], True: []}
    slices = []
    for number, semantic in itertools.product(range(1, plan.starts), starts):
        with bench.gateway("semantic" if semantic else "gateway", f"start-{number}-{semantic}") as gateway:
            starts[semantic].append(gateway.ready_after)
    with (
        bench.floor() as floor,
        bench.gateway("gateway") as gateway,
        bench.gateway("bare") as bare,
        bench.gateway("keyed") as keyed,
        bench.gateway("accounted") as accounted,
        bench.gateway("semantic") as comparing,
    ):
        idle = {}
        for semantic, server in ((False, gateway), (True, comparing)):
            starts[semantic].append(server.ready_after)
            server.process.wait_until_quiet()
            idle[semantic] = server.process.resident_bytes()
        bench.fill(comparing, plan.in_scope)
        filled = comparing.process.resident_bytes()
        servers: dict[Target, Gateway] = {
            "floor": floor,
            "gateway": gateway,
            "bare": bare,
            "keyed": keyed,
            "accounted": accounted,
            "semantic": comparing,
        }
        everything = workloads(plan.in_scope)
        for round_ in range(plan.rounds):
            for workload in everything if round_ % 2 == 0 else everything[::-1]:
                slices.append(bench.measure(workload, round_, servers))
                print(_progress(slices[-1]), file=sys.stderr)
        loaded = gateway.process.resident_bytes()
        beyond = {pair: [bench.measure_pair(pair, number, servers) for number in range(plan.pairs)] for pair in PAIRS}
    process = [
        Figure("start to ready", "s", starts[False], START_BAR),
        Figure("start to ready, semantic", "s", starts[True], SEMANTIC_START_BAR),
        Figure("memory, idle", "MB", [idle[False] / 1e6], MEMORY_BAR),
        Figure("memory, after the load", "MB", [loaded / 1e6]),
        Figure("memory, idle, semantic", "MB", [idle[True] / 1e6], SEMANTIC_MEMORY_BAR),
        Figure(f"memory, {plan.in_scope} questions", "MB", [filled / 1e6]),
    ]
    return [*figures(slices, beyond), *process], slices


def _with_stages(found: list[Figure], directory: Path, core: int) -> list[Figure]:
    """And what each stage of a semantic hit takes, and how long it holds the event loop in all."""
    with Process("stages", STAGES, environment={"PYTHONPATH": str(ROOT)}, directory=directory, core=core) as process:
        stages = msgspec.json.decode(process.wait_for_end(), type=Semantic)
    slowness = stages.embed_long.cpu / EMBED_LONG_THERE
    searches = {search.questions: search.cost for search in stages.searches}
    on_loop = stages.embed_short.loop_cpu + searches[IN_SCOPE].loop_cpu + stages.guards.loop_cpu
    found = [replace(figure, slowness=slowness) if figure.name == "semantic hit" else figure for figure in found]
    return [
        *found,
        Figure("embed, short question", "ms CPU", [stages.embed_short.cpu]),
        Figure("embed, 128 tokens", "ms CPU", [stages.embed_long.cpu]),
        *searched(searches, slowness),
        Figure("matching of two short questions", "ms CPU", [stages.guards.cpu]),
        Figure("semantic hit, on the event loop", "ms CPU", [on_loop], ON_LOOP_BAR, slowness=slowness),
        Figure("a question in the index", "bytes", [stages.bytes_per_question]),
    ]


def searched(searches: Mapping[int, Cost], slowness: float) -> Iterator[Figure]:
    """By questions in the scope; up to 256 the search is on the event loop, beyond on a thread."""
    for size, cost in searches.items():
        name = f"search, {size:,} in scope"
        yield Figure(name, "ms CPU", [cost.cpu])
        yield Figure(f"{name}, on the event loop", "ms CPU", [cost.loop_cpu])
        yield Figure(name, "ms, p50", [cost.wall.p50])
        yield Figure(name, "ms, p99", [cost.wall.p99], SEARCH_BAR if size == max(searches) else None, slowness=slowness)


def _progress(slice_: Slice) -> str:
    cpu = f"{slice_.cpu_per_unit * 1e6:8.1f} us"
    return f"round {slice_.round}  {slice_.workload:22}{slice_.rate:8.0f}/s  {cpu}  {slice_.problems or ''}"


def figures(slices: list[Slice], beyond: Mapping[Pair, Sequence[float]]) -> list[Figure]:
    """CPU time of each workload, what some take `beyond` others in seconds, and what is added to the first byte of a stream."""
    by_workload = {workload.name: [slice_ for slice_ in slices if slice_.workload == workload.name] for workload in WORKLOADS}
    found = []
    for workload in WORKLOADS:
        if workload.target not in {"mock", "floor"}:
            unit = "us CPU a chunk" if workload.units > 1 else "us CPU"
            floor = _cpu(by_workload[workload.floor]) if workload.floor else None
            there = FLOORS_THERE.get(workload.floor)
            found.append(Figure(workload.name, unit, _cpu(by_workload[workload.name]), CPU_BARS.get(workload.name), floor, there))
    for pair, seconds in beyond.items():
        slowness = _slowness(by_workload, pair.floor)
        found.append(Figure(pair.name, "us CPU", [cpu * 1e6 for cpu in seconds], pair.bar, slowness=slowness))
    slowness = _slowness(by_workload, "floor, stream")
    for streamed in (workload for workload in WORKLOADS if workload.units > 1 and workload.target == "gateway"):
        pairs = zip(by_workload[streamed.name], by_workload["direct stream"], strict=True)
        added = [(through.first_byte_p50 - direct.first_byte_p50) * 1000 for through, direct in pairs]
        found.append(Figure(f"{streamed.name}, first byte added", "ms, p50", added, FIRST_BYTE_BAR, slowness=slowness))
    return found


def _slowness(by_workload: Mapping[str, list[Slice]], floor: str) -> float:
    """How many times as long as on the machine of the bars a floor takes here."""
    return statistics.median(_cpu(by_workload[floor])) / FLOORS_THERE[floor]


def prepare(target: Target, directory: Path, upstream: str) -> dict[str, str]:
    """The environment of a gateway that is yet to start. It knows the mock's address; its directory is empty but for a key."""
    home, data = directory / "home", directory / "data"
    home.mkdir(parents=True, exist_ok=True)
    if target in BUDGETS:
        uvloop.run(_issue_key(data, BUDGETS[target]))
    return {
        "HOME": str(home),
        "SENTINEL_DATA_DIR": str(data),
        **providers(upstream),
        "SENTINEL_CACHE__SEMANTIC__ENABLED": str(target == "semantic"),
        "SENTINEL_CACHE__SEMANTIC__EXPLORATION": "0",
        "SENTINEL_LEDGER__ENABLED": str(target != "bare"),
    }


async def _issue_key(folder: Path, budget: Budget) -> None:
    """The key of the workloads, in the data folder of a gateway that is yet to start."""
    secret = gateway_secret(folder, None)
    limits = Limits(requests_per_minute=LARGEST, tokens_per_minute=LARGEST, concurrency=LARGEST)
    grant = Grant(name="bench", tenant="bench", scopes=frozenset({"inference"}), limits=limits, budget=budget)
    key, text = Minter(secret).mint(grant, Draw(bytes(8), bytes(32)), time.time())
    if text != KEY:
        raise ValueError("the workloads send another key")
    file = await StateFile.open(folder, secret=secret)
    await SqlKeys(file).create(key, create(operator("cli"), key))
    await file.close()


def _cpu(slices: list[Slice]) -> list[float]:
    return [slice_.cpu_per_unit * 1e6 for slice_ in slices]


def describe_machine() -> Machine:
    """This machine and what runs on it."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown CPU")
    return Machine(
        cpu=cpu.partition(":")[2].strip() or cpu,
        cores=os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in LIBRARIES},
        load_average=os.getloadavg()[0],
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure the gateway against the mock upstream.")
    parser.add_argument("--quick", action="store_true", help="one round of half a second: does it work? No figures to quote")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the report (default bench/results)")
    parser.add_argument("--name", help="in the report's file name (default bench, or quick)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed or a request failed")
    parser.add_argument("--gateway", type=shlex.split, default=GATEWAY, help="another command to measure; it is given PORT")
    return parser.parse_args()


def bench(plan: Plan) -> Results:
    """A whole run, described. Raises ProcessFailed."""
    machine = describe_machine()
    measured, slices = run(plan)
    return Results(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=shlex.join(["python", "-m", "bench.run", *sys.argv[1:]]),
        conditions=f"{plan.rounds} interleaved rounds, {plan.seconds:g} s a slice.",
        machine=machine,
        figures=measured,
        slices=slices,
    )


def write(results: Results, directory: Path, name: str) -> None:
    """The report as `DATE-NAME.md` and `.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{results.date.split()[0]}-{name}"
    (directory / f"{stem}.md").write_text(markdown(results))
    (directory / f"{stem}.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")


def main() -> int:
    """Measure, write, print; the exit code."""
    arguments = _arguments()
    plan = msgspec.structs.replace(QUICK if arguments.quick else FULL, gateway=tuple(arguments.gateway))
    results = bench(plan)
    write(results, arguments.out, arguments.name or ("quick" if arguments.quick else "bench"))
    print(markdown(results))
    return int(arguments.check and not results.holds)


if __name__ == "__main__":
    sys.exit(main())
