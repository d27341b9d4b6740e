"""What Amazon Bedrock's Converse API answers, in OpenAI's shape: whole answers, and the events of a stream. Pure.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and API_runtime_ConverseStream.html
"""

from typing import Any, Final

from sentinel_gateway.core.chat import Chunk, Fields
from sentinel_gateway.providers._chat_answer import CUT, Ending, Message, Tokens, Writer, choice_of, count, tool_call
from sentinel_gateway.providers._event_stream import Event
from sentinel_gateway.providers._reported import Reported

ENDINGS: Final[dict[Any, Ending]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
STATUSES: Final = {
    "validationException": 400,
    "throttlingException": 429,
    "modelStreamErrorException": 424,
    "serviceUnavailableException": 503,
}
"""What an exception is as an answer, should it come within a stream; any other is a 500."""


def read_converse(fields: Any, writer: Writer) -> Fields | None:
    """An answer as a `chat.completion`; None if it is none."""
    match fields:
        case {"output": {"message": {"content": list(blocks)}}}:
            writer.serve(_tier(fields))
            message = Message()
            for block in blocks:
                _gather(message, block)
            return writer.whole([choice_of(message, _ending(fields.get("stopReason")))], read_tokens(fields.get("usage")))
        case _:
            return None


def _ending(reason: Any) -> Ending:
    return ENDINGS.get(reason, CUT) if isinstance(reason, str) else CUT


def _gather(message: Message, block: Any) -> None:
    match block:
        case {"text": str(text)}:
            message.texts.append(text)
        case {"toolUse": {"toolUseId": str(call), "name": str(name), **rest}}:
            message.calls.append(tool_call(call, name, rest.get("input") or {}))
        case {"reasoningContent": {"reasoningText": {"text": str(text), **rest}}}:
            message.thoughts.append(text)
            message.blocks.append({"type": "thinking", "thinking": text, "signature": rest.get("signature") or ""})
        case {"reasoningContent": {"redactedContent": str(data)}}:
            message.blocks.append({"type": "redacted_thinking", "data": data})


def read_tokens(usage: Any) -> Tokens:
    """Bedrock counts what its prompt cache read and wrote apart from the input; OpenAI counts it in."""
    told = usage if isinstance(usage, dict) else {}
    read, written = count(told.get("cacheReadInputTokens")), count(told.get("cacheWriteInputTokens"))
    return Tokens(
        prompt=count(told.get("inputTokens")) + read + written,
        completion=count(told.get("outputTokens")),
        read=read,
        written=written,
    )


def _tier(fields: Fields) -> Any:
    tier = fields.get("serviceTier")
    return tier.get("type") if isinstance(tier, dict) else None


class BedrockReader:
    """The events of one stream, one by one. `finished` once `messageStop` and `metadata` have come, and not before."""

    __slots__ = ("_calls", "_ending", "_silent", "_thoughts", "_writer", "finished")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._calls: dict[int, int] = {}
        """The number of each call, by its block."""
        self._silent: set[int] = set()
        """Calls that have no arguments so far."""
        self._thoughts: dict[int, int] = {}
        self._ending: Ending | None = None
        self.finished = False

    def __repr__(self) -> str:
        return f"<BedrockReader {'finished' if self.finished else 'open'}>"

    def read(self, event: Event) -> list[Chunk]:
        """The chunks that an event makes."""
        if event.kind != "event":
            raise Reported(STATUSES.get(event.name, 500), event.fields)
        match event.name, event.fields:
            case "contentBlockStart", {"contentBlockIndex": int(block), "start": {"toolUse": dict(call)}}:
                return [self._open(block, call)]
            case "contentBlockDelta", {"contentBlockIndex": int(block), "delta": dict(delta)}:
                return self._delta(block, delta)
            case "contentBlockStop", {"contentBlockIndex": int(block)} if block in self._silent:
                return [self._call_piece(block, "{}")]
            case "messageStop", {"stopReason": reason}:
                self._ending = _ending(reason)
            case "metadata", fields if self._ending is not None:
                self.finished = True
                self._writer.serve(_tier(fields))
                return [self._writer.end(self._ending), self._writer.usage(read_tokens(fields.get("usage")))]
        return []

    def close(self) -> list[Chunk]:
        """Nothing is certain without the `metadata`."""
        return []

    def _open(self, block: int, call: Fields) -> Chunk:
        number = self._calls[block] = len(self._calls)
        self._silent.add(block)
        opening = {**tool_call(str(call.get("toolUseId", "")), str(call.get("name", "")), {}), "index": number}
        opening["function"]["arguments"] = ""
        return self._writer.delta({"tool_calls": [opening]})

    def _delta(self, block: int, delta: Fields) -> list[Chunk]:
        match delta:
            case {"text": str(text)}:
                return [self._writer.delta({"content": text})]
            case {"toolUse": {"input": str(piece)}} if piece and block in self._calls:
                return [self._call_piece(block, piece)]
            case {"reasoningContent": dict(thought)}:
                return [self._writer.delta(self._think(block, thought))]
        return []

    def _think(self, block: int, thought: Fields) -> Fields:
        first = block not in self._thoughts
        number = self._thoughts.setdefault(block, len(self._thoughts))
        match thought:
            case {"redactedContent": str(data)}:
                return {"thinking_blocks": [{"index": number, "type": "redacted_thinking", "data": data}]}
            case _:
                text, proof = (str(thought.get(name) or "") for name in ("text", "signature"))
                opened = {"type": "thinking"} if first else {}
                said = {"index": number, **opened, "thinking": text, "signature": proof}
                return {**({"reasoning_content": text} if text else {}), "thinking_blocks": [said]}

    def _call_piece(self, block: int, piece: str) -> Chunk:
        self._silent.discard(block)
        return self._writer.delta({"tool_calls": [{"index": self._calls[block], "function": {"arguments": piece}}]})
