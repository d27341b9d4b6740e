"""Bodies of administrative requests: read by hand, since FastAPI would look at one before it asks who sent it."""

from typing import Any, Final, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel_gateway.core.parts import has_more_parts
from sentinel_gateway.errors import InvalidBody

Body = TypeVar("Body", bound=BaseModel)
MOST_PARTS: Final = 2_000
"""Keys and values of one. Each that is wrong takes microseconds to be told of, in which nobody else is served."""


class StrictBody(BaseModel):
    """Nothing is guessed, and nothing unknown is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """For a route that reads its body by hand: what the documentation says of it (`openapi_extra`)."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


async def read_body(request: Request, model: type[Body]) -> Body:
    """The body; none at all is an empty object. Raises `RequestValidationError`, and `InvalidBody` for one of too many parts."""
    raw = await request.body() or b"{}"
    if has_more_parts(raw, MOST_PARTS):
        raise InvalidBody(f"The body holds more than {MOST_PARTS:,} keys and values, and this takes a few: look at what is sent.")
    try:
        return model.model_validate_json(raw)
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from exc
