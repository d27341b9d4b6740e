"""Anthropic's Messages API, outward: Claude, and what else speaks as it does."""

from typing import Any, Final

from sentinel_gateway.core.chat import USUAL, VERSIONS, Fields
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._anthropic_answer import AnthropicReader, read_message, speaking
from sentinel_gateway.providers._anthropic_body import build_body
from sentinel_gateway.providers._anthropic_native import as_it_came
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._http import Endpoint
from sentinel_gateway.providers._provider import ProviderConfig, list_timeouts, read_model_names
from sentinel_gateway.providers._translated import JsonEvents
from sentinel_gateway.providers._url import endpoint_url

VERSION: Final = "anthropic-version"
BETA: Final = "anthropic-beta"
MOST_MODELS: Final = {"limit": "1000"}
"""As many as one page holds; there are some dozens."""


class Anthropic:
    """The dialect. `base_url` with or without its `/v1`: Anthropic's own clients leave it out."""

    takes_native = True

    def __init__(self, config: ProviderConfig) -> None:
        base = config.base_url.rstrip("/").removesuffix("/v1") + "/v1"
        self._config = config
        self._url = endpoint_url(base, "messages", config.query)
        self._messages = {
            version: Endpoint(config.name, self._url, {VERSION: version, **config.headers}, config.timeouts)
            for version in VERSIONS
        }
        self._usual = self._messages[USUAL]
        models = endpoint_url(base, "models", {**config.query, **MOST_MODELS})
        self._models = Endpoint(config.name, models, self._usual.headers, list_timeouts(config.timeouts))

    def __repr__(self) -> str:
        return f"<Anthropic {self._usual!r}>"

    def ask(self, call: UpstreamCall, *, stream: bool) -> tuple[Endpoint, bytes]:
        native, endpoint = call.native, self._messages.get(call.version, self._usual)
        if native is None or not native.says_more:
            return endpoint, build_body(call.fields, call.model, stream=stream)
        return self._switched(endpoint, native.betas), as_it_came(native.body, call.model, stream=stream)

    def _switched(self, endpoint: Endpoint, betas: str) -> Endpoint:
        """With the betas that the caller switches on, beside those of the configuration."""
        if not betas:
            return endpoint
        headers = endpoint.headers
        known = next((name for name in headers if name.lower() == BETA), BETA)
        told = dict.fromkeys(one for one in f"{headers.get(known, '')},{betas}".replace(" ", "").split(",") if one)
        return Endpoint(self._config.name, self._url, {**headers, known: ",".join(told)}, self._config.timeouts)

    def answer(self, fields: Any, writer: Writer) -> Fields | None:
        return read_message(fields, writer)

    def frames(self) -> JsonEvents:
        return JsonEvents(speaking)

    def reader(self, writer: Writer, call: UpstreamCall) -> AnthropicReader:  # noqa: ARG002 - others ask it how much to expect
        return AnthropicReader(writer)

    def listing(self) -> Endpoint:
        return self._models

    def models(self, fields: Any) -> frozenset[str]:
        return read_model_names(fields)
