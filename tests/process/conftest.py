"""`sentinel serve` as a program of its own: started as a user starts it, spoken to over its port, ended by signals."""

import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 20.0
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

    def __init__(self, home: Path, environ: Mapping[str, str], python: Path | str = sys.executable) -> None:
        self.errors = home / f"stderr-{time.monotonic_ns()}"
        self.lines = home / f"stdout-{time.monotonic_ns()}"
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
        environment = kept | {"HOME": str(home), "PORT": "0", "SENTINEL_CACHE__SEMANTIC__EXPLORATION": "0", **environ}
        with self.errors.open("wb") as errors, self.lines.open("wb") as lines:
            command = [python, "-m", "sentinel_gateway", "serve"]
            self.process = subprocess.Popen(command, cwd=home, env=environment, stdout=lines, stderr=errors)
        self.base_url = self.greeting(r"answers on (http://\S+) ")
        self.port = int(self.base_url.rpartition(":")[2])

    def greeting(self, pattern: str) -> str:
        end = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.errors.read_text())):
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < end, "it never said where it listens"
            time.sleep(0.02)
        return found[1]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

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

    def stop(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            self.wait()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """serve(PORT="1") starts a program in the test's own folder; all are stopped in the end."""
    programs: list[Program] = []

    def start(**environ: str) -> Program:
        programs.append(Program(tmp_path, environ))
        return programs[-1]

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.signal(signal.SIGKILL)
            program.wait()


def readable(sock: Any, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])
