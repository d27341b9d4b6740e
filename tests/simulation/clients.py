"""Who asks in the simulation, and the sum of all that their limits and budgets were charged."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sentinel_gateway.core.budgets import NO_BUDGET, Budget, Hold
from sentinel_gateway.core.limits import NO_LIMITS, Charge, Kind, Limits, Verdict
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.simulation.money import MOST

ESTIMATE: Final = 10
"""Tokens that a request is thought to cost, at most."""
CROWD: Final = 2
PLENTY: Final = 1_000_000


class Client(msgspec.Struct, frozen=True):
    """A `Party`."""

    id: str
    limits: Limits
    tenant: str = "t"
    user_limits: Limits = NO_LIMITS
    budget: Budget = NO_BUDGET


FREE: Final = Client("free", NO_LIMITS)
CLIENTS: Final = (
    Client("counted", Limits(tokens_per_minute=PLENTY)),
    Client("held", Limits(requests_per_minute=3, tokens_per_minute=PLENTY, concurrency=CROWD)),
    Client("sparing", Limits(tokens_per_minute=2 * ESTIMATE)),
    Client("poor", NO_LIMITS, budget=Budget(day=MOST)),
)
"""All are counted in tokens or in money, and only one in requests at once."""


class Counted(MemoryLimits):
    """Limits, and the sum of all that was taken and not given back."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.net: Counter[Kind] = Counter()
        self.crowd = 0
        """The most that were in flight at once."""
        self.overrun = 0
        """The most that was settled and held beyond a budget."""

    def take_now(self, charges: Sequence[Charge], now: float, hold: Hold | None = None) -> Verdict:
        verdict = super().take_now(charges, now, hold)
        if verdict.refused is None:
            self._count(charges)
            self._look(hold)
        return verdict

    def settle_now(self, corrections: Sequence[Charge], hold: Hold | None = None, cost: int = 0) -> bool:
        self._count(corrections)
        booked = super().settle_now(corrections, hold, cost)
        self._look(hold)
        return booked

    @property
    def held(self) -> int:
        """What is held of budgets, in nano-USD."""
        return sum(own.held for _, own in self.accounts.items())

    def _look(self, hold: Hold | None) -> None:
        for allowance in () if hold is None else hold.allowances:
            own = self.accounts.find(allowance.account)
            if own is not None:
                self.overrun = max(self.overrun, own.settled + own.held - allowance.limit)

    def _count(self, charges: Sequence[Charge]) -> None:
        for charge in charges:
            self.net[charge.kind] += charge.amount
        self.crowd = max(self.crowd, self.net["concurrency"])
