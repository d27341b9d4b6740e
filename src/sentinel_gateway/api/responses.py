"""`POST /v1/responses`, without memory: each request holds its whole conversation."""

from collections.abc import Awaitable
from functools import partial

from sentinel_gateway.api.exchange import Exchange, Sender
from sentinel_gateway.api.streaming import StreamingEndpoint
from sentinel_gateway.api.wire.responses_answer import ResponseEvents, error_event, response_body
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.reply import Live


class Responses(StreamingEndpoint):
    """The endpoint."""

    route = "/v1/responses"
    takes = "a request for a response"

    def _written(self, completion: bytes, request: ChatRequest) -> bytes:
        return response_body(completion, request, now=self._clock)

    def _voice(self, request: ChatRequest) -> ResponseEvents:
        return ResponseEvents(request, now=self._clock)

    def _wait(self, exchange: Exchange, plan: Plan) -> Awaitable[None]:
        exchange.sender.broken = partial(error_event, sequence=0)
        return super()._wait(exchange, plan)

    def _send_live(self, live: Live, journey: Journey, sender: Sender) -> Awaitable[None]:
        voice = self._voice(live.plan.request)
        sender.broken = voice.broken
        return self._pass_on(voice, live, journey, sender)
