"""The OpenAI dialect, outward: Groq, Qwen, Mistral, Ollama, vLLM and most others speak it.

The body is always written anew from the one parse, so that policy, cache key and provider see the same request. What a
caller sent and nothing reads goes out as it came in.
"""

import time
from collections.abc import Awaitable
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Chunk, Fields, read_answer
from sentinel_gateway.core.embeddings import items_of
from sentinel_gateway.core.extensions import in_openai_words
from sentinel_gateway.core.parts import has_more_parts
from sentinel_gateway.errors import Failure, UpstreamBroken, UpstreamError
from sentinel_gateway.ports import Completion, Embedded, UpstreamCall, refuse_unsaid
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._embeddings import read_embeddings
from sentinel_gateway.providers._errors import Source, UpstreamUnstreamed, read_error, read_reported_error
from sentinel_gateway.providers._http import EVENTS, MAX_REPLY_BYTES, ByteStream, Endpoint, HttpClient
from sentinel_gateway.providers._pattern import Said, TextPattern
from sentinel_gateway.providers._provider import (
    EVENT_PARTS,
    LIST_BYTES,
    OK,
    ProviderConfig,
    is_json,
    list_timeouts,
    read_json,
    read_model_names,
)
from sentinel_gateway.providers._sse import SseReader
from sentinel_gateway.providers._stream import EventStream
from sentinel_gateway.providers._url import endpoint_url

DONE: Final = b"[DONE]"
UNFRAMED: Final = slice(len(b"data: "), -len(b"\n\n"))
"""Of an event's only line, its data."""
SPOKEN: Final = frozenset({"role", "content"})
"""Members of a delta that says some text. Said again, a role means nothing new."""
VECTOR_BYTES: Final = 128 * 1024
"""Room for each vector in an answer: 4,096 numbers of 32 characters, blanks included."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class OpenAIProvider:
    """A provider of the OpenAI dialect. Stateless but for the connections of `http`, which it doesn't own."""

    def __init__(self, config: ProviderConfig, http: HttpClient) -> None:
        self.name = config.name
        self._base_url = config.base_url
        self._http = http
        self._source = Source(config.name, config.key_name, config.secrets)
        self._chat = _endpoint(config, "chat/completions", config.timeouts)
        self._embeddings = _endpoint(config, "embeddings", config.timeouts)
        self._models = _endpoint(config, "models", list_timeouts(config.timeouts))

    def __repr__(self) -> str:
        return f"<OpenAIProvider {self.name} {self._base_url}>"

    def complete(self, call: UpstreamCall) -> Awaitable[Completion]:
        if call.native is not None:
            refuse_unsaid(call, self.name)
        return self._complete(call)

    async def _complete(self, call: UpstreamCall) -> Completion:
        reply = await self._http.send(self._chat.serving(call), build_body(call, stream=False), request_id=call.sentinel_id)
        whole = await reply.read_whole()
        if reply.status != OK:
            raise self._error(reply, whole)
        fields = await read_json(whole, self.name)
        answer = read_answer(fields)
        if answer is None:
            raise self._not_an_answer(fields)
        return Completion(whole, answer)

    def open_stream(self, call: UpstreamCall) -> Awaitable["OpenAIStream"]:
        if call.native is not None:
            refuse_unsaid(call, self.name)
        return self._open_stream(call)

    async def _open_stream(self, call: UpstreamCall) -> "OpenAIStream":
        body = build_body(call, stream=True)
        stream = await self._http.send(self._chat.serving(call), body, request_id=call.sentinel_id, accept=EVENTS)
        if stream.status == OK and not is_json(stream.headers):
            return OpenAIStream(stream, self._source)
        whole = await stream.read_whole()
        if stream.status != OK:
            raise self._error(stream, whole)
        fields = await read_json(whole, self.name)
        if read_answer(fields) is None:
            raise self._not_an_answer(fields)
        sentence = f"{self.name} sent a whole answer where a stream was asked for: ask for it without 'stream'."
        raise UpstreamUnstreamed(sentence).of_size(len(whole))

    async def embed(self, call: UpstreamCall) -> Embedded:
        asked = call.fields
        count, in_base64 = len(items_of(asked["input"]) or ()), asked.get("encoding_format") == "base64"
        body, most = build_body(call, stream=False), MAX_REPLY_BYTES + count * VECTOR_BYTES
        reply = await self._http.send(self._embeddings.serving(call), body, request_id=call.sentinel_id)
        whole = await reply.read_whole(most)
        if reply.status != OK:
            raise self._error(reply, whole)
        embedded = read_embeddings(whole, count=count, in_base64=in_base64)
        if embedded is None:
            raise self._not_an_answer(await read_json(whole, self.name), "a list of embeddings, one for each item")
        return embedded

    async def list_models(self) -> frozenset[str]:
        reply = await self._http.send(self._models, None)
        whole = await reply.read_whole(LIST_BYTES)
        if reply.status != OK:
            raise self._error(reply, whole)
        return read_model_names(await read_json(whole, self.name))

    def _error(self, reply: ByteStream, whole: bytes) -> UpstreamError:
        return read_error(reply.status, reply.headers, whole, source=self._source, now=time.time())

    def _not_an_answer(self, fields: Any, expected: str = "a chat completion") -> UpstreamError:
        if isinstance(fields, dict) and (error := fields.get("error")):
            return read_reported_error(error, source=self._source, now=time.time())
        failure: Failure | None = "json_error" if fields is None else None
        return UpstreamBroken(f"{self.name} answered with something that isn't {expected}.", failure=failure)


