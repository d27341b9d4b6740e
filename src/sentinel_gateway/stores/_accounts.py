"""What this process has settled and holds of each account, and what it knows of all others: what budgets are judged by here.

What others have is what an earlier life of this process has left behind, or what other nodes have told. The table ends with the
windows: an account that nothing can be settled in any more is forgotten.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from sentinel_gateway.core.budgets import AFTER, LEASE, MOST, Account, Allowance, Hold, fits

Standing = Sequence[tuple[Allowance, Account]]

SMALL: Final = 1024
"""Accounts that may have ended before anybody looks."""
_name: Final = attrgetter("account")


class Own:
    """This process' part of one account, and what it knows of the others'.

    `left` is what an earlier life held when it ended, of which nobody knows what it came to: it counts until `until`.
    """

    __slots__ = (
        *("drawn", "ends", "held", "known", "left", "limit", "others_drawn", "others_settled", "settled", "turn"),
        *("tight", "until", "used"),
    )

    def __init__(self, ends: int) -> None:
        self.ends = ends
        self.settled = self.held = 0
        self.others_settled = self.others_drawn = 0
        self.left, self.until = 0, 0
        self.turn = self.drawn = 0
        self.limit = 0
        self.known = self.tight = False
        self.used = float("-inf")

    def __repr__(self) -> str:
        return f"<Own {self.settled} settled, {self.held} held>"

    @property
    def wanted(self) -> int:
        """What it needs to have drawn."""
        return self.settled + self.held

    def account(self, now: int, more: int = 0) -> Account:
        """The whole account, as far as this process knows, with so much more held. `now` in milliseconds."""
        held = self.held + more
        if self.others_drawn > self.others_settled:
            held += self.others_drawn - self.others_settled
        if now < self.until:
            held += self.left
        return Account(self.others_settled + self.settled, held)

    def settle(self, amount: int, cost: int) -> None:
        """What was held has come to this."""
        self.held = max(0, self.held - amount)
        self.settled = min(self.settled + cost, MOST)


class Accounts:
    """All of them. `changed` is told of the accounts in which something changes. `clock` in Unix seconds."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[Iterable[str]], None] = lambda _: None) -> None:
        self._clock = clock
        self._changed = changed
        self._table: dict[str, Own] = {}
        self._sweep_above = SMALL

    def __repr__(self) -> str:
        return f"<Accounts {len(self._table)}>"

    def __len__(self) -> int:
        self._sweep()
        return len(self._table)

    def items(self) -> Iterator[tuple[str, Own]]:
        """Those in which something may still happen."""
        self._sweep()
        return iter(list(self._table.items()))

    def find(self, account: str) -> Own | None:
        return self._table.get(account)

    def of(self, allowance: Allowance) -> Own:
        """This process' part, made if there is none."""
        return self._table.get(allowance.account) or self.made(allowance.account, allowance.ends)

    def made(self, account: str, ends: int) -> Own:
        own = self._table.get(account)
        if own is None:
            if len(self._table) > self._sweep_above:
                self._sweep()
            own = self._table[account] = Own(ends)
        return own

    def restore(self, account: str, ends: int, *, settled: int, held: int) -> None:
        """What an earlier life has left behind: what it held counts for as long as a node that is not heard of any more."""
        own = self.made(account, ends)
        own.others_settled += settled
        own.others_drawn += settled
        own.left += held
        own.until = int(self._clock() * 1000) + LEASE

    def take(self, hold: Hold, now: int) -> tuple[Standing, Allowance | None]:
        """Hold it where it fits all of them: how they stand then, and the first that it does not fit. `now` in milliseconds."""
        amount = hold.amount
        accounts, refused = [], None
        for allowance in hold.allowances:
            own = self._table.get(allowance.account)
            account = Account(0, amount) if own is None else own.account(now, amount)
            accounts.append((allowance, account))
            if refused is None and not fits(account, allowance.limit, amount):
                refused = allowance
        if refused is not None:
            return [(allowance, Account(account.settled, account.held - amount)) for allowance, account in accounts], refused
        if amount:
            self.hold(hold)
        return accounts, None

    def hold(self, hold: Hold) -> None:
        """Hold it, whether or not it fits."""
        for allowance in hold.allowances:
            self.of(allowance).held += hold.amount
        self._changed(map(_name, hold.allowances))

    def settle(self, hold: Hold, cost: int) -> None:
        """The hold has come to this."""
        for allowance in hold.allowances:
            self.of(allowance).settle(hold.amount, cost)
        self._changed(map(_name, hold.allowances))

    def _sweep(self) -> None:
        now = self._clock()
        self._table = {account: own for account, own in self._table.items() if now < own.ends + AFTER}
        self._sweep_above = max(SMALL, 2 * len(self._table))
