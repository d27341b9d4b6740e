"""The end of a process: announced, then drained, then over; at once at the second signal."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server.conftest import DEADLINE, Wire, parse, until

ROOT = Path(__file__).parents[2]


class Process:
    """The server of draining.py."""

    def __init__(self, *, notice: float, timeout: float) -> None:
        command = [sys.executable, "-m", "tests.server.draining", str(notice), str(timeout)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._overdue = threading.Timer(3 * DEADLINE, self._process.kill)  # ends every wait for a word that never comes
        self._overdue.start()
        self.port = 0

    def listen(self) -> None:
        """Wait until it does."""
        self.port = int(self.word())

    def word(self) -> str:
        return self._process.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> tuple[int, str, str]:
        """Status, and the rest of both outputs."""
        out, err = self._process.communicate(timeout=DEADLINE)
        return self._process.returncode, out.strip(), err

    def kill(self) -> None:
        self._overdue.cancel()
        self._overdue.join()
        self._process.kill()
        self._process.communicate()

    def get(self, target: str) -> Wire:
        wire = Wire(self.port)
        wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return wire

    def refuses_connections(self) -> bool:
        try:
            Wire(self.port).socket.close()
        except ConnectionRefusedError:
            return True
        return False


@pytest.fixture
def launch() -> Iterator[Callable[..., Process]]:
    launched: list[Process] = []

    def run(*, notice: float = 0.0, timeout: float = 10.0) -> Process:
        launched.append(Process(notice=notice, timeout=timeout))
        launched[-1].listen()
        return launched[-1]

    yield run
    for process in launched:
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_live_stream_finishes_and_the_process_ends_cleanly(launch, number: signal.Signals):
    process = launch()
    with process.get("/stream?1") as stream, process.get("/") as idle:
        idle.read_until(b"0\r\n\r\n")
        begun = stream.read_until(b"tick")
        process.signal(number)
        assert process.word() == "draining"
        assert idle.rest() == b"", "idle connections are closed"
        until(process.refuses_connections)
        [answer] = parse(begun + stream.rest())
    assert (answer.body, answer.complete) == (b"tick\n" * 20 + b"end\n", True)
    assert process.ended() == (0, "closed", "")


def test_while_the_end_is_announced_connections_are_accepted_and_told(launch):
    process = launch(notice=1.0)
    with process.get("/ready") as probe:
        assert parse(probe.read_until(b"0\r\n\r\n"))[0].status == 200
    process.signal(signal.SIGTERM)
    start = time.monotonic()
    assert process.word() == "draining"
    with process.get("/ready") as probe:
        assert parse(probe.read_until(b"0\r\n\r\n"))[0].status == 503
    assert time.monotonic() - start < 1.0, "this was within the notice"
    until(process.refuses_connections)
    assert time.monotonic() - start >= 1.0
    assert process.ended()[0] == 0


def test_an_answer_that_begins_while_draining_says_that_it_is_the_last(launch):
    process = launch()
    with process.get("/late?0.5") as wire:
        time.sleep(0.1)
        process.signal(signal.SIGTERM)
        [answer] = wire.answers()
    assert (answer.body, answer.headers["connection"]) == (b"end\n", "close")
    assert process.ended()[0] == 0


def test_the_second_signal_ends_it_at_once(launch):
    process = launch()
    with process.get("/stream?60") as stream:
        begun = stream.read_until(b"tick")
        process.signal(signal.SIGTERM)
        assert process.word() == "draining"
        start = time.monotonic()
        process.signal(signal.SIGTERM)
        [answer] = parse(begun + stream.rest())
        assert not answer.complete
        assert process.ended() == (0, "closed", "")
    assert time.monotonic() - start < 2.0


def test_what_has_not_finished_in_time_is_cut(launch):
    process = launch(timeout=0.3)
    with process.get("/stream?60") as stream:
        begun = stream.read_until(b"tick")
        process.signal(signal.SIGTERM)
        start = time.monotonic()
        [answer] = parse(begun + stream.rest())
        assert not answer.complete
        took = time.monotonic() - start
    assert 0.3 <= took < 2.0
    assert process.ended()[0] == 0


def test_a_hangup_asks_for_a_reload_and_nothing_else(launch):
    process = launch()
    for _ in range(2):
        process.signal(signal.SIGHUP)
        assert process.word() == "reloaded"
    with process.get("/") as wire:
        assert b"200 OK" in wire.read_until(b"\r\n\r\n")
    process.signal(signal.SIGTERM)
    assert process.ended() == (0, "draining\nclosed", "")
