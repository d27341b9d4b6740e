"""What Anthropic answers, in OpenAI's shape: recordings, written by hand from its documentation."""

from pathlib import Path

import msgspec
import pytest

from sentinel_gateway.core.chat import read_answer
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.providers._anthropic_answer import ENDINGS, STATUSES, AnthropicReader, read_message
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._reported import Garbled, Reported
from sentinel_gateway.providers._translated import JsonEvents

RECORDED = Path(__file__).with_name("recorded")
STREAM = (RECORDED / "anthropic-thinking-and-tools.sse").read_bytes()
WHOLE = msgspec.json.decode((RECORDED / "anthropic-thinking-and-tools.json").read_bytes())
USAGE = {
    "prompt_tokens": 2125,
    "completion_tokens": 89,
    "total_tokens": 2214,
    "prompt_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 40},
}


def writer():
    return Writer(created=7, model="asked")


def chunks_of(data, reader=None):
    reader = reader or AnthropicReader(writer())
    return [chunk for event in JsonEvents().feed(data) for chunk in reader.read(event)]


def test_what_stopped_it_is_told():
    whole = {**WHOLE, "stop_reason": "stop_sequence", "stop_sequence": "END"}
    [choice] = read_message(whole, writer())["choices"]
    assert (choice["finish_reason"], choice["stop_sequence"]) == ("stop", "END")
    ended = STREAM.replace(
        b'"stop_reason":"tool_use","stop_sequence":null', b'"stop_reason":"stop_sequence","stop_sequence":"END"'
    )
    assert ended != STREAM
    fold = Fold(expected=1, max_bytes=1 << 20)
    for chunk in chunks_of(ended):
        fold.add(chunk.fields, len(chunk.raw))
    [choice] = fold.answer().fields["choices"]
    assert (choice["finish_reason"], choice["stop_sequence"]) == ("stop", "END")


