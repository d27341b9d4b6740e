"""A provider that means harm: a server on loopback, on threads of its own, that answers whatever a test has it answer."""

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

PATIENCE = 60.0
"""Seconds after which a connection that nobody reads or closes is given up."""


class Asked(NamedTuple):
    """One request: its line and headers as they came, and what its body says."""

    target: str
    head: bytes
    body: Any


class Sent(NamedTuple):
    """What became of one answer: its bytes so far, and whether the asker closed before its end."""

    size: int
    was_cut: bool


class HostileUpstream:
    """Each request is answered with the pieces that `answer` makes of it, until they end, or the asker has had enough."""

    def __init__(self, answer: Callable[[Asked], Iterable[bytes]]) -> None:
        self.asked: list[Asked] = []
        self.sent: list[Sent] = []
        self._answer = answer
        upstream = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = PATIENCE

            def handle(self) -> None:
                with suppress(OSError):
                    upstream._serve(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_for(self, answers: int) -> None:
        """Until so many have been sent, to their end or not."""
        end = time.monotonic() + PATIENCE
        while len(self.sent) < answers:
            assert time.monotonic() < end, f"{len(self.sent)} of {answers} answers were sent"
            time.sleep(0.01)

    def _serve(self, reader: Any, writer: Any) -> None:
        line, head = reader.readline(), b""
        while (header := reader.readline()).strip():
            head += header
        sizes = [int(one.partition(b":")[2]) for one in head.splitlines() if one.lower().startswith(b"content-length:")]
        body = reader.read(sizes[0]) if sizes else b""
        asked = Asked(line.split()[1].decode() if line.strip() else "", head, json.loads(body or b"{}"))
        self.asked.append(asked)
        size = 0
        try:
            for piece in self._answer(asked):
                writer.write(piece)
                size += len(piece)
        except OSError:
            self.sent.append(Sent(size, was_cut=True))
        else:
            self.sent.append(Sent(size, was_cut=False))


def reply(body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A whole answer that is well-formed, and the last on its connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def head(*headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """The beginning of an answer that ends with its connection, or never."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *headers, "", ""]).encode("latin-1")


def completion(text: str = "Hello.") -> bytes:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    fields = {"id": "c", "object": "chat.completion", "created": 7, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(fields).encode()
