"""What a provider of another dialect makes of a failing upstream, over real connections; and that no dialect loses a word."""

import re
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.api.wire.openai import chat_request
from sentinel_gateway.errors import (
    InvalidField,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
)
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._anthropic_body import build_body as anthropic_body
from sentinel_gateway.providers._bedrock_body import build_body as bedrock_body
from sentinel_gateway.providers._chat_parts import Unfit
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._errors import UpstreamUnstreamed
from sentinel_gateway.providers._gemini_body import build_body as gemini_body
from sentinel_gateway.providers._provider import ProviderConfig
from sentinel_gateway.providers._translated import TranslatedProvider
from sentinel_gateway.providers.anthropic import Anthropic
from tests.core.requests import places, put
from tests.native import AnthropicVoice, Fault, NativeUpstream, sse

KEY = "sk-ant-0123456789abcdef"
CALL = UpstreamCall({"messages": [{"role": "user", "content": "Where does the Danube rise?"}]}, "a-model", "sentinel-1")


@pytest.fixture
def anthropic(http):
    def make(upstream, **settings):
        key = {"headers": {"x-api-key": KEY}, "key_name": "ANTHROPIC_API_KEY"}
        config = ProviderConfig("anthropic", **{"base_url": upstream.base_url, **key, **settings})
        return TranslatedProvider(config, Anthropic(config), http)

    return make


async def ask(provider, *, streamed):
    """All that is said, and whether the end was proven."""
    if not streamed:
        return [await provider.complete(CALL)], True
    async with await provider.open_stream(CALL) as stream:
        return [chunk async for batch in stream for chunk in batch], stream.finished


def error(kind, message):
    return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


REFUSALS = [
    (400, "invalid_request_error", "max_tokens: too large", UpstreamRefused, "upstream_refused", "max_tokens"),
    (400, "invalid_request_error", "prompt is too long: 9 > 8", UpstreamRefused, "context_length_exceeded", "too long"),
    (401, "authentication_error", "invalid x-api-key", UpstreamUnauthorized, "upstream_unauthorized", "ANTHROPIC_API_KEY"),
    (402, "billing_error", "no credit", UpstreamUnauthorized, "upstream_unauthorized", "top it up"),
    (403, "permission_error", "no", UpstreamUnauthorized, "upstream_unauthorized", "403"),
    (404, "not_found_error", "model: no-such-model", UpstreamRefused, "upstream_refused", "no-such-model"),
    (413, "request_too_large", "Request too large", UpstreamRefused, "upstream_refused", "too large"),
    (429, "rate_limit_error", "slow down", UpstreamLimited, "rate_limit_exceeded", "rate limit"),
    (500, "api_error", "Internal", UpstreamBroken, "upstream_error", "500"),
    (529, "overloaded_error", "Overloaded", UpstreamOverloaded, "upstream_error", "529"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("status", "kind", "message", "meaning", "code", "said"), REFUSALS)
async def test_anthropics_errors(anthropic, status, kind, message, meaning, code, said, streamed):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(status=status, says=error(kind, message)))
        with pytest.raises(meaning, match=said) as caught:
            await ask(anthropic(upstream), streamed=streamed)
    assert (type(caught.value), caught.value.shown_code) == (meaning, code)
    assert caught.value.retry_after == (1.0 if status in {429, 500, 529} else None)


@pytest.mark.anyio
async def test_what_anthropic_is_sent(anthropic):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        for base in ("", "/", "/v1", "/v1/"):
            provider = anthropic(upstream, base_url=upstream.base_url + base, query={"beta": "true"})
            await provider.complete(CALL)
        assert {asked.target for asked in upstream.calls} == {"/v1/messages?beta=true"}
        headers = upstream.calls[0].headers
        assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
        assert KEY not in repr(provider)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("event", "meaning", "said"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, UpstreamOverloaded, "529"),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, UpstreamLimited, "rate limit"),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "bad tool"}}, UpstreamRefused, "bad tool"),
        ([], UpstreamBroken, "isn't a JSON object"),
    ],
)
async def test_what_came_before_a_failure_is_handed_out_first(anthropic, event, meaning, said):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        [broken] = sse(event)
        upstream.script(Fault(cuts=3, says=broken))
        async with await anthropic(upstream).open_stream(CALL) as stream:
            heard = []
            with pytest.raises(meaning, match=said):
                async for batch in stream:
                    heard += batch
            assert "".join(chunk.fields["choices"][0]["delta"].get("content", "") for chunk in heard).startswith("You asked")
            with pytest.raises(meaning):
                await anext(stream)
        assert not stream.finished


@pytest.mark.anyio
async def test_a_stream_without_message_stop_has_no_end(anthropic):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(cuts=1))
        chunks, finished = await ask(anthropic(upstream), streamed=True)
    assert not finished
    assert all(choice["finish_reason"] is None for chunk in chunks for choice in chunk.fields["choices"])


@pytest.mark.anyio
async def test_nothing_is_heard_after_the_end(anthropic):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(says=b"data: {broken\n\n"))
        chunks, finished = await ask(anthropic(upstream), streamed=True)
    assert finished
    assert chunks[-1].fields["usage"]["total_tokens"] == 21


