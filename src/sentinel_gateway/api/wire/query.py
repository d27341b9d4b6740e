"""Seed 003's `/v1/query`: its body to the one chat request that it stands for, an answer to its eight members.

What a query leaves out is what the seed says: temperature 0.7 and 500 tokens, so an answer is kept for a day. Null is left out.
Members that the seed does not have are ignored, as there; they reach no provider and no key.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentinel_gateway.api.wire.json_body import read_object
from sentinel_gateway.api.wire.openai import MAX_MODEL
from sentinel_gateway.core.chat import MAX_TOKENS, ChatRequest, Fields
from sentinel_gateway.core.routing import Directory
from sentinel_gateway.errors import BadRequest, ModelNotFound, Unprocessable

TEMPERATURE: Final = 0.7
TOKENS: Final = 500
EXAMPLE: Final = '{"prompt": "What is machine learning?"}'
SHOWN: Final = 200
"""Characters of a caller's word that a message repeats."""

_Name = Annotated[str, Field(min_length=1, max_length=MAX_MODEL)]


class QueryBody(BaseModel):
    """What may be sent. None is left out."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    prompt: Annotated[str, Field(min_length=1)]
    provider: _Name | None = None
    model: _Name | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    similarity_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


class Defaults(msgspec.Struct, frozen=True):
    """What is asked where a query does not say: `route` if it names nothing, `models` by provider if it names only that."""

    route: str | None
    models: Mapping[str, str]


class QueryAnswer(msgspec.Struct, frozen=True):
    """The answer's members, in the seed's order. `latency_ms` in milliseconds; `provider` and `model` are who answered."""

    response: str
    cache_hit: bool
    similarity_score: float | None
    matched_prompt: str | None
    provider: str
    model: str
    tokens_used: int
    latency_ms: float


def read_query(raw: bytes, *, max_depth: int, directory: Callable[[], Directory], defaults: Defaults) -> ChatRequest:
    """A query as a chat request; raises `Unprocessable` with every fault, or `ModelNotFound` for a provider that is not on."""
    query = typed(object_in(raw, max_depth=max_depth, example=EXAMPLE))
    model = _model(query, directory(), defaults)
    temperature = TEMPERATURE if query.temperature is None else query.temperature
    limit = TOKENS if query.max_tokens is None else query.max_tokens
    messages = [{"role": "user", "content": query.prompt}]
    return ChatRequest(
        fields={"model": model, "messages": messages, "temperature": temperature, "max_tokens": limit},
        model=model,
        temperature=temperature,
        token_limit=limit,
        similarity_threshold=query.similarity_threshold,
    )


def object_in(raw: bytes, *, max_depth: int, example: str) -> Fields:
    """As `read_object`, which raises `Unprocessable` here as every fault of a query does."""
    try:
        return read_object(raw, max_depth=max_depth, example=example)
    except BadRequest as exc:
        raise Unprocessable((("body", exc.param) if exc.param else ("body",), exc.message)) from exc


def typed(fields: Fields) -> QueryBody:
    """The members that a query knows; raises `Unprocessable` with every fault."""
    try:
        return QueryBody.model_validate(fields)
    except ValidationError as exc:
        raise Unprocessable(*((("body", *map(str, fault["loc"])), fault["msg"]) for fault in exc.errors())) from exc


def _model(query: QueryBody, directory: Directory, defaults: Defaults) -> str:
    """The name to be routed. A provider that was sent is asked, and no other."""
    provider, model = query.provider, query.model
    if provider is None:
        name = model or defaults.route
        if name is None:
            raise _model_needed("there is no default route: send 'model', or have the operator set routing.default")
        return name
    if provider not in directory.providers:
        raise ModelNotFound(_why_off(provider, directory), name=f"{provider}/{model or ''}", param="provider")
    own = model or defaults.models.get(provider)
    if own is None:
        raise _model_needed(f"'{provider}' has no default model: send 'model' as well")
    return f"{provider}/{own}"


def _model_needed(sentence: str) -> Unprocessable:
    return Unprocessable((("body", "model"), sentence))


def _why_off(provider: str, directory: Directory) -> str:
    others = f"Served here: {', '.join(directory.providers)}. Without 'provider' the default route answers."
    if provider in directory.known:
        return f"{directory.known[provider]} not configured: provider '{provider}' is off. {others}"
    return f"There is no provider '{provider[:SHOWN]}'. {others}"


def prompt_of(request: ChatRequest) -> str:
    """The prompt that the request was made from."""
    prompt: str = request.fields["messages"][0]["content"]
    return prompt


def text_of(answer: Fields) -> str:
    """What a `chat.completion` says, in one string: its content, or why it refused."""
    message = answer["choices"][0]["message"]
    return _text(message.get("content")) or _text(message.get("refusal"))


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
