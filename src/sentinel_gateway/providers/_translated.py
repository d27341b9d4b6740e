"""The adapter of every provider that doesn't speak OpenAI's dialect: a `Dialect` builds what it asks, and reads what it hears.

All I/O of such providers is here. A dialect knows where its requests go, and has pure functions between its words and OpenAI's.
"""

import time
from collections.abc import Awaitable, Iterator
from typing import Any, Protocol

import msgspec

from sentinel_gateway.core.chat import Chunk, Fields, read_answer
from sentinel_gateway.core.parts import has_more_parts
from sentinel_gateway.errors import Failure, UpstreamBroken, UpstreamError
from sentinel_gateway.ports import Completion, NotCarried, UpstreamCall, refuse_unsaid
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._chat_parts import Unfit
from sentinel_gateway.providers._errors import Source, UpstreamUnstreamed, read_error
from sentinel_gateway.providers._http import EVENTS, ByteStream, Endpoint, HttpClient
from sentinel_gateway.providers._pattern import Find, More, TextPattern
from sentinel_gateway.providers._provider import EVENT_PARTS, LIST_BYTES, OK, ProviderConfig, is_json, read_event, read_json
from sentinel_gateway.providers._reported import Garbled, Reported
from sentinel_gateway.providers._sse import SseReader
from sentinel_gateway.providers._stream import EventStream

_encode = msgspec.json.Encoder().encode


class Frames(Protocol):
    """Cuts the bytes of one stream into events; raises `Garbled`."""

    def feed(self, data: bytes) -> Iterator[Any]: ...


class Reader(Protocol):
    """Reads the events of one stream. `finished` once its end is proven: until then all may have been cut."""

    @property
    def finished(self) -> bool: ...

    def read(self, event: Any) -> list[Chunk]:
        """The chunks that an event makes; raises `Reported`."""
        ...

    def close(self) -> list[Chunk]:
        """No more events come: the chunks that only now are certain."""
        ...


class Dialect(Protocol):
    """One way to speak of chats. Everything but the clock of a signature is pure."""

    takes_native: bool
    """Is it the one that `UpstreamCall.native` is in? It is then asked in those words, where a chat says less."""

    def ask(self, call: UpstreamCall, *, stream: bool) -> tuple[Endpoint, bytes]:
        """Where a request goes, and its body; raises `Unfit`."""
        ...

    def answer(self, fields: Any, writer: Writer) -> Fields | None:
        """A decoded whole answer as a `chat.completion`; None if it is none."""
        ...

    def frames(self) -> Frames: ...

    def reader(self, writer: Writer, call: UpstreamCall) -> Reader: ...

    def listing(self) -> Endpoint:
        """Where the models are listed."""
        ...

    def models(self, fields: Any) -> frozenset[str]:
        """The names in that list."""
        ...


