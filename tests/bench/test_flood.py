"""The flood sends what was planned, and takes each answer's time from when it was there."""

import fcntl
import json
import socket
import socketserver
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import anyio.to_thread
import pytest

from bench.flood import SO_TIMESTAMPNS, Crowd, flood, planned
from bench.load import Message

BODY = b'{"a": "spade"}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after-ms: 1500\r\ncontent-length: 0\r\n\r\n"
ONE = Crowd(1, patience=20.0)
AT_ONCE = [(1e6, 2e-6)]
"""Two requests."""


def chat(number):
    return Message(json.dumps({"model": "m", "messages": [{"role": "user", "content": f"number {number}"}]}).encode())


class Server(socketserver.ThreadingTCPServer):
    """Answers each request with the next of these, in pieces where there is a bar; hangs up where there is nothing."""

    block_on_close = True

    def __init__(self, answers: Iterable[bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1/chat/completions"
        self.answers = iter(answers)
        self.asked: list[bytes] = []
        self.answered = threading.Semaphore(0)


class Connection(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        with suppress(ConnectionError):
            for line in self.rfile:
                name, _, value = line.partition(b": ")
                if name == b"content-length":
                    length = int(value)
                if line != b"\r\n":
                    continue
                self.server.asked.append(self.rfile.read(length))
                answer = next(self.server.answers)
                for piece in answer.split(b"|"):
                    self.wfile.write(piece)
                while any(fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))):
                    time.sleep(0.001)  # until the other side's kernel has it
                self.server.answered.release()
                if not answer or b"close" in answer:
                    return


@contextmanager
def serving(*answers: bytes) -> Iterator[Server]:
    with Server(answers) as server:
        running = threading.Thread(target=server.serve_forever, args=(0.01,))
        running.start()
        yield server
        server.shutdown()
        running.join()


def test_steps_follow_each_other():
    assert list(planned([(4, 1.0), (2, 1.0)])) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.5]


@pytest.mark.anyio
async def test_all_that_was_planned_is_sent_each_unlike_the_others(upstream):
    url = f"{upstream.base_url}/chat/completions"
    found = await anyio.to_thread.run_sync(flood, url, chat, [(1000, 0.03), (500, 0.04)], Crowd(8))
    assert [exchange.problem for _, exchange in found.done] == [""] * 50
    assert sorted(turn.number for turn, _ in found.done) == list(range(50))
    assert {call.body["messages"][0]["content"] for call in upstream.calls} == {f"number {number}" for number in range(50)}
    assert all(turn.planned <= exchange.sent <= exchange.last_byte for turn, exchange in found.done)


@pytest.fixture
def stamping() -> Iterator[None]:
    """The kernel stamps what arrives: it begins to at some time after the first socket has asked for it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        theirs, _ = server.accept()
        with theirs:
            told: list[object] = []
            while not told:
                theirs.send(b"x")
                _, told, _, _ = ours.recvmsg(1, 64)
            yield


@pytest.mark.usefixtures("stamping")
def test_an_answer_was_there_when_it_came_however_late_it_is_read():
    """The second is not made before the first was answered; whoever makes it can't read meanwhile."""
    moments = []

    def make(number):
        if number:
            assert server.answered.acquire(timeout=20)
            time.sleep(0.05)
            moments.append(time.perf_counter())
        return chat(number)

    with serving(GOOD, GOOD) as server:
        (turn, first), _ = flood(server.url, make, AT_ONCE, ONE._replace(number=2)).done
    assert turn.number == 0
    assert first.last_byte < moments[0]


def test_whoever_finds_nobody_free_waits():
    with serving(GOOD, GOOD, GOOD) as server:
        found = flood(server.url, chat, [(1e6, 3e-6)], ONE)
    (_, first), (turn, second), _ = found.done
    assert second.sent >= first.last_byte > turn.planned


def test_who_is_refused_asks_again_the_same():
    with serving(BUSY, BUSY, GOOD, BUSY, BUSY, BUSY) as server:
        found = flood(server.url, chat, AT_ONCE, ONE._replace(retries=2, backoff=(0.0, 0.001)))
    assert [(exchange.problem, exchange.wait) for _, exchange in found.done] == [("", 0.0), ("503", 1.5)]
    assert found.asked_again == 4
    assert server.asked == [chat(0).body] * 3 + [chat(1).body] * 3


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (GOOD.replace(b"a", b"|a"), ""),
        (GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), ""),
        (GOOD.replace(b"200", b"404"), "404"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no length"),
        (b"", "connection lost"),
    ],
    ids=["in pieces", "the last of its connection", "refused", "no length", "lost"],
)
def test_what_becomes_of_an_answer(answer, problem):
    """The next one is served: on a new connection, where this one is of no more use."""
    with serving(answer, GOOD) as server:
        found = flood(server.url, chat, AT_ONCE, ONE)
    assert [exchange.problem for _, exchange in found.done] == [problem, ""]


def test_what_does_not_come_is_given_up():
    with serving(GOOD[:-1], GOOD[:-1]) as server:
        found = flood(server.url, chat, AT_ONCE, Crowd(1, patience=0.01))
    assert [exchange.problem for _, exchange in found.done] == ["timeout", "timeout"]


def test_no_server_at_all_is_an_error():
    with pytest.raises(OSError, match="refused"):
        flood("http://127.0.0.1:1/v1/chat/completions", chat, [(1, 1.0)], ONE)
