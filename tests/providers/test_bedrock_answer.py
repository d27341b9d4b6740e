"""What Bedrock's Converse answers, in OpenAI's shape: recordings, written by hand from its documentation."""

from pathlib import Path

import msgspec
import pytest

from sentinel_gateway.core.chat import read_answer
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.providers._bedrock_answer import ENDINGS, STATUSES, BedrockReader, read_converse
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._event_stream import EventStreamReader
from sentinel_gateway.providers._reported import Reported
from tests.native import event_message

WHOLE = msgspec.json.decode((Path(__file__).with_name("recorded") / "bedrock-thinking-and-tools.json").read_bytes())
USAGE = {
    "prompt_tokens": 2125,
    "completion_tokens": 89,
    "total_tokens": 2214,
    "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def delta(block, said):
    return "contentBlockDelta", {"contentBlockIndex": block, "delta": said}


def start(block, call, name):
    return "contentBlockStart", {"contentBlockIndex": block, "start": {"toolUse": {"toolUseId": call, "name": name}}}


def stop(block):
    return "contentBlockStop", {"contentBlockIndex": block}


EVENTS = [
    ("messageStart", {"role": "assistant", "p": "abcdefgh"}),
    delta(0, {"reasoningContent": {"text": "Two rivers,"}}),
    delta(0, {"reasoningContent": {"text": " two calls."}}),
    delta(0, {"reasoningContent": {"signature": "EqQBCgIYAhIM"}}),
    stop(0),
    delta(1, {"reasoningContent": {"redactedContent": "EmwKAhgBEgy3va3pzix"}}),
    stop(1),
    delta(2, {"text": "I look"}),
    delta(2, {"text": " them up."}),
    stop(2),
    start(3, "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", "look_up"),
    delta(3, {"toolUse": {"input": '{"river":'}}),
    delta(3, {"toolUse": {"input": '"Danube"}'}}),
    stop(3),
    start(4, "tooluse_2", "now"),
    delta(4, {"toolUse": {"input": ""}}),
    stop(4),
    delta(5, {"somethingNew": {"x": 1}}),
    ("somethingNew", {"x": 1}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": WHOLE["usage"], "metrics": {"latencyMs": 1551}}),
]
STREAM = b"".join(event_message(name, fields) for name, fields in EVENTS)


def writer():
    return Writer(created=7, model="asked", answer_id="chatcmpl-7")


def chunks_of(data, reader=None):
    reader = reader or BedrockReader(writer())
    return [chunk for event in EventStreamReader().feed(data) for chunk in reader.read(event)]


@pytest.mark.parametrize(
    ("told", "tier"), [({"type": "flex"}, "flex"), ({"type": "reserved"}, "reserved"), ({"type": "default"}, ""), ("flex", "")]
)
def test_the_tier_that_served_it_is_told_as_openai_tells_it(told, tier):
    whole = read_converse({**WHOLE, "serviceTier": told}, writer())
    name, fields = EVENTS[-1]
    usage = chunks_of(b"".join(event_message(*one) for one in [*EVENTS[:-1], (name, {**fields, "serviceTier": told})]))[-1]
    assert [one.get("service_tier", "") for one in (whole, usage.fields)] == [tier, tier]
    assert read_answer(whole).usage.service_tier == tier


def test_a_whole_answer():
    answer = read_converse(WHOLE, writer())
    assert (answer["id"], answer["model"], answer["usage"]) == ("chatcmpl-7", "asked", USAGE)
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "I look them up.",
        "refusal": None,
        "reasoning_content": "Two rivers, two calls.",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "Two rivers, two calls.", "signature": "EqQBCgIYAhIM"},
            {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
        ],
        "tool_calls": [
            {
                "id": "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q",
                "type": "function",
                "function": {"name": "look_up", "arguments": '{"river":"Danube"}'},
            },
            {"id": "tooluse_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }


def test_a_stream_says_the_same_as_the_whole_answer():
    reader = BedrockReader(writer())
    fold = Fold(expected=1, max_bytes=100_000)
    for chunk in chunks_of(STREAM, reader):
        assert msgspec.json.decode(chunk.raw) == chunk.fields
        fold.add(chunk.fields, len(chunk.raw))
    assert reader.finished
    folded, whole = fold.answer(), read_answer(read_converse(WHOLE, writer()))
    (said,), (expected,) = ([choice["message"] for choice in one.fields["choices"]] for one in (folded, whole))
    expected.pop("refusal")
    assert said == expected
    assert (folded.finish_reasons, folded.fields["usage"]) == (("tool_calls",), USAGE)


@pytest.mark.parametrize("cut", range(1, len(EVENTS)))
def test_no_end_is_told_before_the_metadata(cut):
    reader = BedrockReader(writer())
    chunks = chunks_of(b"".join(event_message(name, fields) for name, fields in EVENTS[:-cut]), reader)
    assert (reader.finished, reader.close()) == (False, [])
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk.fields["choices"])


def test_metadata_alone_is_no_end():
    reader = BedrockReader(writer())
    assert chunks_of(event_message(*EVENTS[-1]), reader) == []
    assert not reader.finished


@pytest.mark.parametrize(("reason", "ending"), [*ENDINGS.items(), ("malformed_tool_use", "length"), (None, "length")])
def test_why_it_ended(reason, ending):
    assert read_converse({**WHOLE, "stopReason": reason}, writer())["choices"][0]["finish_reason"] == ending


@pytest.mark.parametrize("fields", [None, [], {}, {"output": {}}, {"output": {"message": {"content": "x"}}}, {"message": "no"}])
def test_what_is_no_answer(fields):
    assert read_converse(fields, writer()) is None


@pytest.mark.parametrize(("name", "status"), [*STATUSES.items(), ("internalServerException", 500), ("new", 500)])
def test_an_exception_within_a_stream(name, status):
    with pytest.raises(Reported) as caught:
        chunks_of(event_message(name, {"message": "no"}, kind="exception"))
    assert (caught.value.status, caught.value.error) == (status, {"message": "no"})


def test_an_event_that_fits_nowhere_says_nothing():
    odd = [delta(9, {"toolUse": {"input": "{}"}}), delta("x", {"text": "x"}), stop(9), ("contentBlockStart", {})]
    assert chunks_of(b"".join(event_message(name, fields) for name, fields in odd)) == []
