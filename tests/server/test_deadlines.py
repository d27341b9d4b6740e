"""Senders and readers that are too slow are cut at their deadline, those that are only slow are not.

That they are cut by the clock is seen on a hurried server. Where a test would have to be in time itself, the clock of a patient
one is put forward: a machine that stands still for a moment makes nobody late.
"""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from sentinel_gateway.api.bounds import ServerLimits
from sentinel_gateway.api.connection import GatewayProtocol
from sentinel_gateway.api.server import UNSENT_BYTES
from tests.server.conftest import DEADLINE, GET, PATIENT, SHORT, Running, parse, post, until

DUE = SHORT.header_timeout
"""All the deadlines of the hurried server are the same."""
LATE = DUE + 5.0
"""Far from that, and from what a test would wait for what never comes."""


LONG = 1000.0
"""Longer than any deadline."""


def quiet(server: Running) -> bool:
    return server.gauge.open == 0


@contextmanager
def waiting(server: Running) -> Iterator[None]:
    """What is sent to `/wait` within waits to be released."""
    server.app.seen.clear()
    yield
    server.do(server.app.release.clear)


def test_a_connection_that_says_nothing_is_closed_without_an_answer(hurried: Running):
    start = time.monotonic()
    with hurried.connect() as wire:
        assert wire.rest() == b""
    assert DUE - 0.01 <= time.monotonic() - start < LATE


def test_a_head_that_trickles_is_answered_408_although_bytes_keep_coming(hurried: Running):
    start = time.monotonic()
    with hurried.connect() as wire:
        wire.trickle(b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1000, every=0.02)
        [answer] = wire.trickled
    took = time.monotonic() - start
    assert DUE - 0.01 <= took < LATE
    assert (answer.status, answer.headers["connection"], answer.headers["content-type"]) == (408, "close", "application/json")
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.error == {
        "message": "The request's head was not complete after 0.3 s.",
        "type": "timeout_error",
        "param": None,
        "code": "request_timeout",
    }
    until(lambda: quiet(hurried))


def test_the_second_head_on_a_connection_has_the_same_deadline(patient: Running):
    with patient.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        wire.send(GET[:5])
        patient.reads("head")
        patient.put_forward(PATIENT.header_timeout)
        [answer] = wire.answers()
    assert answer.status == 408


def test_a_head_has_its_whole_time_however_late_it_begins(patient: Running):
    with patient.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        patient.put_forward(0.9 * PATIENT.keep_alive)
        wire.send(GET[:5])
        patient.reads("head")
        patient.put_forward(0.9 * PATIENT.header_timeout)
        wire.send(GET[5:])
        assert b"200 OK" in wire.read_until(b"}")


def test_a_body_that_trickles_is_answered_408_and_the_app_sees_its_caller_leave(hurried: Running):
    hurried.app.left.clear()
    start = time.monotonic()
    with hurried.connect() as wire:
        wire.send(b"POST /late HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nContent-Length: 1000\r\n\r\n")
        wire.trickle(b"a" * 1000, every=0.02)
        [answer] = wire.trickled
    took = time.monotonic() - start
    assert DUE - 0.01 <= took < LATE
    assert (answer.status, answer.headers["connection"], answer.headers["x-request-id"]) == (408, "close", "mine")
    assert answer.error["message"] == "The request's body was not complete 0.3 s after its head."
    until(lambda: hurried.app.left == ["/late"])


def test_chunks_that_trickle_are_answered_408(hurried: Running):
    with hurried.connect() as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.trickle(b"1\r\na\r\n" * 100, every=0.02)
        assert [answer.status for answer in wire.trickled] == [408]


