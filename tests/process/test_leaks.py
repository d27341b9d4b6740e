"""I7: canaries as keys, prompts and answers through every face, errors too; then everything that is told or kept is searched.

Keys may stand nowhere. Prompts and answers may stand in the cache's own files, in answers to those who sent them, and nowhere
else. Searched for: the text itself, base64 at each offset, hex, percent-encoded, escaped as in JSON, and pieces of 12 characters.
"""

import base64
import http.client
import json
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from bench.processes import Process

ROOT = Path(__file__).parents[2]
PIECE = 12
PROMPT = 'Quoll-7f3 Wombat_91 Ünder "Platypus" 4c2e Bandicoot?'
SYSTEM = "Numbat+58d Echidna/e07 Kowari=1b Pademelon!"
PROVIDER_KEY = "gsk_Zx9Qw7RtYpL2mNbV4cKsD8fHjG6aEuTi"
ADMIN_KEY = "Tasman-Devil-77Q-Kx2-9vPz-admin"
WRONG_KEY = "sk-Bettong-Qf81-Dunnart-Wm37-Antechinus"
CACHES = ("cache.db", "idempotency.db")
"""Where answers are kept, and what is compared with what is asked."""


def pieces(text: str, size: int) -> set[str]:
    return {text[start : start + size] for start in range(len(text) - size + 1)} or {text}


def forms(canary: str) -> Iterator[tuple[str, set[str]]]:
    """What a canary may look like, by the name of each form: any of the pieces would give it away."""
    raw = canary.encode()
    yield "raw", pieces(canary, PIECE)
    for offset in range(3):
        whole = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")[4:-4]
        yield "base64", pieces(whole, 16)
        yield "base64 for URLs", pieces(whole.translate(str.maketrans("+/", "-_")), 16)
    yield "hex", pieces(raw.hex(), 2 * PIECE)
    yield "percent-encoded", pieces(urllib.parse.quote(canary, safe=""), PIECE + 8)
    yield "form-encoded", pieces(urllib.parse.quote_plus(canary), PIECE + 8)
    yield "escaped", pieces(json.dumps(canary)[1:-1], PIECE)
    yield "escaped twice", pieces(json.dumps(json.dumps(canary))[3:-3], PIECE)


def leaks(text: str, canaries: Iterable[str]) -> list[str]:
    lower = text.lower()
    return [
        f"{name} of {canary[:14]}...: {next(piece for piece in found if piece.lower() in lower)}"
        for canary in canaries
        for name, found in forms(canary)
        if any(piece.lower() in lower for piece in found)
    ]


@pytest.mark.parametrize("form", [str, str.upper, json.dumps, urllib.parse.quote, lambda text: text[7:19]])
def test_the_search_finds_what_is_there(form):
    assert leaks(f"{{{form(PROMPT)}}}", [PROMPT])


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_the_search_finds_what_is_encoded(before):
    raw = f"{before}{PROMPT}".encode()
    assert leaks(base64.b64encode(raw).decode(), [PROMPT])
    assert leaks(base64.urlsafe_b64encode(raw).decode(), [PROMPT])
    assert leaks(raw.hex(), [PROMPT])
    assert not leaks("Quoll-7f3 Wx Platypus", [PROMPT])


class Told:
    """Answers to callers, by what each was asked."""

    def __init__(self, program, key: str) -> None:
        self.program = program
        self.key = key
        self.own: dict[str, str] = {}
        """Of our own making: they repeat nothing."""
        self.statuses: list[int] = []

    def ask(self, path: str, body, *, own: bool = True, method: str = "POST", key: str | None = None, **headers: str):
        raw = body if isinstance(body, bytes) else json.dumps(body)
        sent = {"authorization": f"Bearer {key or self.key}", "content-type": "application/json", **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.program.port, timeout=60)
        try:
            connection.request(method, path, None if method == "GET" else raw, sent)
            answer = connection.getresponse()
            text, heads = answer.read().decode(), str(answer.getheaders())
        finally:
            connection.close()
        self.statuses.append(answer.status)
        name = f"{len(self.statuses)} {method} {path} {answer.status}"
        self.own[name] = f"{heads}\n{text}" if own and (answer.status >= 400 or method == "GET") else heads
        return answer.status, text


