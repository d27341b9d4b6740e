"""OpenAI's Responses (and Open Responses), inward: instructions and items as the messages of a chat.

Nothing is kept between two requests, and providers are asked as for a chat. What needs memory on this side, or a tool that this
side would have to run, is refused by its name. What a chat has as well goes on under chat's name for it, and what neither knows
goes on as it came.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sentinel_gateway.api.wire.json_body import read_object
from sentinel_gateway.api.wire.openai import KNOWN, Named, chat_request, typed
from sentinel_gateway.api.wire.responses_items import messages_of
from sentinel_gateway.core.chat import ChatRequest, Fields
from sentinel_gateway.errors import InvalidField

EXAMPLE: Final = '{"model": "demo", "input": "Where does the Danube rise?"}'
CHATS_OWN: Final = (
    *("messages", "functions", "function_call", "response_format", "max_tokens", "max_completion_tokens", "reasoning_effort"),
    *("verbosity", "modalities", "audio", "n", "logprobs"),
)
"""Fields of a chat that have no place here, or another name."""
NEED_MEMORY: Final = ("store", "previous_response_id", "conversation", "background", "prompt")
TOO_MUCH: Final = ("top_logprobs", "max_tool_calls")
INCLUDED: Final = frozenset({"reasoning.encrypted_content"})
"""May be asked for: there is none in what a chat model answers."""


class _Text(msgspec.Struct):
    format: dict[str, Any] | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Body(Named):
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_output_tokens: int | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    include: list[str] | None = None
    truncation: str | None = None
    stream_options: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    top_logprobs: int | None = None
    max_tool_calls: int | None = None


OWN: Final = frozenset(_Body.__struct_fields__)
"""Fields that do not go on as they came."""
_KNOWN: Final = KNOWN | OWN


def read_response(raw: bytes, *, max_depth: int) -> ChatRequest:
    """A request for a response from a body, as the chat request that it stands for; raises `InvalidBody` or `InvalidField`."""
    fields = read_object(raw, max_depth=max_depth, example=EXAMPLE)
    body = typed(fields, _Body, _KNOWN)
    _refuse(fields, body)
    messages = messages_of(body.instructions, body.input) if body.input else []
    if not messages:
        raise InvalidField("'input' is missing or says nothing: send a text, or a list of items.", param="input")
    chat: Fields = {"model": body.model, "messages": messages}
    chat |= {name: value for name, value in fields.items() if name not in OWN}
    chat |= _renamed(body)
    request = chat_request(chat)
    return msgspec.structs.replace(request, original=fields, include_usage=True)


def _refuse(fields: Fields, body: _Body) -> None:
    for name in CHATS_OWN:
        if fields.get(name) is not None:
            raise InvalidField(f"'{name}' is no field of a response: send it to POST /v1/chat/completions.", param=name)
    for name in NEED_MEMORY:
        if fields.get(name):
            fix = "send the whole conversation as 'input', with 'store' false or left out"
            raise InvalidField(f"'{name}' can't be had: no response is kept here. Instead {fix}.", param=name)
    for name in TOO_MUCH:
        if fields.get(name):
            raise InvalidField(f"'{name}' can't be carried to a chat model: leave it out.", param=name)
    if body.truncation not in {None, "disabled"}:
        raise InvalidField("'truncation' can only be 'disabled': no part of the input is left out here.", param="truncation")
    if others := set(body.include or ()) - INCLUDED:
        raise InvalidField(f"'include' can't have '{min(others)[:100]}': a chat model does not tell it.", param="include")
    if body.max_output_tokens is not None and body.max_output_tokens < 1:
        raise InvalidField("'max_output_tokens' must be at least 1.", param="max_output_tokens")


def _renamed(body: _Body) -> Fields:
    """What a chat has by another name, or in another shape."""
    text, reasoning = body.text or _Text(), body.reasoning or _Reasoning()
    renamed = {
        "max_completion_tokens": body.max_output_tokens,
        "reasoning_effort": reasoning.effort,
        "verbosity": text.verbosity,
        "response_format": None if text.format is None else _format(text.format),
        "tools": [_tool(tool, f"tools[{place}]") for place, tool in enumerate(body.tools or ())] or None,
        "tool_choice": _tool_choice(body.tool_choice),
    }
    return {name: value for name, value in renamed.items() if value is not None}


def _format(wanted: Fields) -> Fields | None:
    match wanted:
        case {"type": "text"}:
            return None
        case {"type": "json_schema", **schema}:
            return {"type": "json_schema", "json_schema": schema}
        case {"type": "json_object"}:
            return {"type": "json_object"}
    raise InvalidField("Invalid value for 'text.format': its 'type' is text, json_schema or json_object.", param="text.format")


def _tool(tool: Fields, where: str) -> Fields:
    match tool:
        case {"type": "function", **function}:
            return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}
        case {"type": "custom", "format": {"type": "grammar", **grammar}, **custom}:
            return {"type": "custom", "custom": {**custom, "format": {"type": "grammar", "grammar": grammar}}}
        case {"type": "custom", **custom}:
            return {"type": "custom", "custom": custom}
    kind = str(tool.get("type"))[:100]
    raise InvalidField(f"A tool of type '{kind}' can't be run here: only 'function' and 'custom' are.", param=f"{where}.type")


def _tool_choice(choice: str | Fields | None) -> str | Fields | None:
    match choice:
        case None | str():
            return choice
        case {"type": "function" | "custom" as kind, "name": str(name)}:
            return {"type": kind, kind: {"name": name}}
        case {"type": "allowed_tools", "mode": str(mode), "tools": list(tools)}:
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [_named(tool) for tool in tools]}}
    raise InvalidField("Invalid value for 'tool_choice': name a function, or allow some.", param="tool_choice")


def _named(tool: Any) -> Any:
    match tool:
        case {"type": "function" | "custom" as kind, "name": str(name)}:
            return {"type": kind, kind: {"name": name}}
    where = "tool_choice.tools"
    raise InvalidField(f"Invalid value for '{where}': only functions and custom tools can be allowed.", param=where)


def repeated(original: Mapping[str, Any]) -> Fields:
    """What a response repeats of its request, with what OpenAI means where nothing was sent."""
    reasoning, text = original.get("reasoning") or {}, original.get("text") or {}
    given = {name: value for name, value in original.items() if name in DEFAULTS and value is not None}
    tools = [_whole_tool(tool) for tool in given.pop("tools", ())]
    return {
        **DEFAULTS,
        **given,
        "tools": tools,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "text": {"format": {"type": "text"}} | {name: value for name, value in text.items() if value is not None},
    }


DEFAULTS: Final[Mapping[str, Any]] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}


def _whole_tool(tool: Fields) -> Fields:
    absent = {"description": None, "parameters": None, "strict": None} if tool["type"] == "function" else {}
    return absent | tool
