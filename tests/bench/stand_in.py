"""A gateway as small as can be, for testing the bench: it caches by what the request says and keeps nothing on disk."""

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn
import uvloop

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class StandIn:
    def __init__(self, upstream: aiohttp.ClientSession, url: str) -> None:
        self._upstream = upstream
        self._url = url
        self._stored: dict[str, tuple[bytes, bytes]] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/ready":
            await self._answer(send, b"text/plain", b"ready")
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        key = json.dumps(json.loads(body), sort_keys=True)
        bypass = (b"x-bypass-cache", b"true") in scope["headers"]
        if key in self._stored and not bypass:
            await self._answer(send, *self._stored[key])
            return
        kind, whole = await self._relay(body, send)
        if not bypass:
            self._stored[key] = kind, whole

    async def _relay(self, body: bytes, send: Send) -> tuple[bytes, bytes]:
        pieces = []
        async with self._upstream.post(self._url, data=body, headers={"content-type": "application/json"}) as answer:
            kind = answer.headers["content-type"].encode()
            await send({"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]})
            async for piece in answer.content.iter_any():
                pieces.append(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return kind, b"".join(pieces)

    async def _answer(self, send: Send, kind: bytes, body: bytes) -> None:
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def main() -> None:
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        app = StandIn(session, url)
        config = uvicorn.Config(app, port=int(os.environ["PORT"]), log_level="warning", access_log=False, lifespan="off")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main())
