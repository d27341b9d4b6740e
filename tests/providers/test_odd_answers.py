"""Whatever a provider says, it is an answer or an error of the provider's: recorded answers, damaged in every dialect.

A number where a text belongs, a list where an object does, something missing, something said twice: never is it a fault of ours.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel_gateway.api.wire.anthropic_answer import message_body
from sentinel_gateway.api.wire.anthropic_stream import MessageEvents
from sentinel_gateway.api.wire.completions import CompletionEvents, completion_body
from sentinel_gateway.api.wire.responses_answer import ResponseEvents, response_body
from sentinel_gateway.core.chat import ChatRequest, Native
from sentinel_gateway.core.streaming import Fold, replayed_chunks, stored_body, whole_body
from sentinel_gateway.errors import UpstreamError
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._errors import Source, read_error, read_reported_error
from sentinel_gateway.providers._provider import ProviderConfig
from sentinel_gateway.providers._translated import TranslatedProvider
from sentinel_gateway.providers.anthropic import Anthropic
from sentinel_gateway.providers.bedrock import Bedrock
from sentinel_gateway.providers.gemini import Gemini
from sentinel_gateway.providers.openai import OpenAIProvider
from tests.native import event_message

RECORDED = Path(__file__).with_name("recorded")
CONFIG = ProviderConfig("odd", "http://127.0.0.1:9")
FIELDS = {"model": "m", "max_tokens": 50, "thinking": {"type": "adaptive"}, "messages": [{"role": "user", "content": "Hello"}]}
REQUEST = ChatRequest(FIELDS, "m", stream=True, include_usage=True, token_limit=50, original={"model": "m", "input": "Hello"})
PLAIN = UpstreamCall({"messages": FIELDS["messages"]}, "m", "sentinel-1")
AS_IT_CAME = UpstreamCall(PLAIN.fields, "m", "sentinel-1", "anthropic", Native(FIELDS, digest="d"))
"""Its answers are told with all that Anthropic says."""


class Said:
    """A `ByteStream` that says what it is given, and an `HttpClient` that has nobody else to ask."""

    def __init__(self, body: bytes, kind: str) -> None:
        self.status, self.whole = 200, True
        self.headers = {b"content-type": kind.encode()}
        self._left = [body, b""]
        self._whole = body

    async def read_whole(self) -> bytes:
        return self._whole

    async def send(self, endpoint: Any, body: bytes, **_: Any) -> "Said":
        return self

    async def read(self) -> bytes:
        return self._left.pop(0)

    async def drain(self) -> None: ...

    def close(self) -> None: ...


def openai(http):
    return OpenAIProvider(CONFIG, http)


def anthropic(http):
    return TranslatedProvider(CONFIG, Anthropic(CONFIG), http)


def gemini(http):
    return TranslatedProvider(CONFIG, Gemini(CONFIG), http)


def bedrock(http):
    return TranslatedProvider(CONFIG, Bedrock(CONFIG, None), http)


def recorded_events(name):
    lines = (RECORDED / name).read_text().splitlines()
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


def sse(events):
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def chunk(delta, reason=None, **more):
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice], **more}


CALL = {"id": "t1", "type": "function", "function": {"name": "look_up", "arguments": '{"river":"Danube"}'}}
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "prompt_tokens_details": {"cached_tokens": 2}}
THOUGHT = {"type": "thinking", "thinking": "Two rivers.", "signature": "s"}
MESSAGE = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm", "thinking_blocks": [THOUGHT], "tool_calls": [CALL]}
SERVED_THERE = [
    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "Danube"}},
    {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"type": "web_search_result", "url": "u"}]},
    {"type": "text", "text": "2,850 km", "citations": [{"type": "web_search_result_location", "url": "u"}]},
]
ANTHROPIC = json.loads((RECORDED / "anthropic-thinking-and-tools.json").read_text())
BEDROCK_EVENTS = [
    ["messageStart", {"role": "assistant"}],
    ["contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm", "signature": "s"}}}],
    ["contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Hi"}}],
    ["contentBlockStop", {"contentBlockIndex": 1}],
    ["contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t", "name": "look_up"}}}],
    ["contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": "{}"}}}],
    ["contentBlockStop", {"contentBlockIndex": 2}],
    ["messageStop", {"stopReason": "tool_use"}],
    ["metadata", {"usage": {"inputTokens": 5, "outputTokens": 3}, "metrics": {"latencyMs": 1}}],
]
WHOLES = {
    "openai": (
        openai,
        PLAIN,
        {
            "id": "c",
            "object": "chat.completion",
            "created": 7,
            "model": "m",
            "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "tool_calls"}],
            "usage": USAGE,
        },
    ),
    "anthropic": (anthropic, PLAIN, ANTHROPIC),
    "anthropic as it came": (anthropic, AS_IT_CAME, {**ANTHROPIC, "content": [*ANTHROPIC["content"], *SERVED_THERE]}),
    "gemini": (gemini, PLAIN, json.loads((RECORDED / "gemini-thinking-and-tools.json").read_text())),
    "gemini blocked": (gemini, PLAIN, json.loads((RECORDED / "gemini-blocked.json").read_text())),
    "bedrock": (bedrock, PLAIN, json.loads((RECORDED / "bedrock-thinking-and-tools.json").read_text())),
}
STREAMS = {
    "openai": (
        openai,
        PLAIN,
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hi"}),
            chunk({"content": " there"}),
            chunk({"reasoning_content": "Hm", "thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": None}]}),
            chunk({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}),
            chunk({"tool_calls": [{"index": 0, **CALL}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": " "}}]}),
            chunk({}, "tool_calls"),
            chunk({}, usage=USAGE) | {"choices": []},
        ],
        sse,
    ),
    "anthropic": (anthropic, PLAIN, recorded_events("anthropic-thinking-and-tools.sse"), sse),
    "anthropic as it came": (anthropic, AS_IT_CAME, recorded_events("anthropic-thinking-and-tools.sse"), sse),
    "gemini": (gemini, PLAIN, recorded_events("gemini-thinking-and-tools.sse"), sse),
    "bedrock": (
        bedrock,
        PLAIN,
        BEDROCK_EVENTS,
        lambda events: b"".join(event_message(str(name), fields) for name, fields in events),
    ),
}
KINDS = {bedrock: "application/vnd.amazon.eventstream"}
DONE = b"data: [DONE]\n\n"


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = {"a": {"b": value}}
    return value


ODD = [
    None,
    True,
    False,
    0,
    -1,
    7,
    1.5,
    2**70,
    "",
    "7",
    "tool_use",
    [],
    ["x"],
    [[]],
    [{}],
    {},
    {"type": "text"},
    {"a": 1},
    deep(30),
]
DEEP = deep(400)
MOST = 12
"""So far into a document something is changed."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = inner if len(path) < MOST else ()
    return [path, *(place for key, member in inner for place in places(member, (*path, key)))]


