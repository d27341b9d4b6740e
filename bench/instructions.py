"""What a request costs in instructions of the processor, by valgrind's callgrind: the same on a busy machine as on a quiet one.

Only what the event loop does because something has come or is due at once is counted: neither its timers nor other threads, whose
work falls on fewer requests where a server answers fifty times as slowly. What the kernel does is in none of it. So these figures
compare two states of the code; for microseconds there is `bench.run`.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import uvloop

import sentinel_gateway
from bench.load import Clients, closed_loop
from bench.processes import Process, free_port
from bench.run import ROOT, prepare
from bench.workloads import CHUNKS, EXACT, Target, Workload

SOURCE: Final = Path(sentinel_gateway.__file__).parent.parent
START_SECONDS: Final = 300.0
SETTLE_SECONDS: Final = 45.0
"""After the first requests: what these leave to be done is done by then, such as loading SQLAlchemy."""
FIRST_THREAD: Final = "-01"
"""So ends the name of what is told of the event loop's."""
WARM_UP: Final = 40
"""Requests: the interpreter specialises what it has run some times."""
ONE: Final = Clients(1)
TURNS: Final = frozenset(
    f"__pyx_f_6uvloop_4loop_{name}"
    for name in ("__uv_stream_on_read", "__uv_stream_buffered_alloc", "__uv_stream_buffered_on_read", "4Loop__on_idle")
)
"""What uvloop runs where something has come, and what was put off to the next turn."""
_FUNCTION: Final = re.compile(r"(c?)fn=\((\d+)\)(?: (.+))?")
MOCK: Final = f"tokens=250;chunks={CHUNKS};chunk_ms=20"
"""As in the bench, but slower: each chunk is to arrive alone."""
FLOOR: Final = (sys.executable, "-m", "bench.floor")
VALGRIND: Final = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes")
GATEWAY: Final = (sys.executable, "-m", "sentinel_gateway", "serve")


class Counter:
    """A server whose instructions are counted while a workload runs."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        """Starts it, and waits until it is ready. Raises ProcessFailed."""
        self.port = free_port()
        self._directory = directory
        own = {"PORT": str(self.port), "PYTHONPATH": f"{SOURCE}:{ROOT}", "PYTHONHASHSEED": "0"}
        valgrind = (*VALGRIND, f"--callgrind-out-file={directory / 'dump'}")
        core, whole = min(os.sched_getaffinity(0)), {**own, **environment}
        self.process = Process(name, (*valgrind, *command), environment=whole, directory=directory, core=core)

    def __repr__(self) -> str:
        return f"<Counter {self.process!r}>"

    def warm_up(self, workload: Workload, numbers: Iterator[int]) -> None:
        """Have it do once what it does the first time."""
        url = f"http://127.0.0.1:{self.port}{workload.path}"
        uvloop.run(closed_loop(url, workload.make(numbers), ONE, requests=max(4, WARM_UP // workload.units)))

    def count(self, workload: Workload, requests: int, numbers: Iterator[int]) -> float:
        """Instructions for a unit of the workload. Raises RuntimeError if a request fails."""
        self.warm_up(workload, numbers)
        url = f"http://127.0.0.1:{self.port}{workload.path}"
        self._control("-i", "on")
        self._control("-z")
        before = set(self._directory.iterdir())
        report = uvloop.run(closed_loop(url, workload.make(numbers), ONE, requests=requests))
        self._control("-d")
        self._control("-i", "off")
        if report.good != requests:
            raise RuntimeError(f"{workload.name}: {report.problems}")
        (dump,) = (path for path in set(self._directory.iterdir()) - before if path.name.endswith(FIRST_THREAD))
        return taken(dump.read_text(errors="replace"), TURNS) / requests / workload.units

    def _control(self, *arguments: str) -> None:
        command = ("callgrind_control", *arguments, str(self.process.pid))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own child


def taken(dump: str, functions: Collection[str]) -> int:
    """Instructions of these functions, with all that they have called. `dump` is in callgrind's own format."""
    names: dict[str, str] = {}
    called, told, total = "", False, 0
    for line in dump.splitlines():
        if function := _FUNCTION.match(line):
            calls, number, name = function.groups()
            names.setdefault(number, name or "")
            called = names[number] if calls else called
        elif line.startswith("calls="):
            told = True  # by the line behind it
        elif told:
            total += int(line.split()[-1]) if called in functions else 0
            told = False
    return total


@contextmanager
def counters(wanted: Iterable[Target], upstream: str, directory: Path) -> Iterator[dict[Target, Counter]]:
    """The servers that workloads ask for, ready."""
    with ExitStack() as stack:
        found: dict[Target, Counter] = {}
        for target in sorted(wanted):
            folder = directory / target
            command, environment = (*FLOOR, upstream), {"HOME": str(folder)}
            if target != "floor":
                command, environment = GATEWAY, prepare(target, folder, upstream)
            folder.mkdir(parents=True, exist_ok=True)
            found[target] = Counter(target, command, environment, folder)
            stack.enter_context(found[target].process)
        for server in found.values():
            server.process.wait_until_ready(server.port, seconds=START_SECONDS)
        yield found


def main() -> None:
    """Count, and print a line for each workload as it is counted."""
    arguments = _arguments()
    chosen = [workload for workload in EXACT if workload.target != "mock" and arguments.only in workload.name]
    numbers, core = itertools.count(), max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="sentinel-instructions-") as name:
        directory = Path(name)
        command, environment = (sys.executable, "-m", "bench.chaos", "--keep-calls", "0"), {"PYTHONPATH": str(ROOT)}
        with Process("mock", command, environment=environment, directory=directory, core=core) as mock:
            upstream = f"http://127.0.0.1:{urlsplit(mock.wait_for_line()).port}/{MOCK}/v1"
            with counters({workload.target for workload in chosen}, upstream, directory) as servers:
                for workload in chosen:
                    servers[workload.target].warm_up(workload, numbers)
                time.sleep(SETTLE_SECONDS)
                for workload in chosen:
                    requests = max(4, arguments.requests // workload.units)
                    counted = servers[workload.target].count(workload, requests, numbers)
                    print(
                        f"{workload.name:28} {counted / 1000:9.1f} k a {'chunk' if workload.units > 1 else 'request'}", flush=True
                    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description="Count instructions by callgrind.")
    parser.add_argument("--requests", type=int, default=200, help="of each workload (default 200)")
    parser.add_argument("--only", default="", help="workloads with this in their name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
