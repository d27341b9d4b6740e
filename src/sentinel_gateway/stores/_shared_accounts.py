"""This node's part of each account, as it is told to Redis, and what Redis has told of the others' (`core/budgets.py`).

What is asked for counts as held from the moment in which it is asked: so each wish holds all before it, and none is lost,
whichever comes first. While Redis is away, this node goes on with what it has drawn: never more than Redis knows it to have,
whichever answers were lost. So it lowers what it counts on before it says so, and raises it only by the answer to what it has
said last.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sentinel_gateway.core.budgets import AFTER, CALM, Account, Allowance, Hold, Wish, fits
from sentinel_gateway.stores._accounts import Accounts, Own, Standing
from sentinel_gateway.stores.account_keeper import Left

IDLE: Final = 10.0
"""Seconds after which a node draws nothing ahead of an account that nobody asks for."""

Row = tuple[int, ...]
"""A wish in numbers, and when the account may go, in milliseconds."""
TURN: Final = Wish.__struct_fields__.index("turn")


class Told(NamedTuple):
    """What Redis says of one account: does it fit, what have the others settled and drawn, what has this node drawn?

    `tight`: nobody is to draw ahead of it now.
    """

    fits: bool
    settled: int
    drawn: int
    own: int
    tight: bool


NUMBERS: Final = len(Told._fields)


class Asked(NamedTuple):
    """A hold, and how it is told."""

    hold: Hold
    rows: Sequence[Row]


class SharedAccounts:
    """The table, and what is made of the answers. `clock` in Unix seconds."""

    def __init__(self, clock: Callable[[], float], accounts: Accounts | None = None, left: Sequence[Left] = ()) -> None:
        self.table = Accounts(clock) if accounts is None else accounts
        self._left = {row for row in left if row.settled}
        self._unsaid = set(self._left)
        for row in self._left:
            self.table.restore(row.account, row.ends, settled=row.settled, held=0)
            self.table.made(row.account, row.ends).known = True
        self.untold: set[str] = set()
        """Accounts of which Redis does not know all."""
        self.clock = clock
        self._doubtful_until = float("-inf")

    def __repr__(self) -> str:
        return f"<SharedAccounts {self.table!r}, {len(self.untold)} untold>"

    # --- what a request waits for ---

    def ask(self, hold: Hold, *, nodes: int) -> Asked:
        """The wishes of a hold, which counts as held from now on."""
        rows = []
        if hold.amount:
            self.table.hold(hold)
        for allowance in hold.allowances:
            own = self.table.of(allowance)
            own.limit, own.used = allowance.limit, self.clock()
            own.turn += bool(hold.amount)
            rows.append(self._row(own, hold.amount, nodes))
        return Asked(hold, rows)

    def granted(self, asked: Asked, told: Sequence[Told], *, taken: bool) -> tuple[Standing, Allowance | None]:
        """How the accounts stand then, and which of them it did not fit."""
        hold, refused = asked.hold, None
        if not taken:
            self.release(asked.hold)
        for allowance, row, one in zip(hold.allowances, asked.rows, told, strict=True):
            self._learn(self.table.of(allowance), one, row[TURN] if hold.amount else 0)
            if refused is None and not one.fits:
                refused = allowance
        return self._standing(hold, refused), refused

    def apart(self, asked: Asked) -> tuple[Standing, Allowance | None]:
        """The same without Redis: what this node has drawn is all that it may hold."""
        self.suspect()
        hold, refused = asked.hold, None
        for allowance in hold.allowances:
            own = self.table.of(allowance)
            spent = own.others_settled + own.settled >= allowance.limit
            beyond = own.wanted > own.drawn or own.others_drawn + own.wanted > allowance.limit
            if refused is None and (beyond if hold.amount else spent):
                refused = allowance
        if refused is not None:
            self.release(hold)
        elif hold.amount:
            self.untold.update(allowance.account for allowance in hold.allowances)
        return self._standing(hold, refused), refused

    def release(self, hold: Hold) -> None:
        """It is held no more, and nothing has come of it."""
        if hold.amount:
            self.table.settle(hold, 0)

    def settle(self, hold: Hold, cost: int, *, nodes: int) -> Asked:
        """What a hold has come to, and how that is told."""
        self.table.settle(hold, cost)
        return Asked(hold, [self.tell(self.table.of(allowance), nodes=nodes) for allowance in hold.allowances])

    def settled(self, asked: Asked, told: Sequence[Told]) -> None:
        """That was told."""
        for allowance, row, one in zip(asked.hold.allowances, asked.rows, told, strict=True):
            self._learn(self.table.of(allowance), one, row[TURN])

    def lost(self, asked: Asked) -> None:
        """That could not be told."""
        self.suspect()
        self.untold.update(allowance.account for allowance in asked.hold.allowances)

    # --- what is done beside ---

    def tell(self, own: Own, *, nodes: int) -> Row:
        """The whole of this node's part."""
        own.turn += 1
        return self._row(own, 0, nodes if self.clock() - own.used < IDLE else 0)

    def heard(self, account: str, row: Row, told: Told) -> None:
        """What was told beside. Redis knows all of the account then, unless more was to be told meanwhile."""
        own = self.table.find(account)
        if own is None or own.turn == row[TURN]:
            self.untold.discard(account)
        if own is not None:
            self._learn(own, told, row[TURN])

    @property
    def suspicious(self) -> bool:
        """Has a call failed, so that Redis may have lost all meanwhile?"""
        return self._doubtful_until == float("inf")

    def suspect(self) -> None:
        """Until it is known whether Redis has lost all, what is absent there may be lost."""
        self._doubtful_until = float("inf")

    def trust(self) -> None:
        """It has not."""
        if self.suspicious:
            self._doubtful_until = float("-inf")

    def doubt(self) -> None:
        """It has: all is told again, and until others have done so nobody trusts an empty account."""
        self._doubtful_until = self.clock() + CALM / 1000
        self.untold.update(account for account, own in self.table.items() if own.known)
        self._unsaid |= self._left

    def unsaid(self) -> list[Left]:
        """What nodes have left behind that are no more, where Redis may not know it."""
        now = self.clock()
        self._left = {row for row in self._left if now < row.ends + AFTER}
        self._unsaid &= self._left
        return list(self._unsaid)

    def said(self, left: Left) -> None:
        """That was told."""
        self._unsaid.discard(left)

    def pending(self) -> Mapping[str, Own]:
        """The accounts that are to be told now: those of which Redis does not know all, and those of which something is drawn."""
        known = dict(self.table.items())
        self.untold.intersection_update(known)
        return {name: own for name, own in known.items() if name in self.untold or (own.known and own.drawn > own.settled)}

    # --- its own ---

    def _row(self, own: Own, cost: int, nodes: int) -> Row:
        room = own.limit - own.others_drawn - own.wanted
        ahead = room // (2 * nodes) if nodes and room > 0 and not own.tight else 0
        own.drawn = min(own.drawn, own.wanted + ahead)
        known = own.known or self.clock() < self._doubtful_until
        wish = Wish(own.limit, cost, own.turn, own.settled, own.wanted, own.drawn, nodes, known)
        return (*_numbers(wish), (own.ends + AFTER) * 1000)

    def _learn(self, own: Own, told: Told, turn: int) -> None:
        """`turn` 0: nothing of this node's was asked for."""
        own.others_settled, own.others_drawn, own.tight = told.settled, told.drawn, told.tight
        if turn:
            own.known = True
        if turn == own.turn:
            own.drawn = told.own

    def _standing(self, hold: Hold, refused: Allowance | None) -> Standing:
        now, standing = int(self.clock() * 1000), []
        for allowance in hold.allowances:
            own = self.table.of(allowance)
            account = own.account(now)
            sure = allowance is not refused or not fits(own.account(now, hold.amount), allowance.limit, hold.amount)
            standing.append((allowance, Account(account.settled, account.held, sure)))
        return standing


def past_row(left: Left) -> Row:
    """The part of a node that is no more, as the node itself told it at last: what is known of it already stands."""
    wish = Wish(0, 0, 0, left.settled, left.settled, left.settled, 0, known=True)
    return (*_numbers(wish), (left.ends + AFTER) * 1000)


def read_told(numbers: Sequence[int]) -> Iterator[Told]:
    """Of the numbers that the script answers with."""
    for start in range(0, len(numbers), NUMBERS):
        fit, settled, drawn, own, tight = numbers[start : start + NUMBERS]
        yield Told(bool(fit), settled, drawn, own, bool(tight))


def _numbers(wish: Wish) -> Iterable[int]:
    return (int(getattr(wish, name)) for name in wish.__struct_fields__)
