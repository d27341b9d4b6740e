"""A stream of chunks and a whole answer are two spellings of one thing (C2's pure part)."""

import copy
import time
import tracemalloc
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.core.chat import Answer, ChatRequest, Fields, Usage, read_answer
from sentinel_gateway.core.streaming import Fold, replayed_chunks, stored_body, whole_body
from sentinel_gateway.errors import UpstreamBroken
from tests.core import answers

RANDOMS = st.randoms(use_true_random=False)
ROOM = 16 << 20
USAGE = answers.USAGE
USED = Usage(9, 7, 16, reasoning_tokens=4, has_details=True)


def fold(chunks: list[Fields], *, expected: int = 1, max_bytes: int = ROOM) -> Fold:
    folded = Fold(expected=expected, max_bytes=max_bytes)
    for chunk in chunks:
        folded.add(chunk, len(msgspec.json.encode(chunk)))
    return folded


def chunk(*choices: object, **fields: object) -> Fields:
    return {"id": "a", "created": 1, "choices": list(choices), **fields}


def delta(said: object = None, finish: object = None, index: object = 0, **more: object) -> Fields:
    return {"index": index, "delta": said, "finish_reason": finish, **more}


def message(*deltas: object) -> Fields:
    """What a stream of these deltas says."""
    (choice,) = fold([chunk(delta(said)) for said in deltas]).answer().fields["choices"]
    return choice["message"]


def asking(*, usage: bool = False) -> ChatRequest:
    return ChatRequest({}, "m", stream=True, include_usage=usage)


def replayed(body: bytes, *, usage: bool = False) -> list[Fields]:
    chunks = replayed_chunks(body, asking(usage=usage), answer_id="new", created=2)
    return [msgspec.json.decode(chunk) for chunk in chunks]


def without_nulls(choices: list[Fields]) -> list[Fields]:
    """A replay doesn't repeat the members of a message that are null."""
    kept = copy.deepcopy(choices)
    for choice in kept:
        choice["message"] = {name: value for name, value in choice["message"].items() if value is not None}
    return kept


# -- any answer, cut anywhere


@settings(max_examples=80)
@given(RANDOMS)
def test_any_answer_cut_anywhere_folds_back(rng):
    whole = answers.answer(rng)
    chunks = answers.chunks(rng, whole)
    before = copy.deepcopy(chunks)

    folded = fold(chunks, expected=len(whole["choices"]))

    assert folded.finished
    assert not folded.overflown
    answer = folded.answer()
    assert answer.fields == whole
    assert answer.finish_reasons == tuple(choice["finish_reason"] for choice in whole["choices"])
    assert answer.usage == folded.usage == USED
    assert chunks == before, "the caller's chunks were changed"


@settings(max_examples=80)
@given(RANDOMS, st.booleans())
def test_a_stored_answer_comes_back_whole_and_as_a_stream(rng, usage):
    whole = answers.answer(rng)
    answer = read_answer(whole)
    assert answer is not None
    body = stored_body(answer)

    again = msgspec.json.decode(whole_body(body, answer_id="new", created=2))
    assert again == {**whole, "id": "new", "created": 2}

    chunks = replayed(body, usage=usage)
    folded = fold(chunks, expected=len(whole["choices"]))
    assert folded.finished
    streamed = folded.answer()
    assert without_nulls(streamed.fields["choices"]) == without_nulls(whole["choices"])
    assert streamed.finish_reasons == answer.finish_reasons
    assert streamed.usage == (answer.usage if usage else None)
    assert {**streamed.fields, "choices": [], "usage": USAGE} == {**whole, "choices": [], "id": "new", "created": 2}
    for one in chunks:
        assert (one["id"], one["created"], one["object"], one["model"]) == ("new", 2, "chat.completion.chunk", "m-1")


@settings(max_examples=40)
@given(RANDOMS)
def test_stream_to_whole_to_stream_agrees(rng):
    """However often an answer changes its form, it says the same."""
    whole = answers.answer(rng)
    body = stored_body(fold(answers.chunks(rng, whole), expected=len(whole["choices"])).answer())
    for _ in range(2):
        folded = fold(replayed(body, usage=True), expected=len(whole["choices"])).answer()
        again = stored_body(folded)
        assert without_nulls(msgspec.json.decode(b"{" + again)["choices"]) == without_nulls(whole["choices"])
        assert folded.usage == USED
        body = again


