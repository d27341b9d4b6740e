"""The least that this machine asks of a Python gateway on the same server and client: uvicorn alone, and uvicorn with aiohttp.

It looks nothing up and decides nothing. Its figures, taken in the same rounds, tell a slow machine from a slow gateway.
`python -m bench.floor BASE_URL`, with PORT in the environment.
"""

import json
import os
import sys
from typing import Any, Final

import aiohttp
import uvicorn

ANSWER: Final = json.dumps({"object": "chat.completion", "content": "word " * 200, "usage": {"total_tokens": 250}}).encode()
JSON: Final = ((b"content-type", b"application/json"), (b"x-cache", b"floor"), (b"cache-control", b"private, no-store"))
EVENTS: Final = ((b"content-type", b"text/event-stream"), (b"x-cache", b"floor"), (b"cache-control", b"private, no-store"))


class Floor:
    """An ASGI app: `/answer/...` answers by itself, every other POST is passed on as it came."""

    def __init__(self, base_url: str) -> None:
        self._url = f"{base_url}/chat/completions"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "GET":
            await _whole(send, b"{}")
            return
        body = await _read(receive)
        if scope["path"].startswith("/answer/"):
            await _whole(send, ANSWER)
        else:
            await self._pass_on(body, send)

    async def _pass_on(self, body: bytes, send: Any) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        headers = {"content-type": "application/json", "authorization": "Bearer sk-bench"}
        async with self._session.post(self._url, data=body, headers=headers) as response:
            if response.content_type != "text/event-stream":
                await _whole(send, await response.read())
                return
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            async for piece in response.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _read(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def _whole(send: Any, body: bytes) -> None:
    headers = (*JSON, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until told to stop."""
    app, port = Floor(sys.argv[1]), int(os.environ["PORT"])
    config = uvicorn.Config(app, port=port, log_level="error", access_log=False, proxy_headers=False, lifespan="off")
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
