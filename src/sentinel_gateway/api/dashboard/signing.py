"""Signing in and out. A key opens a session; wrong ones are slowed down by address and altogether, and all told the same.

A right key is never held back: behind a proxy all have one address, and one who guesses would lock out everybody else.
"""

import secrets
from contextlib import suppress
from re import compile as pattern
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from sentinel_gateway.api.dashboard.door import COOKIE, Door, Visit, check_form
from sentinel_gateway.api.dashboard.forms import read_form
from sentinel_gateway.api.dashboard.pages import HEADERS, HOME, HTMX, PAGE, SIGN_IN, Pages, told_by
from sentinel_gateway.api.dashboard.sessions import Sessions
from sentinel_gateway.api.exchange import error_headers
from sentinel_gateway.api.guard import Guard, anybody, asked
from sentinel_gateway.core.access import Caller
from sentinel_gateway.core.backoff import Backoff
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.errors import (
    InsufficientScope,
    InvalidHeader,
    InvalidKey,
    RequestError,
    StoreDown,
    TooManyBadKeys,
)
from sentinel_gateway.pipeline.authentication import EXPIRED
from sentinel_gateway.ports import AuditLog, Clock

SIGN_OUT: Final = "/dashboard/sign-out"
BEFORE: Final = "sentinel_form"
"""The cookie that holds the token of the form for signing in, as there is no session yet to hold it."""
TOKEN: Final = pattern(r"[\w-]{43}")
WITHIN: Final = pattern(r"/dashboard(/[a-z-]+)*")
WRONG: Final = "This key does not open the dashboard: it is not one of this gateway's, or it has been revoked."
TOO_MANY: Final = "Too many wrong keys were tried: wait a little, then try again."
NOT_FOR_PEOPLE: Final = "This key may not look at anything: sign in with one of the scope 'read', or with the admin key."
ENDED: Final = "Your session has ended: sign in again."
ADDRESSES: Final = 10_000


class Throttle:
    """How often a wrong key is told to be one: 5 at once and one in 10 s from an address, 100 at once and 5 in 1 s from all."""

    def __init__(self) -> None:
        self._each = Backoff(burst=5, pause=10.0, addresses=ADDRESSES)
        self._all = Backoff(burst=100, pause=0.2, addresses=1)

    def __repr__(self) -> str:
        return f"<Throttle {self._each!r}>"

    def failed(self, address: str, now: float) -> None:
        """Count a wrong key; raises `TooManyBadKeys` where there have been too many."""
        if wait := max(self._each.wait(address, now), self._all.wait("", now)):
            raise TooManyBadKeys(TOO_MANY, retry_after=wait)
        self._each.failed(address, now)
        self._all.failed("", now)


class Signing:
    """The form, and what it does."""

    def __init__(self, guard: Guard, door: Door, sessions: Sessions, pages: Pages, log: AuditLog, *, clock: Clock) -> None:
        self._guard = guard
        self._door = door
        self._sessions = sessions
        self._pages = pages
        self._log = log
        self._clock = clock
        self._throttle = Throttle()

    def __repr__(self) -> str:
        return f"<Signing {self._sessions!r}>"

    def routes(self) -> APIRouter:
        """The router of these."""
        router = APIRouter(tags=["dashboard"], route_class=told_by(self.refuse))
        public, signed_in = [Depends(anybody())], [Depends(self._door.changes("read"))]
        for path, endpoint, methods, access in (
            (SIGN_IN, self.form, ["GET", "HEAD"], public),
            (SIGN_IN, self.sign_in, ["POST"], public),
            (SIGN_OUT, self.sign_out, ["POST"], signed_in),
        ):
            name = f"dashboard_{endpoint.__name__}"
            router.add_api_route(path, endpoint, methods=methods, operation_id=name, dependencies=access, response_class=PAGE)
        return router

    def refuse(self, request: Request, error: RequestError) -> Response:
        """Whoever has no key that opens this is given the form to send one; other errors are told as they are."""
        request.state.error = error.kind  # `Observed` tells of it
        signing_in = request.url.path == SIGN_IN
        asks = isinstance(error, InvalidKey) or (signing_in and isinstance(error, TooManyBadKeys | InsufficientScope))
        if not asks or HTMX in request.headers:
            return self._pages.error(request, error)
        why = error.message if signing_in else ENDED if COOKIE in request.cookies else ""
        response = self._show(request, request.url.path, why=why, status=error.http_status)
        response.headers.update({name.decode(): value.decode() for name, value in error_headers(error)})
        return response

    async def form(self, request: Request) -> Response:
        """The form for signing in."""
        return self._show(request, request.query_params.get("to", HOME))

    async def sign_in(self, request: Request) -> Response:
        """Begin a session with the key that the form holds."""
        form = await read_form(request)
        check_form(request, form, request.cookies.get(BEFORE, ""))
        caller = self._identify(request, form.get("key", "").strip())
        self._sessions.end(request.cookies.get(COOKIE, ""))
        cookie = self._sessions.begin(caller, self._clock())
        await self._tell(caller, "dashboard.sign-in")
        response = RedirectResponse(_within(form.get("to", HOME)), 303, HEADERS)
        response.set_cookie(COOKIE, cookie, path=HOME, secure=_is_tls(request), httponly=True, samesite="strict")
        response.delete_cookie(BEFORE, path=HOME)
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session, for good."""
        visit: Visit = request.state.visit
        self._sessions.end(visit.cookie)
        await self._tell(visit.caller, "dashboard.sign-out")
        response = RedirectResponse(SIGN_IN, 303, HEADERS)
        response.delete_cookie(COOKIE, path=HOME)
        return response

    def _identify(self, request: Request, key: str) -> Caller:
        """Whose key it is. All that is wrong with one is told in the same words, but to whoever has one that has expired."""
        now = self._clock()
        _, address = asked(request)
        try:
            caller = self._guard.identify({b"x-api-key": key.encode()}, address)
        except (InvalidKey, InvalidHeader) as exc:
            self._throttle.failed(address, now)
            raise InvalidKey(EXPIRED if exc.message == EXPIRED else WRONG) from exc
        except TooManyBadKeys as exc:
            raise TooManyBadKeys(TOO_MANY, retry_after=exc.retry_after) from exc
        if "read" not in caller.scopes:
            raise InsufficientScope(NOT_FOR_PEOPLE)
        return caller

    def _show(self, request: Request, to: str, *, why: str = "", status: int = 200) -> Response:
        had = request.cookies.get(BEFORE, "")
        token = had if TOKEN.fullmatch(had) else secrets.token_urlsafe(32)
        response = self._pages.sign_in(token=token, to=_within(to), why=why, status=status)
        response.set_cookie(BEFORE, token, path=HOME, secure=_is_tls(request), httponly=True, samesite="strict")
        return response

    async def _tell(self, caller: Caller, action: str) -> None:
        """To the audit log. Where that is away, people must be able to look all the same: then it is when they need to."""
        with suppress(StoreDown):
            await self._log.append(
                AuditEntry(at=self._clock(), actor=caller.actor, action=action, object="", tenant=caller.tenant)
            )


def _within(to: str) -> str:
    """Where signing in leads: to no other site."""
    return to if WITHIN.fullmatch(to) and to not in {SIGN_IN, SIGN_OUT} else HOME


def _is_tls(request: Request) -> bool:
    """Does the browser speak TLS, to us or to what stands before us? Whoever lies about it harms nobody but itself."""
    told = request.headers.get("x-forwarded-proto", "") == "https" or request.headers.get("origin", "").startswith("https://")
    return told or request.url.scheme == "https"
