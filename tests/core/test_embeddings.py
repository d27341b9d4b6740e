"""Items of a request for embeddings: what they are, when two are the same, and what each has cost."""

from time import process_time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.core.embeddings import MAX_ITEMS, asked_for, item_keys, items_of, of_one_model, shares, vectors_of
from sentinel_gateway.core.routing import Route, Target

TEXTS = st.lists(st.text(min_size=1), min_size=1)
IDS = st.lists(st.integers(0, 200_000), min_size=1)
INPUTS = st.one_of(st.text(min_size=1), TEXTS, IDS, st.lists(IDS, min_size=1))


def keys(fields, *, targets=("mock/m",), tenant="", namespace=""):
    items = items_of(fields["input"])
    assert items is not None
    return item_keys(fields, items, targets=targets, tenant=tenant, namespace=namespace)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([], None),
        (None, None),
        ({}, None),
        (1, None),
        ([None], None),
        ([True], None),
        ([1.0], None),
        ([1, "a"], None),
        (["a", [1]], None),
        ([[1], ["a"]], None),
        ([[[1]]], None),
    ],
)
def test_what_items_are(value, items):
    assert items_of(value) == items


@settings(max_examples=40)
@given(INPUTS, st.integers(0, 2**53))
def test_shares_are_by_length_and_sum_up(value, total):
    items = items_of(value)
    assert items is not None
    found = shares(total, items)
    assert sum(found) == total
    assert min(found) >= 0
    lengths = [len(item.encode()) if isinstance(item, str) else len(item) for item in items]
    for length, share in zip(lengths, found, strict=True):
        assert abs(share - total * length / sum(lengths)) <= 1 + total / 2**50


def test_nothing_costs_nothing():
    assert shares(0, ["a", "b"]) == [0, 0]


@settings(max_examples=40)
@given(INPUTS)
def test_an_item_has_one_key_in_whatever_batch(value):
    items = items_of(value)
    assert items is not None
    batch = keys({"model": "m", "input": items, "dimensions": 8})
    alone = [keys({"model": "other-name", "input": [item], "dimensions": 8, "user": "u"})[0] for item in items]
    assert batch == alone
    assert len(set(batch)) == len({msgspec.json.encode(item) for item in items})


@settings(max_examples=40)
@given(INPUTS)
def test_all_else_makes_another_key(value):
    fields = {"model": "m", "input": value}
    same = keys(fields)
    assert keys({**fields, "encoding_format": "float"}) == same == keys({**fields, "encoding_format": None})
    others = [
        keys({**fields, "encoding_format": "base64"}),
        keys({**fields, "dimensions": 8}),
        keys({**fields, "input_type": "query"}),
        keys(fields, targets=("mock/n",)),
        keys(fields, tenant="t"),
        keys(fields, namespace="n"),
    ]
    assert not set(same) & {key for other in others for key in other}


def test_what_stands_beside_the_items_is_read_once():
    """Read for each item, this would take ten seconds, in which nobody else is answered."""
    fields = {"input": [str(number) for number in range(MAX_ITEMS)], "more": "x" * 2**20}
    started = process_time()
    assert len(set(keys(fields))) == MAX_ITEMS
    assert process_time() - started < 2.0


def test_a_text_is_no_list_of_ids():
    assert keys({"input": "1"}) != keys({"input": [1]})


@settings(max_examples=40)
@given(INPUTS)
def test_the_whole_goes_out_as_it_came_in(value):
    fields = {"model": "m", "input": value, "more": 1}
    items = items_of(value)
    assert items is not None
    assert asked_for(fields, items) is fields
    part = asked_for(fields, items[1:]) if len(items) > 1 else None
    assert part is None or part == {**fields, "input": items[1:]}
    assert fields["input"] == value


def test_vectors_of_other_models_are_none():
    first, second, third = Target("a", "m"), Target("b", "n"), Target("c", "m")
    assert of_one_model(Route((first, second, third))) == Route((first, third))
    weighted = Route((first, second, third), "weighted", (1.0, 2.0, 3.0), sticky=True)
    assert of_one_model(weighted) == Route((first, third), "weighted", (1.0, 3.0))


def test_an_answer_by_key():
    found = vectors_of(["k1", "k2"], ["abc", "d"], [b"[1.0]", b'"AACAPw=="'], 4)
    assert (found["k1"].body, found["k1"].tokens) == (b'"embedding":[1.0]}', 3)
    assert (found["k2"].body, found["k2"].tokens) == (b'"embedding":"AACAPw=="}', 1)