class OpenAIStream(EventStream):
    """Over server-sent events."""

    __slots__ = ("_finished", "_pattern", "_reader")

    def __init__(self, stream: ByteStream, source: Source) -> None:
        super().__init__(stream, source)
        self._reader = SseReader()
        self._pattern = TextPattern(speaking)
        self._finished = False

    @property
    def finished(self) -> bool:
        return self._finished

    def _chunks(self, data: bytes) -> list[Chunk]:
        if not self._reader.midway and (text := self._pattern.read(data, framed=True)) is not None:
            return [Chunk(data[UNFRAMED], None, text)]
        chunks: list[Chunk] = []
        try:
            for lines in self._reader.feed(data):
                event = lines.replace(b"\n", b" ")  # the same JSON, in one line for whomever it is passed on to
                if (text := self._pattern.read(event)) is not None:
                    chunks.append(Chunk(event, None, text))
                    continue
                self._heard = True
                if event == DONE:
                    self._finished, self._over = True, StopAsyncIteration
                    break
                chunks.append(self._chunk(event))
        except UpstreamError as exc:
            self._over = exc
        if self._reader.endless and self._over is None:
            self._over = UpstreamBroken(f"{self._source.name} sent an endless event in its stream.")
        return chunks

    def _chunk(self, event: bytes) -> Chunk:
        if has_more_parts(event, EVENT_PARTS):
            raise UpstreamBroken(f"{self._source.name} sent an event of more than {EVENT_PARTS:,} keys and values in its stream.")
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
        self._finished = self._reader.rest() == DONE
        self._over = StopAsyncIteration if self._heard or self._finished else self._unbegun()
        return []


def speaking(fields: Fields) -> Said | None:
    """The text of a chunk whose only choice says that and nothing else."""
    match fields.get("choices"):
        case [{"delta": {"content": str(text), **more} as delta, **rest}] if text and more.keys() <= SPOKEN:
            return None if rest.get("logprobs") else Said(delta, "content")
        case _:
            return None


def build_body(call: UpstreamCall, *, stream: bool) -> bytes:
    """The request as this provider gets it: the caller's fields, for this model, streamed or not. Usage is always asked for."""
    fields = in_openai_words(call.fields, call.model) if call.dialect == "anthropic" else call.fields
    body = {**fields, "model": call.model}
    if stream:
        options = body.get("stream_options")
        body["stream"] = True
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    else:
        body.pop("stream", None)
        body.pop("stream_options", None)
    return _encode(body)


def _endpoint(config: ProviderConfig, path: str, timeouts: Timeouts) -> Endpoint:
    return Endpoint(config.name, endpoint_url(config.base_url, path, config.query), config.headers, timeouts)