def test_generated_streams_are_worth_folding():
    rng, members, most = Random(1), set(), 0
    for _ in range(200):
        whole = answers.answer(rng)
        chunks = answers.chunks(rng, whole)
        most = max(most, len(chunks))
        members |= {name for choice in whole["choices"] for name in choice["message"]}
    assert len(members) == 10
    assert most > 30


# -- folding, case by case


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([{"role": "assistant"}, {"content": "a"}, {"content": "b"}], {"content": "ab"}),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}], {"content": "ab"}),
        ([{"content": "a"}, {"role": "tool"}], {"content": "a", "role": "tool"}),
        ([{}], {}),
        ([None, "x", 7, {"content": "a"}], {"content": "a"}),
        ([{"content": None}, {"content": "a"}, {"content": None}], {"content": "a"}),
        ([{"content": ""}], {"content": ""}),
        ([{"refusal": None}], {"refusal": None}),
        (
            [{"content": [{"type": "text", "text": "a"}]}, {"content": [{"type": "text", "text": "b"}]}],
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ),
        ([{"x": {"a": "1"}}, {"x": {"a": "2", "b": {"c": "3"}}}, {"x": {"b": {"c": "4"}}}], {"x": {"a": "12", "b": {"c": "34"}}}),
        ([{"x": 0}, {"x": 5}, {"x": 6}], {"x": 5}),
        (
            [{"thinking_blocks": [True, {"thinking": "a"}]}, {"thinking_blocks": [{"index": 0, "thinking": "b"}]}],
            {"thinking_blocks": [True, {"thinking": "a"}, {"thinking": "b"}]},
        ),
        ([{"x": False}, {"x": True}], {"x": True}),
        ([{"x": "a"}, {"x": {"b": "c"}}], {"x": {"b": "c"}}),
        ([{"x": {"b": "c"}}, {"x": "a"}], {"x": "a"}),
        ([{"x": "a"}, {"x": ["b"]}], {"x": ["b"]}),
        ([{"x": ["a"]}, {"x": ["b"]}], {"x": ["a", "b"]}),
        (
            [{"x": [{"index": True, "a": "1"}]}, {"x": [{"index": True, "a": "2"}]}],
            {"x": [{"index": True, "a": "1"}, {"index": True, "a": "2"}]},
        ),
        (
            [{"x": ["s", {"a": 1}, {"index": 0, "a": "1"}]}, {"x": [{"index": 0, "a": "2"}]}],
            {"x": ["s", {"a": 1}, {"index": 0, "a": "12"}]},
        ),
    ],
)
def test_deltas_are_joined(deltas, expected):
    assert message(*deltas) == {"role": "assistant", "content": None, **expected}


def test_thoughts_without_numbers_go_on_until_they_are_signed():
    def thought(text: str, signature: str | None = None) -> Fields:
        return {"thinking_blocks": [{"type": "thinking", "thinking": text, "signature": signature}]}

    hidden = {"type": "redacted_thinking", "data": "x"}
    said = message(
        thought("a"), thought("b", ""), thought("", "s"), {"thinking_blocks": [hidden, hidden]}, thought("c"), thought("d", "t")
    )
    assert said["thinking_blocks"] == [
        {"type": "thinking", "thinking": "ab", "signature": "s"},
        hidden,
        hidden,
        {"type": "thinking", "thinking": "cd", "signature": "t"},
    ]


def test_a_delta_without_end_is_an_error_of_the_provider_s():
    deep: Fields = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(UpstreamBroken, match="too deep"):
        fold([chunk(delta(deep))])


def test_tool_calls_are_joined_by_number():
    def call(number: int, arguments: str, **more: object) -> Fields:
        return {"index": number, **more, "function": {"arguments": arguments}}

    said = message(
        {"tool_calls": [call(1, "{", id="b", type="function")]},
        {"tool_calls": [call(0, "[", id="a", type="function"), call(1, "}")]},
        {"tool_calls": [call(0, "]", id="a", type="function")]},
    )
    assert said["tool_calls"] == [
        {"id": "b", "type": "function", "function": {"arguments": "{}"}},
        {"id": "a", "type": "function", "function": {"arguments": "[]"}},
    ]


