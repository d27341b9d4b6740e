"""What the plain endpoints take, as JSON Schema, for `/openapi.json`. Readers of each dialect say more, and pass on the unknown.

Nothing is validated by these: `openai.py`, `anthropic_request.py` and their neighbours do that.
"""

from collections.abc import Mapping
from typing import Any, Final

from sentinel_gateway.api.wire.batch import ID_LENGTH, SHARED
from sentinel_gateway.api.wire.predict import Parameters
from sentinel_gateway.api.wire.query import QueryBody

Schema = Mapping[str, Any]


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties}


def _list_of(items: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": items, **bounds}


_TEXT: Final[Schema] = {"type": "string"}
_MODEL: Final[Schema] = {"type": "string", "minLength": 1, "description": "A name that /v1/models lists, or provider/model."}
_TEMPERATURE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 2}
_WHOLE: Final[Schema] = {"type": "integer", "minimum": 1}
_YES_OR_NO: Final[Schema] = {"type": "boolean"}
_PARTS: Final = _list_of(_object(("type",), type=_TEXT, text=_TEXT))
_TEXT_OR_PARTS: Final[Schema] = {"anyOf": [_TEXT, _PARTS]}
_TEXTS: Final[Schema] = {"anyOf": [_TEXT, _list_of(_TEXT, minItems=1)]}
_COMMON: Final[Mapping[str, Schema]] = {"model": _MODEL, "temperature": _TEMPERATURE, "stream": _YES_OR_NO}
_TURNS: Final = _list_of(_object(("role", "content"), role={"enum": ["user", "assistant"]}, content=_TEXT_OR_PARTS), minItems=1)

_QUERY: Final = QueryBody.model_json_schema()
_OPTIONS: Final = {name: _QUERY["properties"][name] for name in SHARED}

REQUESTS: Final[Mapping[str, Schema]] = {
    "/v1/chat/completions": _object(
        ("model", "messages"),
        **_COMMON,
        messages=_list_of(
            _object(("role", "content"), role={"enum": ["system", "developer", "user", "assistant"]}, content=_TEXT_OR_PARTS),
            minItems=1,
        ),
        max_tokens=_WHOLE,
        max_completion_tokens=_WHOLE,
        top_p={"type": "number", "minimum": 0, "maximum": 1},
        n=_WHOLE,
        seed={"type": "integer"},
        stop=_TEXTS,
        tools=_list_of({"type": "object"}),
        response_format=_object(("type",), type={"enum": ["text", "json_object", "json_schema"]}),
        user=_TEXT,
    ),
    "/v1/completions": _object(("model", "prompt"), **_COMMON, prompt=_TEXTS, max_tokens=_WHOLE, stop=_TEXTS),
    "/v1/responses": _object(
        ("model", "input"),
        **_COMMON,
        input={"anyOf": [_TEXT, _list_of(_object(("role", "content"), role=_TEXT, content=_TEXT_OR_PARTS), minItems=1)]},
        instructions=_TEXT,
        max_output_tokens=_WHOLE,
        tools=_list_of({"type": "object"}),
    ),
    "/v1/embeddings": _object(("model", "input"), model=_MODEL, input=_TEXTS, dimensions=_WHOLE),
    "/v1/messages": _object(
        ("model", "messages", "max_tokens"), **_COMMON, messages=_TURNS, max_tokens=_WHOLE, system=_TEXT_OR_PARTS
    ),
    "/v1/messages/count_tokens": _object(("model", "messages"), model=_MODEL, messages=_TURNS, system=_TEXT_OR_PARTS),
    "/v1/query": _QUERY,
    "/v1/query/batch": _object(
        ("queries",),
        queries=_list_of(
            {
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    _object(
                        ("prompt",),
                        id={"type": "string", "minLength": 1, "maxLength": ID_LENGTH},
                        prompt=_QUERY["properties"]["prompt"],
                        **_OPTIONS,
                    ),
                ]
            },
            minItems=1,
        ),
        stream=_YES_OR_NO,
        **_OPTIONS,
    ),
    "/v1/predict": _object(
        ("input",),
        input={"anyOf": [{"type": "string", "minLength": 1}, {"type": "object", "minProperties": 1}]},
        model=_MODEL,
        variant=_TEXT,
        parameters=Parameters.model_json_schema(),
        use_cache=_YES_OR_NO,
        request_id=_TEXT,
    ),
}
"""By route."""
ABOUT: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "OpenAI's chat completions, whole or streamed, of every provider, from the cache where it has them.",
    "/v1/completions": "OpenAI's legacy completions, answered by chat models.",
    "/v1/responses": "OpenAI's responses, without memory.",
    "/v1/embeddings": "OpenAI's embeddings. The cache knows each input by itself.",
    "/v1/messages": "Anthropic's messages, of every provider.",
    "/v1/messages/count_tokens": "How many tokens such a request has.",
    "/v1/predict": "A DSPy program's answer to its input, and what it took.",
    "/v1/query": "A prompt in, an answer out, and where it came from.",
    "/v1/query/batch": "Many prompts, each answered once: in one answer, or a line for each once it is there.",
}
"""The same routes in words."""

ERRORS: Final[Mapping[str, Schema]] = {
    "OpenAIError": _object(
        ("error",), error=_object(("message", "type", "param", "code"), message=_TEXT, type=_TEXT, param={}, code={})
    ),
    "AnthropicError": _object(
        ("type", "error"),
        type={"const": "error"},
        error=_object(("type", "message"), type=_TEXT, message=_TEXT),
        request_id=_TEXT,
    ),
    "Problem": _object(
        ("title", "status", "detail", "error", "code"),
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        error=_TEXT,
        code=_TEXT,
        errors=_list_of({"type": "object"}),
    ),
}
"""By the names that they have in the document."""
