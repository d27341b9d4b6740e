"""What a replayed log comes to, as it is told to programs: `sentinel replay --json` is these types to the letter.

Shares are 0 to 1, money USD, times seconds. docs/evaluation.md explains each member.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.confidence.interval import wrong_hit_interval
from sentinel_gateway.core.pricing import FALLBACK, NANO_PER_USD, Unpriced, cost
from sentinel_gateway.evaluation.rehearsal import Match, Step
from sentinel_gateway.ports import Prices

FIRST_TOKEN: Final = 0.5
TOKENS_A_SECOND: Final = 50
"""What an answer is taken to need where the log does not say it."""
STEP: Final = 100
"""Thresholds are told in hundredths."""
SHOWN: Final = 30
"""Matches that are listed for a human."""
NEAR: Final = 0.05
"""So far below the threshold a match is worth a look."""


class Saved(msgspec.Struct):
    """Hits of one tier, and what they would have spared."""

    hits: int = 0
    hit_rate: float = 0.0
    usd: float = 0.0
    seconds: float = 0.0
    tokens: int = 0


class Guessed(msgspec.Struct):
    """What the log did not say, in requests, and was estimated."""

    timestamps: int = 0
    answers: int = 0
    usage: int = 0
    seconds: int = 0
    prices: int = 0


class AtThreshold(msgspec.Struct, frozen=True):
    """If this were `cache.semantic.threshold`.

    Rates are by the requests that were compared. Of the hits so many could be `judged` by the answers in the log, and so many
    of those were `wrong`; `wrong_hit_rate_high` is hardly exceeded (95 %), if the rest are alike.
    """

    threshold: float
    hits: int
    hit_rate: float
    judged: int
    wrong: int
    wrong_hit_rate: float
    wrong_hit_rate_high: float


class Account(msgspec.Struct, kw_only=True):
    """A log, replayed."""

    requests: int = 0
    failed: int = 0
    first: float | None = None
    last: float | None = None
    exact: Saved = msgspec.field(default_factory=Saved)
    semantic: Saved = msgspec.field(default_factory=Saved)
    spent_usd: float = 0.0
    spent_seconds: float = 0.0
    misses: dict[str, int] = {}
    """By the reason why no answer in other words served, as `Cache-Status` tells it."""
    bound: dict[str, int] = {}
    stale: int = 0
    compared: int = 0
    estimated: Guessed = msgspec.field(default_factory=Guessed)


class Ledger:
    """Adds up steps as they come."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._misses: Counter[str] = Counter()
        self._bound: Counter[str] = Counter()
        self._spent = {"exact": 0, "semantic": 0, "all": 0}
        """In nano-USD."""
        self.account = Account()
        self.matches: list[Match] = []
        self.gaps: list[tuple[float, bool]] = []
        """Of each request that came again: seconds since, and whether its answer was there still."""

    def __repr__(self) -> str:
        return f"<Ledger of {self.account.requests} requests>"

    def add(self, step: Step) -> None:
        """One more."""
        account = self.account
        account.requests += 1
        account.failed += step.logged.failed
        account.stale += step.stale
        account.compared += step.decided
        self._date(step)
        spent, seconds = self._cost(step), self._seconds(step)
        self._spent["all"] += spent
        account.spent_seconds += seconds
        saved = {"exact": account.exact, "semantic": account.semantic}.get(step.outcome)
        if saved is not None:
            saved.hits += 1
            saved.seconds += seconds
            saved.tokens += step.usage.total_tokens
            self._spent[step.outcome] += spent
        else:
            self._misses[step.reason or "no-semantic-tier"] += 1
        if step.bound:
            self._bound[step.bound] += 1
        if step.match is not None:
            self.matches.append(step.match)
        if step.since is not None:
            self.gaps.append((step.since, step.outcome == "exact"))

    def close(self) -> Account:
        """All of it."""
        account = self.account
        account.misses, account.bound = dict(self._misses.most_common()), dict(self._bound.most_common())
        account.spent_usd = self._spent["all"] / NANO_PER_USD
        for saved, spared in ((account.exact, self._spent["exact"]), (account.semantic, self._spent["semantic"])):
            saved.usd = spared / NANO_PER_USD
            saved.hit_rate = saved.hits / max(account.requests, 1)
        return account

    def _date(self, step: Step) -> None:
        account, at = self.account, step.logged.at
        if at is None:
            account.estimated.timestamps += 1
            return
        account.first = at if account.first is None else min(account.first, at)
        account.last = at if account.last is None else max(account.last, at)

    def _cost(self, step: Step) -> int:
        logged, usage = step.logged, step.usage
        if logged.failed:
            return 0
        self.account.estimated.answers += logged.answer is None
        self.account.estimated.usage += logged.answer is None or logged.answer.usage is None
        price = self._prices(step.target)
        self.account.estimated.prices += isinstance(price, Unpriced) or price.estimated
        return cost(FALLBACK if isinstance(price, Unpriced) else price, usage)

    def _seconds(self, step: Step) -> float:
        if step.logged.seconds is not None:
            return step.logged.seconds
        self.account.estimated.seconds += 1
        return likely_seconds(step.usage)


def likely_seconds(usage: Usage) -> float:
    """How long a provider takes for so much; nothing for nothing."""
    return FIRST_TOKEN + usage.completion_tokens / TOKENS_A_SECOND if usage.total_tokens else 0.0


def thresholds(matches: Sequence[Match], *, compared: int, least: float) -> Iterator[AtThreshold]:
    """What each hundredth from `least` up would have served; each match as if the others had not changed what is stored."""
    for hundredth in range(round(least * STEP), STEP):
        threshold = hundredth / STEP
        served = [match for match in matches if match.similarity >= threshold]
        judged = [match for match in served if match.agree is not None]
        weight = len(served) / max(len(judged), 1)
        found = wrong_hit_interval(((bool(match.agree), weight) for match in judged), max(compared, 1))
        wrong = sum(match.agree is False for match in judged)
        rate = len(served) / max(compared, 1)
        yield AtThreshold(threshold, len(served), rate, len(judged), wrong, found.rate, found.high)


def suspicious(matches: Iterable[Match], *, threshold: float) -> list[Match]:
    """Those that a human should look at: hits whose answers differ, those hardly near enough, and what was nearly one."""
    found = list(matches)
    served = sorted((m for m in found if m.served), key=lambda m: (m.agree is not False, m.similarity))
    close = (m for m in found if not m.served and m.similarity >= threshold - NEAR)
    nearly = sorted(close, key=lambda m: -m.similarity)
    return served[: SHOWN - min(len(nearly), SHOWN // 3)] + nearly[: SHOWN // 3]
