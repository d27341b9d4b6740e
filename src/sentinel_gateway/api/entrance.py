"""What every request to a face passes first, known or unknown path: no foreign page, and a caller."""

from collections.abc import Mapping

from sentinel_gateway.api.browsers import Browsers
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.core.access import ANYBODY, cache_scope
from sentinel_gateway.pipeline.journey import Journey


class Entrance:
    """`groups` are the cache groups by tenant."""

    def __init__(self, browsers: Browsers, guard: Guard, groups: Mapping[str, str]) -> None:
        self._browsers = browsers
        self._guard = guard
        self._groups = groups

    def __repr__(self) -> str:
        return f"<Entrance {self._guard!r}>"

    def enter(self, headers: Mapping[bytes, bytes], journey: Journey) -> None:
        """Write down who asks, and whose answers it shares; raises `RequestError`s."""
        self._browsers.check(headers)
        caller = journey.caller = self._guard.admit(headers, journey.client)
        if caller is not ANYBODY:
            journey.writer = caller.actor
            journey.tenant = cache_scope(caller, self._groups)
