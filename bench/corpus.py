"""What the amplification meter sends: for every route of `/openapi.json` a corpus made for it.

Bodies as large as the route takes, of what is slow to read, count, compare or search; parameters and headers as long as may be.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

ADMIN: Final = "bench-admin-key-of-this-run-alone-0123456789"
LARGE: Final = 4 * 1024 * 1024 - 4096
MANAGED: Final = 60 * 1024
DRAFT: Final = 48_000
"""What each kind of route takes at most, in bytes."""
NUMBER: Final = b"number 00000000"
"""In it stands another one with each request, so that it is not what was asked before."""
TEXT: Final = "\0text"
"""Where the corpus puts its texts in the bodies below."""
USUAL: Final[Mapping[str, Any]] = {
    "/v1/chat/completions": {"model": "mock/mock-model", "messages": [{"role": "user", "content": TEXT}]},
    "/v1/completions": {"model": "mock/mock-model", "prompt": TEXT},
    "/v1/responses": {"model": "mock/mock-model", "input": TEXT},
    "/v1/embeddings": {"model": "mock/mock-model", "input": TEXT},
    "/v1/messages": {"model": "mock/mock-model", "max_tokens": 9, "messages": [{"role": "user", "content": TEXT}]},
    "/v1/messages/count_tokens": {"model": "mock/mock-model", "messages": [{"role": "user", "content": TEXT}]},
    "/v1/query": {"prompt": TEXT, "model": "mock/mock-model"},
    "/v1/query/batch": {"queries": [TEXT], "model": "mock/mock-model"},
    "/v1/predict": {"input": TEXT, "model": "mock/mock-model"},
    "/v1/feedback": {"request_id": "a", "correct": True},
    "/dashboard/playground/ask": {"model": "mock/mock-model", "messages": [{"role": "user", "content": TEXT}]},
    "/admin/config/check": {"yaml": TEXT},
    "/admin/cache/explain": {"a": TEXT, "b": TEXT},
    "/admin/cache/clear": {"dry_run": True, "similar_to": TEXT},
    "/admin/semantic/try": {"max_wrong_hit_rate": 0.1},
}
LISTS: Final = {"messages": {"role": "user", "content": "a"}, "queries": "a", "input": "a", "prompt": "a", "tools": {}}
FILLERS: Final = {
    "one letter": "a",
    "words": "the cat sat on the mat and ",
    "digits": "12345 ",
    "code": "def f(x): return {x: [x]}\n",
    "accents": "é",
    "blanks": " ",
    "one number": "7",
    "names": "Ann of Rome asked Bob, ",
    "quotes": "\"'",
    "signs": "-_.!?",
    "CJK": "字",
    "emoji": "😀",
    "line breaks": "\n",
    "YAML lists": "[",
    "YAML keys": "a:\n ",
    "variables": "${A:-${A}}",
}
SEARCHED: Final = {"/v1/chat/completions", "/v1/messages/count_tokens", "/admin/cache/explain", "/admin/config/check"}
"""What texts are counted, compared and searched by is met here: these get every filler, all others the first few."""
SKIPPED: Final = {"/dashboard/events", "/admin/reload", "/dashboard/config/reload"}
"""A stream without end; and what an operator does to the whole process, at any time."""


class Case(NamedTuple):
    """One request: all its bytes."""

    route: str
    name: str
    raw: bytes


def request(
    method: str, target: str, body: bytes = b"", *, key: str = ADMIN, kind: str = "application/json", more: str = ""
) -> bytes:
    """The bytes of one."""
    own = f"Host: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{method} {target} HTTP/1.1\r\n{own}{more}\r\n".encode("latin-1") + body


def written(body: Mapping[str, Any], text: str = "a") -> bytes:
    """A body of `USUAL`, with this text in it."""
    whole = json.dumps(body, separators=(",", ":"))
    return whole.replace(json.dumps(TEXT), json.dumps(text, ensure_ascii=False)).encode()


def bodies(route: str) -> Iterator[tuple[str, bytes]]:
    """What a route is sent, each by a name: as large as it takes."""
    room = LARGE if route.startswith("/v1") and route != "/v1/feedback" else MANAGED
    usual = USUAL.get(route, {})
    yield "as usual", written(usual)
    if texts := json.dumps(usual).count(json.dumps(TEXT)):
        yield "2,000 of other words each time", written(usual, f"{NUMBER.decode()} {FILLERS['words'] * 70}")
        for name, text in FILLERS.items() if route in SEARCHED else list(FILLERS.items())[:4]:
            for size in (2000, DRAFT if "config" in route else room // texts // 2):
                yield f"{size:,} of {name}", written(usual, (text * (size // len(text) + 1))[:size])[:room]
    for name, one in LISTS.items():
        if name in usual:
            number = min(10_000, room // (len(json.dumps(one)) + 1))
            yield f"{number:,} {name}", written(usual | {name: [one] * number})
    if route == "/admin/config/check":
        for name, draft in drafts():
            yield f"a draft {name}", written(usual, draft[:DRAFT])
    if "model" in usual:
        yield "a model that nobody has", written(usual | {"model": "gpt-" + "abcdefg-" * 30})
    yield "no JSON", b"x" * room
    yield "blanks only", b" " * room
    yield "not UTF-8", b'{"a":"' + b"\xff" * (room - 8) + b'"}'
    yield "deep lists", b'{"a":' + b"[" * (room // 2 - 8) + b"]" * (room // 2 - 8) + b"}"
    yield "wide lists", b'{"a":[' + b"[]," * (room // 3 - 8) + b"[]]}"
    yield "as wide as may be", b'{"a":[' + b"[]," * min(24_000, room // 3 - 8) + b"[]]}"
    yield "keys", b"{" + b",".join(b'"%d":0' % number for number in range(min(24_000, room // 9))) + b"}"
    if "model" in usual:
        yield "keys within", written(usual | {"metadata": {str(number): 0 for number in range(min(24_000, room // 9))}})
    yield "a key again and again", b"{" + b'"a":0,' * (room // 6 - 8) + b'"a":0}'
    yield "escapes", b'{"a":"' + rb"\u00e9" * (room // 6 - 8) + b'"}'
    yield "backslashes", b'{"a":"' + b"\\" * (room // 2 * 2 - 16) + b'"}'
    yield "one long number", b'{"a":' + b"9" * (room - 16) + b"}"
    yield "fields of a form", b"&".join(b"a%d=b" % number for number in range(room // 8))


def drafts() -> Iterator[tuple[str, str]]:
    """Configurations of very many settings or faults, each by a name."""
    own = "".join(f"  p{n}: {{dialect: openai, base_url: 'http://a'}}\n" for n in range(450))
    yield "of no providers", "providers:\n" + "".join(f"  p{n}: {{}}\n" for n in range(3500))
    yield "of models of nobody", "models:\n" + "".join(f"  m{n}: nobody/m\n" for n in range(2400))
    yield "of providers, and models of others", f"providers:\n{own}models:\n" + "".join(f"  m{n}: q{n}/m\n" for n in range(1400))
    yield "of settings that there are not", "server:\n" + "".join(f"  portt{n}: 1\n" for n in range(3000))
    yield "of a list", "server: {allowed_hosts: [" + "a," * 23_000 + "]}"
    yield "of models, as many as may be", "models:\n" + "".join(f"  m{n}: openai/m\n" for n in range(990))
    yield "of 75 settings that there are not", "server:\n" + "".join(f"  portt{n}: 1\n" for n in range(75))
    eights = (f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8) if n else 'x'}]\n" for n in range(9))
    yield "of aliases of aliases", "".join(eights)


def corpus(document: Mapping[str, Any]) -> Iterator[Case]:
    """All that every route is sent."""
    for route, item in document["paths"].items():
        if route in SKIPPED:
            continue
        target = re.sub(r"\{[^}]*\}", "x", route)
        for method in [one for one in ("get", "post", "put", "patch", "delete") if one in item]:
            name = f"{method.upper()} {route}"
            if method == "get":
                yield Case(name, "as usual", request("GET", target))
                for parameter in item["get"].get("parameters", ()):
                    key = parameter["name"]
                    for filler, text in (("one letter", "a"), ("words", "cat%20sat%20"), ("percents", "%25_")):
                        value = (text * 7000)[:7000].rpartition("%")[0] if "%" in text else text * 7000
                        where = f"{target}?{key}={value}" if parameter["in"] == "query" else target.replace("/x", f"/{value}", 1)
                        yield Case(name, f"{key} of {filler}", request("GET", where))
                yield Case(name, "many parameters", request("GET", f"{target}?{'&'.join(f'a{n}=b' for n in range(1100))}"))
                continue
            for about, body in bodies(route):
                kind = "application/x-www-form-urlencoded" if "form" in about else "application/json"
                yield Case(name, about, request(method.upper(), target, body, kind=kind))
    for header, unit in HEADERS.items():
        more = f"{header}: {(unit * (60_000 // len(unit) + 1))[:60_000]}\r\n"
        raw = request("POST", "/v1/chat/completions", written(USUAL["/v1/chat/completions"]), more=more)
        yield Case("any route", f"60,000 bytes of {header}", raw)


HEADERS: Final = {
    "accept-encoding": "gzip;q=0.5, ",
    "accept": "text/html;q=0.5, ",
    "cache-control": "no-cache, ",
    "cookie": "a=b; ",
    "via": "1.1 sentinel-00000000 (",
    "x-cache-tags": "a, ",
    "x-cache-namespace": "a",
    "x-cache-ttl": "9",
    "x-similarity-threshold": "0",
    "x-request-id": "a",
    "idempotency-key": "a",
    "traceparent": "00-",
    "user-agent": "a ",
    "x-unknown": "a",
    "origin": "http://a.",
    "x-forwarded-for": "1.1.1.1, ",
    "anthropic-beta": "a,",
}
