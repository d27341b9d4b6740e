"""A3: what is meant for a database, a script, a log or a template is text to us, wherever it stands, with a key or without."""

import http.client
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from sentinel_gateway.core.access import make_key_text

ADMIN = "sk-sn-admin-of-the-injected"
PAYLOADS = [
    "' OR '1'='1' --",
    "'; DROP TABLE keys; --",
    '" UNION SELECT digest FROM keys --',
    "%' ESCAPE '\\",
    "%%%_%%%_",
    "*3 $3 SET $1 a $1 b",
    "return redis.call('FLUSHALL')",
    "${jndi:ldap://127.0.0.1/a}",
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "__import__('os').system('id')",
    "../../../../etc/passwd",
    "\x1b[31mred\x1b[0m",
    "a%0d%0aSet-Cookie:%20x=1",
    "%00",
    "\u202e\ufeff\u0000",
    "<script>alert(1)</script>",
    "A" * 4000,
]
HEADERS = ["authorization", "x-api-key", "x-request-id", "x-cache-namespace", "x-cache-tags", "x-cache-ttl"]
HEADERS += ["idempotency-key", "user-agent", "cookie", "origin", "accept-encoding", "x-similarity-threshold"]
FIELDS = ["model", "user", "content", "stop"]
QUERIES = ["/admin/keys?search=", "/admin/keys?cursor=", "/admin/keys?tenant=", "/admin/audit?cursor=", "/admin/keys/"]
QUERIES += ["/v1/models/", "/"]


def test_nothing_that_is_sent_is_ever_run(serve) -> None:
    program = serve(SENTINEL_ADMIN_KEY=ADMIN, SENTINEL_KEYS__REQUIRED="true", SENTINEL_CACHE__SEMANTIC__ENABLED="false")
    made = program.request("POST", "/admin/keys", {"name": "the one"}, Authorization=f"Bearer {ADMIN}").json
    sent, statuses = 1, set[int]()
    for payload in PAYLOADS:
        for place in (*HEADERS, *FIELDS, *QUERIES):
            for key in (made["key"], make_key_text(bytes(32))):
                statuses.add(send(program.port, place, payload, key))
                sent += 1
    listed = program.request("GET", "/admin/keys", Authorization=f"Bearer {ADMIN}").json["data"]
    audited = program.request("GET", "/admin/audit", Authorization=f"Bearer {ADMIN}").json["data"]
    program.stop()
    assert {status for status in statuses if status >= 500} == set()
    assert {200, 400, 401, 403, 404} <= statuses
    assert [key["id"] for key in listed] == [made["id"]]
    assert [entry["action"] for entry in audited] == ["key.create"]
    lines = program.lines.read_text().split("\n")[:-1]
    requests = [line for line in map(json.loads, lines) if line["event"] == "request"]
    assert len(requests) == sent + 2, "one line a request"
    assert all(line.isprintable() for line in lines)
    assert made["key"] not in program.lines.read_text() + program.errors.read_text()


def send(port: int, place: str, payload: str, key: str) -> int:
    """The status of a request that holds the payload in this place."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}"}
    method, path = "POST", "/v1/chat/completions"
    if place in HEADERS:
        headers[place] = payload.encode("latin-1", "replace").replace(b"\0", b"%00").decode("latin-1")
    elif place == "content":
        body["messages"] = [{"role": "user", "content": payload}]
    elif place in FIELDS:
        body[place] = payload
    else:
        method, path = "GET", place + quote(payload, safe="")
        headers["authorization"] = f"Bearer {ADMIN if '/admin' in place else key}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, json.dumps(body) if method == "POST" else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


# --- every route that the document has ---

JSON, FORM = "application/json", "application/x-www-form-urlencoded"
CHANGES_NOTHING = {
    "/admin/config/check": {"yaml": ...},
    "/admin/cache/explain": {"a": ..., "b": ...},
    "/admin/cache/clear": {"dry_run": True, "namespace": ...},
    "/admin/semantic/try": {"max_wrong_hit_rate": ...},
    "/v1/query": {"prompt": ..., "namespace": ...},
    "/v1/predict": {"input": ..., "model": "demo"},
    "/v1/messages": {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": ...}]},
    "/v1/messages/count_tokens": {"model": "demo", "messages": [{"role": "user", "content": ...}]},
    "/v1/responses": {"model": "demo", "input": ..., "instructions": ...},
    "/v1/completions": {"model": "demo", "prompt": ...},
    "/v1/embeddings": {"model": "demo", "input": [...]},
    "/v1/feedback": {"request_id": ..., "correct": True},
    "/dashboard/playground/ask": {"model": "demo", "messages": [{"role": "user", "content": ...}]},
}
"""POSTs that leave everything as it was, whoever sends them, and what they take; `...` is where the payload stands."""
SEVERAL_LINES = {"/v1/query/batch", "/v1/predict", "/dashboard/playground/ask"}
"""Each has requests within it, which have lines of their own."""
PROBED = {"/livez", "/healthz", "/ready", "/readyz", "/health", "/metrics"}
"""What machines ask all the time stands in no log."""
SAID = 503
"""How a probe says that something is not well, as a disk that has much to do."""
NOT_INSTALLED = 501
"""What programs say where DSPy is not there."""


class Sent(NamedTuple):
    """A request with a payload in it. `path` is the route's, as the document has it."""

    path: str
    method: str
    target: str
    body: bytes = b""
    kind: str = JSON


