"""A `chat.completion` as Anthropic's message, its endings and counts as Anthropic tells them, and lists of models. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import MAX_TOKENS, ChatRequest, Fields

STOP_REASONS: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
CUT: Final = "max_tokens"
"""What an end is called that is unknown, or that nobody told: never one that says all is there."""
OUR_PREFIX: Final = "chatcmpl-"
PREFIX: Final = "msg_"
UNREADABLE: Final = "INVALID_JSON"
"""Arguments that are no JSON object stand under this name, as Anthropic's documentation of fine-grained streaming has it."""

WHEN: Final = "%Y-%m-%dT%H:%M:%SZ"
"""RFC 3339, in UTC."""

_encode = msgspec.json.Encoder().encode


def message_body(answer: Fields, request: ChatRequest) -> bytes:
    """The message, as JSON."""
    choice = answer["choices"][0]
    if told := objects(choice["message"].get("content_blocks")):
        content = [whole_block(block) for block in told]
    else:
        content = list(_blocks(choice["message"], shows_thoughts=asks_for_thoughts(request)))
    called = any(block.get("type") == "tool_use" for block in content)
    end = ending(choice, request, called=called)
    return _encode({**message_head(answer, request), "content": content, **end, "usage": usage_of(answer.get("usage"), choice)})


def message_head(answer: Fields, request: ChatRequest) -> Fields:
    """What a message says of itself before it says anything. `answer` is a whole one, or a chunk."""
    known, model = str(answer.get("id") or "").removeprefix(OUR_PREFIX), answer.get("model")
    return {
        "id": known if known.startswith(PREFIX) else f"{PREFIX}{known}",
        "type": "message",
        "role": "assistant",
        "model": model if isinstance(model, str) and model else request.model,
    }


def asks_for_thoughts(request: ChatRequest) -> bool:
    """Is the caller ready for thoughts? Others read the first block of an answer as its text."""
    thinking = request.fields.get("thinking")
    return "reasoning_effort" in request.fields or (thinking is not None and thinking.get("type") != "disabled")


def ending(choice: Fields, request: ChatRequest, *, called: bool) -> Fields:
    """`stop_reason`, `stop_sequence`, and what else a provider of this dialect told of the end (`_chat_answer.py`).

    Some providers end a call of a tool with `stop`; vLLM tells what it stopped at.
    """
    told = member(choice, "ending")
    if isinstance(told.get("stop_reason"), str):
        return {name: value for name, value in told.items() if name != "usage"}
    reason = STOP_REASONS.get(str(choice.get("finish_reason")), CUT)
    matched = choice.get("stop_sequence") or choice.get("stop_reason")
    sequence = None
    if reason == "end_turn" and called:
        reason = "tool_use"
    elif reason == "end_turn" and isinstance(matched, str) and matched in request.fields.get("stop", ()):
        reason, sequence = "stop_sequence", matched
    return {"stop_reason": reason, "stop_sequence": sequence}


def usage_of(usage: Any, choice: Fields | None = None) -> Fields:
    """Tokens as Anthropic counts them: what came from a prompt cache, or went into one, is no part of `input_tokens`.

    `choice` may hold what else a provider of this dialect counted.
    """
    counts = usage if isinstance(usage, dict) else {}
    details = member(counts, "prompt_tokens_details")
    read, written = _count(details.get("cached_tokens")), _count(details.get("cache_write_tokens"))
    return {
        **member(member(choice or {}, "ending"), "usage"),
        "input_tokens": max(0, _count(counts.get("prompt_tokens")) - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": _count(counts.get("completion_tokens")),
    }


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else 0


def _blocks(message: Fields, *, shows_thoughts: bool) -> Iterator[Fields]:
    if signed := objects(message.get("thinking_blocks")):
        yield from map(thought, signed)
    elif shows_thoughts and (text := thinking_text(message)):
        yield {"type": "thinking", "thinking": text, "signature": ""}
    if text := text_of(message.get("content")) + text_of(message.get("refusal")):
        yield {"type": "text", "text": text}
    for number, call in enumerate(objects(message.get("tool_calls"))):
        function = member(call, "function")
        used = {"id": text_of(call.get("id")) or f"call_{number}", "name": text_of(function.get("name"))}
        yield {"type": "tool_use", **used, "input": read_arguments(function.get("arguments"))}


def whole_block(block: Fields) -> Fields:
    """A block as its provider told it, put together from the pieces of a stream if it came in some."""
    shown = {name: value for name, value in block.items() if name not in ("index", "partial_json")}
    if (arguments := block.get("partial_json")) is not None:
        shown["input"] = read_arguments(arguments)
    return shown


def objects(value: Any) -> list[Fields]:
    """The objects of a list: providers send what they like."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def member(value: Fields, name: str) -> Fields:
    """An object within another; an empty one where there is none."""
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def thought(block: Fields) -> Fields:
    """A thought as its provider signed it, without the number that a stream gave it."""
    return {"type": "thinking", **{name: value for name, value in block.items() if name != "index"}}


def thinking_text(message: Fields) -> str:
    """What a provider says of its reasoning without a signature, in a message or in a delta."""
    return text_of(message.get("reasoning_content") or message.get("reasoning"))


def text_of(content: Any) -> str:
    """The words of a content, which some providers send in parts."""
    if isinstance(content, list):
        return "".join(text_of(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def read_arguments(arguments: Any) -> Fields:
    """The input of a tool."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (ValueError, TypeError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {UNREADABLE: arguments}


def model_object(name: str, *, created: int) -> dict[str, str | int]:
    """Anthropic's model object; `created` in Unix seconds."""
    return {"type": "model", "id": name, "display_name": name, "created_at": f"{datetime.fromtimestamp(created, UTC):{WHEN}}"}


def model_list(models: list[dict[str, str | int]]) -> bytes:
    """Anthropic's list of models: all on one page."""
    first, last = (models[0]["id"], models[-1]["id"]) if models else (None, None)
    return _encode({"data": models, "has_more": False, "first_id": first, "last_id": last})