def piece(arguments: str, name: str | None = None, call_id: str | None = None, **more: object) -> Fields:
    """A delta with a piece of tool call number 0."""
    call = {"index": 0, "id": call_id, "function": {"name": name, "arguments": arguments}, **more}
    return {"tool_calls": [call]}


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([("{", "f", "a"), ("}", None, None), ("{}", "g", "b")], [("a", "f", "{}"), ("b", "g", "{}")]),
        ([("{}", "f", "a"), ("[", "f", "b"), ("]", None, "b")], [("a", "f", "{}"), ("b", "f", "[]")]),
        ([("{", "f", "a"), ("}", "f", "a")], [("a", "f", "{}")]),
        ([("{", "f", "a"), ("}", None, "b")], [("a", "f", "{}")]),
        ([("{", "f", "a"), ("}", "", "b")], [("a", "f", "{}")]),
        ([("{", "f", "a"), ("}", "g", "")], [("a", "f", "{}")]),
        ([("{", "f", ""), ("}", "g", "b")], [("b", "f", "{}")]),
    ],
)
def test_calls_that_all_have_the_number_0_are_told_apart_by_their_ids(pieces, calls):
    said = message(*(piece(*part) for part in pieces))["tool_calls"]
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in said] == calls


def test_a_custom_tool_too_has_a_name():
    one, other = ({"index": 0, "id": name, "type": "custom", "custom": {"name": "f", "input": name}} for name in "ab")
    assert [call["id"] for call in message({"tool_calls": [one]}, {"tool_calls": [other]})["tool_calls"]] == ["a", "b"]


def test_many_tool_calls_cost_no_more_each_than_a_few():
    """Looked for one after the other, a delta of 20,000 calls took as long as all other requests of a second."""
    few = min(tool_calls(500)[0] for _ in range(5))
    many, said = tool_calls(20_000)
    assert many < 300 * few, "forty times as many; looked for one after the other it would be sixteen hundred times as much"
    assert len(said) == 20_000
    assert said[-1] == {"id": "19999", "function": {"arguments": "{{"}}


def tool_calls(count):
    """CPU seconds for these from two deltas each, and what they come to."""
    deltas = [{"tool_calls": [{"index": number, "id": str(number), "function": {"arguments": "{"}}]} for number in range(count)]
    started = time.thread_time()
    said = message(*deltas, *deltas)["tool_calls"]
    return time.thread_time() - started, said


def test_tool_calls_without_numbers_are_calls_of_their_own():
    one, other = ({"id": name, "function": {"name": "f", "arguments": "{}"}} for name in "ab")
    assert message({"tool_calls": [one]}, {"tool_calls": [other]})["tool_calls"] == [one, other]


def test_log_probabilities_go_on():
    first, second = {"token": "a", "logprob": -1}, {"token": "b", "logprob": -2}
    chunks = [
        chunk(delta({"content": "a"}, logprobs={"content": [first], "refusal": None})),
        chunk(delta({"content": "b"}, logprobs={"content": [second]})),
        chunk(delta({}, "stop", logprobs=None)),
    ]
    (choice,) = fold(chunks).answer().fields["choices"]
    assert choice["logprobs"] == {"content": [first, second], "refusal": None}


def test_choices_come_out_in_their_order():
    chunks = [chunk(delta({"content": "b"}, "stop", 1)), chunk(delta({"content": "a"}, "length", 0))]
    answer = fold(chunks, expected=2).answer()
    assert [choice["message"]["content"] for choice in answer.fields["choices"]] == ["a", "b"]
    assert answer.finish_reasons == ("length", "stop")


@pytest.mark.parametrize("index", [None, "1", 1.0, True])
def test_a_choice_without_a_sane_number_is_the_first(index):
    (choice,) = fold([chunk(delta({"content": "a"})), chunk(delta({"content": "b"}, "stop", index))]).answer().fields["choices"]
    assert (choice["index"], choice["message"]["content"], choice["finish_reason"]) == (0, "ab", "stop")


@pytest.mark.parametrize("choices", [None, {}, "x", [None, "x", []]])
def test_choices_that_are_none(choices):
    folded = fold([{"choices": choices}])
    assert folded.answer().fields == {"id": None, "created": None, "object": "chat.completion", "choices": []}
    assert not folded.finished


