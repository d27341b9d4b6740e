"""Bodies of administrative requests: read by hand, since FastAPI would look at one before it asks who sent it."""

from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

Body = TypeVar("Body", bound=BaseModel)


class StrictBody(BaseModel):
    """Nothing is guessed, and nothing unknown is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


async def read_body(request: Request, model: type[Body]) -> Body:
    """The body; none at all is an empty object. Raises `RequestValidationError`."""
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as exc:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in exc.errors()]) from exc
