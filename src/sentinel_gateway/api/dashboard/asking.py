"""Chats that a page asks for whoever looks at it, on the path of every chat: their models, limits, budgets, cache and ledger.

A session holds no key that could be sent along, so an entrance of its own lets in whom the door has let in. From there on nothing
is different: what this adds to an answer are two headers that say what the ledger will.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fastapi import Request, Response

from sentinel_gateway.api.asgi import Header, Receive, Scope, Send
from sentinel_gateway.api.chat import ChatCompletions
from sentinel_gateway.api.dashboard.pages import HEADERS
from sentinel_gateway.api.entrance import Admits, Entrance
from sentinel_gateway.api.exchange import Exchange, Intake
from sentinel_gateway.api.face import Face
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.openai import ERRORS
from sentinel_gateway.api.wire.cache_headers import ASKING
from sentinel_gateway.core.access import Caller
from sentinel_gateway.errors import InvalidKey
from sentinel_gateway.ports import Clock

if TYPE_CHECKING:
    from sentinel_gateway.pipeline.journey import Journey

PASSED_ON: Final = (ASKING | {b"x-request-id", b"user-agent"}) - {b"cache-control"}
"""What is heard of the page's headers. Browsers send a Cache-Control of their own accord, which is not the asker's wish."""
OWN: Final = ("x-content-type-options", "cross-origin-resource-policy")
ENDED: Final = "Your key opens nothing any more: sign in again."


class Known:
    """Admits somebody whom the door has let in, as long as they may come in."""

    def __init__(self, guard: Guard, caller: Caller, clock: Clock) -> None:
        self._guard = guard
        self._caller = caller
        self._clock = clock

    def admit(self, _headers: Mapping[bytes, bytes], _address: str) -> Caller:
        """Raises `InvalidKey` once the key has ended, and `KeysUnavailable` where that can't be told."""
        found = self._guard.current(self._caller, self._clock())
        if found is None:
            raise InvalidKey(ENDED)
        return found


class Asking:
    """`face` makes the face of a request, `entrance` its entrance."""

    def __init__(
        self,
        chat: ChatCompletions,
        face: Callable[..., Face],
        entrance: Callable[[Admits], Entrance],
        *,
        guard: Guard,
        intake: Intake,
        clock: Clock,
    ) -> None:
        self._chat = chat
        self._face = face
        self._entrance = entrance
        self._guard = guard
        self._intake = intake
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Asking {self._chat!r}>"

    async def answer(self, request: Request) -> Response:
        """The answer to a chat completion request, as that endpoint gives it."""
        entrance = self._entrance(Known(self._guard, request.state.caller, self._clock))
        face = self._face(self._route, ERRORS, entrance=entrance)
        return Passed(face, await request.body(), intake=self._intake, clock=self._clock)

    def _route(self, exchange: Exchange) -> Awaitable[None]:
        exchange.journey.route = self._chat.route
        return self._chat.handle(exchange)


class Passed(Response):
    """An answer that a face gives by itself, when its time comes."""

    def __init__(self, face: Face, body: bytes, *, intake: Intake, clock: Clock) -> None:
        super().__init__()
        self._face = face
        self._asked = body
        self._intake = intake
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Messages only: what our server can do besides is for requests that came by themselves."""
        asked: bytes | None = self._asked

        async def hear() -> Any:
            nonlocal asked
            if asked is None:
                return await receive()
            body, asked = asked, None
            return {"type": "http.request", "body": body}

        async def say(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], *_told(exchange.journey)]}
            await send(message)

        headers = [header for header in scope["headers"] if header[0] in PASSED_ON]
        inner = {"method": "POST", "path": ChatCompletions.route, "headers": headers, "client": scope.get("client")}
        exchange = Exchange(inner, hear, say, now=self._clock(), intake=self._intake, form=ERRORS)
        await self._face.serve(exchange)


def _told(journey: "Journey") -> list[Header]:
    """What the ledger says of a request a second later, and the page at once."""
    return [
        (b"x-sentinel-attempts", b"%d" % journey.attempts),
        (b"x-sentinel-target", quote(journey.target, safe="/:.@-").encode("ascii")),
        *((name.encode(), HEADERS[name].encode()) for name in OWN),
    ]
