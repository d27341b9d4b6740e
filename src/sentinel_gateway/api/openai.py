"""The OpenAI face: one plain ASGI app for all its paths, with and without `/v1`; every error in OpenAI's shape.

No path is ever redirected: a redirected POST loses its body.
"""

import asyncio
from typing import Final

from sentinel_gateway.api.asgi import Receive, Scope, Send
from sentinel_gateway.api.browsers import Browsers
from sentinel_gateway.api.chat import ChatCompletions
from sentinel_gateway.api.exchange import Exchange, Intake, own_fault
from sentinel_gateway.api.models import Models
from sentinel_gateway.errors import ClientLeft, RequestError, RouteNotFound
from sentinel_gateway.ports import Clock, Events

CHAT: Final = frozenset({"/v1/chat/completions", "/chat/completions", "/v1/chat/completions/", "/chat/completions/"})
MODELS: Final = frozenset({"/v1/models", "/models", "/v1/models/", "/models/"})
ONE_MODEL: Final = ("/v1/models/", "/models/")
PREFIXES: Final = ("/v1/", "/chat/", "/models/")


def is_openai(path: str) -> bool:
    """Does this path belong to the OpenAI face?"""
    return path in CHAT or path in MODELS or path.startswith(PREFIXES)


class OpenAIFace:
    """`max_body` in bytes, of one request."""

    def __init__(
        self, chat: ChatCompletions, models: Models, *, browsers: Browsers, max_body: int, clock: Clock, events: Events
    ) -> None:
        self._browsers = browsers
        self._chat = chat
        self._models = models
        self._intake = Intake(max_body=max_body)
        self._clock = clock
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, now=self._clock(), intake=self._intake)
        try:
            self._browsers.check(exchange.headers)
            await self._route(exchange)
        except ClientLeft as left:
            _leave(exchange, left)
        except RequestError as error:
            await exchange.sender.error(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not exchange.caller.left or task is None:
                raise
            task.uncancel()
            _leave(exchange, ClientLeft("The caller left."))
        except Exception as exc:  # noqa: BLE001 - broad: a fault of ours must still be answered in the caller's dialect, without a stack
            await exchange.sender.error(own_fault(exc, exchange.journey, self._events))
        finally:
            exchange.end()
            exchange.journey.end(self._clock())
            self._events.finished(exchange.journey)

    async def _route(self, exchange: Exchange) -> None:
        path = exchange.path
        if path in CHAT:
            exchange.journey.route = self._chat.route
            await self._chat.handle(exchange)
        elif path in MODELS:
            await self._models.handle(exchange, None)
        elif path.startswith(ONE_MODEL):
            await self._models.handle(exchange, path[path.index("/models/") + len("/models/") :].removesuffix("/"))
        else:
            raise RouteNotFound(
                f"Unknown path '{path[:200]}'. Served here: POST /v1/chat/completions, GET /v1/models, GET /v1/models/MODEL."
            )


def _leave(exchange: Exchange, left: ClientLeft) -> None:
    exchange.journey.status, exchange.journey.error = left.status, left.code or ""
