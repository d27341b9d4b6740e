"""Anthropic's Messages, inward: bytes to the `ChatRequest` that asks the same in OpenAI's chat shape.

What both dialects can say is said in OpenAI's words, so that one cache, one set of rules and every provider serve both. What only
Anthropic's can say, and some provider can be told, stands in the chat fields under Anthropic's own names: `thinking`, `top_k`,
`cache_control`, a message's `thinking_blocks` and `block_order`, a tool's `is_error`. What has no place at all is left unsaid
(`anthropic_unsaid.py`): the request keeps its own words for providers that speak as it does.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from sentinel_gateway.api.wire.anthropic_unsaid import THOUGHTS, is_mixed, native_of
from sentinel_gateway.api.wire.json_body import read_object
from sentinel_gateway.api.wire.openai import KNOWN, Named, chat_request, typed
from sentinel_gateway.core.chat import ChatRequest, Fields
from sentinel_gateway.errors import InvalidField

EXAMPLE: Final = '{"model": "demo", "max_tokens": 1024, "messages": [...]}'
PDF: Final = "application/pdf"

_encode = msgspec.json.Encoder().encode


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]]


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: dict[str, Any] | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Body(Named):
    """The types of Anthropic's fields; what a field means is left to the provider."""

    messages: list[_Message]
    max_tokens: int | None = None
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: _OutputConfig | None = None
    metadata: _Metadata | None = None
    service_tier: str | None = None
    cache_control: dict[str, Any] | None = None
    context_management: dict[str, Any] | None = None


_OWN: Final = frozenset(_Body.__struct_fields__)
_TIERS: Final = {"auto": None, "standard_only": "default"}
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


def read_messages(raw: bytes, *, max_depth: int) -> ChatRequest:
    """A request for a message from a body; raises `InvalidBody` or `InvalidField`."""
    fields = read_object(raw, max_depth=max_depth, example=EXAMPLE)
    if fields.get("max_tokens") is None:
        raise InvalidField("Missing required field 'max_tokens'.", param="max_tokens")
    return replace(_translate(fields), include_usage=True)


def read_count(raw: bytes, *, max_depth: int) -> ChatRequest:
    """A request to count tokens: the same, without what bounds the answer. Raises as above."""
    fields = read_object(raw, max_depth=max_depth, example=EXAMPLE)
    return _translate({name: value for name, value in fields.items() if name not in {"max_tokens", "stream"}})


def _translate(fields: Fields) -> ChatRequest:
    body = typed(fields, _Body, _OWN)
    if theirs := sorted((fields.keys() - _OWN) & KNOWN):  # a provider would obey what only OpenAI's dialect calls so
        raise InvalidField(f"Unknown field '{theirs[0]}': a request for a message has no such field.", param=theirs[0])
    system = [] if not body.system else [{"role": "system", "content": _content(body.system, "system")}]
    turns = [told for number, message in enumerate(body.messages) for told in _turn(message, f"messages[{number}]")]
    if turns and body.cache_control:  # of the request: it means its last block
        turns[-1].setdefault("cache_control", body.cache_control)
    chat = {
        **{name: value for name, value in fields.items() if name not in _OWN},
        "model": body.model,
        "messages": [*system, *turns] if turns else [],
        "max_tokens": body.max_tokens,
        "temperature": fields.get("temperature"),
        "top_p": fields.get("top_p"),
        "top_k": body.top_k,
        "stop": body.stop_sequences or None,
        "user": body.metadata.user_id if body.metadata else None,
        "service_tier": _tier(body.service_tier),
        "stream": body.stream or None,
        **_tools(body),
        **_thinking(body),
        **_format(body.output_config),
    }
    told = {name: value for name, value in chat.items() if value is not None}
    return replace(chat_request(told), dialect="anthropic", native=native_of(fields, _OWN))


def _tier(tier: str | None) -> str | None:
    if tier is not None and tier not in _TIERS:
        raise InvalidField(f"Invalid value for 'service_tier': expected one of {', '.join(_TIERS)}.", param="service_tier")
    return None if tier is None else _TIERS[tier]


def _thinking(body: _Body) -> Fields:
    """An effort says in OpenAI's words what adaptive thinking with that effort says in Anthropic's."""
    effort = body.output_config.effort if body.output_config else None
    kind = body.thinking.get("type") if body.thinking else None
    return {
        "thinking": None if effort and kind == "adaptive" else body.thinking,
        "reasoning_effort": None if kind == "disabled" else effort,
    }


