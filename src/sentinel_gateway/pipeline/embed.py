"""One request for embeddings, from its bytes to its vectors: the steps of `handle.py`, each item by itself.

Memory and the farther tier are asked for every item; those that neither has are asked of a provider, in one call. An item that
stands twice in a request is asked for once, and one that another request is asking for at this moment not again. There is
nothing to compare by meaning, nothing to stream, and idempotency keys mean nothing: the same again gives the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.caching import Hit, Miss, Wish
from sentinel_gateway.core.embeddings import Item, Vector, asked_for, item_keys, items_of, of_one_model, vectors_of
from sentinel_gateway.core.tokens import Encoding, bytes_of, encoding_of
from sentinel_gateway.errors import CounterBusy, InvalidField, NotCached
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.flight import shares
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.lookup import look_near, told
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.pipeline.understand import check_others, enter, understand
from sentinel_gateway.ports import TokenCounter, Unsent

LOOKED_UP_AT_ONCE: Final = 64
"""Items that the farther tier is asked for together: of more, the last would be late."""

ASSUMED: Final[Encoding] = "cl100k"
"""The encoding of OpenAI's models for embeddings, and what LangChain takes for those that it does not know."""

Found = Mapping[str, Vector]
"""Vectors by the keys of their items."""


class Vectors(msgspec.Struct, frozen=True):
    """The answer: a vector for each item, in the order of asking. `hits` of them were stored, `oldest` is one of these."""

    plan: Plan
    vectors: Sequence[Vector]
    hits: int
    oldest: Hit | None

    @property
    def model(self) -> str:
        """The provider's own name of the model that made them, whenever that was."""
        return self.plan.route.targets[0].model

    @property
    def tokens(self) -> int:
        """What all items cost together, whenever that was."""
        return sum(vector.tokens for vector in self.vectors)


class Measures(msgspec.Struct, frozen=True):
    """What counts tokens, and says what they may cost at most; without the latter nothing is held of a budget."""

    counter: TokenCounter
    costing: Costing | None = None


