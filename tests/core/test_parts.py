"""Keys and values are counted in the bytes as a parser of the standard library counts them."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel_gateway.core.parts import FEW_QUOTES, has_more_parts
from tests.written_json import BODY, Pairs, pairs_of


def signs(value: Any) -> int:
    """Keys and values in `value`, an empty object or list once more."""
    if isinstance(value, Pairs):
        return 1 if not value else sum(2 + signs(member) for _, member in value)
    if isinstance(value, list):
        return 1 if not value else sum(1 + signs(item) for item in value)
    return 0


@settings(max_examples=200)
@given(BODY)
@example('{"":"\\\\","{":"\\"{","":""}')
@example('{"a":["","",{"":{}},"{"],":":[]}')
def test_keys_and_values_are_counted_as_a_parser_counts_them(raw):
    parts = signs(pairs_of(raw))
    assert not has_more_parts(raw.encode(), parts)
    assert has_more_parts(raw.encode(), parts - 1)


@pytest.mark.parametrize("size", [0, 1, 5, 50, FEW_QUOTES])
@pytest.mark.parametrize("text", ['"{[:,"', r'"{[\":,"', r'"{[:,\\"'])
def test_strings_full_of_signs_are_told_from_signs(text, size):
    raw = ("[" + ",".join([text] * (size + 1)) + "]").encode()
    assert not has_more_parts(raw, size + 1)
    assert has_more_parts(raw, size)


@given(st.binary(max_size=30))
def test_any_bytes_can_be_counted(raw):
    assert has_more_parts(raw, 0) in {True, False}


@pytest.mark.parametrize("strings", [4, 5, 2 * FEW_QUOTES])
def test_far_more_strings_than_that_are_more_whatever_stands_between_them(strings):
    assert has_more_parts(b"[" + b",".join([b'"a"'] * strings) + b"]", 1)
