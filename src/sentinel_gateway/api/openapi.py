"""`GET /openapi.json`, and `/docs` for people.

Every route is in them: those of FastAPI as it describes them, the plain ones by the schemas of `wire/schemas.py`. What a route
needs of its caller is the role that its security names.

A plain endpoint without a schema is not built, as no route is that doesn't say who may use it.
"""

import asyncio
import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Depends, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from sentinel_gateway import __version__
from sentinel_gateway.api.guard import PUBLIC, Guard, access
from sentinel_gateway.api.models import Models
from sentinel_gateway.api.operations import READ
from sentinel_gateway.api.reference import POLICY, page
from sentinel_gateway.api.wire.schemas import ABOUT, ERRORS, REQUESTS, Schema

JSON: Final = "application/json"
OWN_ERRORS: Final = ("/v1/query", "/v1/query/batch", "/v1/predict", "/v1/feedback", "/v1/metrics")
"""Of `/v1`, those that answer errors as problem documents."""
SCHEMES: Final[Schema] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


PAGE_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Documentation:
    """The endpoints. `routers` are FastAPI's; `posts` are the routes of the plain endpoints, but for those of the models."""

    def __init__(self, routers: Iterable[APIRouter], posts: Iterable[str], *, guard: Guard) -> None:
        self._routers = list(routers)
        self._posts = list(posts)
        self._guard = guard
        self._built: tuple[bytes, str] | None = None
        self._building = asyncio.Lock()
        if lacking := set(self._posts) - REQUESTS.keys():
            raise TypeError(f"these endpoints have no schema: {', '.join(sorted(lacking))}")

    def __repr__(self) -> str:
        return f"<Documentation of {len(self._posts)} plain endpoints>"

    def routes(self) -> APIRouter:
        """The router of both; they are documented as well."""
        router = APIRouter(tags=["operations"], dependencies=[Depends(self._guard.needs("read"))])
        router.add_api_route("/openapi.json", self.show, methods=READ)
        router.add_api_route("/docs", self.read, methods=READ, response_class=HTMLResponse)
        self._routers.append(router)
        return router

    async def show(self) -> Response:
        """The OpenAPI document of this gateway."""
        document, _ = await self._both()
        return Response(document, media_type=JSON, headers={"cache-control": "no-store"})

    async def read(self) -> Response:
        """The same as a page for people: it runs no script and fetches nothing."""
        _, text = await self._both()
        return HTMLResponse(text, headers=PAGE_HEADERS)

    async def _both(self) -> tuple[bytes, str]:
        """The document and its page, once, beside the event loop: it would be held for a fifth of a second."""
        async with self._building:
            if self._built is None:
                self._built = await asyncio.to_thread(self._build)
            return self._built

    def _build(self) -> tuple[bytes, str]:
        document = self.document()
        return msgspec.json.encode(document), page(document)

    def document(self) -> dict[str, Any]:
        """As OpenAPI 3.1."""
        routes = [route for router in self._routers for route in router.routes if isinstance(route, APIRoute)]
        shown = get_openapi(
            title="Sentinel", version=__version__, openapi_version="3.1.0", routes=[_without_head(route) for route in routes]
        )
        schemas: dict[str, Any] = shown.setdefault("components", {}).setdefault("schemas", {})
        for route in routes:
            for method in _methods(route) - {"HEAD"}:
                _complete(shown["paths"][route.path_format][method.lower()], schemas, access(route))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for item in (shown["paths"][route.path_format] for route in routes if "HEAD" in _methods(route)):
            item["head"] = item["get"] | {"operationId": f"{item['get']['operationId']}_head"}
        shown["paths"] |= {route: {"post": _post(route)} for route in self._posts}
        shown["paths"] |= {Models.route: _read(Models.route), Models.route_of_one: _read(Models.route_of_one, "model")}
        shown["components"] = {"schemas": {**schemas, **ERRORS}, "securitySchemes": SCHEMES}
        return shown


def _without_head(route: APIRoute) -> APIRoute:
    """FastAPI would give its GET and its HEAD one and the same id."""
    alone = copy.copy(route)
    alone.methods = _methods(route) - {"HEAD"}
    return alone


def _methods(route: APIRoute) -> set[str]:
    return route.methods or set()


def _security(role: str | None) -> list[Mapping[str, list[str]]]:
    """A key of this scope, sent in either way."""
    return [] if role is None or role == PUBLIC else [{"bearer": [role]}, {"key": [role]}]


def _complete(operation: dict[str, Any], schemas: dict[str, Any], role: str | None) -> None:
    """What FastAPI does not know: errors, who may ask, and the types within a body that is read by hand."""
    operation["responses"].pop("422", None)  # here that is a 400, or a face's own
    operation["responses"]["default"] = _error("Problem", "application/problem+json")
    operation["security"] = _security(role)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"] = dict(content["schema"])
        schemas |= content["schema"].pop("$defs", {})


def _post(route: str) -> dict[str, Any]:
    body = {"required": True, "content": {JSON: {"schema": REQUESTS[route]}}}
    streams = {_stream_of(route): {"schema": {"type": "string"}}} if "stream" in REQUESTS[route]["properties"] else {}
    answer = {"description": "The answer, as its dialect has it.", "content": {JSON: {"schema": {"type": "object"}}, **streams}}
    asked = {"operationId": _id(route), "tags": ["models"], "description": ABOUT[route], "requestBody": body}
    return asked | {"responses": {"200": answer} | _errors(route), "security": _security("inference")}


def _stream_of(route: str) -> str:
    return "application/x-ndjson" if route == "/v1/query/batch" else "text/event-stream"


def _read(route: str, *parameters: str) -> dict[str, Any]:
    about = "What may be sent as `model`."
    answer = {"description": about, "content": {JSON: {"schema": {"type": "object"}}}}
    named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parameters]
    operation: dict[str, Any] = {
        "tags": ["models"],
        "description": about,
        "parameters": named,
        "security": _security("inference"),
    }
    operation["responses"] = {"200": answer} | _errors(route)
    return {"get": {"operationId": _id(route)} | operation, "head": {"operationId": f"{_id(route)}_head"} | operation}


def _errors(route: str) -> dict[str, Any]:
    if route in OWN_ERRORS:
        return {"default": _error("Problem", "application/problem+json")}
    return {"default": _error("AnthropicError" if route.startswith("/v1/messages") else "OpenAIError", JSON)}


def _error(name: str, media_type: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {"description": "What went wrong, and the fix.", "content": content}


def _id(route: str) -> str:
    return route.strip("/").translate(str.maketrans("/{}", "___"))
