"""What Gemini answers, in OpenAI's shape: recordings, written by hand from its documentation."""

from pathlib import Path

import msgspec
import pytest

from sentinel_gateway.core.chat import read_answer
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._gemini_answer import ENDINGS, GeminiReader, read_response
from sentinel_gateway.providers._reported import Reported
from sentinel_gateway.providers._translated import JsonEvents

RECORDED = Path(__file__).with_name("recorded")
STREAM = (RECORDED / "gemini-thinking-and-tools.sse").read_bytes()
WHOLE = msgspec.json.decode((RECORDED / "gemini-thinking-and-tools.json").read_bytes())
BLOCKED = msgspec.json.decode((RECORDED / "gemini-blocked.json").read_bytes())
USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 60,
    "total_tokens": 180,
    "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 40},
}


def writer():
    return Writer(created=7, model="asked")


def chunks_of(data, reader):
    return [chunk for event in JsonEvents().feed(data) for chunk in reader.read(event)] + reader.close()


def event(fields):
    return b"data: %b\n\n" % msgspec.json.encode(fields)


@pytest.mark.parametrize(
    ("told", "tier"),
    [("priority", "priority"), ("SERVICE_TIER_FLEX", "flex"), ("standard", ""), ("unspecified", ""), (7, "")],
)
def test_the_tier_that_served_it_is_told_as_openai_tells_it(told, tier):
    whole = read_response({**WHOLE, "usageMetadata": {**WHOLE["usageMetadata"], "serviceTier": told}}, writer())
    told_in_stream = STREAM.replace(b'"usageMetadata": {', b'"usageMetadata": {"serviceTier": %b,' % msgspec.json.encode(told))
    chunks = chunks_of(told_in_stream, GeminiReader(writer(), expected=1))
    assert {one.get("service_tier", "") for one in (whole, *(chunk.fields for chunk in chunks))} == {tier}
    assert read_answer(whole).usage.service_tier == tier


def test_a_whole_response():
    answer = read_response(WHOLE, writer())
    assert (answer["id"], answer["model"], answer["usage"]) == ("mAitaLmkHPPlz7IPvtfUqQ4", "gemini-3-flash", USAGE)
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "I look them up.",
        "refusal": None,
        "reasoning_content": "Two rivers, two calls.",
        "tool_calls": [
            {
                "id": "own-id",
                "type": "function",
                "function": {"name": "look_up", "arguments": '{"river":"Danube"}'},
                "extra_content": {"google": {"thought_signature": "CiQB"}},
            },
            {
                "id": "call_mAitaLmkHPPlz7IPvtfUqQ4_1",
                "type": "function",
                "function": {"name": "now", "arguments": "{}"},
            },
        ],
    }


def test_a_stream_says_the_same_as_the_whole_response():
    reader = GeminiReader(writer(), expected=1)
    fold = Fold(expected=1, max_bytes=100_000)
    chunks = chunks_of(STREAM, reader)
    assert reader.finished
    for chunk in chunks:
        assert msgspec.json.decode(chunk.raw) == chunk.fields
        fold.add(chunk.fields, len(chunk.raw))
    folded, whole = fold.answer(), read_answer(read_response(WHOLE, writer()))
    (said,), (expected,) = ([choice["message"] for choice in one.fields["choices"]] for one in (folded, whole))
    expected.pop("refusal")
    assert said == expected
    assert (folded.finish_reasons, folded.fields["usage"]) == (("tool_calls",), USAGE)


@pytest.mark.parametrize("cut", range(1, 6))
def test_no_end_is_told_without_a_reason(cut):
    reader = GeminiReader(writer(), expected=1)
    chunks = chunks_of(b"\n\n".join([*STREAM.split(b"\n\n")[: -cut - 1], b""]), reader)
    assert not reader.finished
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk.fields["choices"])


def test_every_choice_has_to_end():
    end = {"candidates": [{"finishReason": "STOP"}]}
    other = {"candidates": [{"finishReason": "MAX_TOKENS", "index": 1}]}
    half, full = GeminiReader(writer(), expected=2), GeminiReader(writer(), expected=2)
    assert (chunks_of(event(end), half), half.finished) == ([], False)
    ends = [chunk.fields["choices"] for chunk in chunks_of(event(end) + event(other), full)]
    assert [(choices[0]["index"], choices[0]["finish_reason"]) for choices in ends[:2]] == [(0, "stop"), (1, "length")]
    assert full.finished


def test_a_prompt_that_was_blocked():
    answer = read_response(BLOCKED, writer())
    assert (answer["choices"][0]["finish_reason"], answer["choices"][0]["message"]["content"]) == ("content_filter", "")
    assert answer["usage"]["prompt_tokens"] == 9
    reader = GeminiReader(writer(), expected=1)
    end, _usage = chunks_of(event(BLOCKED), reader)
    assert end.fields["choices"][0]["finish_reason"] == "content_filter"
    assert reader.finished


@pytest.mark.parametrize(
    ("reason", "ending"),
    [*ENDINGS.items(), ("MALFORMED_FUNCTION_CALL", "length"), ("NEW", "length"), (None, "length"), ([], "length")],
)
def test_why_it_ended(reason, ending):
    said = {"content": {"parts": [{"text": "x"}]}, "finishReason": reason}
    assert read_response({"candidates": [said]}, writer())["choices"][0]["finish_reason"] == ending


@pytest.mark.parametrize("fields", [None, [], {}, {"candidates": []}, {"candidates": {}}, {"candidates": ["x"]}, {"error": {}}])
def test_what_is_no_response(fields):
    assert read_response(fields, writer()) is None


@pytest.mark.parametrize("content", [None, "x", {"parts": "x"}, {"parts": [7, {"new": 1}]}])
def test_a_candidate_that_says_nothing(content):
    fields = {"candidates": [{"content": content}], "usageMetadata": "x", "responseId": 7, "modelVersion": None}
    answer = read_response(fields, writer())
    assert (answer["choices"][0]["message"]["content"], answer["usage"]["total_tokens"]) == ("", 0)
    assert (answer["id"], answer["model"]) == ("", "asked")


@pytest.mark.parametrize(("error", "status"), [({"code": 429, "message": "x"}, 429), ({"message": "x"}, 500), ("odd", 500)])
def test_an_error_within_a_stream(error, status):
    with pytest.raises(Reported) as caught:
        chunks_of(event({"error": error}), GeminiReader(writer(), expected=1))
    assert caught.value.status == status
