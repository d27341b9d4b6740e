"""A chat request in OpenAI's shape, read once for the providers that speak otherwise; each then says it in its own words.

Pure. What can't change the answer (`core.identity.LEFT_OUT`) is left out. Everything else is carried, or the request is `Unfit`
for this provider: nothing that was asked for goes missing in silence.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.identity import canonical
from sentinel_gateway.providers._chat_parts import Text, Turn, Unfit, check_known, read_messages, text_of

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
"""Tokens to think in, where a provider wants a number: those of Google's own table, and one above them."""
LEAST_BUDGET: Final = 1024

_READ: Final = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "reasoning_effort",
        "seed",
    }
)
"""`seed` promises nothing, at OpenAI neither: where there is none, it is left out."""


class Accepts(msgspec.Struct, frozen=True):
    """What a provider takes beside what all do. `own` are fields that it reads itself, as they are."""

    own: frozenset[str] = frozenset()
    temperature: float = 2.0


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call. `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: Fields
    strict: bool = False
    cache: Fields | None = None


class Schema(msgspec.Struct, frozen=True):
    """The answer is to be JSON; of this schema if it is not empty."""

    schema: Fields
    name: str = ""


class Request(msgspec.Struct, frozen=True):
    """What is asked. None: not said. `choice` is `auto`, `none`, `required`, or the name of a tool behind a colon."""

    system: tuple[Text, ...]
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...]
    choice: str | None
    parallel: bool
    answer: Schema | None
    limit: int | None
    temperature: float | None
    top_p: float | None
    stop: tuple[str, ...]
    effort: str | None
    own: Fields

    @property
    def forced(self) -> str:
        """The one tool that has to be called; empty if that is open."""
        return (self.choice or "").partition(":")[2]


def read_request(fields: Fields, accepts: Accepts) -> Request:
    """The caller's fields understood; raises `Unfit`."""
    kept = canonical(fields)
    if kept.get("modalities") == ["text"]:
        del kept["modalities"]
    check_known(kept, _READ | accepts.own, "")
    system, turns = read_messages(kept["messages"])
    if not turns:
        raise Unfit("needs a message of a user", "messages")
    temperature = kept.get("temperature")
    if temperature is not None and temperature > accepts.temperature:
        raise Unfit(f"takes a temperature of at most {accepts.temperature:g}", "temperature")
    if {"thinking", "reasoning_effort"} <= kept.keys():
        raise Unfit("takes one of 'thinking' and 'reasoning_effort', not both", "reasoning_effort")
    stop = kept.get("stop", ())
    limit = kept.get("max_completion_tokens")
    return Request(
        system,
        turns,
        tools=tuple(_tools(kept.get("tools", []))),
        choice=_choice(kept.get("tool_choice")),
        parallel=kept.get("parallel_tool_calls", True),
        answer=_answer(kept.get("response_format") or {}),
        limit=limit,
        temperature=temperature,
        top_p=kept.get("top_p"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        effort=_effort(kept.get("reasoning_effort")),
        own={name: value for name, value in kept.items() if name in accepts.own},
    )


def budget(effort: str, limit: int) -> int:
    """Tokens of the answer's limit to think in: at most half of them."""
    if limit <= LEAST_BUDGET:
        raise Unfit(f"thinks in {LEAST_BUDGET} tokens or more: allow more than that", "max_completion_tokens")
    return max(LEAST_BUDGET, min(BUDGETS[effort], limit // 2))


def _effort(value: Any) -> str | None:
    if value is not None and value not in EFFORTS:
        raise Unfit(f"takes a reasoning_effort of {', '.join(EFFORTS)}", "reasoning_effort")
    effort: str | None = value
    return effort


def _tools(tools: list[Any]) -> Iterator[Tool]:
    for number, tool in enumerate(tools):
        place = f"tools.{number}"
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
            raise Unfit("knows tools of the type function only", f"{place}.type")
        function = tool["function"]
        check_known(tool, {"type", "function", "cache_control"}, place)
        check_known(function, {"name", "description", "parameters", "strict", "cache_control"}, f"{place}.function")
        yield Tool(
            name=text_of(function.get("name"), f"{place}.function.name"),
            description=text_of(function.get("description") or "", f"{place}.function.description"),
            parameters=_schema(function.get("parameters"), f"{place}.function.parameters")
            or {"type": "object", "properties": {}},
            strict=bool(function.get("strict")),
            cache=_schema(tool.get("cache_control") or function.get("cache_control"), f"{place}.cache_control") or None,
        )


def _choice(choice: Any) -> str | None:
    match choice:
        case None | "auto" | "none" | "required":
            kept: str | None = choice
            return kept
        case {"type": "function", "function": {"name": str(name)}} if name:
            return f":{name}"
        case _:
            raise Unfit("takes a tool_choice of auto, none, required, or one function by its name", "tool_choice")


def _answer(form: Fields) -> Schema | None:
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema), **rest}}:
            description = {"description": rest["description"]} if rest.get("description") else {}
            return Schema({**description, **schema}, str(rest.get("name") or ""))
        case {"type": "json_object"}:
            return Schema({})
        case {"type": "text"}:
            return None
        case _ if not form:
            return None
        case _:
            raise Unfit("takes a response_format of text, json_object, or json_schema with a schema", "response_format")


def _schema(value: Any, place: str) -> Fields:
    if value is not None and not isinstance(value, dict):
        raise Unfit(f"needs an object as '{place}'", place)
    return value or {}
