"""The way into the pipeline that its endpoints share: who comes in, in which order. How they answer is their own."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import ClassVar, Final

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.api.exchange import Exchange, Sender
from sentinel_gateway.api.wire.cache_headers import ASKING, PRIVATE, explain_header, hit_headers, miss_headers, read_wish
from sentinel_gateway.api.wire.cost_headers import cost_headers, saved_headers
from sentinel_gateway.core.access import KeyScope, require_scope
from sentinel_gateway.core.idempotency import read_key
from sentinel_gateway.core.via import MOST_HOPS, gateways, written
from sentinel_gateway.errors import InvalidHeader, LoopDetected, MethodNotAllowed
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Grant, Limiter
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.reply import Cached, Live, Repeated, Whole
from sentinel_gateway.ports import Clock

SLOW_BODY: Final = 0.5
"""Seconds until a body is here and has its place, after which the caller's key is looked at again."""
HEEDED: Final = ASKING | {b"via", b"idempotency-key"}
"""Headers that say how a request is to be taken: one look tells that most have none of them."""
REPLAYED: Final = PRIVATE + Lines(b"idempotent-replayed: true\r\n")
"""No word of the cache: it was not asked."""


class Post(ABC):
    """One POST that takes a place and a share of limits. `via` is what this gateway is called where it asks others.

    One instance serves all requests of a wiring.
    """

    route: ClassVar[str]
    takes: ClassVar[str]
    """What is to be sent, as messages say it."""
    scope: ClassVar[KeyScope] = "inference"
    """What a caller's key must have."""

    def __init__(self, admission: Admission, limiter: Limiter, *, via: str, clock: Clock) -> None:
        self._admission = admission
        self._limiter = limiter
        self._via = via
        self._clock = clock

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.route}>"

    def handle(self, exchange: Exchange) -> Awaitable[None]:
        """Have one request answered; raises `RequestError`s."""
        headers, journey = exchange.headers, exchange.journey
        require_scope(journey.caller, self.scope)
        if exchange.method != "POST":
            raise MethodNotAllowed(f"{exchange.method[:20]} is not allowed: POST {self.takes}.", allowed=("POST",))
        if not HEEDED.isdisjoint(headers):
            self._heed(headers, journey)
        self._admission.check()
        grant = journey.grant = self._limiter.grant(journey.caller.party)
        return self._answer(exchange, journey) if grant is None else self._answer_within(grant, exchange, journey)

    async def _answer_within(self, grant: Grant, exchange: Exchange, journey: Journey) -> None:
        grant.check()
        try:
            await self._answer(exchange, journey)
        finally:
            await grant.leave()

    def _heed(self, headers: Mapping[bytes, bytes], journey: Journey) -> None:
        if (via := headers.get(b"via")) is not None:
            journey.through = self._through(via)
        journey.wish = read_wish(headers)
        if (sent := headers.get(b"idempotency-key")) is not None:
            journey.idempotency_key = _read_idempotency_key(sent)

    def _through(self, via: bytes) -> str:
        """The gateways that it has come through; raises `LoopDetected`."""
        names = gateways(via.decode("latin-1"))
        if self._via in names:
            raise LoopDetected("This request has passed through this gateway before: a provider's base URL leads back to it.")
        if len(names) >= MOST_HOPS:
            sentence = f"This request has come through {len(names)} gateways: a provider's base URL leads back to one of them."
            raise LoopDetected(sentence)
        return written(names)

    @abstractmethod
    async def _answer(self, exchange: Exchange, journey: Journey) -> None:
        """Read the body, take a place, and answer."""

    def _wait(self, exchange: Exchange, plan: Plan) -> Awaitable[None]:  # noqa: ARG002 - what was planned matters to streams
        """The answer may take long: notice a caller that leaves."""
        return exchange.cancel_when_gone()

    def _hit_headers(self, journey: Journey, reply: Cached, now: float) -> Lines:
        return self._stored_headers(journey, reply, now) + saved_headers(reply.hit.entry)

    def _stored_headers(self, journey: Journey, reply: Cached, now: float) -> Lines:
        headers = hit_headers(reply.hit, now)
        if journey.wish.explain:
            headers += Lines.of([explain_header(journey, reply.plan.key, reply.hit, now)])
        return headers

    def _whole_headers(self, journey: Journey, plan: Plan) -> Lines:
        """Of an answer that a provider has given: what it has cost is known."""
        return self._miss_headers(journey, plan) + cost_headers(journey)

    def _miss_headers(self, journey: Journey, plan: Plan) -> Lines:
        headers = miss_headers(journey)
        if journey.wish.explain:
            headers += Lines.of([explain_header(journey, plan.key, None, self._clock())])
        return headers


class Endpoint(Post):
    """One that the pipeline answers."""

    def __init__(self, pipeline: Pipeline, limiter: Limiter, *, via: str, clock: Clock) -> None:
        super().__init__(pipeline.admission, limiter, via=via, clock=clock)
        self._pipeline = pipeline

    async def _answer(self, exchange: Exchange, journey: Journey) -> None:
        waiting = partial(self._wait, exchange)
        body = await exchange.caller.body()
        async with self._admission:
            if self._clock() - journey.at > SLOW_BODY:
                exchange.enter()
            reply = await self._pipeline.handle(body, journey, waiting=waiting)
            if not isinstance(reply, Cached):
                await self._send(reply, journey, exchange.sender)
                return
        await self._send_cached(reply, journey, exchange.sender)  # who reads it slowly keeps no place from others
        self._served(exchange, reply)

    @abstractmethod
    def _send(self, reply: Whole | Live | Repeated, journey: Journey, sender: Sender) -> Awaitable[None]:
        """Pass on what a provider says."""

    @abstractmethod
    async def _send_cached(self, reply: Cached, journey: Journey, sender: Sender) -> None:
        """Pass on what is stored."""

    def _served(self, exchange: Exchange, reply: Cached) -> None:
        """What is stored was passed on."""


def _read_idempotency_key(sent: bytes) -> str:
    key = read_key(sent.decode("latin-1"))
    if key is None:
        sentence = "An Idempotency-Key has 1 to 255 visible ASCII characters, without quotes and backslashes among them."
        raise InvalidHeader(sentence, param="idempotency-key")
    return key
