"""docs/idempotency.md says what a gateway does."""

import json
import re
import socket
import subprocess
import threading
from pathlib import Path

from sentinel_gateway.core.idempotency import LIFETIME, Quota, read_key
from sentinel_gateway.errors import IdempotencyUnavailable, KeyReused, RequestInterrupted, RequestUnderway
from sentinel_gateway.pipeline.idempotency import IdempotencyLimits
from tests.process.conftest import DEADLINE, serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "idempotency.md").read_text()
[CURL] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
[REPEATED] = re.findall(r"```\n(idempotent.*?)\n```", PAGE)


def said(command: str) -> tuple[int, str, bytes]:
    """Status, head and body of what a command is answered."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=30, check=True)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


def test_the_same_again_is_the_same_to_the_byte_and_another_request_is_refused(serve):
    command = CURL.replace("http://127.0.0.1:8080", serve().base_url)
    first, again = said(command), said(command)
    assert (first[0], again[0]) == (200, 200)
    assert REPEATED not in first[1]
    assert REPEATED in again[1]
    assert again[2] == first[2]
    status, head, body = said(command.replace("the sea", "the moon"))
    assert (status, json.loads(body)["error"]["code"]) == (422, KeyReused.code)
    assert "x-should-retry: false" in head


def test_it_works_for_queries_streams_and_what_is_never_cached(serve):
    gateway = serve()
    chat = {"model": "demo", "messages": [{"role": "user", "content": "Once"}]}
    for number, (path, body, headers) in enumerate(
        [
            ("/v1/query", {"prompt": "Once"}, {}),
            ("/v1/chat/completions", chat | {"stream": True}, {}),
            ("/v1/chat/completions", chat, {"x-bypass-cache": "true"}),
        ]
    ):
        sent = headers | {"Idempotency-Key": f"key-{number}"}
        first, again = (gateway.request("POST", path, body, **sent) for _ in range(2))
        assert (first.status, again.status) == (200, 200)
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["content-type"] == first.headers["content-type"]


def test_after_a_crash_in_the_middle_nothing_is_asked_again(serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(DEADLINE)
        base_url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        provider = f"{{dialect: openai, base_url: '{base_url}', api_key: '${{NO_KEY:-none}}', models: [m]}}"
        (tmp_path / "sentinel.yaml").write_text(f"providers: {{silent: {provider}}}\n")
        gateway = serve()
        asking = threading.Thread(target=ask_and_be_cut_off, args=(gateway,))
        asking.start()
        asked, _ = silent.accept()
        assert asked.recv(1), "the provider was asked"
        gateway.kill()
        asking.join(DEADLINE)
        asked.close()
        answer = serve().ask("Once", "silent/m", **{"Idempotency-Key": "crash"})
        assert (answer.status, answer.json["error"]["code"]) == (409, RequestInterrupted.code)
        assert answer.headers["x-should-retry"] == "false"
        silent.setblocking(False)
        try:
            silent.accept()
        except BlockingIOError:
            return
        raise AssertionError("the provider was asked twice")


def ask_and_be_cut_off(gateway):
    try:
        gateway.ask("Once", "silent/m", **{"Idempotency-Key": "crash"})
    except OSError:
        return
    raise AssertionError("it was answered")


def test_the_codes_and_figures_are_those_of_the_code():
    for error in (KeyReused, RequestInterrupted, RequestUnderway, IdempotencyUnavailable):
        assert f"{error.status} `{error.code}`" in PAGE
    assert LIFETIME == 24 * 3600
    assert IdempotencyLimits() == IdempotencyLimits(wait=60.0, max_bytes=1 << 20)
    assert (f"{Quota().keys:,} keys" in PAGE, f"{Quota().bytes >> 20} MiB" in PAGE) == (True, True)
    assert read_key("k" * 255) == read_key('"' + "k" * 255 + '"') == "k" * 255
    assert read_key("k" * 256) is read_key("") is read_key('a"b') is None
