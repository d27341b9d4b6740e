"""Answers over TLS whose provider hangs up right behind them: their end is there, however late it is read."""

import asyncio
import contextlib
import select
import socket
import ssl

import pytest

from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._http import Endpoint, HttpClient

pytestmark = pytest.mark.anyio

SIZES = {"24 KiB": 24 * 1024, "300 KiB": 300 * 1024, "3 MiB": 3 * 2**20}


def body_of(size: int) -> bytes:
    """No two pieces of it are alike."""
    return b"".join(b"%08d" % number for number in range(size // 8))


class LastAnswers:
    """A provider that closes each connection behind its answer, without waiting for anything. One connection at a time."""

    def __init__(self, certificate, size: int, record: int, *, goodbye: bool, framed: bool) -> None:
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificate)
        length = b"Content-Length: %d\r\n" % size if framed else b""
        self._said = b"HTTP/1.1 200 OK\r\nConnection: close\r\n%b\r\n%b" % (length, body_of(size))
        self._record, self._goodbye = record, goodbye
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(30)
        self.url = f"https://localhost:{self._listening.getsockname()[1]}/v1/chat/completions"
        self.closed = 0

    def serve(self) -> None:
        """One connection; blocks. A loop's own server would not close before its peer has said goodbye, too."""
        with self._listening, self._tls.wrap_socket(self._listening.accept()[0], server_side=True) as connection:
            connection.settimeout(30)
            asked = b""
            while not asked.endswith(b"\r\n\r\n{}"):
                asked += connection.recv(4096)
            for start in range(0, len(self._said), self._record):
                connection.sendall(self._said[start : start + self._record])
            if self._goodbye:
                select.select([], [connection], [], 30)
                connection.setblocking(False)
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError, ConnectionError):  # who has all may have left
                    connection.unwrap()
        self.closed += 1


async def whole(http: HttpClient, endpoint: Endpoint) -> bytes:
    return await (await http.send(endpoint, b"{}")).read_whole()


async def streamed(http: HttpClient, endpoint: Endpoint, pause: float | None = None) -> bytes:
    stream, came = await http.send(endpoint, b"{}"), b""
    while data := await stream.read():
        came += data
        if pause is not None:
            await asyncio.sleep(pause)
    stream.close()
    return came


async def at_every_turn(http: HttpClient, endpoint: Endpoint) -> bytes:
    """What has come is taken a turn of the loop later, so that each pause meets what the loop reads next."""
    return await streamed(http, endpoint, 0)


async def slowly(http: HttpClient, endpoint: Endpoint) -> bytes:
    return await streamed(http, endpoint, 0.01)


async def piped(http: HttpClient, endpoint: Endpoint) -> bytes:
    stream, pieces = await http.send(endpoint, b"{}"), []

    def hear(data: bytes) -> bool:
        pieces.append(data)
        return len(pieces) % 3 != 0

    while data := await stream.read():
        pieces.append(data)
        await stream.pipe(hear)
    stream.close()
    return b"".join(pieces)


@pytest.fixture
def trusted(self_signed, monkeypatch):
    """The certificate, vouched for as operators do it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(self_signed))
    return self_signed


@pytest.mark.parametrize("reader", [whole, streamed, at_every_turn, slowly, piped])
@pytest.mark.parametrize(("goodbye", "framed"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("record", [10_000, 16_384])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_an_answer_keeps_its_end_when_the_provider_hangs_up_behind_it(trusted, size, record, goodbye, framed, reader):
    server = LastAnswers(trusted, size, record, goodbye=goodbye, framed=framed)
    async with HttpClient(via="sentinel-n", version="1") as http, asyncio.timeout(60):
        serving = asyncio.create_task(asyncio.to_thread(server.serve))
        came = await reader(http, Endpoint("groq", server.url, {}, Timeouts()))
        await serving
    assert server.closed == 1
    assert came == body_of(size)
