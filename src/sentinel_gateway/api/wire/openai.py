"""OpenAI's chat completions, inward: bytes to `ChatRequest`, errors and model lists to bytes.

One parse serves policy, key and upstream (docs/decisions/002): the untyped tree is what is hashed and forwarded, and the typed
view below is converted from that same tree, for the fields that OpenAI defines. Unknown fields are kept; a field of the wrong
type is a 400 that names its path.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

from sentinel_gateway.api.wire.json_body import read_object
from sentinel_gateway.core.chat import ChatRequest, Fields
from sentinel_gateway.errors import InvalidField, RequestError

MAX_CHOICES: Final = 128
MAX_MODEL: Final = 256
"""Characters. The name goes into headers, logs and a search for near ones."""
EXAMPLE: Final = '{"model": "demo", "messages": [...]}'


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Named(msgspec.Struct):
    """A body that names a model."""

    model: str


Body = TypeVar("Body", bound=Named)


class _Body(Named):
    """The types of OpenAI's fields; what a field means is left to the provider."""

    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None


KNOWN: Final = frozenset(_Body.__struct_fields__)
"""OpenAI's fields."""
_encode = msgspec.json.Encoder().encode
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")


def read_request(raw: bytes, *, max_depth: int) -> ChatRequest:
    """A chat request from a body; raises `InvalidBody` or `InvalidField`."""
    return chat_request(read_object(raw, max_depth=max_depth, example=EXAMPLE))


def chat_request(fields: Fields) -> ChatRequest:
    """The chat request that these fields are; raises `InvalidField`."""
    body = typed(fields, _Body, KNOWN)
    if not body.messages:
        raise InvalidField("'messages' is empty: send at least one message.", param="messages")
    choices, options = body.n, body.stream_options
    if choices is not None and not 1 <= choices <= MAX_CHOICES:
        raise InvalidField(f"'n' must be between 1 and {MAX_CHOICES}.", param="n")
    older, newer = body.max_tokens, body.max_completion_tokens
    if older is not None and older < 1:
        raise InvalidField("'max_tokens' must be at least 1.", param="max_tokens")
    if newer is not None and newer < 1:
        raise InvalidField("'max_completion_tokens' must be at least 1.", param="max_completion_tokens")
    if older is not None and newer is not None and older != newer:
        # Some providers go by one of them, some by the other: what is held of a budget would be right for one only
        raise InvalidField("'max_tokens' and 'max_completion_tokens' say two things: send one of them.", param="max_tokens")
    return ChatRequest(
        fields=fields,
        model=body.model,
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        temperature=body.temperature,
        token_limit=older if newer is None else newer,
        choices=1 if choices is None else choices,
    )


def typed(fields: Fields, body: type[Body], known: frozenset[str]) -> Body:
    """The typed view of a body whose fields are `known`, its model's name looked at; raises `InvalidField`."""
    if not fields.keys() <= known:
        _refuse_other_letters(fields, known)
    try:
        found = msgspec.convert(fields, body)
    except msgspec.ValidationError as exc:
        raise _wrong_type(str(exc)) from exc
    if not found.model:
        raise InvalidField("'model' is empty. GET /v1/models lists the models that can be served.", param="model")
    if len(found.model) > MAX_MODEL:
        raise InvalidField(f"'model' is longer than {MAX_MODEL} characters.", param="model")
    return found


def _refuse_other_letters(fields: Fields, known: frozenset[str]) -> None:
    """Some servers match names without regard to case: what we leave unread, they would obey."""
    for name in fields:
        if name not in known and (meant := name.casefold()) in known:
            raise InvalidField(f"Unknown field '{name}': field names are case-sensitive, write '{meant}'.", param=name)


def _wrong_type(complaint: str) -> InvalidField:
    place = _PLACE.search(complaint)
    path = place[1] if place else ""
    what = complaint[: place.start()] if place else complaint
    missing = re.match(r"Object missing required field `(\w+)`", what)
    if missing:
        path = f"{path}.{missing[1]}".lstrip(".")
        return InvalidField(f"Missing required field '{path}'.", param=path)
    return InvalidField(f"Invalid value for '{path}': {what[:1].lower()}{what[1:]}.", param=path or None)


def error_body(error: RequestError) -> bytes:
    """OpenAI's error object."""
    return _encode({"error": error_members(error)})


def error_members(error: RequestError) -> dict[str, str | None]:
    """The members of OpenAI's error object."""
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.shown_code}


def model_object(name: str, *, owner: str, created: int) -> dict[str, str | int]:
    """OpenAI's model object."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def model_list(models: Iterable[dict[str, str | int]]) -> bytes:
    """OpenAI's list of models."""
    return _encode({"object": "list", "data": list(models)})


def encode(value: Any) -> bytes:
    """JSON."""
    return _encode(value)
