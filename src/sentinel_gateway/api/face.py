"""A face: the endpoints of one dialect as a plain ASGI app. It tells how each request ended, and every error in its dialect."""

import asyncio
from collections.abc import Awaitable, Callable

from sentinel_gateway.api.asgi import Receive, Scope, Send
from sentinel_gateway.api.entrance import Entrance
from sentinel_gateway.api.exchange import ErrorForm, Exchange, Intake, own_fault
from sentinel_gateway.errors import ClientLeft, RequestError, let_go
from sentinel_gateway.ports import Clock, Events

Route = Callable[[Exchange], Awaitable[None]]


class Face:
    """`route` finds the endpoint and has it answer; it raises `RequestError`s. All faces share one `intake`."""

    def __init__(
        self, route: Route, form: ErrorForm, *, entrance: Entrance, intake: Intake, clock: Clock, events: Events
    ) -> None:
        self._route = route
        self._form = form
        self._entrance = entrance
        self._intake = intake
        self._clock = clock
        self._events = events

    def __repr__(self) -> str:
        return f"<Face {self._route!r} {self._intake!r}>"

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.serve(Exchange(scope, receive, send, now=self._clock(), intake=self._intake, form=self._form))

    async def serve(self, exchange: Exchange) -> None:
        """Have it answered, and tell how it ended."""
        try:
            exchange.entrance = self._entrance
            self._entrance.enter(exchange.headers, exchange.journey)
            await self._route(exchange)
        except ClientLeft as left:
            _leave(exchange, left)
        except RequestError as error:
            await exchange.sender.error(error)
            let_go(error)
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
            journey = exchange.journey
            journey.end(self._clock())
            if journey.goes_on:
                journey.report = self._events.finished
            else:
                self._events.finished(journey)


def _leave(exchange: Exchange, left: ClientLeft) -> None:
    exchange.journey.status, exchange.journey.error = left.status, left.code or ""
