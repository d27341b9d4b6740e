"""Rows become pairs or questions by the names of their members; nothing is taken that isn't clear."""

import pytest

from sentinel_gateway.evaluation.labelled import Bounds, Pair, Query, read_labelled
from sentinel_gateway.evaluation.rows import Bad, Row, Unusable


def read(*fields, category="category", limit=None, **bounds):
    rows = [each if isinstance(each, Bad) else Row(number, each) for number, each in enumerate(fields, 1)]
    return read_labelled("file", rows, category=category, limit=limit, bounds=Bounds(**bounds))


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"text_a": "a", "text_b": "b", "label": "1"}, True),
        ({"text_a": "a", "text_b": "b", "label": 0}, False),
        ({"question1": "a", "question2": "b", "is_duplicate": "no", "qid1": "7"}, False),
        ({"cached_query": "a", "probe_query": "b", "label": True}, True),
        ({"text_a": "a", "text_b": "b", "label": "TRUE "}, True),
    ],
)
def test_pairs_go_by_several_names(fields, same):
    assert read(fields).pairs == [Pair("a", "b", same, "")]


def test_questions_go_by_several_names_and_may_have_an_answer_that_is_nobodys():
    found = read(
        {"query": "a", "class": 7},
        {"text": "b", "intent": "oos"},
        {"question": "c", "class": ""},
        {"query": "d", "class": None, "category": "k"},
    )
    assert found.queries == [Query("a", "7", ""), Query("b", None, ""), Query("c", None, ""), Query("d", None, "k")]


def test_categories_stand_in_the_column_that_is_named():
    row = {"text_a": "a", "text_b": "b", "label": 1, "category": "x", "capability": "Order"}
    assert read(row).pairs[0].category == "x"
    assert read(row, category="capability").pairs[0].category == "Order"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"text_a": "a", "text_b": "b"}, "has no label"),
        ({"text_a": "a", "text_b": "b", "label": "maybe"}, "has no label"),
        ({"text_a": "a", "text_b": "b", "label": 2}, "has no label"),
        ({"text_a": " ", "text_b": "b", "label": 1}, "has a text that is none"),
        ({"text_a": "a", "text_b": 5, "label": 1}, "has a text that is none"),
        ({"query": "x" * 100_001, "class": "c"}, "has a query that is no text"),
        ({"query": "a"}, "has a query but no class"),
        ({"prompt": "a"}, "has neither text_a and text_b nor query"),
        ({"query": "a", "class": "c"}, "is of another kind than those before"),
    ],
)
def test_what_is_not_clear_is_told_by_its_line(fields, fault):
    found = read({"text_a": "a", "text_b": "b", "label": 1}, Bad(2, "is not JSON"), fields)
    assert [bad.line for bad in found.bad.shown] == [2, 3]
    assert found.bad.shown[1].fault.startswith(fault)
    assert len(found.pairs) == 1


def test_a_stream_takes_no_pairs():
    found = read({"query": "a", "class": "c"}, {"text_a": "a", "text_b": "b", "label": 1}, {"query": "b", "class": "c"})
    assert (len(found.queries), found.pairs, [bad.line for bad in found.bad.shown]) == (2, [], [2])


def test_a_file_without_a_usable_line_says_what_it_should_have():
    with pytest.raises(Unusable, match=r"file has no line that can be used; line 1 has neither.*must name the columns"):
        read({"prompt": "a"})
    with pytest.raises(Unusable, match="file has no line that can be used: its first line"):
        read()


def test_reading_ends_at_the_limit_and_says_so():
    rows = [{"query": str(number), "class": "c"} for number in range(5)]
    found = read(*rows, limit=3)
    assert ([query.text for query in found.queries], found.cut) == (
        ["0", "1", "2"],
        "only the first 3 rows were read, as asked for with --limit",
    )
    assert read(*rows, limit=5).cut is None
    pairs = [{"text_a": "a", "text_b": "b", "label": 1}] * 3
    for some, bounds in ((rows, {"queries": 2}), (pairs, {"pairs": 2}), (pairs, {"characters": 1})):
        assert read(*some, **bounds).cut.startswith("only the first ")