def test_members_of_the_answer():
    """The first id holds, the last value of everything else; what belongs to one chunk is not kept."""
    chunks = [
        chunk(object="chat.completion.chunk", model="m", obfuscation="x", x={"a": 1}),
        chunk(id="b", created=2, model="m-2", y=None),
    ]
    answer = fold(chunks).answer()
    assert answer.fields == {
        "id": "a",
        "created": 1,
        "object": "chat.completion",
        "model": "m-2",
        "x": {"a": 1},
        "y": None,
        "choices": [],
    }


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([None, {"prompt_tokens": 1, "completion_tokens": 2}], Usage(1, 2, 3)),
        ([{"prompt_tokens": 1, "completion_tokens": 2}, None], Usage(1, 2, 3)),
        ([{"prompt_tokens": 1, "completion_tokens": 2}, {"prompt_tokens": 1, "completion_tokens": 4}], Usage(1, 4, 5)),
        ([{"prompt_tokens": 1, "completion_tokens": 2}, {"prompt_tokens": "?"}], Usage(1, 2, 3)),
        ([{"prompt_tokens": "?"}], None),
        ([None], None),
    ],
)
def test_the_last_usage_that_makes_sense_holds(usages, expected):
    folded = fold([chunk(usage=usage) for usage in usages])
    assert folded.usage == expected
    assert ("usage" in folded.answer().fields) is (expected is not None)


# -- has it ended?


@pytest.mark.parametrize(
    ("chunks", "expected", "finished"),
    [
        ([], 1, False),
        ([chunk(delta({"content": "a"}))], 1, False),
        ([chunk(delta({}, "stop"))], 1, True),
        ([chunk(delta({}, "stop")), chunk(delta({}, None))], 1, True),
        ([chunk(delta({}, "stop")), chunk(delta({}, ""))], 1, True),
        ([chunk(delta({}, ""))], 1, False),
        ([chunk(delta({}, 7))], 1, False),
        ([chunk(delta({}, "stop"))], 2, False),
        ([chunk(delta({}, "stop"), delta({}, "stop", 1))], 2, True),
        ([chunk(delta({}, "stop"), delta({}, None, 1))], 1, False),
        ([chunk(delta({}, "stop"), delta({}, "stop", 1))], 1, True),
    ],
)
def test_finished_is_when_every_choice_has_said_why(chunks, expected, finished):
    folded = fold(chunks, expected=expected)
    assert folded.finished is finished
    ended = len({choice["index"] for one in chunks for choice in one["choices"] if choice["finish_reason"] == "stop"})
    assert repr(folded) == f"<Fold {ended}/{expected} choices ended, complete>"


def test_the_last_reason_holds():
    folded = fold([chunk(delta({"content": "a"}, "stop")), chunk(delta({}, "content_filter")), chunk(delta({}, ""))])
    assert folded.answer().finish_reasons == ("content_filter",)


# -- too large to remember


def test_room_is_counted_in_bytes_on_the_wire():
    folded = Fold(expected=1, max_bytes=10)
    folded.add(chunk(), 10)
    assert not folded.overflown
    folded.add(chunk(), 1)
    assert folded.overflown
    assert repr(folded) == "<Fold 0/1 choices ended, overflown>"


def test_past_its_room_only_the_ending_and_the_usage_are_kept():
    folded = Fold(expected=1, max_bytes=10)
    folded.add(chunk(delta({"content": "kept"}), model="m"), 10)
    folded.add(chunk(delta({"content": "lost"}, "stop", logprobs={"content": []}, extra="lost"), more="lost"), 1)
    folded.add_text("lost", 1)
    folded.add(chunk(usage=USAGE), 1)
    assert folded.finished
    assert folded.usage == USED
    answer = folded.answer().fields
    assert answer["choices"][0]["message"]["content"] == "kept"
    assert "lost" not in repr(answer)
    assert answer["model"] == "m"


@pytest.mark.parametrize(
    "kind", ["content", "another member each time", "another field each time", "tool calls", "log probabilities"]
)
def test_overflow_keeps_memory_flat(kind):
    """20 MiB of stream, 64 KiB of room."""

    def said(number: int) -> Fields:
        text = f"{number:01024d}"
        match kind:
            case "content":
                return chunk(delta({"content": text}))
            case "another member each time":
                return chunk(delta({text: text}, **{text: text}))
            case "another field each time":
                return chunk(**{text: text})
            case "tool calls":
                return chunk(delta({"tool_calls": [{"index": number, "id": text}]}))
        return chunk(delta({}, logprobs={"content": [{"token": text}]}))

    folded = Fold(expected=1, max_bytes=64 << 10)
    tracemalloc.start()
    try:
        for number in range(20_000):
            folded.add(said(number), 1024)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert folded.overflown
    assert held < 1 << 20


