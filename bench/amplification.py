"""What a request costs the gateway, beside what it cost to send it: `python -m bench.amplification`.

Every route of `/openapi.json` is sent what `corpus.py` has made for it. A caller is a bare socket: nothing asks for less. CPU is
that of all threads; memory is the peak while eight of the same are answered at once, beside what was held before.
"""

import argparse
import json
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from bench.corpus import ADMIN, FILLERS, NUMBER, USUAL, Case, corpus, request, written
from bench.framing import Cost, Meter, Speaker, table
from bench.processes import Process, free_port, share_out
from bench.run import RESULTS, ROOT, describe_machine
from bench.shapes import Shape, Speech, shapes, speeches

BAR: Final = 20.0
"""Times the caller's CPU, and times the bytes that were sent."""
AT_ONCE: Final = 8
LEAST_BYTES: Final = 64 * 1024
"""Memory comes from the kernel in pieces of about this size: a request counts as no smaller."""
REPEATS: Final = 8
MOMENT: Final = 0.03
SETTLING: Final = 20
IDLE: Final = 0.05
"""So many looks at most, so many seconds apart, until it takes no more than this share of a core."""
CALM: Final = 1.0
"""Seconds that it has to be idle for before anything is measured: models and encodings load for as long as that."""


class Figures(NamedTuple):
    """Of one request: bytes, microseconds of both sides, bytes of memory, and the status of its answer."""

    sent: int
    gateway: float
    caller: float
    memory: float
    status: int

    @property
    def told(self) -> str:
        return f"{self.sent:,} bytes, {self.gateway:,.0f}/{self.caller:,.0f} us, {self.memory / 1024:,.0f} KiB, {self.status}"

    @property
    def cpu_ratio(self) -> float:
        return self.gateway / self.caller

    @property
    def memory_ratio(self) -> float:
        return self.memory / max(self.sent, LEAST_BYTES)


class Callers:
    """Bare sockets to the gateway, each with one request under way at most."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._asked = 0
        self._sockets: list[socket.socket] = []

    def __repr__(self) -> str:
        return f"<Callers of {self._port}>"

    def ask(self, raw: bytes, count: int) -> int:
        """The same from so many at once, their last bytes together; the status of the first answer."""
        while len(self._sockets) < count:
            self._sockets.append(socket.create_connection(("127.0.0.1", self._port), timeout=60))
        self._asked += 1
        if len(raw) < LEAST_BYTES:
            raw = raw.replace(NUMBER, b"number %08d" % self._asked, 1)
        asking = self._sockets[:count]
        for part in (raw[:-1], raw[-1:]):
            for one in asking:
                self._send(one, part)
        statuses = [self._read(one) for one in asking]
        return statuses[0]

    def _send(self, to: socket.socket, part: bytes) -> None:
        with suppress(ConnectionError):  # refused before its end: the answer is there to be read
            to.sendall(part)

    def _read(self, one: socket.socket) -> int:
        """One answer to its end; a connection that closes is opened again for the next."""
        got, head, closes = b"", b"", True
        try:
            while b"\r\n\r\n" not in got:
                piece = one.recv(1 << 18)
                if not piece:
                    break
                got += piece
            head, _, body = got.partition(b"\r\n\r\n")
            lower = head.lower()
            closes = b"connection: close" in lower
            if found := re.search(rb"content-length: (\d+)", lower):
                rest = int(found[1]) - len(body)
                while rest > 0 and (piece := one.recv(1 << 18)):
                    rest -= len(piece)
            else:
                while not body.endswith(b"0\r\n\r\n") and (piece := one.recv(1 << 18)):
                    body = body[-8:] + piece
        except ConnectionError:
            closes = True
        if closes or not head:
            one.close()
            self._sockets.remove(one)
        return int(head.split(b" ", 2)[1]) if head else 0

    def close(self) -> None:
        for one in self._sockets:
            one.close()
        self._sockets.clear()


def peak(process: Process) -> int:
    """Bytes that it held at most since `forget`."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def settle(process: Process, moment: float = MOMENT) -> None:
    """Let it finish what it does behind its answers, until it has been idle for a moment."""
    for _ in range(SETTLING):
        before = process.cpu_seconds()
        time.sleep(moment)
        if process.cpu_seconds() - before < IDLE * moment:
            return


def warm_up(process: Process, callers: Callers) -> None:
    """Have it load what is loaded once, when it is needed first: that is no request's cost."""
    for route, body in USUAL.items():
        callers.ask(request("POST", route, written(body, FILLERS["words"] * 70)), 1)
    settle(process, CALM)


