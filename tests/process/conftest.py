"""`sentinel serve` as a program of its own: started as a user starts it, spoken to over its port, ended by signals."""

import http.client
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 60.0
"""Seconds after which a test fails instead of waiting on."""


@dataclass(frozen=True)
class Answer:
    """Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """What the model said."""
        return self.json["choices"][0]["message"]["content"]


class Program:
    """One run of `sentinel serve`; its data outlives it."""

    patience = DEADLINE
    """Seconds that it has to begin."""

    def __init__(
        self, home: Path, environ: Mapping[str, str], python: Path | str = sys.executable, within: Sequence[str] = ()
    ) -> None:
        """`within` stands before the command, where it shall run on a machine of its own."""
        self.errors = home / f"stderr-{time.monotonic_ns()}"
        self.lines = home / f"stdout-{time.monotonic_ns()}"
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
        environment = kept | {"HOME": str(home), "PORT": "0", "SENTINEL_CACHE__SEMANTIC__EXPLORATION": "0", **environ}
        with self.errors.open("wb") as errors, self.lines.open("wb") as lines:
            command = [*within, python, "-m", "sentinel_gateway", "serve"]
            self.process = subprocess.Popen(command, cwd=home, env=environment, stdout=lines, stderr=errors)
        self.base_url = self.greeting(r"answers on (http://\S+) ")
        self.host, _, port = self.base_url.removeprefix("http://").rpartition(":")
        self.port = int(port)

    def greeting(self, pattern: str) -> str:
        end = time.monotonic() + self.patience
        while not (found := re.search(pattern, self.errors.read_text())):
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < end, "it never said where it listens"
            time.sleep(0.02)
        return found[1]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self._address(), self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def _address(self) -> str:
        """Where it is called: one that listens everywhere is here, too."""
        return "127.0.0.1" if self.host in {"0.0.0.0", "[::]"} else self.host.strip("[]")

    def resident(self) -> int:
        """Bytes of memory."""
        return self._memory("VmRSS")

    @contextmanager
    def growth(self) -> Iterator[list[int]]:
        """What is done within has the process hold so many bytes more than before, at its peak: told once it is over."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")  # the peak is what it holds now
        before, told = self.resident(), list[int]()
        yield told
        told.append(self._memory("VmHWM") - before)

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{name}:"))

    def ask(self, question: str, model: str = "demo", **headers: str) -> Answer:
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        return self.request("POST", "/v1/chat/completions", body, **headers)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def drains(self) -> None:
        """Returns once it says that it ends."""
        end = time.monotonic() + DEADLINE
        while self.request("GET", "/ready").status != 503:
            assert time.monotonic() < end, "it goes on as if nobody had signalled"
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            self.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """serve(PORT="1") starts a program in the test's own folder, `within` another if one is named; all are stopped in the end."""
    programs: list[Program] = []

    def start(*within: str, **environ: str) -> Program:
        programs.append(Program(tmp_path, environ, within=within))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.signal(signal.SIGKILL)
            program.wait()


@pytest.fixture(scope="session")
def strace(absent) -> str:
    """What tells all system calls of a program."""
    found = shutil.which("strace") or absent("strace: make test-deps installs it")
    if subprocess.run([found, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        absent("leave to trace other processes, which strace needs (in a container: --cap-add SYS_PTRACE)")
    return found


def committed(home: Path, what: str, count: int) -> None:
    """Returns once the cache on disk holds so many of `what`, a table and perhaps a condition: they outlive the program then."""
    [file] = home.rglob("cache.db")
    end, found = time.monotonic() + DEADLINE, 0
    with closing(sqlite3.connect(file)) as database:
        while found < count:
            assert time.monotonic() < end, f"{found} of {count} are there: {what}"
            time.sleep(0.02)
            ((found,),) = database.execute(f"SELECT count(*) FROM {what}").fetchall()


def readable(sock: Any, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])