@pytest.mark.parametrize("said", [{"content": ""}, {"thinking_blocks": [{"signature": ""}]}], ids=["a text", "a proof"])
def test_what_says_nothing_takes_no_room(said):
    """Each piece of an unnumbered thought asks whether that has its proof: of 20,000 that say nothing, that took seconds."""
    folded, size = Fold(expected=1, max_bytes=ROOM), 60
    folded.add(chunk(delta(said)), size)
    tracemalloc.start()
    try:
        for _ in range(20_000):
            folded.add(chunk(delta(said)), size)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not folded.overflown
    assert held < 32 << 10


# -- replay


BARE: dict[str, Any] = {"object": "chat.completion", "model": "m"}


def body_of(*choices: Fields, **fields: object) -> bytes:
    return stored_body(Answer({**BARE, "choices": list(choices), **fields}, (), None))


TEXT = {"index": 0, "message": {"role": "assistant", "content": "Hi", "refusal": None}, "finish_reason": "stop", "logprobs": None}


def test_a_stored_body_has_no_id_and_no_time_of_its_own():
    whole = {"id": "secret", "created": 7, **BARE, "choices": [TEXT], "usage": USAGE}
    body = stored_body(Answer(whole, ("stop",), None))
    assert b"secret" not in body
    written = whole_body(body, answer_id="new", created=9)
    assert written.startswith(b'{"id":"new","created":9,"object"')
    assert msgspec.json.decode(written) == {**whole, "id": "new", "created": 9}


@pytest.mark.parametrize("usage", [True, False])
def test_a_replay_to_the_letter(usage):
    null = {"usage": None} if usage else {}
    head = {"id": "new", "created": 2, "object": "chat.completion.chunk", "model": "m"}
    expected = [
        {**head, "choices": [delta({"role": "assistant", "content": ""})], **null},
        {**head, "choices": [delta({"content": "Hi"}, logprobs=None)], **null},
        {**head, "choices": [delta({}, "stop")], **null},
    ]
    assert replayed(body_of(TEXT, usage=USAGE), usage=usage) == expected + usage * [{**head, "choices": [], "usage": USAGE}]


def test_usage_that_was_never_told_is_null():
    assert replayed(body_of(TEXT), usage=True)[-1]["usage"] is None


def test_a_replay_of_tool_calls_numbers_them():
    calls = [{"id": "a", "index": 0, "function": {}}, {"id": "b", "index": 0, "function": {}}, {"id": "c", "function": {}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    first, second, last = (
        one["choices"][0] for one in replayed(body_of({**TEXT, "message": message, "finish_reason": "tool_calls"}))
    )
    assert first["delta"] == {"role": "assistant", "content": None}
    assert [(call["id"], call["index"]) for call in second["delta"]["tool_calls"]] == [("a", 0), ("b", 1), ("c", 2)]
    assert last["finish_reason"] == "tool_calls"


def test_a_message_that_says_nothing_is_its_role_and_its_ending():
    chunks = replayed(body_of({"message": {}, "finish_reason": "stop"}))
    assert [one["choices"] for one in chunks] == [[delta({"role": "assistant", "content": None})], [delta({}, "stop")]]


def test_log_probabilities_of_nothing_said():
    logprobs = {"content": [{"token": "", "logprob": -1.0}]}
    chunks = replayed(body_of({"message": {"content": None}, "logprobs": logprobs, "finish_reason": "stop"}))
    assert [one["choices"][0].get("logprobs") for one in chunks] == [None, logprobs, None]


def test_choices_without_numbers_are_counted():
    chunks = replayed(body_of({"message": {"content": "a"}}, {"message": {"content": "b"}}))
    assert [one["choices"][0]["index"] for one in chunks] == [0, 0, 0, 1, 1, 1]


def test_other_members_of_a_choice_come_with_its_ending():
    chunks = replayed(body_of({**TEXT, "stop_reason": 7, "delta": "odd"}))
    assert [one["choices"][0].get("stop_reason") for one in chunks] == [None, None, 7]
    assert chunks[-1]["choices"][0]["delta"] == {}