class Embedding:
    """The path, wired."""

    def __init__(
        self,
        planner: Planner,
        tiers: Tiers,
        dispatch: Dispatch,
        settlement: Settlement,
        *,
        admission: Admission,
        measures: Measures,
    ) -> None:
        self.admission = admission
        self._planner = planner
        self._tiers = tiers
        self._dispatch = dispatch
        self._settlement = settlement
        self._counter = measures.counter
        self._costing = measures.costing
        self._calls: dict[str, _Call] = {}
        """By the keys of the items that they ask for."""
        self._booking: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Embedding {len(self._calls)} items under way>"

    async def handle(self, raw: bytes, journey: Journey, *, waiting: Callable[[Plan], Awaitable[None]]) -> Vectors:
        """The vectors that a body asks for; raises `RequestError`s. The caller holds a place of `admission`.

        `waiting` is awaited before a provider is asked: from then on the answer may take long.
        """
        understood = await understand(self._planner, raw, journey)
        await enter(understood, journey)
        plan = await self._in_words(replace(understood, route=of_one_model(understood.route)))
        fields = plan.request.fields
        items = items_of(fields["input"]) or []
        keys = item_keys(fields, items, targets=plan.route.names, tenant=journey.tenant, namespace=journey.wish.namespace)
        hits, miss = await self._look_up(plan, dict.fromkeys(keys), journey)
        oldest = min(hits.values(), key=lambda hit: hit.entry.created, default=None)
        found = {key: Vector(hit.entry.body, hit.entry.prompt_tokens) for key, hit in hits.items()}
        if miss is not None:
            missing = {key: item for key, item in zip(keys, items, strict=True) if key not in hits}
            found |= await self._ask(plan, missing, miss, journey, waiting)
        answer = Vectors(plan, [found[key] for key in keys], sum(key in hits for key in keys), oldest)
        if miss is None and oldest is not None:
            told(oldest, journey)
            journey.prompt_tokens = answer.tokens
        journey.saved = sum(hit.entry.cost for hit in hits.values())
        return answer

    async def _in_words(self, plan: Plan) -> Plan:
        """Token ids mean nothing to models other than OpenAI's: clients that send them anyway have made them with `ASSUMED`."""
        request, model = plan.request, plan.route.targets[0].model
        ids = [item for item in items_of(request.fields["input"]) or () if not isinstance(item, str)]
        if not ids or encoding_of(model) is not None:
            return plan
        try:
            texts = await self._counter.texts(ids, encoding=ASSUMED)
        except CounterBusy as exc:
            raise self.admission.refusal("The gateway has too many token ids to read: try again shortly, or send texts.") from exc
        if texts is None or not all(texts):
            raise InvalidField(f"The token ids in 'input' can't be turned into texts for '{model}': send texts.", param="input")
        return replace(plan, request=replace(request, fields={**request.fields, "input": texts}))

    async def _look_up(self, plan: Plan, keys: Mapping[str, None], journey: Journey) -> tuple[dict[str, Hit], Miss | None]:
        """What is stored, and why the first that isn't was not found; None if all is."""
        wish, hits, misses = journey.wish, dict[str, Hit](), dict[str, Miss]()
        for key in keys:
            near = look_near(self._tiers, replace(plan, key=key), journey)
            if isinstance(near, Hit):
                hits[key] = near
            else:
                misses[key] = Miss((near,))
        if misses and wish.read:
            looking, trace = self._look_far(hits, misses, wish), journey.trace
            await (looking if trace is None else trace.lookup(looking))
        return hits, next(iter(misses.values()), None)

    async def _look_far(self, hits: dict[str, Hit], misses: dict[str, Miss], wish: Wish) -> Hit | Miss:
        """Ask the farther tier for all that memory lacks; the first that it lacks as well, or one of those that it has."""
        found: Hit | Miss
        absent = list(misses)
        for start in range(0, len(absent), LOOKED_UP_AT_ONCE):
            asked = absent[start : start + LOOKED_UP_AT_ONCE]
            far = [self._tiers.look_far(key, wish, misses[key].steps[0]) for key in asked]
            for key, found in zip(asked, await asyncio.gather(*far), strict=True):
                if isinstance(found, Hit):
                    hits[key] = found
                    del misses[key]
                else:
                    misses[key] = found
        return next(iter(misses.values()), found)

    async def _ask(
        self, plan: Plan, missing: Mapping[str, Item], miss: Miss, journey: Journey, waiting: Callable[[Plan], Awaitable[None]]
    ) -> Found:
        """What is not stored, from a provider, or from those who are asking it already."""
        journey.outcome, journey.miss = "bypass" if journey.wish.bypass else "miss", miss
        if journey.wish.only_if_cached:
            raise NotCached("Not all of it is stored, and 'Cache-Control: only-if-cached' forbids to ask a provider.")
        check_others(plan, journey)
        await waiting(plan)
        await self._reserve(plan, missing, journey)
        under_way = {key: call for key in missing if (call := self._under_way(key, journey)) is not None}
        own = {key: item for key, item in missing.items() if key not in under_way}
        calls = list(dict.fromkeys(under_way.values()))
        if own:
            calls.append(self._launch(plan, own, journey))
        for call in calls:
            call.aboard += 1  # before anything is waited for: whoever leaves meanwhile must not end what is wanted here
        try:
            if not own:
                journey.outcome = "coalesced"
                await self._book(journey, 0)
            found: dict[str, Vector] = {}
            for call in calls:
                found |= await call.vectors()
        finally:
            calls[-1].tell(journey)
            for call in calls:
                call.leave()
        return found

    async def _reserve(self, plan: Plan, missing: Mapping[str, Item], journey: Journey) -> None:
        """Take what is not stored from the limits and budgets of who asks for it, where there are any."""
        grant = journey.grant
        if grant is None or not grant.reserves:
            return
        texts = [item for item in missing.values() if isinstance(item, str)]
        counted = await self._counter.count(texts, encoding=encoding_of(plan.route.targets[0].model) or ASSUMED)
        ids = sum(len(item) for item in missing.values() if not isinstance(item, str))
        most = ids + sum(map(bytes_of, texts))
        amount = 0 if self._costing is None else self._costing.of_input(plan, most)
        await grant.reserve(counted.tokens + ids, amount)

    async def _book(self, journey: Journey, tokens: int | None) -> None:
        """What was reserved has come to this; what nobody tells is as it was estimated."""
        grant = journey.grant
        if grant is not None and (reserved := grant.reserved) is not None:
            used = reserved if tokens is None else tokens
            await grant.settle(used, journey.cost)

    def _under_way(self, key: str, journey: Journey) -> "_Call | None":
        """The call that brings this item already, if this request may have what another asked for, and nothing was cleared."""
        call = self._calls.get(key) if shares(journey) else None
        joins = call is not None and call.aboard and not self._tiers.cleared_since(call.journey.epoch, journey.caller.space)
        return call if joins else None

    def _launch(self, plan: Plan, items: Mapping[str, Item], journey: Journey) -> "_Call":
        call = _Call(journey)
        call.task = asyncio.create_task(self._fetch(_for(plan, items), items, call.journey))
        call.task.add_done_callback(lambda task: self._landed(items, call, task))
        if shares(journey):
            self._calls |= dict.fromkeys(items, call)
        return call

    def _landed(self, items: Mapping[str, Item], call: "_Call", task: "asyncio.Task[Found]") -> None:
        if task.cancelled():  # nobody waits any more: what was sent is paid
            booking = asyncio.create_task(self._book(call.journey, None if call.journey.attempts else 0))
            self._booking.add(booking)
            booking.add_done_callback(self._booking.discard)
        else:
            task.exception()  # whoever still waits is told of it
        for key in items:
            if self._calls.get(key) is call:
                del self._calls[key]

    async def _fetch(self, plan: Plan, items: Mapping[str, Item], journey: Journey) -> Found:
        try:
            answered = await self._dispatch.embed(plan, journey)
        except (Exception, Unsent):  # a fault of ours as well: nothing came of what was reserved
            await self._book(journey, 0)
            raise
        found = vectors_of(list(items), list(items.values()), answered.vectors, journey.prompt_tokens)
        self._settlement.embedded(plan, journey, found)
        await self._book(journey, answered.tokens)
        return found


