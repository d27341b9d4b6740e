"""Records to count and log, and an output that can be read, stuck or closed."""

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry.lines import json_line
from sentinel_gateway.telemetry.logs import LogWriter

DEADLINE = 30.0
HIT = Record(
    at=1_800_000_000.0,
    request_id="req_7",
    sentinel_id="0af7",
    route="/v1/chat/completions",
    method="POST",
    status=200,
    seconds=0.003,
    outcome="exact",
    tier="memory",
    model="fast",
    target="groq/llama",
    prompt_tokens=9,
    completion_tokens=12,
    client="127.0.0.1",
    account="acme",
    key="key_1",
)


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A hit from memory, but for what is given."""

    def make(**changes: Any) -> Record:
        return msgspec.structs.replace(HIT, **changes)

    return make


class Output:
    """A pipe. `written` is its end for a writer, `stuck` says whether it takes nothing more."""

    def __init__(self) -> None:
        self._read, self.written = os.pipe()
        self._held = b""

    def lines(self, count: int) -> list[bytes]:
        """The first `count` lines, waited for."""
        deadline = time.monotonic() + DEADLINE
        while self._held.count(b"\n") < count:
            assert time.monotonic() < deadline, f"only {self._held.count(10)} of {count} lines came"
            if select.select([self._read], [], [], 0.1)[0]:
                self._held += os.read(self._read, 1 << 16)
        *taken, rest = self._held.split(b"\n", count)
        self._held = rest
        return taken

    def rest(self) -> bytes:
        """Whatever else there is now."""
        while select.select([self._read], [], [], 0)[0] and (piece := os.read(self._read, 1 << 16)):
            self._held += piece
        return self._held

    @property
    def stuck(self) -> bool:
        return not select.select([], [self.written], [], 0)[1]

    def close_reader(self) -> None:
        os.close(self._read)

    def close(self) -> None:
        for fd in (self._read, self.written):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def output() -> Iterator[Output]:
    pipe = Output()
    yield pipe
    pipe.close()


@pytest.fixture
def open_log(output: Output) -> Iterator[Callable[..., LogWriter]]:
    """Writers to `output`, in JSON, closed at the end."""
    opened: list[LogWriter] = []

    def open_one(level: Any = "info", **options: Any) -> LogWriter:
        opened.append(LogWriter(output.written, json_line, level=level, clock=lambda: 1_800_000_000.0, **options))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def decoded(lines: list[bytes]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines]
