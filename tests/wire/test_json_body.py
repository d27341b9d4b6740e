"""What a body may not be, judged by its bytes: the same as the standard library's parser finds, pair by pair."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel_gateway.api.wire.json_body import has_duplicates
from sentinel_gateway.core.parts import FEW_QUOTES, has_more_parts

SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\b": "\\b"}
"""Escapes of one letter; of these only the solidus may stand unescaped."""


def spellings(char: str) -> list[str]:
    number = f"{ord(char):04x}"
    escaped = [f"\\u{number}", f"\\u{number.upper()}"] + ([SHORT[char]] if char in SHORT else [])
    return escaped if char in '"\\' or ord(char) < ord(" ") else [char, char, *escaped]


def written_text(alphabet: str) -> st.SearchStrategy[str]:
    """Strings as JSON, each of their characters in any of its spellings."""
    spelled = [spelling for char in alphabet for spelling in spellings(char)]
    return st.lists(st.sampled_from(spelled), max_size=4).map(lambda parts: f'"{"".join(parts)}"')


SPACE = st.sampled_from(["", "", " ", "\n", "\t\r"])
KEY = written_text('a:"\\')
TEXT = written_text('a:u03"\\/{}[],\n\bé\u003a')
SCALAR = TEXT | st.sampled_from(["0", "-1.5e3", "true", "null", "{}", "[ ]"])


def written_list(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda items, space: "[" + f",{space}".join(items) + "]", st.lists(inner, min_size=1, max_size=4), SPACE)


def written_object(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.builds(lambda key, space, value: f"{key}{space}:{space}{value}", KEY, SPACE, inner)
    return st.builds(lambda pairs, space: "{" + f"{space},".join(pairs) + "}", st.lists(pair, min_size=1, max_size=4), SPACE)


BODY = written_object(st.recursive(SCALAR, lambda inner: written_list(inner) | written_object(inner), max_leaves=12))


class Pairs(list[tuple[str, Any]]):
    """An object as the pairs that stand in it."""


def pairs_of(raw: str) -> Any:
    return json.loads(raw, object_pairs_hook=Pairs)


def any_key_twice(value: Any) -> bool:
    if isinstance(value, Pairs):
        names = [name for name, _ in value]
        return len(set(names)) != len(names) or any(any_key_twice(member) for _, member in value)
    return isinstance(value, list) and any(map(any_key_twice, value))


def signs(value: Any) -> int:
    """Keys and values in `value`, an empty object or list once more."""
    if isinstance(value, Pairs):
        return 1 if not value else sum(2 + signs(member) for _, member in value)
    if isinstance(value, list):
        return 1 if not value else sum(1 + signs(item) for item in value)
    return 0


@settings(max_examples=200)
@given(BODY)
@example('{"a":1,"\\u0061":":"}')
@example('{"a":"\\u003a","a":1}')
@example('{"a":"\\\\u003a","a":1}')
@example('{"a":"\\\\\\u003A","\\u003a":1}')
@example('{"a": "\\\\u003a"}')
@example('{"\\u003a":1,":":2}')
@example('{"x":{"a":":::"},"x":{"a":"\\u003A\\u003A\\u003A\\u003a"}}')
def test_a_key_stands_twice_exactly_if_a_parser_of_pairs_says_so(raw):
    assert has_duplicates(raw.encode(), msgspec.json.decode(raw)) == any_key_twice(pairs_of(raw))


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