def filled(value: Any, payload: str) -> Any:
    if value is ...:
        return payload
    if isinstance(value, dict):
        return {name: filled(one, payload) for name, one in value.items()}
    return [filled(one, payload) for one in value] if isinstance(value, list) else value


def places(document: Mapping[str, Any], payload: str) -> Iterator[Sent]:
    """The payload in every parameter of every route, and in what every POST takes."""
    for path, item in document["paths"].items():
        at = re.sub(r"\{[^}]*\}", quote(payload, safe=""), path)
        for parameter in item.get("get", {}).get("parameters", ()):
            where = at if parameter["in"] == "path" else f"{at}?{urlencode({parameter['name']: payload})}"
            yield Sent(path, "GET", where)
        if "get" in item:
            yield Sent(path, "GET", f"{at}?{urlencode({'id': payload, 'words': payload, 'to': payload, 'cursor': payload})}")
        for method in {"post", "put", "patch", "delete"} & item.keys():
            yield Sent(
                path, method.upper(), at, json.dumps(filled(CHANGES_NOTHING.get(path, {"no such field": ...}), payload)).encode()
            )
            if path.startswith("/dashboard"):  # without the token of a session: nothing is done
                yield Sent(path, method.upper(), at, urlencode({"token": payload, "id": payload, "yaml": payload}).encode(), FORM)


@pytest.mark.parametrize("every", [pytest.param(13, id="some"), pytest.param(1, id="all", marks=pytest.mark.long)])
def test_nor_by_any_route(serve, every: int) -> None:
    """The operator's own key reads and asks; what changes something is sent with a key that may not."""
    program = serve(SENTINEL_ADMIN_KEY=ADMIN, SENTINEL_KEYS__REQUIRED="true")
    operator = {"authorization": f"Bearer {ADMIN}"}
    made = program.request("POST", "/admin/keys", {"name": "the one"}, **operator).json
    before = state(program)
    document = program.request("GET", "/openapi.json", **operator).json
    sent: dict[str, str] = {}
    statuses: dict[str, set[int]] = {}
    by_payload = [list(places(document, payload)) for payload in PAYLOADS]
    for one in itertools.chain.from_iterable(some[number % every :: every] for number, some in enumerate(by_payload)):
        reads = one.method == "GET" or one.path in CHANGES_NOTHING
        for key in (made["key"], ADMIN) if reads else (made["key"],):
            name = f"sent-{len(sent)}"
            statuses.setdefault(one.path, set()).add(send_to(program.port, one, key, name))
            sent[name] = one.path
    faults = {path: found - ({NOT_INSTALLED, SAID} if path in PROBED else {NOT_INSTALLED}) for path, found in statuses.items()}
    assert {path: found for path, found in faults.items() if max(found, default=0) >= 500} == {}
    assert statuses.keys() == document["paths"].keys(), "each was asked"
    assert state(program) == before
    program.stop()
    lines = program.lines.read_text().split("\n")[:-1]
    assert all(line.isprintable() for line in lines)
    told = Counter(line["request_id"] for line in map(json.loads, lines) if line["event"] == "request")
    assert {path for name, path in sent.items() if not told[name]} == PROBED
    assert {path for name, path in sent.items() if told[name] > 1} <= SEVERAL_LINES, "one line a request"
    assert made["key"] not in program.lines.read_text() + program.errors.read_text()
    print(len(sent), "requests,", len(statuses), "routes")


def state(program: Any) -> list[Any]:
    """What a side effect would be seen in."""
    operator = {"authorization": f"Bearer {ADMIN}"}
    audited = [one["action"] for one in program.request("GET", "/admin/audit", **operator).json["data"]]
    paths = ("/admin/keys", "/config", "/admin/alerts/history")
    return [audited, *(program.request("GET", path, **operator).json for path in paths)]


def send_to(port: int, one: Sent, key: str, name: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"authorization": f"Bearer {key}", "content-type": one.kind, "x-request-id": name}
    try:
        connection.request(one.method, one.target, one.body or None, headers)
        return connection.getresponse().status
    finally:
        connection.close()
