"""What a chat body may hold that OpenAI's dialect has no place for: hints that came in Anthropic's.

They stand under the names that Anthropic gave them, for providers that can be told. To one of OpenAI's dialect they go no
further: it would refuse the whole request for them, and without them it is asked the same.
"""

import re
from collections.abc import Collection
from typing import Any, Final

from sentinel_gateway.core.chat import Fields

OF_REQUEST: Final = frozenset({"thinking"})
OF_MESSAGE: Final = frozenset({"thinking_blocks", "block_order", "is_error", "cache_control"})
OF_PART: Final = frozenset({"cache_control"})
OF_CALL: Final = frozenset({"cache_control"})
OF_TOOL: Final = frozenset({"cache_control"})

_RENAMED: Final = re.compile(r"(?:.*/)?(?:o[134]|gpt-5)(?![a-z0-9])")
"""Models of OpenAI's, whoever serves them, that refuse `max_tokens` and want it under its newer name."""


def in_openai_words(fields: Fields, model: str) -> Fields:
    """A copy of a chat body as providers of OpenAI's dialect take it, for this model of theirs."""
    kept = _without_hints(fields)
    if "max_tokens" in kept and _RENAMED.match(model):
        kept["max_completion_tokens"] = kept.pop("max_tokens")
    return kept


def has_hints(fields: Fields) -> bool:
    """Are providers of OpenAI's dialect told less than this, if it came in Anthropic's?"""
    return _without_hints(fields) != fields


def _without_hints(fields: Fields) -> Fields:
    kept = _without(fields, OF_REQUEST)
    kept["messages"] = [_message(message) for message in fields["messages"]]
    if fields.get("tools"):
        kept["tools"] = [_without(tool, OF_TOOL) for tool in fields["tools"]]
    return kept


def _message(message: Fields) -> Fields:
    kept, content = _without(message, OF_MESSAGE), message.get("content")
    if isinstance(content, list):
        kept["content"] = [_without(part, OF_PART) for part in content]
    if "tool_calls" in message:
        kept["tool_calls"] = [_without(call, OF_CALL) for call in message["tool_calls"]]
    return kept


def _without(value: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: member for name, member in value.items() if name not in names}
