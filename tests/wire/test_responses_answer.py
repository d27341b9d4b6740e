"""Chat completions as responses: each event is one of OpenAI's own, in its order, and the whole is what the stream ends with."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent

from sentinel_gateway.api.wire.responses_answer import ResponseEvents, error_event, response_body
from sentinel_gateway.api.wire.responses_request import read_response
from sentinel_gateway.core.chat import read_answer
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamBroken

MODELS = {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(ResponseStreamEvent)[0])}
"""OpenAI's own, by the type of the event."""
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
NOW = 1_700_000_100.0


def request(**fields):
    return read_response(json.dumps({"model": "m", "input": "Hi", **fields}).encode(), max_depth=64)


def chunk(finish=None, **delta):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m-1", "choices": [choice]}


def usage(**more):
    return {**chunk(), "choices": [], "usage": USAGE | more}


def call(index, said, *, call_id=None, name=None, kind="function"):
    member = "arguments" if kind == "function" else "input"
    opening = {"id": call_id, "type": kind} if call_id else {}
    return {"index": index, **opening, kind: {member: said} | ({"name": name} if name else {})}


def read(body: bytes) -> list[dict[str, Any]]:
    """Events as they are sent, each with the type that its line names, numbered without a gap, and valid to OpenAI's client."""
    blocks = body.decode().split("\n\n")[:-1]
    events = []
    for block in blocks:
        if block == "data: [DONE]":
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        MODELS[event["type"]].model_validate(event, strict=True)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def streamed(*chunks, **fields) -> tuple[list[dict[str, Any]], bytes]:
    voice = ResponseEvents(request(**fields), now=lambda: NOW)
    body = b"".join(voice.say([msgspec.json.encode(chunk)]) for chunk in chunks) + voice.end()
    return read(body), body


def whole(*chunks, **fields) -> dict[str, Any]:
    """The same as a whole answer of the provider."""
    fold = Fold(expected=1, max_bytes=1_000_000)
    for one in chunks:
        fold.add(one, 1)
    said = json.loads(response_body(msgspec.json.encode(fold.answer().fields), request(**fields), now=lambda: NOW))
    Response.model_validate(said, strict=True)
    return said


def kinds(events):
    return [event["type"].removeprefix("response.") for event in events]


def test_a_text():
    chunks = [chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo."), chunk("stop"), usage()]
    events, body = streamed(*chunks)
    assert kinds(events) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert body.endswith(b"\n\ndata: [DONE]\n\n")
    assert [event["delta"] for event in events if "delta" in event] == ["Hel", "lo."]
    assert events[0]["response"]["status"] == "in_progress"
    response = events[-1]["response"]
    assert (response["id"], response["object"], response["status"]) == ("resp_1", "response", "completed")
    assert (response["created_at"], response["completed_at"], response["model"]) == (7, int(NOW), "m-1")
    assert response["output"] == [
        {
            "type": "message",
            "id": "msg_1_0",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello.", "annotations": [], "logprobs": []}],
        }
    ]
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }
    assert whole(*chunks) == response


def test_open_responses_asks_for_all_its_members():
    """Those of ResponseResource that its own compliance suite shows."""
    assert whole(chunk("stop", content="Hi")).keys() >= {
        *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model", "previous_response_id"),
        *("instructions", "output", "error", "tools", "tool_choice", "truncation", "parallel_tool_calls", "text", "top_p"),
        *("presence_penalty", "frequency_penalty", "top_logprobs", "temperature", "reasoning", "usage", "max_output_tokens"),
        *("max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier", "prompt_cache_key"),
    }


def test_thoughts_come_before_what_is_said():
    chunks = [chunk(reasoning_content="Hm, "), chunk(reasoning="yes."), chunk(content="Yes."), chunk("stop")]
    events, _ = streamed(*chunks)
    assert kinds(events)[2:9] == [
        *("output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done"),
        *("content_part.done", "output_item.done"),
    ]
    thought, said = events[-1]["response"]["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm, yes."}]
    assert (thought["type"], thought["summary"], said["type"]) == ("reasoning", [], "message")


def test_a_refusal_is_a_part_of_the_message():
    chunks = [chunk(content="Well. "), chunk(refusal="No"), chunk(refusal="!"), chunk("stop")]
    events, _ = streamed(*chunks)
    (message,) = events[-1]["response"]["output"]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert message["content"][1]["refusal"] == "No!"
    assert [event["content_index"] for event in events if event["type"] == "response.refusal.delta"] == [1, 1]
    assert whole(*chunks)["output"] == [message]


def test_calls():
    chunks = [
        chunk(role="assistant", content="I look."),
        chunk(tool_calls=[call(0, "", call_id="c1", name="look_up")]),
        chunk(tool_calls=[call(0, '{"river"')]),
        chunk(tool_calls=[call(1, "ls", call_id="c2", name="shell", kind="custom")]),
        chunk(tool_calls=[call(0, ': "Inn"}'), call(1, " -l", kind="custom")]),
        chunk("tool_calls"),
    ]
    events, _ = streamed(*chunks)
    message, look_up, shell = events[-1]["response"]["output"]
    assert message["status"] == "completed"
    assert look_up == {
        "type": "function_call",
        "id": "fc_1_1",
        "call_id": "c1",
        "name": "look_up",
        "arguments": '{"river": "Inn"}',
        "status": "completed",
    }
    assert (shell["type"], shell["call_id"], shell["input"]) == ("custom_tool_call", "c2", "ls -l")
    assert kinds(events)[-5:] == [
        *("function_call_arguments.done", "output_item.done", "custom_tool_call_input.done", "output_item.done", "completed"),
    ]
    assert whole(*chunks)["output"] == [message, look_up, shell]


