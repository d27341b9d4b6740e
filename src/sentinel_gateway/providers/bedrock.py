"""Amazon Bedrock's Converse API, outward. Requests carry a Bedrock API key, or are signed."""

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._bedrock_answer import BedrockReader, read_converse
from sentinel_gateway.providers._bedrock_body import build_body
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._chat_parts import Unfit
from sentinel_gateway.providers._event_stream import EventStreamReader
from sentinel_gateway.providers._http import Endpoint
from sentinel_gateway.providers._provider import ProviderConfig, list_timeouts, some_names
from sentinel_gateway.providers._sigv4 import Credentials, Scope, Signable, sign
from sentinel_gateway.providers._url import endpoint_url

SERVICE: Final = "bedrock"
STREAM: Final = {"accept": "application/vnd.amazon.eventstream"}
MODEL: Final = re.compile(r"[\w:/-][\w.:/-]*", re.ASCII)
"""Ids and ARNs. Nothing else may become part of a path."""


class Signer(msgspec.Struct, frozen=True):
    """Who signs, and for where; `clock` in Unix seconds."""

    credentials: Credentials
    region: str
    clock: Callable[[], float]


class Bedrock:
    """The dialect. `signer` is None where a key among the headers does."""

    takes_native = False

    def __init__(self, config: ProviderConfig, signer: Signer | None) -> None:
        self._config = config
        self._signer = signer

    def __repr__(self) -> str:
        return f"<Bedrock {self._config.base_url}>"

    def ask(self, call: UpstreamCall, *, stream: bool) -> tuple[Endpoint, bytes]:
        if not MODEL.fullmatch(call.model):
            raise Unfit("knows models by their id or ARN", "model")
        path = f"model/{quote(call.model, safe='')}/{'converse-stream' if stream else 'converse'}"
        body = build_body(call.fields, call.model, "" if call.native is None else call.native.betas)
        return self._endpoint("POST", self._config, path, body, accept=STREAM if stream else {}), body

    def answer(self, fields: Any, writer: Writer) -> Fields | None:
        return read_converse(fields, writer)

    def frames(self) -> EventStreamReader:
        return EventStreamReader()

    def reader(self, writer: Writer, call: UpstreamCall) -> BedrockReader:  # noqa: ARG002 - others ask it how much to expect
        return BedrockReader(writer)

    def listing(self) -> Endpoint:
        """Bedrock has two hosts: one answers, the other knows the models."""
        base_url = self._config.base_url.replace("//bedrock-runtime.", "//bedrock.", 1)
        timeouts = list_timeouts(self._config.timeouts)
        config = msgspec.structs.replace(self._config, base_url=base_url, timeouts=timeouts)
        return self._endpoint("GET", config, "foundation-models", b"", accept={})

    def models(self, fields: Any) -> frozenset[str]:
        summaries = fields.get("modelSummaries") if isinstance(fields, dict) else None
        named = (one.get("modelId") for one in summaries if isinstance(one, dict)) if isinstance(summaries, list) else ()
        return some_names(named)

    def _endpoint(self, method: str, config: ProviderConfig, path: str, body: bytes, *, accept: dict[str, str]) -> Endpoint:
        url = endpoint_url(config.base_url, path, config.query)
        endpoint = Endpoint(config.name, url, {**config.headers, **accept}, config.timeouts)
        if self._signer is None:
            return endpoint
        request = Signable(method, endpoint.target, {"host": endpoint.host}, body)
        scope = Scope(self._signer.region, SERVICE)
        signature = sign(request, self._signer.credentials, scope, now=self._signer.clock())
        return Endpoint(config.name, url, {**endpoint.headers, **signature}, config.timeouts)
