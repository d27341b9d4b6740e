"""What a proxy before us may have understood in another way: each case is one sane request, or 400 and the end.

Every case is followed on the same connection by a request for /smuggled, which must never be reached out of turn: it is seen
only where the case itself is one complete request.
"""

import pytest

from tests.server.conftest import Running, until
from tests.server.smuggling import ACCEPTED, CHUNKED, HOST, NEXT, REFUSED, SMUGGLED, get, post


def test_there_are_enough_cases():
    assert len(REFUSED) + len(ACCEPTED) >= 300


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
