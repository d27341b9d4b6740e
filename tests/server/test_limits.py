"""Heads that are too large, connections and pipelines that are too many."""

import time

import msgspec
import pytest

from sentinel_gateway.api.bounds import MOST_CHUNKS
from tests.server.conftest import GET, PATIENT, Running, post, until

LIMIT = PATIENT.head_bytes


def get(*headers: bytes, target: bytes = b"/echo") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in headers) + b"\r\n"


def refused(server: Running, *sent: bytes, status: int = 431) -> None:
    before, told = len(server.app.seen), len(server.gauge.refusals)
    [answer] = server.ask(*sent)
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.error["type"] == "invalid_request_error"
    assert {"x-request-id", "x-sentinel-id"} <= answer.headers.keys()
    assert len(server.app.seen) == before, "the app never saw it"
    assert server.gauge.refusals[told:] == [status], "somebody else did"


def test_the_largest_allowed_head_is_served(patient: Running):
    [answer] = patient.ask(get(b"Connection: close", b"X: " + b"a" * (LIMIT - 100)))
    assert answer.status == 200


def test_a_head_that_is_too_large_is_refused_in_one_segment(patient: Running):
    refused(patient, get(b"X: " + b"a" * LIMIT))


def test_a_head_that_is_too_large_is_refused_in_many(patient: Running):
    refused(patient, *[b"GET /echo HTTP/1.1\r\nHost: a\r\n", *[b"X: " + b"a" * 4000 + b"\r\n"] * 20])


def test_a_head_that_is_too_large_is_refused_in_two(patient: Running):
    refused(patient, b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (LIMIT - 1000), b"b" * 1000 + b"\r\n\r\n")


def test_a_large_head_is_served_in_pieces(patient: Running):
    lines = [b"X: " + b"a" * 7000 + b"\r\n"] * 9
    [answer] = patient.ask(b"GET /echo HTTP/1.1\r\nHost: a\r\n", *lines, b"Connection: close\r\n\r\n")
    assert answer.status == 200


def test_a_header_that_never_ends_is_refused_before_it_fills_the_memory(patient: Running):
    refused(patient, b"GET /echo HTTP/1.1\r\nHost: a\r\nX: ", *[b"a" * 30_000] * 3)


def test_a_target_that_never_ends_is_refused(patient: Running):
    refused(patient, b"GET /", *[b"a" * 30_000] * 3)


def test_as_many_headers_as_allowed_are_served(patient: Running):
    lines = [b"X-%d: a" % number for number in range(PATIENT.header_count - 2)]
    assert patient.ask(get(b"Connection: close", *lines))[0].status == 200


def test_one_header_more_is_refused(patient: Running):
    refused(patient, get(*[b"X-%d: a" % number for number in range(PATIENT.header_count)]))


def test_a_very_long_target_is_refused(patient: Running):
    refused(patient, get(target=b"/" + b"a" * 8192), status=400)


def test_two_hundred_parameters_are_served_and_no_more(patient: Running):
    query = b"&".join(b"a%d=b" % number for number in range(200))
    assert patient.ask(get(b"Connection: close", target=b"/echo?" + query))[0].status == 200
    refused(patient, get(target=b"/echo?" + query + b"&c=d"), status=400)


def test_a_large_head_after_a_large_body_counts_alone(patient: Running):
    body, head = b"b" * (LIMIT - 1000), get(b"Connection: close", b"X: " + b"a" * (LIMIT - 1000))
    [first, second] = patient.ask(post(body) + head[:500], head[500:])
    assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"1;" + b"e" * 200_000, id="chunk extension"),
        pytest.param(b"1\r\na\r\n0\r\nTrailer: " + b"t" * 200_000, id="trailer"),
        pytest.param(b"1\r\na\r\n0\r\n" + b"T: t\r\n" * 200, id="trailers"),
    ],
)
def test_what_stands_between_chunks_is_limited_too(patient: Running, endless: bytes):
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [endless[at : at + 20_000] for at in range(0, len(endless), 20_000)]
    with patient.connect() as wire:
        wire.send(head)
        for piece in pieces:
            wire.send(piece)
            time.sleep(0.002)
        [answer] = wire.answers()
    assert answer.status == 431


CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("count", [20_000, MOST_CHUNKS - 1])
def test_many_small_chunks_are_served(patient: Running, count: int):
    [answer] = patient.ask(CHUNKED, b"1;a=b\r\nx\r\n" * count, b"0\r\n\r\n")
    assert answer.json["body"] == "x" * count


def test_more_small_chunks_than_that_are_not(patient: Running):
    [answer] = patient.ask(CHUNKED, b"1\r\nx\r\n" * MOST_CHUNKS, b"0\r\n\r\n")
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "more than 65,536 chunks: send larger ones, or a Content-Length" in answer.error["message"]


def test_chunks_are_counted_for_each_body(patient: Running):
    body = b"1\r\nx\r\n" * (MOST_CHUNKS // 2 + 1) + b"0\r\n\r\n"
    answers = patient.ask(CHUNKED.replace(b"Connection: close\r\n", b"") + body, CHUNKED + body)
    assert [len(answer.json["body"]) for answer in answers] == [MOST_CHUNKS // 2 + 1] * 2


def test_a_connection_too_many_is_refused_until_another_one_ends(start):
    server: Running = start(msgspec.structs.replace(PATIENT, max_connections=2))
    with server.connect() as first, server.connect() as second:
        until(lambda: server.gauge.open == 2)
        with server.connect() as third:
            third.send(GET)
            [answer] = third.answers()
            assert not third.was_reset
            first.socket.close()
            until(lambda: server.gauge.open <= 2)
            assert server.ask(b"GET / HTTP/1.0\r\n\r\n")[0].status == 200, "the third takes no place while it is closing"
        second.send(GET)
        assert b"200 OK" in second.read_until(b"}")
        assert server.app.paths == ["/", "/echo"], "the app never saw the third"
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert int(answer.headers["retry-after"]) in {1, 2, 3}
    assert 1000 <= int(answer.headers["retry-after-ms"]) <= 3000
    assert answer.error["code"] == "server_is_overloaded"
    until(lambda: server.gauge.open == 0)


def test_a_refused_caller_that_says_nothing_is_refused_too_and_soon_gone(start):
    server: Running = start(msgspec.structs.replace(PATIENT, max_connections=1))
    with server.connect(), server.connect() as second:
        assert [answer.status for answer in second.answers()] == [503]
        until(lambda: server.gauge.open == 1, seconds=PATIENT.header_timeout / 2)


def test_idle_connections_are_counted(patient: Running):
    until(lambda: patient.gauge.open == 0)
    with patient.connect(), patient.connect(), patient.connect() as used:
        used.send(GET)
        used.read_until(b"}")
        until(lambda: patient.gauge.open == 3)
    until(lambda: patient.gauge.open == 0)


def test_a_pipeline_has_an_end_and_what_is_in_it_is_answered_first(patient: Running):
    answers = patient.ask(GET * 100)
    statuses = [answer.status for answer in answers]
    assert statuses == [200] * 33 + [400]
    assert answers[-1].headers["connection"] == "close"
