"""Chat completions as Anthropic's messages, whole and as events; errors and headers of its shape."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway import errors
from sentinel_gateway.api.wire.anthropic_answer import message_body, model_list, model_object, usage_of
from sentinel_gateway.api.wire.anthropic_errors import error_body, error_event, limit_headers, status_of
from sentinel_gateway.api.wire.anthropic_stream import PING, MessageEvents
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.core.limits import Standing
from sentinel_gateway.core.streaming import replayed_chunks

SIGNED = {"type": "thinking", "thinking": "Rivers...", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "eA=="}
NO_USAGE = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}


def asked(**fields):
    return ChatRequest({"model": "demo", "messages": [], **fields}, model="demo", stream=True, include_usage=True)


def call(name, arguments, number=0):
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}, "index": number}


def answer(finish="stop", usage=None, choice=None, **message):
    whole = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [whole | (choice or {})], "usage": usage}


def told(fields, **request):
    return json.loads(message_body(fields, asked(**request)))


def events(raw):
    """Name and data of each event; they agree."""
    found = []
    for block in raw.decode().removesuffix("\n\n").split("\n\n") if raw else []:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def chunk(delta=None, finish=None, usage=None, **choice):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]
    return json.dumps({"id": "chatcmpl-1", "model": "gpt-4o", "choices": choices, "usage": usage}).encode()


def stream(*chunks, **request):
    """The events of a stream whose chunks come one by one."""
    voice = MessageEvents(asked(**request))
    return events(b"".join(voice.say([chunk]) for chunk in chunks) + voice.end())


def gather(told):
    """A stream's message, as a client puts it together; the order of its events is checked on the way."""
    first, *middle, ending, last = told
    assert (first["type"], ending["type"], last) == ("message_start", "message_delta", {"type": "message_stop"})
    message, pieces = first["message"], []
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == ([], None, None)
    for event in middle:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
                pieces = []
            case "content_block_delta":
                assert event["index"] == len(message["content"]) - 1
                kind, *_ = [name for name in event["delta"] if name != "type"]
                if kind == "partial_json":
                    pieces.append(event["delta"][kind])
                else:
                    message["content"][-1][kind] += event["delta"][kind]
            case "content_block_stop":
                assert event["index"] == len(message["content"]) - 1
                if message["content"][-1]["type"] == "tool_use":
                    message["content"][-1]["input"] = json.loads("".join(pieces) or "{}")
    return message | ending["delta"] | {"usage": ending["usage"]}


# --- whole messages ---


def test_a_message():
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "total_tokens": 105,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
    }
    assert told(answer(content="Hello", usage=usage)) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4o",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 30,
            "cache_read_input_tokens": 60,
            "output_tokens": 5,
        },
    }


def test_an_id_of_anthropic_s_own_is_kept_and_a_missing_model_is_the_one_asked_for():
    message = told(answer(content="a") | {"id": "msg_01", "model": None})
    assert (message["id"], message["model"]) == ("msg_01", "demo")


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("error", "max_tokens"),
        (None, "max_tokens"),
    ],
)
def test_why_it_ended(finish, reason):
    assert told(answer(finish, content="a"))["stop_reason"] == reason


def test_a_call_of_a_tool_is_one_however_it_ended():
    assert told(answer("stop", tool_calls=[call("a", "{}")]))["stop_reason"] == "tool_use"
    assert told(answer("length", tool_calls=[call("a", "{")]))["stop_reason"] == "max_tokens"
    assert told(answer("error", tool_calls=[call("a", "{")]))["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("name", ["stop_reason", "stop_sequence"])
def test_a_provider_that_tells_what_it_stopped_at(name):
    message = told(answer(content="a", choice={name: "END"}), stop=["END"])
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    assert told(answer(content="a", choice={name: 2}), stop=["END"])["stop_reason"] == "end_turn"
    assert told(answer(content="a", choice={name: "</s>"}))["stop_reason"] == "end_turn"


def test_calls_of_tools():
    calls = [call("a", '{"river": "Inn"}'), call("b", ""), call("c", "{cut"), call("d", "[1]"), {"function": None}]
    blocks = told(answer("tool_calls", content="Let me see.", tool_calls=calls))["content"]
    assert blocks == [
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_a", "name": "a", "input": {"river": "Inn"}},
        {"type": "tool_use", "id": "call_b", "name": "b", "input": {}},
        {"type": "tool_use", "id": "call_c", "name": "c", "input": {"INVALID_JSON": "{cut"}},
        {"type": "tool_use", "id": "call_d", "name": "d", "input": {"INVALID_JSON": "[1]"}},
        {"type": "tool_use", "id": "call_4", "name": "", "input": {}},
    ]


def test_words_in_parts_and_a_refusal_are_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "other"}, "c"]
    assert told(answer(content=parts))["content"] == [{"type": "text", "text": "ab"}]
    assert told(answer(refusal="No."))["content"] == [{"type": "text", "text": "No."}]
    assert told(answer())["content"] == []


