"""What a body may not be, judged by its bytes: the same as the standard library's parser finds, pair by pair."""

from typing import Any

import msgspec
from hypothesis import example, given, settings

from sentinel_gateway.api.wire.json_body import has_duplicates
from tests.written_json import BODY, Pairs, pairs_of


def any_key_twice(value: Any) -> bool:
    if isinstance(value, Pairs):
        names = [name for name, _ in value]
        return len(set(names)) != len(names) or any(any_key_twice(member) for _, member in value)
    return isinstance(value, list) and any(map(any_key_twice, value))


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