@pytest.mark.anyio
async def test_a_stream_that_ends_before_it_begins(anthropic):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(cuts=100))
        with pytest.raises(UpstreamBroken, match="before it began"):
            await ask(anthropic(upstream), streamed=True)


@pytest.mark.anyio
async def test_a_server_that_does_not_stream(anthropic):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(kind="application/json"))
        with pytest.raises(UpstreamUnstreamed, match="without 'stream'") as caught:
            await ask(anthropic(upstream), streamed=True)
    assert caught.value.size, "it is paid for"


@pytest.mark.anyio
@pytest.mark.parametrize(("body", "kind"), [(b"{", "json_error"), (b"{}", "upstream_error"), (b"[]", "upstream_error")])
async def test_a_200_that_is_no_answer(anthropic, body, kind):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(says=body))
        with pytest.raises(UpstreamBroken, match="isn't an answer") as caught:
            await ask(anthropic(upstream), streamed=False)
    assert caught.value.kind == kind


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_provider_that_says_nothing_in_time(anthropic, streamed):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(hangs=True))
        short = Timeouts(connect=1, first_byte=0.2, idle=0.2, total=3)
        with pytest.raises(UpstreamTimeout):
            await ask(anthropic(upstream, timeouts=short), streamed=streamed)
        await upstream.settle()
        assert upstream.left == 1


@pytest.mark.anyio
async def test_models_that_cannot_be_listed(anthropic):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        upstream.script(Fault(status=401))
        with pytest.raises(UpstreamError, match="ANTHROPIC_API_KEY"):
            await anthropic(upstream).list_models()


# No dialect loses a word. Each has a mark of its own; what is sent must hold them all, once and in order.


def gemini(fields, model, *, stream):
    return gemini_body(fields, model)


def bedrock(fields, model, *, stream):
    return bedrock_body(fields, model)


BODIES = {"anthropic": anthropic_body, "gemini": gemini, "bedrock": bedrock}
MARK = re.compile(rb"mark\d+x")


@st.composite
def conversations(draw):
    """Messages as callers send them, with marks in all that is said, and in the names of all tools."""
    marks = iter(range(1_000))

    def mark():
        return f"mark{next(marks):03}x"

    def content():
        if draw(st.booleans()):
            return mark()
        return [{"type": "text", "text": mark()} for _ in range(draw(st.integers(1, 3)))]

    messages = [{"role": "user", "content": content()}]
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            messages.append({"role": draw(st.sampled_from(["user", "assistant"])), "content": content()})
            continue
        calls = [
            {"id": f"c{number}", "type": "function", "function": {"name": mark(), "arguments": f'{{"a":"{mark()}"}}'}}
            for number in range(draw(st.integers(1, 3)))
        ]
        said = content() if draw(st.booleans()) else None
        messages.append({"role": "assistant", "content": said, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": content()} for call in calls]
    tools = [{"type": "function", "function": {"name": mark(), "description": mark()}} for _ in range(draw(st.integers(0, 3)))]
    return {"messages": messages, "tools": tools}


@pytest.mark.parametrize("dialect", BODIES)
@given(fields=conversations())
def test_no_message_and_no_tool_is_lost(dialect, fields):
    sent = msgspec.json.decode(BODIES[dialect](fields, "a-model", stream=False))
    assert marks_of(sent.pop("tools", None) or sent.pop("toolConfig", [])) == marks_of(fields["tools"])
    said, wanted = marks_of(sent), marks_of(fields["messages"])
    names = marks_of([call["function"]["name"] for message in fields["messages"] for call in message.get("tool_calls", [])])
    again = [mark for place, mark in enumerate(said) if mark in names and mark in said[:place]]
    assert sorted(said) == sorted([*wanted, *again])
    texts = [{**message, "tool_calls": []} for message in fields["messages"]]
    assert [mark for mark in said if mark in set(marks_of(texts))] == marks_of(texts)


WHOLE = {
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            "thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": "s"}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "a", "is_error": True, "cache_control": {"type": "ephemeral"}},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
}
ODD = ([], ["x"], {}, {"x": 1}, 7, "", "x", None, True)


@pytest.mark.parametrize("dialect", BODIES)
def test_no_value_of_a_caller_s_is_a_fault_of_ours(dialect):
    for place, _ in places(WHOLE):
        for odd in ODD:
            fields = put({"model": "m", **WHOLE}, place, odd)
            with suppress(InvalidField, Unfit):
                BODIES[dialect](chat_request(fields).fields, "a-model", stream=False)


@pytest.mark.parametrize("dialect", BODIES)
@pytest.mark.parametrize("kind", [["x"], {}])
def test_a_part_of_no_type_is_refused_by_its_place(dialect, kind):
    with pytest.raises(Unfit) as caught:
        BODIES[dialect]({"messages": [{"role": "user", "content": [{"type": kind}]}]}, "a-model", stream=False)
    assert caught.value.param == "messages.0.content.0.type"


def marks_of(value):
    return MARK.findall(msgspec.json.encode(value))
