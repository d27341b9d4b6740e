"""Anthropic's Messages API, outward: Claude, and what else speaks as it does."""

from typing import Any, Final

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._anthropic_answer import AnthropicReader, read_message
from sentinel_gateway.providers._anthropic_body import build_body
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._http import Endpoint, endpoint_url
from sentinel_gateway.providers._provider import ProviderConfig, list_timeouts, read_model_names
from sentinel_gateway.providers._translated import JsonEvents

VERSION: Final = {"anthropic-version": "2023-06-01"}
MOST_MODELS: Final = {"limit": "1000"}
"""As many as one page holds; there are some dozens."""


class Anthropic:
    """The dialect. `base_url` with or without its `/v1`: Anthropic's own clients leave it out."""

    def __init__(self, config: ProviderConfig) -> None:
        base = config.base_url.rstrip("/").removesuffix("/v1") + "/v1"
        headers = {**VERSION, **config.headers}
        self._messages = Endpoint(config.name, endpoint_url(base, "messages", config.query), headers, config.timeouts)
        models = endpoint_url(base, "models", {**config.query, **MOST_MODELS})
        self._models = Endpoint(config.name, models, headers, list_timeouts(config.timeouts))

    def __repr__(self) -> str:
        return f"<Anthropic {self._messages!r}>"

    def ask(self, call: UpstreamCall, *, stream: bool) -> tuple[Endpoint, bytes]:
        return self._messages, build_body(call.fields, call.model, stream=stream)

    def answer(self, fields: Any, writer: Writer) -> Fields | None:
        return read_message(fields, writer)

    def frames(self) -> JsonEvents:
        return JsonEvents()

    def reader(self, writer: Writer, call: UpstreamCall) -> AnthropicReader:  # noqa: ARG002 - others ask it how much to expect
        return AnthropicReader(writer)

    def listing(self) -> Endpoint:
        return self._models

    def models(self, fields: Any) -> frozenset[str]:
        return read_model_names(fields)