def _format(config: _OutputConfig | None) -> Fields:
    form = config.format if config else None
    if not form:
        return {}
    schema = form.get("schema")
    if form.get("type") != "json_schema" or not isinstance(schema, dict):
        raise InvalidField("'output_config.format' must be of type 'json_schema', with a 'schema'.", param="output_config.format")
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}}


# --- tools ---


def _tools(body: _Body) -> Fields:
    asked = body.tool_choice or {"type": "auto"}
    choice = _choice(asked)
    if not body.tools:
        return {} if choice in ("auto", "none") else {"tool_choice": choice}
    return {
        "tools": [_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools)],
        "tool_choice": choice if body.tool_choice else None,
        "parallel_tool_calls": False if asked.get("disable_parallel_tool_use") is True else None,
    }


def _tool(tool: Fields, place: str) -> Fields:
    if tool.get("type") not in (None, "custom"):
        return tool  # of Anthropic's own
    function = {
        "name": _string(tool, "name", place),
        "description": tool.get("description"),
        "parameters": _object(tool, "input_schema", place),
        "strict": tool.get("strict"),
    }
    told = {name: value for name, value in function.items() if value is not None}
    return {"type": "function", "function": told, **_cache_control(tool)}


def _choice(choice: Fields) -> str | Fields:
    kind = choice.get("type")
    if kind == "tool":
        return {"type": "function", "function": {"name": _string(choice, "name", "tool_choice")}}
    if not isinstance(kind, str) or kind not in _CHOICES:
        raise InvalidField("'tool_choice.type' must be auto, any, tool or none.", param="tool_choice.type")
    return _CHOICES[kind]


# --- messages ---


def _turn(message: _Message, place: str) -> Iterator[Fields]:
    """The chat messages that one message is: results of tools are messages of their own, and stand first."""
    if message.role not in _TURNS:
        raise InvalidField(f"'{place}.role' must be user, assistant or system.", param=f"{place}.role")
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
    else:
        blocks = [(block, f"{place}.content[{number}]") for number, block in enumerate(message.content)]
        yield from _TURNS[message.role](blocks)


_Blocks = list[tuple[Fields, str]]
"""Each with its place."""


def _user(blocks: _Blocks) -> Iterator[Fields]:
    results = [(block, place) for block, place in blocks if block.get("type") == "tool_result"]
    for block, place in results:
        yield _tool_result(block, place)
    if len(results) < len(blocks) or not blocks:
        parts = [part for block, place in blocks if block.get("type") != "tool_result" for part in _parts(block, place)]
        yield {"role": "user", "content": _plain(parts)}


def _system(blocks: _Blocks) -> Iterator[Fields]:
    yield {"role": "system", "content": _plain([part for block, place in blocks for part in _parts(block, place)])}


def _assistant(blocks: _Blocks) -> Iterator[Fields]:
    parts: list[Fields] = []
    calls: list[Fields] = []
    thoughts: list[Fields] = []
    order: list[str] = []
    for block, place in blocks:
        match block.get("type"):
            case "tool_use":
                said, told = calls, [_tool_use(block, place)]
            case "thinking" | "redacted_thinking":
                said, told = thoughts, _thought(block)
            case _:
                said, told = parts, _parts(block, place)
        said += told
        order += [_KINDS.get(str(block.get("type")), "text") for part in told if part.get("text") != ""]
    message: Fields = {"role": "assistant", "content": _plain(parts) if parts or not calls else None}
    if thoughts:
        message["thinking_blocks"] = thoughts
    if calls:
        message["tool_calls"] = calls
    if is_mixed(order):
        message["block_order"] = order
    yield message


_KINDS: Final = {**dict.fromkeys(THOUGHTS, "thinking"), "tool_use": "tool_use"}
"""What a block is to the order of its answer; all others say something."""
_TURNS: Final[dict[str, Callable[[_Blocks], Iterator[Fields]]]] = {"user": _user, "assistant": _assistant, "system": _system}


def _tool_use(block: Fields, place: str) -> Fields:
    arguments = _encode(_object(block, "input", place)).decode()
    function = {"name": _string(block, "name", place), "arguments": arguments}
    return {"id": _string(block, "id", place), "type": "function", "function": function, **_cache_control(block)}


def _thought(block: Fields) -> list[Fields]:
    """As it is: it is signed. One without a signature is none of Anthropic's, and nobody wants it back."""
    return [block] if block.get("signature") or block.get("data") else []


