"""What becomes of a provider's answer: it is kept if it may be, with what it has cost. Once an answer."""

from collections.abc import Callable, Mapping

from sentinel_gateway.core.caching import Entry, NotStorable, Store, TtlRules, lifetime, refusal, storable
from sentinel_gateway.core.chat import Answer, Usage
from sentinel_gateway.core.embeddings import Vector, shares_of
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import serves_rewordings
from sentinel_gateway.core.streaming import stored_body
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Clock


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
        verdict = storable(request, answer, wish, ttl=ttl, restriction=bound)
        if isinstance(verdict, NotStorable):
            return verdict
        return self._offer(self._entry(plan, journey, answer, ttl), journey, ttl)

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
        if self._tiers.cleared_since(journey.epoch, journey.caller.space):
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
        now = self._clock()
        asked, paid = journey.question, journey.paid
        reworded = asked if isinstance(asked, Question) and serves_rewordings(answer) else None
        return Entry(
            key=plan.key,
            body=stored_body(answer),
            model=journey.target,
            created=now,
            expires=now + ttl,
            prompt_tokens=paid.prompt_tokens if paid else 0,
            completion_tokens=paid.completion_tokens if paid else 0,
            cost=paid.cost if paid else 0,
            basis=paid.basis if paid else "unknown",
            tenant=journey.caller.space,
            namespace=journey.wish.namespace,
            writer=journey.writer,
            tags=journey.wish.tags,
            scope=reworded.scope if reworded else "",
            text=reworded.text if reworded else "",
        )
