"""The processes of a bench: started clean and pinned, watched for CPU time and memory, stopped for certain. Linux only."""

import http.client
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

KEPT: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
"""All that a process inherits from our environment: no key, no base URL, no setting of somebody's shell gets in."""
START_SECONDS: Final = 60.0
END_SECONDS: Final = 600.0
POLL: Final = 0.005
QUIET: Final = 0.02
"""Share of a core below which a process counts as idle again."""
QUIET_PROBE: Final = 0.1
QUIET_SECONDS: Final = 3.0


class Cores(NamedTuple):
    """Who runs where."""

    gateway: int
    mock: int
    load: int


def share_out(available: Sequence[int]) -> Cores:
    """The gateway has a core to itself if there are two; mock and load share the other unless there are three."""
    first, *others = sorted(available)
    return Cores(first, *others[:2]) if len(others) > 1 else Cores(first, *(others or [first]) * 2)


class ProcessFailed(Exception):
    """A process ended, or did not get ready; the message holds the end of its output."""


class Process:
    """A child process on a core of its own, in an environment of its own, with its output in `directory/NAME.log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        core: int,
        grace: float = 10.0,
    ) -> None:
        """It is killed if it is still there `grace` seconds after it was told to stop. Raises OSError."""
        self.name = name
        self._grace = grace
        self._log = directory / f"{name}.log"
        own = os.sched_getaffinity(0)
        kept = {key: os.environ[key] for key in KEPT if key in os.environ}
        # A child inherits the core from the thread that starts it.
        os.sched_setaffinity(0, {core})
        try:
            with self._log.open("wb") as log:
                self._child = subprocess.Popen(  # noqa: S603  # the command is the developer's own
                    command,
                    env={**kept, **environment},
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        finally:
            os.sched_setaffinity(0, own)

    def __repr__(self) -> str:
        return f"<Process {self.name} {self._child.pid} {shlex.join(map(str, self._child.args))}>"  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._child.terminate()
        try:
            self._child.wait(self._grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    @property
    def pid(self) -> int:
        """Of the child."""
        return self._child.pid

    def cpu_seconds(self) -> float:
        """CPU time of all threads since the start, also of those that have ended, to the nanosecond."""
        # What clock_getcpuclockid(3) answers on Linux.
        return time.clock_gettime(~self._child.pid << 3 | 2)

    def resident_bytes(self) -> int:
        """Memory resident at this moment."""
        status = Path(f"/proc/{self._child.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def metrics(self, port: int) -> str:
        """What it tells Prometheus. Raises OSError."""
        return get(port, "/metrics")[1].decode()

    def wait_until_quiet(self) -> None:
        """Let it finish what it does behind the answers (writing, logging); not longer than a few seconds."""
        end = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < end:
            before = self.cpu_seconds()
            time.sleep(QUIET_PROBE)
            if self.cpu_seconds() - before < QUIET * QUIET_PROBE:
                return

    def wait_for_line(self) -> str:
        """The first line of its output. Raises ProcessFailed."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self._check_alive()
            line, newline, _ = self._log.read_text().partition("\n")
            if newline:
                return line
            time.sleep(POLL)
        raise ProcessFailed(f"{self.name} printed nothing for {START_SECONDS:.0f} s")

    def wait_for_end(self) -> str:
        """All of its output, once it has ended by itself. Raises ProcessFailed."""
        if self._child.wait(END_SECONDS):
            self._check_alive()
        return self._log.read_text()

    def wait_until_ready(self, port: int, path: str = "/ready", *, seconds: float = START_SECONDS) -> None:
        """Poll until the path answers 200. Raises ProcessFailed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._check_alive()
            with suppress(OSError, http.client.HTTPException):
                if get(port, path)[0] == http.client.OK:
                    return
            time.sleep(POLL)
        raise ProcessFailed(f"{self.name} was not ready after {seconds:.0f} s:\n{self._tail()}")

    def _check_alive(self) -> None:
        if self._child.poll() is not None:
            raise ProcessFailed(f"{self.name} ended with {self._child.returncode}:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET on loopback. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
