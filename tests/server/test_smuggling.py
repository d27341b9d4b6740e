"""What a proxy before us may have understood in another way: each case is one sane request, or 400 and the end.

Every case is followed on the same connection by a request for /smuggled, which must never be reached out of turn: it is seen
only where the case itself is one complete request.
"""

import pytest

from tests.server.conftest import Running, until

HOST = b"Host: a\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def post(fields: bytes, body: bytes = CHUNKS) -> bytes:
    return b"POST /case HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def get(fields: bytes = HOST, line: bytes = b"GET /case HTTP/1.1", end: bytes = b"\r\n") -> bytes:
    return line + b"\r\n" + fields + end


REFUSED = {
    # Both lengths
    "CL.TE": post(b"Content-Length: 5\r\n" + CHUNKED),
    "TE.CL": post(CHUNKED + b"Content-Length: 5\r\n"),
    "CL 0 and TE": post(b"Content-Length: 0\r\n" + CHUNKED, SMUGGLED),
    # Content-Length
    "CL twice, equal": post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "CL twice, different": post(b"Content-Length: 5\r\nContent-Length: 0\r\n", b"hello"),
    "CL list": post(b"Content-Length: 5, 5\r\n", b"hello"),
    "CL plus": post(b"Content-Length: +5\r\n", b"hello"),
    "CL minus": post(b"Content-Length: -5\r\n", b"hello"),
    "CL hex": post(b"Content-Length: 0x5\r\n", b"hello"),
    "CL float": post(b"Content-Length: 5.0\r\n", b"hello"),
    "CL with a blank inside": post(b"Content-Length: 5 0\r\n", b"hello"),
    "CL empty": post(b"Content-Length: \r\n", b""),
    "CL beyond 64 bits": post(b"Content-Length: 18446744073709551621\r\n", b"hello"),
    "CL non-ASCII digits": post(b"Content-Length: \xd9\xa5\r\n", b"hello"),
    "CL name with a blank": post(b"Content-Length : 5\r\n", b"hello"),
    "CL name with a tab": post(b"Content-Length\t: 5\r\n", b"hello"),
    "CL name with NUL": post(b"Content-Length\x00: 5\r\n", b"hello"),
    # Transfer-Encoding
    "TE identity": post(b"Transfer-Encoding: identity\r\n"),
    "TE unknown": post(b"Transfer-Encoding: xchunked\r\n"),
    "TE chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n"),
    "TE identity, chunked": post(b"Transfer-Encoding: identity, chunked\r\n"),
    "TE gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n"),
    "TE chunked twice": post(CHUNKED + CHUNKED),
    "TE chunked, then identity": post(CHUNKED + b"Transfer-Encoding: identity\r\n"),
    "TE quoted": post(b'Transfer-Encoding: "chunked"\r\n'),
    "TE with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n"),
    "TE with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked\r\n"),
    "TE name with a blank": post(b"Transfer-Encoding : chunked\r\n"),
    "TE empty": post(b"Transfer-Encoding:\r\n"),
    "TE in HTTP/1.0": b"POST /case HTTP/1.0\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    # Chunks
    "chunk size hex prefix": post(CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size negative": post(CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a blank": post(CHUNKED, b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": post(CHUNKED, b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk size empty": post(CHUNKED, b"\r\nhello\r\n0\r\n\r\n"),
    "chunk line ends in LF": post(CHUNKED, b"5\nhello\r\n0\r\n\r\n"),
    "chunk data without end": post(CHUNKED, b"5\r\nhello0\r\n\r\n"),
    "chunk data ends in LF": post(CHUNKED, b"5\r\nhello\n0\r\n\r\n"),
    "chunk data too long": post(CHUNKED, b"5\r\nhello!\r\n0\r\n\r\n"),
    "chunk extension with LF": post(CHUNKED, b"5;\nx\r\nhello\r\n0\r\n\r\n"),
    "last chunk ends in LF": post(CHUNKED, b"5\r\nhello\r\n0\r\n\n"),
    "trailer with LF": post(CHUNKED, b"5\r\nhello\r\n0\r\nX: y\n\r\n"),
    "trailer that frames": post(CHUNKED, b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n"),
    # Lines
    "folded header": get(HOST + b"X: a\r\n b\r\n"),
    "header folded by a tab": get(HOST + b"X: a\r\n\tb\r\n"),
    "folded first header": get(b" " + HOST),
    "header ends in LF": get(HOST + b"X: a\nY: b\r\n"),
    "header ends in CR": get(HOST + b"X: a\rY: b\r\n"),
    "head ends in LF": get(HOST, end=b"\n"),
    "line ends in LF": b"GET /case HTTP/1.1\n" + HOST + b"\r\n",
    "header with NUL": get(HOST + b"X: a\x00b\r\n"),
    "header with a control character": get(HOST + b"X: a\x1bb\r\n"),
    "header without a name": get(HOST + b": b\r\n"),
    "header without a colon": get(HOST + b"X\r\n"),
    "header name with a blank": get(HOST + b"X Y: b\r\n"),
    "header name not ASCII": get(HOST + b"X\xff: b\r\n"),
    # Host
    "no Host": get(b""),
    "two Hosts": get(HOST + HOST),
    "two different Hosts": get(HOST + b"Host: b\r\n"),
    "two Hosts in two cases": get(HOST + b"hOST: b\r\n"),
    "Host empty": get(b"Host:\r\n"),
    "Host with a blank": get(b"Host: a b\r\n"),
    "Host with a path": get(b"Host: a/b\r\n"),
    "Host with a user": get(b"Host: u@a\r\n"),
    "Host with a query": get(b"Host: a?b\r\n"),
    "Host with a fragment": get(b"Host: a#b\r\n"),
    "Host list": get(b"Host: a, b\r\n"),
    "Host with a backslash": get(b"Host: a\\b\r\n"),
    "Host not ASCII": get(b"Host: \xc3\xa9\r\n"),
    "Host with a wrong port": get(b"Host: a:b\r\n"),
    "Host with two ports": get(b"Host: a:1:2\r\n"),
    "Host with half an address": get(b"Host: [::1\r\n"),
    "Host very long": get(b"Host: " + b"a" * 300 + b"\r\n"),
    # Request line
    "HTTP/0.9": b"GET /case\r\n" + HOST + b"\r\n",
    "HTTP/1.2": get(line=b"GET /case HTTP/1.2"),
    "HTTP/2.0": get(line=b"GET /case HTTP/2.0"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower-case method": get(line=b"get /case HTTP/1.1"),
    "unknown method": get(line=b"GETS /case HTTP/1.1"),
    "lower-case protocol": get(line=b"GET /case http/1.1"),
    "blank after the version": get(line=b"GET /case HTTP/1.1 "),
    "tab after the method": get(line=b"GET\t/case HTTP/1.1"),
    "blank in the target": get(line=b"GET /case /smuggled HTTP/1.1"),
    "target not ASCII": get(line=b"GET /\xc3\xa9 HTTP/1.1"),
    "target with NUL": get(line=b"GET /\x00 HTTP/1.1"),
    "target with a fragment": get(line=b"GET /case#x HTTP/1.1"),
    "absolute target with a fragment": get(line=b"GET http://a/case#x HTTP/1.1"),
    "target without a slash": get(line=b"GET case HTTP/1.1"),
    "target *": get(line=b"GET * HTTP/1.1"),
    "target * for OPTIONS": get(line=b"OPTIONS * HTTP/1.1"),
    "absolute target without a host": get(line=b"GET http:///case HTTP/1.1"),
    "absolute target with a user": get(line=b"GET http://u@a/case HTTP/1.1"),
    "absolute target of another scheme": get(line=b"GET ftp://a/case HTTP/1.1"),
    # Upgrades: the parser would take the body for the next request
    "upgrade with a body": post(b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    "upgrade with chunks": post(b"Connection: upgrade\r\nUpgrade: websocket\r\n" + CHUNKED, CHUNKS),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing but NULs": bytes(100),
}

ACCEPTED = {
    "CL": (post(b"Content-Length: 5\r\n", b"hello"), b"hello"),
    "CL with leading zeros": (post(b"Content-Length: 0005\r\n", b"hello"), b"hello"),
    "CL with a blank after it": (post(b"Content-Length: 5 \r\n", b"hello"), b"hello"),
    "CL of a smuggled request": (post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED), SMUGGLED),
    "GET with CL": (get(HOST + b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, SMUGGLED),
    "TE": (post(CHUNKED), b"hello"),
    "TE in capitals": (post(b"TRANSFER-ENCODING: CHUNKED\r\n"), b"hello"),
    "TE of a smuggled request": (post(CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)), SMUGGLED),
    "TE and an upgrade that isn't asked for": (post(b"Upgrade: h2c\r\n" + CHUNKED), b"hello"),
    "chunk extension": (post(CHUNKED, b"5;a=b\r\nhello\r\n0\r\n\r\n"), b"hello"),
    "chunk size with leading zeros": (post(CHUNKED, b"0005\r\nhello\r\n000\r\n\r\n"), b"hello"),
    "trailer": (post(CHUNKED, b"5\r\nhello\r\n0\r\nHost: b\r\n\r\n"), b"hello"),
    "empty lines first": (b"\r\n\r\n" + get(), b""),
    "header not ASCII": (get(HOST + b"X: \xff\r\n"), b""),
    "Host with a port": (get(b"Host: a:8080\r\n"), b""),
    "Host with an address": (get(b"Host: [::1]:8080\r\n"), b""),
    "Host with a blank after it": (get(b"Host: a \r\n"), b""),
    "upgrade without a body": (get(HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n"), b""),
}


def test_there_are_enough_cases():
    assert len(REFUSED) + len(ACCEPTED) >= 100


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("split", [False, True], ids=["at once", "in pieces"])
def test_refused(patient: Running, case: str, split: bool):
    """In pieces: what a parser sees at the end of a segment must not change what it understands."""
    patient.app.seen.clear()
    sent = REFUSED[case] + SMUGGLED + SMUGGLED
    answers = patient.ask(*([sent[:20], *[sent[at : at + 7] for at in range(20, len(sent), 7)]] if split else [sent]))
    assert [answer.status for answer in answers] == [400]
    assert answers[0].headers["connection"] == "close"
    assert answers[0].error["type"] == "invalid_request_error"
    assert all(seen.scope["path"] == "/case" and seen.body is None for seen in patient.app.seen), "no complete request was seen"


@pytest.mark.parametrize("case", ACCEPTED)
@pytest.mark.parametrize("split", [False, True], ids=["at once", "in pieces"])
def test_accepted(patient: Running, case: str, split: bool):
    patient.app.seen.clear()
    sent, body = ACCEPTED[case]
    sent += NEXT
    answers = patient.ask(*([sent[at : at + 7] for at in range(0, len(sent), 7)] if split else [sent]))
    assert [answer.status for answer in answers] == [200, 200]
    assert [(seen.scope["path"], seen.body) for seen in patient.app.seen] == [("/case", body), ("/next", b"")]


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
def test_tunnels_are_not_allowed(patient: Running, method: bytes):
    patient.app.seen.clear()
    target = b"a:443" if method == b"CONNECT" else b"/case"
    [answer] = patient.ask(get(line=method + b" " + target + b" HTTP/1.1") + SMUGGLED)
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert patient.app.seen == []


def test_a_bad_request_behind_a_good_one_is_answered_after_it(patient: Running):
    good, bad = get(HOST), get(HOST + HOST)
    assert [answer.status for answer in patient.ask(good + good + bad + good)] == [200, 200, 400]


def test_a_bad_body_behind_a_good_request_is_answered_after_it(patient: Running):
    patient.app.seen.clear()
    good, bad = get(HOST), post(CHUNKED, b"x\r\n")
    assert [answer.status for answer in patient.ask(good + bad + good)] == [200, 400]
    assert len(patient.app.seen) == 1, "a queued request whose body is bad never reaches the app"


def test_a_body_that_goes_wrong_is_not_asked_for_after_the_answer(patient: Running, caplog: pytest.LogCaptureFixture):
    bad = post(b"Expect: 100-continue\r\n" + CHUNKED, b"x\r\n")
    assert patient.ask(bad)[0].status == 400
    until(lambda: patient.gauge.open == 0)
    assert caplog.messages == []


def test_a_body_that_goes_wrong_after_the_answer_has_begun_cuts_it(patient: Running):
    """A 400 can't be told apart from the body that is being sent: only a cut can't be misunderstood."""
    with patient.connect() as wire:
        wire.send(b"POST /flood HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\n5\r\nhello\r\n")
        wire.read_until(b"\r\n\r\n")
        wire.send(b"x\r\n")
        rest = wire.rest()
    assert b"HTTP/1.1" not in rest
    assert len(rest) < 1 << 25


def test_a_body_that_goes_wrong_after_the_answer_has_ended_ends_the_connection(patient: Running):
    patient.app.seen.clear()
    with patient.connect() as wire:
        wire.send(post(CHUNKED, b"").replace(b"/case", b"/early"))
        wire.read_until(b"}}")
        wire.send(b"x\r\n" + SMUGGLED)
        assert wire.rest() == b""
    assert patient.app.paths == ["/early"]


def test_what_follows_a_closing_request_is_not_served(patient: Running):
    patient.app.seen.clear()
    answers = patient.ask(get(HOST + b"Connection: close\r\n") + SMUGGLED)
    assert [answer.status for answer in answers] == [200]
    assert patient.app.paths == ["/case"]


def test_a_refusal_echoes_a_sane_request_id_only(patient: Running):
    [answer] = patient.ask(get(b"X-Request-Id: mine-1\r\nHost: a b\r\n"))
    assert (answer.headers["x-request-id"], answer.error["param"]) == ("mine-1", "host")
    [answer] = patient.ask(get(b"X-Request-Id: <script>\r\nHost: a b\r\n"))
    assert answer.headers["x-request-id"].startswith("req_")


def test_refusals_are_not_logged(patient: Running, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    for case in ("CL.TE", "no Host", "TLS", "unknown method"):
        patient.ask(REFUSED[case])
    assert [record.message for record in caplog.records] == []
