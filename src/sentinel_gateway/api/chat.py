"""`POST /v1/chat/completions`: bytes in, the pipeline's reply out, in OpenAI's dialect."""

import asyncio
from contextlib import aclosing

import msgspec

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.api.endpoint import REPLAYED, Endpoint
from sentinel_gateway.api.exchange import Exchange, Sender
from sentinel_gateway.api.wire.cache_headers import PRIVATE
from sentinel_gateway.core.streaming import replayed_chunks, stored_body, whole_body
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.reply import Cached, Live, Repeated, Whole
from sentinel_gateway.ports import Clock


class ChatOptions(msgspec.Struct, frozen=True):
    """`heartbeat` in seconds; `via` is how this gateway signs upstream requests."""

    heartbeat: float
    via: bytes


class ChatCompletions(Endpoint):
    """The endpoint."""

    route = "/v1/chat/completions"
    takes = "a chat completion request"

    def __init__(self, pipeline: Pipeline, limiter: Limiter, options: ChatOptions, *, clock: Clock) -> None:
        super().__init__(pipeline, limiter, via=options.via, clock=clock)
        self._heartbeat = options.heartbeat

    async def _wait(self, exchange: Exchange, plan: Plan) -> None:
        """As every endpoint; and keep a stream's connection from looking dead."""
        await super()._wait(exchange, plan)
        if plan.request.stream:
            exchange.run_beside(self._keep_alive(exchange, plan))

    async def _keep_alive(self, exchange: Exchange, plan: Plan) -> None:
        """May commit the 200 before a provider has answered; an error is then the stream's last event."""
        while True:
            await asyncio.sleep(self._heartbeat)
            journey = exchange.journey
            repeats = journey.idempotency_key and journey.miss is None  # it waits for the first, and asked no cache
            await exchange.sender.start_stream(PRIVATE if repeats else self._miss_headers(journey, plan))
            await exchange.sender.beat()

    async def _send(self, reply: Whole | Live | Repeated, journey: Journey, sender: Sender) -> None:
        match reply:
            case Whole(plan, completion) if plan.request.stream:  # it shared the call of one who did not stream
                await self._replay(stored_body(completion.answer), plan, journey, sender, self._miss_headers(journey, plan))
            case Whole(plan, completion):
                await sender.whole(200, completion.raw, self._miss_headers(journey, plan))
            case Repeated(plan, completion) if plan.request.stream:
                await self._replay(stored_body(completion.answer), plan, journey, sender, REPLAYED)
            case Repeated(_, completion):
                await sender.whole(200, completion.raw, REPLAYED)
            case Live():
                try:
                    await self._send_live(reply, journey, sender)
                finally:
                    await self._pipeline.close(reply, journey)

    async def _send_cached(self, reply: Cached, journey: Journey, sender: Sender) -> None:
        now, request, body = self._clock(), reply.plan.request, reply.hit.entry.body
        headers = self._hit_headers(journey, reply, now)
        if request.stream:
            await self._replay(body, reply.plan, journey, sender, headers)
        else:
            answer_id = f"chatcmpl-{journey.sentinel_id}"
            await sender.whole(200, whole_body(body, answer_id=answer_id, created=int(now)), headers)

    async def _replay(self, body: bytes, plan: Plan, journey: Journey, sender: Sender, headers: Lines) -> None:
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