def chat(**more):
    return {
        "model": "mock/mock-model",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}],
    } | more


def all_faces(told: Told) -> None:
    for model in ("mock/mock-model", "demo"):
        assert told.ask("/v1/chat/completions", chat(model=model))[0] == 200
        assert told.ask("/v1/chat/completions", chat(model=model))[0] == 200
        assert told.ask("/v1/chat/completions", chat(model=model, stream=True, temperature=0.1))[0] == 200
        assert told.ask("/v1/responses", {"model": model, "instructions": SYSTEM, "input": PROMPT})[0] == 200
        assert told.ask("/v1/completions", {"model": model, "prompt": PROMPT})[0] == 200
        message = {"model": model, "max_tokens": 50, "system": SYSTEM, "messages": [{"role": "user", "content": PROMPT}]}
        assert told.ask("/v1/messages", message)[0] == 200
        assert told.ask("/v1/messages", message | {"stream": True})[0] == 200
        told.ask("/v1/messages/count_tokens", message)
    assert told.ask("/v1/embeddings", {"model": "mock/mock-model", "input": [PROMPT, SYSTEM]})[0] == 200
    assert told.ask("/v1/query", {"prompt": PROMPT, "provider": "mock", "model": "mock-model"})[0] == 200
    assert told.ask("/v1/query/batch", {"queries": [PROMPT, PROMPT, {"prompt": [PROMPT]}], "model": "mock/mock-model"})[0] == 200
    keyed = {"idempotency-key": "one"}
    assert told.ask("/v1/chat/completions", chat(user="u"), **keyed)[0] == 200
    assert told.ask("/v1/chat/completions", chat(user="v", seed=1), **keyed)[0] == 422


def all_errors(told: Told) -> None:
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/query", "/v1/embeddings", "/v1/feedback"):
        told.ask(path, json.dumps(chat()).encode()[:-9])
        told.ask(path, json.dumps({"messages": PROMPT, "prompt": [PROMPT], "input": {"a": PROMPT}, "id": [PROMPT]}).encode())
        told.ask(path, chat(temperature=PROMPT, prompt=PROMPT, provider="mock", max_tokens=50))
        told.ask(path, chat(), key=WRONG_KEY)
        told.ask(path, chat(), **{"x-api-key": WRONG_KEY, "api-key": WRONG_KEY})
        told.ask(path, chat(), **{"x-cache-ttl": WRONG_KEY})
    told.ask("/v1/query/batch", {"queries": [PROMPT, {"prompt": PROMPT, "id": [PROMPT]}], "stream": PROMPT, "provider": [PROMPT]})
    told.ask("/v1/query/batch", {"queries": PROMPT}, key=WRONG_KEY)
    for fault in ("down", "text", "html", "refusing", "cut", "limited", "gone"):
        for stream in (False, True):
            told.ask("/v1/chat/completions", chat(model=f"{fault}/mock-model", stream=stream))
            message = {"model": f"{fault}/mock-model", "max_tokens": 9, "messages": [{"role": "user", "content": PROMPT}]}
            told.ask("/v1/messages", message | {"stream": stream})
    told.ask("/admin/keys", {"name": "a", "limits": PROMPT}, key=ADMIN_KEY)
    told.ask("/admin/cache/clear", {"similar_to": PROMPT, "min_similarity": 2}, key=ADMIN_KEY)
    told.ask("/admin/cache/clear", {"similar_to": PROMPT, "min_similarity": 0.99, "model": "none"}, key=ADMIN_KEY)
    told.ask(f"/admin/stats?key={WRONG_KEY}", b"", method="GET", key=WRONG_KEY)


FAULTS = {
    "down": "err=503",
    "text": "err=500;err_body=text",
    "html": "html",
    "refusing": "err=401",
    "limited": "err=429;retry_after=0",
    "cut": "cut_after=1",
}


