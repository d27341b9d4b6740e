"""The OpenAI dialect, outward: Groq, Qwen, Mistral, Ollama, vLLM and most others speak it.

The body is always written anew from the one parse, so that policy, cache key and provider see the same request. What a
caller sent and nothing reads goes out as it came in.
"""

import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from sentinel_gateway.core.chat import Chunk, read_answer
from sentinel_gateway.errors import Failure, UpstreamBroken, UpstreamError
from sentinel_gateway.ports import Completion, UpstreamCall
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._errors import Source, read_error, read_reported_error
from sentinel_gateway.providers._http import ByteStream, Endpoint, HttpClient, endpoint_url
from sentinel_gateway.providers._pattern import TextPattern
from sentinel_gateway.providers._sse import EventTooLong, SseReader

OK: Final = 200
DONE: Final = b"[DONE]"
LIST_SECONDS: Final = 5.0
"""Nobody waits for a list of models; one that takes longer isn't worth having."""

_SECRET_NAMES: Final = ("auth", "key", "token", "secret")
_MIN_SECRET: Final = 6
"""Shorter values, such as a local server's `none`, would be cut out of ordinary words."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class ProviderConfig(msgspec.Struct, frozen=True):
    """One provider of this dialect. `headers` and `query` are sent as they are, the key in one of them.

    `key_name` is where the key is configured, such as GROQ_API_KEY: messages name it, nothing reads it.
    """

    name: str
    base_url: str
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    timeouts: Timeouts = Timeouts()
    key_name: str = ""


class OpenAIProvider:
    """A provider of the OpenAI dialect. Stateless but for the connections of `http`, which it doesn't own."""

    def __init__(self, config: ProviderConfig, http: HttpClient) -> None:
        self._config = config
        self._http = http
        self._source = Source(config.name, config.key_name, _secrets(config))
        chat, models = (endpoint_url(config.base_url, path, config.query) for path in ("chat/completions", "models"))
        self._chat = Endpoint(config.name, chat, config.headers, config.timeouts)
        self._models = Endpoint(config.name, models, config.headers, list_timeouts(config.timeouts))

    def __repr__(self) -> str:
        return f"<OpenAIProvider {self.name} {self._config.base_url}>"

    @property
    def name(self) -> str:
        return self._config.name

    async def complete(self, call: UpstreamCall) -> Completion:
        reply = await self._http.fetch(self._chat, build_body(call, stream=False), request_id=call.sentinel_id)
        if reply.status != OK:
            raise self._error(reply.status, reply.headers, reply.body)
        fields = _read_json(reply.body)
        answer = read_answer(fields)
        if answer is None:
            raise self._not_an_answer(fields)
        return Completion(reply.body, answer)

    async def open_stream(self, call: UpstreamCall) -> "OpenAIStream":
        stream = await self._http.stream(self._chat, build_body(call, stream=True), request_id=call.sentinel_id)
        if stream.status == OK and not _is_json(stream.headers):
            return OpenAIStream(stream, self._source)
        try:
            body = await stream.read_whole()
        finally:
            stream.close()
        if stream.status != OK:
            raise self._error(stream.status, stream.headers, body)
        fields = _read_json(body)
        if read_answer(fields) is None:
            raise self._not_an_answer(fields)
        raise UpstreamBroken(f"{self.name} sent a whole answer where a stream was asked for: it doesn't stream this model.")

    async def list_models(self) -> frozenset[str]:
        reply = await self._http.fetch(self._models, None)
        if reply.status != OK:
            raise self._error(reply.status, reply.headers, reply.body)
        return read_model_names(_read_json(reply.body))

    def _error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return read_error(status, headers, body, source=self._source, now=time.time())

    def _not_an_answer(self, fields: Any) -> UpstreamError:
        if isinstance(fields, dict) and (error := fields.get("error")):
            return read_reported_error(error, source=self._source, now=time.time())
        failure: Failure | None = "json_error" if fields is None else None
        return UpstreamBroken(f"{self.name} answered with something that isn't a chat completion.", failure=failure)


