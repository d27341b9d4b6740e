"""What requests have in common, on one node or on several: limits, calls under way, idempotency keys, notices."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from sentinel_gateway.core.budgets import Hold
from sentinel_gateway.core.bulletin import Notice
from sentinel_gateway.core.idempotency import Claim, Held, Outcome
from sentinel_gateway.core.limits import Charge, Verdict


class LimitStore(Protocol):
    """The buckets of all limits, and the accounts of all budgets.

    Both coroutines answer within the adapter's own deadline and raise nothing: an adapter whose store is away goes on by itself,
    with a share of each limit. One that keeps its buckets in process never suspends.
    """

    async def open(self) -> None:
        """Once, before the first request: returns when the store has answered, or has not done so in time."""
        ...

    async def take(self, charges: Sequence[Charge], hold: Hold | None = None) -> Verdict:
        """Take all of it, or nothing; no two charges name the same bucket. Cancelled, it has taken nothing.

        A hold stays until it is settled.
        """
        ...

    def take_now(self, charges: Sequence[Charge], now: float, hold: Hold | None = None) -> Verdict | None:
        """As `take`, where that needs no waiting; None where it does, and then nothing is taken. `now` in Unix seconds."""
        ...

    async def settle(self, corrections: Sequence[Charge], hold: Hold | None = None, cost: int = 0) -> None:
        """Book what is known afterwards, whatever the limits say: an amount above 0 was spent, one below 0 is given back.

        The hold ends, and has come to so many nano-USD.
        """
        ...

    def settle_now(self, corrections: Sequence[Charge], hold: Hold | None = None, cost: int = 0) -> bool:
        """As `settle`, where that needs no waiting; False where it does, and then nothing is booked."""
        ...

    def buckets(self) -> int:
        """Buckets of which something is spent."""
        ...

    async def close(self) -> None: ...


class IdempotencyStore(Protocol):
    """Which requests with an idempotency key were begun, and what came of them.

    A key is free again once its lifetime is over; what a tenant has beyond its quota goes earlier, the oldest first.
    All raise `StoreDown`, within the adapter's own deadline.
    """

    async def claim(self, wanted: Claim, now: float) -> Held | None:
        """None for exactly one of those who ask: it is to do the work, then to `keep` or to `release`.

        Durable, where the adapter is: after a crash the key is held, without an outcome.
        """
        ...

    async def keep(self, held: Claim, outcome: Outcome) -> None: ...

    async def release(self, held: Claim) -> None:
        """Nothing came of it: whoever asks next is to do the work."""
        ...

    async def close(self) -> None: ...


class Landed(msgspec.Struct, frozen=True):
    """What a node has brought for all: a `chat.completion`, as bytes, and the target that made it."""

    body: bytes
    target: str


CLAIM_SECONDS: Final = 3.0
"""The turn of a node that has died, or can't be reached, ends so soon."""


class Handover(Protocol):
    """Whose turn it is, of all nodes, to ask a provider for an exact key, and what came of it.

    A turn is one flight's. Of a node's flights for one key the last counts: its number is greater.
    """

    async def claim(self, key: str, flight: int, *, waited: float) -> Landed | bool:
        """What was brought just now, or while this flight has `waited` (seconds); else whether it is its turn now.

        It is, until it lands or releases the key; cancelled, it has none. Raises `StoreDown`, within the adapter's own deadline.
        """
        ...

    def land(self, key: str, flight: int, landed: Landed) -> None:
        """Hand over what a turn has brought. Never blocks, never raises; out of turn it does nothing."""
        ...

    def release(self, key: str, flight: int) -> None:
        """Nothing came of it: another's turn. As `land`."""
        ...

    async def close(self) -> None: ...


class Bulletin(Protocol):
    """What nodes tell each other, in one order for all of them."""

    async def publish(self, notice: Notice) -> None:
        """Tell all other nodes: they know it within a second. Raises `StoreDown`, within the adapter's own deadline."""
        ...

    async def follow(self, heard: Callable[[Notice], None], missed: Callable[[], None]) -> None:
        """Pass on what others tell, one after the other, from when this returns; later, if they can't be reached now.

        `missed` is called instead whenever notices may have been lost, and when it begins. Neither may raise, or take long.
        """
        ...

    async def close(self) -> None: ...
