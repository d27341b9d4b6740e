"""A3: what is meant for a database, a script, a log or a template is text to us, wherever it stands, with a key or without."""

import http.client
import json
from urllib.parse import quote

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
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, json.dumps(body) if method == "POST" else None, headers)
        return connection.getresponse().status
    finally:
        connection.close()
