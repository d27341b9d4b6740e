"""Google's Gemini API, outward, in its own words."""

from typing import Any
from urllib.parse import quote

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._gemini_answer import GeminiReader, read_response
from sentinel_gateway.providers._gemini_body import build_body
from sentinel_gateway.providers._http import Endpoint
from sentinel_gateway.providers._provider import ProviderConfig, list_timeouts, read_model_names
from sentinel_gateway.providers._translated import JsonEvents
from sentinel_gateway.providers._url import endpoint_url


class Gemini:
    """The dialect. The model is part of the path."""

    takes_native = False

    def __init__(self, config: ProviderConfig) -> None:
        self._config = config
        models = endpoint_url(config.base_url, "models", {**config.query, "pageSize": "1000"})
        self._models = Endpoint(config.name, models, config.headers, list_timeouts(config.timeouts))

    def __repr__(self) -> str:
        return f"<Gemini {self._config.base_url}>"

    def ask(self, call: UpstreamCall, *, stream: bool) -> tuple[Endpoint, bytes]:
        config = self._config
        path = f"models/{quote(call.model, safe='')}:{'streamGenerateContent' if stream else 'generateContent'}"
        url = endpoint_url(config.base_url, path, {**config.query, **({"alt": "sse"} if stream else {})})
        return Endpoint(config.name, url, config.headers, config.timeouts), build_body(call.fields, call.model)

    def answer(self, fields: Any, writer: Writer) -> Fields | None:
        return read_response(fields, writer)

    def frames(self) -> JsonEvents:
        return JsonEvents()

    def reader(self, writer: Writer, call: UpstreamCall) -> GeminiReader:
        return GeminiReader(writer, expected=call.fields.get("n") or 1)

    def listing(self) -> Endpoint:
        return self._models

    def models(self, fields: Any) -> frozenset[str]:
        return read_model_names(fields)