class _Call:
    """One upstream call for some items, and how many wait for it. Its `journey` is its own: it outlasts the first one's."""

    def __init__(self, journey: Journey) -> None:
        self.journey = replace(journey)
        self.task: asyncio.Task[Found]
        self.aboard = 0

    async def vectors(self) -> Found:
        """What it brings; raises the error of all who wait."""
        await asyncio.wait([self.task])
        error = self.task.exception()
        if error is not None:
            raise error.with_traceback(None)  # one error for many: each raise would lengthen its trace
        return self.task.result()

    def tell(self, journey: Journey) -> None:
        """Write down for one who waits how it went so far. The tokens are those of who asked."""
        own = self.journey
        journey.target, journey.kept = own.target, own.kept
        journey.upstream_started, journey.upstream_ended = own.upstream_started, own.upstream_ended
        if journey.outcome != "coalesced":
            journey.prompt_tokens, journey.attempts = own.prompt_tokens, own.attempts
            journey.cost, journey.basis = own.cost, own.basis

    def leave(self) -> None:
        """One waits no more; when the last one leaves, the upstream call is closed."""
        self.aboard -= 1
        if not self.aboard:
            self.task.cancel()


def _for(plan: Plan, items: Mapping[str, Item]) -> Plan:
    """The same, for these of its items alone."""
    request = plan.request
    return replace(plan, request=replace(request, fields=asked_for(request.fields, list(items.values()))))
