"""What somebody may spend: budgets by the day and by the month of UTC, in whole nano-USD.

Before a provider is asked, the most that its answer may cost is *held* of each budget that concerns the request; once it is known
what it has come to, that much is *settled*, and the hold ends. What is settled and held together is never more than the budget,
so nothing that is asked at the same time can overrun it. An answer that costs nothing takes nothing, and is refused only where
all of a budget is settled.

A window is part of the account's name: it ends by itself, and what was held in one is settled there, whenever that is.

Several nodes share an account in parts: each writes its own, always as a whole, so that telling it twice or too late does no
harm, and a store that has lost all is told again. A part is what the node has settled, and what it has `drawn`: what it may
settle and hold without asking. All that is drawn together is never more than the budget, so a node that can't ask any more
goes on with what it has drawn, and the budget holds all the same. `stores/lua/limits.lua` does as `draw` does.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.pricing import NANO_PER_USD, usd

Span = Literal["day", "month"]
Whose = Literal["key", "tenant"]

DAY: Final = 86_400
LARGEST: Final = 1_000_000 * NANO_PER_USD
"""No budget may be larger: ten of them still fit into what a float holds exactly."""
BEYOND: Final = 10**15
"""USD that nobody has."""
MOST: Final = 2**52
"""No account holds more, whatever a provider says that something has cost."""
CALM: Final = 15_000
"""Milliseconds after an account was found lost in which nobody draws more: until then all who know of it have told theirs.

Whoever can't reach the store for longer, once it is back, is not waited for."""
TIGHT: Final = 5_000
"""Milliseconds after somebody was refused in which nobody draws ahead: what one has drawn and does not need is another's."""
LEASE: Final = 30_000
"""Milliseconds after which a node that has not been heard of holds nothing any more. What it has settled stays."""
AFTER: Final = 3_600
"""Seconds after the end of its window in which something may still be settled in an account."""


class Budget(msgspec.Struct, frozen=True):
    """What may be spent, in nano-USD; None: as much as they like."""

    day: int | None = None
    month: int | None = None

    def or_else(self, defaults: "Budget") -> "Budget":
        """This, and the defaults where it says nothing."""
        return Budget(
            defaults.day if self.day is None else self.day,
            defaults.month if self.month is None else self.month,
        )

    def spans(self) -> list[tuple[Span, int]]:
        """Those that are set."""
        named: tuple[tuple[Span, int | None], ...] = (("day", self.day), ("month", self.month))
        return [(span, limit) for span, limit in named if limit is not None]


NO_BUDGET: Final = Budget()


class Allowance(msgspec.Struct, frozen=True):
    """One budget in one of its windows. `ends` in Unix seconds."""

    account: str
    scope: Whose
    span: Span
    limit: int
    ends: int


class Hold(msgspec.Struct, frozen=True):
    """So much, of each of these. An amount of 0 only looks."""

    allowances: tuple[Allowance, ...]
    amount: int = 0


class Account(msgspec.Struct, frozen=True):
    """How an account stands: what was settled in it, and what is held beside that. `sure` is False where nobody can tell now."""

    settled: int = 0
    held: int = 0
    sure: bool = True

    def left(self, allowance: Allowance) -> int:
        """What may still be held, 0 or more."""
        return max(0, allowance.limit - self.settled - self.held)


NOTHING: Final = Account()


class BudgetUse(msgspec.Struct, frozen=True):
    """How a budget stands in the window that is under way, in nano-USD; `ends` in Unix seconds.

    `owner` is the id of a key, or a tenant; `label` is the key's name.
    """

    scope: Whose
    owner: str
    label: str
    tenant: str
    span: Span
    limit: int
    settled: int
    held: int
    ends: int

    @property
    def name(self) -> str:
        """Whose it is, in words."""
        return f"{self.scope} {self.owner}"

    @property
    def left(self) -> int:
        """What may still be held, 0 or more."""
        return max(0, self.limit - self.settled - self.held)