def measure(process: Process, callers: Callers, raw: bytes) -> Figures:
    """What one such request takes; the first is not counted.

    What misses the bar is looked at again: on a busy machine, what is loaded once is still being loaded after a moment.
    """
    callers.ask(raw, 1)
    settle(process)
    status = callers.ask(raw, 1)
    settle(process)  # something may be loaded when it is needed first
    cpu, own = spent(process, callers, raw)
    if cpu > BAR * own:
        cpu, own = min((cpu, own), spent(process, callers, raw))
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    before = process.resident_bytes()
    callers.ask(raw, AT_ONCE)
    grown = peak(process) - before
    return Figures(len(raw), cpu * 1e6, own * 1e6, grown / AT_ONCE, status)


def spent(process: Process, callers: Callers, raw: bytes) -> tuple[float, float]:
    """Seconds of CPU for each of some requests: the gateway's, and the caller's."""
    repeats = REPEATS if len(raw) < LEAST_BYTES else 3
    cpu, own = process.cpu_seconds(), time.thread_time()
    for _ in range(repeats):
        callers.ask(raw, 1)
    own = time.thread_time() - own
    settle(process)
    return (process.cpu_seconds() - cpu) / repeats, own / repeats


def chosen(cases: Iterable[Case], only: str, part: tuple[int, int]) -> list[Case]:
    """Those that have this in their name; of their routes, dealt out to so many parts, those of one."""
    named = [case for case in cases if only in f"{case.route} {case.name}"]
    number, parts = part
    routes = list(dict.fromkeys(case.route for case in named))[number - 1 :: parts]
    return [case for case in named if case.route in routes]


@contextmanager
def gateway(folder: Path, more: str = "") -> Iterator[tuple[int, Process]]:
    """One that asks for a key, and its port; `more` of its configuration. Raises ProcessFailed."""
    cores = share_out(range(2))
    port, mock = free_port(), free_port()
    models = "[mock-model, mock-small]"
    entry = f"dialect: openai, base_url: 'http://127.0.0.1:{mock}/v1', api_key: k, models: {models}"
    config = folder / "sentinel.yaml"
    config.touch(mode=0o600)
    config.write_text(f"providers:\n  mock: {{{entry}}}\n{more}")
    presets = ("OPENAI", "GROQ", "GEMINI", "MISTRAL", "OPENROUTER", "ANTHROPIC", "DEEPSEEK", "XAI")
    environment = {f"{name}_API_KEY": "k" for name in presets}
    environment |= {f"SENTINEL_PROVIDERS__{name}__BASE_URL": f"http://127.0.0.1:{mock}/v1" for name in presets}
    environment |= {"PORT": str(port), "SENTINEL_ADMIN_KEY": ADMIN, "LOG_LEVEL": "error", "SENTINEL_KEYS__REQUIRED": "true"}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(ROOT / "src"), "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000000"}
    command = (sys.executable, "-m", "sentinel_gateway", "serve")
    upstream = (sys.executable, "-m", "bench.chaos", "--port", str(mock))
    kept = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    with (
        Process("mock", upstream, environment=kept, directory=folder, core=cores.mock) as up,
        Process("gateway", command, environment=environment, directory=folder, core=cores.gateway) as process,
    ):
        up.wait_for_line()
        process.wait_until_ready(port)
        callers = Callers(port)
        warm_up(process, callers)
        callers.close()
        yield port, process


def run(folder: Path, only: str, part: tuple[int, int]) -> tuple[dict[Case, Figures], dict[str, Figures]]:
    """All of it, or what is `chosen`: by case, and of requests without a right key by route. Raises ProcessFailed."""
    with gateway(folder) as (port, process):
        callers = Callers(port)
        document = json.loads(asked(port, "/openapi.json"))
        found: dict[Case, Figures] = {}
        for case in chosen(corpus(document), only, part):
            found[case] = one = measure(process, callers, case.raw)
            print(f"{case.route} {case.name}: {one.told}", flush=True)
        strangers: dict[str, Figures] = {}
        for case in found:
            if case.route not in strangers:
                raw = case.raw.replace(ADMIN.encode(), ADMIN.replace("bench", "wrong").encode())
                strangers[case.route] = measure(process, callers, raw)
        callers.close()
    return found, strangers


