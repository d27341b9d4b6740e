"""Would the answer to one text serve another? As the path would decide it, told whole, and without an answer to either."""

from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec

from sentinel_gateway.core.access import ANONYMOUS, shared_space
from sentinel_gateway.core.bound import BoundRules, restriction
from sentinel_gateway.core.caching import Head, Wish
from sentinel_gateway.core.evidence import realm
from sentinel_gateway.core.explanation import Comparison, compared
from sentinel_gateway.core.identity import Unfit, unfit_text
from sentinel_gateway.core.matching import Bar, Neighbour, ranked
from sentinel_gateway.core.tightening import tightened
from sentinel_gateway.errors import EmbedderDown
from sentinel_gateway.pipeline.semantic import TIER_DOWN, Semantic


class Place(msgspec.Struct, frozen=True):
    """Where it is asked: of which tenant, in which of its namespaces, of which model, by its public name.

    `key`: the id of the key that asks, and `allowed` the most wrong hits that it allows, 0 to 1, if it says so.
    """

    tenant: str = ANONYMOUS
    namespace: str = ""
    model: str = ""
    allowed: float | None = None
    key: str = ""


ANYWHERE: Final = Place()


class Explainer:
    """Compares texts by the rules in force. `groups` are cache groups by tenant."""

    def __init__(self, semantic: Semantic, bounds: BoundRules, groups: Mapping[str, str]) -> None:
        self._semantic = semantic
        self._bounds = bounds
        self._groups = groups

    def __repr__(self) -> str:
        return f"<Explainer {self._semantic!r}>"

    async def compare(self, a: str, b: str, place: Place = ANYWHERE) -> Comparison:
        """Would the answer to `a` serve `b`, in one scope, for a caller who asks for nothing special?"""
        where = realm(shared_space(place.tenant, self._groups), place.namespace)
        if self._semantic.evidence is not None:
            await self._semantic.evidence.calibration.ready(where)
        bar = self._bar(place, where)
        unfit = self._unfit(a) or self._unfit(b)
        if unfit is not None:
            return Comparison(f"uncacheable-{unfit}", bar)
        try:
            one, other = await self._semantic.embedder.embed([a, b])
        except EmbedderDown:
            return Comparison(TIER_DOWN, bar)
        if one is None or other is None:
            return Comparison("uncacheable-unread", bar)
        stored = Head(key="", model="", created=0.0, expires=0.0, text=a)
        (near,) = ranked(b, [Neighbour(stored, float(one @ other))])
        evidence, aside = self._semantic.evidence, self._semantic.aside
        rule = partial(compared, a, b, near.similarity, bar)
        if evidence is None:
            return await aside(rule)
        weighed = await evidence.calibration.weigh(where, b, near, (near,), objecting=None)
        return await aside(partial(rule, confidence=weighed.confidence))

    def _bar(self, place: Place, where: str) -> Bar:
        thresholds, evidence = self._semantic.thresholds, self._semantic.evidence
        if evidence is None:
            return Bar(thresholds.usual)
        budget = thresholds.budgets.of(model=place.model, namespace=place.namespace, key=place.allowed)
        key = place.key, place.allowed
        held = thresholds.budgets.stricter(model=place.model, namespace=place.namespace, key=key)
        level = evidence.log.level("", held)  # of no scope in particular
        return tightened(evidence.calibration.bar(where, Wish(), thresholds, budget), evidence.habits.threshold, level)

    def _unfit(self, text: str) -> Unfit | None:
        bound = restriction(text, self._bounds)
        return unfit_text(text) or (None if bound is None else bound.why)
