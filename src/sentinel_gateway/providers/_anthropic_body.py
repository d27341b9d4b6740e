"""A chat request in Anthropic's words: the body of `POST /v1/messages`. Pure.

Source: https://platform.claude.com/docs/en/api/messages and the pages on tool use, thinking, prompt caching and structured
outputs that it links to.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.providers._chat_parts import Media, Part, Text, Thought, ToolResult, ToolUse, Unfit
from sentinel_gateway.providers._chat_request import Accepts, Request, Tool, budget, read_request

ACCEPTS: Final = Accepts(own=frozenset({"thinking", "top_k"}), temperature=1.0)
DEFAULT_LIMIT: Final = 32_000
"""Tokens of an answer to a request that sets no limit, since the API wants one: all models since Claude 4 can have so many."""

_BUDGETED: Final = re.compile(r"claude-(?:3-7-sonnet|(?:opus|sonnet|haiku)-4(?:-[015])?(?![-.]?\d\b))")
"""Models that think within a budget. Every later one is told an effort, and most refuse a budget: this list is closed."""
_EFFORTS: Final = {"minimal": "low"}
"""Those that have another name."""

_encode = msgspec.json.Encoder().encode


def build_body(fields: Fields, model: str, *, stream: bool) -> bytes:
    """The body for these fields; raises `Unfit`."""
    request = read_request(fields, ACCEPTS)
    limit = request.limit or DEFAULT_LIMIT
    body: Fields = {
        "model": model,
        "max_tokens": limit,
        "messages": [{"role": turn.role, "content": _blocks(turn.parts)} for turn in request.turns],
        **request.own,
        **thinking_of(request, model, limit),
    }
    if request.system:
        body["system"] = _blocks(request.system)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if choice := _choice(request):
        body["tool_choice"] = choice
    if request.stop:
        body["stop_sequences"] = request.stop
    sampling = {"temperature": request.temperature, "top_p": request.top_p}
    body |= {name: value for name, value in sampling.items() if value is not None}
    if config := _output(request, model):
        body["output_config"] = config
    if stream:
        body["stream"] = True
    return _encode(body)


def thinking_of(request: Request, model: str, limit: int) -> Fields:
    """How hard to think, for these models wherever they run: the member `thinking`, if something is said of it."""
    if request.effort is None:
        return {name: value for name, value in request.own.items() if name == "thinking"}
    if request.effort == "none":
        return {"thinking": {"type": "disabled"}}
    if _BUDGETED.search(model):
        return {"thinking": {"type": "enabled", "budget_tokens": budget(request.effort, limit)}}
    return {"thinking": {"type": "adaptive"}}


def effort_of(request: Request, model: str) -> str | None:
    """The effort by its name here; None where none is told, or a budget stands for it."""
    if request.effort in {None, "none"} or _BUDGETED.search(model):
        return None
    return _EFFORTS.get(request.effort or "", request.effort)


def _output(request: Request, model: str) -> Fields:
    effort = effort_of(request, model)
    config: Fields = {"effort": effort} if effort else {}
    if request.answer is not None:
        if not request.answer.schema:
            raise Unfit("has no JSON without a schema: send a response_format of json_schema", "response_format")
        config["format"] = {"type": "json_schema", "schema": request.answer.schema}
    return config


def _choice(request: Request) -> Fields:
    choice: Fields = {}
    match request.choice:
        case "auto" | "none":
            choice = {"type": request.choice}
        case "required":
            choice = {"type": "any"}
        case str():
            choice = {"type": "tool", "name": request.forced}
        case None if request.tools and not request.parallel:
            choice = {"type": "auto"}
    if choice and not request.parallel and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _tool(tool: Tool) -> Fields:
    written: Fields = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description:
        written["description"] = tool.description
    if tool.strict:
        written["strict"] = True
    return _cached(written, tool.cache)


def _blocks(parts: Sequence[Part]) -> list[Fields]:
    return [_block(part) for part in parts]


def _block(part: Part) -> Fields:
    match part:
        case Text(text, cache):
            return _cached({"type": "text", "text": text}, cache)
        case Media():
            return _cached(_media(part), part.cache)
        case ToolUse(call, name, arguments):
            return _cached({"type": "tool_use", "id": call, "name": name, "input": arguments}, part.cache)
        case ToolResult(call, _, content, cache, failed):
            said: Fields = {"content": _blocks(content)} if content else {}
            told = {**said, "is_error": True} if failed else said
            return _cached({"type": "tool_result", "tool_use_id": call, **told}, cache)
        case Thought(block):
            return block


def _media(part: Media) -> Fields:
    kind = "document" if part.media_type == "application/pdf" or (part.url and part.name) else "image"  # only files have names
    title = {"title": part.name} if kind == "document" and part.name else {}
    if part.url:
        return {"type": kind, "source": {"type": "url", "url": part.url}, **title}
    if kind == "image" and not part.media_type.startswith("image/"):
        raise Unfit(f"takes images and PDF files, not {part.media_type or 'a file without a type'}", part.place)
    return {"type": kind, "source": {"type": "base64", "media_type": part.media_type, "data": part.data}, **title}


def _cached(block: Fields, cache: Any) -> Fields:
    return {**block, "cache_control": cache} if cache else block
