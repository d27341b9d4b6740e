"""What every HTTP client may rely on."""

import socket

import pytest

from tests.server.conftest import GET, Running, post, until


def test_a_connection_is_kept_and_used_again(patient: Running):
    before = patient.gauge.total
    with patient.connect() as wire:
        for number in range(3):
            wire.send(post(b"%d" % number))
            assert b'"body":"%d"' % number in wire.read_until(b"}")
    assert patient.gauge.total == before + 1


def test_the_answer_carries_the_date(patient: Running):
    [answer] = patient.ask(b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.headers["date"].endswith(" GMT")
    assert "server" not in answer.headers


def test_pipelined_requests_are_answered_in_order(patient: Running):
    last = b"POST /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n"
    answers = patient.ask(post(b"one", b"/a") + b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n" + last)
    assert [(answer.json["path"], answer.json["body"]) for answer in answers] == [("/a", "one"), ("/b", ""), ("/c", "three")]


def test_a_pipelined_caller_that_leaves_is_noticed_by_the_request_being_answered(patient: Running):
    patient.app.left.clear()
    with patient.connect() as wire:
        wire.send(post(b"", b"/stay") + GET)
        until(lambda: "/stay" in patient.app.paths)
    until(lambda: patient.app.left == ["http.disconnect"])


def test_head_has_the_length_but_no_body(patient: Running):
    [answer] = patient.ask(b"HEAD /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", methods=("HEAD",))
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_http_1_0_needs_no_host_and_is_closed_after_the_answer(patient: Running):
    [answer] = patient.ask(b"GET /old HTTP/1.0\r\n\r\n")
    assert (answer.json["path"], answer.json["http_version"]) == ("/old", "1.0")
    assert answer.headers["connection"] == "close"


def test_a_stream_to_http_1_0_has_no_chunks(patient: Running):
    [answer] = patient.ask(b"GET /stream HTTP/1.0\r\nHost: a\r\n\r\n")
    assert "transfer-encoding" not in answer.headers
    assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_a_stream_to_http_1_1_has_chunks(patient: Running):
    [answer] = patient.ask(b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_is_not_framed_as_if_it_had(patient: Running, status: int):
    first, second = patient.ask(
        b"GET /nothing?%d HTTP/1.1\r\nHost: a\r\n\r\n" % status,
        b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    assert (first.status, first.body) == (status, b"")
    assert "transfer-encoding" not in first.headers
    assert second.json["path"] == "/after"


@pytest.mark.parametrize("end", [b"%0d%0a", b"%0a", b"%0d", b"%00"])
def test_a_header_of_the_answer_is_never_split(patient: Running, end: bytes):
    with patient.connect() as wire:
        wire.send(b"GET /split?%b HTTP/1.1\r\nHost: a\r\n\r\n" % end)
        assert b"forged" not in wire.rest()


def test_who_waits_to_be_told_to_continue_is_told(patient: Running):
    with patient.connect() as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n")
        assert wire.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"ok")
        assert b'"body":"ok"' in wire.read_until(b"}")


def test_http_1_0_is_never_told_to_continue(patient: Running):
    [answer] = patient.ask(b"POST /echo HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", b"ok")
    assert answer.json["body"] == "ok"


def test_a_refused_body_that_was_waiting_to_be_continued_closes_the_connection(patient: Running):
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(smuggled)
    with patient.connect() as wire:
        wire.send(head)
        answer = wire.read_until(b"}}")
        assert b"HTTP/1.1 413" in answer
        assert b"connection: close" in answer
        wire.send(smuggled)
        assert wire.rest() == b""
    assert "/smuggled" not in patient.app.paths


def test_a_short_body_that_nobody_read_is_dropped_and_the_connection_lives(patient: Running):
    """Many clients send head and body in two segments: a refusal costs them no new connection."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with patient.connect() as wire:
        wire.send(post(smuggled, b"/early")[: -len(smuggled)])
        assert b"connection: close" not in wire.read_until(b"}}")
        wire.send(smuggled + post(b"next"))
        assert b'"body":"next"' in wire.read_until(b"}")
    assert "/smuggled" not in patient.app.paths


@pytest.mark.parametrize("framing", [b"Content-Length: 100000000", b"Transfer-Encoding: chunked"])
def test_a_long_body_that_nobody_wants_closes_the_connection_and_the_answer_arrives(patient: Running, framing: bytes):
    before = patient.gauge.total
    with patient.connect() as wire:
        wire.send(b"POST /early HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        for _ in range(16):
            wire.send(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        [answer] = wire.answers()
        assert not wire.was_reset
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    until(lambda: patient.gauge.total == before + 1)
    until(lambda: not patient.server.server_state.connections)


def test_trailers_never_become_headers(patient: Running):
    body = b"1\r\nx\r\n0\r\nAuthorization: Bearer forged\r\nHost: evil\r\n\r\n"
    head = b"POST /trailers HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    [answer] = patient.ask(head, body)
    assert answer.json["body"] == "x"
    [seen] = [seen for seen in patient.app.seen if seen.scope["path"] == "/trailers"]
    assert sorted(name for name, _ in seen.scope["headers"]) == [b"connection", b"host", b"transfer-encoding"]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_upgrade_is_ignored_and_what_follows_is_the_next_request(patient: Running, protocol: bytes):
    upgrade = b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol
    answers = patient.ask(upgrade + GET + b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [(answer.status, answer.json["path"]) for answer in answers] == [(200, "/up"), (200, "/echo"), (200, "/end")]


def test_of_an_absolute_target_the_path_counts(patient: Running):
    [answer] = patient.ask(b"GET http://elsewhere:80/v1/%C3%A9?q=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (answer.json["path"], answer.json["query_string"]) == ("/v1/é", "b'q=1'")
    [answer] = patient.ask(b"GET HTTPS://elsewhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.json["path"] == "/"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/%00", "/\x00"),
        (b"/%ff%fe", "/\ufffd\ufffd"),
        (b"/%0d%0ax:%20y", "/\r\nx: y"),
        (b"/%zz%", "/%zz%"),
        (b"//elsewhere/../x", "//elsewhere/../x"),
        (b"/?", "/"),
        (b"/" + b"a" * 8000, "/" + "a" * 8000),
    ],
)
def test_odd_paths_reach_the_app_as_they_are(patient: Running, target: bytes, path: str):
    [answer] = patient.ask(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (answer.status, answer.json["path"]) == (200, path)


def test_what_the_app_throws_is_a_500_in_our_shape_without_its_words(patient: Running, caplog: pytest.LogCaptureFixture):
    answers = patient.ask(b"GET /crash HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n")
    assert [answer.status for answer in answers] == [500]
    assert answers[0].error["message"] == "The gateway failed on this request."
    assert answers[0].error["code"] == "internal_error"
    assert answers[0].headers["x-request-id"] == "mine"
    assert "ValueError" in caplog.text, "the log tells more"


def test_an_answer_that_breaks_off_is_seen_to_be_incomplete(patient: Running):
    [answer] = patient.ask(b"GET /crash_late HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.body, answer.complete) == (b"123", False)


def test_small_answers_are_not_delayed(patient: Running):
    with patient.connect() as wire:
        wire.send(GET)
        wire.read_until(b"}")
        until(lambda: len(patient.server.server_state.connections) == 1)
        [connection] = patient.server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert repr(connection).startswith("<GatewayProtocol ('127.0.0.1', ")
        assert repr(connection).endswith(" waiting, reads idle, 0 pipelined>")
