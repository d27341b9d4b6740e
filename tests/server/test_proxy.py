"""Behind a real nginx: what it takes for one request is one request here, and every answer reaches who asked.

All of `smuggling.py` goes through it, twice: as it is by default, which mends and buffers much, and as open as it can be made,
which passes on as much as possible. After each case a stranger asks over the connection that nginx kept to us.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.server.conftest import Answer, Running, Wire, parse, until
from tests.server.nginx import Line, Nginx, is_installed, running_nginx
from tests.server.smuggling import ACCEPTED, NEXT, REFUSED
from tests.still import ATTEMPTS, Awake, awake

T = TypeVar("T")
CASES = REFUSED | {name: request for name, (request, _) in ACCEPTED.items()}
STRANGER = b"GET /stranger-%d HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
HURRY = "client_header_timeout 300ms; client_body_timeout 300ms; send_timeout 300ms; keepalive_timeout 300ms;"
OPEN = f"{HURRY} ignore_invalid_headers off; underscores_in_headers on; merge_slashes off;"
"""For a case that nginx waits for the end of."""

KINDS = {
    "default": (HURRY, ""),
    "open": (OPEN, "proxy_request_buffering off; proxy_buffering off; proxy_set_header Host $http_host;"),
}


@pytest.fixture(params=KINDS)
def nginx(request: pytest.FixtureRequest, patient: Running, tmp_path: Path, absent):
    if not is_installed():
        absent("nginx (make test-deps installs it)")
    server, location = KINDS[request.param]
    with running_nginx(tmp_path, patient.port, server=server, location=location) as running:
        yield running


@dataclass(frozen=True)
class Asked:
    answers: list[Answer]
    port: int
    """Ours, by which nginx's log tells the requests of this connection from those of its time."""
    since: int
    """Bytes of the log before."""


def ask(nginx: Nginx, sent: bytes) -> Asked:
    """The body a moment after its head: nginx passes on what it has not seen the end of, and then in chunks."""
    head, end, body = sent.partition(b"\r\n\r\n")
    since = nginx.told
    with Wire(nginx.port) as wire:
        ours = wire.socket.getsockname()[1]
        wire.send(head + end)
        time.sleep(0.003)
        wire.send(body)
        data = wire.rest()
    answers = parse(data) if data.startswith(b"HTTP/") else [Answer(0, {}, data, complete=True)]  # HTTP/0.9 has no head
    return Asked(answers, ours, since)


def awake_for(clock: Awake, attempt: Callable[[], T]) -> T:
    """Made again if the machine stood still: nginx waits 300 ms, and then ends without a word what it has not read yet."""
    for _ in range(ATTEMPTS):
        clock()
        slept = clock.slept
        outcome = attempt()
        clock()
        if clock.slept == slept:
            break
    return outcome


def logged(nginx: Nginx, asked: Asked) -> list[Line]:
    """What nginx tells of a connection, once it has told of as many requests as were answered."""
    lines: list[Line] = []

    def are_told() -> bool:
        lines[:] = (line for line in nginx.lines(asked.since) if line.port == asked.port)
        return len(lines) >= len(asked.answers)

    until(are_told)
    return lines


def test_nginx_and_the_gateway_agree_on_every_request(patient: Running, nginx: Nginx, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "uvicorn.error")
    passed_on = refused = 0
    opened = patient.gauge.total

    def both(case: bytes, stranger: bytes) -> tuple[Asked, Asked]:
        patient.app.seen.clear()
        caplog.clear()
        return ask(nginx, case + NEXT), ask(nginx, stranger)

    with awake() as clock:
        for number, (name, case) in enumerate(CASES.items()):
            asked, strange = awake_for(clock, partial(both, case, STRANGER % number))
            lines = logged(nginx, asked) + logged(nginx, strange)
            check(name, patient, asked.answers, lines)
            [stranger] = strange.answers
            assert (stranger.status, stranger.json["raw_path"]) == (200, str(b"/stranger-%d" % number)), name
            refusals = sum(message.startswith("Refused a request") for message in caplog.messages)
            assert refusals == sum(line.upstream == "400" for line in lines), f"{name}: we saw a request that nginx did not send"
            passed_on += sum(bool(line.upstream) for line in lines) - 1
            refused += refusals
    assert passed_on > len(CASES) / 10, "nginx refused nearly all by itself"
    assert refused > 0, "we were never stricter"
    assert patient.gauge.total - opened < len(CASES) / 2, "connections to us were kept"


def check(name: str, patient: Running, answers: list[Answer], lines: list[Line]) -> None:
    """As many requests as nginx counted, in its order, and to each its own answer."""
    understood = [line.target for line in lines if line.served]
    seen = [seen.scope["raw_path"].decode() for seen in patient.app.seen if seen.body is not None]
    answered = [answer.json["raw_path"] for answer in answers if b'"raw_path"' in answer.body]
    assert seen == understood, name
    assert answered == [str(target.encode()) for target in understood[:-1]], name
    if name in ACCEPTED:
        bodies = {seen.body for seen in patient.app.seen if seen.scope["path"] == "/case"}
        assert bodies <= {ACCEPTED[name][1]}, name