class TranslatedProvider:
    """A provider of some other dialect. Stateless but for the connections of `http`, which it doesn't own."""

    def __init__(self, config: ProviderConfig, dialect: Dialect, http: HttpClient) -> None:
        self._config = config
        self._dialect = dialect
        self._http = http
        self._source = Source(config.name, config.key_name, config.secrets)

    def __repr__(self) -> str:
        return f"<TranslatedProvider {self.name} {type(self._dialect).__name__} {self._config.base_url}>"

    @property
    def name(self) -> str:
        return self._config.name

    def complete(self, call: UpstreamCall) -> Awaitable[Completion]:
        return self._complete(call, *self._ask(call, stream=False))

    async def _complete(self, call: UpstreamCall, endpoint: Endpoint, body: bytes) -> Completion:
        reply = await self._http.send(endpoint, body, request_id=call.sentinel_id)
        whole = await reply.read_whole()
        if reply.status != OK:
            raise self._failed(reply, whole)
        fields = await read_json(whole, self.name)
        try:
            answer = read_answer(self._dialect.answer(fields, _writer(call)))
            if answer is not None:
                return Completion(_encode(answer.fields), answer)
        except RecursionError:
            fields = None
        failure: Failure | None = "json_error" if fields is None else None
        raise UpstreamBroken(f"{self.name} answered with something that isn't an answer of its dialect.", failure=failure)

    def open_stream(self, call: UpstreamCall) -> Awaitable["TranslatedStream"]:
        return self._open_stream(call, *self._ask(call, stream=True))

    async def _open_stream(self, call: UpstreamCall, endpoint: Endpoint, body: bytes) -> "TranslatedStream":
        stream = await self._http.send(endpoint, body, request_id=call.sentinel_id, accept=EVENTS)
        if stream.status == OK and not is_json(stream.headers):
            return TranslatedStream(stream, self._dialect.frames(), self._dialect.reader(_writer(call), call), self._source)
        whole = await stream.read_whole()
        if stream.status != OK:
            raise self._failed(stream, whole)
        sentence = f"{self.name} sent a whole answer where a stream was asked for: ask for it without 'stream'."
        raise UpstreamUnstreamed(sentence).of_size(len(whole))

    async def list_models(self) -> frozenset[str]:
        reply = await self._http.send(self._dialect.listing(), None)
        whole = await reply.read_whole(LIST_BYTES)
        if reply.status != OK:
            raise self._failed(reply, whole)
        return self._dialect.models(await read_json(whole, self.name))

    def _ask(self, call: UpstreamCall, *, stream: bool) -> tuple[Endpoint, bytes]:
        if not self._dialect.takes_native:
            refuse_unsaid(call, self.name)
        try:
            endpoint, body = self._dialect.ask(call, stream=stream)
        except Unfit as exc:
            raise NotCarried(f"{self.name} {exc.why}.", param=exc.param) from exc
        return endpoint.serving(call), body

    def _failed(self, reply: ByteStream, whole: bytes) -> UpstreamError:
        return read_error(reply.status, reply.headers, whole, source=self._source, now=time.time())


def _writer(call: UpstreamCall) -> Writer:
    as_told = call.native is not None and call.native.says_more
    return Writer(created=int(time.time()), model=call.model, answer_id=f"chatcmpl-{call.sentinel_id}", as_told=as_told)


class TranslatedStream(EventStream):
    """Bytes to events, events to chunks."""

    __slots__ = ("_frames", "_reader")

    def __init__(self, stream: ByteStream, frames: Frames, reader: Reader, source: Source) -> None:
        super().__init__(stream, source)
        self._frames = frames
        self._reader = reader

    @property
    def finished(self) -> bool:
        return self._reader.finished

    def _chunks(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        try:
            for event in self._frames.feed(data):
                self._heard = True
                chunks += self._reader.read(event)
                if self._reader.finished:
                    self._over = StopAsyncIteration
                    break
        except RecursionError:
            self._over = UpstreamBroken(f"{self._source.name} nested an event of its stream too deep.", failure="json_error")
        except Garbled as exc:
            self._over = UpstreamBroken(f"{self._source.name} sent {exc} in its stream.", failure="json_error")
        except Reported as exc:
            body = _encode({"error": exc.error})
            self._over = read_error(exc.status, {}, body, source=self._source, now=time.time())
        return chunks

    def _last_chunks(self) -> list[Chunk]:
        self._over = StopAsyncIteration if self._heard else self._unbegun()
        return self._reader.close() if self._heard and self._stream.whole else []


def _no_text(_: Fields) -> None:
    """For dialects whose events never differ in their text alone."""


class JsonEvents:
    """`Frames` of server-sent events whose data are JSON objects. Where a dialect can `find` their text, some are but `More`."""

    __slots__ = ("_pattern", "_reader")

    def __init__(self, find: Find = _no_text) -> None:
        self._reader = SseReader()
        self._pattern = TextPattern(find)

    def __repr__(self) -> str:
        return f"<JsonEvents {self._reader!r}>"

    def feed(self, data: bytes) -> Iterator[Fields | More]:
        if not self._reader.midway and (text := self._pattern.read(data, framed=True)) is not None:
            yield More(text)
            return
        for event in self._reader.feed(data):
            yield self._read(event)
        if self._reader.endless:
            raise Garbled("an endless event")

    def _read(self, event: bytes) -> Fields | More:
        if (text := self._pattern.read(event)) is not None:
            return More(text)
        if has_more_parts(event, EVENT_PARTS):
            raise Garbled(f"an event of more than {EVENT_PARTS:,} keys and values")
        fields = read_event(event)
        if not isinstance(fields, dict):
            raise Garbled("an event that isn't a JSON object")
        self._pattern.learn(event, fields)
        return fields
