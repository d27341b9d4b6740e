"""A request in Anthropic's words that goes to a provider of Anthropic's dialect: as it came, value for value. Pure.

Changed is only what would be refused for where the conversation has been: thoughts that nobody signed, and ids of tool calls as
other providers write them.
"""

from typing import Any

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.providers._chat_parts import safe_id

_encode = msgspec.json.Encoder().encode


def as_it_came(body: Fields, model: str, *, stream: bool) -> bytes:
    """The body for this model, streamed or not."""
    asked = {name: value for name, value in body.items() if name not in ("model", "stream")}
    messages = [told for message in body["messages"] if (told := _message(message)) is not None]
    return _encode({"model": model, **asked, "messages": messages, **({"stream": True} if stream else {})})


def _message(message: Fields) -> Fields | None:
    """None if nothing of it is left."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    blocks = [_block(block) for block in content if not _is_unsigned(block)]
    return {**message, "content": blocks} if blocks or not content else None


def _is_unsigned(block: Fields) -> bool:
    return block.get("type") == "thinking" and not block.get("signature")


def _block(block: Fields) -> Fields:
    match block:
        case {"type": "tool_use", "id": str(call)}:
            return {**block, "id": safe_id(call)}
        case {"type": "tool_result", "tool_use_id": str(call)}:
            return {**block, "tool_use_id": safe_id(call)}
        case _:
            return block


def piece_of(delta: Fields) -> dict[str, Any]:
    """What a delta adds to its block: strings go on, lists get longer."""
    match delta:
        case {"type": "citations_delta", "citation": citation}:
            return {"citations": [citation]}
        case _:
            return {name: value for name, value in delta.items() if name != "type"}
