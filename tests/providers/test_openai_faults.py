"""What a provider of the OpenAI dialect makes of every fault of the chaos upstream, and of the odder habits of real servers."""

import asyncio
import time

import msgspec
import pytest

from bench.chaos import Fault
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamBroken, UpstreamError, UpstreamLimited, UpstreamRefused
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._errors import UpstreamUnstreamed
from sentinel_gateway.providers._http import MAX_REPLY_BYTES

pytestmark = pytest.mark.anyio

SHORT = Timeouts(connect=20, first_byte=0.2, idle=0.2, total=20)
LONG = Timeouts(connect=20, first_byte=20, idle=20, total=20)
"""For what must not be late."""
SOON = 15.0
"""Seconds: far from these."""
OK, CUT = "ok", "cut"
"""A good answer; a stream that ends without having finished, for the relay to judge."""

FAULTS = {
    "err=400": ("UpstreamRefused", "UpstreamRefused"),
    "err=401;err_body=text": ("UpstreamUnauthorized", "UpstreamUnauthorized"),
    "err=404;err_body=html": ("UpstreamRefused", "UpstreamRefused"),
    "err=429;retry_after=1e9": ("UpstreamLimited", "UpstreamLimited"),
    "err=500;err_body=empty": ("UpstreamBroken", "UpstreamBroken"),
    "err=503;cut_after=0": ("UpstreamBroken", "UpstreamBroken"),
    "latency_ms=60000": ("UpstreamTimeout", "UpstreamTimeout"),
    "first_token_ms=60000": (OK, "UpstreamTimeout"),
    "chunk_ms=60000": (OK, "UpstreamTimeout"),
    "stall_after=-1": ("UpstreamTimeout", "UpstreamTimeout"),
    "stall_after=0": ("UpstreamTimeout", "UpstreamTimeout"),
    "stall_after=1": ("UpstreamTimeout", "UpstreamTimeout"),
    "cut_after=-1": ("UpstreamBroken", "UpstreamBroken"),
    "cut_after=0": ("UpstreamBroken", "UpstreamBroken"),
    "cut_after=1": ("UpstreamBroken", CUT),
    "rst_after=-1": ("UpstreamBroken", "UpstreamBroken"),
    "rst_after=0": ("UpstreamBroken", "UpstreamBroken"),
    "rst_after=1": ("UpstreamBroken", CUT),
    "sse_error_after=0": (OK, "UpstreamBroken"),
    "sse_error_after=2": (OK, "UpstreamBroken"),
    "no_done": (OK, CUT),
    "no_finish": (OK, OK),
    "finish=length": (OK, OK),
    "bad_json": ("UpstreamBroken", "UpstreamBroken"),
    "html": ("UpstreamBroken", "UpstreamBroken"),
    "wrong_type": (OK, OK),
    "bad_sse": (OK, "UpstreamBroken"),
    "usage=absent": (OK, OK),
    "usage=zero": (OK, OK),
    "usage=wrong": (OK, OK),
    "usage=late": (OK, OK),
    "usage=content": (OK, OK),
    "empty": (OK, OK),
    "no_role": (OK, OK),
    "reasoning": (OK, OK),
    "split_utf8;chunks=2": (OK, OK),
    "trickle;chunks=1": (OK, OK),
    "huge=3000000": (OK, OK),
    "gzip_bomb=4": ("UpstreamBroken", "UpstreamBroken"),
}


def test_every_fault_of_the_mock_is_here():
    tried = {name for text in FAULTS for name in msgspec.structs.asdict(Fault.parse(text)) if f"{name}" in text}
    aside = {"err_rate", "service_tier", "tokens", "use_tools"}  # how often, how dear, how much and what of: no faults
    assert tried | aside >= set(Fault.__struct_fields__)


async def outcome(provider, asked, *, streamed):
    """OK, CUT or the error's name."""
    try:
        finished = await heard_to_the_end(provider, asked) if streamed else bool(await provider.complete(asked))
    except UpstreamError as error:
        return type(error).__name__
    return OK if finished else CUT