def asked(port: int, path: str) -> bytes:
    """A body that takes the key."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        one.sendall(request("GET", path, more="Connection: close\r\n"))
        got = b""
        while piece := one.recv(1 << 18):
            got += piece
    return got.partition(b"\r\n\r\n")[2]


Way = TypeVar("Way", Shape, Speech)


def _chosen(ways: Iterable[Way], only: str) -> Iterator[Way]:
    return (way for number, way in enumerate(ways) if number == 0 or only in way.name)


DIALECTS: Final = ("openai", "anthropic", "gemini")


def run_framing(folder: Path, only: str) -> tuple[list[Cost], list[Cost]]:
    """What callers and what a provider may send, those with this in their name, and always the first of each."""
    speaker = Speaker()
    speaks = f"base_url: 'http://127.0.0.1:{speaker.port}/v1', api_key: k, models: [m]"
    more = "".join(f"  says-{dialect}: {{dialect: {dialect}, {speaks}}}\n" for dialect in DIALECTS)
    more += "cache: {semantic: {enabled: false}}\nrouting: {retry_budget: 0, cool_down: 0}\n"
    more += "server: {cors: {origins: ['https://a.example']}}\n"
    with gateway(folder, more) as (port, process):
        meter = Meter(process, port, speaker, settle)
        sent = [meter.sent(shape) for shape in _chosen(shapes(), only)]
        heard = [meter.heard(speech) for speech in _chosen(speeches(), only)]
        meter.close()
        speaker.close()
    return sent, heard


COLUMNS: Final = (
    *("route", "worst for CPU", "bytes", "gateway, us", "caller, us", "times"),
    *("worst for memory", "bytes", "more, KiB", "times", "a stranger, times"),
)


def report(found: Mapping[Case, Figures], strangers: Mapping[str, Figures]) -> str:
    """As Markdown: by route the worst of its corpus, the worst routes first."""
    machine = describe_machine()
    many = f"{len(found):,} requests of {len(strangers)} routes, each several times. Bar: {BAR:.0f} times for both."
    lines = [
        f"# Amplification, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"`python -m bench.amplification`. {machine.cpu}, {machine.cores} cores, load {machine.load_average:.1f}. {many}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    by_route: dict[str, list[tuple[Case, Figures]]] = {}
    for case, figures in found.items():
        by_route.setdefault(case.route, []).append((case, figures))
    for route, cases in sorted(by_route.items(), key=lambda pair: -max(one.cpu_ratio for _, one in pair[1])):
        slow, cpu = max(cases, key=lambda pair: pair[1].cpu_ratio)
        large, memory = max(cases, key=lambda pair: pair[1].memory_ratio)
        stranger = strangers[route]
        cells = [f"`{route}`", f"{slow.name} ({cpu.status})", f"{cpu.sent:,}", f"{cpu.gateway:,.0f}", f"{cpu.caller:,.0f}"]
        cells += [f"{cpu.cpu_ratio:.1f}", f"{large.name} ({memory.status})", f"{memory.sent:,}", f"{memory.memory / 1024:,.0f}"]
        cells += [f"{memory.memory_ratio:.1f}", f"{stranger.cpu_ratio:.1f} ({stranger.status})"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def framing(only: str, out: Path) -> int:
    """Measure, write, print; 1 if anything is too much."""
    with tempfile.TemporaryDirectory() as folder:
        costs = run_framing(Path(folder), only)
    machine = describe_machine()
    lines = [
        f"# Amplification by framing, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"`python -m bench.amplification --framing`. {machine.cpu}, {machine.cores} cores, load {machine.load_average:.1f}.",
    ]
    for title, some in zip(("What callers send", "What a provider says"), costs, strict=True):
        lines += ["", f"## {title}", "", *table(some)]
    told = "\n".join([*lines, ""])
    if not only:
        (out / f"{datetime.now(UTC):%Y-%m-%d}-amplification-framing.md").write_text(told)
    print(told)
    return int(any(one.breaks(some[0]) for some in costs for one in some))


def read_part(text: str) -> tuple[int, int]:
    """`2/6`, the second of six."""
    number, _, parts = text.partition("/")
    if not 1 <= int(number) <= int(parts):
        raise ValueError(text)
    return int(number), int(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(prog="python -m bench.amplification", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="of routes and cases those that have this in their name; nothing is written")
    parser.add_argument("--part", type=read_part, default=(1, 1), help="of the routes a share, such as 2/6; nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the report (default bench/results)")
    parser.add_argument("--framing", action="store_true", help="how it comes instead of what, and what providers may send")
    options = parser.parse_args(arguments)
    if options.framing:
        return framing(options.only, options.out)
    with tempfile.TemporaryDirectory() as folder:
        found, strangers = run(Path(folder), options.only, options.part)
    told = report(found, strangers)
    if not options.only and options.part == (1, 1):
        (options.out / f"{datetime.now(UTC):%Y-%m-%d}-amplification.md").write_text(told)
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