def _tool_result(block: Fields, place: str) -> Fields:
    content = block.get("content")
    if content is not None and not isinstance(content, str | list):
        raise InvalidField(f"'{place}.content' must be a string or a list of blocks.", param=f"{place}.content")
    call, said = _string(block, "tool_use_id", place), _content(content or "", f"{place}.content")
    failed = {"is_error": True} if block.get("is_error") is True else {}
    return {"role": "tool", "tool_call_id": call, "content": said, **_cache_control(block), **failed}


def _content(content: str | list[Any], place: str) -> str | list[Fields]:
    if isinstance(content, str):
        return content
    return _plain([part for number, block in enumerate(content) for part in _parts(block, f"{place}[{number}]")])


def _plain(parts: list[Fields]) -> str | list[Fields]:
    """A lone text is a string: in both dialects that means the same, and more providers take it."""
    lone = len(parts) == 1 and parts[0].keys() == {"type", "text"}
    return str(parts[0]["text"]) if lone else parts


def _parts(block: Any, place: str) -> list[Fields]:
    """The content parts that a block is."""
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str):
        raise InvalidField(f"'{place}' must be an object with a 'type'.", param=f"{place}.type")
    if kind in _KINDS or kind == "tool_result":
        raise InvalidField(f"'{place}': a block of type '{kind}' doesn't belong here.", param=f"{place}.type")
    return [block] if kind not in _BLOCKS or _is_kept_there(block) else _BLOCKS[kind](block, place)


def _is_kept_there(block: Fields) -> bool:
    """Is it somewhere at Anthropic?

    Such blocks, and those of other types, stand in a chat as they are: nobody is sent them who can't be told them.
    """
    source = block.get("source")
    kind = source.get("type") if isinstance(source, dict) else None
    return isinstance(kind, str) and kind not in ("base64", "url", "text")


def _text(block: Fields, place: str) -> list[Fields]:
    return [{"type": "text", "text": _string(block, "text", place), **_cache_control(block)}]


def _image(block: Fields, place: str) -> list[Fields]:
    return [{"type": "image_url", "image_url": {"url": _url(block, place)}, **_cache_control(block)}]


def _document(block: Fields, place: str) -> list[Fields]:
    """Text is text in every dialect: what stands above it goes before it. Else it is a file."""
    source = _object(block, "source", place)
    title, context = (_string(block, name, place) if block.get(name) else "" for name in ("title", "context"))
    match source.get("type"):
        case "text":
            heads = [text for text in (title, context) if text]
            text = "\n\n".join([*heads, _string(source, "data", f"{place}.source")])
            return [{"type": "text", "text": text, **_cache_control(block)}]
        case _:
            file = {"filename": title or "document.pdf", "file_data": _url(block, place, media_type=PDF)}
            told = [{"type": "text", "text": context}] if context else []
            return [*told, {"type": "file", "file": file, **_cache_control(block)}]


_BLOCKS: Final[dict[str, Callable[[Fields, str], list[Fields]]]] = {"text": _text, "image": _image, "document": _document}


def _url(block: Fields, place: str, *, media_type: str = "") -> str:
    """Where the image or the file is, or a URL that holds it."""
    source, inner = _object(block, "source", place), f"{place}.source"
    match source.get("type"):
        case "base64":
            kind = _string(source, "media_type", inner)
            if media_type and kind != media_type:
                raise InvalidField(f"'{inner}.media_type' must be {media_type}.", param=f"{inner}.media_type")
            return f"data:{kind};base64,{_string(source, 'data', inner)}"
        case "url":
            return _string(source, "url", inner)
        case other:
            raise InvalidField(f"'{inner}': sources of type {str(other)[:100]!r} can't be carried here.", param=f"{inner}.type")


def _cache_control(block: Fields) -> Fields:
    hint = block.get("cache_control")
    return {"cache_control": hint} if hint else {}


def _string(value: Fields, name: str, place: str) -> str:
    member = value.get(name)
    if not isinstance(member, str):
        raise InvalidField(f"'{place}.{name}' must be a string.", param=f"{place}.{name}")
    return member


def _object(value: Fields, name: str, place: str) -> Fields:
    member = value.get(name)
    if not isinstance(member, dict):
        raise InvalidField(f"'{place}.{name}' must be an object.", param=f"{place}.{name}")
    return member
