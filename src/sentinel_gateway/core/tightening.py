"""What follows from the evidence: where more answers are wrong than the budget allows, fewer are given, in the end none.

A scope, or all of them together, has a *stance*. Each step up halves what the similarity may lack to 1; the last serves nothing.
 A step is taken when the evidence proves the budget broken: when the whole interval of the estimate lies above it, or when
that many complaints can't be chance. What was found before a step says nothing of what is served since, so the count begins anew.
A window without a broken budget takes one step back.
"""

import math
from typing import Final

import msgspec

from sentinel_gateway.core.confidence.interval import wrong_hit_interval
from sentinel_gateway.core.evidence import Standing
from sentinel_gateway.core.matching import Bar

OFF: Final = 3
"""The last step."""


class Stance(msgspec.Struct, frozen=True):
    """How strict a scope is: so many steps (0 to `OFF`) above what is configured, since then (Unix time)."""

    scope: str
    level: int = 0
    since: float = 0.0


class Rule(msgspec.Struct, frozen=True):
    """The budget: the most wrong answers by requests that reached the decision, 0 to 1. A window in seconds."""

    most_wrong: float
    window: float


def least_similarity(usual: float, level: int) -> float:
    """From which similarity on a stored answer serves at this level; infinite: none does."""
    if level >= OFF:
        return math.inf
    return 1.0 - (1.0 - usual) / 2**level if level else usual


def tightened(bar: Bar, usual: float, level: int) -> Bar:
    """What a stored answer has to reach at this level."""
    if not level:
        return bar
    confidence = math.inf if level >= OFF and bar.confidence is not None else bar.confidence
    return Bar(max(bar.similarity, least_similarity(usual, level)), confidence, bar.budget, bar.weighed)


def is_broken(standing: Standing, most_wrong: float) -> bool:
    """Does the evidence prove that more answers are wrong than that?"""
    complaints = wrong_hit_interval([(False, 1.0)] * standing.reported, standing.reached)
    return max(standing.wrong.low, complaints.low) > most_wrong


def proof(standing: Standing, most_wrong: float) -> str:
    """What breaks the budget, for people: what was compared, or else complaints."""
    wrong = standing.wrong
    if wrong.low > most_wrong:
        return f"{wrong.rate:.2%} of its requests were answered wrongly, by {wrong.observations} comparisons"
    return f"{standing.reported} of its {standing.reached} requests reported as answered wrongly"


def stepped(stance: Stance, standing: Standing, rule: Rule, now: float) -> Stance:
    """The stance from now on; the same if nothing speaks against it."""
    if is_broken(standing, rule.most_wrong):
        return stance if stance.level >= OFF else Stance(stance.scope, stance.level + 1, now)
    if stance.level and now - stance.since >= rule.window:
        return Stance(stance.scope, stance.level - 1, now)
    return stance
