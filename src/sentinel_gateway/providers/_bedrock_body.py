"""A chat request in the words of Amazon Bedrock's Converse API. Pure.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.providers._anthropic_body import DEFAULT_LIMIT, effort_of, thinking_of
from sentinel_gateway.providers._chat_parts import Media, Part, Text, Thought, ToolResult, ToolUse, Unfit, object_of
from sentinel_gateway.providers._chat_request import Accepts, Request, Schema, read_request

MORE: Final = "additional_model_request_fields"
"""What one model alone understands, in its maker's words."""
ACCEPTS: Final = Accepts(own=frozenset({"thinking", "top_k", MORE}), temperature=1.0)

_CLAUDE: Final = "anthropic.claude"
_BETAS: Final[Mapping[str, re.Pattern[str]]] = {
    "context-1m-2025-08-07": re.compile(r"claude-(?:sonnet-4|opus-4-6)"),
    "interleaved-thinking-2025-05-14": re.compile(r"claude-(?:sonnet|opus)-4"),
}
"""What changes an answer here, and the models that know it: a request with any other beta, or to any other model, is refused.

Source: https://platform.claude.com/docs/en/build-with-claude, on context windows and on interleaved thinking.
"""
_DISABLED: Final = {"type": "disabled"}
"""What `thinking` says to a model that knows nothing of it: what it says by its absence."""
_IMAGES: Final = {f"image/{kind}": kind for kind in ("png", "jpeg", "gif", "webp")}
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_UNSAFE_IN_NAME: Final = re.compile(r"[^A-Za-z0-9()\[\]-]+")

_encode = msgspec.json.Encoder().encode


def build_body(fields: Fields, model: str, betas: str = "") -> bytes:
    """The body for these fields, streamed or not; raises `Unfit`. `betas` are what a header of Anthropic's switches on."""
    request = read_request(fields, ACCEPTS)
    more = _more(request, model) | _switched_on(betas, model, request)
    limit = request.limit
    match more.get("thinking"):
        case {"budget_tokens": _} if request.effort is not None:
            limit = limit or DEFAULT_LIMIT
    messages = ({"role": turn.role, "content": list(_blocks(turn.parts))} for turn in request.turns)
    body: Fields = {
        "messages": [message for message in messages if message["content"]],
        "system": list(_blocks(request.system)),
        "inferenceConfig": _inference(request, limit),
        "toolConfig": _tools(request),
        "outputConfig": _output(request, model),
        "additionalModelRequestFields": more,
    }
    return _encode({name: value for name, value in body.items() if value})


def _more(request: Request, model: str) -> Fields:
    """What only some models understand; of Claude's own words those that it is asked in elsewhere, too."""
    more = {**object_of(request.own.get(MORE, {}), MORE)}
    is_claude = _CLAUDE in model
    if "top_k" in request.own:
        if not is_claude:
            raise Unfit(f"knows no 'top_k' of this model: send {MORE}, in the words of its maker", "top_k")
        more["top_k"] = request.own["top_k"]
    if is_claude:
        more |= thinking_of(request, model, request.limit or DEFAULT_LIMIT)
    elif (request.own.get("thinking") or _DISABLED) != _DISABLED:
        raise Unfit(f"knows no 'thinking' of this model: send reasoning_effort, or {MORE} in the words of its maker", "thinking")
    elif request.effort == "none":
        raise Unfit("can't be kept from thinking: leave it out", "reasoning_effort")
    return more


def _switched_on(betas: str, model: str, request: Request) -> Fields:
    """Those betas that can be carried, behind those that the request itself names in its maker's words."""
    carried = [beta for beta in betas.split(",") if (known := _BETAS.get(beta)) is not None and known.search(model)]
    if not carried:
        return {}
    named = object_of(request.own.get(MORE, {}), MORE).get("anthropic_beta", [])
    if not isinstance(named, list) or not all(isinstance(beta, str) for beta in named):  # they could not be joined
        raise Unfit(f"takes a list of names as 'anthropic_beta' of {MORE}", MORE)
    return {"anthropic_beta": list(dict.fromkeys([*named, *carried]))}


def _inference(request: Request, limit: int | None) -> Fields:
    said = {
        "maxTokens": limit,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": request.stop or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _tools(request: Request) -> Fields:
    if not request.tools:
        return {}
    if not request.parallel:
        raise Unfit("can't be kept from calling several tools at once: leave it out", "parallel_tool_calls")
    tools: list[Fields] = []
    for tool in request.tools:
        described = {"description": tool.description} if tool.description else {}
        strict = {"strict": True} if tool.strict else {}
        schema = {"inputSchema": {"json": tool.parameters}}
        tools.append({"toolSpec": {"name": tool.name, **described, **schema, **strict}})
        tools += _cache_point(tool.cache)
    return {"tools": tools, **_choice(request)}


def _choice(request: Request) -> Fields:
    match request.choice:
        case None:
            return {}
        case "none":
            raise Unfit("can't be kept from calling tools: leave the tools out", "tool_choice")
        case "auto":
            return {"toolChoice": {"auto": {}}}
        case "required":
            return {"toolChoice": {"any": {}}}
        case _:
            return {"toolChoice": {"tool": {"name": request.forced}}}


def _output(request: Request, model: str) -> Fields:
    effort = effort_of(request, model)
    config: Fields = {"effort": effort} if effort else {}
    if request.answer is not None:
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": _schema(request.answer)}}
    return config


def _schema(answer: Schema) -> Fields:
    if not answer.schema:
        raise Unfit("has no JSON without a schema: send a response_format of json_schema", "response_format")
    name = {"name": answer.name} if answer.name else {}
    return {"schema": _encode(answer.schema).decode(), **name}


def _blocks(parts: Sequence[Part]) -> Iterator[Fields]:
    """A mark for the prompt cache is a block of its own, behind what it marks."""
    for part in parts:
        match part:
            case Text(text, cache):
                yield {"text": text}
                yield from _cache_point(cache)
            case Media():
                yield _media(part)
                yield from _cache_point(part.cache)
            case ToolUse(call, name, arguments):
                yield {"toolUse": {"toolUseId": call, "name": name, "input": arguments}}
                yield from _cache_point(part.cache)
            case ToolResult(call, _, content, cache, failed):
                status = {"status": "error"} if failed else {}
                yield {"toolResult": {"toolUseId": call, "content": list(_blocks(content)), **status}}
                yield from _cache_point(cache)
            case Thought({"type": "thinking", "thinking": str(text), **rest}):
                signed = {"signature": rest["signature"]} if rest.get("signature") else {}
                yield {"reasoningContent": {"reasoningText": {"text": text, **signed}}}
            case Thought({"type": "redacted_thinking", "data": str(data)}):
                yield {"reasoningContent": {"redactedContent": data}}


def _cache_point(cache: Fields | None) -> list[Fields]:
    if not cache:
        return []
    return [{"cachePoint": {"type": "default", **({"ttl": cache["ttl"]} if cache.get("ttl") else {})}}]


def _media(part: Media) -> Fields:
    if part.url:
        raise Unfit("doesn't fetch what is elsewhere: send it as data:TYPE;base64,...", part.place)
    if image := _IMAGES.get(part.media_type):
        return {"image": {"format": image, "source": {"bytes": part.data}}}
    if document := _DOCUMENTS.get(part.media_type):
        name = _UNSAFE_IN_NAME.sub("-", part.name) or "document"
        return {"document": {"format": document, "name": name, "source": {"bytes": part.data}}}
    raise Unfit(f"takes no {part.media_type or 'file without a type'}", part.place)