def test_a_body_that_stops_is_answered_408(hurried: Running):
    [answer] = hurried.ask(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
    assert answer.status == 408


def test_a_large_body_over_a_slow_link_arrives(patient: Running):
    sent = post(b"b" * (1 << 20))
    with patient.connect() as wire:
        wire.send(sent[: 1 << 18])
        for at in range(1 << 18, len(sent), 1 << 18):
            patient.reads("body")
            patient.put_forward(PATIENT.body_timeout / 6)
            wire.send(sent[at : at + (1 << 18)])
        assert b"200 OK" in wire.read_until(b"\r\n\r\n")


def test_a_request_that_is_long_in_the_making_is_not_cut(patient: Running):
    with waiting(patient), patient.connect() as wire:
        wire.send(post(b"late", b"/wait"))
        until(lambda: "/wait" in patient.app.paths)
        patient.put_forward(LONG)
        patient.do(patient.app.release.set)
        assert b'"body":"late"' in wire.read_until(b"}")


def test_a_body_is_not_late_while_the_app_does_not_read(patient: Running):
    body = b"c" * (1 << 20)
    with waiting(patient), patient.connect() as wire:
        wire.socket.settimeout(0.1)
        sent = 0
        message = post(body, b"/wait")
        try:
            while sent < len(message):
                sent += wire.socket.send(message[sent : sent + 65536])
        except TimeoutError:
            pass
        until(lambda: the_connection(patient).flow.read_paused)
        patient.put_forward(LONG)
        patient.do(patient.app.release.set)
        wire.socket.settimeout(DEADLINE)
        wire.send(message[sent:])
        assert b"200 OK" in wire.read_until(b"\r\n\r\n")


def test_a_body_is_not_late_before_it_was_asked_for(patient: Running):
    with waiting(patient), patient.connect() as wire:
        wire.send(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        patient.reads("body")
        patient.put_forward(LONG)
        patient.do(patient.app.release.set)
        assert b"100 Continue" in wire.read_until(b"\r\n\r\n")
        wire.send(b"ok")
        assert b'"body":"ok"' in wire.read_until(b"}")


@pytest.mark.parametrize(("what", "half"), [("head", GET[:10]), ("body", post(b"second")[:-3])], ids=["head", "body"])
def test_half_a_pipelined_request_does_not_cut_the_answer_before_it(patient: Running, what: str, half: bytes):
    with waiting(patient), patient.connect() as wire:
        wire.send(post(b"first", b"/wait") + half)
        patient.reads(what)
        patient.put_forward(LONG)
        patient.do(patient.app.release.set)
        begun = wire.read_until(b'"first"}')
        patient.put_forward(LONG)
        first, second = parse(begun + wire.rest())
    assert (first.json["body"], second.status) == ("first", 408)


def test_an_idle_connection_is_closed_without_an_answer(hurried: Running):
    with hurried.connect() as wire:
        start = time.monotonic()
        wire.send(GET)
        wire.read_until(b"}")
        assert wire.rest() == b""
    assert DUE - 0.02 <= time.monotonic() - start < LATE


def test_empty_lines_keep_no_connection_alive(hurried: Running):
    start = time.monotonic()
    with hurried.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        wire.trickle(b"\r\n" * 500, every=0.02)
        assert wire.trickled == []
    assert time.monotonic() - start < LATE


def slow_reader(server: Running, buffer: int = 4096) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    reader.settimeout(10)
    reader.connect(("127.0.0.1", server.port))
    return reader


def was_reset(reader: socket.socket) -> bool:
    """Without reading what came before."""
    return reader.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def the_connection(server: Running) -> GatewayProtocol:
    until(lambda: len(server.connections) == 1)
    [connection] = server.connections
    return connection


def test_a_reader_that_does_not_read_is_reset_and_the_app_sees_it_leave(hurried: Running):
    hurried.app.left.clear()
    with slow_reader(hurried) as reader:
        start = time.monotonic()
        reader.sendall(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: hurried.app.left == ["http.disconnect"])
        took = time.monotonic() - start
        until(lambda: was_reset(reader))
    assert DUE <= took < LATE
    until(lambda: quiet(hurried))


def test_the_kernel_holds_little_for_a_reader_that_does_not_read(hurried: Running):
    """Else it is megabytes, and whoever sends is not made to wait."""
    with slow_reader(hurried):
        accepted = the_connection(hurried).transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


def test_nothing_piles_up_for_a_reader_that_does_not_read(start: Callable[[ServerLimits], Running]):
    """As soon as the kernel takes no more, whoever sends has to wait: what is left of one piece is all that is kept here."""
    server = start(PATIENT)
    with slow_reader(server) as reader:
        connection = the_connection(server)
        reader.sendall(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: connection.flow.write_paused)
        assert connection.transport.get_write_buffer_size() <= 1 << 16


def test_a_reader_that_takes_too_little_is_reset(hurried: Running):
    """64 KiB are due in each period; this one takes 20."""
    hurried.app.left.clear()
    with slow_reader(hurried) as reader:
        accepted = the_connection(hurried).transport.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that little progress is seen as such
        reader.sendall(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        end = time.monotonic() + DEADLINE
        while not hurried.app.left:
            assert time.monotonic() < end
            with suppress(ConnectionResetError):  # the app hears of it a moment later
                reader.recv(1024)
            time.sleep(DUE / 20)


@pytest.mark.parametrize("path", [b"/flood", b"/slab"], ids=["pieces", "one piece"])
def test_a_slow_reader_that_goes_on_reading_gets_everything(patient: Running, path: bytes):
    """It takes several times the deadline, which starts again whenever 64 KiB were taken."""
    got = 0
    with slow_reader(patient, 1 << 17) as reader:
        reader.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
        for some in range(1 << 21, 1 << 23, 1 << 21):  # several times what the kernel has room for
            while got < some:
                got += len(reader.recv(1 << 16))
            patient.put_forward(0.9 * PATIENT.write_timeout)
        while data := reader.recv(1 << 18):
            got += len(data)
    assert got > 1 << 24


def test_a_closing_connection_whose_last_bytes_nobody_reads_is_reset(hurried: Running):
    """Below the high-water mark nothing tells that the reader is stuck. Closing waits for it, but not for ever."""
    with slow_reader(hurried) as reader:
        connection = the_connection(hurried)
        hurried.do(lambda: connection.transport.set_write_buffer_limits(1 << 30))
        reader.sendall(b"GET /slab HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        until(connection.transport.is_closing)
        assert connection.transport.get_write_buffer_size() > 0
        until(lambda: quiet(hurried))


def test_many_slow_senders_at_once_are_all_cut_and_honest_callers_are_served(patient: Running):
    kinds = [b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"]
    with ExitStack() as closing:
        wires = [closing.enter_context(patient.connect()) for _ in range(50) for _ in kinds]
        for number, wire in enumerate(wires):
            wire.send(kinds[number % len(kinds)])
        patient.reads("head", 100)
        patient.reads("body", 50)
        for _ in range(50):
            assert patient.ask(b"GET / HTTP/1.0\r\n\r\n")[0].status == 200
        patient.put_forward(max(PATIENT.header_timeout, PATIENT.body_timeout))
        statuses = [[answer.status for answer in wire.answers()] for wire in wires]
    assert statuses == [[408]] * len(wires)
    until(lambda: quiet(patient))
