"""Headers as lines: what goes in as pairs comes out as pairs, and no value makes a line of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.api.asgi import Lines

NAMES = st.from_regex(rb"[a-z0-9-]{1,12}", fullmatch=True)
VALUES = st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n\0"))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_pairs_are_read_back(some, others):
    lines = Lines.of(some) + Lines.of(others)
    assert list(lines) == [*some, *others]
    assert lines.raw == b"".join(name + b": " + value + b"\r\n" for name, value in [*some, *others])


@pytest.mark.parametrize("sign", [b"\r", b"\n", b"\r\n", b"\0"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_line_break_is_refused(sign, place):
    header = (b"x-a" + sign, b"b") if place == 0 else (b"x-a", b"b" + sign + b"x-c: d")
    with pytest.raises(RuntimeError, match="line break"):
        Lines.of([(b"x-b", b"c"), header])