def window(span: Span, now: float) -> tuple[str, int]:
    """The window that a moment lies in, by its name, and when it ends. Both in Unix seconds."""
    today = int(now // DAY)
    year, month, day = _date(today)
    if span == "day":
        return f"{year}-{month:02}-{day:02}", (today + 1) * DAY
    following = today - day + 1 + 31  # the first of this month, and on into the next
    return f"{year}-{month:02}", (following - _date(following)[2] + 1) * DAY


def _date(days: int) -> tuple[int, int, int]:
    """Year, month and day, so many days after the first of 1970: Hinnant's `civil_from_days`, in years that begin in March."""
    era, in_era = divmod(days + 719_468, 146_097)
    year = (in_era - in_era // 1_460 + in_era // 36_524 - in_era // 146_096) // 365
    in_year = in_era - (365 * year + year // 4 - year // 100)
    march = (5 * in_year + 2) // 153
    day, month = in_year - (153 * march + 2) // 5 + 1, (march + 2) % 12 + 1
    return year + 400 * era + (month <= 2), month, day  # noqa: PLR2004 - February


def fits(account: Account, limit: int, amount: int) -> bool:
    """May so much be held, as it is in this account already? Nothing may, once all is settled."""
    return account.settled + account.held <= limit if amount else account.settled < limit


class Part(msgspec.Struct, frozen=True):
    """What one node has of an account: `turn` numbers what it tells, `seen` is when it last did, in milliseconds.

    `drawn` is what it may have settled and held together, so never less than `settled`.
    """

    turn: int = 0
    settled: int = 0
    drawn: int = 0
    seen: int = 0


class Shared(msgspec.Struct, frozen=True):
    """An account as all nodes have it: their parts by name; until when nobody draws more, and until when nobody draws ahead."""

    parts: Mapping[str, Part] = {}
    calm: int = 0
    tight: int = 0


class Wish(msgspec.Struct, frozen=True):
    """What a node tells of its part, and asks for.

    `wanted` is what it has settled and holds together, with what it asks for now; `cost` is that alone. `drawn` is what it goes
    on with if it gets no answer: more is taken back, and no less is left to it. `nodes`: among so many what is left is divided,
    half of it; 0: it draws nothing ahead. `known`: it has seen this account before, or can't tell whether others have.
    """

    limit: int
    cost: int
    turn: int
    settled: int
    wanted: int
    drawn: int
    nodes: int
    known: bool = False


class Drawn(msgspec.Struct, frozen=True):
    """Whether that fits; the part as it is, and `after` all that the request takes; what the others have settled and drawn.

    `calm`: until when nobody draws more. `tight`: until when nobody draws ahead.
    """

    fits: bool
    part: Part
    after: Part
    settled: int
    drawn: int
    calm: int
    tight: int = 0


def draw(shared: Shared, node: str, wish: Wish, *, now: int, settling: bool = False) -> Drawn:
    """What comes of a wish. A settlement always holds, and so does that which costs nothing; `fits` says the rest.

    What was told later stands: a wish that was overtaken changes nothing, and fits if what was drawn since covers it.
    A refusal counts as told, too: whoever hears it goes on with what it says is drawn.
    """
    parts, calm, tight = shared.parts, shared.calm, shared.tight
    others = [part for name, part in parts.items() if name != node]
    settled = sum(part.settled for part in others)
    drawn = sum(part.drawn if now - part.seen < LEASE else part.settled for part in others)
    own = parts.get(node)
    if own is None:
        if not parts and wish.known:
            calm = now + CALM
        own = Part(0, wish.settled, wish.drawn, now)
    overtaken = own.turn > wish.turn
    own = Part(max(own.turn, wish.turn), max(own.settled, wish.settled), max(own.drawn, wish.settled), now)
    if not (wish.cost or settling):
        return Drawn(settled + own.settled < wish.limit, own, own, settled, drawn, calm, tight)
    room = wish.limit - drawn - wish.wanted
    covered = wish.wanted <= own.drawn
    fit = room >= 0 and (covered or (now >= calm and not overtaken))
    if overtaken or not (fit or settling):
        return Drawn(fit, own, own, settled, drawn, calm, tight if fit or settling else now + TIGHT)
    more = max(wish.wanted, min(own.drawn, wish.drawn))
    if now >= calm and now >= tight and wish.nodes and room > 0:
        more = max(more, wish.wanted + room // (2 * wish.nodes))
    return Drawn(fit, own, Part(wish.turn, own.settled, more, now), settled, drawn, calm, tight)


def nano(amount: Decimal) -> int:
    """USD in nano-USD; raises ValueError where it is no amount, finer than that, or has more digits than any money."""
    sane = amount.is_finite() and amount.copy_abs() < BEYOND  # before anything is made of all its digits
    scaled = amount * NANO_PER_USD if sane else Decimal("NaN")
    if not sane or scaled != scaled.to_integral_value():
        raise ValueError("must be an amount of USD with at most 9 decimals, such as 5 or 0.25")
    return int(scaled)


def faults(budget: Budget) -> list[tuple[str, str]]:
    """What is wrong with it: fields by their names, each with what would be right."""
    sentence = f"must be more than 0 and at most {LARGEST // NANO_PER_USD} USD"
    return [(span, sentence) for span, limit in budget.spans() if not 0 < limit <= LARGEST]


def beyond(asked: Budget, bound: Budget) -> list[str]:
    """The spans in which one budget allows more than another."""
    own = dict(asked.spans())
    return [span for span, most in bound.spans() if own.get(span, most + 1) > most]


def describe(budget: Budget) -> dict[str, str | None]:
    """In USD, exactly."""
    return dict.fromkeys(Budget.__struct_fields__) | {span: usd(limit) for span, limit in budget.spans()}