async def heard_to_the_end(provider, asked):
    async with await provider.open_stream(asked) as stream:
        async for batch in stream:
            assert batch
    return stream.finished


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_has_one_outcome(provider, upstream, call, fault, streamed):
    upstream.script(fault)
    started = time.monotonic()
    expected = FAULTS[fault][streamed]
    timeouts = SHORT if expected == "UpstreamTimeout" else LONG
    assert await outcome(provider(upstream.base_url, timeouts=timeouts), call(), streamed=streamed) == expected
    assert time.monotonic() - started < SOON
    (seen,) = upstream.calls
    assert seen.fault == Fault.parse(fault)
    await upstream.settle()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("err=500", "upstream_error"),
        ("gzip_bomb=4", "upstream_error"),
        ("cut_after=-1", "io_error"),
        ("rst_after=-1", "io_error"),
        ("latency_ms=60000", "upstream_timeout"),
        ("err=408", "upstream_timeout"),
        ("err=401", "upstream_unauthorized"),
        ("err=429", "rate_limit_exceeded"),
    ],
)
async def test_what_operators_are_told_has_failed(provider, upstream, call, fault, kind, streamed):
    asked = provider(upstream.base_url, timeouts=SHORT if fault == "latency_ms=60000" else LONG)
    upstream.script(fault)
    with pytest.raises(UpstreamError) as caught:
        await (heard_to_the_end(asked, call()) if streamed else asked.complete(call()))
    assert caught.value.kind == kind
    await upstream.settle()


@pytest.mark.parametrize("fault", ["err=404", "err=500", "latency_ms=60000", "cut_after=0"])
async def test_models_that_cannot_be_listed_are_an_error_too(provider, upstream, fault):
    with pytest.raises(UpstreamError):
        await provider(upstream.url_with(fault), timeouts=SHORT).list_models()


async def test_after_every_fault_the_next_call_is_fine(provider, upstream, call):
    hurried, groq = (provider(upstream.base_url, timeouts=timeouts) for timeouts in (SHORT, LONG))
    for fault in ("stall_after=1", "cut_after=1", "rst_after=0", "bad_sse", "err=500", "bad_json"):
        upstream.script(fault)
        assert await outcome(hurried, call(), streamed=True) != OK
        assert await outcome(groq, call(), streamed=True) == OK


async def test_what_came_before_a_failure_is_handed_out_first(provider, raw_server, call):
    async with raw_server(says(event(chunk("a")) + event(chunk("b")) + event(b"{broken"))) as server:
        async with await provider(server.base_url).open_stream(call()) as stream:
            assert [one.raw for one in await anext(stream)] == [chunk("a"), chunk("b")]
            for _ in range(2):
                with pytest.raises(UpstreamBroken, match="isn't JSON"):
                    await anext(stream)
        assert not stream.finished


def raises(expected):
    kind, says_so = expected
    return pytest.raises(kind, match=says_so)


def chunk(text):
    return msgspec.json.encode({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]})


def event(data):
    return b"data: %b\n\n" % data


def says(*parts, kind="text/event-stream", pause=0.0):
    """A handler that answers with these bytes and closes."""

    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n".encode())
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return handle


async def read(provider, server, asked):
    async with await provider(server.base_url).open_stream(asked) as stream:
        batches = [batch async for batch in stream]
    return batches, stream.finished


@pytest.mark.parametrize("ending", [b"data: [DONE]\n\n", b"data: [DONE]\n", b"data: [DONE]", b"data:[DONE]\r\n\r\n"])
async def test_done_is_heard_however_it_is_written(provider, raw_server, call, ending):
    async with raw_server(says(event(chunk("a")), ending)) as server:
        batches, finished = await read(provider, server, call())
    assert finished
    assert [one.raw for batch in batches for one in batch] == [chunk("a")]


async def test_nothing_is_heard_after_done(provider, raw_server, call):
    async with raw_server(says(event(chunk("a")) + event(b"[DONE]") + event(chunk("b")) + event(b"{broken"))) as server:
        batches, finished = await read(provider, server, call())
    assert finished
    assert [one.raw for batch in batches for one in batch] == [chunk("a")]


async def test_chunks_of_one_read_come_as_one_batch(provider, raw_server, call):
    async with raw_server(says(event(chunk("a")) + event(chunk("b")), event(chunk("c")), pause=0.05)) as server:
        batches, finished = await read(provider, server, call())
    assert [len(batch) for batch in batches] == [2, 1]
    assert not finished


async def test_comments_and_signs_of_life_are_skipped(provider, raw_server, call):
    noise = b": OPENROUTER PROCESSING\n\nevent: ping\ndata:\n\nid: 1\n\n"
    async with raw_server(says(noise, event(chunk("a")), noise, event(b"[DONE]"))) as server:
        batches, finished = await read(provider, server, call())
    assert finished
    assert len(batches) == 1


