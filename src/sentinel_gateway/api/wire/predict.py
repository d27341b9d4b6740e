"""Seed 001's `/v1/predict`: its body to the one request that a program answers, an answer to its members.

Null is left out. Members that the seed does not have are ignored, as it does; parameters that we don't know are refused: whoever
sends one means something by it.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from sentinel_gateway.api.wire.json_body import MAX_PARTS, read_object
from sentinel_gateway.api.wire.openai import MAX_MODEL
from sentinel_gateway.core.chat import MAX_TOKENS, Fields
from sentinel_gateway.core.parts import has_more_parts
from sentinel_gateway.errors import BadRequest, Unprocessable
from sentinel_gateway.ports import Prediction, Programs

BASELINE: Final = "baseline"
"""The program of who names none."""
EXAMPLE: Final = '{"model": "demo", "input": "What is the capital of France?"}'
SHOWN: Final = 64
"""Characters of a caller's word that a message repeats."""

_Penalty = Annotated[float, Field(ge=-2, le=2)]
_Stop = Annotated[str, Field(min_length=1)]

_decode = msgspec.json.Decoder(Fields).decode
_encode = msgspec.json.Encoder().encode


class Parameters(BaseModel):
    """What each question to the model may be asked with."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: _Stop | Annotated[list[_Stop], Field(min_length=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None


def _check_input(value: Any) -> str | Fields:
    """What a program is given."""
    if isinstance(value, str | dict) and value:
        return value
    raise PydanticCustomError("input", "Input should be a text or an object of the program's inputs, and not empty")


class PredictBody(BaseModel):
    """What may be sent. None is left out."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    input: Annotated[Any, AfterValidator(_check_input)]
    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL)] | None = None
    variant: str | None = None
    parameters: Parameters | None = None
    use_cache: bool | None = None
    request_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class Glance(msgspec.Struct, frozen=True):
    """What must be known before a body is understood; of one that can't be, what most have."""

    variant: str = BASELINE
    request_id: str = ""
    use_cache: bool = True


class Metadata(msgspec.Struct, frozen=True):
    """Beside an answer. Tokens and money are what this request has used: nothing, where the answer was stored."""

    latency_ms: int
    cached: bool
    cache_level: str | None
    input_tokens: int
    output_tokens: int
    cost_usd: float
    timestamp: str


class PredictAnswer(msgspec.Struct, frozen=True):
    """The answer's members, in the seed's order."""

    request_id: str
    model: str
    variant: str
    output: Any
    metadata: Metadata


def glance(raw: bytes) -> Glance:
    """What a body says of itself, whatever else is wrong with it."""
    if has_more_parts(raw, MAX_PARTS):
        return Glance()
    try:
        fields = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Glance()
    variant, request_id = fields.get("variant"), fields.get("request_id")
    return Glance(
        variant if isinstance(variant, str) else BASELINE,
        request_id if isinstance(request_id, str) else "",
        fields.get("use_cache") is not False,
    )


def read_prediction(raw: bytes, *, max_depth: int, programs: Programs, default: str | None) -> Prediction:
    """A body as the request of a program; raises `Unprocessable` with every fault, or `ProgramFailed`.

    `default` is the model of who names none.
    """
    body = _typed(_object(raw, max_depth))
    model = body.model or default
    if model is None:
        fix = "there is no default route: send 'model', or have the operator set routing.default"
        raise Unprocessable((("body", "model"), fix))
    program = programs.find(_variant(body.variant or BASELINE, programs))
    inputs = program.read(body.input)
    parameters = body.parameters.model_dump(exclude_none=True) if body.parameters else {}
    said = inputs[next(iter(inputs))] if len(inputs) == 1 else None
    text = said if isinstance(said, str) else _encode(inputs).decode()
    asked = {"program": program.name, "version": program.version, "inputs": inputs}
    return Prediction(
        fields={"model": model, "messages": [{"role": "user", "content": text}], **parameters, **asked},
        model=model,
        temperature=parameters.get("temperature"),
        token_limit=parameters.get("max_tokens"),
        program=program,
        inputs=inputs,
        parameters=parameters,
        request_id=body.request_id,
    )


def _object(raw: bytes, max_depth: int) -> Fields:
    try:
        return read_object(raw, max_depth=max_depth, example=EXAMPLE)
    except BadRequest as exc:
        raise Unprocessable((("body", exc.param) if exc.param else ("body",), exc.message)) from exc


def _typed(fields: Fields) -> PredictBody:
    try:
        return PredictBody.model_validate(fields)
    except ValidationError as exc:
        faults: dict[tuple[str, ...], str] = {}
        for fault in exc.errors():  # of a union each branch complains
            faults.setdefault(_place(*fault["loc"]), fault["msg"])
        raise Unprocessable(*faults.items()) from exc


def _place(*within: str | int) -> tuple[str, ...]:
    """Where it stands: a member, or one of the parameters. Pydantic goes on with the branch of a union."""
    member, *deeper = map(str, within)
    return ("body", member, *deeper[:1])


def _variant(name: str, programs: Programs) -> str:
    if name not in programs.names:
        served = ", ".join(programs.names)
        raise Unprocessable((("body", "variant"), f"There is no program '{name[:SHOWN]}'. Served here: {served}."))
    return name


def timestamp(now: float) -> str:
    """A moment as the seed writes it: UTC, with milliseconds."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
