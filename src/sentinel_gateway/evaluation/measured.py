"""What came of an evaluation, as it is told to programs: `sentinel eval --json` is these types to the letter.

Shares are 0 to 1, times milliseconds. docs/evaluation.md explains each member.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from sentinel_gateway.evaluation.curve import Point, Scored, auc, curve, most_hits, quantile, thinned
from sentinel_gateway.evaluation.rows import Bad

RATES: Final = (0.005, 0.01, 0.02, 0.05)
"""The wrong-hit rates at which hits are told."""
POINTS: Final = 200
"""Of a curve, at most."""


class Trial(NamedTuple):
    """A question that met a stored answer. `score` is `NEVER` where the rule has none to serve; `right`: may it serve?"""

    category: str
    score: float
    right: bool
    served: bool


class Share(msgspec.Struct, frozen=True):
    """Hits among so many trials."""

    trials: int
    hits: int
    wrong_hits: int
    hit_rate: float
    wrong_hit_rate: float
    wrong_per_hit: float

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> "Share":
        """As the rule decided."""
        hits = sum(trial.served for trial in trials)
        wrong = sum(trial.served and not trial.right for trial in trials)
        return cls(len(trials), hits, wrong, hits / max(len(trials), 1), wrong / max(len(trials), 1), wrong / max(hits, 1))


class AtRate(msgspec.Struct, frozen=True):
    """The most hits with at most this share of wrong ones.

    `threshold` is found with hindsight; null: none does it, or the rule sets its own. `measured` is the wrong-hit rate then.
    """

    wrong_hit_rate: float
    hit_rate: float
    measured: float
    threshold: float | None


class Category(msgspec.Struct, frozen=True):
    """One value of the category column: how many of its trials may be served, and what became of them."""

    category: str
    may_serve: int
    at_setting: Share


class Rule(msgspec.Struct, frozen=True):
    """One rule: how it ranks (`auc`, null where all labels are alike), what it does as it is set, what it could do."""

    name: str
    setting: str
    auc: float | None
    at_setting: Share
    at_rates: list[AtRate]
    curve: list[Point]
    categories: list[Category]


class Latency(msgspec.Struct, frozen=True):
    """Of one step, on this machine."""

    step: str
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, step: str, seconds: Sequence[float]) -> "Latency":
        """Percentiles of what was measured."""
        return cls(step, *(round(1e3 * quantile(seconds, share), 3) for share in (0.5, 0.95, 0.99)))


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One file. Of a stream, questions that are in no rate are counted.

    `exact`: had been asked before to the letter. `alone`: the gateway compares them with no other, for they are bound to a moment
    or a person, long or foreign.
    """

    file: str
    kind: Literal["pairs", "stream"]
    rows: int
    may_serve: int
    exact: int = 0
    alone: int = 0
    rules: list[Rule]
    latency: list[Latency]
    bad_lines: int
    bad: list[Bad]
    notes: list[str]


def rule(
    name: str,
    setting: str,
    trials: Sequence[Trial],
    *,
    ranked: Sequence[Trial] | None = None,
    held: Mapping[float, Share] | None = None,
) -> Rule:
    """All that is told of a rule, from what it did as it is set.

    `ranked`: trials to be ranked instead of these, where what is served changes what is met. `held`: what it did when it was
    held to each rate, for a rule that sets its own threshold.
    """
    scored = [Scored(trial.score, trial.right) for trial in (trials if ranked is None else ranked)]
    points = curve(scored)
    at_rates = [_at(points, rate) if held is None else _held(held[rate], rate) for rate in RATES]
    return Rule(name, setting, auc(scored), Share.of(trials), at_rates, thinned(points, POINTS), _categories(trials))


def _at(points: Sequence[Point], rate: float) -> AtRate:
    found = most_hits(points, rate)
    return AtRate(rate, 0.0, 0.0, None) if found is None else AtRate(rate, found.hit_rate, found.wrong_hit_rate, found.threshold)


def _held(share: Share, rate: float) -> AtRate:
    return AtRate(rate, share.hit_rate, share.wrong_hit_rate, None)


def _categories(trials: Sequence[Trial]) -> list[Category]:
    found: defaultdict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.category:
            found[trial.category].append(trial)
    return [Category(name, sum(trial.right for trial in some), Share.of(some)) for name, some in sorted(found.items())]
