"""Everything off the data path: a FastAPI app of probes, metrics and administration; errors as problem documents."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.dependencies import models
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from sentinel_gateway.api.asgi import App, Receive, Scope, Send
from sentinel_gateway.api.browsers import Browsers
from sentinel_gateway.api.compression import COMPRESS_FROM, COMPRESS_LEVEL, accepts
from sentinel_gateway.api.entrance import Begin
from sentinel_gateway.api.exchange import (
    UNMATCHED,
    Exchange,
    Intake,
    error_headers,
    own_fault,
)
from sentinel_gateway.api.guard import Guard, undeclared
from sentinel_gateway.api.problems import PROBLEM, PROBLEMS, problem_body
from sentinel_gateway.api.wire.cache_headers import PRIVATE
from sentinel_gateway.errors import (
    BadRequest,
    ClientLeft,
    InvalidField,
    MethodNotAllowed,
    RequestError,
    RouteNotFound,
)
from sentinel_gateway.ports import Clock, Events

MAX_BODY: Final = 64 * 1024
"""Bytes. Administrative requests are small."""
MAX_DRAFT_BODY: Final = 640 * 1024
"""But drafts of a configuration: each of their characters takes up to 12 bytes, as a form sends it or as JSON may."""
MOST_FAULTS: Final = 20
"""That are told of: who has made more begins with these."""
TAKES_DRAFTS: Final = frozenset({"/admin/config/check", "/dashboard/config/check"})


Lost = Callable[[Request, RequestError], Response | None]
"""Answers a request that no route takes, instead of a problem document: None if that is not for it."""


def build_management(routers: Sequence[APIRouter], guard: Guard, lost: Lost | None = None) -> App:
    """The FastAPI app of these routers. No docs pages of its own: their assets would come from a CDN.

    Raises TypeError for a route that does not declare who may use it.
    """
    # As routes of the app itself: a router that is included has each built once more, and is searched twice for each request
    routes = [route for router in routers for route in router.routes]
    if silent := undeclared(routes):
        raise TypeError(f"these routes don't declare who may use them: {', '.join(silent)}")
    app = FastAPI(title="Sentinel", routes=routes, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.guard, app.state.lost = guard, lost
    app.exception_handler(RequestError)(_request_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(Exception)(_pass_on)
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESS_FROM, compresslevel=COMPRESS_LEVEL)
    return app


def forget_endpoints() -> None:
    """FastAPI remembers of thousands of endpoints what kind of function each is, and with it whose they are: not any more."""
    for remembered in vars(models).values():
        if hasattr(remembered, "cache_clear"):
            remembered.cache_clear()


def _problem(request: Request, error: RequestError, errors: list[dict[str, str]] | None = None) -> Response:
    request.state.error = error.kind  # `Observed` tells of it
    headers = {name.decode(): value.decode() for name, value in error_headers(error)}
    return Response(problem_body(error, errors=errors), error.http_status, headers, PROBLEM)


async def _pass_on(_: Request, exc: Exception) -> Response:
    """A fault of ours is for `Observed`, which knows the request's id. Starlette would say so in plain text before that."""
    raise exc


async def _request_error(request: Request, exc: RequestError) -> Response:
    if isinstance(exc, ClientLeft):
        raise exc
    return _problem(request, exc)


async def _invalid(request: Request, exc: RequestValidationError) -> Response:
    errors = [
        {"field": ".".join(str(part) for part in fault["loc"][1:]) or "body", "message": str(fault["msg"])}
        for fault in exc.errors()[:MOST_FAULTS]
    ]
    first = errors[0]
    error = InvalidField(f"Invalid value for '{first['field']}': {first['message']}.", param=first["field"])
    return _problem(request, error, errors)


async def _http_error(request: Request, exc: HTTPException) -> Response:
    error, lost = _unrouted(request, exc), request.app.state.lost
    if lost is not None and (answer := lost(request, error)) is not None:
        return cast("Response", answer)
    try:
        request.app.state.guard.check_stranger(request)
    except RequestError as refused:
        error = refused
    return _problem(request, error)


def _unrouted(request: Request, exc: HTTPException) -> RequestError:
    if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = sorted((exc.headers or {}).get("Allow", "").split(", "))
        return MethodNotAllowed(f"{request.method[:20]} is not allowed on this path.", allowed=tuple(allowed))
    if exc.status_code != HTTPStatus.NOT_FOUND:
        return BadRequest("The request can't be read.")
    return RouteNotFound("Unknown path. GET /health and GET /v1/models are good places to start.")


class Observed:
    """An ASGI app whose requests are counted: it gives them ids, tells `events` how they ended, and answers our own faults."""

    def __init__(self, app: App, *, browsers: Browsers, clock: Clock, events: Events, trace: Begin | None = None) -> None:
        self._app = app
        self._trace = trace
        self._browsers = browsers
        self._clock = clock
        self._intake, self._drafts = Intake(max_body=MAX_BODY), Intake(max_body=MAX_DRAFT_BODY)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        intake = self._drafts if scope["path"] in TAKES_DRAFTS else self._intake
        exchange = Exchange(scope, receive, send, now=self._clock(), intake=intake, form=PROBLEMS)
        journey = exchange.journey
        if self._trace is not None:
            self._trace(journey, exchange.headers)

        async def send_with_ids(message: Any) -> None:
            if message["type"] == "http.response.start":
                journey.status = message["status"]
                said = {name for name, _ in message["headers"]}
                own = [header for header in (*PRIVATE, *exchange.sender.ids()) if header[0] not in said]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        # GZipMiddleware does not read all that may stand there well
        if _is_plain(scope["path"]) or not accepts(exchange.headers.get(b"accept-encoding", b""), b"gzip"):
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
        try:
            self._browsers.check(exchange.headers)
            await self._app(scope, _limited(exchange, receive, intake.max_body), send_with_ids)
        except ClientLeft as left:
            journey.status, journey.error = left.status, left.kind
        except RequestError as error:
            await _problem(Request(scope), error)(scope, receive, send_with_ids)
        except Exception as exc:  # noqa: BLE001 - broad: a fault of ours must still be answered, without a stack
            fault = own_fault(exc, journey, self._events)
            journey.error = fault.kind
            if not journey.status:
                await _problem(Request(scope), fault)(scope, receive, send_with_ids)
        finally:
            state = scope.get("state", {})
            journey.route = getattr(scope.get("route"), "path", UNMATCHED)
            journey.caller = state.get("caller", journey.caller)
            journey.error = journey.error or state.get("error", "")
            journey.end(self._clock())
            self._events.finished(journey)


def _is_plain(path: str) -> bool:
    """Is it a page of the dashboard's? Their forms hold tokens, and how well a page compresses tells what it repeats."""
    return path.startswith("/dashboard") and not path.startswith("/dashboard/static/")


def _limited(exchange: Exchange, receive: Receive, most: int) -> Receive:
    """`receive`, refusing more than `most` bytes, and a body that does not come to its end."""
    seen, whole = 0, False

    async def limited() -> Any:
        nonlocal seen, whole
        message = await receive()
        if message["type"] == "http.disconnect" and not whole:
            raise exchange.caller.broken_off(message)
        seen += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if seen > most:
            raise exchange.caller.too_large()
        return message

    return limited
