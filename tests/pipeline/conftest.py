"""The whole path over fakes."""

from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
import pytest

from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.caching import TtlRules, Wish
from sentinel_gateway.core.matching import Thresholds
from sentinel_gateway.core.routing import Directory, Target
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.handle import Live, Pipeline, Reply, Terms
from sentinel_gateway.pipeline.idempotency import Idempotency, IdempotencyLimits
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Decode, Plan, Planner
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import IdempotencyStore, Provider
from tests.fakes import FakeClock, FakeEmbedder, FakeEvents, FakeFar, FakeIndex, FakeNear, FakeProvider

NEAR_TTL = 300.0
MAX_BYTES = 4096
ALIASES = {"both": (Target("first", "m"), Target("second", "n")), "alias": (Target("first", "m"),)}


class Path:
    """A pipeline whose world is fake. `said` are the payloads of the last stream."""

    def __init__(
        self,
        *,
        far: bool = True,
        semantic: bool = False,
        rules: TtlRules | None = None,
        decode: Decode | None = None,
        first: Provider | None = None,
        idempotency: IdempotencyStore | None = None,
    ) -> None:
        self.clock, self.events = FakeClock(), FakeEvents()
        self.near, self.far = FakeNear(), FakeFar()
        self.first, self.second = FakeProvider("first"), FakeProvider("second")
        self.chance = 0.0
        self.waited: list[Plan] = []
        self.said: list[bytes] = []
        self.index, self.embedder = FakeIndex(), FakeEmbedder()
        index = self.index if semantic else None
        self.tiers = Tiers(self.near, self.far if far else None, index, near_ttl=NEAR_TTL, clock=self.clock)
        self.semantic = Semantic(self.index, self.embedder, self.tiers, Thresholds(usual=0.95, least=0.7)) if semantic else None
        self._providers: dict[str, Provider] = {"first": first or self.first, "second": self.second}
        self._idempotency = Idempotency(idempotency, IdempotencyLimits(), self.clock) if idempotency else None
        self.pipeline = self._wire(rules or TtlRules(), decode or partial(read_request, max_depth=64))

    def _wire(self, rules: TtlRules, decode: Decode) -> Pipeline:
        providers = self._providers
        directory = Directory(aliases=ALIASES, providers=tuple(providers), catalogues={}, known={})
        return Pipeline(
            terms=Terms(Admission(Capacity(8, 0, 0.0), self._draw), self._idempotency),
            planner=Planner("chat", decode, lambda: directory),
            tiers=self.tiers,
            semantic=self.semantic,
            dispatch=Dispatch(providers, self.clock, self.events),
            settlement=Settlement(self.tiers, rules, max_bytes=MAX_BYTES, clock=self.clock, chance=self._draw),
        )

    def _draw(self) -> float:
        return self.chance

    @property
    def calls(self) -> int:
        """How often a provider was asked."""
        return len(self.first.calls) + len(self.second.calls)

    def journey(self, *, tenant: str = "", **wish: Any) -> Journey:
        journey = Journey(
            route="/v1/chat/completions", method="POST", request_id="r", sentinel_id="s", at=self.clock(), client="c"
        )
        journey.tenant, journey.wish = tenant, Wish(**wish)
        return journey

    async def _wait(self, plan: Plan) -> None:
        self.waited.append(plan)

    async def handle(self, body: dict[str, Any], journey: Journey) -> Reply:
        """The reply as the inward side gets it: a live one is still to be read and closed."""
        return await self.pipeline.handle(msgspec.json.encode(body), journey, waiting=self._wait)

    async def ask(self, body: dict[str, Any], journey: Journey | None = None) -> tuple[Reply, Journey]:
        """The reply, a live one read to its end, and what the request met."""
        journey = journey or self.journey()
        reply = await self.handle(body, journey)
        if isinstance(reply, Live):
            await self.read(reply, journey)
        return reply, journey

    async def read(self, live: Live, journey: Journey) -> None:
        self.said = []
        try:
            async with aclosing(live.payloads()) as batches:
                async for payloads in batches:
                    self.said += payloads
        finally:
            await self.pipeline.close(live, journey)


@pytest.fixture
def path() -> Path:
    return Path()


@pytest.fixture
def make_path() -> Callable[..., Path]:
    return Path


def question(text: str = "Capital of France?", /, model: str = "first/m", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}
