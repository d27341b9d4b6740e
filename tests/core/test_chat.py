"""What is read of an answer."""

import pytest

from sentinel_gateway.core.chat import MAX_TOKENS, Chunk, Native, Usage, read_answer, read_usage, says_something, speaks

MESSAGE = {"role": "assistant", "content": "x"}


def whole(*choices: object, **fields: object) -> dict[str, object]:
    return {"choices": list(choices), **fields}


@pytest.mark.parametrize(
    ("value", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 9}, Usage(3, 5, 9, estimated=True)),
        ({"prompt_tokens": 3, "completion_tokens": 5}, Usage(3, 5, 8)),
        ({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": None}, Usage(3, 5, 8)),
        ({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": "9"}, Usage(3, 5, 8)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(0, 0, 0)),
        ({"prompt_tokens": MAX_TOKENS, "completion_tokens": 0}, Usage(MAX_TOKENS, 0, MAX_TOKENS)),
        ({"prompt_tokens": MAX_TOKENS + 1, "completion_tokens": 0}, None),
        ({"prompt_tokens": 3}, None),
        ({"completion_tokens": 5}, None),
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 3, "completion_tokens": -1}, None),
        ({"prompt_tokens": True, "completion_tokens": 5}, None),
        ({"prompt_tokens": 3.0, "completion_tokens": 5}, None),
        ({"prompt_tokens": "3", "completion_tokens": 5}, None),
        ({}, None),
        (None, None),
        ([3, 5], None),
    ],
)
def test_usage_is_counts_or_nothing(value, usage):
    assert read_usage(value) == usage


def test_an_answer():
    fields = whole(
        {"message": MESSAGE, "finish_reason": "stop"},
        {"message": MESSAGE, "finish_reason": ""},
        {"message": MESSAGE, "finish_reason": 7},
        {"message": MESSAGE},
        model="gpt-x",
        usage={"prompt_tokens": 1, "completion_tokens": 2},
    )
    answer = read_answer(fields)
    assert answer is not None
    assert answer.fields is fields
    assert answer.finish_reasons == ("stop", None, None, None)
    assert answer.usage == Usage(1, 2, 3)


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_an_error_member_that_says_nothing_is_no_error(error):
    assert read_answer(whole({"message": MESSAGE}, error=error)) is not None


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {},
        {"choices": None},
        {"choices": {}},
        whole(),
        whole("x"),
        whole({}),
        whole({"message": None}),
        whole({"message": "x"}),
        whole({"message": MESSAGE}, {"delta": MESSAGE}),
        whole({"message": MESSAGE}, error={"message": "overloaded"}),
        whole({"message": MESSAGE}, error="overloaded"),
    ],
)
def test_what_is_no_answer(value):
    assert read_answer(value) is None


def test_reasoning_alone_says_nothing():
    answer = read_answer(whole({"message": {"reasoning_content": "hm", "content": ""}}))
    assert answer is not None
    assert not says_something(answer)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ([{"delta": {"role": "assistant"}, "finish_reason": None}], False),
        ([{"delta": {"role": "assistant", "content": ""}}], False),
        ([{"delta": {"content": "a"}}], True),
        ([{"delta": {"role": "assistant"}}, {"delta": {"reasoning_content": "hm"}}], True),
        ([{"delta": {"tool_calls": [{"index": 0}]}}], True),
        ([{"delta": {}, "finish_reason": "stop"}], True),
        ([{"delta": None}, None, 5], False),
        ([], False),
        (None, False),
        ("odd", False),
    ],
)
def test_what_is_a_word(choices, says):
    assert speaks(Chunk(b"", {"choices": choices})) is says


def test_a_chunk_that_is_known_by_its_text_says_that_text():
    assert speaks(Chunk(b"", None, "a"))
    assert not speaks(Chunk(b"", None, ""))


def test_details_that_are_all_nothing_are_none():
    told = {"prompt_tokens": 3, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}
    assert read_usage(told) == Usage(3, 5, 8)
    assert read_usage(told, "priority") == Usage(3, 5, 8, service_tier="priority")
    assert read_usage(told, "default") == Usage(3, 5, 8), "the usual tier is none"


@pytest.mark.parametrize("said", [{"digest": "ab"}, {"betas": "x"}, {"version": "2026-10-21"}])
def test_a_native_request_says_more_than_a_chat_by_any_of_these(said):
    assert Native({}, **said).says_more
    assert not Native({}, dated=True).says_more
