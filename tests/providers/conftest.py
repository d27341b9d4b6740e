"""Upstreams for the tests of the outward side: the chaos mock for what OpenAI-like servers do, raw sockets for the rest."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.chaos import ChaosUpstream
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers._provider import ProviderConfig
from sentinel_gateway.providers.openai import OpenAIProvider

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ANSWER = (
    b'{"id":"a","object":"chat.completion","choices":[{"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
)


@pytest.fixture
def self_signed() -> Path:
    """A key and a certificate for localhost that nobody vouches for."""
    return Path(__file__).with_name("self_signed.pem")


@pytest.fixture
async def upstream(anyio_backend: object) -> AsyncIterator[ChaosUpstream]:
    async with ChaosUpstream() as chaos:
        yield chaos


@pytest.fixture(scope="module")
async def http(anyio_backend: object) -> AsyncIterator[HttpClient]:
    async with HttpClient(via="sentinel-n1", version="9.9") as client:
        yield client


@pytest.fixture
def provider(http: HttpClient) -> Callable[..., OpenAIProvider]:
    """`provider(base_url, timeouts=...)`: one named groq."""

    def make(base_url: str, **settings: Any) -> OpenAIProvider:
        settings = {"headers": {"Authorization": "Bearer sk-live-0123456789abcdef"}, "key_name": "GROQ_API_KEY", **settings}
        return OpenAIProvider(ProviderConfig("groq", base_url, **settings), http)

    return make


@pytest.fixture
def call() -> Callable[..., UpstreamCall]:
    """`call(temperature=0)`: one request, to the mock's model."""

    def make(**fields: Any) -> UpstreamCall:
        whole = {"model": "asked", "messages": [{"role": "user", "content": "Where does the Danube rise?"}], **fields}
        return UpstreamCall(whole, "mock-model", "sentinel-1")

    return make


class RawServer:
    """A server whose every connection is one call of `handle`. Notes each request head that `read_request` saw."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.base_url = ""

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        """The next request's body, as far as its content-length says."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = next((line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b"0")
        return await reader.readexactly(int(length))


@pytest.fixture
def raw_server() -> Callable[..., Any]:
    """`async with raw_server(handle) as server:`, with `handle(server, reader, writer)`."""

    @asynccontextmanager
    async def serve(handle: Callable[..., Awaitable[None]], **options: Any) -> AsyncIterator[RawServer]:
        server, writers = RawServer(), []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.connections += 1
            writers.append(writer)
            try:
                await handle(server, reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        listening = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
        scheme = "https" if options else "http"
        server.base_url = f"{scheme}://localhost:{listening.sockets[0].getsockname()[1]}/v1"
        try:
            yield server
        finally:
            listening.close()
            for writer in writers:
                writer.close()
            await listening.wait_closed()

    return serve


@pytest.fixture
def answered() -> Callable[..., bytes]:
    """`answered(status=..., headers=..., body=...)`: an HTTP answer in bytes, by default a good completion."""

    def make(status: str = "200 OK", headers: str = "", body: bytes = ANSWER) -> bytes:
        headers = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}"
        return f"HTTP/1.1 {status}\r\n{headers}\r\n".encode() + body

    return make
