"""The door: who asks, by the headers, and whether it may. Every route declares what it needs; none is built that doesn't.

While no key has ever been made, a gateway that only this machine can reach asks for none: whoever can reach it is its user.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Request
from fastapi.routing import APIRoute

from sentinel_gateway.api.head import header_map
from sentinel_gateway.core.access import ANYBODY, MARK, Caller, KeyScope, require_scope, standing
from sentinel_gateway.errors import InsufficientScope, InvalidKey, RequestError
from sentinel_gateway.pipeline.authentication import KEY_HEADERS, Authenticator
from sentinel_gateway.pipeline.keyring import KeyRing

_MARK: Final = MARK.encode()
_MAY_HOLD_ONE: Final = frozenset(KEY_HEADERS)
Check = Callable[[Request], Coroutine[Any, Any, None]]
C = TypeVar("C", bound=Callable[..., Any])
OPERATOR: Final = "admin-key"
PUBLIC: Final = "public"


class Policy(msgspec.Struct, frozen=True):
    """Whether a key is asked for: always, never, or (None) once one has been made. Beyond `loopback` always."""

    required: bool | None = None
    loopback: bool = True


class Guard:
    """Tells callers. `policy` is the configuration's."""

    def __init__(self, authenticator: Authenticator, ring: KeyRing, policy: Policy) -> None:
        self._authenticator = authenticator
        self._ring = ring
        self._policy = policy

    def __repr__(self) -> str:
        return f"<Guard {self._policy!r} {self._ring!r}>"

    def admit(self, headers: Mapping[bytes, bytes], address: str) -> Caller:
        """Who asks, which may be anybody where no key is needed; raises what `Authenticator.authenticate` does.

        Where it can't be told whether one is needed, that is `KeysUnavailable`.
        """
        if self.is_open and not _shows_key(headers, self._policy):
            return ANYBODY
        try:
            return self.identify(headers, address)
        except InvalidKey:
            if self._policy.loopback and self._policy.required is None:
                self._ring.check_made()  # a machine that slept has not yet looked again
            raise

    def still_admits(self, caller: Caller, now: float) -> bool:
        """Would the same headers tell the same caller now? `caller` is one that `admit` has told, with a key or without."""
        return self.is_open if caller.key is None else self._ring.knows(caller, now)

    def current(self, caller: Caller, now: float) -> Caller | None:
        """What the key of somebody who was identified before stands for now; None if it opens nothing any more.

        Raises `KeysUnavailable` where that can't be told, as `Authenticator.authenticate` does.
        """
        if caller.key is None:
            return caller
        found = self._ring.find(caller.key.digest, now)
        if found is None:
            self._ring.check_current(now)
            return None
        return None if found.key is None or standing(found.key, now) else found

    def identify(self, headers: Mapping[bytes, bytes], address: str) -> Caller:
        """Who asks, by its key, needed or not."""
        return self._authenticator.authenticate(
            headers.get(b"authorization"), headers.get(b"x-api-key"), headers.get(b"api-key"), address=address
        )

    @property
    def is_open(self) -> bool:
        """May anybody come in without a key?"""
        policy = self._policy
        return policy.loopback and (self._ring.is_virgin if policy.required is None else not policy.required)

    # What routes of FastAPI declare.

    def who(self, request: Request) -> Caller:
        """Who asks, by its key."""
        return self.identify(*asked(request))

    def knows(self, request: Request) -> bool:
        """May this caller see what is for readers?"""
        try:
            require_scope(self.admit(*asked(request)), "read")
        except RequestError:
            return False
        return True

    def needs(self, scope: KeyScope) -> Check:
        """A dependency: a caller with this scope. It is told in `request.state.caller`."""

        async def check(request: Request) -> None:
            caller = request.state.caller = self.admit(*asked(request))
            require_scope(caller, scope)

        return declared(check, scope)

    def operator(self) -> Check:
        """A dependency: the operator, by the admin key, whether or not others need one. Told as above."""

        async def check(request: Request) -> None:
            caller = request.state.caller = self.who(request)
            require_operator(caller)

        return declared(check, OPERATOR)

    def administrator(self) -> Check:
        """A dependency: the operator, or a key of scope `admin`, whose holder stays within its tenant. Told as above."""

        async def check(request: Request) -> None:
            caller = request.state.caller = self.who(request)
            require_scope(caller, "admin")

        return declared(check, "admin")

    def check_stranger(self, request: Request) -> None:
        """For what is no route: whoever needs a key is not told without one which paths there are."""
        self.admit(*asked(request))


def _shows_key(headers: Mapping[bytes, bytes], policy: Policy) -> bool:
    """Does the caller show a key of ours where it needs none? What SDKs send there of their own is nothing to look at."""
    if policy.required is not False or _MAY_HOLD_ONE.isdisjoint(headers):
        return False
    return any(_MARK in headers.get(name, b"") for name in KEY_HEADERS)


def require_operator(caller: Caller) -> None:
    """Raises `InsufficientScope` for whoever is within a tenant."""
    if caller.tenant is not None:
        raise InsufficientScope("This needs the admin key of the gateway.")


def anybody() -> Check:
    """A dependency: the route is public."""

    async def check(_: Request) -> None:
        pass

    return declared(check, PUBLIC)


def declared(check: C, access: str) -> C:
    """Mark a dependency as one that says who may use the routes that have it: those with this scope, `OPERATOR` or `PUBLIC`."""
    check.__dict__["access"] = access
    return check


def undeclared(routes: Sequence[Any]) -> list[str]:
    """The paths of routes that don't say who may use them."""
    return [
        str(getattr(route, "path", route)) for route in routes if not (isinstance(route, APIRoute) and access(route) is not None)
    ]


def access(route: APIRoute) -> str | None:
    """Who may use it: a scope, `OPERATOR` or `PUBLIC`; None if it doesn't say."""
    return next(filter(None, (getattr(call.call, "access", None) for call in route.dependant.dependencies)), None)


def asked(request: Request) -> tuple[Mapping[bytes, bytes], str]:
    """The headers and the address of who asks, as `admit` and `identify` take them."""
    return header_map(request.scope["headers"]), request.client.host if request.client else ""
