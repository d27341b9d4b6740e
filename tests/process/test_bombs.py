"""D4: what is small on the wire and large in memory, or never ends, is cut at its bound, whoever sends it, wherever to."""

import gzip
import io
import itertools
import json
import socket
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zlib import crc32

import pytest

from tests.process.conftest import Program
from tests.process.hostile import Asked, HostileUpstream, completion, head, reply

ADMIN = "sk-sn-admin-of-the-bombed"
MIB = 1 << 20
MOST = 64 * MIB
"""What any of it may have the gateway hold more than before."""
LONG = 128 * MIB
"""What "without end" is here: a gateway that takes all of it fails."""
NOT_INSTALLED = 501
"""What programs say where DSPy is not there."""
GIB_OF_NOTHING = gzip.compress(bytes(MIB)) * 1024
"""A valid gzip file, of many members: a thousandth of what it unpacks to."""
WIDE = 31 * MIB // 3
"""Empty lists in an answer that is just short enough to be read."""
DIALECTS = ("openai", "anthropic", "gemini", "bedrock")
NAMES = (*DIALECTS, "unlisted")
EVENTS = "text/event-stream"
AMAZON = "application/vnd.amazon.eventstream"


def on_and_on(before: bytes, piece: bytes) -> Iterator[bytes]:
    """A beginning, and then the same again and again."""
    yield before
    many = piece * max(1, 65536 // len(piece))
    for _ in range(LONG // len(many)):
        yield many


def message(size: int) -> bytes:
    """The beginning of a message of Amazon's that says to be so long."""
    prelude = struct.pack(">II", size, 0)
    return prelude + struct.pack(">I", crc32(prelude))


CHUNKED = "Transfer-Encoding: chunked"
ENDLESS: dict[str, Callable[[str], Iterable[bytes]]] = {
    "a line": lambda kind: on_and_on(head(kind=kind) + b"data: ", b"x"),
    "an event": lambda kind: on_and_on(head(kind=kind), b"data: and so on\n"),
    "a body of an announced length": lambda kind: on_and_on(head("Content-Length: 1099511627776", kind=kind), b"x"),
    "a chunk": lambda kind: on_and_on(head(CHUNKED, kind=kind) + b"ffffffff\r\n", b"x"),
    "chunks": lambda kind: on_and_on(head(CHUNKED, kind=kind), b"8\r\ndata: xx\r\n"),
    "a chunk's extension": lambda kind: on_and_on(head(CHUNKED, kind=kind) + b"1;", b"e"),
    "trailers": lambda kind: on_and_on(head(CHUNKED, kind=kind) + b"1\r\n{\r\n0\r\n", b"X: y\r\n"),
    "headers": lambda _: on_and_on(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a header": lambda _: on_and_on(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "a status line": lambda _: on_and_on(b"HTTP/1.1 200 ", b"O"),
    "answers before the answer": lambda _: on_and_on(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "an error": lambda kind: on_and_on(head(status="500 Oops", kind=kind), b"x"),
    "a message of Amazon's": lambda _: on_and_on(head(kind=AMAZON) + message(1 << 30), b"x"),
}
PACKED: dict[str, Callable[[str], Iterable[bytes]]] = {
    "gzip": lambda kind: [reply(GIB_OF_NOTHING, "Content-Encoding: gzip", kind=kind)],
    "gzip, in chunks": lambda kind: [head(CHUNKED, "Content-Encoding: gzip", kind=kind), b"100000\r\n", GIB_OF_NOTHING],
    "gzip twice": lambda kind: [reply(gzip.compress(GIB_OF_NOTHING), "Content-Encoding: gzip, gzip", kind=kind)],
    "gzip, as a transfer coding": lambda kind: [head("Transfer-Encoding: gzip, chunked", kind=kind), GIB_OF_NOTHING],
    "br": lambda kind: [reply(b"\x81" * MIB, "Content-Encoding: br", kind=kind)],
    "zstd": lambda kind: [reply(b"\x28\xb5\x2f\xfd" * 1000, "Content-Encoding: zstd", kind=kind)],
    "deflate": lambda kind: [reply(GIB_OF_NOTHING, "Content-Encoding: deflate", kind=kind)],
}
SHAPED: dict[str, Callable[[str], Iterable[bytes]]] = {
    "deep lists": lambda _: [reply(b"[" * MIB)],
    "deep objects": lambda _: [reply(b'{"a":' * 200_000)],
    "a wide list": lambda _: [reply(b'{"choices":[' + b"[]," * WIDE + b"[]]}")],
    "many keys": lambda _: [reply(b'{"choices":[],' + b'"a":{},' * (WIDE // 3) + b'"b":1}')],
    "a wide event": lambda _: [head(kind=EVENTS) + b"data: [" + b"[]," * (MIB // 3 - 10) + b"[]]\n\n"],
    "a long number": lambda _: [reply(b'{"created":' + b"9" * 30 * MIB + b"}")],
}
BOMBS = ENDLESS | PACKED | SHAPED


EVERY = [(dialect, name, stream) for dialect in DIALECTS for name in BOMBS for stream in (False, True)]
FEW = [("openai", name, stream) for name in SHAPED for stream in (False, True)]
FEW += [(DIALECTS[number % 4], name, number // 4 % 2 == 1) for number, name in enumerate(ENDLESS | PACKED)]


def configured(port: int) -> str:
    """A provider of each dialect, all of them the same upstream, and one that is asked for its models."""
    where = f"base_url: 'http://127.0.0.1:{port}/v1', api_key: k"
    more = {"bedrock": ", models: [m], region: us-east-1", "unlisted": ""}
    lines = [
        f"  {one}: {{dialect: {'openai' if one == 'unlisted' else one}, {where}{more.get(one, ', models: [m]')}}}"
        for one in NAMES
    ]
    return "\n".join(["providers:", *lines, ""])


class Minefield:
    """A gateway, and an upstream that answers with the bomb that was laid last."""

    def __init__(self, folder: Path) -> None:
        self.laid: Callable[[], Iterable[bytes]] = lambda: [reply(completion())]
        self.upstream = HostileUpstream(self._answer)
        file = folder / "sentinel.yaml"
        file.touch(mode=0o600)
        file.write_text(configured(self.upstream.port))
        self.upstream.__enter__()
        environ = {"SENTINEL_ADMIN_KEY": ADMIN, "SENTINEL_KEYS__REQUIRED": "true", "LOG_LEVEL": "warn"}
        environ |= {"SENTINEL_ROUTING__RETRY_BUDGET": "0", "SENTINEL_ROUTING__COOL_DOWN": "0"}
        self.program = Program(folder, environ | {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000000"})
        self.key = {"authorization": f"Bearer {ADMIN}"}

    def _answer(self, asked: Asked) -> Iterable[bytes]:
        return self.laid()

    def step_on(self, dialect: str, name: str, *, stream: bool) -> int:
        """Ask for it; by how many bytes the gateway grew at its peak."""
        kind = "application/json" if not stream else AMAZON if dialect == "bedrock" else EVENTS
        self.laid = lambda: BOMBS[name](kind)
        before = len(self.upstream.sent)
        body = {"model": f"{dialect}/m", "messages": [{"role": "user", "content": f"{name} {stream}"}], "stream": stream}
        with self.program.growth() as told:
            answer = self.program.request("POST", "/v1/chat/completions", body | {"max_tokens": 50}, **self.key)
        assert answer.status in {200, 502}, (dialect, name, answer.status, answer.body[:300])
        assert b"error" in answer.body, (dialect, name, answer.body[:300])
        assert len(answer.body) < MIB + 1000
        assert len(self.upstream.asked) > before, "it was asked"
        return told[0]


@pytest.fixture(scope="module")
def minefield(tmp_path_factory) -> Iterator[Minefield]:
    field = Minefield(tmp_path_factory.mktemp("minefield"))
    yield field
    field.program.stop()
    field.upstream.__exit__(None, None, None)
    assert "Traceback" not in field.program.errors.read_text()


# --- what callers send ---


def packed_files() -> bytes:
    """A ZIP file of ten files of 10 MiB each."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(10):
            archive.writestr(f"{number}.json", bytes(10 * MIB))
    return file.getvalue()


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
"""YAML of 800 bytes that says a hundred thousand million things."""
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
SENT: dict[str, tuple[bytes, dict[str, str]]] = {
    "gzip": (GIB_OF_NOTHING, {"content-encoding": "gzip"}),
    "a little gzip": (GIB_OF_NOTHING[:60_000], {"content-encoding": "gzip"}),
    "a little br": (b"\x81" * 60_000, {"content-encoding": "br"}),
    "zip": (packed_files(), {"content-type": "application/zip"}),
    "zip, as JSON": (packed_files(), {}),
    "parts": (
        b'--a\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 1000,
        {"content-type": "multipart/form-data; boundary=a"},
    ),
    "deep lists": (b"[" * 60_000, {}),
    "deep objects": (b'{"a":' * 12_000, {}),
    "deep messages": (b'{"model":"openai/m","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", {}),
    "wide lists": (b'{"model":"openai/m","messages":[' + b"[]," * MIB + b"[]]}", {}),
    "a few wide lists": (b'{"model":"openai/m","messages":[' + b"[]," * 20_000 + b"[]]}", {}),
    "many keys": (b"{" + b",".join(b'"k%d":{}' % number for number in range(300_000)) + b"}", {}),
    "a few many keys": (b"{" + b",".join(b'"k%d":{}' % number for number in range(5_000)) + b"}", {}),
    "a long number": (b'{"model":' + b"9" * 60_000 + b"}", {}),
    "a large number": (b'{"max_tokens":1e999999999,"model":"openai/m","messages":[]}', {}),
    "laughs in JSON": (json.dumps({"yaml": LAUGHS}).encode(), {}),
    "laughs in a form": (b"yaml=" + quote(LAUGHS).encode(), {"content-type": FORM}),
    "deep YAML": (json.dumps({"yaml": "[" * 49_000}).encode(), {}),
    "many fields": (b"&".join(b"a%d=b" % number for number in range(9_000)), {"content-type": FORM}),
}


def routes_of(document: dict[str, Any]) -> list[str]:
    """All that take a body."""
    return [path.replace("{", "").replace("}", "") for path, item in document["paths"].items() if "post" in item]


@pytest.mark.parametrize("every", [pytest.param(7, id="some"), pytest.param(1, id="all", marks=pytest.mark.long)])
def test_nothing_that_a_caller_sends_fills_the_memory(minefield: Minefield, every: int):
    """Of all bombs for all routes one in `every`, so that each route meets some, and each bomb some routes."""
    program = minefield.program
    paths = routes_of(program.request("GET", "/openapi.json", **minefield.key).json)
    assert {"/v1/embeddings", "/v1/messages", "/v1/feedback", "/admin/config/check", "/dashboard/playground/ask"} <= set(paths)
    grown: dict[tuple[str, str], int] = {}
    for path, (name, (body, headers)) in itertools.islice(itertools.product(paths, SENT.items()), 0, None, every):
        with program.growth() as told:
            status = send(program.port, path, body, {"content-type": JSON} | headers | minefield.key)
        assert status < 500 or status == NOT_INSTALLED, (path, name, status)
        grown[path, name] = told[0]
    print(len(grown), "bombs;", f"{max(grown.values()) / MIB:.1f} MiB more at most, by", max(grown, key=lambda one: grown[one]))
    assert {one: size for one, size in grown.items() if size >= MOST} == {}


def send(port: int, path: str, body: bytes, headers: dict[str, str]) -> int:
    """The status; the answer may come before all of the body was read."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return send_raw(
        port, [f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode(), body]
    )


def send_raw(port: int, pieces: Iterable[bytes]) -> int:
    """The status of the answer to these bytes; 0 for none."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        with suppress(ConnectionError):
            answer = connection.recv(65536)
            return int(answer.split(b" ", 2)[1]) if answer else 0
    return 0


HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + ADMIN.encode() + b"\r\n"
ON_AND_ON: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "headers": lambda path: on_and_on(HEAD % path, b"X: y\r\n"),
    "a header": lambda path: on_and_on(HEAD % path + b"X: ", b"y"),
    "a target": lambda path: on_and_on(b"POST " + path, b"/a"),
    "a query": lambda path: on_and_on(b"POST " + path + b"?", b"a=b&"),
    "a method": lambda _: on_and_on(b"", b"POST"),
    "chunks": lambda path: on_and_on(HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n", b"8\r\naaaaaaaa\r\n"),
    "large chunks": lambda path: on_and_on(
        HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n", b"fff\r\n" + b"a" * 4095 + b"\r\n"
    ),
    "an extension": lambda path: on_and_on(HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n8;", b"e"),
    "trailers": lambda path: on_and_on(HEAD % path + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    "an announced body": lambda path: on_and_on(HEAD % path + b"Content-Length: 1099511627776\r\n\r\n", b"a"),
}


def test_what_a_caller_never_ends_is_cut(minefield: Minefield):
    program, others = (
        minefield.program,
        itertools.cycle((b"/v1/embeddings", b"/admin/config/check", b"/dashboard/sign-in", b"/nowhere")),
    )
    for name, pieces in ON_AND_ON.items():
        for path in (b"/v1/chat/completions", next(others)):
            with program.growth() as told:
                status = send_raw(program.port, pieces(path))
            assert status in {0, 400, 401, 404, 413, 431}, (path, name, status)
            assert told[0] < MOST, (path, name, told[0] / MIB)
    assert program.request("GET", "/livez").status == 200


# --- what providers send: last, as what was held once hides what is held later ---


@pytest.mark.parametrize("laid", [pytest.param(FEW, id="few"), pytest.param(EVERY, id="every", marks=pytest.mark.long)])
def test_nothing_that_a_provider_sends_fills_the_memory(minefield: Minefield, laid: list[tuple[str, str, bool]]):
    grown = {(dialect, name, stream): minefield.step_on(dialect, name, stream=stream) for dialect, name, stream in laid}
    for one, size in sorted(grown.items(), key=lambda pair: -pair[1])[:5]:
        print(*one, f"{size / MIB:.1f} MiB more")
    assert {one: size for one, size in grown.items() if size >= MOST} == {}
    sent = minefield.upstream.sent
    assert all(one.was_cut for one in sent if one.size >= LONG - MIB), "what never ends was cut"
    assert minefield.program.request("GET", "/livez").status == 200


def test_a_list_of_models_without_end_is_not_kept(minefield: Minefield):
    names = b",".join(b'"m%d"' % number for number in range(2_500_000))
    minefield.laid = lambda: [reply(b'{"data":[' + names + b"]}")]
    before = len(minefield.upstream.sent)
    with minefield.program.growth() as told:
        assert minefield.program.request("POST", "/admin/reload", **minefield.key).status == 200
        minefield.upstream.wait_for(before + 1)
        answer = minefield.program.request("GET", "/v1/models", **minefield.key)
    print(f"{told[0] / MIB:.1f} MiB more for {len(names) / MIB:.1f} MiB of names")
    assert len(answer.body) < MIB
    assert told[0] < MOST
    assert minefield.upstream.sent[-1].was_cut