class OpenAIStream:
    """A `ports.ChunkStream` over server-sent events. One reader at a time."""

    __slots__ = ("_ended", "_failure", "_finished", "_heard", "_pattern", "_reader", "_source", "_stream")

    def __init__(self, stream: ByteStream, source: Source) -> None:
        self._stream = stream
        self._source = source
        self._reader = SseReader()
        self._pattern = TextPattern()
        self._heard = False
        self._finished = False
        self._ended = False
        self._failure: UpstreamError | None = None
        """Raised when the chunks that came with it have been handed out."""

    def __repr__(self) -> str:
        return f"<OpenAIStream {self._source.name} {'finished' if self._finished else 'ended' if self._ended else 'open'}>"

    @property
    def finished(self) -> bool:
        return self._finished

    def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        return self

    async def __anext__(self) -> list[Chunk]:
        while not self._ended:
            if self._failure is not None:
                raise self._failure
            data = await self._stream.read()
            if chunks := self._chunks(data) if data else self._last_chunks():
                return chunks
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._finished and kind is None:
                await self._stream.drain()
        finally:
            self._stream.close()

    def _chunks(self, data: bytes) -> list[Chunk]:
        if not self._reader.midway and (alike := self._pattern.read(data)) is not None:
            return alike
        chunks: list[Chunk] = []
        try:
            for event in self._reader.feed(data):
                self._heard = True
                if event == DONE:
                    self._finished = self._ended = True
                    break
                chunks.append(self._chunk(event))
        except EventTooLong:
            self._failure = UpstreamBroken(f"{self._source.name} sent an endless event in its stream.")
        except UpstreamError as exc:
            self._failure = exc
        return chunks

    def _chunk(self, event: bytes) -> Chunk:
        try:
            fields = _decode(event)
        except (ValueError, RecursionError) as exc:
            raise UpstreamBroken(f"{self._source.name} sent an event that isn't JSON.", failure="json_error") from exc
        if not isinstance(fields, dict):
            raise UpstreamBroken(f"{self._source.name} sent an event that isn't a chunk.")
        if error := fields.get("error"):
            raise read_reported_error(error, source=self._source, now=time.time())
        self._pattern.learn(event, fields)
        return Chunk(event, fields)

    def _last_chunks(self) -> list[Chunk]:
        self._ended = True
        self._finished = self._reader.rest() == DONE
        if not self._heard and not self._finished:
            raise UpstreamBroken(f"{self._source.name} ended its stream before it began.", failure="io_error")
        return []


def build_body(call: UpstreamCall, *, stream: bool) -> bytes:
    """The request as this provider gets it: the caller's fields, for this model, streamed or not. Usage is always asked for."""
    body = {**call.fields, "model": call.model}
    if stream:
        options = body.get("stream_options")
        body["stream"] = True
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return _encode(body)


def list_timeouts(timeouts: Timeouts) -> Timeouts:
    """The limits of a call for the list of models."""
    return msgspec.structs.replace(timeouts, first_byte=min(timeouts.first_byte, LIST_SECONDS))


def read_model_names(listing: Any) -> frozenset[str]:
    """The names in a model list as OpenAI (`data[].id`), Together (a bare list) or Ollama (`models[].name`) write it."""
    items = listing.get("data") or listing.get("models") if isinstance(listing, dict) else listing
    named = (_model_name(item) for item in items) if isinstance(items, list) else ()
    return frozenset(name for name in named if name)


def _model_name(item: Any) -> str:
    name = item.get("id") or item.get("name") if isinstance(item, dict) else item
    return name.removeprefix("models/") if isinstance(name, str) else ""  # Gemini's prefix, which it doesn't ask for


def _read_json(body: bytes) -> Any:
    try:
        return _decode(body)
    except (ValueError, RecursionError):
        return None


def _is_json(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _secrets(config: ProviderConfig) -> tuple[str, ...]:
    """Every value that must not be shown: whole headers, and the key within `Bearer <key>`."""
    values = [
        value
        for name, value in [*config.headers.items(), *config.query.items()]
        if any(part in name.lower() for part in _SECRET_NAMES)
    ]
    keys = {part for value in values for part in (value, value.rpartition(" ")[2]) if len(part) >= _MIN_SECRET}
    return tuple(sorted(keys, key=len, reverse=True))
