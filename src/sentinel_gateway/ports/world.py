"""Where the path meets the rest of the process: time, and whom it tells what happened."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from sentinel_gateway.core.pricing import Pricing
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.ports.ledger import Ledger

Prices = Callable[[str], Pricing]
"""What a target (`provider/model`) takes now. Never blocks, never raises."""


class Clock(Protocol):
    """Unix seconds that never jump while the process runs (the wall clock at start, carried on by a steady one)."""

    def __call__(self) -> float: ...


class Events(Protocol):
    """Where the path tells what happened. Never blocks, never raises."""

    def finished(self, record: Record) -> None: ...

    def attempted(self, attempt: Attempt) -> None:
        """A call of a provider has ended."""
        ...

    def note(self, event: str, **fields: str | float | bool | None) -> None:
        """A change of state worth one log line: a store went down, an entry was dropped."""
        ...


class World(msgspec.Struct, frozen=True):
    """What rules that go by time and chance are driven with: `sleep` in seconds of `clock`, `chance` gives 0..1."""

    clock: Clock
    sleep: Callable[[float], Awaitable[None]]
    chance: Callable[[], float]
    events: Events
    ledger: Ledger | None = None


class ConnectionWatch(Protocol):
    """Told of every connection, whether or not it ever carries a request, and of the requests that no app ever sees."""

    def opened(self) -> None: ...

    def closed(self) -> None: ...

    def refused(self, record: Record) -> None:
        """`record.at` is still to be set."""
        ...
