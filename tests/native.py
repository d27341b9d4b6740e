"""Providers that don't speak OpenAI's dialect, as mocks on a loopback port: they answer what they are asked, in their own words.

An upstream fails on request, as the chaos mock does, and keeps what it was asked.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self
from zlib import crc32


@dataclass(frozen=True)
class Asked:
    """One request: what a model would read in it."""

    target: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass(frozen=True)
class Fault:
    """`hangs`: a stream says a word first. `cuts` leaves out the last pieces of a stream. `says` comes instead of an answer."""

    status: int = 200
    hangs: bool = False
    cuts: int = 0
    says: bytes | None = None
    kind: str | None = None


class Voice(Protocol):
    """How a mock of one dialect talks."""

    dialect: str
    model: str
    kind: str
    """The content type of its streams."""

    def is_stream(self, asked: Asked) -> bool: ...

    def whole(self, asked: Asked) -> bytes: ...

    def pieces(self, asked: Asked) -> list[bytes]: ...

    def error(self, status: int) -> bytes: ...

    def models(self) -> bytes: ...


def says(question: str) -> Iterator[str]:
    """The words with which each mock answers."""
    yield from ("You asked: ", question, " The Danube rises ", "in the Black Forest.")


GOOD = Fault()


@dataclass
class NativeUpstream:
    """The mock, for as long as its context is open."""

    voice: Voice
    calls: list[Asked] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    open_calls: int = 0
    left: int = 0
    """Calls whose caller closed the connection before the answer's end."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    def script(self, fault: Fault) -> None:
        """The next call has this fault."""
        self.faults.append(fault)

    async def settle(self) -> None:
        """Returns when nothing is being answered."""
        async with asyncio.timeout(5):
            while self.open_calls:  # noqa: ASYNC110 - only tests wait, and rarely
                await asyncio.sleep(0.005)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                method, asked = await _request(reader)
                self.open_calls += 1
                try:
                    await self._answer(method, asked, reader, writer)
                finally:
                    self.open_calls -= 1
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, method: str, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if method == "GET":
            fault = self.faults.popleft() if self.faults else GOOD
            writer.write(_whole(fault.status, self.voice.models() if fault == GOOD else self.voice.error(fault.status)))
            return
        self.calls.append(asked)
        fault = self.faults.popleft() if self.faults else GOOD
        if fault.status != GOOD.status:
            writer.write(_whole(fault.status, fault.says or self.voice.error(fault.status), "retry-after: 1\r\n"))
        elif not self.voice.is_stream(asked):
            if fault.hangs:
                await self._hang(reader)
            writer.write(_whole(200, fault.says or self.voice.whole(asked)))
        else:
            await self._stream(asked, fault, reader, writer)

    async def _stream(self, asked: Asked, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = self.voice.pieces(asked)
        kept = pieces[: len(pieces) - fault.cuts] + ([fault.says] if fault.says else [])
        kind = fault.kind or self.voice.kind
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        for number, piece in enumerate(kept):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if fault.hangs and number == len(kept) // 2:
                await writer.drain()
                await self._hang(reader)
        if fault.cuts:
            await writer.drain()
            writer.close()
            raise ConnectionError
        writer.write(b"0\r\n\r\n")

    async def _hang(self, reader: asyncio.StreamReader) -> None:
        await reader.read()
        self.left += 1
        raise ConnectionError


async def _request(reader: asyncio.StreamReader) -> tuple[str, Asked]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = line.split(" ")
    return method, Asked(target, headers, body)


def _whole(status: int, body: bytes, more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} So\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def sse(*events: Any, named: bool = False) -> list[bytes]:
    """Server-sent events; `named` with an `event` line that repeats their type."""
    return [
        (f"event: {event['type']}\n" if named else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n"
        for event in events
    ]


class AnthropicVoice:
    """`POST /v1/messages`, with its events as the documentation shows them."""

    kind = "text/event-stream; charset=utf-8"
    dialect = "anthropic"
    model = "claude-sonnet-4-5"
    searched: ClassVar = [
        {"type": "text", "text": "I look it up."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "Danube"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "ZQ=="}],
        },
        {
            "type": "text",
            "text": "It is 2,850 km long.",
            "citations": [{"type": "web_search_result_location", "url": "https://a.example", "cited_text": "2,850 km"}],
        },
    ]
    """What it says where it may search."""
    called: ClassVar = [
        {"type": "tool_use", "id": "toolu_silent", "name": "look_up", "input": {}},
        {"type": "tool_use", "id": "toolu_empty", "name": "look_up", "input": {}},
        {"type": "tool_use", "id": "toolu_at_once", "name": "look_up", "input": {"river": "Inn"}},
    ]
    """What it says where it must call some tool: no delta, an empty one, all of the input at the start."""

    def is_stream(self, asked: Asked) -> bool:
        return bool(asked.body.get("stream"))

    def whole(self, asked: Asked) -> bytes:
        blocks, reason = self._said(asked.body)
        searches = {"server_tool_use": {"web_search_requests": 1}} if reason == "pause_turn" else {}
        return json.dumps(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": asked.body["model"],
                "content": blocks,
                "stop_reason": reason,
                "stop_sequence": None,
                "usage": {"input_tokens": 12, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 9}
                | searches,
            }
        ).encode()

    def pieces(self, asked: Asked) -> list[bytes]:
        message = json.loads(self.whole(asked))
        blocks, usage = message.pop("content"), message["usage"]
        opened = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        events: list[Any] = [{"type": "message_start", "message": opened}]
        for index, block in enumerate(blocks):
            events += [{"type": kind, "index": index, **more} for kind, more in self._block(block)]
            events.append({"type": "ping"})
        ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        events += [{"type": "message_delta", "delta": ending, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
        return sse(*events, named=True)

    def _block(self, block: Any) -> Iterator[tuple[str, Any]]:
        deltas = []
        if "input" in block:
            at_once = block["id"] == "toolu_at_once"
            yield "content_block_start", {"content_block": block if at_once else {**block, "input": {}}}
            text = json.dumps(block["input"])
            pieces = {"toolu_silent": (), "toolu_empty": ("",), "toolu_at_once": ()}.get(block["id"], ("", text[:5], text[5:]))
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        elif "text" in block:
            cites = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations", ())]
            yield "content_block_start", {"content_block": {"type": "text", "text": "", **({"citations": []} if cites else {})}}
            half = len(block["text"]) // 2
            pieces = (block["text"][:half], block["text"][half:], "")
            deltas = [*cites, *({"type": "text_delta", "text": piece} for piece in pieces)]
        else:
            yield "content_block_start", {"content_block": block}
        for delta in deltas:
            yield "content_block_delta", {"delta": delta}
        yield "content_block_stop", {}

    def _said(self, body: Any) -> tuple[list[Any], str]:
        assert body["max_tokens"] > 0
        if body.get("tool_choice", {}).get("type") == "tool":
            call = {"type": "tool_use", "id": "toolu_1", "name": body["tool_choice"]["name"], "input": {"river": "Danube"}}
            assert body["tools"][0]["name"] == call["name"]
            return [call], "tool_use"
        if body.get("tool_choice", {}).get("type") == "any":
            return self.called, "tool_use"
        if any(tool.get("type", "").startswith("web_search") for tool in body.get("tools", ())):
            return self.searched, "pause_turn"
        schema = body.get("output_config", {}).get("format")
        content = body["messages"][-1]["content"]
        question = content if isinstance(content, str) else content[-1]["text"]
        text = json.dumps(dict.fromkeys(schema["schema"]["properties"], "x")) if schema else "".join(says(question))
        return [{"type": "text", "text": text}], "end_turn"

    def error(self, status: int) -> bytes:
        return json.dumps({"type": "error", "error": {"type": "some_error", "message": "It did not work."}}).encode()

    def models(self) -> bytes:
        return json.dumps({"data": [{"type": "model", "id": self.model, "display_name": "Claude"}], "has_more": False}).encode()


class GeminiVoice:
    """`generateContent` and `streamGenerateContent?alt=sse`."""

    dialect = "gemini"
    kind = "text/event-stream"
    model = "gemini-2.5-flash"

    def is_stream(self, asked: Asked) -> bool:
        streams = ":streamGenerateContent" in asked.target
        assert asked.target.endswith("alt=sse") == streams, asked.target
        return streams

    def whole(self, asked: Asked) -> bytes:
        config = asked.body.get("generationConfig", {})
        candidates = [
            {
                "content": {"role": "model", "parts": self._said(asked.body, number)},
                "finishReason": "STOP",
                "index": number,
            }
            for number in range(config.get("candidateCount", 1))
        ]
        usage = {"promptTokenCount": 12, "candidatesTokenCount": 5, "thoughtsTokenCount": 4, "totalTokenCount": 21}
        return json.dumps({"candidates": candidates, "usageMetadata": usage, **self._names(asked)}).encode()

    def pieces(self, asked: Asked) -> list[bytes]:
        whole = json.loads(self.whole(asked))
        events = []
        for candidate in whole["candidates"]:
            for part in candidate["content"]["parts"]:
                half = len(part.get("text", "")) // 2
                pieces = [{"text": part["text"][:half]}, {"text": part["text"][half:]}] if "text" in part else [part]
                for piece in pieces:
                    said = {"content": {"role": "model", "parts": [piece]}, "index": candidate["index"]}
                    events.append({"candidates": [said], "usageMetadata": {"promptTokenCount": 12}, **self._names(asked)})
        ends = [
            {"content": {"parts": [{"text": ""}]}, "finishReason": "STOP", "index": candidate["index"]}
            for candidate in whole["candidates"]
        ]
        events += [{**whole, "candidates": [end]} for end in ends]
        return sse(*events)

    def _names(self, asked: Asked) -> dict[str, str]:
        return {"modelVersion": asked.target.partition("models/")[2].partition(":")[0], "responseId": "r1"}

    def _said(self, body: Any, number: int) -> list[Any]:
        calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
        if names := calling.get("allowedFunctionNames"):
            assert body["tools"][0]["functionDeclarations"][0]["name"] == names[0]
            return [{"functionCall": {"name": names[0], "args": {"river": "Danube"}}}]
        schema = body.get("generationConfig", {}).get("responseJsonSchema")
        question = body["contents"][-1]["parts"][-1]["text"]
        text = json.dumps(dict.fromkeys(schema["properties"], "x")) if schema else "".join(says(question))
        return [{"text": text + f" ({number})" * bool(number)}]

    def error(self, status: int) -> bytes:
        return json.dumps({"error": {"code": status, "message": "It did not work.", "status": "SOME_STATUS"}}).encode()

    def models(self) -> bytes:
        return json.dumps({"models": [{"name": f"models/{self.model}"}], "nextPageToken": ""}).encode()


def event_message(name: str, fields: Any, kind: str = "event") -> bytes:
    """One message of Amazon's event stream."""
    headers = {":message-type": kind, f":{kind}-type": name, ":content-type": "application/json"}
    written = b""
    for key, value in headers.items():
        written += bytes([len(key)]) + key.encode() + b"\7" + len(value).to_bytes(2, "big") + value.encode()
    payload = json.dumps(fields).encode()
    prelude = (16 + len(written) + len(payload)).to_bytes(4, "big") + len(written).to_bytes(4, "big")
    message = prelude + crc32(prelude).to_bytes(4, "big") + written + payload
    return message + crc32(message).to_bytes(4, "big")


USED = {"inputTokens": 12, "outputTokens": 9, "totalTokens": 21}


class BedrockVoice:
    """Converse and ConverseStream."""

    dialect = "bedrock"
    kind = "application/vnd.amazon.eventstream"
    model = "amazon.nova-lite-v1:0"

    def is_stream(self, asked: Asked) -> bool:
        assert asked.target.startswith("/model/"), asked.target
        return asked.target.endswith("/converse-stream")

    def whole(self, asked: Asked) -> bytes:
        block, reason = self._said(asked.body)
        message = {"role": "assistant", "content": [block]}
        return json.dumps({"output": {"message": message}, "stopReason": reason, "usage": USED}).encode()

    def pieces(self, asked: Asked) -> list[bytes]:
        block, reason = self._said(asked.body)
        if "toolUse" in block:
            start = {name: block["toolUse"][name] for name in ("toolUseId", "name")}
            said = json.dumps(block["toolUse"]["input"])
            opened = [("contentBlockStart", {"start": {"toolUse": start}})]
            deltas = [{"toolUse": {"input": piece}} for piece in (said[:5], said[5:])]
        else:
            half = len(block["text"]) // 2
            opened = []
            deltas = [{"text": piece} for piece in (block["text"][:half], block["text"][half:])]
        events = [("messageStart", {"role": "assistant"}), *opened]
        events += [("contentBlockDelta", {"delta": delta}) for delta in deltas] + [("contentBlockStop", {})]
        numbered = [(name, fields if "role" in fields else {**fields, "contentBlockIndex": 0}) for name, fields in events]
        numbered += [("messageStop", {"stopReason": reason}), ("metadata", {"usage": USED, "metrics": {"latencyMs": 1}})]
        return [event_message(name, fields) for name, fields in numbered]

    def _said(self, body: Any) -> tuple[Any, str]:
        tools = body.get("toolConfig", {})
        if wanted := tools.get("toolChoice", {}).get("tool"):
            assert tools["tools"][0]["toolSpec"]["name"] == wanted["name"]
            return {"toolUse": {"toolUseId": "tooluse_1", "name": wanted["name"], "input": {"river": "Danube"}}}, "tool_use"
        form = body.get("outputConfig", {}).get("textFormat")
        question = body["messages"][-1]["content"][-1]["text"]
        schema = json.loads(form["structure"]["jsonSchema"]["schema"]) if form else None
        return {"text": json.dumps(dict.fromkeys(schema["properties"], "x")) if schema else "".join(says(question))}, "end_turn"

    def error(self, status: int) -> bytes:
        return json.dumps({"message": "It did not work."}).encode()

    def models(self) -> bytes:
        return json.dumps({"modelSummaries": [{"modelId": self.model, "modelName": "Nova Lite"}]}).encode()
