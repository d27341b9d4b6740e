"""A chat request as the mock reads it. Strict where the OpenAI API is: a wrong body is a `QuestionError`."""

import hashlib
from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode


class QuestionError(ValueError):
    """The body is no chat request; answered as a 400."""


class Tool(msgspec.Struct, frozen=True):
    """A function that the request demands a call of, or leaves open to be called."""

    name: str
    parameters: dict[str, Any]


class Question(msgspec.Struct, frozen=True):
    """What an answer depends on. `digest` is the same for bodies that say the same, streamed or not."""

    model: str
    text: str
    digest: str
    prompt_tokens: int
    stream: bool
    include_usage: bool
    n: int
    tool: Tool | None
    free_tool: Tool | None
    """What an eager model would call where the choice is free: the first function, unless a result has just come back."""
    schema: dict[str, Any] | None
    json_object: bool
    logprobs: int | None
    """Number of alternatives a token, if log probabilities were asked for."""


def read_question(raw: bytes) -> Question:
    """The body as a question. Raises QuestionError."""
    try:
        fields = _decode(raw)
    except msgspec.DecodeError as exc:
        raise QuestionError(f"the body is not JSON: {exc}") from exc
    try:
        return _read(fields)
    except (TypeError, KeyError, IndexError, AttributeError, ValueError) as exc:
        raise QuestionError(f"not a chat request: {exc!r}") from exc


def _read(fields: dict[str, Any]) -> Question:
    stream = bool(fields.pop("stream", None))
    options = fields.pop("stream_options", None) or {}
    canonical = _encode(fields)
    format_ = fields.get("response_format") or {}
    return Question(
        model=fields["model"],
        text=_last_user_text(fields["messages"]),
        digest=hashlib.blake2b(canonical, digest_size=6).hexdigest(),
        prompt_tokens=len(canonical) // 4,
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        n=fields.get("n") or 1,
        tool=_demanded_tool(fields) if "tools" in fields else None,
        free_tool=_free_tool(fields) if "tools" in fields else None,
        schema=format_["json_schema"].get("schema", {}) if format_.get("type") == "json_schema" else None,
        json_object=format_.get("type") == "json_object",
        logprobs=(fields.get("top_logprobs") or 0) if fields.get("logprobs") else None,
    )


def _last_user_text(messages: list[dict[str, Any]]) -> str:
    asked = messages[-1]
    for message in reversed(messages):
        if message["role"] == "user":
            asked = message
            break
    content = asked.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part.get("type") == "text")


def _demanded_tool(fields: dict[str, Any]) -> Tool | None:
    choice = fields.get("tool_choice")
    functions = _functions(fields)
    if choice == "required":
        return _tool(functions[0])
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        return _tool(next((function for function in functions if function["name"] == name), {"name": name}))
    return None


def _free_tool(fields: dict[str, Any]) -> Tool | None:
    functions = _functions(fields)
    free = fields.get("tool_choice", "auto") == "auto" and fields["messages"][-1]["role"] != "tool"
    return _tool(functions[0]) if free and functions else None


def _functions(fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [tool["function"] for tool in fields["tools"] or () if tool.get("type") == "function"]


def _tool(function: dict[str, Any]) -> Tool:
    return Tool(function["name"], function.get("parameters") or {})
