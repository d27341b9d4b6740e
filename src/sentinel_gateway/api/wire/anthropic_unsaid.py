"""What of a request for a message the chat that asks the same leaves unsaid. Pure.

A provider of Anthropic's dialect is then told the request as it came (docs/decisions/033). To all others what is left unsaid
means nothing, as long as it only helps; where the answer hangs on it, they can't be asked (`Native.needs`).
"""

import hashlib
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from sentinel_gateway.core.chat import Fields, Native

SERVED_THERE: Final = ("container", "mcp_servers")
"""Fields of the request that have Anthropic do something beside answering."""
NOT_ASKED: Final = frozenset({"model", "stream", "metadata", "service_tier"})
"""Fields that don't change what is asked (`core.identity.LEFT_OUT`)."""
SAMPLING: Final = frozenset({"temperature", "top_p", "top_k"})
"""Fields that a version of the API refuses, as it does a document in an answer and what citations in a question leave unsaid."""
THOUGHTS: Final = ("thinking", "redacted_thinking")

_SAYS_NOTHING: Final[tuple[Any, ...]] = (None, False, "", [], {})
_HINT: Final = frozenset({"type", "cache_control"})


class _Known(NamedTuple):
    """Members that a chat has a place for, and those that only help."""

    said: frozenset[str]
    help: frozenset[str] = frozenset()


_BLOCKS: Final = {
    "text": _Known(_HINT | {"text"}, frozenset({"citations"})),
    "image": _Known(_HINT | {"source"}),
    "document": _Known(_HINT | {"source", "title", "context"}),
    "tool_use": _Known(_HINT | {"id", "name", "input"}, frozenset({"caller"})),
    "tool_result": _Known(_HINT | {"tool_use_id", "content", "is_error"}),
}
_TOOL: Final = _Known(_HINT | {"name", "description", "input_schema", "strict"}, frozenset({"eager_input_streaming"}))
_OUTPUT: Final = frozenset({"effort", "format"})
_SOURCES: Final = ("base64", "url")
_ORDER: Final = {"thinking": 0, "redacted_thinking": 0, "tool_use": 2}
"""Of the blocks of an answer in a chat, where text is 1."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Unsaid(NamedTuple):
    """One thing: the field, and whether the answer hangs on it."""

    place: str
    needed: bool


def native_of(fields: Fields, known: Collection[str]) -> Native:
    """The request in its own words. `fields` are a body that was translated: the types of all that is `known` are right."""
    unsaid = [*_unknown(fields, known), *_unsaid(fields)]
    needs = next((one.place for one in unsaid if one.needed), "")
    dated = bool(unsaid) or not SAMPLING.isdisjoint(fields) or _answers_with_a_document(fields)
    return Native(fields, digest=_digest(fields) if unsaid else "", needs=needs, dated=dated)


def _answers_with_a_document(fields: Fields) -> bool:
    answers = (message.get("content") for message in fields["messages"] if message.get("role") == "assistant")
    return any(block.get("type") == "document" for blocks in answers if isinstance(blocks, list) for block in blocks)


def _digest(fields: Fields) -> str:
    asked = {name: value for name, value in fields.items() if name not in NOT_ASKED and value is not None}
    return hashlib.sha256(_encode(asked)).hexdigest()


def _unknown(fields: Fields, known: Collection[str]) -> Iterator[Unsaid]:
    """They stand in the chat, too, under their names: another provider says itself that it does not know one."""
    for name, value in fields.items():
        if name not in known and value is not None:
            yield Unsaid(name, needed=name in SERVED_THERE)


def _unsaid(fields: Fields) -> Iterator[Unsaid]:
    if fields.get("context_management"):
        yield Unsaid("context_management", needed=False)
    config, thinking = fields.get("output_config") or {}, fields.get("thinking")
    yield from _members(config, _Known(_OUTPUT), "output_config")
    if config.get("effort") and thinking != {"type": "adaptive"}:  # a chat has one word for both
        yield Unsaid("output_config.effort", needed=False)
    for number, tool in enumerate(fields.get("tools") or ()):
        yield from _of_tool(tool, f"tools[{number}]")
    if isinstance(system := fields.get("system"), list):
        yield from _of_blocks(system, "system")
    for number, message in enumerate(fields["messages"]):
        if message.get("role") == "system" and number:  # a chat's providers are told all instructions at the beginning
            yield Unsaid(f"messages[{number}].role", needed=False)
        yield from _members(message, _Known(frozenset({"role", "content"})), f"messages[{number}]")
        if isinstance(message.get("content"), list):
            yield from _of_turn(message, f"messages[{number}].content")


def _of_tool(tool: Fields, place: str) -> Iterator[Unsaid]:
    if tool.get("type") not in (None, "custom"):
        yield Unsaid(f"{place}.type", needed=True)
    else:
        yield from _members(tool, _TOOL, place)


def _of_turn(message: Fields, place: str) -> Iterator[Unsaid]:
    blocks = message["content"]
    yield from _of_blocks(blocks, place)
    kinds = [block.get("type") for block in blocks]
    mixed = is_mixed(kinds) if message.get("role") == "assistant" else _results_follow(kinds)
    if mixed:
        yield Unsaid(place, needed=False)


def is_mixed(kinds: list[Any]) -> bool:
    """Do the blocks of an answer stand otherwise than in a chat: thoughts, text, calls of tools?"""
    ranks = [_ORDER.get(kind, 1) if isinstance(kind, str) else 1 for kind in kinds]
    return ranks != sorted(ranks)


def _results_follow(kinds: list[Any]) -> bool:
    """Does a result of a tool come after something else? In a chat all stand first."""
    results = [kind == "tool_result" for kind in kinds]
    return results != sorted(results, reverse=True)


def _of_blocks(blocks: list[Fields], place: str) -> Iterator[Unsaid]:
    for number, block in enumerate(blocks):
        yield from _of_block(block, f"{place}[{number}]")


def _of_block(block: Fields, place: str) -> Iterator[Unsaid]:
    kind = block.get("type")
    if kind in THOUGHTS:
        return
    known = _BLOCKS.get(kind) if isinstance(kind, str) else None
    if known is None:
        yield Unsaid(f"{place}.type", needed=True)
        return
    yield from _members(block, known, place)
    source = block.get("source")
    if kind in ("image", "document") and isinstance(source, dict) and source.get("type") not in _SOURCES:
        text = kind == "document" and source.get("type") == "text"
        yield Unsaid(f"{place}.source.type", needed=not text)
    if kind == "tool_result" and isinstance(block.get("content"), list):
        yield from _of_blocks(block["content"], f"{place}.content")


def _members(value: Fields, known: _Known, place: str) -> Iterator[Unsaid]:
    for name, member in value.items():
        if name in known.said or member in _SAYS_NOTHING or (name == "citations" and member == {"enabled": False}):
            continue
        yield Unsaid(f"{place}.{name[:100]}", needed=name not in known.help)