THINKS = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@pytest.mark.parametrize("request_", [{}, THINKS])
def test_signed_thoughts_are_always_told(request_):
    blocks = [{**SIGNED, "index": 0}, {"type": "redacted_thinking", "data": "eA==", "index": 1}]
    message = told(answer(content="a", reasoning_content="Rivers...", thinking_blocks=blocks), **request_)
    assert message["content"] == [SIGNED, {"type": "redacted_thinking", "data": "eA=="}, {"type": "text", "text": "a"}]


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_other_thoughts_are_told_to_whoever_asks_for_thoughts(member):
    """Others read the first block as the answer."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    said = {"type": "text", "text": "a"}
    fields = answer(content="a", **{member: "Hm."})
    assert told(fields)["content"] == [said]
    assert told(fields, thinking={"type": "disabled"})["content"] == [said]
    for request_ in (THINKS, {"thinking": {"type": "adaptive"}}, {"reasoning_effort": "low"}):
        assert told(fields, **request_)["content"] == [thought, said]


@pytest.mark.parametrize(
    "usage", [None, "x", {}, {"prompt_tokens": -1, "completion_tokens": True}, {"prompt_tokens_details": "x"}]
)
def test_counts_that_are_none(usage):
    assert usage_of(usage) == NO_USAGE


def test_models():
    one = model_object("fast", created=1_700_000_000)
    assert one == {"type": "model", "id": "fast", "display_name": "fast", "created_at": "2023-11-14T22:13:20Z"}
    listing = json.loads(model_list([one, one | {"id": "slow"}]))
    assert listing == {"data": [one, one | {"id": "slow"}], "has_more": False, "first_id": "fast", "last_id": "slow"}
    assert json.loads(model_list([])) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


# --- streams ---


def test_a_stream_of_text():
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    told = stream(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        chunk(usage=usage),
    )
    counts = NO_USAGE | {"input_tokens": 7, "output_tokens": 2}
    head = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "gpt-4o",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": NO_USAGE,
    }
    assert told == [
        {"type": "message_start", "message": head},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": counts},
        {"type": "message_stop"},
    ]


def test_thoughts_text_and_calls_are_blocks_one_after_the_other():
    message = gather(
        stream(
            chunk({"role": "assistant", "content": "", "thinking_blocks": [{"type": "thinking", "thinking": "", "index": 0}]}),
            chunk({"reasoning_content": "Riv", "thinking_blocks": [{"index": 0, "thinking": "Riv"}]}),
            chunk({"reasoning_content": "ers...", "thinking_blocks": [{"index": 0, "thinking": "ers..."}]}),
            chunk({"thinking_blocks": [{"index": 0, "signature": "c2ln"}]}),
            chunk({"thinking_blocks": [{"index": 1, "type": "redacted_thinking", "data": "eA=="}]}),
            chunk({"content": "Let me"}),
            chunk({"content": " see.", "tool_calls": [call("a", "")]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"river":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Inn"}'}}]}),
            chunk({"tool_calls": [call("b", "{}", 1)]}),
            chunk({}, "tool_calls"),
        )
    )
    assert message["content"] == [
        SIGNED,
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "Let me see."},
        {"type": "tool_use", "id": "call_a", "name": "a", "input": {"river": "Inn"}},
        {"type": "tool_use", "id": "call_b", "name": "b", "input": {}},
    ]
    assert message["stop_reason"] == "tool_use"


def test_thoughts_without_numbers_end_where_they_are_signed():
    """As LiteLLM streams them."""
    message = gather(
        stream(
            chunk({"reasoning_content": "Riv", "thinking_blocks": [{"type": "thinking", "thinking": "Riv", "signature": None}]}),
            chunk({"reasoning_content": "ers...", "thinking_blocks": [{"type": "thinking", "thinking": "ers..."}]}),
            chunk({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "c2ln"}]}),
            chunk({"thinking_blocks": [{"type": "thinking", "thinking": "Seas.", "signature": "b3Ro"}]}),
            chunk({"thinking_blocks": [{"type": "redacted_thinking", "data": "eA=="}]}),
            chunk({"thinking_blocks": [{"type": "redacted_thinking", "data": "eQ=="}]}),
            chunk({"content": "Done."}),
            chunk({}, "stop"),
        )
    )
    assert message["content"] == [
        SIGNED,
        {"type": "thinking", "thinking": "Seas.", "signature": "b3Ro"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "redacted_thinking", "data": "eQ=="},
        {"type": "text", "text": "Done."},
    ]


def test_calls_that_all_have_the_same_number():
    told = stream(chunk({"tool_calls": [call("a", "{}"), call("b", "{}")]}), chunk({}, "stop"))
    assert [block["name"] for block in gather(told)["content"]] == ["a", "b"]


def test_a_call_without_an_id():
    told = stream(chunk({"tool_calls": [{"function": {"name": "a", "arguments": "{}"}}]}), chunk({}, "stop"))
    assert [block["id"] for block in gather(told)["content"]] == ["call_0"]


def test_calls_whose_pieces_are_mixed_are_not_told_wrong():
    voice = MessageEvents(asked())
    voice.say([chunk({"tool_calls": [call("a", "{"), call("b", "{", 1)]})])
    with pytest.raises(errors.UpstreamBroken, match="mixed"):
        voice.say([chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]})])


def test_thoughts_that_nobody_asked_for_leave_no_block():
    pieces = [chunk({"reasoning_content": "Hm."}), chunk({"content": "a"}), chunk({}, "stop")]
    assert [block["type"] for block in gather(stream(*pieces))["content"]] == ["text"]
    assert gather(stream(*pieces, **THINKS))["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": ""}


def test_a_stream_that_said_nothing():
    message = gather(stream())
    assert (message["content"], message["stop_reason"], message["id"]) == ([], "max_tokens", "msg_")


def test_usage_in_the_first_chunk_is_told_at_the_start():
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    told = stream(chunk({"content": "a"}, usage=usage), chunk({}, "stop"))
    assert told[0]["message"]["usage"]["input_tokens"] == told[-2]["usage"]["input_tokens"] == 7


def test_a_ping_is_an_event():
    assert events(PING) == events(MessageEvents(asked()).pulse) == [{"type": "ping"}]


words = st.text(max_size=5)
calls = st.lists(
    st.builds(
        lambda name, value, number: call(f"{name}{number}", json.dumps({"a": value})), st.just("t"), words, st.integers(0, 99)
    ),
    max_size=3,
    unique_by=lambda call: call["id"],
)


@given(
    content=st.none() | words,
    calls=calls,
    thoughts=st.none() | words,
    blocks=st.lists(st.sampled_from([SIGNED, {**SIGNED, "thinking": "And then?"}, HIDDEN]), max_size=4),
    finish=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    thinks=st.booleans(),
)
def test_a_stored_answer_is_the_same_whole_and_streamed(content, calls, thoughts, blocks, finish, thinks):
    message = {"content": content, "reasoning_content": thoughts, "thinking_blocks": blocks, "tool_calls": calls}
    fields = answer(finish, {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, **message)
    request = asked(**(THINKS if thinks else {}))
    body = json.dumps({name: value for name, value in fields.items() if name != "id"}).encode()[1:]
    voice = MessageEvents(request)
    raw = voice.say(replayed_chunks(body, request, answer_id="chatcmpl-1", created=0)) + voice.end()
    assert gather(events(raw)) == json.loads(message_body(fields, request))


ODD = st.none() | st.booleans() | st.integers() | words | st.lists(words, max_size=2) | st.dictionaries(words, words, max_size=1)
FULL = answer(
    "tool_calls",
    {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}},
    content=[{"type": "text", "text": "a"}],
    refusal="b",
    reasoning="c",
    thinking_blocks=[SIGNED],
    tool_calls=[call("a", "{}"), call("b", "{}", 1)],
)


def places(value, above=()):
    """The way to everything in it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        yield (*above, name)
        yield from places(inner, (*above, name))


