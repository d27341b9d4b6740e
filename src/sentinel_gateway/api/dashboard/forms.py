"""What browsers send with a form: `application/x-www-form-urlencoded`, read by the standard library."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from sentinel_gateway.errors import InvalidBody

URLENCODED: Final = "application/x-www-form-urlencoded"
MOST_FIELDS: Final = 100

Form = Mapping[str, str]
"""Fields by name; of one that was sent twice the last."""


async def read_form(request: Request) -> Form:
    """The fields of a form. Raises `InvalidBody`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != URLENCODED:
        raise InvalidBody(f"This takes a form, sent as {URLENCODED}.")
    try:
        text = (await request.body()).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, encoding="utf-8", errors="strict"))
    except ValueError as exc:  # of which UnicodeDecodeError is one
        raise InvalidBody("This form can't be read: it must be UTF-8, with no more fields than the page has.") from exc
