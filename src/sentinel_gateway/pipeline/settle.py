"""What becomes of a provider's answer: it is kept if it may be, with what it has cost. Once an answer."""

from collections.abc import Callable, Mapping
from typing import Final

from sentinel_gateway.core.caching import Entry, NotStorable, Store, TtlRules, lifetime, refusal, rejection
from sentinel_gateway.core.chat import Answer, Usage
from sentinel_gateway.core.embeddings import Vector, shares_of
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import serves_rewordings
from sentinel_gateway.core.record import Attempt
from sentinel_gateway.core.streaming import stored_body
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Clock

UNPAID: Final = Attempt("", "", 0, 0.0, stream=False, basis="unknown")
"""Stands for the call that brought an answer, where nobody was paid for one."""
UNCOMPARED: Final = Question("", "")
"""Stands for the question of an answer that serves no other."""


class Settlement:
    """Keeps answers. `max_bytes` is the longest that is remembered, `chance` gives 0..1; `evidence` hears of each."""

    def __init__(
        self,
        tiers: Tiers,
        rules: TtlRules,
        *,
        max_bytes: int,
        clock: Clock,
        chance: Callable[[], float],
        evidence: Evidence | None = None,
    ) -> None:
        self._tiers = tiers
        self._rules = rules
        self.max_bytes = max_bytes
        self._clock = clock
        self._chance = chance
        self._evidence = evidence

    def answered(self, plan: Plan, journey: Journey, answer: Answer | NotStorable, usage: Usage | None) -> None:
        """Keep the answer if it may be kept; a stream may have shown already that it may not."""
        if self._evidence is not None:
            self._evidence.answered(journey, answer, usage)
        journey.kept = answer if isinstance(answer, NotStorable) else self._keep(plan, journey, answer)

    def _keep(self, plan: Plan, journey: Journey, answer: Answer) -> Store | NotStorable:
        request, wish, bound = plan.request, journey.wish, journey.restriction
        ttl = lifetime(request, wish, self._rules, jitter=self._chance(), restriction=bound)
        unwanted = rejection(request, answer, wish, ttl=ttl, restriction=bound)
        return unwanted or self._offer(self._entry(plan, journey, answer, ttl), journey, ttl)

    def embedded(self, plan: Plan, journey: Journey, vectors: Mapping[str, Vector]) -> None:
        """Keep the vectors of a request's items, by their keys, if they may be kept; what is told of all is told of the last."""
        parts = shares_of(journey.cost, [vector.tokens for vector in vectors.values()])
        for (key, vector), part in zip(vectors.items(), parts, strict=True):
            ttl = lifetime(plan.request, journey.wish, self._rules, jitter=self._chance())
            unwanted = refusal(journey.wish, ttl=ttl)
            journey.kept = unwanted or self._offer(self._vector_entry(key, vector, part, journey, ttl), journey, ttl)

    def _offer(self, entry: Entry, journey: Journey, ttl: float) -> Store | NotStorable:
        if len(entry.body) > self.max_bytes:
            return NotStorable("too-large")
        if self._tiers.cleared_since(journey.epoch, entry.tenant):
            return NotStorable("cleared-meanwhile")
        if entry.key in self._tiers.pins.keys:
            return NotStorable("pinned")
        tiers = self._tiers.keep(entry)
        return Store(ttl, tiers) if tiers else NotStorable("not-taken")

    def _vector_entry(self, key: str, vector: Vector, cost: int, journey: Journey, ttl: float) -> Entry:
        now = self._clock()
        return Entry(
            key=key,
            body=vector.body,
            model=journey.target,
            created=now,
            expires=now + ttl,
            prompt_tokens=vector.tokens,
            cost=cost,
            basis=journey.basis,
            tenant=journey.caller.space,
            namespace=journey.wish.namespace,
            writer=journey.writer,
            tags=journey.wish.tags,
        )

    def _entry(self, plan: Plan, journey: Journey, answer: Answer, ttl: float) -> Entry:
        now, wish = self._clock(), journey.wish
        asked, paid = journey.question, journey.paid or UNPAID
        reworded = asked if isinstance(asked, Question) and serves_rewordings(answer) else UNCOMPARED
        return Entry(
            key=plan.key,
            body=stored_body(answer),
            model=journey.target,
            created=now,
            expires=now + ttl,
            prompt_tokens=paid.prompt_tokens,
            completion_tokens=paid.completion_tokens,
            cost=paid.cost,
            basis=paid.basis,
            tenant=journey.caller.space,
            namespace=wish.namespace,
            writer=journey.writer,
            tags=wish.tags,
            scope=reworded.scope,
            text=reworded.text,
        )
