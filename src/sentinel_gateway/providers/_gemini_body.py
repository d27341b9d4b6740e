"""A chat request in Gemini's words: the body of `generateContent`. Pure.

Source: https://ai.google.dev/api/generate-content and the pages on function calling, thinking, thought signatures and structured
output.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.providers._chat_parts import (
    Media,
    Part,
    Text,
    Thought,
    ToolResult,
    ToolUse,
    Turn,
    Unfit,
    check_known,
    object_of,
)
from sentinel_gateway.providers._chat_request import BUDGETS, LEAST_BUDGET, Accepts, Request, Tool, read_request

ACCEPTS: Final = Accepts(own=frozenset({"n", "top_k", "presence_penalty", "frequency_penalty", "seed", "thinking"}))
MOST_BUDGET: Final = 24_576
"""Tokens to think in that every model with a budget takes."""
NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Google has stand for the signature of a call that another model made."""

_BUDGETED: Final = re.compile(r"gemini-2\.5")
"""Models that think within a budget; every later one is told a level."""
_SWITCHED: Final = re.compile(r"gemini-2\.5-flash")
"""Models that can be kept from thinking."""
_UNSIGNED: Final = re.compile(r"gemini-[12]|gemma")
"""Models whose calls need no signature; those of every later one do."""
_LEVELS: Final = {"max": "XHIGH"}
"""Those that have another name."""
_OWN_NAMES: Final = {
    "n": "candidateCount",
    "top_k": "topK",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "seed": "seed",
}
_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "pdf": "application/pdf",
}
"""Of what is elsewhere, by the end of its name."""

_encode = msgspec.json.Encoder().encode


def build_body(fields: Fields, model: str) -> bytes:
    """The body for these fields, streamed or not; raises `Unfit`."""
    request = read_request(fields, ACCEPTS)
    if request.tools and not request.parallel:
        raise Unfit("can't be kept from calling several tools at once: leave it out", "parallel_tool_calls")
    signed = not _UNSIGNED.match(model)
    contents = (_content(turn, signed=signed) for turn in request.turns)
    body: Fields = {"contents": [content for content in contents if content["parts"]]}
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in request.system]}
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
    if calling := _calling(request):
        body["toolConfig"] = {"functionCallingConfig": calling}
    if config := _config(request, model):
        body["generationConfig"] = config
    return _encode(body)


def _config(request: Request, model: str) -> Fields:
    said: dict[str, Any] = {
        "maxOutputTokens": request.limit,
        "temperature": request.temperature,
        "topP": request.top_p,
        "stopSequences": request.stop or None,
        "thinkingConfig": _thinking(request, model),
        **{_OWN_NAMES[name]: value for name, value in request.own.items() if name in _OWN_NAMES},
    }
    if request.answer is not None:
        said["responseMimeType"] = "application/json"
        said["responseJsonSchema"] = request.answer.schema or None
    return {name: value for name, value in said.items() if value is not None}


def _thinking(request: Request, model: str) -> Fields | None:
    if thinking := request.own.get("thinking"):
        return _thinking_as_asked(object_of(thinking, "thinking"), model)
    effort = request.effort
    if effort is None:
        return None
    if _BUDGETED.search(model):
        if effort == "none":
            return {"thinkingBudget": 0}
        room = request.limit // 2 if request.limit else MOST_BUDGET
        return {"thinkingBudget": min(BUDGETS[effort], MOST_BUDGET, room), "includeThoughts": True}
    if effort == "none":
        raise Unfit("can't be kept from thinking: send minimal, or leave it out", "reasoning_effort")
    return {"thinkingLevel": _LEVELS.get(effort, effort.upper()), "includeThoughts": True}


def _thinking_as_asked(thinking: Fields, model: str) -> Fields | None:
    """Anthropic's `thinking`. To a model that always thinks, or never does, `disabled` says nothing."""
    check_known(thinking, {"type", "budget_tokens", "display"}, "thinking")
    shown = {"includeThoughts": thinking.get("display") != "omitted"}
    match thinking:
        case {"type": "disabled"}:
            return {"thinkingBudget": 0} if _SWITCHED.search(model) else None
        case {"type": "adaptive"}:
            return shown
        case {"type": "enabled", "budget_tokens": int(tokens)} if tokens >= LEAST_BUDGET:
            return {"thinkingBudget": min(tokens, MOST_BUDGET), **shown}
        case _:
            raise Unfit(
                f"takes a 'thinking' of disabled, adaptive, or enabled with budget_tokens of {LEAST_BUDGET} or more", "thinking"
            )


def _calling(request: Request) -> Fields:
    match request.choice:
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case None | "auto":
            return {"mode": "VALIDATED"} if any(tool.strict for tool in request.tools) else {}
        case _:
            return {"mode": "ANY", "allowedFunctionNames": [request.forced]}


def _declaration(tool: Tool) -> Fields:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parametersJsonSchema": tool.parameters}


def _content(turn: Turn, *, signed: bool) -> Fields:
    return {"role": "model" if turn.role == "assistant" else "user", "parts": _parts(turn.parts, signed=signed)}


def _parts(parts: Sequence[Part], *, signed: bool) -> list[Fields]:
    """A thought of another provider's means nothing here. Of calls made at once, the first has the signature."""
    written = [_part(part) for part in parts if not isinstance(part, Thought)]
    first = next((part for part in written if "functionCall" in part), {"thoughtSignature": ""})
    if signed:
        first.setdefault("thoughtSignature", NO_SIGNATURE)
    return written


def _part(part: Text | Media | ToolUse | ToolResult) -> Fields:
    match part:
        case Text(text):
            return {"text": text}
        case Media():
            return _media(part)
        case ToolUse(call, name, arguments, signature):
            signed = {"thoughtSignature": signature} if signature else {}
            return {"functionCall": {"id": call, "name": name, "args": arguments}, **signed}
        case ToolResult(call, name, content, _, failed):
            if not name:
                raise Unfit("needs the call of a tool before its result: send the assistant's message too", "messages")
            said = {"error" if failed else "output": _output(content)}
            return {"functionResponse": {"id": call, "name": name, "response": said}}


def _output(content: Sequence[Text | Media]) -> str:
    for part in content:
        if isinstance(part, Media):
            raise Unfit("takes text only as the result of a tool", part.place)
    return "\n".join(part.text for part in content if isinstance(part, Text))


def _media(part: Media) -> Fields:
    if not part.url:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    kind = _TYPES.get(part.url.partition("?")[0].rpartition(".")[2].lower())
    return {"fileData": {"fileUri": part.url, **({"mimeType": kind} if kind else {})}}
