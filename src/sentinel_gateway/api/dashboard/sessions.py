"""Who is signed in: sessions live here and nowhere else, each known to one browser by a random cookie, kept as a hash.

A session is no more than a remembered key: what it may do is asked anew each time. Nothing of it survives the process.
"""

import hashlib
import secrets
from typing import Final

import msgspec

from sentinel_gateway.core.access import Caller

IDLE: Final = 3600.0
"""Seconds without a request after which a session ends. A page that is open asks all the time."""
LONGEST: Final = 86_400.0
"""Seconds after which it ends in any case."""
MOST: Final = 1000
MOST_OF_ONE: Final = 20
"""Sessions of one key: whoever has it can't crowd out all others."""


class Session(msgspec.Struct):
    """One browser's. `token` stands in each of its forms. `said` is what its next page tells of what was done."""

    caller: Caller
    token: str
    begun: float
    seen: float
    said: str = ""


class Sessions:
    """Those that are alive, the one that was idle longest first. Times are seconds of one clock."""

    def __init__(self, *, idle: float = IDLE, longest: float = LONGEST, most: int = MOST) -> None:
        self._idle = idle
        self._longest = longest
        self._most = most
        self._alive: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._alive)

    def __repr__(self) -> str:
        return f"<Sessions {len(self)}>"

    def begin(self, caller: Caller, now: float) -> str:
        """The cookie of a new one."""
        self._forget(now)
        own = [place for place, session in self._alive.items() if session.caller.actor == caller.actor]
        for place in own[: max(0, len(own) - MOST_OF_ONE + 1)]:
            del self._alive[place]
        if len(self._alive) >= self._most:
            del self._alive[next(iter(self._alive))]
        cookie = secrets.token_urlsafe(32)
        self._alive[_place(cookie)] = Session(caller, secrets.token_urlsafe(32), now, now)
        return cookie

    def find(self, cookie: str, now: float) -> Session | None:
        """The session of this cookie, which is in use now; None if it has ended, or never was."""
        self._forget(now)
        place = _place(cookie)
        session = self._alive.pop(place, None)
        if session is None or now - session.begun >= self._longest:
            return None
        session.seen = now
        self._alive[place] = session
        return session

    def end(self, cookie: str) -> None:
        """End it, if it is there."""
        self._alive.pop(_place(cookie), None)

    def _forget(self, now: float) -> None:
        while self._alive:
            place, session = next(iter(self._alive.items()))
            if now - session.seen < self._idle:
                return
            del self._alive[place]


def _place(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode()).digest()
