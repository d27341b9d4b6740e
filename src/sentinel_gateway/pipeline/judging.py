"""Comparing two answers, beside the path: by rules, by the embedder, and where those can't tell by a model, if one is named."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from uuid import uuid4

from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.core.judging import REPLY_TOKENS, SHOWN, Case, agreement, brief, equal, lead, verdict
from sentinel_gateway.core.matching import SAME
from sentinel_gateway.core.routing import Directory, NoRoute, resolve
from sentinel_gateway.errors import EmbedderDown, UpstreamError
from sentinel_gateway.pipeline.aside import AT_ONCE, Aside
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.spending import Spending
from sentinel_gateway.ports import Clock, Embedder

ROUTE: Final = "judge"
BRIEF_TOKENS: Final = 150
"""Of the instruction; the texts come on top, at four characters a token."""

Ask = Callable[[Case], Awaitable[bool | None]]
"""Do the two answers say the same? None if it can't be told, or not now."""


class Judge:
    """The first two judges, whose rules are asked `aside`; `ask` is the third, if there is one. An error is an open case."""

    def __init__(self, embedder: Embedder, ask: Ask | None, aside: Aside = AT_ONCE) -> None:
        self._embedder = embedder
        self._ask = ask
        self._aside = aside

    def __repr__(self) -> str:
        return f"<Judge {self._embedder!r} then {self._ask!r}>"

    async def compare(self, case: Case) -> bool | None:
        """Do the two answers say the same? None if nobody can tell."""
        told = await self.agree(case)
        return await self._ask(case) if told is None and self._ask is not None else told

    async def agree(self, case: Case) -> bool | None:
        """The same by texts and meanings alone: it costs no money."""
        if await self._aside(partial(equal, case.fresh, case.stored)):
            return True
        return await self._by_meaning(lead(case.fresh), lead(case.stored))

    async def _by_meaning(self, fresh: str, stored: str) -> bool | None:
        cosine = SAME if fresh == stored else await self._cosine(fresh, stored)
        return None if cosine is None else await self._aside(partial(agreement, fresh, stored, cosine))

    async def _cosine(self, fresh: str, stored: str) -> float | None:
        try:
            one, other = await self._embedder.embed([fresh, stored])
        except EmbedderDown:
            return None
        return None if one is None or other is None else float(one @ other)


class ModelJudge:
    """The third: a model, by the name under which a client would ask for it, through our own dispatch and within the budget."""

    def __init__(
        self, model: str, directory: Callable[[], Directory], dispatch: Dispatch, spending: Spending, clock: Clock
    ) -> None:
        self._model = model
        self._directory = directory
        self._dispatch = dispatch
        self._spending = spending
        self._clock = clock

    def __repr__(self) -> str:
        return f"<ModelJudge {self._model}>"

    async def __call__(self, case: Case) -> bool | None:
        route = resolve(self._model, self._directory())
        if isinstance(route, NoRoute):
            return None
        length = sum(len(text[:SHOWN]) for text in (case.question, case.fresh, case.stored))
        if not self._spending.allows(str(route.targets[0]), BRIEF_TOKENS + length // 4, REPLY_TOKENS):
            return None
        journey = Journey(route=ROUTE, method="", request_id="", sentinel_id=uuid4().hex, at=self._clock(), model=self._model)
        fields = brief(case, self._model)
        try:
            completion = await self._dispatch.complete(Plan(ChatRequest(fields, self._model), route, ""), journey)
        except UpstreamError:
            return None
        if (usage := completion.answer.usage) is not None:
            self._spending.note(journey.target, usage, extra=True)
        return verdict(completion.answer)
