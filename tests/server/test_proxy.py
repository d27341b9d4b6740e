"""Behind a real nginx: what it takes for one request is one request here, and every answer reaches who asked.

All of `smuggling.py` goes through it, twice: as it is by default, which mends and buffers much, and as open as it can be made,
which passes on as much as possible. After each case a stranger asks over the connection that nginx kept to us.
"""

import logging
import time
from pathlib import Path

import pytest

from tests.server.conftest import Answer, Running, Wire, parse, until
from tests.server.nginx import Line, Nginx, is_installed, running_nginx
from tests.server.smuggling import ACCEPTED, NEXT, REFUSED

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


def ask(port: int, sent: bytes) -> list[Answer]:
    """The body a moment after its head: nginx passes on what it has not seen the end of, and then in chunks."""
    head, end, body = sent.partition(b"\r\n\r\n")
    with Wire(port) as wire:
        wire.send(head + end)
        time.sleep(0.003)
        wire.send(body)
        data = wire.rest()
    return parse(data) if data.startswith(b"HTTP/") else [Answer(0, {}, data, complete=True)]  # HTTP/0.9 has no head


def test_nginx_and_the_gateway_agree_on_every_request(patient: Running, nginx: Nginx, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "uvicorn.error")
    passed_on = refused = logged = 0
    opened = patient.gauge.total
    for number, (name, case) in enumerate(CASES.items()):
        patient.app.seen.clear()
        caplog.clear()
        answers = ask(nginx.port, case + NEXT)
        [stranger] = ask(nginx.port, STRANGER % number)
        until(lambda: len(nginx.lines()) >= logged + len(answers) + 1)  # noqa: B023 - called at once
        lines = nginx.lines()[logged:]
        logged += len(lines)
        check(name, patient, answers, lines)
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