def damaged(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """The document with something odd at the end of the way; `...` leaves out what is there."""
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and odd is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = damaged(value[path[0]], path[1:], odd)
    return copy


@st.composite
def damages(draw: st.DrawFn, document: Any) -> Any:
    for _ in range(draw(st.integers(1, 3))):
        ways = places(document)
        way = draw(st.sampled_from(ways[1:] or ways))
        document = damaged(document, way, draw(st.sampled_from([..., *ODD]))) if way else draw(st.sampled_from(ODD))
    return document


def tell_whole(raw: bytes, stored: bytes) -> None:
    """In every dialect that asks, whole and as a stream."""
    fields = json.loads(raw)
    message_body(fields, REQUEST)
    response_body(raw, REQUEST, now=lambda: 7.0)
    completion_body(raw)
    whole_body(stored, answer_id="a", created=7)
    tell_stream(replayed_chunks(stored, REQUEST, answer_id="a", created=7))


def tell_stream(payloads: list[bytes]) -> None:
    for voice in (MessageEvents(REQUEST), ResponseEvents(REQUEST, now=lambda: 7.0), CompletionEvents()):
        try:
            voice.say(payloads)
            voice.end()
        except UpstreamError:
            continue


async def hear_whole(make, call, body: bytes) -> bool:
    """Is it an answer? Else it is an error of the provider's."""
    try:
        completion = await make(Said(body, "application/json")).complete(call)
    except UpstreamError:
        return False
    tell_whole(completion.raw, stored_body(completion.answer))
    return True


async def hear_stream(make, call, body: bytes) -> bool:
    fold, payloads = Fold(expected=1, max_bytes=1 << 20), []
    try:
        stream = await make(Said(body, KINDS.get(make, "text/event-stream"))).open_stream(call)
        async for chunks in stream:
            for one in chunks:
                payloads.append(one.raw)
                fold.add(one.fields, len(one.raw)) if one.more is None else fold.add_text(one.more, len(one.raw))
    except UpstreamError:
        tell_stream(payloads)
        return False
    tell_stream(payloads)
    if stream.finished and fold.finished:
        answer = fold.answer()
        tell_whole(json.dumps(answer.fields).encode(), stored_body(answer))
    return stream.finished


@pytest.mark.parametrize("name", WHOLES)
def test_a_damaged_answer_is_an_answer_or_an_error(name):
    make, call, document = WHOLES[name]
    assert asyncio.run(hear_whole(make, call, json.dumps(document).encode()))

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(odd=damages(document))
    def holds(odd):
        asyncio.run(hear_whole(make, call, json.dumps(odd).encode()))

    holds()


@pytest.mark.parametrize("name", STREAMS)
def test_a_damaged_stream_is_an_answer_or_an_error(name):
    make, call, events, write = STREAMS[name]
    end = DONE if make is openai else b""
    assert asyncio.run(hear_stream(make, call, write(events) + end))

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(odd=st.lists(st.sampled_from(range(len(events))), max_size=2), into=st.data())
    def holds(odd, into):
        said = list(events)
        for place in odd:  # said twice, or out of order
            said.insert(into.draw(st.integers(0, len(said))), events[place])
        place = into.draw(st.integers(0, len(said) - 1))
        if make is bedrock:
            said[place] = [said[place][0], into.draw(damages(said[place][1]))]
        else:
            said[place] = into.draw(damages(said[place]))
        asyncio.run(hear_stream(make, call, write(said) + end))

    holds()


@pytest.mark.parametrize("name", WHOLES)
def test_an_answer_that_is_nested_deep_is_an_answer_or_an_error(name):
    make, call, document = WHOLES[name]
    for place in places(document)[1:]:
        odd = damaged(document, place, DEEP)
        asyncio.run(hear_whole(make, call, json.dumps(odd).encode()))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_nested_deep_is_an_answer_or_an_error(name):
    make, call, events, write = STREAMS[name]
    end = DONE if make is openai else b""
    for number, event in enumerate(events):
        for place in places(event)[1:]:
            said = [*events[:number], damaged(event, place, DEEP), *events[number + 1 :]]
            asyncio.run(hear_stream(make, call, write(said) + end))


ERRORS = {
    "openai": {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    },
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"},
    "gemini": {
        "error": {
            "code": 429,
            "message": "Quota.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "RetryInfo", "retryDelay": "37s"}, {"reason": "API_KEY_INVALID"}],
        }
    },
    "bedrock": {"message": "Input is too long for requested model."},
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_damaged_error_is_an_error(name):
    @settings(max_examples=50, deadline=None)
    @given(odd=damages(ERRORS[name]), status=st.sampled_from([204, 301, 400, 401, 402, 404, 408, 413, 429, 500, 503, 529, 599]))
    def holds(odd, status):
        body = json.dumps(odd).encode()
        assert isinstance(read_error(status, {}, body, source=Source("odd"), now=7.0), UpstreamError)
        assert isinstance(read_reported_error(odd, source=Source("odd"), now=7.0), UpstreamError)

    holds()
