"""D9: nobody can have the gateway call whom its operator did not name, by any field, header, target, redirect or draft.

strace sees every connection that it begins, whichever library begins it: there must be none but those to the one provider.
"""

import http.client
import itertools
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from tests.process.conftest import DEADLINE, Program
from tests.process.hostile import Asked, HostileUpstream, completion, reply

ADMIN = "sk-sn-admin-of-the-forged"
FORM = "application/x-www-form-urlencoded"
CONNECT = re.compile(r"^\d+ +connect\(\d+, \{sa_family=(?P<family>\w+), (?P<where>.*?)\}, \d+", re.MULTILINE)
V4 = re.compile(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)')

HOSTS = (  # of this machine, as nobody writes it who means well
    *("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1"),
    *("0", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]"),
    *("[64:ff9b::7f00:1]", "127.0.0.1.nip.io", "localtest.me", "①②⑦.⓪.⓪.①", "127。0。0。1", "127.0.0.1.", "LOCALHOST"),
    *(
        "user@127.0.0.1",
        "api.openai.com@127.0.0.1",
        "api.openai.com:443@127.0.0.1",
        "127.0.0.1\\@api.openai.com",
        "%31%32%37.0.0.1",
    ),
)
METADATA = (
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"),
    *("100.100.100.200", "192.0.0.192", "metadata.google.internal", "instance-data"),
)
OTHERS = (
    *("//127.0.0.1:{port}/", "\\\\127.0.0.1\\share", "127.0.0.1:{port}", "https://127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}/"),
    *("http:127.0.0.1:{port}", " http://127.0.0.1:{port}/", "http://127.0.0.1:{port}/%0d%0aX:%20y", "file:///etc/passwd"),
    *("file://127.0.0.1:{port}/etc/passwd", "gopher://127.0.0.1:{port}/_GET%20/", "dict://127.0.0.1:{port}/info"),
    *("ftp://127.0.0.1:{port}/", "ldap://127.0.0.1:{port}/", "redis://127.0.0.1:{port}/0", "postgresql://127.0.0.1:{port}/a"),
    *("unix:///var/run/docker.sock", "unix:/run/a.sock", "http+unix://%2Fvar%2Frun%2Fdocker.sock/", "http://unix:/run/a.sock:/"),
    *("jar:http://127.0.0.1:{port}!/a", "ws://127.0.0.1:{port}/", "s3://127.0.0.1:{port}/a", "netdoc:///etc/passwd"),
)


def payloads(port: int) -> list[str]:
    """Where the gateway is to be sent; `port` is a trap's on this machine."""
    hosts = [f"http://{host}:{port}/v1" for host in HOSTS]
    return [*hosts, *(f"http://{host}/latest/meta-data/" for host in METADATA), *(one.format(port=port) for one in OTHERS)]


class Try(NamedTuple):
    """A request that is to lead it astray."""

    method: str
    target: str
    body: bytes
    headers: Mapping[str, str]


CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
USUAL: dict[str, dict[str, Any]] = {
    CHAT: {"model": "mock/m", "messages": [{"role": "user", "content": "Where to?"}]},
    "/v1/completions": {"model": "mock/m", "prompt": "Where to?"},
    RESPONSES: {"model": "mock/m", "input": "Where to?"},
    "/v1/embeddings": {"model": "mock/m", "input": "Where to?"},
    MESSAGES: {"model": "mock/m", "max_tokens": 9, "messages": [{"role": "user", "content": "Where to?"}]},
    "/v1/messages/count_tokens": {"model": "mock/m", "messages": [{"role": "user", "content": "Where to?"}]},
    "/v1/query": {"prompt": "Where to?", "model": "mock/m"},
    "/v1/query/batch": {"queries": ["Where to?"], "model": "mock/m"},
    "/v1/predict": {"input": "Where to?", "model": "mock/m"},
    "/dashboard/playground/ask": {"model": "mock/m", "messages": [{"role": "user", "content": "Where to?"}]},
}
NAMES = (
    *("model", "api_base", "base_url", "baseURL", "custom_host", "endpoint", "host", "url", "proxy", "callback_url", "webhook"),
    *("provider", "user", "namespace", "tenant", "name", "id", "extra_body", "metadata", "api_key", "input", "prompt"),
)
"""Members of a body that some gateway has gone by, and some that are ours."""


