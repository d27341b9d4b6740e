"""Limits within one process: buckets in a table, synchronous at heart.

The table is bounded, and nothing that was spent is forgotten for it. Keys, tenants and models are as many as the operator made;
end users are as many as callers make up. So the users of one key have at most `most_users` buckets of a kind, and those beyond
share one, their charges' `spill`: a flood of invented users meets a stricter limit, never a laxer one, and no other key feels it.
Buckets that are whole again are dropped when the table has doubled, when a key's users are too many, and when they are counted.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final

from msgspec.structs import replace

from sentinel_gateway.core.budgets import Allowance, Hold
from sentinel_gateway.core.limits import Charge, State, Verdict, judge, refilled, settled
from sentinel_gateway.stores._accounts import Accounts, Standing

MOST_USERS: Final = 1024
"""Buckets of a kind that one key's end users have at a time: 0.4 MB (measured)."""
SWEEP_PAUSE: Final = 1000
"""Milliseconds: a crowd that is all in use is not looked through for each newcomer."""
SMALL: Final = 1024
"""Buckets that may lie whole before anybody looks."""
_spill: Final = attrgetter("spill")


class _Crowd:
    """The buckets of one key's end users."""

    __slots__ = ("buckets", "swept")

    def __init__(self) -> None:
        self.buckets: set[str] = set()
        self.swept: int | None = None

    def __repr__(self) -> str:
        return f"<_Crowd of {len(self.buckets)}>"


class MemoryLimits:
    """A `LimitStore` of this process alone. Nothing in it suspends."""

    def __init__(self, *, clock: Callable[[], float], accounts: Accounts | None = None, most_users: int = MOST_USERS) -> None:
        self._clock = clock
        self.accounts = Accounts(clock) if accounts is None else accounts
        self._most_users = most_users
        self._table: dict[str, State] = {}
        self._crowds: dict[str, _Crowd] = {}
        self._sweep_above = SMALL

    def __repr__(self) -> str:
        return f"<MemoryLimits {len(self._table)} buckets>"

    async def take(self, charges: Sequence[Charge], hold: Hold | None = None) -> Verdict:
        return self.take_now(charges, self._clock(), hold)

    async def open(self) -> None:
        """It is here."""

    def take_now(self, charges: Sequence[Charge], now: float, hold: Hold | None = None) -> Verdict:
        moment, table = int(now * 1000), self._table
        if any(map(_spill, charges)):
            charges = [self._aimed(charge, moment) for charge in charges]
        verdict = judge(charges, table.get, moment)
        if verdict.refused is not None:
            return verdict
        if hold is not None:
            accounts, refused = self.accounts.take(hold, moment)
            if refused is not None:
                return _spent(verdict, refused, accounts)
            verdict = Verdict(charges, verdict.spent, accounts=accounts)
        at, spent = 0, verdict.spent
        for charge in charges:
            if charge.cost:
                table[charge.bucket] = spent[at], moment, charge.rate
            at += 1  # noqa: SIM113 - as in Verdict.standings
        if len(table) > self._sweep_above:
            self._sweep(moment)
        return verdict

    async def settle(self, corrections: Sequence[Charge], hold: Hold | None = None, cost: int = 0) -> None:
        self.settle_now(corrections, hold, cost)

    def settle_now(self, corrections: Sequence[Charge], hold: Hold | None = None, cost: int = 0) -> bool:
        if hold is not None:
            self.accounts.settle(hold, cost)
        now = int(self._clock() * 1000)
        for correction in corrections:
            bucket = self._aimed(correction, now).bucket if correction.spill else correction.bucket
            state = self._table.get(bucket)
            spent = settled(correction, state, now)
            if spent:
                self._table[bucket] = spent, now, correction.rate
            elif state is not None:
                del self._table[bucket]
        return True

    def buckets(self) -> int:
        self._sweep(int(self._clock() * 1000))
        return len(self._table)

    async def close(self) -> None:
        pass

    def learn(self, charge: Charge, spent: int) -> None:
        """So much is spent of this charge's bucket, as another store says; of users beyond the bound nothing is kept."""
        now = int(self._clock() * 1000)
        table = self._table
        if not spent:
            table.pop(charge.bucket, None)
        elif not charge.spill or charge.bucket in table or self._has_room(charge, now):
            table[charge.bucket] = spent, now, charge.rate
            if len(table) > self._sweep_above:
                self._sweep(now)

    def spent(self, bucket: str) -> int:
        """What is spent of a bucket now, in parts."""
        state = self._table.get(bucket)
        return 0 if state is None else refilled(state, int(self._clock() * 1000))

    def known(self) -> dict[str, State]:
        """The buckets that refill by themselves and of which something is spent, as they stand now."""
        now = int(self._clock() * 1000)
        self._sweep(now)
        return {bucket: (refilled(state, now), now, state[2]) for bucket, state in self._table.items() if state[2]}

    def _aimed(self, charge: Charge, now: int) -> Charge:
        """The charge on the user's own bucket, or on the one that is shared."""
        if not charge.spill or not charge.cost or charge.bucket in self._table:
            return charge
        if charge.cost < 0:
            # A place in flight goes back to where it was taken. Tokens don't: the shared bucket isn't refilled for somebody
            # whose own has become whole since.
            return _spilled(charge) if charge.kind == "concurrency" else charge
        return charge if self._has_room(charge, now) else _spilled(charge)

    def _has_room(self, charge: Charge, now: int) -> bool:
        """May this user have a bucket of its own? Then it has one."""
        crowd = self._crowds.get(charge.spill)
        if crowd is None:
            crowd = self._crowds[charge.spill] = _Crowd()
        if len(crowd.buckets) >= self._most_users and (crowd.swept is None or abs(now - crowd.swept) >= SWEEP_PAUSE):
            crowd.swept = now
            self._drop_whole(crowd.buckets, now)
            crowd.buckets.intersection_update(self._table)
        if len(crowd.buckets) >= self._most_users:
            return False
        crowd.buckets.add(charge.bucket)
        return True

    def _sweep(self, now: int) -> None:
        self._drop_whole(self._table, now)
        self._table = self._table.copy()  # a dict keeps the size that it once had
        for spill, crowd in list(self._crowds.items()):
            crowd.buckets.intersection_update(self._table)
            if not crowd.buckets:
                del self._crowds[spill]
        self._sweep_above = max(SMALL, 2 * len(self._table))

    def _drop_whole(self, buckets: Iterable[str], now: int) -> None:
        for bucket in list(buckets):
            state = self._table.get(bucket)
            if state is not None and not refilled(state, now):
                del self._table[bucket]


def _spent(verdict: Verdict, refused: Allowance, accounts: Standing) -> Verdict:
    """The same where a budget has no room: nothing is taken."""
    spent = [total - charge.cost for charge, total in zip(verdict.charges, verdict.spent, strict=True)]
    return Verdict(verdict.charges, spent, refused, accounts=accounts)


def _spilled(charge: Charge) -> Charge:
    return replace(charge, bucket=charge.spill, spill="")
