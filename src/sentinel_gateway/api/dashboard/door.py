"""Who comes in to the dashboard: by the cookie of a session, by a key in a header, or by nothing where no key is needed.

Whoever changes something needs more than a cookie, which browsers send by themselves: the token that stands in the forms of its
session. A key in a header is sent by nobody's page but on purpose.
"""

import hmac
from contextlib import suppress
from typing import Final, Literal

import msgspec
from fastapi import Request

from sentinel_gateway.api.dashboard.forms import Form, read_form
from sentinel_gateway.api.dashboard.sessions import Session, Sessions
from sentinel_gateway.api.guard import OPERATOR, Check, Guard, asked, declared, require_operator
from sentinel_gateway.core.access import ANYBODY, Caller, KeyScope, require_scope
from sentinel_gateway.errors import InsufficientScope, PageRefused, RequestError
from sentinel_gateway.ports import Clock

Access = KeyScope | Literal["admin-key"]
"""Who may see a page: whoever has a key of this scope, or the operator alone."""
COOKIE: Final = "sentinel_session"
HIDDEN: Final = "token"
HEADER: Final = "x-sentinel-token"
"""The same in a header."""
SITE: Final = "sec-fetch-site"
STALE: Final = "This form is not of your session, or that has ended meanwhile: load the page anew, and send it again."
FOREIGN: Final = "This form was sent by another site's page: open the dashboard itself, and send it from there."
SIGN_IN: Final = "Looking needs no key here, but changing something does: sign in with the admin key."


class Visit(msgspec.Struct, frozen=True):
    """Who looks now. `session` is None for those who came without one."""

    caller: Caller
    session: Session | None = None
    cookie: str = ""

    @property
    def token(self) -> str:
        """What the forms of this visit carry."""
        return "" if self.session is None else self.session.token

    def may(self, access: Access) -> bool:
        """Is this for who looks?"""
        return self.caller.tenant is None if access == OPERATOR else access in self.caller.scopes


class Door:
    """Lets visitors in, and tells in `request.state` who it is: `visit`, and `caller` as the API's routes have it."""

    def __init__(self, guard: Guard, sessions: Sessions, clock: Clock) -> None:
        self._guard = guard
        self._sessions = sessions
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Door {self._guard!r} {self._sessions!r}>"

    def looks(self, access: Access) -> Check:
        """A dependency: somebody who may look at this."""

        async def check(request: Request) -> None:
            self._enter(request, access)

        return declared(check, access)

    def changes(self, access: Access) -> Check:
        """A dependency: somebody who may change this, by a form of the dashboard's own, told in `request.state.form`."""

        async def check(request: Request) -> None:
            visit = self._enter(request, access)
            if visit.caller is ANYBODY:
                raise InsufficientScope(SIGN_IN)
            form = await read_form(request)
            if visit.session is not None:
                check_form(request, form, visit.token)
            request.state.form = form

        return declared(check, access)

    def asks(self, access: Access) -> Check:
        """A dependency: a script of the dashboard's own that asks for somebody; it sends the session's token as a header."""

        async def check(request: Request) -> None:
            visit = self._enter(request, access)
            if request.headers.get(SITE, "same-origin") != "same-origin":
                raise PageRefused(FOREIGN)
            if visit.session is not None:
                check_token(request.headers.get(HEADER, ""), visit.token)

        return declared(check, access)

    def still(self, visit: Visit) -> bool:
        """Would who came in come in now? Raises `KeysUnavailable` where a session's key can't be told to be good."""
        now = self._clock()
        if visit.session is not None:
            same = self._sessions.find(visit.cookie, now) is visit.session
            return same and self._guard.current(visit.session.caller, now) is not None
        return visit.caller.tenant is None or self._guard.still_admits(visit.caller, now)

    def visit(self, request: Request) -> Visit:
        """Who it is; raises what `Guard.admit` does. While keys can't be looked up a session opens nothing, and goes on after."""
        now = self._clock()
        if cookie := request.cookies.get(COOKIE, ""):
            session = self._sessions.find(cookie, now)
            caller = None if session is None else self._guard.current(session.caller, now)
            if session is not None and caller is not None:
                session.caller = caller
                return Visit(caller, session, cookie)
            self._sessions.end(cookie)
        return Visit(self._keyed(request))

    def _keyed(self, request: Request) -> Caller:
        """Who it is by a key in a header. Where none is needed, one that is good opens what it opens elsewhere: the admin key."""
        caller = self._guard.admit(*asked(request))
        if caller is ANYBODY:
            with suppress(RequestError):  # whatever else stands there, they may look
                return self._guard.who(request)
        return caller

    def _enter(self, request: Request, access: Access) -> Visit:
        visit = self.visit(request)
        request.state.visit, request.state.caller = visit, visit.caller
        if access == OPERATOR:
            require_operator(visit.caller)
        else:
            require_scope(visit.caller, access)
        return visit


def check_form(request: Request, form: Form, token: str) -> None:
    """Was it sent by a page of this gateway's that was given this token? Raises `PageRefused`."""
    if request.headers.get(SITE, "same-origin") != "same-origin":
        raise PageRefused(FOREIGN)
    check_token(form.get(HIDDEN, ""), token)


def check_token(sent: str, token: str) -> None:
    """Raises `PageRefused`."""
    if not token or not hmac.compare_digest(sent.encode(), token.encode()):
        raise PageRefused(STALE)