def parts(url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What models are to look at, or to call, in every dialect; each with its path."""

    def said(*content: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": list(content)}]}

    schema = {"name": "a", "schema": {"$ref": url, "$schema": url, "$id": url}}
    image, source = {"type": "image_url", "image_url": {"url": url}}, {"type": "url", "url": url}
    yield CHAT, said(image)
    yield CHAT, said({"type": "image_url", "image_url": url})
    yield CHAT, said({"type": "file", "file": {"file_data": url, "file_id": url, "file_url": url}})
    yield CHAT, said({"type": "input_audio", "input_audio": {"data": url, "format": "wav"}})
    yield CHAT, said({"type": "video_url", "video_url": {"url": url}})
    yield CHAT, {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"$ref": url}}}]}
    yield CHAT, {"response_format": {"type": "json_schema", "json_schema": schema}}
    yield CHAT, {"extra_headers": {"host": url}, "headers": {"host": url}, "extra_query": {"url": url}}
    yield CHAT, {"web_search_options": {"url": url}, "prediction": {"type": "content", "content": url}}
    yield RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}
    yield RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]}
    yield RESPONSES, {"tools": [{"type": "mcp", "server_label": "a", "server_url": url}]}
    yield MESSAGES, said({"type": "image", "source": source})
    yield MESSAGES, said({"type": "document", "source": source})
    yield MESSAGES, {"mcp_servers": [{"type": "url", "url": url, "name": "a"}]}
    yield MESSAGES, {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch", "allowed_domains": [url]}]}
    yield "/v1/query", {"context": url, "images": [url]}
    yield "/v1/query/batch", {"queries": [url, {"prompt": url, "model": url}]}
    yield "/v1/predict", {"input": {"question": url}, "parameters": {"tools": [url]}}
    yield "/dashboard/playground/ask", said(image)


DRAFTS = (
    "providers: {{a: {{dialect: openai, base_url: {url}, api_key: k}}}}",
    "providers: {{a: {{preset: azure, base_url: {url}, api_key: k}}}}",
    "alerts: {{channels: {{a: {{webhook: {url}, secret: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}}}}}}",
    "alerts: {{channels: {{a: {{apprise: {url}}}}}}}",
    "redis: {{url: {url}}}",
    "database_url: {url}",
    "qdrant: {{url: {url}}}",
    "sentry: {{dsn: {url}}}",
    "tracing: {{endpoint: {url}}}",
    "prices: {{url: {url}}}",
    "include: [{url}]",
)
HEADERS = (
    *("host", "x-forwarded-host", "forwarded", "x-forwarded-for", "x-original-url", "x-rewrite-url", "x-http-destinationurl"),
    *("x-api-base", "x-base-url", "x-portkey-custom-host", "x-portkey-config", "helicone-target-url", "x-target-url", "proxy"),
    *("openai-organization", "openai-base-url", "referer", "location", "via", "origin", "x-webhook-url", "x-cache-namespace"),
    *("x-wap-profile", "traceparent", "x-request-id", "cookie", "content-location", "destination", "anthropic-base-url"),
)


def tries(url: str, document: Mapping[str, Any]) -> Iterator[Try]:
    """Every way in that there is, with this."""
    json_type, form_type = {"content-type": "application/json"}, {"content-type": FORM}
    for path, item in document["paths"].items():
        at = re.sub(r"\{[^}]*\}", quote(url, safe=""), path)
        if "get" in item:
            yield Try("GET", f"{at}?{urlencode({'url': url, 'id': url, 'to': url, 'words': url})}", b"", {})
        for method in {"post", "put", "patch", "delete"} & item.keys():
            for name in NAMES:
                body = json.dumps(USUAL.get(path, {}) | {name: url}).encode()
                yield Try(method.upper(), at, body, json_type)
            if path.startswith("/dashboard"):
                yield Try(method.upper(), at, urlencode(dict.fromkeys((*NAMES, "to", "target", "rule"), url)).encode(), form_type)
    yield Try("POST", CHAT, json.dumps(USUAL[CHAT] | {"model": f"mock/{url}"}).encode(), json_type)
    for path, more in parts(url):
        yield Try("POST", path, json.dumps(USUAL[path] | more).encode(), json_type)
    for draft in DRAFTS:
        yaml = draft.format(url=json.dumps(url))
        yield Try("POST", "/admin/config/check", json.dumps({"yaml": yaml}).encode(), json_type)
        yield Try("POST", "/dashboard/config/check", urlencode({"yaml": yaml}).encode(), form_type)
    usual = json.dumps(USUAL[CHAT]).encode()
    for header in HEADERS:
        yield Try("POST", CHAT, usual, json_type | {header: url})
    for target in (url, f"{url.rstrip('/')}/chat/completions", f"/{url}", f"/v1/{quote(url)}"):
        yield Try("POST", target.strip().replace(" ", "%20"), usual, json_type)
    yield Try("CONNECT", url.removeprefix("http://").partition("/")[0].replace(" ", ""), b"", {})


class Forger:
    """Sends tries over one connection, as long as that stays."""

    def __init__(self, port: int) -> None:
        self.statuses: Counter[int] = Counter()
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def send(self, one: Try) -> None:
        """Bytes as they are: what is sent here is none that a library would."""
        headers = {"host": "localhost", "authorization": f"Bearer {ADMIN}", "content-length": str(len(one.body))} | dict(
            one.headers
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        raw = f"{one.method} {one.target} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogateescape") + one.body
        connection = self._connection = self._connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        if connection.sock is None:
            connection.connect()
        with suppress(ConnectionError):
            connection.sock.sendall(raw)
        answer = http.client.HTTPResponse(connection.sock, method=one.method)
        try:
            answer.begin()
            answer.read()
            self.statuses[answer.status] += 1
        except (ConnectionError, http.client.HTTPException):
            self.statuses[0] += 1
            answer.will_close = True
        if answer.will_close or answer.status >= 400:
            connection.close()
            self._connection = None


def config(port: int) -> str:
    """The provider that may be called, and metadata services: where a name may lead by the time that it is called."""
    usual = f"  mock: {{dialect: openai, base_url: 'http://127.0.0.1:{port}/v1', api_key: k, models: [m]}}\n"
    moved = [
        f"  m{number}: {{dialect: openai, base_url: 'http://{host}/v1', api_key: k, models: [m]}}\n"
        for number, host in enumerate(MOVED)
    ]
    return f"providers:\n{usual}{''.join(moved)}alerts: {{every: 1}}\n"


MOVED = ("169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200")


def called(log: Path, process: int) -> Counter[str]:
    """Whom it has begun to connect to until it ended, as strace saw it."""
    end = time.monotonic() + DEADLINE
    while not re.search(rf"^{process} +\+\+\+ exited", log.read_text(), re.MULTILINE):
        assert time.monotonic() < end, "strace never saw it end"
        time.sleep(0.05)
    found: Counter[str] = Counter()
    for match in CONNECT.finditer(log.read_text()):
        v4 = V4.search(match["where"])
        found[f"{v4[2]}:{v4[1]}" if v4 else f"{match['family']} {match['where']}"] += 1
    return found


@pytest.mark.parametrize("every", [pytest.param(97, id="some"), pytest.param(5, id="many", marks=pytest.mark.long)])
def test_nobody_is_called_but_the_provider(strace: str, serve: Any, tmp_path: Path, every: int):
    """Of all tries one in `every`, so that each way in meets some payloads, and each payload some ways in."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        port = trap.getsockname()[1]
        sent = payloads(port)
        assert len(set(sent)) >= 60
        leads = itertools.cycle(sent)

        def answer(asked: Asked) -> Iterable[bytes]:
            """Now and then elsewhere, in every way that an answer has."""
            url = next(leads).replace("\\", "%5c").encode("ascii", "ignore").decode().strip()
            where = [f"Location: {url}", f"Content-Location: {url}", f"Refresh: 0; url={url}", f"Link: <{url}>; rel=preload"]
            status = ("200 OK", "301 Moved", "200 OK", "307 Temporary Redirect", "302 Found", "308 Permanent Redirect")[
                len(url) % 6
            ]
            return [reply(completion(url), *where, f'Alt-Svc: h2="127.0.0.1:{port}"', status=status)]

        with HostileUpstream(answer) as upstream:
            program, log = start(strace, serve, tmp_path, upstream.port, port)
            document = program.request("GET", "/openapi.json", authorization=f"Bearer {ADMIN}").json
            forger = Forger(program.port)
            for number in range(len(MOVED)):
                refused = program.request("POST", CHAT, USUAL[CHAT] | {"model": f"m{number}/m"}, authorization=f"Bearer {ADMIN}")
                assert (refused.status, b"can't be reached" in refused.body) == (502, True), refused.body
            for number, url in enumerate(sent):
                for one in itertools.islice(tries(url, document), number % every, None, every):
                    forger.send(one)
            forger.close()
            program.stop()
        found = called(log, program.process.pid)
        print(sum(forger.statuses.values()), "tries,", dict(forger.statuses), dict(found))
        trap.settimeout(0)
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert found.keys() == {f"127.0.0.1:{upstream.port}"}, "and it was seen to call that one"
    assert len(upstream.asked) > 20
    assert {200, 400, 404} <= forger.statuses.keys()
    assert "Traceback" not in program.errors.read_text()


def start(strace: str, serve: Any, folder: Path, port: int, trap: int) -> tuple[Program, Path]:
    """A gateway whose connections are watched, in an environment that would send them to the trap."""
    file, log = folder / "sentinel.yaml", folder / "connects"
    file.touch(mode=0o600)
    file.write_text(config(port))
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), f"http://127.0.0.1:{trap}")
    environ = {"SENTINEL_ADMIN_KEY": ADMIN, "SENTINEL_KEYS__REQUIRED": "true", "LOG_LEVEL": "error", **proxies}
    environ |= {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000000", "SENTINEL_ROUTING__RETRY_BUDGET": "0"}
    environ |= {"SENTINEL_ROUTING__COOL_DOWN": "0"}
    # strace stands beside it (-D): so the gateway is our child, and hears our signals
    watch = [strace, "-D", "-f", "--seccomp-bpf", "-e", "trace=connect", "-s", "300", "-o", str(log)]
    return serve(*watch, **environ), log