ITS_OWN = {("choices",), ("choices", 0), ("choices", 0, "message")}
"""Without these it is no answer, and comes no further than its provider's adapter."""


@given(place=st.sampled_from(sorted(set(places(FULL)) - ITS_OWN, key=str)), other=ODD, thinks=st.booleans())
def test_whatever_a_provider_answers_is_told_somehow(place, other, thinks):
    fields = json.loads(json.dumps(FULL))
    *way, last = place
    at = fields
    for step in way:
        at = at[step]
    at[last] = other
    request = THINKS if thinks else {}
    assert json.loads(message_body(fields, asked(**request)))["type"] == "message"
    choice = fields["choices"][0]
    pieces = fields | {"choices": [{**choice, "delta": choice["message"]}]}
    assert stream(json.dumps(pieces).encode(), **request)[-1] == {"type": "message_stop"}


# --- errors ---


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidField("'model' is empty.", param="model"), 400, "invalid_request_error"),
        (errors.InvalidKey("a"), 401, "authentication_error"),
        (errors.InsufficientScope("a"), 403, "permission_error"),
        (errors.ModelNotFound("a", name="b", param=None), 404, "not_found_error"),
        (errors.MethodNotAllowed("a"), 405, "invalid_request_error"),
        (errors.RequestTimeout("a"), 408, "timeout_error"),
        (errors.RequestUnderway("a"), 409, "conflict_error"),
        (errors.BodyTooLarge("a"), 413, "request_too_large"),
        (errors.KeyReused("a"), 422, "invalid_request_error"),
        (errors.TokensLimited("a"), 429, "rate_limit_error"),
        (errors.InternalError("a"), 500, "api_error"),
        (errors.UpstreamBroken("a"), 502, "api_error"),
        (errors.UpstreamUnauthorized("a"), 502, "api_error"),
        (errors.KeysUnavailable("a"), 503, "api_error"),
        (errors.UpstreamTimeout("a"), 504, "timeout_error"),
        (errors.NotCached("a"), 504, "timeout_error"),
        (errors.LoopDetected("a"), 508, "api_error"),
        (errors.Overloaded("a"), 529, "overloaded_error"),
        (errors.UpstreamOverloaded("a"), 529, "overloaded_error"),
    ],
)
def test_status_and_type_of_an_error(error, status, kind):
    body = error_body(error, "req_1")
    assert status_of(error) == status
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": kind, "message": error.message},
        "request_id": "req_1",
    }
    assert error_event(error, "req_1") == b"event: error\ndata: " + body + b"\n\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.UpstreamRefused("is wrong", upstream_status=400, param="messages[0].role"), "messages[0].role: is wrong"),
        (errors.UpstreamRefused("'n' is wrong", upstream_status=400, param="n"), "'n' is wrong"),
        (errors.UpstreamRefused("is wrong", upstream_status=400, param="a <b> c"), "is wrong"),
        (
            errors.UpstreamRefused("Too much.", upstream_status=400, upstream_code="context_length_exceeded", param="messages"),
            "prompt is too long: Too much.",
        ),
        (
            errors.UpstreamRefused("Prompt is too long: 9", upstream_status=400, upstream_code="context_length_exceeded"),
            "Prompt is too long: 9",
        ),
    ],
)
def test_what_an_error_says(error, message):
    assert json.loads(error_body(error, "req_1"))["error"]["message"] == message


def test_limits_are_told_by_the_clock():
    lines = dict(limit_headers(Standing(60, 59, 1200), Standing(1000, 10, 59_000), now=1_700_000_000.5))
    assert lines == {
        b"anthropic-ratelimit-requests-limit": b"60",
        b"anthropic-ratelimit-requests-remaining": b"59",
        b"anthropic-ratelimit-requests-reset": b"2023-11-14T22:13:22Z",
        b"anthropic-ratelimit-tokens-limit": b"1000",
        b"anthropic-ratelimit-tokens-remaining": b"10",
        b"anthropic-ratelimit-tokens-reset": b"2023-11-14T22:14:20Z",
    }
    assert dict(limit_headers(None, None, now=0.0)) == {}
