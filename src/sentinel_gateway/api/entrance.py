"""What every request to a face passes first, known or unknown path: no foreign page, and a caller."""

from collections.abc import Callable, Mapping
from typing import Protocol

from sentinel_gateway.api.browsers import Browsers
from sentinel_gateway.core.access import ANYBODY, Caller, cache_scope
from sentinel_gateway.pipeline.journey import Journey

Begin = Callable[[Journey, Mapping[bytes, bytes]], None]


class Admits(Protocol):
    """Says who asks."""

    def admit(self, headers: Mapping[bytes, bytes], address: str) -> Caller:
        """Raises `RequestError`s."""
        ...


class Entrance:
    """`groups` are the cache groups by tenant; `region` is the header in which a trusted proxy says where a caller is.

    `trace` begins a request's trace, where they are on.
    """

    def __init__(
        self,
        browsers: Browsers,
        guard: Admits,
        groups: Mapping[str, str],
        region: str | None = None,
        *,
        trace: Begin | None = None,
    ) -> None:
        self._browsers = browsers
        self._guard = guard
        self._groups = groups
        self._region = None if region is None else region.encode("ascii")
        self._trace = trace

    def __repr__(self) -> str:
        return f"<Entrance {self._guard!r}>"

    def enter(self, headers: Mapping[bytes, bytes], journey: Journey) -> None:
        """Write down who asks, and whose answers it shares; raises `RequestError`s."""
        if self._trace is not None and journey.trace is None:
            self._trace(journey, headers)
        self._browsers.check(headers)
        if self._region is not None:
            journey.region = headers.get(self._region, b"").decode("latin-1")
        caller = journey.caller = self._guard.admit(headers, journey.client)
        if caller is not ANYBODY:
            journey.writer = caller.actor
            journey.tenant = cache_scope(caller, self._groups)