def test_a_whole_message():
    answer = read_message(WHOLE, writer())
    [choice] = answer.pop("choices")
    assert answer == {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "object": "chat.completion",
        "created": 7,
        "model": "claude-sonnet-4-5-20250929",
        "usage": USAGE,
    }
    assert choice == {
        "index": 0,
        "finish_reason": "tool_calls",
        "logprobs": None,
        "message": {
            "role": "assistant",
            "content": "I look them up.",
            "refusal": None,
            "reasoning_content": "Two rivers, two calls.",
            "thinking_blocks": WHOLE["content"][:2],
            "tool_calls": [
                {
                    "id": "toolu_01T1x1fJ34qAmk2tNTrN7Up6",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": '{"river":"Danube"}'},
                },
                {"id": "toolu_02", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
    }


def test_a_stream_says_the_same_as_the_whole_message():
    reader = AnthropicReader(writer())
    chunks = chunks_of(STREAM, reader)
    assert reader.finished
    fold = Fold(expected=1, max_bytes=100_000)
    for chunk in chunks:
        assert msgspec.json.decode(chunk.raw) == chunk.fields
        fold.add(chunk.fields, len(chunk.raw))
    folded, whole = fold.answer(), read_answer(read_message(WHOLE, writer()))
    assert fold.finished
    assert folded.usage == whole.usage
    assert folded.fields["usage"] == USAGE
    (said,), (expected,) = ([choice["message"] for choice in one.fields["choices"]] for one in (folded, whole))
    expected.pop("refusal")
    for call in (*said["tool_calls"], *expected["tool_calls"]):
        call["function"]["arguments"] = msgspec.json.decode(call["function"]["arguments"])
    assert said == expected
    assert folded.finish_reasons == ("tool_calls",)


SERVED = [
    ({"service_tier": "standard"}, ""),
    ({"service_tier": "priority"}, "priority"),
    ({"service_tier": "batch"}, "batch"),
    ({"service_tier": "standard", "speed": "fast"}, "fast"),
    ({"service_tier": "priority", "speed": "standard"}, "priority"),
    ({"service_tier": 7}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("told", "tier"), SERVED)
def test_the_tier_that_served_it_is_told_as_openai_tells_it(told, tier):
    usage = {name: value for name, value in WHOLE["usage"].items() if name != "service_tier"} | told
    whole = read_message({**WHOLE, "usage": usage}, writer())
    begun = b'"usage":{' + (msgspec.json.encode(told)[1:-1] + b"," if told else b"")
    streamed = STREAM.replace(b'"usage":{', begun, 1)
    chunks = chunks_of(streamed)
    assert {one.get("service_tier", "") for one in (whole, *(chunk.fields for chunk in chunks))} == {tier}
    assert all(msgspec.json.decode(chunk.raw) == chunk.fields for chunk in chunks)
    fold = Fold(expected=1, max_bytes=100_000)
    for chunk in chunks:
        fold.add(chunk.fields, len(chunk.raw))
    assert fold.usage == fold.answer().usage == read_answer(whole).usage
    assert fold.usage.service_tier == (fold.service_tier or "") == tier


def test_the_first_chunk_has_the_role_and_the_last_two_the_end_and_the_usage():
    first, *_, end, usage = [chunk.fields for chunk in chunks_of(STREAM)]
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert end["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}]
    assert (usage["choices"], usage["usage"]) == ([], USAGE)
    assert end["usage"] is None


@pytest.mark.parametrize("cut", range(1, 24))
def test_no_end_is_told_before_message_stop(cut):
    """Wherever the stream is cut between events, nothing of it passes for an end."""
    events = STREAM.split(b"\n\n")[:-1]
    reader = AnthropicReader(writer())
    chunks = chunks_of(b"\n\n".join([*events[:-cut], b""]), reader)
    assert not reader.finished
    assert reader.close() == []
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk.fields["choices"])


@pytest.mark.parametrize(("reason", "ending"), [*ENDINGS.items(), ("pause_turn", "length"), ("new", "length"), (None, "length")])
def test_why_it_ended(reason, ending):
    assert read_message({**WHOLE, "stop_reason": reason}, writer())["choices"][0]["finish_reason"] == ending


def test_no_words_at_all_are_an_empty_string_and_beside_calls_null():
    assert read_message({**WHOLE, "content": []}, writer())["choices"][0]["message"]["content"] == ""
    assert read_message({**WHOLE, "content": WHOLE["content"][3:]}, writer())["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize("fields", [None, [], {}, {"type": "error"}, {"type": "message"}, {"type": "message", "content": "hi"}])
def test_what_is_no_message(fields):
    assert read_message(fields, writer()) is None


@pytest.mark.parametrize("usage", [None, {}, [], {"input_tokens": "7", "output_tokens": -1, "output_tokens_details": 3}])
def test_usage_that_tells_nothing(usage):
    assert read_message({**WHOLE, "usage": usage}, writer())["usage"]["total_tokens"] == 0


@pytest.mark.parametrize(("kind", "status"), [*STATUSES.items(), ("new_error", 500), (["odd"], 500)])
def test_an_error_within_a_stream(kind, status):
    if isinstance(kind, list):
        event = b'data: {"type":"error","error":"odd"}\n\n'
    else:
        event = b'event: error\ndata: {"type":"error","error":{"type":"%b","message":"no"}}\n\n' % kind.encode()
    with pytest.raises(Reported) as caught:
        chunks_of(event)
    assert caught.value.status == status


@pytest.mark.parametrize("data", [b"data: {broken\n\n", b"data: [1]\n\n", b"data: null\n\n", b"data: " + b"x" * 1_100_000])
def test_what_is_no_event(data):
    with pytest.raises(Garbled):
        chunks_of(data)


@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"content_block_delta","index":9,"delta":{"type":"input_json_delta","partial_json":"{}"}}',
        b'{"type":"content_block_delta","index":9,"delta":{"type":"thinking_delta","thinking":"x"}}',
        b'{"type":"content_block_delta","index":[],"delta":{"type":"text_delta","text":"x"}}',
        b'{"type":"content_block_stop","index":9}',
        b'{"type":"message_start"}',
        b'{"type":7}',
        b"{}",
    ],
)
def test_an_event_that_fits_nowhere_says_nothing(event):
    assert chunks_of(b"data: %b\n\n" % event) == []


def test_a_call_whose_arguments_came_whole():
    """As some servers that speak this dialect send them."""
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    events = [{"type": "content_block_start", "index": 0, "content_block": block}, {"type": "content_block_stop", "index": 0}]
    data = b"".join(b"data: %b\n\n" % msgspec.json.encode(event) for event in events)
    deltas = [chunk.fields["choices"][0]["delta"] for chunk in chunks_of(data)]
    assert [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas] == ["", '{"a":1}']
