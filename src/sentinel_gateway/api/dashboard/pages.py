"""Pages as HTML: templates, what all of them show, the headers that keep browsers from running anything else, and errors.

Templates escape all that they are given; no text of anybody's is ever marked as safe.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.door import Access, Door, Visit
from sentinel_gateway.api.dashboard.forms import Form
from sentinel_gateway.api.dashboard.static import address
from sentinel_gateway.api.exchange import error_headers
from sentinel_gateway.api.operations import Identity
from sentinel_gateway.core.access import ANYBODY, Caller
from sentinel_gateway.errors import InvalidKey, RequestError

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = Path(__file__).parent / "templates"
HOME: Final = "/dashboard"
SIGN_IN: Final = "/dashboard/sign-in"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Of every answer but files. Referrers go to the gateway only; without any, browsers would hide where a form is from."""
HTMX: Final = "hx-request"
"""The header by which htmx says that it wants a part of a page."""

PAGE: Final = HTMLResponse

Context = Mapping[str, Any]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page: `name` is its template's and its picture's, `reads` are the paths of the API that tell the same."""

    name: str
    title: str
    path: str
    access: Access
    reads: tuple[str, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a page that is loaded by itself: at `path`, from a template, with what `show` tells."""

    path: str
    template: str
    show: Callable[[Request], Awaitable[Context]]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What a form of a page does: `act` does it, and says so in a sentence. Then the page `back`, or its own, is shown."""

    path: str
    access: Access
    act: Callable[[Request, Form], Awaitable[str]]
    back: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a form asks that changes nothing, and that no address should hold: the page is shown with what `show` tells."""

    path: str
    access: Access
    show: Callable[[Request, Form], Awaitable[Context]]


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """What a page's script asks, as whoever looks: it is answered as `app` answers. `takes` is its body, for `/openapi.json`."""

    path: str
    access: Access
    app: Callable[[Request], Awaitable[Response]]
    takes: Mapping[str, Any]


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is made of what a page shows. Its name is the end of its path."""

    path: str
    media_type: str
    make: Callable[[Request], Awaitable[bytes]]


class Screen(ABC):
    """A page: what it shows, its parts, what can be done there, and the files to take away."""

    page: Page

    @abstractmethod
    async def show(self, request: Request) -> Context:
        """What its template is given."""

    def parts(self) -> Sequence[Part]:
        return ()

    def actions(self) -> Sequence[Action]:
        return ()

    def answers(self) -> Sequence[Answer]:
        return ()

    def passages(self) -> Sequence[Passage]:
        return ()

    def downloads(self) -> Sequence[Download]:
        return ()


class Moving(Screen):
    """One that moves: frames go to all who look (`live.py`)."""

    @abstractmethod
    async def frame(self, caller: Caller) -> dict[str, Any]:
        """What moves on it, for this caller."""


class Pages:
    """Makes HTML of templates. `pages` are those that there are, in the order of the navigation."""

    def __init__(self, pages: Sequence[Page], identity: Identity, door: Door) -> None:
        self._pages = pages
        self._identity = identity
        self._door = door

    def __repr__(self) -> str:
        return f"<Pages {', '.join(page.name for page in self._pages)}>"

    def page(self, request: Request, page: Page, context: Context) -> Response:
        """A whole page."""
        visit: Visit = request.state.visit
        said = ""
        if visit.session is not None:
            said, visit.session.said = visit.session.said, ""
        return self._html(f"{page.name}.html", {**self._common(visit), "page": page, "said": said, **context})

    def part(self, request: Request, template: str, context: Context) -> Response:
        """A piece of one."""
        return self._html(template, {"visit": request.state.visit, **context})

    def sign_in(self, *, token: str, to: str, why: str = "", status: int = 200) -> Response:
        """The form for signing in; `to` is where it leads."""
        return self._html("sign_in.html", {"token": token, "to": to, "why": why, "identity": self._identity}, status)

    def error(self, request: Request, error: RequestError) -> Response:
        """An error for people: a page, or a piece of one."""
        status = error.http_status
        headers = {name.decode(): value.decode() for name, value in error_headers(error)}
        title = HTTPStatus(status).phrase
        if HTMX in request.headers:
            response = self._html("problem.html", {"title": title, "why": error.message}, status)
            if isinstance(error, InvalidKey):
                headers["hx-redirect"] = SIGN_IN
        else:
            common = self._common(self._visitor(request))
            response = self._html("error.html", common | {"title": title, "why": error.message, "status": status}, status)
        response.headers.update(headers)
        return response

    def _visitor(self, request: Request) -> Visit | None:
        try:
            return self._door.visit(request)
        except RequestError:
            return None

    def _common(self, visit: Visit | None) -> dict[str, Any]:
        """What every page shows."""
        pages = [page for page in self._pages if visit is not None and visit.may(page.access)]
        return {
            "visit": visit,
            "pages": pages,
            "identity": self._identity,
            "anybody": visit is not None and visit.caller is ANYBODY,
            "page": None,
            "said": "",
        }

    def _html(self, template: str, context: Context, status: int = 200) -> Response:
        return HTMLResponse(environment().get_template(template).render(context), status, HEADERS)


@cache
def environment() -> "Environment":
    """Jinja2, and the words for figures; loaded when the first page is asked for."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - who never looks need not load it

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FileSystemLoader(TEMPLATES),
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = address
    made.globals["nothing"] = words.NOTHING
    for filter_ in (words.count, words.rate, words.share, words.usd, words.nano_usd, words.millis, words.span, words.moment):
        made.filters[filter_.__name__] = filter_
    return made


def wants_html(request: Request) -> bool:
    """Is it a browser that asks?"""
    return "text/html" in request.headers.get("accept", "") or HTMX in request.headers


def told_by(tell: Callable[[Request, RequestError], Response]) -> type[APIRoute]:
    """A kind of route whose errors are told to browsers as HTML; all others are answered as everywhere."""

    class ForPeople(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except RequestError as error:
                    if not wants_html(request):
                        raise
                    return tell(request, error)

            return handled

    return ForPeople
