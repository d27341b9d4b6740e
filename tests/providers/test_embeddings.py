"""A provider's list of embeddings: what is taken as one, and that nothing in it is rounded or turned about."""

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.ports import Embedded
from sentinel_gateway.providers._embeddings import read_embeddings

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def read(*data, count=None, in_base64=False, **more):
    body = json.dumps({"object": "list", "data": list(data), **more}).encode()
    return read_embeddings(body, count=len(data) if count is None else count, in_base64=in_base64)


def item(vector, index=None):
    return {"embedding": vector} | ({} if index is None else {"index": index})


def test_by_number_or_as_they_come():
    assert read(item([2.0], 1), item([1.0], 0)) == Embedded((b"[1.0]", b"[2.0]"), None)
    assert read(item([1.0]), item([2.0])) == Embedded((b"[1.0]", b"[2.0]"), None)


def test_numbers_stay_as_they_are_written():
    body = b'{"data": [{"embedding": [0.10, -1e-3,  7], "index": 0}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}'
    assert read_embeddings(body, count=1, in_base64=False) == Embedded((b"[0.10, -1e-3,  7]",), 3)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [({"prompt_tokens": 0}, 0), ({"prompt_tokens": -1}, None), ({"prompt_tokens": "3"}, None), ([], None), (None, None)],
)
def test_what_is_no_count_is_none(usage, tokens):
    assert read(item([1.0]), usage=usage).tokens == tokens


@given(st.lists(FLOATS, min_size=1))
def test_a_server_that_knows_no_base64_is_translated_for(numbers):
    (packed,) = read(item(numbers), in_base64=True).vectors
    assert struct.unpack(f"<{len(numbers)}f", base64.b64decode(json.loads(packed))) == tuple(numbers)
    assert read(item(json.loads(packed)), in_base64=True).vectors == (packed,)


@pytest.mark.parametrize(
    "data",
    [
        [],
        [item([1.0]), item([1.0])],
        [item([1.0], 1)],
        [item([])],
        [item("")],
        [item(None)],
        [item({})],
        [{"index": 0}],
        [1],
    ],
)
def test_anything_else_is_none(data):
    assert read(*data, count=1) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": null}', b'{"data": [{"embedding": [1', b"\xff"])
def test_what_is_no_list_is_none(body):
    assert read_embeddings(body, count=1, in_base64=False) is None


@pytest.mark.parametrize("vector", [[1e300], ["a"], [[1.0]], [None]])
def test_what_cannot_be_packed_is_none(vector):
    assert read(item(vector), in_base64=True) is None
