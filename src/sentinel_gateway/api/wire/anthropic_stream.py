"""The chunks of a chat stream as Anthropic's events: one block after the other, then why it ended and what it cost.

Blocks are open one at a time, in the order in which their first words come: thoughts, text, calls of tools. `MessageEvents` is
fed by one stream and thrown away with it; it knows no socket and no clock.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from sentinel_gateway.api.wire.anthropic_answer import (
    asks_for_thoughts,
    ending,
    member,
    message_head,
    objects,
    text_of,
    thinking_text,
    thought,
    usage_of,
)
from sentinel_gateway.core.chat import ChatRequest, Fields
from sentinel_gateway.errors import UpstreamBroken

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
TEXT: Final = ("text", None)
UNSIGNED: Final = ("thinking", None)

_USED: Final[Fields] = {"input": {}}
_GROWS: Final[dict[str, Fields]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": _USED,
    "server_tool_use": _USED,
    "mcp_tool_use": _USED,
}
"""Members that are said piece by piece, by the type of their block, as they begin. Other blocks are told whole."""
_DELTAS: Final = {"text": "text_delta", "thinking": "thinking_delta", "signature": "signature_delta"}

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

Block = tuple[str, Any]
"""What an open block is: its type, and which of its kind. The same again goes on with it."""


class MessageEvents:
    """Chunks in, events out, for one answer to `request`."""

    pulse = PING

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._shows_thoughts = asks_for_thoughts(request)
        self._started = False
        self._open: Block | None = None
        self._blocks = 0
        self._calls: dict[int, str] = {}
        """The id of the latest call with each number."""
        self._kind = ""
        """The type of the open block, where it is passed on."""
        self._as_told = False
        """Blocks are passed on: what is said of them in a chat's words as well is for whoever folds the chunks."""
        self._ended: Fields = {}
        """The choice as the chunk has it that says why it ended."""
        self._usage: Any = None

    def __repr__(self) -> str:
        return f"<MessageEvents {self._blocks} blocks, {self._open[0] if self._open else 'none'} open>"

    def say(self, payloads: Iterable[bytes]) -> bytes:
        """The events of the chunks that came; nothing for some. Raises `UpstreamBroken` for what can't be told in order."""
        return b"".join(event for payload in payloads for event in self._read(_decode(payload)))

    def end(self) -> bytes:
        """The last events of a stream that has come to its end."""
        return b"".join(self._last())

    def _read(self, chunk: Fields) -> Iterator[bytes]:
        self._usage = chunk.get("usage") or self._usage
        yield from self._start(chunk)
        for choice in objects(chunk.get("choices")):
            delta = member(choice, "delta")
            if told := objects(delta.get("content_blocks")):
                self._as_told = True
                yield from self._pass_on(told)
            if self._as_told:
                delta = {}
            yield from self._think(delta)
            if text := text_of(delta.get("content")) + text_of(delta.get("refusal")):
                yield from self._begin(TEXT, {"type": "text", "text": ""})
                yield self._delta({"type": "text_delta", "text": text})
            for call in objects(delta.get("tool_calls")):
                yield from self._call(call)
            if choice.get("finish_reason"):
                self._ended = choice

    def _start(self, chunk: Fields) -> Iterator[bytes]:
        if not self._started:
            self._started = True
            message = {
                **message_head(chunk, self._request),
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": usage_of(self._usage),
            }
            yield _event("message_start", message=message)

    def _pass_on(self, told: list[Fields]) -> Iterator[bytes]:
        """Blocks, or pieces of them, as a provider of this dialect told them: the first piece of a block holds its type."""
        for piece in told:
            block: Block = ("told", piece.get("index"))
            said = {name: value for name, value in piece.items() if name != "index"}
            if self._open != block:
                self._kind = str(said.get("type"))
                opening, said = opened(said)
                yield from self._begin(block, opening)
            yield from map(self._delta, deltas(said, self._kind))

    def _think(self, delta: Fields) -> Iterator[bytes]:
        """Signed thoughts always; others, which come beside them as well, where the caller asks for thoughts."""
        blocks = objects(delta.get("thinking_blocks"))
        for block in blocks:
            yield from self._signed(block)
        if not blocks and self._shows_thoughts and (text := thinking_text(delta)):
            yield from self._begin(UNSIGNED, {"type": "thinking", "thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": text})

    def _signed(self, block: Fields) -> Iterator[bytes]:
        """Some servers don't number them: then the proof of one is where it ends."""
        index = block.get("index")
        number = index if type(index) is int else None
        if block.get("type") == "redacted_thinking":
            yield from self._begin(("redacted_thinking", number), thought(block))
            if number is None:
                yield from self._close()
            return
        yield from self._begin(("thinking", number), {"type": "thinking", "thinking": "", "signature": ""})
        if text := text_of(block.get("thinking")):
            yield self._delta({"type": "thinking_delta", "thinking": text})
        if signature := text_of(block.get("signature")):
            yield self._delta({"type": "signature_delta", "signature": signature})
            if number is None:
                yield from self._close()

    def _call(self, call: Fields) -> Iterator[bytes]:
        """Some providers give all their calls the number 0: one with another id is another call."""
        index, function = call.get("index"), member(call, "function")
        number = index if type(index) is int else 0
        call_id = text_of(call.get("id")) or self._calls.get(number) or f"call_{number}"
        block = ("tool_use", (number, call_id))
        if self._calls.get(number) != call_id:
            self._calls[number] = call_id
            name = text_of(function.get("name"))
            yield from self._begin(block, {"type": "tool_use", "id": call_id, "name": name, "input": {}})
        elif self._open != block:
            raise UpstreamBroken("The provider mixed the pieces of several tool calls: they can't be told one after the other.")
        if piece := text_of(function.get("arguments")):
            yield self._delta({"type": "input_json_delta", "partial_json": piece})

    def _begin(self, block: Block, shown: Fields) -> Iterator[bytes]:
        """Open a block, unless it is the open one."""
        if self._open != block:
            yield from self._close()
            self._open = block
            self._blocks += 1
            yield _event("content_block_start", index=self._blocks - 1, content_block=shown)

    def _delta(self, delta: Fields) -> bytes:
        return _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", index=self._blocks - 1)

    def _last(self) -> Iterator[bytes]:
        yield from self._start({})
        yield from self._close()
        delta = ending(self._ended, self._request, called=bool(self._calls))
        yield _event("message_delta", delta=delta, usage=usage_of(self._usage, self._ended))
        yield _event("message_stop")


def opened(block: Fields) -> tuple[Fields, Fields]:
    """A block as it begins, and what is then said of it."""
    grows = _GROWS.get(str(block.get("type")), {})
    said = {name: value for name, value in block.items() if name in (*grows, "partial_json") and value not in (None, "", [], {})}
    return {**{name: value for name, value in block.items() if name != "partial_json"}, **grows}, said


def deltas(said: Fields, kind: str) -> Iterator[Fields]:
    """What is said of an open block of this kind, as its deltas."""
    for name, value in said.items():
        if name == "citations" and isinstance(value, list):
            yield from ({"type": "citations_delta", "citation": citation} for citation in value)
        elif name == "input":
            yield {"type": "input_json_delta", "partial_json": _encode(value).decode()}
        elif name == "partial_json":
            yield {"type": "input_json_delta", name: value}
        else:
            yield {"type": _DELTAS.get(name, f"{kind}_delta"), name: value}


def _event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **members}))
