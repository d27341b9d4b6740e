"""What pydantic found, in sentences for the operator: what was given, and what would be right. Secrets are never repeated."""

import difflib
from collections.abc import Collection
from typing import Any, Final

from pydantic_core import ErrorDetails

from sentinel_gateway.settings.layers import Fault, Layer
from sentinel_gateway.settings.model import Location
from sentinel_gateway.settings.schema import keys_at

LONGEST_SHOWN: Final = 60
MOST_FAULTS: Final = 50
"""That are told of at once: who has made more begins with these. Each takes fifty microseconds to be put into words."""

WANTED: Final = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "byte_size": "a size such as 268435456 or 256MiB",
    "byte_size_unit": "a size such as 268435456 or 256MiB",
    "date_from_datetime_parsing": "a day such as 2026-01-31",
    "date_type": "a day such as 2026-01-31",
    "decimal_max_places": "a number of at most {decimal_places} decimals",
    "decimal_parsing": "a number such as 0.59",
    "decimal_type": "a number such as 0.59",
    "dict_type": "a mapping, such as {{name: value}}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "model_type": "a mapping of settings",
    "path_type": "a path",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_too_long": "at most {max_length} characters long",
    "string_too_short": "at least {min_length} character long",
    "string_type": "text",
    "too_long": "at most {max_length} values long",
    "tuple_type": "a list",
}
"""What each kind of error wanted instead."""


def read_fault(error: ErrorDetails, layer: Layer) -> Fault:
    """The fault behind one of pydantic's errors."""
    location = location_of(error)
    return Fault(layer.place(location), _sentence(error, location, layer), location, plain=error["type"] != "value_error")


def location_of(error: ErrorDetails) -> Location:
    """Where the value stands that is wrong; the key itself, if that is what is wrong."""
    return tuple(key for key in error["loc"] if key != "[key]")


def suggest(name: str, known: Collection[str]) -> str:
    """`; did you mean 'port'?`, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def shown(value: Any) -> str:
    """A value that may be shown, in a form that fits into a sentence."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            text = str(value)
            return f"'{text}'" if len(text) <= LONGEST_SHOWN else f"'{text[:LONGEST_SHOWN]}...'"


def _sentence(error: ErrorDetails, location: Location, layer: Layer) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return f"lacks '{location[-1]}'"
    if kind == "extra_forbidden":
        return _unknown_key(location)
    wanted = WANTED[kind].format(**context) if kind in WANTED else error["msg"]
    origin = layer.origin(layer.as_written(location))
    # Text in the place of a mapping may be a key that slipped: `providers: {groq: gsk_...}`.
    hidden = kind in {"dict_type", "model_type"} or (origin is not None and origin.hidden)
    given = "text" if hidden and isinstance(error["input"], str) else shown(error["input"])
    return f"got {given}, but it must be {wanted}"


def _unknown_key(location: Location) -> str:
    known = keys_at(location[:-1])
    near = suggest(str(location[-1]), known)
    return f"unknown setting '{location[-1]}'" + (near or f": known here are {', '.join(known)}")
