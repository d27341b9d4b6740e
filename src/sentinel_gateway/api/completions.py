"""`POST /v1/completions`, OpenAI's legacy endpoint: a text goes on, as a chat model goes on with it."""

from sentinel_gateway.api.streaming import StreamingEndpoint
from sentinel_gateway.api.wire.completions import EVENTS, CompletionEvents, completion_body
from sentinel_gateway.core.chat import ChatRequest


class Completions(StreamingEndpoint):
    """The endpoint."""

    route = "/v1/completions"
    takes = "a request for a completion"

    def _written(self, completion: bytes, request: ChatRequest) -> bytes:  # noqa: ARG002 - other dialects need it
        return completion_body(completion)

    def _voice(self, request: ChatRequest) -> CompletionEvents:  # noqa: ARG002 - as above
        return EVENTS
