"""The end of a process: announced, then drained, then over; at once at the second signal."""

import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.conftest import DEADLINE, Wire, parse, until

ROOT = Path(__file__).parents[2]
SOON = 7.0
"""Seconds: less than the ten in which whoever has connected has to begin, or the minute that a stream takes."""


class Process:
    """The server of draining.py."""

    def __init__(self, *, notice: float, timeout: float, held: bool) -> None:
        command = [sys.executable, "-m", "tests.server.draining", str(notice), str(timeout), *["held"] * held]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._overdue = threading.Timer(3 * DEADLINE, self._process.kill)  # ends every wait for a word that never comes
        self._overdue.start()
        self.port = 0

    def listen(self) -> None:
        """Wait until it does."""
        self.port = int(self.word())

    def word(self) -> str:
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        """It is held up no longer, or its answer may end."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """Meanwhile it may open nothing: what it has open stays."""
        before = resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        yield
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, before)

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
        except ConnectionResetError:  # it closes at this moment
            return False
        return False


@pytest.fixture
def launch() -> Iterator[Callable[..., Process]]:
    launched: list[Process] = []

    def run(*, notice: float = 0.0, timeout: float = 10.0, held: bool = False) -> Process:
        launched.append(Process(notice=notice, timeout=timeout, held=held))
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
    process = launch(notice=60.0)
    with process.get("/ready") as probe:
        assert parse(probe.read_until(b"0\r\n\r\n"))[0].status == 200
    process.signal(signal.SIGTERM)
    assert process.word() == "draining"
    with process.get("/ready") as probe:
        assert parse(probe.read_until(b"0\r\n\r\n"))[0].status == 503
    process.signal(signal.SIGTERM)
    assert process.ended()[0] == 0


def test_when_the_notice_is_over_connections_are_refused_and_not_before(launch):
    process = launch(notice=0.5)
    start = time.monotonic()
    process.signal(signal.SIGTERM)
    until(process.refuses_connections)
    assert time.monotonic() - start >= 0.5
    assert process.ended()[0] == 0


def test_an_answer_that_begins_while_draining_says_that_it_is_the_last(launch):
    process = launch()
    with process.get("/late?1") as wire:
        assert process.word() == "asked"
        process.signal(signal.SIGTERM)
        [answer] = wire.answers()
    assert (answer.body, answer.headers["connection"]) == (b"end\n", "close")
    assert process.ended()[0] == 0


def test_while_the_end_is_announced_every_answer_is_the_last(launch):
    """A proxy that keeps connections would send its next request just when they are closed."""
    process = launch(notice=60.0)
    with process.get("/") as kept:
        assert b"connection: close" not in kept.read_until(b"0\r\n\r\n")
        process.signal(signal.SIGTERM)
        assert process.word() == "draining"
        kept.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        [again] = kept.answers()
    with process.get("/") as new:
        [answer] = new.answers()
    assert again.headers["connection"] == answer.headers["connection"] == "close"
    process.signal(signal.SIGTERM)


def test_who_has_connected_when_listening_ends_is_answered(launch):
    """The loop is busy when the notice ends: those who connect meanwhile wait in the system's queue, with their requests."""
    process = launch(notice=0.1, held=True)
    process.signal(signal.SIGTERM)
    assert [process.word(), process.word()] == ["draining", "held"]
    wires = [process.get("/") for _ in range(20)]
    time.sleep(0.1)  # the notice has ended by now
    process.go_on()
    answers = [parse(wire.rest()) for wire in wires]
    for wire in wires:
        wire.socket.close()
    assert [[answer.complete for answer in found] for found in answers] == [[True]] * 20
    assert process.ended()[0] == 0


def test_who_has_connected_and_says_nothing_holds_nobody_up(launch):
    process = launch()
    with Wire(process.port) as silent:
        time.sleep(0.1)
        process.signal(signal.SIGTERM)
        start = time.monotonic()
        silent.rest()
        assert process.ended()[0] == 0
    assert time.monotonic() - start < SOON


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
    assert time.monotonic() - start < SOON


def test_what_has_not_finished_in_time_is_cut(launch):
    process = launch(timeout=0.3)
    with process.get("/stream?60") as stream:
        begun = stream.read_until(b"tick")
        start = time.monotonic()
        process.signal(signal.SIGTERM)
        [answer] = parse(begun + stream.rest())
        assert not answer.complete
        took = time.monotonic() - start
    assert 0.3 <= took < SOON
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


def test_who_was_not_told_that_a_stream_was_the_last_hears_it_with_its_end(launch):
    """A proxy keeps the connection of a stream that began before, and would send its next request as soon as that ends."""
    process = launch()
    with process.get("/stream?1") as wire:
        begun = wire.read_until(b"tick")
        process.signal(signal.SIGTERM)
        assert process.word() == "draining"
        begun += wire.read_until(b"0\r\n\r\n")
        time.sleep(0.005)
        wire.socket.setblocking(False)
        assert wire.socket.recv(1) == b""
    [answer] = parse(begun)
    assert (answer.body, answer.complete) == (b"tick\n" * 20 + b"end\n", True)
    assert b"connection: close" not in begun
    assert process.ended()[0] == 0


def test_a_stream_that_breaks_off_at_the_end_does_not_look_whole(launch):
    process = launch()
    with process.get("/broken?1") as wire:
        begun = wire.read_until(b"tick")
        process.signal(signal.SIGTERM)
        assert process.word() == "draining"
        [answer] = parse(begun + wire.rest())
    assert (answer.body, answer.complete) == (b"tick\n" * 20, False)
    assert process.ended()[:2] == (0, "closed")


@pytest.mark.parametrize("more", [b"GET /told HTTP/1.1\r\nHost: a\r\n\r\n", b"This is no request.\r\n\r\n"])
def test_what_is_sent_after_the_last_request_is_not_begun_and_spoils_no_answer(launch, more: bytes):
    """An answer that nobody could be given would be paid for."""
    process = launch()
    with process.get("/stream?1") as wire:
        begun = wire.read_until(b"tick")
        process.signal(signal.SIGTERM)
        assert process.word() == "draining"
        wire.send(more)
        [answer] = parse(begun + wire.rest())
    assert (answer.body, answer.complete) == (b"tick\n" * 20 + b"end\n", True)
    assert process.ended() == (0, "closed", "")


def test_who_connects_while_the_end_is_announced_and_says_nothing_has_a_moment(launch):
    process = launch(notice=60.0)
    process.signal(signal.SIGTERM)
    assert process.word() == "draining"
    start = time.monotonic()
    with Wire(process.port) as silent:
        assert silent.rest() == b""
    assert time.monotonic() - start < SOON, "others have ten seconds to begin"
    process.signal(signal.SIGTERM)
    assert process.ended()[0] == 0


def test_without_a_free_descriptor_what_is_under_way_ends_well(launch, absent):
    if not hasattr(resource, "prlimit"):
        absent("a limit of open files that can be set for another process (Linux)")
    process = launch()
    with process.get("/until") as wire:
        begun = wire.read_until(b"tick")
        with process.exhausted():
            process.signal(signal.SIGTERM)
            assert process.word() == "draining"
            until(process.refuses_connections)
        process.go_on()
        [answer] = parse(begun + wire.rest())
    assert (answer.body, answer.complete) == (b"tick\nend\n", True)
    assert process.ended() == (0, "closed", "")
