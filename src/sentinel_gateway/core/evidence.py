"""What is known of the answers to reworded questions: who says that they were right or wrong, and how many must be wrong.

That is judged by those that were drawn by chance.

No text is part of it, neither of a question nor of an answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.caching import Hit, Step
from sentinel_gateway.core.confidence.interval import Estimate, wrong_hit_interval
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import Neighbour

Kind = Literal["served", "explored"]
"""`explored`: a stored answer would have served, and a provider was asked instead."""
Source = Literal["judge", "feedback", "operator"]
"""Who says it: a comparison of answers, whoever was given the answer, whoever runs the gateway."""
WEIGHT: Final[dict[Source, int]] = {"judge": 0, "operator": 1}
"""Of those who look at what chance has drawn, the one with the larger number is right. Complaints are not drawn by chance."""
NOT_REACHED: Final = frozenset({"empty-scope", "tier-down"})
"""Reasons of the semantic tier that are no decision."""
HOUR: Final = 3_600
PART: Final = "\n"
ALL: Final = "all"
"""In place of a scope: all of them together."""


class Weighed(msgspec.Struct, frozen=True):
    """How likely a stored answer is right, 0 to 1, as it was told at the time, and the numbers which that was told from."""

    confidence: float
    features: tuple[float, ...]


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the answer kept as `entry`, for `weight` requests; 0: it was not drawn by chance.

    `weighed` None: no answer came into question. `right` None: nobody can tell. `decision`: the id of what was decided, if
    anything was. `fresh`: what a provider has answered, held against stored answers.
    """

    entry: str = ""
    weighed: Weighed | None = None
    right: bool | None = None
    weight: float = 1.0
    decision: str = ""
    fresh: "Fresh | None" = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A stored answer was given to another question, or would have been. `at` in Unix seconds, `similarity` 0 to 1."""

    id: str
    """Our own id of the request."""
    request_id: str
    """The id that its caller knows, perhaps of its own choice, and then perhaps that of several requests."""
    tenant: str
    """Who asked (`core.access.Caller.space`)."""
    at: float
    scope: str
    entry: str
    """The key of the stored answer."""
    owner: str
    """Whose entry that is: another tenant's, where a cache group shares it."""
    similarity: float
    kind: Kind = "served"
    drawn: float = 0.0
    """The chance with which it was drawn to be compared with a provider's answer; 0: it was not drawn."""
    realm: str = ""
    """What learns from it (`realm`); empty: nothing does."""
    budgets: tuple[str, ...] = ()
    """The names of the error budgets below the deployment's that held for it (`core.budget`)."""
    weighed: Weighed | None = None
    """None where nothing of that was asked: its caller has set a threshold."""


class Study(msgspec.Struct, frozen=True):
    """A miss whose fresh answer will be held against the stored ones around it: what was asked, and what stood near.

    `entry` is the key under which the fresh answer is kept, if it is. It stands for `weight` requests.
    """

    question: Question
    entry: str
    realm: str
    neighbours: Sequence[Neighbour]
    weight: float = 1.0


class Fresh(msgspec.Struct, frozen=True):
    """A fresh answer that was held against stored ones, by their keys: does it say the same? `kept`: is it stored itself?"""

    study: Study
    compared: dict[str, bool]
    kept: bool


class Trial(msgspec.Struct, frozen=True):
    """A hit that is explored: compared with a provider's answer. `spared`: it serves after all if no provider answers."""

    hit: Hit
    study: Study
    decision: Decision
    spared: bool


class Calibrated(msgspec.Struct, frozen=True):
    """How a realm stands: labels learned from, and whether they decide, and not the operator's similarity.

    `threshold`: from which confidence on answers serve by the budget of the deployment; infinite: none does; None: by similarity.
    """

    realm: str
    labels: int
    decides: bool
    threshold: float | None


class Label(msgspec.Struct, frozen=True):
    """The answer of this decision was right, or wrong."""

    decision: str
    source: Source
    correct: bool
    at: float


class Count(msgspec.Struct, frozen=True):
    """How often the decision was reached in a scope during an hour (of Unix time), and how often a stored answer was to serve.

    Or under an error budget of somebody's own, by its name, in place of a scope. Requests that chose a threshold of their own are
    in neither.
    """

    hour: int
    scope: str
    reached: int
    hits: int


class Finding(msgspec.Struct, frozen=True):
    """A label, and what it is about. `at`: when that was decided, `budgets`: those below the deployment's that held for it."""

    decision: str
    at: float
    scope: str
    drawn: float
    source: Source
    correct: bool
    budgets: tuple[str, ...] = ()


