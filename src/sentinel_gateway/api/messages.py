"""`POST /v1/messages` and `POST /v1/messages/count_tokens`, in Anthropic's dialect."""

import re
from collections.abc import Awaitable, Mapping
from typing import Final

import msgspec

from sentinel_gateway.api.endpoint import SLOW_BODY, Post
from sentinel_gateway.api.exchange import Exchange
from sentinel_gateway.api.models import VERSION
from sentinel_gateway.api.streaming import StreamingEndpoint
from sentinel_gateway.api.wire.anthropic_answer import message_body
from sentinel_gateway.api.wire.anthropic_stream import MessageEvents
from sentinel_gateway.api.wire.cache_headers import PRIVATE
from sentinel_gateway.core.chat import USUAL, VERSIONS, ChatRequest
from sentinel_gateway.core.tokens import Expected
from sentinel_gateway.errors import InvalidHeader
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Estimate, Limiter
from sentinel_gateway.pipeline.plan import Planner
from sentinel_gateway.pipeline.understand import enter, understand
from sentinel_gateway.ports import Clock

BETA: Final = b"anthropic-beta"
_SANE_BETAS: Final = re.compile(r"[\w.:-]{1,100}(?:,[\w.:-]{1,100}){0,63}", re.ASCII)


class Messages(StreamingEndpoint):
    """The endpoint that answers."""

    route = "/v1/messages"
    takes = "a request for a message"

    def handle(self, exchange: Exchange) -> Awaitable[None]:
        """As every endpoint; what the caller's headers say goes with the request to a provider of its dialect."""
        exchange.journey.version = _read_version(exchange.headers)
        if (betas := exchange.headers.get(BETA)) is not None:
            exchange.journey.betas = _read_betas(betas)
        return super().handle(exchange)

    def _written(self, completion: bytes, request: ChatRequest) -> bytes:
        return message_body(msgspec.json.decode(completion), request)

    def _voice(self, request: ChatRequest) -> MessageEvents:
        return MessageEvents(request)


class TokenCounts(Post):
    """The endpoint that counts what a request would send. No provider is asked; it costs its caller a request.

    `estimate` counts: a request that sets no limit costs its input.
    """

    route = "/v1/messages/count_tokens"
    takes = "what is to be counted"

    def __init__(
        self, planner: Planner, estimate: Estimate, admission: Admission, limiter: Limiter, *, via: str, clock: Clock
    ) -> None:
        super().__init__(admission, limiter, via=via, clock=clock)
        self._planner = planner
        self._estimate = estimate

    def handle(self, exchange: Exchange) -> Awaitable[None]:
        """As every endpoint, in the versions that there are."""
        _read_version(exchange.headers)
        return super().handle(exchange)

    async def _answer(self, exchange: Exchange, journey: Journey) -> None:
        body = await exchange.caller.body()
        async with self._admission:
            if self._clock() - journey.at > SLOW_BODY:
                exchange.enter()
            plan = await understand(self._planner, body, journey)
            await enter(plan, journey, place=False)
            await self._wait(exchange, plan)
            expected = self._estimate(plan).counted()
            if not isinstance(expected, Expected):
                expected = await expected
        await exchange.sender.whole(200, b'{"input_tokens":%d}' % expected.tokens, PRIVATE)


def _read_version(headers: Mapping[bytes, bytes]) -> str:
    """The version of the API; empty if it is the usual one. An answer in another than its caller can read would help nobody."""
    sent = headers.get(VERSION)
    version = USUAL if sent is None else sent.decode("latin-1")
    if version not in VERSIONS:
        known = " or ".join(f"'{one}'" for one in VERSIONS)
        raise InvalidHeader(f"'anthropic-version' must be {known}: no other is served here.", param="anthropic-version")
    return "" if version == USUAL else version


def _read_betas(sent: bytes) -> str:
    """The names, in the caller's order, without blanks; empty if there are none."""
    names = sent.decode("latin-1").replace(" ", "").strip(",")
    if names and not _SANE_BETAS.fullmatch(names):
        raise InvalidHeader("'anthropic-beta' must be a list of names, such as 'context-1m-2025-08-07'.", param="anthropic-beta")
    return names
