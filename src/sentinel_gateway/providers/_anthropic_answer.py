"""What Anthropic's Messages API answers, in OpenAI's shape: whole messages, and the events of a stream. Pure.

Source: https://platform.claude.com/docs/en/api/messages and /docs/en/build-with-claude/streaming. Events and blocks of types
that are not known here say nothing, as that page asks.
"""

from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Chunk, Fields
from sentinel_gateway.providers._anthropic_native import piece_of
from sentinel_gateway.providers._chat_answer import CUT, Ending, Message, Tokens, Writer, choice_of, count, tool_call
from sentinel_gateway.providers._pattern import More, Said
from sentinel_gateway.providers._reported import Reported

ENDINGS: Final[dict[Any, Ending]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}

STATUSES: Final[dict[Any, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error is as an answer, by its type, should it come within a stream."""

SAID_ELSEWHERE: Final = frozenset({"id", "type", "role", "model", "content"})
"""Members of a message; all others say why and how it ended."""

FAST: Final = "fast"

_encode = msgspec.json.Encoder().encode


def read_message(fields: Any, writer: Writer) -> Fields | None:
    """A `message` as a `chat.completion`; None if it is none."""
    if not isinstance(fields, dict) or fields.get("type") != "message" or not isinstance(fields.get("content"), list):
        return None
    message = Message()
    for block in fields["content"]:
        _gather(message, block)
    writer.name(fields.get("id"), fields.get("model"))
    writer.serve(_tier(fields.get("usage")))
    as_told = None
    if writer.as_told:
        message.as_told = [block for block in fields["content"] if isinstance(block, dict)]
        as_told = {name: value for name, value in fields.items() if name not in SAID_ELSEWHERE}
    choice = choice_of(message, _ending(fields.get("stop_reason")), matched=fields.get("stop_sequence"), as_told=as_told)
    return writer.whole([choice], read_tokens(fields.get("usage")))


def _ending(reason: Any) -> Ending:
    return ENDINGS.get(reason, CUT) if isinstance(reason, str) else CUT


def _gather(message: Message, block: Fields) -> None:
    match block:
        case {"type": "text", "text": str(text)}:
            message.texts.append(text)
        case {"type": "tool_use", "id": str(call), "name": str(name), "input": arguments}:
            message.calls.append(tool_call(call, name, arguments))
        case {"type": "thinking", "thinking": str(text)}:
            message.thoughts.append(text)
            message.blocks.append(block)
        case {"type": "redacted_thinking"}:
            message.blocks.append(block)


def read_tokens(usage: Any) -> Tokens:
    """Anthropic counts what its prompt cache read and wrote apart from the input; OpenAI counts it in."""
    told = usage if isinstance(usage, dict) else {}
    read, written = count(told.get("cache_read_input_tokens")), count(told.get("cache_creation_input_tokens"))
    details, creation = told.get("output_tokens_details"), told.get("cache_creation")
    return Tokens(
        prompt=count(told.get("input_tokens")) + read + written,
        completion=count(told.get("output_tokens")),
        read=read,
        written=written,
        reasoning=count(details.get("thinking_tokens")) if isinstance(details, dict) else 0,
        written_1h=count(creation.get("ephemeral_1h_input_tokens")) if isinstance(creation, dict) else 0,
    )


def _tier(usage: Any) -> Any:
    """Fast mode is a price of its own as well, though no tier."""
    told = usage if isinstance(usage, dict) else {}
    return FAST if told.get("speed") == FAST else told.get("service_tier")


def speaking(event: Fields) -> Said | None:
    """The text of an event that says that and nothing else."""
    match event:
        case {"type": "content_block_delta", "index": int(), "delta": {"type": "text_delta", "text": str(text), **more} as delta}:
            return Said(delta, "text", before=b"event: content_block_delta\n") if text and not more else None
        case _:
            return None


class AnthropicReader:
    """The events of one stream, one by one. `finished` once `message_stop` has come, and not before."""

    __slots__ = ("_arguments", "_blocks", "_calls", "_ended", "_latest", "_thoughts", "_usage", "_writer", "finished")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._calls = 0
        self._thoughts = 0
        self._latest = 0
        """The block that the last delta was of."""
        self._blocks: dict[int, int] = {}
        """The number of each open block among its like."""
        self._arguments: dict[int, str] = {}
        """Of each open call: its arguments so far as they came whole, until a piece of them comes."""
        self._usage: Fields = {}
        self._ended: Fields = {}
        """What was told of the end, the reason among it."""
        self.finished = False

    def __repr__(self) -> str:
        return f"<AnthropicReader {'finished' if self.finished else 'open'}>"

    def read(self, event: Fields | More) -> list[Chunk]:
        """The chunks that an event makes."""
        match event:
            case More(text):
                return self._say(self._latest, {"content": text}, {"text": text})
            case {"type": "content_block_delta", "index": int(index), "delta": dict(delta)}:
                self._latest = index
                piece = piece_of(delta) if self._writer.as_told else delta
                return self._say(index, self._delta(index, delta), piece)
            case {"type": "message_start", "message": dict(message)}:
                self._writer.name(message.get("id"), message.get("model"))
                self._ended = {name: value for name, value in message.items() if name not in SAID_ELSEWHERE}
                self._writer.serve(_tier(message.get("usage")))
                self._count(message.get("usage"))
            case {"type": "content_block_start", "index": int(index), "content_block": dict(block)}:
                return self._say(index, self._start(index, block), block)
            case {"type": "content_block_stop", "index": int(index)} if arguments := self._arguments.pop(index, ""):
                return [self._writer.delta(self._call_piece(index, arguments))]
            case {"type": "message_delta", "delta": dict(delta)}:
                self._ended |= {**{name: value for name, value in event.items() if name not in ("type", "delta")}, **delta}
                self._count(event.get("usage"))
            case {"type": "error"}:
                error = event.get("error")
                kind = error.get("type") if isinstance(error, dict) else None
                raise Reported(STATUSES.get(kind, 500) if isinstance(kind, str) else 500, error)
            case {"type": "message_stop"}:
                self.finished = True
                return self._end()
        return []

    def close(self) -> list[Chunk]:
        """Nothing is certain without a `message_stop`."""
        return []

    def _end(self) -> list[Chunk]:
        as_told = {**self._ended, "usage": self._usage} if self._writer.as_told else None
        ending, matched = _ending(self._ended.get("stop_reason")), self._ended.get("stop_sequence")
        return [self._writer.end(ending, matched=matched, as_told=as_told), self._writer.usage(read_tokens(self._usage))]

    def _count(self, usage: Any) -> None:
        """A later count of something stands for the earlier one."""
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _say(self, index: int, delta: Fields, piece: Fields) -> list[Chunk]:
        """One chunk, where anything is to be said; `piece` is what its block is told to be, or to go on with."""
        if self._writer.as_told:
            delta = {**delta, "content_blocks": [{**piece, "index": index}]}
        return [self._writer.delta(delta)] if delta else []

    def _start(self, index: int, block: Fields) -> Fields:
        match block:
            case {"type": "text", "text": str(text)} if text:
                return {"content": text}
            case {"type": "thinking" | "redacted_thinking"}:
                self._blocks[index] = self._thoughts
                self._thoughts += 1
                return {"thinking_blocks": [{**block, "index": self._blocks[index]}]}
            case {"type": "tool_use", "id": str(call), "name": str(name)}:
                self._blocks[index] = self._calls
                self._calls += 1
                self._arguments[index] = _encode(block.get("input") or {}).decode()
                opening = {**tool_call(call, name, {}), "index": self._blocks[index]}
                opening["function"]["arguments"] = ""
                return {"tool_calls": [opening]}
        return {}

    def _delta(self, index: int, delta: Fields) -> Fields:
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                return {"content": text}
            case {"type": "input_json_delta", "partial_json": str(piece)} if piece and index in self._blocks:
                self._arguments.pop(index, None)
                return self._call_piece(index, piece)
            case {"type": "thinking_delta", "thinking": str(text)} if index in self._blocks:
                block = {"index": self._blocks[index], "thinking": text}
                return {"reasoning_content": text, "thinking_blocks": [block]}
            case {"type": "signature_delta", "signature": str(proof)} if index in self._blocks:
                return {"thinking_blocks": [{"index": self._blocks[index], "signature": proof}]}
        return {}

    def _call_piece(self, index: int, piece: str) -> Fields:
        return {"tool_calls": [{"index": self._blocks[index], "function": {"arguments": piece}}]}
