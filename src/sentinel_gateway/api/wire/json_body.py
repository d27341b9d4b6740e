"""Bytes to one JSON object that means one thing, for every dialect. What its fields mean is not known here.

The checks are exact and look at bytes, not at the tree, where that is cheaper. They lean on what holds for all JSON: a
backslash stands only within strings, and outside of strings there is one colon for each key.
"""

import json
from collections import Counter
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.parts import has_more_parts
from sentinel_gateway.errors import InvalidBody, InvalidField

MAX_PARTS: Final = 50_000
"""Keys and values in one body: ten thousand messages. Each costs up to a microsecond of the event loop, in which nobody else is
served: 4 MiB of nothing else would block it for a second."""
MAX_FIELDS: Final = 1000
"""Of the object itself, each of which is looked up by its name: ten times as many as any API has."""

_HOLDERS: Final = frozenset({dict, list})
"""Of parts, as the parse makes them."""
NAMED_UP_TO: Final = 64 * 1024
"""Bytes. A longer body is not searched for the name of the key that it doubles."""
_TOO_DEEP: Final = "The body is nested too deeply."

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_object(raw: bytes, *, max_depth: int, example: str, max_parts: int = MAX_PARTS) -> Fields:
    """The object in a body; raises `InvalidBody`, which shows the `example`, or `InvalidField` for a key that stands twice."""
    if has_more_parts(raw, max_parts):
        raise InvalidBody(f"The body holds more than {max_parts:,} keys and values: send fewer. Text may stay as long as it is.")
    fields = _parse(raw, example)
    if len(fields) > MAX_FIELDS:
        raise InvalidBody(f"The body has more than {MAX_FIELDS:,} fields of its own: look at what is sent.")
    _refuse_depth(raw, fields, max_depth)
    if has_duplicates(raw, fields):
        _refuse_duplicates(raw)
    return fields


def has_duplicates(raw: bytes, fields: Fields) -> bool:
    """Does a key stand twice in one object of `raw`, whose parse is `fields`?

    The parse has lost a pair then, and at least its colon; otherwise it has exactly the colons of the body.
    """
    again = _encode(fields)
    return again != raw and again.count(b":") != raw.count(b":") + _escaped_colons(raw)


def _escaped_colons(raw: bytes) -> int:
    if raw.find(b"\\") < 0 or rb"\u003" not in raw:  # a search for one byte costs a tenth
        return 0
    unpaired = raw.replace(rb"\\", b"")  # what looks like an escape after an escaped backslash is plain text
    return unpaired.count(rb"\u003a") + unpaired.count(rb"\u003A")


def _refuse_duplicates(raw: bytes) -> None:
    """A key that stands twice means one thing to us and may mean another to the provider."""
    if len(raw) > NAMED_UP_TO:
        raise InvalidField("A key stands twice in one object of the body: send each key once.")
    try:
        json.loads(
            raw, object_pairs_hook=_unique, parse_float=str, parse_int=str
        )  # a slow parser, but one that shows each pair, so that the key can be named
    except RecursionError as exc:  # deep in a value that the second key hides
        raise InvalidBody(_TOO_DEEP) from exc


def _unique(pairs: list[tuple[str, Any]]) -> Fields:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise InvalidField(f"The key '{name[:100]}' stands twice in one object: send it once.", param=name[:100])
    return fields


def _parse(raw: bytes, example: str) -> Fields:
    try:
        fields = _decode(raw)
    except RecursionError as exc:
        raise InvalidBody(_TOO_DEEP) from exc
    except UnicodeDecodeError as exc:
        raise InvalidBody("The body is not UTF-8. Send JSON encoded as UTF-8.") from exc
    except msgspec.MsgspecError as exc:
        raise InvalidBody(_why_unreadable(raw, str(exc), example)) from exc
    if not isinstance(fields, dict):
        raise InvalidBody(f"The body must be a JSON object, such as {example}.")
    return fields


def _why_unreadable(raw: bytes, complaint: str, example: str) -> str:
    if not raw.strip():
        return f"The body is empty. Send a JSON object, such as {example}."
    try:
        raw.decode()
    except UnicodeDecodeError as exc:
        return f"The body is not UTF-8 (byte {exc.start}). Send JSON encoded as UTF-8."
    if "truncated" in complaint and b"\\u" in raw:
        complaint = "it is cut short, or an escape such as \\ud800 is half of a surrogate pair"
    return f"The body is not valid JSON: {complaint.removeprefix('JSON is malformed: ')}."


def _refuse_depth(raw: bytes, fields: Fields, max_depth: int) -> None:
    most = max_depth + 1
    rest = raw.replace(b"[", b"", most).replace(b"{", b"", most)  # a rare sign is found in a quarter of the time of `count`
    if len(raw) - len(rest) <= max_depth:
        return
    level: list[Any] = [fields]
    for _ in range(max_depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if type(inner) in _HOLDERS
        ]
        if not level:
            return
        level = list(filter(None, level))  # a body may be a list of twenty thousand that are empty
    raise InvalidBody(f"The body is nested more than {max_depth} levels deep.")
