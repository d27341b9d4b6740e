"""`GET /openapi.json`: every route, those of FastAPI as it describes them, the plain ones by the schemas of `wire/schemas.py`.

A plain endpoint without a schema is not built, as no route is that doesn't say who may use it.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Depends, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from sentinel_gateway import __version__
from sentinel_gateway.api.guard import Guard, is_public
from sentinel_gateway.api.models import Models
from sentinel_gateway.api.wire.schemas import ANTHROPIC_ERROR, OPENAI_ERROR, PROBLEM, REQUESTS, Schema

JSON: Final = "application/json"
READ: Final = ["GET", "HEAD"]
OWN_ERRORS: Final = ("/v1/query", "/v1/feedback", "/v1/metrics")
"""Of `/v1`, those that answer errors as problem documents."""
KEYS: Final[Sequence[Mapping[str, list[str]]]] = ({"bearer": []}, {"key": []})
"""Either will do."""
SCHEMES: Final[Schema] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


class Documentation:
    """The endpoint. `routers` are FastAPI's; `posts` are the routes of the plain endpoints, but for those of the models."""

    def __init__(self, routers: Iterable[APIRouter], posts: Iterable[str], *, guard: Guard) -> None:
        self._routers = list(routers)
        self._posts = list(posts)
        self._guard = guard
        self._document = b""
        if lacking := set(self._posts) - REQUESTS.keys():
            raise TypeError(f"these endpoints have no schema: {', '.join(sorted(lacking))}")

    def __repr__(self) -> str:
        return f"<Documentation of {len(self._posts)} plain endpoints>"

    def routes(self) -> APIRouter:
        """The router of this endpoint; it is documented as well."""
        router = APIRouter(tags=["operations"])
        router.add_api_route("/openapi.json", self.show, methods=READ, dependencies=[Depends(self._guard.needs("read"))])
        self._routers.append(router)
        return router

    async def show(self) -> Response:
        """The OpenAPI document of this gateway."""
        if not self._document:
            self._document = msgspec.json.encode(self.document())
        return Response(self._document, media_type=JSON, headers={"cache-control": "no-store"})

    def document(self) -> dict[str, Any]:
        """As OpenAPI 3.1."""
        routes = [route for router in self._routers for route in router.routes if isinstance(route, APIRoute)]
        shown = get_openapi(
            title="Sentinel", version=__version__, openapi_version="3.1.0", routes=[_without_head(route) for route in routes]
        )
        schemas: dict[str, Any] = shown.setdefault("components", {}).setdefault("schemas", {})
        for route in routes:
            for method in _methods(route) - {"HEAD"}:
                _complete(shown["paths"][route.path_format][method.lower()], schemas, public=is_public(route))
        for item in (shown["paths"][route.path_format] for route in routes if "HEAD" in _methods(route)):
            item["head"] = item["get"] | {"operationId": f"{item['get']['operationId']}_head"}
        shown["paths"] |= {route: {"post": _post(route)} for route in self._posts}
        shown["paths"] |= {Models.route: _read(Models.route), Models.route_of_one: _read(Models.route_of_one, "model")}
        shown["components"]["securitySchemes"] = SCHEMES
        return shown | {"security": KEYS}


def _without_head(route: APIRoute) -> APIRoute:
    """FastAPI would give its GET and its HEAD one and the same id."""
    alone = copy.copy(route)
    alone.methods = _methods(route) - {"HEAD"}
    return alone


def _methods(route: APIRoute) -> set[str]:
    return route.methods or set()


def _complete(operation: dict[str, Any], schemas: dict[str, Any], *, public: bool) -> None:
    """What FastAPI does not know: errors, who may ask, and the types within a body that is read by hand."""
    operation["responses"].pop("422", None)  # here that is a 400, or a face's own
    operation["responses"]["default"] = _error(PROBLEM, "application/problem+json")
    if public:
        operation["security"] = []
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"] = dict(content["schema"])
        schemas |= content["schema"].pop("$defs", {})


def _post(route: str) -> dict[str, Any]:
    body = {"required": True, "content": {JSON: {"schema": REQUESTS[route]}}}
    streams = {"text/event-stream": {"schema": {"type": "string"}}} if "stream" in REQUESTS[route]["properties"] else {}
    answer = {"description": "The answer, as its dialect has it.", "content": {JSON: {"schema": {"type": "object"}}, **streams}}
    return {"operationId": _id(route), "tags": ["models"], "requestBody": body, "responses": {"200": answer} | _errors(route)}


def _read(route: str, *parameters: str) -> dict[str, Any]:
    answer = {"description": "What may be sent as `model`.", "content": {JSON: {"schema": {"type": "object"}}}}
    named = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in parameters]
    operation = {"tags": ["models"], "parameters": named, "responses": {"200": answer} | _errors(route)}
    return {"get": {"operationId": _id(route)} | operation, "head": {"operationId": f"{_id(route)}_head"} | operation}


def _errors(route: str) -> dict[str, Any]:
    if route in OWN_ERRORS:
        return {"default": _error(PROBLEM, "application/problem+json")}
    return {"default": _error(ANTHROPIC_ERROR if route.startswith("/v1/messages") else OPENAI_ERROR, JSON)}


def _error(schema: Schema, media_type: str) -> dict[str, Any]:
    return {"description": "What went wrong, and the fix.", "content": {media_type: {"schema": schema}}}


def _id(route: str) -> str:
    return route.strip("/").translate(str.maketrans("/{}", "___"))
