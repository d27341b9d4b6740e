"""The files that pages are made of: read once, named with a digest of what is in them, and then kept by browsers for a year.

They are public: the page for signing in needs them, and there is nothing in them that is not in the package.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi import Path as PathParam
from fastapi.routing import APIRoute

from sentinel_gateway.api.guard import anybody
from sentinel_gateway.errors import RouteNotFound

FOLDER: Final = Path(__file__).parent / "static"
PREFIX: Final = "/dashboard/static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""What is not among these is not served: licences and the note on where files come from."""
LONGEST_NAME: Final = 64
YEAR: Final = "public, max-age=31536000, immutable"


class File(msgspec.Struct, frozen=True):
    """One of them."""

    content: bytes
    media_type: str
    digest: str


@cache
def files() -> dict[str, File]:
    """All of them by name."""
    return {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}


def address(name: str) -> str:
    """Where a page finds a file, as it is now."""
    return f"{PREFIX}/{name}?v={files()[name].digest}"


def static_routes(kind: type[APIRoute]) -> APIRouter:
    """The router of them, of routes of this kind."""
    router = APIRouter(tags=["dashboard"], route_class=kind, dependencies=[Depends(anybody())])
    router.add_api_route(f"{PREFIX}/{{name}}", file, methods=["GET", "HEAD"], operation_id="dashboard_file")
    return router


async def file(request: Request, name: Annotated[str, PathParam(max_length=LONGEST_NAME)]) -> Response:
    """A stylesheet, a script or a picture of the dashboard's."""
    found = files().get(name)
    if found is None:
        raise RouteNotFound("The dashboard has no such file.")
    tag = f'"{found.digest}"'
    asked = request.query_params.get("v")
    headers = {
        "cache-control": YEAR if asked == found.digest else "no-cache",
        "etag": tag,
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, 304, headers)
    return Response(found.content, 200, headers, found.media_type)


def _read(path: Path) -> File:
    content = path.read_bytes()
    return File(content, TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:16])
