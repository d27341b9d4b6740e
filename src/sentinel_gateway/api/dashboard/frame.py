"""The dashboard put together: its screens, the door before them, their parts and actions, and the streams that move them."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from sentinel_gateway.api.dashboard.door import Door, Visit
from sentinel_gateway.api.dashboard.live import Frame, Frames, Streams
from sentinel_gateway.api.dashboard.pages import (
    HEADERS,
    HOME,
    PAGE,
    Action,
    Answer,
    Download,
    Moving,
    Pages,
    Part,
    Passage,
    Screen,
    told_by,
    wants_html,
)
from sentinel_gateway.api.dashboard.sessions import Sessions
from sentinel_gateway.api.dashboard.signing import Signing
from sentinel_gateway.api.dashboard.static import static_routes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.operations import READ, Identity
from sentinel_gateway.errors import RequestError, RouteNotFound
from sentinel_gateway.ports import AuditLog, Clock

EVENTS: Final = "/dashboard/events"
FRAME: Final = "/dashboard/frame"
EVENT_STREAM: Final = "text/event-stream"
NO_PAGE: Final = "The dashboard has no such page."

Named = Annotated[str, Query(alias="page", max_length=40, description="The name of a page that moves.")]
Endpoint = Callable[[Request], Awaitable[Response]]


class Ground(msgspec.Struct, frozen=True):
    """What the dashboard stands on. `stopping`: the gateway is about to end."""

    guard: Guard
    sessions: Sessions
    log: AuditLog
    identity: Identity
    clock: Clock
    stopping: Callable[[], bool]


class Dashboard:
    """`screens` in the order of the navigation; the first is the one at `/dashboard`."""

    def __init__(self, screens: Sequence[Screen], ground: Ground) -> None:
        guard, sessions, clock = ground.guard, ground.sessions, ground.clock
        self._screens = screens
        self._moving = {screen.page.name: screen for screen in screens if isinstance(screen, Moving)}
        self._door = Door(guard, sessions, clock)
        self._pages = Pages([screen.page for screen in screens], ground.identity, self._door)
        self._signing = Signing(guard, self._door, sessions, self._pages, ground.log, clock=clock)
        self._frames = Frames(clock)
        self._streams = Streams(self._door, clock, ground.stopping)

    def __repr__(self) -> str:
        return f"<Dashboard {self._pages!r} {self._streams!r}>"

    def routes(self) -> list[APIRouter]:
        """The routers of all of it."""
        for_people = told_by(self._signing.refuse)
        router = APIRouter(tags=["dashboard"], route_class=for_people)
        for screen in self._screens:
            self._add(router, screen)
        for path, endpoint in ((EVENTS, self.events), (FRAME, self.frame)):
            readers = [Depends(self._door.looks("read"))]
            router.add_api_route(
                path, endpoint, methods=READ, operation_id=f"dashboard_{endpoint.__name__}", dependencies=readers
            )
        return [router, self._signing.routes(), static_routes(for_people)]

    def lost(self, request: Request, error: RequestError) -> Response | None:
        """Of what is no route: what a browser is told below `/dashboard`, and None for all else.

        Whoever must sign in is shown the form, as on any page, and not told which there are.
        """
        path = request.scope["path"]
        if not path.startswith(f"{HOME}/") or not wants_html(request):
            return None
        if path == f"{HOME}/" and request.method in READ:
            return RedirectResponse(HOME, 307, HEADERS)
        try:
            self._door.visit(request)
        except RequestError as refused:
            return self._signing.refuse(request, refused)
        return self._signing.refuse(request, RouteNotFound(NO_PAGE) if isinstance(error, RouteNotFound) else error)

    async def events(self, request: Request, name: Named) -> Response:
        """What moves on a page, as server-sent events: each is a frame."""
        visit: Visit = request.state.visit
        make = self._maker(visit, name)
        return StreamingResponse(self._streams.stream(visit, make), 200, HEADERS | {"x-accel-buffering": "no"}, EVENT_STREAM)

    async def frame(self, request: Request, name: Named) -> Response:
        """The same for whoever polls: the frame of now."""
        frame = await self._maker(request.state.visit, name)()
        return Response(frame.body, 200, HEADERS, "application/json")

    def _maker(self, visit: Visit, name: str) -> Callable[[], Awaitable[Frame]]:
        screen = self._moving.get(name)
        if screen is None or not visit.may(screen.page.access):
            raise RouteNotFound("Nothing moves on a page of this name.")
        return partial(self._frame, screen, visit)

    async def _frame(self, screen: Moving, visit: Visit) -> Frame:
        return await self._frames.of((screen.page.name, visit.caller.tenant), partial(screen.frame, visit.caller))

    def _add(self, router: APIRouter, screen: Screen) -> None:
        page = screen.page
        looks = [Depends(self._door.looks(page.access))]
        shown = [(page.path, self._page(screen)), *((part.path, self._part(part)) for part in screen.parts())]
        for path, endpoint in shown:
            router.add_api_route(path, endpoint, methods=READ, operation_id=_name(path), dependencies=looks, response_class=PAGE)
        for download in screen.downloads():
            name = _name(download.path.replace(".", "_"))
            router.add_api_route(
                download.path, self._download(download), methods=READ, operation_id=name, dependencies=looks, response_class=PAGE
            )
        for action in screen.actions():
            changes = [Depends(self._door.changes(action.access))]
            router.add_api_route(
                action.path,
                self._action(action, page.path),
                methods=["POST"],
                operation_id=_name(action.path),
                dependencies=changes,
                response_class=PAGE,
            )

        for answer in screen.answers():
            router.add_api_route(
                answer.path,
                self._answer(screen, answer),
                methods=["POST"],
                operation_id=_name(answer.path),
                dependencies=[Depends(self._door.changes(answer.access))],
                response_class=PAGE,
            )
        for passage in screen.passages():
            router.add_api_route(
                passage.path,
                _passage(passage),
                methods=["POST"],
                operation_id=_name(passage.path),
                dependencies=[Depends(self._door.asks(passage.access))],
                openapi_extra={"requestBody": {"content": {"application/json": {"schema": passage.takes}}}},
            )

    def _page(self, screen: Screen) -> Endpoint:
        async def show(request: Request) -> Response:
            context: dict[str, Any] = dict(await screen.show(request))
            if isinstance(screen, Moving):
                context["frame"] = (await self._frame(screen, request.state.visit)).value
            return self._pages.page(request, screen.page, context)

        show.__doc__ = f"The page {screen.page.title}. What it shows is also told by {', '.join(screen.page.reads)}."
        return show

    def _part(self, part: Part) -> Endpoint:
        async def show(request: Request) -> Response:
            return self._pages.part(request, part.template, await part.show(request))

        show.__doc__ = "A part of a page, which is loaded by itself."
        return show

    def _download(self, download: Download) -> Endpoint:
        async def take(request: Request) -> Response:
            name = download.path.rpartition("/")[2]
            headers = HEADERS | {"content-disposition": f'attachment; filename="{name}"'}
            return Response(await download.make(request), 200, headers, download.media_type)

        take.__doc__ = "What a page shows, as a file."
        return take

    def _answer(self, screen: Screen, answer: Answer) -> Endpoint:
        async def show(request: Request) -> Response:
            return self._pages.page(request, screen.page, await answer.show(request, request.state.form))

        show.__doc__ = "What a form of a page asks; nothing is changed."
        return show

    def _action(self, action: Action, page: str) -> Endpoint:
        async def act(request: Request) -> Response:
            said = await action.act(request, request.state.form)
            visit: Visit = request.state.visit
            if visit.session is not None:
                visit.session.said = said
            return RedirectResponse(action.back or page, 303, HEADERS)

        act.__doc__ = "What a form of a page does."
        return act


def _passage(passage: Passage) -> Endpoint:
    async def ask(request: Request) -> Response:
        return await passage.app(request)

    ask.__doc__ = "What the script of a page asks for whoever looks, with their session's token in x-sentinel-token."
    return ask


def _name(path: str) -> str:
    return f"dashboard_page_{path.removeprefix(HOME).strip('/').replace('/', '_').replace('-', '_') or 'home'}"
