"""`POST /v1/predict`, seed 001's face: a program, a model and an input go in, what the program puts out comes back.

Errors are problem documents.
"""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final

import msgspec

from sentinel_gateway.api.endpoint import REPLAYED, SLOW_BODY, Endpoint
from sentinel_gateway.api.exchange import SANE_ID, Exchange, Sender
from sentinel_gateway.api.wire.predict import Glance, Metadata, PredictAnswer, glance, timestamp
from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.record import Record
from sentinel_gateway.core.streaming import stored_fields
from sentinel_gateway.errors import RouteNotFound
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.reply import Cached, Live, Repeated, Whole
from sentinel_gateway.ports import Clock, Prediction, Programs

PATHS: Final = frozenset({"/v1/predict", "/v1/predict/"})
BELOW: Final = "/v1/predict/"

Track = Callable[[Record, Clock], AbstractContextManager[None]]
"""Counts what comes of a prediction within a block, by what its record says in the end."""

_encode = msgspec.json.Encoder().encode


def is_predict(path: str) -> bool:
    """Does this path belong to the predict face?"""
    return path in PATHS or path.startswith(BELOW)


class Predict(Endpoint):
    """The endpoint, and the only one of its face. A request's route names its program as well: money is told by both."""

    route = "/v1/predict"
    takes = "a prediction"

    def __init__(self, pipeline: Pipeline, programs: Programs, limiter: Limiter, track: Track, *, via: str, clock: Clock) -> None:
        super().__init__(pipeline, limiter, via=via, clock=clock)
        self._programs = programs
        self._track = track

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request to any path of this face."""
        if exchange.path not in PATHS:
            raise RouteNotFound(f"Unknown path '{exchange.path[:200]}'. Served here: POST /v1/predict.")
        exchange.journey.route = self.route
        await self.handle(exchange)

    async def _answer(self, exchange: Exchange, journey: Journey) -> None:
        body = await exchange.caller.body()
        self._look(glance(body), exchange, journey)
        with self._track(journey, self._clock):
            async with self._admission:
                if self._clock() - journey.at > SLOW_BODY:
                    exchange.enter()
                await self._programs.load()
                reply = await self._pipeline.handle(body, journey, waiting=partial(self._wait, exchange))
        if isinstance(reply, Cached):
            await self._send_cached(reply, journey, exchange.sender)
        else:
            await self._send(reply, journey, exchange.sender)

    def _look(self, seen: Glance, exchange: Exchange, journey: Journey) -> None:
        """What the body says of its request: which it is, for which program, and whether a stored answer will do."""
        if seen.variant in self._programs.names:
            journey.route = f"{self.route}/{seen.variant}"
        if not seen.use_cache:
            journey.wish = msgspec.structs.replace(journey.wish, read=False, write=False, bypass=True)
        if SANE_ID.fullmatch(seen.request_id.encode()):
            journey.request_id = seen.request_id
        elif b"x-request-id" not in exchange.headers:
            journey.request_id = str(uuid.UUID(journey.sentinel_id, version=4))

    async def _send(self, reply: Whole | Live | Repeated, journey: Journey, sender: Sender) -> None:
        if isinstance(reply, Live):
            raise TypeError("a prediction is never streamed")
        headers = self._whole_headers(journey, reply.plan) if isinstance(reply, Whole) else REPLAYED
        await sender.whole(200, self._body(journey, reply.plan, reply.completion.answer.fields), headers)

    async def _send_cached(self, reply: Cached, journey: Journey, sender: Sender) -> None:
        body = self._body(journey, reply.plan, stored_fields(reply.hit.entry.body), level=reply.hit.tier)
        await sender.whole(200, body, self._hit_headers(journey, reply, self._clock()))

    def _body(self, journey: Journey, plan: Plan, answer: Fields, *, level: str | None = None) -> bytes:
        """What is stored has used no tokens, nor has what was answered before."""
        request, now, stored = plan.request, self._clock(), level is not None
        if not isinstance(request, Prediction):
            raise TypeError(f"no program answers {request!r}")
        metadata = Metadata(
            latency_ms=round(1000 * (now - journey.at)),
            cached=stored,
            cache_level=level,
            input_tokens=0 if stored else journey.prompt_tokens,
            output_tokens=0 if stored else journey.completion_tokens,
            cost_usd=journey.cost / NANO_PER_USD,
            timestamp=timestamp(now),
        )
        called = request.request_id or journey.request_id
        return _encode(PredictAnswer(called, request.model, request.program.name, answer["output"], metadata))
