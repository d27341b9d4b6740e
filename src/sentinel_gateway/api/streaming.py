"""An endpoint that answers whole or as a stream, as its caller wishes. In which words is its dialect's own."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable
from functools import partial
from typing import Protocol

import msgspec

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.api.endpoint import REPLAYED, Endpoint
from sentinel_gateway.api.exchange import Exchange, Sender
from sentinel_gateway.api.wire.cache_headers import PRIVATE
from sentinel_gateway.api.wire.cost_headers import cost_comment
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.core.streaming import replayed_chunks, stored_body, whole_body
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.reply import Cached, Live, Repeated, Whole
from sentinel_gateway.ports import Clock


class StreamOptions(msgspec.Struct, frozen=True):
    """`heartbeat` in seconds; `via` is what this gateway is called where it asks others."""

    heartbeat: float
    via: str


class Voice(Protocol):
    """How a dialect says a stream of chunks. One serves one answer."""

    @property
    def pulse(self) -> bytes:
        """What is said to keep a silent connection from looking dead."""
        ...

    def say(self, payloads: list[bytes]) -> bytes:
        """The events of chunks that came together; may be empty. Raises `UpstreamBroken` for what can't be told."""
        ...

    def end(self) -> bytes:
        """The end of a stream that is complete."""
        ...


class StreamingEndpoint(Endpoint):
    """One POST that is answered with a chat completion, in the words of its dialect."""

    def __init__(self, pipeline: Pipeline, limiter: Limiter, options: StreamOptions, *, clock: Clock) -> None:
        super().__init__(pipeline, limiter, via=options.via, clock=clock)
        self._heartbeat = options.heartbeat

    @abstractmethod
    def _written(self, completion: bytes, request: ChatRequest) -> bytes:
        """A whole `chat.completion` as it is answered."""

    @abstractmethod
    def _voice(self, request: ChatRequest) -> Voice:
        """What says a stream."""

    def _wait(self, exchange: Exchange, plan: Plan) -> Awaitable[None]:
        """As every endpoint; and keep a stream's connection from looking dead."""
        if plan.request.stream:
            exchange.run_later(self._heartbeat, partial(self._keep_alive, exchange, plan))
        return super()._wait(exchange, plan)

    async def _keep_alive(self, exchange: Exchange, plan: Plan) -> None:
        """May commit the 200 before a provider has answered; an error is then the stream's last event."""
        pulse, journey = self._voice(plan.request).pulse, exchange.journey
        while True:
            repeats = journey.idempotency_key and journey.miss is None  # it waits for the first, and asked no cache
            await exchange.sender.start_stream(PRIVATE if repeats else self._miss_headers(journey, plan))
            await asyncio.sleep(await exchange.sender.beat(pulse, self._heartbeat))

    def _send(self, reply: Whole | Live | Repeated, journey: Journey, sender: Sender) -> Awaitable[None]:
        if isinstance(reply, Live):
            return self._send_live(reply, journey, sender)
        plan, completion = reply.plan, reply.completion
        headers = self._whole_headers(journey, plan) if isinstance(reply, Whole) else REPLAYED
        if plan.request.stream:  # it shared the call of one who did not
            return self._replay(stored_body(completion.answer), plan, journey, sender, headers)
        return sender.whole(200, self._written(completion.raw, plan.request), headers)

    async def _send_cached(self, reply: Cached, journey: Journey, sender: Sender) -> None:
        now, request, body = self._clock(), reply.plan.request, reply.hit.entry.body
        headers = self._hit_headers(journey, reply, now)
        if request.stream:
            await self._replay(body, reply.plan, journey, sender, headers)
        else:
            whole = whole_body(body, answer_id=f"chatcmpl-{journey.sentinel_id}", created=int(now))
            await sender.whole(200, self._written(whole, request), headers)

    async def _replay(self, body: bytes, plan: Plan, journey: Journey, sender: Sender, headers: Lines) -> None:
        answer_id, created, voice = f"chatcmpl-{journey.sentinel_id}", int(self._clock()), self._voice(plan.request)
        await sender.start_stream(headers)
        await sender.part(voice.say(replayed_chunks(body, plan.request, answer_id=answer_id, created=created)))
        await sender.end_stream(voice.end())

    def _send_live(self, live: Live, journey: Journey, sender: Sender) -> Awaitable[None]:
        return self._pass_on(self._voice(live.plan.request), live, journey, sender)

    async def _pass_on(self, voice: Voice, live: Live, journey: Journey, sender: Sender) -> None:
        late = b""

        def say(payloads: list[bytes]) -> bool:
            nonlocal late
            late = voice.say(payloads)
            return journey.first_byte > 0 and (not late or sender.pass_on(late))

        try:
            headers, reader = self._miss_headers(journey, live.plan), live.reader()
            while await reader.pipe(say):
                if not journey.first_byte:
                    journey.first_byte = self._clock()
                    await sender.start_stream(headers)
                if late:
                    await sender.part(late)
                    late = b""
            await sender.start_stream(headers)  # for a stream that held nothing the caller asked for
            await sender.end_stream(cost_comment(live.paid_by(journey)) + voice.end())
        finally:
            await self._pipeline.close(live, journey)
