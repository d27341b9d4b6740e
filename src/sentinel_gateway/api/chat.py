"""`POST /v1/chat/completions`: bytes in, the pipeline's reply out, in OpenAI's dialect."""

from typing import Final

from sentinel_gateway.api.exchange import Exchange
from sentinel_gateway.api.fast_path import FastPath
from sentinel_gateway.api.streaming import StreamingEndpoint, StreamOptions
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.reply import Cached
from sentinel_gateway.ports import Clock


class _AsItIs:
    """Chunks are OpenAI's already. It remembers nothing, so one serves all answers."""

    pulse = b": keep-alive\n\n"

    def say(self, payloads: list[bytes]) -> bytes:
        return b"data: %b\n\n" % b"\n\ndata: ".join(payloads)

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"


AS_IT_IS: Final = _AsItIs()


class ChatCompletions(StreamingEndpoint):
    """The endpoint."""

    route = "/v1/chat/completions"
    takes = "a chat completion request"

    def __init__(self, pipeline: Pipeline, limiter: Limiter, options: StreamOptions, *, fast: FastPath, clock: Clock) -> None:
        super().__init__(pipeline, limiter, options, clock=clock)
        self._fast = fast

    def _written(self, completion: bytes, request: ChatRequest) -> bytes:  # noqa: ARG002 - other dialects need it
        return completion

    def _voice(self, request: ChatRequest) -> _AsItIs:  # noqa: ARG002 - as above
        return AS_IT_IS

    def _served(self, exchange: Exchange, reply: Cached) -> None:
        self._fast.learn(exchange, reply)
