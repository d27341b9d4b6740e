"""X1: the real path - router, breaker, retries, recovery, flights, limits, budgets, ledger - in changing weather.

    python -m tests.simulation.simulator --seeds 10000

A seed decides everything: when callers come, what they ask of which name, when they leave, and how each provider does. What the
providers saw is the oracle. What must hold whatever happens stands in `outcome.py`; a seed that breaks it breaks it again.
"""

import argparse
import asyncio
import sys
from collections import deque
from collections.abc import Awaitable
from functools import partial
from random import Random
from typing import Any, Final

import msgspec

from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.budgets import NO_BUDGET
from sentinel_gateway.core.caching import TtlRules, Wish
from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.core.circuit import PROBE_SECONDS
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.routing import Conduct, Directory, Hedge, Route, Target
from sentinel_gateway.core.standing import StandingRules, Standings
from sentinel_gateway.core.tokens import Expected, about
from sentinel_gateway.errors import (
    RequestError,
    UpstreamBroken,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.drains import Drains
from sentinel_gateway.pipeline.handle import Live, Pipeline, Terms
from sentinel_gateway.pipeline.hedging import Accounts
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Limiter, LimitRules
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import UpstreamCall, World
from tests.fakes import FakeBulletin, FakeNear, completion, spoken
from tests.simulation.clients import CLIENTS, FREE, Client, Counted
from tests.simulation.loop import run
from tests.simulation.money import INPUT, OUTPUT, costing, price
from tests.simulation.outcome import FIRST_BYTE, Outcome, Seen, Told, faults

MINUTES: Final = 5
CALLERS: Final = 30
NAMES: Final = ("a", "b", "c")
WEATHER: Final = ("well", "well", "down", "brown", "slow", "limited", "refusing", "breaking")
ROUTES: Final = {
    "alone": Route((Target("a", "m"),)),
    "both": Route((Target("a", "m"), Target("b", "m"))),
    "spread": Route((Target("a", "m"), Target("b", "m"), Target("c", "m")), "weighted", (3.0, 1.0, 1.0), sticky=True),
    "quick": Route((Target("b", "m"), Target("c", "m")), "least_latency"),
    "idle": Route((Target("c", "m"), Target("a", "m")), "least_busy"),
    "hedged": Route((Target("a", "m"), Target("b", "m"), Target("c", "m")), conduct=Conduct(hedge=Hedge(1.0, 1.0))),
    "drained": Route((Target("b", "m"), Target("a", "m")), conduct=Conduct(total=50.0, drain=True)),
    "careful": Route((Target("a", "m"), Target("b", "m")), conduct=Conduct(careful=frozenset({Target("a", "m")}))),
}


class SimulatedStream:
    """Says a text in a few pieces, unless it breaks off: with an error, or without a word."""

    def __init__(self, chunks: list[list[Chunk]], pauses: list[float], error: Exception | None = None, *, whole: bool) -> None:
        self._steps = deque(zip(pauses, chunks, strict=True))
        self._error = error
        self._whole = whole
        self.finished = False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._steps:
            await asyncio.sleep(self._steps[0][0])  # cancelled, it loses nothing
            return self._steps.popleft()[1]
        if self._error is not None:
            raise self._error
        self.finished = self._whole
        raise StopAsyncIteration

    async def pipe(self, into):
        while into(await self.__anext__()):
            pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


class SimulatedProvider:
    """Does as its weather is, which changes once a minute."""

    def __init__(self, name: str, random: Random, seen: list[Seen]) -> None:
        self.name = name
        self._random = random
        self._seen = seen
        self.weather = [random.choice(WEATHER) for _ in range(MINUTES)]

    def _now(self) -> str:
        minute = int(asyncio.get_running_loop().time() // 60)
        return self.weather[minute] if minute < len(self.weather) else "well"

    async def _take(self, call: UpstreamCall) -> tuple[str, str]:
        """Wait as long as it takes; raises what it fails with. The weather, and the text of the answer."""
        loop, random, weather = asyncio.get_running_loop(), self._random, self._now()
        self._seen.append(Seen(call.sentinel_id, f"{self.name}/{call.model}", loop.time()))
        latency = random.uniform(0.05, 2.0) if weather != "slow" else random.uniform(5.0, 2 * FIRST_BYTE)
        await asyncio.sleep(min(latency, FIRST_BYTE))
        if latency >= FIRST_BYTE:
            raise UpstreamTimeout("late")
        if weather == "down" or (weather == "brown" and random.random() < 0.4):
            raise random.choice([UpstreamBroken("503", retry_after=random.choice([None, 2.0])), UpstreamUnreachable("gone")])
        if weather == "limited" and random.random() < 0.7:
            raise UpstreamLimited("429", retry_after=random.choice([None, 1.0, 10.0, 90.0]))
        if weather == "refusing":
            raise UpstreamUnauthorized("401")
        if random.random() < 0.02:
            raise UpstreamRefused("400", upstream_status=random.choice([400, 404]))
        return weather, call.fields["messages"][0]["content"]

    async def complete(self, call: UpstreamCall):
        _, text = await self._take(call)
        return completion(text)

    async def open_stream(self, call: UpstreamCall):
        weather, text = await self._take(call)
        chunks = list(spoken(*text.split("-")))
        pauses = [self._random.uniform(0.0, 1.0) for _ in chunks]
        if weather != "breaking":
            return SimulatedStream(chunks, pauses, whole=True)
        kept = self._random.randrange(len(chunks) - 1)
        error = UpstreamTimeout("silent") if self._random.random() < 0.5 else None
        return SimulatedStream(chunks[:kept], pauses[:kept], error, whole=False)

    async def list_models(self):
        return frozenset()


class SimulatedTokens(msgspec.Struct, frozen=True):
    """Counted at once, or after a turn of the loop."""

    expected: Expected
    most: Expected
    at_once: bool

    def counted(self) -> Expected | Awaitable[Expected]:
        return self.expected if self.at_once else self._waited()

    async def _waited(self) -> Expected:
        await asyncio.sleep(0)
        return self.expected


class Simulation:
    """One seed's world."""

    def __init__(self, seed: int, rules: RetryRules) -> None:
        self.random = Random(seed)
        self.outcome = Outcome()
        loop = asyncio.get_running_loop()
        world = World(loop.time, asyncio.sleep, self.random.random, self.outcome.events, self.outcome.books)
        self.counting = Random(f"{seed}tokens")
        self.providers = {name: SimulatedProvider(name, Random(f"{seed}{name}"), self.outcome.seen) for name in NAMES}
        bulletin = FakeBulletin()
        self.circuits = Circuits(Standings(StandingRules()), bulletin, world)
        self.circuits.standings.use(StandingRules(), [f"{name}/m" for name in NAMES])
        directory = Directory(ROUTES, NAMES, {}, {})
        self.limits = Counted(clock=loop.time)
        self.limiter = Limiter(self.limits, rules=LimitRules(), clock=loop.time, chance=self.random.random)
        tiers = Tiers(FakeNear(), None, bulletin=bulletin, near_ttl=30.0, clock=loop.time)
        self.drains = Drains(world)
        self.drains.most = 3
        admission = Admission(Capacity(1000, 0, 0.0), self.random.random)
        self.pipeline = Pipeline(
            terms=Terms(admission, estimate=self._estimate, costing=costing(), drains=self.drains),
            planner=Planner("chat", partial(read_request, max_depth=64), lambda: directory),
            tiers=tiers,
            semantic=None,
            dispatch=Dispatch(self.providers, self.circuits, rules, Accounts(price, loop.time)),
            settlement=Settlement(tiers, TtlRules(30.0), max_bytes=4096, clock=loop.time, chance=self.random.random),
        )
        note = self.outcome.events.note

        def noted(event: str, **fields: Any) -> None:
            if event.startswith("circuit_"):
                self.outcome.turns.append((loop.time(), fields["target"], event == "circuit_opened"))
            note(event, **fields)

        self.outcome.events.note = noted

    def _estimate(self, plan: Plan) -> SimulatedTokens:
        request = plan.request
        most = Expected(INPUT + request.choices * (request.token_limit or 0), INPUT)
        return SimulatedTokens(Expected(about(request.fields), INPUT), most, self.counting.random() < 0.5)

    async def play(self) -> Outcome:
        """All callers, then the time after it: everybody is well again, and so must be what we think of them."""
        callers = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]
        await asyncio.gather(*callers)
        await asyncio.sleep(max(0.0, 60.0 * MINUTES - asyncio.get_running_loop().time()) + 61.0)
        for name in NAMES:
            for number in range(6):
                told = Told(f"well-{name}-{number}")
                await self._ask(told, FREE, f"{name}/m", stream=False, patience=None, number=f"{name}{number}")
                self.outcome.healed.append(told.ending)
                await asyncio.sleep(PROBE_SECONDS)
        standings = [standing for _, standing in self.circuits.standings.all()]
        self.outcome.busy = sum(standing.busy for standing in standings)
        self.outcome.net, self.outcome.crowd = self.limits.net, self.limits.crowd
        self.outcome.held, self.outcome.overrun = self.limits.held, self.limits.overrun
        self.outcome.stuck = [name for name, state in self.circuits.states().items() if state != "closed"]
        await self.circuits.close()
        await self.drains.close()
        return self.outcome

    async def _call(self, number: int) -> None:
        random = self.random
        at, model, stream = random.uniform(0.0, 60.0 * MINUTES), random.choice(list(ROUTES)), random.random() < 0.5
        text = f"question-{random.randrange(12) if random.random() < 0.4 else number + 100}"
        patience = random.uniform(0.0, 5.0) if random.random() < 0.15 else None
        client, buffered = random.choice(CLIENTS), stream and random.random() < 0.4
        if client.budget is not NO_BUDGET:  # a crowd, for whom it is not enough
            at -= at % 150.0
        await asyncio.sleep(at)
        told = Told(text, buffered=buffered)
        self.outcome.told.append(told)
        await self._ask(told, client, model, stream=stream, patience=patience, number=str(number))

    async def _ask(self, told: Told, client: Client, model: str, *, stream: bool, patience: float | None, number: str) -> None:
        loop = asyncio.get_running_loop()
        journey = Journey(route="/", method="POST", request_id="r", sentinel_id=number, at=loop.time(), client="c")
        journey.wish = Wish(buffered=told.buffered)
        grant = journey.grant = self.limiter.grant(client)
        told.number, told.model, told.counted = number, model, client.budget is NO_BUDGET
        try:
            if grant is not None:
                grant.check()
            async with asyncio.timeout(patience):
                bounds = {} if told.counted else {"max_tokens": OUTPUT}
                body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": told.asked}], **bounds}
                told.text = await self._answer(told, body, journey)
            told.ending = "answer"
        except RequestError as error:
            told.ending = type(error).__name__
        except TimeoutError:
            told.ending = "left"
        finally:
            if grant is not None:
                await grant.leave()
            told.tokens, told.shared = journey.prompt_tokens + journey.completion_tokens, journey.outcome != "miss"
            told.cost = journey.cost

    async def _answer(self, told: Told, body: dict[str, Any], journey: Journey) -> str:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            reply = await self.pipeline.handle(msgspec.json.encode(body), journey, waiting=_nothing)
        finally:
            told.opened_after = loop.time() - started
        if not isinstance(reply, Live):
            raw = b"{" + reply.hit.entry.body.lstrip(b"{") if hasattr(reply, "hit") else reply.completion.raw
            return msgspec.json.decode(raw)["choices"][0]["message"]["content"]

        def hear(payloads: list[bytes]) -> bool:
            for payload in payloads:
                for choice in msgspec.json.decode(payload)["choices"]:
                    told.heard += choice["delta"].get("content") or ""
            return True

        try:
            await reply.reader().pipe(hear)
        finally:
            await self.pipeline.close(reply, journey)
        return told.heard


async def _nothing(_: object) -> None:
    pass


def simulate(seed: int, rules: RetryRules | None = None) -> Outcome:
    """One run, on a loop of its own."""

    async def main() -> Outcome:
        return await Simulation(seed, rules or RetryRules()).play()

    return run(main())


def main() -> None:
    """Run many seeds; print those that break something, and exit 1 if any does."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    broken = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if found := faults(simulate(seed)):
            broken += 1
            print(f"seed {seed}: {'; '.join(found)}", flush=True)
    print(f"{arguments.seeds} seeds, {broken} broken")
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()
