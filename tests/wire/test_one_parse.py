"""What is forwarded is what the caller sent, value for value: policy, key and provider see the same request."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.api.wire.openai import encode, read_request
from sentinel_gateway.errors import BadRequest

BASE = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def forwarded(raw: bytes) -> bytes:
    """The body as it is encoded again from the one parse."""
    return encode(read_request(raw, max_depth=64).fields)


def exact(raw: bytes | str) -> Any:
    """A body's values without loss: numbers as they are written."""
    return json.loads(raw, parse_float=lambda number: float(number).hex(), parse_int=lambda number: f"int {int(number)}")


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
UNKNOWN = st.dictionaries(TEXT.map(lambda name: f"x_{name}"), JSON, max_size=4)
MESSAGE = st.builds(lambda more, content: {"role": "user", "content": content, **more}, UNKNOWN, TEXT)


@settings(max_examples=100)
@given(
    more=UNKNOWN,
    messages=st.lists(MESSAGE, min_size=1, max_size=3),
    layout=st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"indent": "\t", "separators": (" ,", "\n: ")}]),
    ascii_only=st.booleans(),
)
def test_every_value_arrives_as_it_was_sent(more, messages, layout, ascii_only):
    written = json.dumps({"model": "m", "messages": messages, **more}, ensure_ascii=ascii_only, **layout)
    again = forwarded(written.encode())
    assert exact(again) == exact(written)
    assert list(json.loads(again)) == list(json.loads(written)), "the order of the fields is the caller's"


@pytest.mark.parametrize(
    "written",
    [
        "0",
        "-0.0",
        "1.0",
        "1e2",
        "1E+2",
        "5e-324",
        "1.7976931348623157e308",
        "0.1",
        "0.30000000000000004",
        "9007199254740993",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "1" + "0" * 400,
        "true",
        "null",
        '""',
        '"\\u0000"',
        '"\\u2028\\/\\b\\f\\n\\r\\t\\"\\\\"',
        '"\\ud83d\\ude42 🙂"',
        '"e\\u0301 \\u00e9"',
        '"\\ufeff\\ufffe\\uffff"',
        "[]",
        "{}",
        '{"":{"":[]}}',
    ],
)
def test_values_that_get_lost_elsewhere(written):
    raw = json.dumps(BASE)[:-1] + f', "x": {written}}}'
    assert exact(forwarded(raw.encode())) == exact(raw)


def test_a_number_with_more_digits_than_a_double_is_the_same_double():
    raw = json.dumps(BASE)[:-1] + ', "x": 0.1000000000000000055511151231257827}'
    again = json.loads(forwarded(raw.encode()), parse_float=Decimal)["x"]
    assert again == Decimal("0.1")


@settings(max_examples=200)
@given(st.binary(max_size=60) | st.text().map(str.encode) | JSON.map(msgspec.json.encode))
def test_any_bytes_are_a_request_or_a_bad_request(raw):
    try:
        read_request(raw, max_depth=64)
    except BadRequest as error:
        assert error.message
        encode(error.message)


@settings(max_examples=200)
@given(st.data())
def test_a_body_with_a_few_bytes_changed_is_a_request_or_a_bad_request(data):
    raw = bytearray(json.dumps({**BASE, "stop": ["é", "x"], "n": 1, "x": {"a": [1.5, None]}}, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = forwarded(bytes(raw))
    except BadRequest:
        return
    assert exact(again) == exact(bytes(raw).decode())