def configuration(upstream: str) -> str:
    def provider(name: str, url: str) -> str:
        return f"  {name}: {{dialect: openai, base_url: '{url}', api_key: '{PROVIDER_KEY}', models: [mock-model]}}\n"

    faulty = "".join(provider(name, f"{upstream}/{fault}/v1") for name, fault in FAULTS.items())
    return f"providers:\n{provider('mock', f'{upstream}/v1')}{faulty}{provider('gone', 'http://127.0.0.1:1/v1')}"


def test_no_canary_leaves_its_place(serve, tmp_path):
    with Process(
        "mock", (sys.executable, "-m", "bench.chaos"), environment={"PYTHONPATH": str(ROOT)}, directory=tmp_path, core=0
    ) as mock:
        config = tmp_path / "sentinel.yaml"
        config.touch(0o600)
        config.write_text(configuration(mock.wait_for_line().split()[-1]))
        environ = {"SENTINEL_ADMIN_KEY": ADMIN_KEY, "LOG_LEVEL": "trace", "LOG_PATH": "requests.log"}
        program = serve(**environ, SENTINEL_DATA_DIR=str(tmp_path / "data"), SENTINEL_ROUTING__RETRY_BUDGET="0")
        status, made = Told(program, ADMIN_KEY).ask("/admin/keys", {"name": "canary"})
        assert status == 201
        client_key = json.loads(made)["key"]
        told = Told(program, client_key)
        all_faces(told)
        all_errors(told)
        for path in routes_to_read(told):
            told.ask(path, b"", method="GET", key=ADMIN_KEY)
        cmdline = Path(f"/proc/{program.process.pid}/cmdline").read_text()
        program.stop()
        assert {400, 401, 422, 429, 502} <= set(told.statuses)
    keys, texts = (PROVIDER_KEY, ADMIN_KEY, WRONG_KEY, client_key.removeprefix("sk-sn-")), (PROMPT, SYSTEM)
    searched = told.own | {"stdout": program.lines.read_text(), "stderr": program.errors.read_text(), "cmdline": cmdline}
    searched["request log"] = (tmp_path / "requests.log").read_text()
    for form in ("jsonl", "csv"):
        searched[form] = exported(tmp_path, form)
    for file in (tmp_path / "data").rglob("*"):
        if file.is_file() and not file.name.startswith(CACHES):
            searched[file.name] = file.read_bytes().decode("latin-1")
    assert len(searched["jsonl"].splitlines()) > 40
    assert {"sentinel.db", "stdout"} <= searched.keys()
    found = {place: leaks(text, (*keys, *texts)) for place, text in searched.items()}
    for file in (tmp_path / "data").rglob("*.db*"):
        found[f"keys in {file.name}"] = leaks(file.read_bytes().decode("latin-1"), keys)
    assert {place: leak for place, leak in found.items() if leak} == {}
    cached = "".join(file.read_bytes().decode("latin-1") for file in (tmp_path / "data").glob("cache.db*"))
    assert leaks(cached, [PROMPT]), "the canaries never got as far as the cache"


def routes_to_read(told: Told) -> list[str]:
    """Every path that can be read, monitoring too."""
    fixed = [
        "/metrics",
        "/health",
        "/ready",
        "/v1/metrics",
        "/costs",
        "/v1/models",
        "/admin/stats",
        "/admin/keys",
        "/admin/audit",
    ]
    status, text = told.ask("/openapi.json", b"", method="GET", key=ADMIN_KEY)
    paths = json.loads(text)["paths"] if status == 200 else {}
    read = [path for path, methods in paths.items() if "get" in methods]
    return [*dict.fromkeys(fixed + [re.sub(r"\{[^}]*\}", "mock", path) for path in read])]


def exported(home: Path, form: str) -> str:
    command = [sys.executable, "-m", "sentinel_gateway", "ledger", "export", "--format", form]
    environ = {"HOME": str(home), "SENTINEL_DATA_DIR": str(home / "data"), "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(command, cwd=home, env=environ, capture_output=True, check=True, text=True).stdout