def test_calls_that_all_have_the_number_0():
    chunks = [
        chunk(tool_calls=[call(0, "{}", call_id="c1", name="f")]),
        chunk(tool_calls=[call(0, "[]", call_id="c2", name="g")]),
        chunk("tool_calls"),
    ]
    first, second = streamed(*chunks)[0][-1]["response"]["output"]
    assert (first["call_id"], first["arguments"], second["call_id"], second["arguments"]) == ("c1", "{}", "c2", "[]")


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "max_output_tokens"),
        ("content_filter", "content_filter"),
        ("error", "max_output_tokens"),
        (None, "max_output_tokens"),
    ],
)
def test_what_is_cut_short_is_incomplete(finish, reason):
    chunks = [chunk(content="Hel"), chunk(tool_calls=[call(0, "{", call_id="c", name="f")]), chunk(finish)]
    events, body = streamed(*chunks)
    response = events[-1]["response"]
    assert (events[-1]["type"], response["status"]) == ("response.incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": reason}
    assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
    assert body.endswith(b"data: [DONE]\n\n")
    assert whole(chunk(finish, content="Hel"))["output"][0]["status"] == "incomplete"


def test_it_repeats_what_was_asked():
    response = whole(chunk("stop", content="Hi"), instructions="Be brief.", temperature=0.5, metadata={"a": "b"})
    assert (response["instructions"], response["temperature"], response["metadata"]) == ("Be brief.", 0.5, {"a": "b"})
    assert response["store"] is False


def test_details_of_usage():
    details = {"prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": -1}, "completion_tokens_details": None}
    told = streamed(chunk("stop", content="Hi"), usage(**details))[0][-1]["response"]["usage"]
    assert told["input_tokens_details"] == {"cached_tokens": 2, "cache_write_tokens": 0}
    none = streamed(chunk("stop", content="Hi"), {**chunk(), "usage": {"prompt_tokens": "?"}})[0][-1]["response"]
    assert none["usage"] is None


def test_odd_chunks_are_no_fault():
    odd = {"id": None, "created": "?", "choices": [None, {"index": 1, "delta": {"content": "no"}}, {"delta": None}]}
    calls = {"choices": [{"delta": {"tool_calls": [7, {"index": [], "function": 7}], "content": 7}, "finish_reason": 7}]}
    events, _ = streamed(odd, calls, {"choices": 7, "service_tier": "flex"})
    response = events[-1]["response"]
    assert (response["id"], response["created_at"], response["status"]) == ("resp_", int(NOW), "incomplete")
    (item,) = response["output"]
    assert (item["name"], item["arguments"], item["call_id"]) == ("", "", "call__0")


def test_what_says_nothing():
    events, _ = streamed()
    assert kinds(events) == ["created", "in_progress", "incomplete"]
    assert events[-1]["response"]["model"] == "m"
    assert whole(chunk("stop"))["output"] == []
    first = {**chunk(content="Hi"), "service_tier": "flex"}
    assert streamed(first)[0][-1]["response"]["service_tier"] == "flex"


def test_a_stream_that_breaks():
    voice = ResponseEvents(request(), now=lambda: NOW)
    said = voice.say([msgspec.json.encode(chunk(content="Hel"))])
    events = read(said + voice.broken(UpstreamBroken("It broke.")))
    error, failed = events[-2:]
    assert (error["type"], error["message"], error["code"]) == ("error", "It broke.", "upstream_error")
    assert error["error"]["message"] == "It broke.", "by which OpenAI's clients raise it"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": "server_error", "message": "It broke."}
    assert failed["response"]["output"][0]["content"][0]["text"] == "Hel"
    early = ResponseEvents(request(), now=lambda: NOW).broken(UpstreamBroken("It broke."))
    assert early == error_event(UpstreamBroken("It broke."), sequence=0)
    assert kinds(read(early)) == ["error"]


SPOKEN = st.sampled_from(["content", "reasoning_content", "refusal"]).flatmap(
    lambda member: TEXT.map(lambda text: chunk(**{member: text}))
)
CALLED = st.builds(
    lambda number, said, kind: chunk(tool_calls=[call(number, said, call_id=f"{kind}{number}", name="f", kind=kind)]),
    st.integers(0, 2),
    TEXT,
    st.just("function"),
)


@settings(max_examples=40)
@given(st.lists(SPOKEN | CALLED), st.sampled_from(["stop", "length", "tool_calls"]))
def test_events_add_up_to_the_response(chunks, finish):
    """Whatever order things come in: pieces add up, all that is begun ends, and items are what the last event holds."""
    events, _ = streamed(*chunks, chunk(finish), usage())
    output = events[-1]["response"]["output"]
    pieces: dict[str, str] = {}
    for event in events:
        if "delta" in event:
            pieces[event["item_id"]] = pieces.get(event["item_id"], "") + event["delta"]
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    done = {event["item"]["id"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert added == [item["id"] for item in output]
    assert [done[name] for name in added] == output
    for item in output:
        said = item.get("arguments", "".join(part.get("text", part.get("refusal", "")) for part in item.get("content", ())))
        assert said == pieces[item["id"]]


@settings(max_examples=40)
@given(st.lists(TEXT, min_size=1), st.lists(TEXT), st.sampled_from(["stop", "length"]))
def test_the_whole_is_what_the_stream_ends_with(texts, thoughts, finish):
    spoken = [chunk(reasoning_content=thought) for thought in thoughts] + [chunk(content=text) for text in texts]
    chunks = [chunk(role="assistant", content=""), *spoken, chunk(finish), usage()]
    assert read_answer(json.loads(json.dumps(whole(*chunks)))) is None
    assert whole(*chunks) == streamed(*chunks)[0][-1]["response"]
