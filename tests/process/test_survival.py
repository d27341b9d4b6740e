"""What outlives the program: answers, the admin key. What ends it: signals, in good order."""

import json
import signal
import socket
import subprocess
import sys
import time

from tests.process.conftest import DEADLINE, Program, committed

ADMIN_KEY = "an-admin-key-of-the-tests-that-is-long-enough"
DEMO = {"model": "demo-slow", "stream": True, "messages": [{"role": "user", "content": "one two three four five six"}]}


def test_hit_after_kill_9(serve, tmp_path) -> None:
    first = serve()
    answers = {n: first.ask(f"question {n}") for n in range(20)}
    assert {answer.headers["x-cache"] for answer in answers.values()} == {"miss"}
    committed(tmp_path, "replies", 20)
    first.kill()
    second = serve()
    for n, before in answers.items():
        while (again := second.ask(f"question {n}", **{"cache-control": "only-if-cached"})).status == 504:
            assert "tier-down" in again.headers.get("cache-status", "tier-down"), "the disk may be late on a busy machine"
        assert again.headers["cache-status"].startswith("sentinel-disk;hit;ttl=")
        assert again.text == before.text
        assert again.json["usage"] == before.json["usage"]
    assert second.ask("question 3").headers["cache-status"].startswith("sentinel-memory;hit")


def test_the_admin_key_is_shown_once_and_holds_after_a_restart(serve, tmp_path) -> None:
    first = serve()
    key = first.greeting(r"shown only this once: (\S+)")
    assert first.request("GET", "/admin/stats", authorization=f"Bearer {key}").status == 200
    first.stop()
    second = serve()
    assert "sk-sn-admin" not in second.errors.read_text()
    assert second.request("GET", "/admin/stats", authorization=f"Bearer {key}").status == 200
    assert second.request("GET", "/admin/stats").status == 401
    everything = b"".join(file.read_bytes() for file in (tmp_path / ".local").rglob("*") if file.is_file())
    assert everything
    assert key.encode() not in everything


def open_stream(program) -> socket.socket:
    """A stream that has begun."""
    body = json.dumps(DEMO).encode()
    stream = socket.create_connection(("127.0.0.1", program.port), DEADLINE)
    stream.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert stream.recv(65536).startswith(b"HTTP/1.1 200 OK")
    return stream


def rest_of(stream: socket.socket) -> bytes:
    pieces = []
    while piece := stream.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_sigterm_drains_streams_finish(serve) -> None:
    program = serve(SENTINEL_SERVER__DRAIN_NOTICE="2")
    assert program.request("GET", "/ready").status == 200
    with open_stream(program) as stream:
        program.signal(signal.SIGTERM)
        program.drains()
        assert program.request("GET", "/livez").status == 200
        assert b"data: [DONE]" in rest_of(stream)
    assert program.wait() == 0


def test_second_signal_is_immediate(serve) -> None:
    program = serve(SENTINEL_SERVER__DRAIN_NOTICE="60")
    with open_stream(program) as stream:
        program.signal(signal.SIGTERM)
        program.drains()
        assert program.process.poll() is None
        program.signal(signal.SIGTERM)
        assert b"data: [DONE]" not in rest_of(stream)
    assert program.wait() == 0


def test_sighup_reloads_and_a_faulty_file_changes_nothing(serve, tmp_path) -> None:
    file = tmp_path / "sentinel.yaml"
    file.write_text("models: {mine: [demo/demo]}\n")
    program = serve(SENTINEL_ADMIN_KEY=ADMIN_KEY)
    assert program.ask("a", model="mine").status == 200
    file.write_text("models: {yours: [demo/demo]}\n")
    program.signal(signal.SIGHUP)
    end = time.monotonic() + DEADLINE
    while program.ask("a", model="yours").status != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert program.ask("a", model="mine").status == 404
    file.write_text("modles: {theirs: [demo/demo]}\n")
    program.signal(signal.SIGHUP)
    while "configuration_rejected" not in program.lines.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "did you mean 'models'" in program.lines.read_text()
    assert program.ask("a", model="yours").status == 200
    wanted = ["configuration.rejected", "configuration.reload", "configuration.reload"]
    while [entry["action"] for entry in audit(program)] != wanted:  # the last is written behind the line of the log
        assert time.monotonic() < end
        time.sleep(0.05)
    assert {entry["actor"] for entry in audit(program)} == {"signal"}


def audit(program: Program) -> list[dict[str, str]]:
    return program.request("GET", "/admin/audit", authorization=f"Bearer {ADMIN_KEY}").json["data"]


def test_a_busy_port_is_one_sentence(serve) -> None:
    first = serve()
    second = subprocess.run(
        [sys.executable, "-m", "sentinel_gateway", "serve", "--port", str(first.port)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={"HOME": str(first.errors.parent / "other"), "PATH": "/usr/bin"},
    )
    assert second.returncode == 2
    assert f"127.0.0.1:{first.port}" in second.stderr
    assert "Traceback" not in second.stderr


def test_sighup_never_ends_it(serve) -> None:
    """Not before it can reload, and not while it is writing what is left."""
    program = serve()
    for number in (signal.SIGTERM, *[signal.SIGHUP] * 200):
        if program.process.poll() is None:
            program.signal(number)
        time.sleep(0.005)
    assert program.wait() == 0