class Findings(msgspec.Struct, frozen=True):
    """All labels of a window; and what was counted in it: in all, in the busiest scopes, under the busiest budgets.

    Counts begin with the last step of the scope, or of the budget, or of all (`core.tightening`).
    """

    labels: Sequence[Finding]
    reached: int
    hits: int
    scopes: Sequence[Count]
    budgets: Sequence[Count] = ()


class Standing(msgspec.Struct, frozen=True):
    """How a scope stands, or a budget, or all together. `wrong`: of requests that reached the decision; `wrong_hits`: of hits."""

    scope: str
    reached: int
    hits: int
    reported: int
    """Wrong by feedback."""
    wrong: Estimate
    wrong_hits: Estimate


class Standings(msgspec.Struct, frozen=True):
    """All together, the busiest scopes, and the busiest of the error budgets that are below the deployment's."""

    overall: Standing
    scopes: tuple[Standing, ...]
    budgets: tuple[Standing, ...] = ()


def realm(tenant: str, namespace: str) -> str:
    """Whose questions are learned from together: a tenant's, or a cache group's, within a namespace."""
    return f"{tenant}{PART}{namespace}"


def parts_of(realm: str) -> tuple[str, str]:
    """The tenant and the namespace: no namespace has a line break."""
    tenant, _, namespace = realm.rpartition(PART)
    return tenant, namespace


def realm_id(realm: str) -> str:
    """By which it is told where names don't belong: 16 hex digits."""
    return blake2b(realm.encode(), digest_size=8).hexdigest()


def reached(step: Step) -> bool:
    """Did a request that was passed on by the semantic tier get as far as a decision?"""
    detail = step.detail or ""
    return detail not in NOT_REACHED and not detail.startswith("uncacheable-")


def sampled(exploration: float, audit: float) -> float:
    """The chance that a hit is compared with a provider's answer: explored, or else served and audited."""
    return exploration + (1.0 - exploration) * audit


def standings(findings: Findings, since: Mapping[str, float]) -> Standings:
    """What the findings of a window come to. Of a scope, a budget, or of `ALL`, nothing counts from before its `since`."""
    labels = [label for label in findings.labels if label.at >= _begins(label, since)]
    overall = _standing(ALL, labels, findings.reached, findings.hits)
    among: dict[str, list[Finding]] = {}
    for label in labels:
        for name in (label.scope, *label.budgets):
            among.setdefault(name, []).append(label)
    scopes, budgets = (
        tuple(_standing(count.scope, among.get(count.scope, ()), count.reached, count.hits) for count in counts)
        for counts in (findings.scopes, findings.budgets)
    )
    return Standings(overall, scopes, budgets)


def wrong_hits(labels: Iterable[Finding], budget: str) -> tuple[Estimate, int]:
    """Of the hits under a budget how many are wrong, and how many were reported, however much stricter it has become since."""
    own = [label for label in labels if budget in label.budgets]
    drawn = _weighed(own)
    return wrong_hit_interval(drawn, sum(weight for _, weight in drawn)), _reported(own)


def _begins(label: Finding, since: Mapping[str, float]) -> float:
    """When what is served now began to be served, where this was decided."""
    return max(since.get(name, 0.0) for name in (ALL, label.scope, *label.budgets))


def _standing(scope: str, labels: Sequence[Finding], reached: int, hits: int) -> Standing:
    weighed = _weighed(labels, hits)
    return Standing(
        scope=scope,
        reached=reached,
        hits=hits,
        reported=_reported(labels),
        wrong=wrong_hit_interval(weighed, reached),
        wrong_hits=wrong_hit_interval(weighed, hits),
    )


def _reported(labels: Iterable[Finding]) -> int:
    return sum(label.source == "feedback" and not label.correct for label in labels)


def _weighed(labels: Iterable[Finding], hits: int | None = None) -> list[tuple[bool, float]]:
    """What was drawn, each with the number of hits that it stands for: one by its chance, scaled so that all stand for all hits.

    Scaled, because some that are drawn get no label: that nobody could tell them, or the budget was spent, is taken for chance.
    """
    drawn: dict[str, Finding] = {}
    for label in labels:
        if label.drawn > 0.0 and label.source in WEIGHT:
            known = drawn.get(label.decision)
            if known is None or WEIGHT[label.source] > WEIGHT[known.source]:
                drawn[label.decision] = label
    mass = sum(1.0 / label.drawn for label in drawn.values())
    return [(label.correct, (mass if hits is None else hits) / (label.drawn * mass)) for label in drawn.values()]
