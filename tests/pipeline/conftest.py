"""The whole path over fakes."""

import asyncio
from collections.abc import Awaitable, Callable
from fractions import Fraction
from functools import partial
from typing import Any

import msgspec
import pytest

from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.bound import BoundRules
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.caching import TtlRules, Wish
from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.core.matching import Thresholds
from sentinel_gateway.core.pricing import Price, Pricing, Rates, yocto
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.routing import Directory, Route, Target
from sentinel_gateway.core.standing import StandingRules, Standings
from sentinel_gateway.core.tokens import Expected
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.calibration import Calibration
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.drains import Drains
from sentinel_gateway.pipeline.evidence import Evidence, Kept
from sentinel_gateway.pipeline.evidence_log import EvidenceLog
from sentinel_gateway.pipeline.fleet import Fleet
from sentinel_gateway.pipeline.handle import Live, Pipeline, Reply, Terms
from sentinel_gateway.pipeline.hedging import Accounts
from sentinel_gateway.pipeline.idempotency import Idempotency, IdempotencyLimits
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Estimate, Limiter
from sentinel_gateway.pipeline.plan import Decode, Plan, Planner
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.spending import Spending
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Embedder, IdempotencyStore, Provider, VectorIndex, World
from tests.fakes import (
    FakeBulletin,
    FakeClock,
    FakeEmbedder,
    FakeEvents,
    FakeEvidence,
    FakeFar,
    FakeIndex,
    FakeLearners,
    FakeNear,
    FakeProvider,
)

NEAR_TTL = 300.0
MAX_BYTES = 4096
ALIASES = {"both": Route((Target("first", "m"), Target("second", "n"))), "alias": Route((Target("first", "m"),))}
CALM = StandingRules(CircuitRules(failures=1_000_000), retry_budget=0.0, cool_down=0.0)
"""Nothing is asked of a target twice, and no target is passed over."""


class Path:
    """A pipeline whose world is fake. `said` are the payloads of the last stream. `far`, `semantic`: whether, or with which.

    `judged`: is evidence kept?
    """

    def __init__(
        self,
        *,
        far: bool | FakeFar = True,
        semantic: bool | VectorIndex = False,
        judged: bool = False,
        rules: TtlRules | None = None,
        decode: Decode | None = None,
        first: Provider | None = None,
        idempotency: IdempotencyStore | None = None,
        fleet: Fleet | None = None,
        bounds: BoundRules | None = None,
        stale_if_error: float = 0.0,
        estimate: Estimate | None = None,
        costing: Costing | None = None,
        standing: StandingRules = CALM,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        aliases: dict[str, Route] = ALIASES,
        embedder: Embedder | None = None,
    ) -> None:
        self.clock, self.events = FakeClock(), FakeEvents()
        self.near, self.far = FakeNear(), far if isinstance(far, FakeFar) else FakeFar()
        self.first, self.second = FakeProvider("first"), FakeProvider("second")
        self.chance = 0.0
        self.waited: list[Plan] = []
        self.said: list[bytes] = []
        self.index, self.embedder = FakeIndex(), FakeEmbedder()
        index = (self.index if semantic is True else semantic) or None
        self.bulletin = FakeBulletin()
        self.tiers = Tiers(
            self.near, self.far if far else None, index, bulletin=self.bulletin, near_ttl=NEAR_TTL, clock=self.clock
        )
        self.kept = FakeEvidence()
        self.prices: dict[str, int] = {}
        log = EvidenceLog(self.kept, self.clock, self.events)
        spending = Spending(self._price, self.clock)
        self.learned = FakeLearners()
        kept = Kept(log, Calibration(self.learned, self.clock, self.events))
        self.evidence = (
            Evidence(kept, self.tiers, self.embedder, spending, clock=self.clock, chance=self._draw) if judged else None
        )
        limits = Thresholds(usual=0.95, least=0.7)
        means = (index, embedder or self.embedder, self.tiers, limits, self.evidence)
        self.semantic = Semantic(*means, events=self.events) if index else None
        self._fleet = fleet
        self.slept: list[float] = []
        world = World(self.clock, sleep or self._sleep, self._draw, self.events)
        self.circuits = Circuits(Standings(standing), self.bulletin, world)
        self.drains = Drains(world)
        self._aliases = aliases
        self._stale_if_error = stale_if_error
        self._estimate, self._costing = estimate, costing
        self._bounds = bounds or BoundRules()
        self._providers: dict[str, Provider] = {"first": first or self.first, "second": self.second}
        self._idempotency = Idempotency(idempotency, IdempotencyLimits(), self.clock) if idempotency else None
        self.pipeline = self._wire(rules or TtlRules(), decode or partial(read_request, max_depth=64))

    def _wire(self, rules: TtlRules, decode: Decode) -> Pipeline:
        providers = self._providers
        directory = Directory(aliases=self._aliases, providers=tuple(providers), catalogues={}, known={})
        self.dispatch = Dispatch(providers, self.circuits, RetryRules(), Accounts(self._price, self.clock))
        self.settlement = Settlement(
            self.tiers, rules, max_bytes=MAX_BYTES, clock=self.clock, chance=self._draw, evidence=self.evidence
        )
        return Pipeline(
            terms=Terms(
                Admission(Capacity(8, 0, 0.0), self._draw),
                self._idempotency,
                self._estimate,
                self._costing,
                fleet=self._fleet,
                bounds=self._bounds,
                stale_if_error=self._stale_if_error,
                drains=self.drains,
            ),
            planner=Planner("chat", decode, lambda: directory),
            tiers=self.tiers,
            semantic=self.semantic,
            dispatch=self.dispatch,
            settlement=self.settlement,
        )

    def _price(self, target: str) -> Pricing:
        """In dollars a million tokens, by `prices`; anything else is free."""
        rate = yocto(Fraction(self.prices.get(target, 0)))
        return Price(Rates.of({"input": rate, "output": rate}))

    def _draw(self) -> float:
        return self.chance

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.now += seconds

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

    def _hear(self, payloads: list[bytes]) -> bool:
        self.said += payloads
        return True

    async def read(self, live: Live, journey: Journey) -> None:
        self.said = []
        try:
            assert not await live.reader().pipe(self._hear)
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


class Party(msgspec.Struct, frozen=True):
    """Who asks where there are limits."""

    id: str = "key_1"
    tenant: str = "acme"
    limits: Limits = Limits(tokens_per_minute=100)
    user_limits: Limits = Limits()
    budget: Budget = Budget()


class FakeTokens(msgspec.Struct, frozen=True):
    """What a request may cost. `told`: what has to be waited for before that is known; `most`, where nobody need count."""

    expected: Expected
    told: asyncio.Event | None = None
    most: Expected = Expected(10**9, 10**9)

    def counted(self) -> Expected | Awaitable[Expected]:
        return self.expected if self.told is None else self._waited(self.told)

    async def _waited(self, told: asyncio.Event) -> Expected:
        await told.wait()
        return self.expected


def told() -> asyncio.Event:
    """Nothing to wait for but a turn of the loop."""
    event = asyncio.Event()
    event.set()
    return event


async def tokens_left(limiter: Limiter) -> int:
    """Of the limit of a `Party`."""
    grant = limiter.grant(Party())
    await grant.enter(model="m")
    tokens = grant.standings()[1]
    assert tokens is not None
    return tokens.remaining