async def test_error_null_is_no_error(provider, raw_server, call):
    data = b'{"error":null,"choices":[]}'
    async with raw_server(says(event(data), event(b"[DONE]"))) as server:
        batches, _ = await read(provider, server, call())
    assert batches[0][0].raw == data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"error":{"code":429,"message":"slow down"}}', (UpstreamLimited, "rate limit")),
        (b'{"error":{"code":"400","message":"bad tool"}}', (UpstreamRefused, "bad tool")),
        (b'{"error":"overloaded"}', (UpstreamBroken, "reported an error")),
        (b'{"error":{"message":"x","type":"server_error","code":null}}', (UpstreamBroken, "reported an error")),
        (b"[1]", (UpstreamBroken, "isn't a chunk")),
        (b"null", (UpstreamBroken, "isn't a chunk")),
        (b"[" * 20_000, (UpstreamBroken, "isn't JSON")),
        (b'"\xff"', (UpstreamBroken, "isn't JSON")),
    ],
)
async def test_an_event_that_is_no_chunk(provider, raw_server, call, data, expected):
    async with raw_server(says(event(chunk("a")), event(data), pause=0.01)) as server:
        with raises(expected):
            await read(provider, server, call())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"code":429,"message":"slow down"}}', (UpstreamLimited, "rate limit")),
        (b'{"error":"overloaded"}', (UpstreamBroken, "reported an error")),
        (b'{"choices":[]}', (UpstreamBroken, "isn't a chat completion")),
        (b'{"choices":[{}]}', (UpstreamBroken, "isn't a chat completion")),
        (b"[]", (UpstreamBroken, "isn't a chat completion")),
        (b"", (UpstreamBroken, "isn't a chat completion")),
        (b"[" * 100_000, (UpstreamBroken, "isn't a chat completion")),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_200_that_is_no_answer(provider, raw_server, call, body, expected, streamed):
    async with raw_server(says(body, kind="application/json; charset=utf-8")) as server:
        groq = provider(server.base_url)
        with raises(expected):
            await (groq.open_stream(call()) if streamed else groq.complete(call()))


async def test_a_server_that_does_not_stream(provider, raw_server, call):
    answer = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
    async with raw_server(says(answer, kind="application/json")) as server:
        with pytest.raises(UpstreamUnstreamed, match="without 'stream'") as caught:
            await provider(server.base_url).open_stream(call())
    assert caught.value.size == len(answer), "it is paid for"


async def test_the_largest_batch_of_long_vectors_is_read(provider, raw_server, call):
    """More than any other answer may have: by its count, for it is paid for when it comes."""
    count, length = 512, 80 * 1024
    vectors = b",".join(b'{"embedding":"%b"}' % (b"A" * length) for _ in range(count))
    body = b'{"data":[%b]}' % vectors
    assert len(body) > MAX_REPLY_BYTES
    async with raw_server(says(body, kind="application/json")) as server:
        embedded = await provider(server.base_url).embed(call(input=["x"] * count, encoding_format="base64"))
    assert {len(vector) for vector in embedded.vectors} == {length + 2}


async def test_our_key_is_never_in_what_we_say(provider, raw_server, call, answered):
    key = "sk-live-0123456789abcdef"

    async def handle(server, reader, writer):
        await server.read_request(reader)
        body = msgspec.json.encode({"error": {"message": f"bad header Bearer {key} or {key}", "param": key, "code": key}})
        writer.write(answered("400 Bad Request", body=body))

    async with raw_server(handle) as server:
        with pytest.raises(UpstreamRefused) as caught:
            await provider(server.base_url).complete(call())
    assert key.encode() in server.heads[0]
    assert key not in f"{caught.value.message} {caught.value.param} {caught.value.upstream_code}"
    assert key not in repr(provider("http://x/v1"))


async def test_a_stream_with_tools_folds_to_the_whole_answer(provider, upstream, call):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    asked = call(tools=[tool], tool_choice="required", n=2)
    groq = provider(upstream.base_url)
    whole = (await groq.complete(asked)).answer
    fold = Fold(expected=2, max_bytes=100_000)
    async with await groq.open_stream(asked) as stream:
        async for batch in stream:
            for one in batch:
                fold.add(one.fields, len(one.raw))
    assert fold.answer().fields["choices"][1]["message"]["tool_calls"] == whole.fields["choices"][1]["message"]["tool_calls"]
    assert fold.usage == whole.usage
