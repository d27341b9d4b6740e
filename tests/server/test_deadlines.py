"""Senders and readers that are too slow are cut at their deadline, those that are only slow are not."""

import errno
import socket
import time
from contextlib import ExitStack

import pytest

from sentinel_gateway.api.connection import GatewayProtocol
from tests.server.conftest import GET, SHORT, Running, post, until

DUE = SHORT.header_timeout
"""All the deadlines of the hurried server are the same."""
LATE = DUE + 1.0


def quiet(server: Running) -> bool:
    return server.gauge.open == 0


def test_a_connection_that_says_nothing_is_closed_without_an_answer(hurried: Running):
    start = time.monotonic()
    with hurried.connect() as wire:
        assert wire.rest() == b""
    assert DUE - 0.01 <= time.monotonic() - start < LATE


def test_a_head_that_trickles_is_answered_408_although_bytes_keep_coming(hurried: Running):
    with hurried.connect() as wire:
        took = wire.trickle(b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1000, every=0.02)
        [answer] = wire.trickled
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


def test_the_second_head_on_a_connection_has_the_same_deadline(hurried: Running):
    with hurried.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        took = wire.trickle(b"GET /echo HTTP/1.1\r\nX: " + b"a" * 1000, every=0.02)
        [answer] = wire.trickled
    assert answer.status == 408
    assert DUE - 0.01 <= took < LATE


def test_a_head_has_its_whole_time_however_late_it_begins(hurried: Running):
    with hurried.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        time.sleep(DUE * 0.75)
        wire.send(GET[:5])
        time.sleep(DUE * 0.75)
        wire.send(GET[5:])
        assert b"200 OK" in wire.read_until(b"}")


def test_a_body_that_trickles_is_answered_408_and_the_app_sees_its_caller_leave(hurried: Running):
    hurried.app.left.clear()
    with hurried.connect() as wire:
        wire.send(b"POST /late HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nContent-Length: 1000\r\n\r\n")
        took = wire.trickle(b"a" * 1000, every=0.02)
        [answer] = wire.trickled
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


def test_a_large_body_over_a_slow_link_arrives(hurried: Running):
    sent = post(b"b" * (1 << 20))
    with hurried.connect() as wire:
        for at in range(0, len(sent), 1 << 18):
            wire.send(sent[at : at + (1 << 18)])
            time.sleep(DUE / 10)
        assert b"200 OK" in wire.read_until(b"\r\n\r\n")


def test_a_request_that_is_long_in_the_making_is_not_cut(hurried: Running):
    with hurried.connect() as wire:
        wire.send(post(b"late", b"/wait"))
        time.sleep(DUE * 2.5)
        hurried.do(hurried.app.release.set)
        assert b'"body":"late"' in wire.read_until(b"}")
    hurried.do(hurried.app.release.clear)


def test_a_body_is_not_late_while_the_app_does_not_read(hurried: Running):
    body = b"c" * (1 << 20)
    with hurried.connect() as wire:
        wire.socket.settimeout(0.1)
        sent = 0
        message = post(body, b"/wait")
        try:
            while sent < len(message):
                sent += wire.socket.send(message[sent : sent + 65536])
        except TimeoutError:
            pass
        time.sleep(DUE * 2)
        hurried.do(hurried.app.release.set)
        wire.socket.settimeout(10)
        wire.send(message[sent:])
        assert b"200 OK" in wire.read_until(b"\r\n\r\n")
    hurried.do(hurried.app.release.clear)


