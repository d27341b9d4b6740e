"""`POST /v1/chat/completions`: bytes in, the pipeline's reply out, in OpenAI's dialect."""

import asyncio
from contextlib import aclosing
from functools import partial
from typing import Final

import msgspec

from sentinel_gateway.api.eager import own_task
from sentinel_gateway.api.exchange import Exchange, Sender
from sentinel_gateway.api.wire.cache_headers import Header, explain_header, hit_headers, miss_headers, read_wish
from sentinel_gateway.core.streaming import replayed_chunks, stored_body, whole_body
from sentinel_gateway.errors import LoopDetected, MethodNotAllowed
from sentinel_gateway.pipeline.handle import Cached, Live, Pipeline, Whole
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import Clock


class ChatOptions(msgspec.Struct, frozen=True):
    """`heartbeat` in seconds; `via` is how this gateway signs upstream requests."""

    heartbeat: float
    via: bytes


class ChatCompletions:
    """The endpoint. One instance serves all requests of a wiring."""

    route: Final = "/v1/chat/completions"

    def __init__(self, pipeline: Pipeline, options: ChatOptions, clock: Clock) -> None:
        self._pipeline = pipeline
        self._options = options
        self._clock = clock

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request; raises `RequestError`s."""
        headers, journey = exchange.headers, exchange.journey
        if exchange.method != "POST":
            raise MethodNotAllowed(f"{exchange.method[:20]} is not allowed: POST a chat completion request.", allowed=("POST",))
        if self._options.via in headers.get(b"via", b""):
            raise LoopDetected("This request has passed through this gateway before: a provider's base URL points back at it.")
        journey.wish = read_wish(headers)
        waiting = partial(self._wait, exchange)
        self._pipeline.admission.check()
        body = await exchange.caller.body()
        async with self._pipeline.admission:
            reply = await self._pipeline.handle(body, journey, waiting=waiting)
            if not isinstance(reply, Cached):
                await self._send(reply, journey, exchange.sender)
                return
        await self._send_cached(reply, journey, exchange.sender)  # who reads it slowly keeps no place from others

    async def _wait(self, exchange: Exchange, plan: Plan) -> None:
        """The answer may take long: notice a caller that leaves, and keep a stream's connection from looking dead."""
        await own_task()
        exchange.cancel_when_gone()
        if plan.request.stream:
            exchange.run_beside(self._keep_alive(exchange, plan))

    async def _keep_alive(self, exchange: Exchange, plan: Plan) -> None:
        """May commit the 200 before a provider has answered; an error is then the stream's last event."""
        while True:
            await asyncio.sleep(self._options.heartbeat)
            await exchange.sender.start_stream(self._miss_headers(exchange.journey, plan))
            await exchange.sender.beat()

    async def _send(self, reply: Whole | Live, journey: Journey, sender: Sender) -> None:
        match reply:
            case Whole(plan, completion) if plan.request.stream:  # it shared the call of one who did not stream
                await self._replay(stored_body(completion.answer), plan, journey, sender, self._miss_headers(journey, plan))
            case Whole(plan, completion):
                await sender.whole(200, completion.raw, self._miss_headers(journey, plan))
            case Live():
                try:
                    await self._send_live(reply, journey, sender)
                finally:
                    await self._pipeline.close(reply, journey)

    async def _send_cached(self, reply: Cached, journey: Journey, sender: Sender) -> None:
        now, request, body = self._clock(), reply.plan.request, reply.hit.entry.body
        headers = hit_headers(reply.hit, now)
        if journey.wish.explain:
            headers.append(explain_header(journey, reply.plan.key, reply.hit, now))
        if request.stream:
            await self._replay(body, reply.plan, journey, sender, headers)
        else:
            answer_id = f"chatcmpl-{journey.sentinel_id}"
            await sender.whole(200, whole_body(body, answer_id=answer_id, created=int(now)), headers)

    async def _replay(self, body: bytes, plan: Plan, journey: Journey, sender: Sender, headers: list[Header]) -> None:
        answer_id, created = f"chatcmpl-{journey.sentinel_id}", int(self._clock())
        await sender.start_stream(headers)
        await sender.events(replayed_chunks(body, plan.request, answer_id=answer_id, created=created))
        await sender.end_stream()

    async def _send_live(self, live: Live, journey: Journey, sender: Sender) -> None:
        headers = self._miss_headers(journey, live.plan)
        async with aclosing(live.payloads()) as batches:
            async for payloads in batches:
                if not journey.first_byte:
                    journey.first_byte = self._clock()
                    await sender.start_stream(headers)
                await sender.events(payloads)
        await sender.start_stream(headers)  # for a stream that held nothing the caller asked for
        await sender.end_stream()

    def _miss_headers(self, journey: Journey, plan: Plan) -> list[Header]:
        headers = miss_headers(journey)
        if journey.wish.explain:
            headers.append(explain_header(journey, plan.key, None, self._clock()))
        return headers
