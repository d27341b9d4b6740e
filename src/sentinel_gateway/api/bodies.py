"""Bodies of administrative requests: read by hand, since FastAPI would look at one before it asks who sent it."""

from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

Body = TypeVar("Body", bound=BaseModel)


class StrictBody(BaseModel):
    """Nothing is guessed, and nothing unknown is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """For a route that reads its body by hand: what the documentation says of it (`openapi_extra`)."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


async def read_body(request: Request, model: type[Body]) -> Body:
    """The body; none at all is an empty object. Raises `RequestValidationError`."""
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as exc:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in exc.errors()]) from exc