def test_a_body_is_not_late_before_it_was_asked_for(hurried: Running):
    with hurried.connect() as wire:
        wire.send(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        time.sleep(DUE * 2)
        hurried.do(hurried.app.release.set)
        assert b"100 Continue" in wire.read_until(b"\r\n\r\n")
        wire.send(b"ok")
        assert b'"body":"ok"' in wire.read_until(b"}")
    hurried.do(hurried.app.release.clear)


def test_half_a_pipelined_head_does_not_cut_the_answer_before_it(hurried: Running):
    with hurried.connect() as wire:
        wire.send(post(b"first", b"/wait") + GET[:10])
        time.sleep(DUE * 2)
        hurried.do(hurried.app.release.set)
        first, second = wire.answers()
    hurried.do(hurried.app.release.clear)
    assert (first.json["body"], second.status) == ("first", 408)


def test_half_a_pipelined_body_does_not_cut_the_answer_before_it(hurried: Running):
    with hurried.connect() as wire:
        wire.send(post(b"first", b"/wait") + post(b"second")[:-3])
        time.sleep(DUE * 2)
        hurried.do(hurried.app.release.set)
        first, second = wire.answers()
    hurried.do(hurried.app.release.clear)
    assert (first.json["body"], second.status) == ("first", 408)


def test_an_idle_connection_is_closed_without_an_answer(hurried: Running):
    with hurried.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        start = time.monotonic()
        assert wire.rest() == b""
    assert DUE - 0.02 <= time.monotonic() - start < LATE


def test_empty_lines_keep_no_connection_alive(hurried: Running):
    with hurried.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        took = wire.trickle(b"\r\n" * 500, every=0.02)
        assert wire.trickled == []
    assert took < LATE


def slow_reader(server: Running) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.settimeout(10)
    reader.connect(("127.0.0.1", server.port))
    return reader


def was_reset(reader: socket.socket) -> bool:
    """Without reading what came before."""
    return reader.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


def the_connection(server: Running) -> GatewayProtocol:
    until(lambda: server.server.server_state.connections)
    [connection] = server.server.server_state.connections
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


def test_a_reader_that_takes_too_little_is_reset(hurried: Running):
    """64 KiB are due in each period; this one takes 20."""
    hurried.app.left.clear()
    with slow_reader(hurried) as reader:
        accepted = the_connection(hurried).transport.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that little progress is seen as such
        reader.sendall(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        end = time.monotonic() + 3 * DUE + 1
        while not hurried.app.left:
            assert time.monotonic() < end
            reader.recv(1024)
            time.sleep(DUE / 20)


@pytest.mark.parametrize("path", [b"/flood", b"/slab"], ids=["pieces", "one piece"])
def test_a_slow_reader_that_goes_on_reading_gets_everything(hurried: Running, path: bytes):
    """It takes several times the deadline, which starts again whenever 64 KiB were taken."""
    got = 0
    with hurried.connect() as wire:
        wire.send(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path)
        start = time.monotonic()
        while data := wire.read():
            got += len(data)
            if time.monotonic() - start < DUE * 2.5:
                time.sleep(DUE / 20)
        assert time.monotonic() - start > DUE * 2
        assert not wire.was_reset
    assert got > 1 << 24


def test_a_closing_connection_whose_last_bytes_nobody_reads_is_reset(hurried: Running):
    """Below the high-water mark nothing tells that the reader is stuck. Closing waits for it, but not for ever."""
    with slow_reader(hurried) as reader:
        connection = the_connection(hurried)
        hurried.do(lambda: connection.transport.set_write_buffer_limits(1 << 30))
        reader.sendall(b"GET /slab HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        until(connection.transport.is_closing)
        assert connection.transport.get_write_buffer_size() > 0
        until(lambda: quiet(hurried), seconds=3 * DUE + 1)


def test_many_slow_senders_at_once_are_all_cut_in_time_and_honest_callers_are_served(hurried: Running):
    kinds = [b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"]
    with ExitStack() as closing:
        start = time.monotonic()
        wires = [closing.enter_context(hurried.connect()) for _ in range(50) for _ in kinds]
        for number, wire in enumerate(wires):
            wire.send(kinds[number % len(kinds)])
        until(lambda: hurried.gauge.open == len(wires))
        for _ in range(50):
            assert hurried.ask(b"GET / HTTP/1.0\r\n\r\n")[0].status == 200
        statuses = [[answer.status for answer in wire.answers()] for wire in wires]
        took = time.monotonic() - start
    assert statuses == [[408]] * len(wires)
    assert took < LATE + 1
    until(lambda: quiet(hurried))
