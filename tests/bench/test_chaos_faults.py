"""Each fault does what it says, as a client sees it."""

import asyncio
import json
import time
import zlib
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
import pytest

from bench.chaos import Fault, FaultError
from bench.chaos.answer import say
from bench.chaos.fault import DEFAULTS
from bench.chaos.question import read_question
from bench.chaos.stream import stream as stream_parts
from tests.gateway import until

pytestmark = pytest.mark.anyio

BODY = {"model": "mock-model", "messages": [{"role": "user", "content": "Which spade?"}]}
CHAT = "/chat/completions"


class Seen(NamedTuple):
    """What a client that speaks HTTP saw; `whole` is False if the answer broke off."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


@pytest.fixture
def ask(upstream, client):
    async def ask(fault, *, stream=False, **more):
        body = {**BODY, **more, "stream": True} if stream else {**BODY, **more}
        pieces, whole = [], True
        async with client.post(upstream.url_with(fault) + CHAT, json=body) as answer:
            try:
                while piece := await answer.content.readany():
                    pieces.append(piece)
            except aiohttp.ClientError:
                whole = False
        return Seen(answer.status, dict(answer.headers), b"".join(pieces), whole)

    return ask


@asynccontextmanager
async def raw(upstream, fault, *, stream=True):
    """The bytes of the connection, after a request with this fault."""
    body = json.dumps({**BODY, "stream": stream}).encode()
    head = f"POST {upstream.url_with(fault).partition(str(upstream.port))[2]}{CHAT} HTTP/1.1\r\nhost: mock\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield reader
    finally:
        writer.close()


def events(seen):
    return [event.removeprefix("data: ") for event in seen.body.decode().split("\n\n")[:-1]]


def chunks(seen):
    return [json.loads(event) for event in events(seen) if event != "[DONE]"]


def contents(seen):
    """The text of each content chunk."""
    deltas = [choice["delta"] for chunk in chunks(seen) for choice in chunk.get("choices", ())]
    return [delta["content"] for delta in deltas if delta.get("content")]


# statuses


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 599])
async def test_err(ask, status, stream):
    seen = await ask(f"err={status}", stream=stream)
    error = json.loads(seen.body)["error"]
    assert (seen.status, error["message"], error.keys()) == (status, f"mock error {status}", {"message", "type", "param", "code"})


async def test_err_body(ask):
    text, empty, html = [await ask(f"err=502;err_body={kind}") for kind in ("text", "empty", "html")]
    assert (text.headers["Content-Type"], text.body) == ("text/plain; charset=utf-8", b"mock error 502\n")
    assert empty.body == b""
    assert html.headers["Content-Type"] == "text/html; charset=utf-8"
    assert html.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize(("value", "header"), [("2", "2"), ("0.5", "0.5"), ("1e9", "1000000000"), ("1e15", "1000000000000000")])
async def test_retry_after(ask, value, header):
    assert (await ask(f"err=429;retry_after={value}")).headers["Retry-After"] == header


async def test_err_rate_is_the_share_and_the_seed_decides(ask, upstream):
    async def draw():
        upstream.reset()
        return [(await ask("err=503;err_rate=0.3")).status for _ in range(200)]

    first, second = await draw(), await draw()
    assert first == second
    assert 35 <= first.count(503) <= 85
    assert set(first) == {200, 503}


# time


async def test_latency_is_before_the_head(upstream):
    start = time.monotonic()
    async with raw(upstream, "latency_ms=80") as reader:
        await reader.readline()
        assert time.monotonic() - start >= 0.078


async def test_first_token_is_after_the_head(upstream):
    async with raw(upstream, "first_token_ms=400") as reader:
        await reader.readuntil(b"\r\n\r\n")
        head_at = time.monotonic()
        await reader.readline()
        assert time.monotonic() - head_at >= 0.1


async def test_chunk_ms_is_the_time_between_chunks(ask):
    start = time.monotonic()
    seen = await ask("chunks=40;chunk_ms=5", stream=True)
    assert time.monotonic() - start >= 39 * 0.005 - 0.002
    assert len(contents(seen)) == 40


async def test_json_answers_know_no_chunks(ask):
    start = time.monotonic()
    await ask("chunks=50;chunk_ms=1000;first_token_ms=1000")
    assert time.monotonic() - start < 20


# size


@pytest.mark.parametrize(
    ("fault", "number", "tokens"),
    [("chunks=7", 7, None), ("chunks=300", 300, 300), ("tokens=90", 90, 90), ("tokens=9;chunks=3", 3, 9)],
)
async def test_chunks_and_tokens(ask, upstream, fault, number, tokens):
    seen = await ask(fault, stream=True, stream_options={"include_usage": True})
    whole = json.loads((await ask(fault)).body)
    counted = chunks(seen)[-1]["usage"]["completion_tokens"]
    assert len(contents(seen)) == number
    assert counted == whole["usage"]["completion_tokens"] == (tokens or counted)
    assert [(call.chunks_sent, call.tokens_sent) for call in upstream.calls] == [(number, counted), (1, counted)]


async def test_huge(ask, upstream):
    assert len((await ask("huge=3000000")).body) > 3_000_000
    seen = await ask("huge=3000000", stream=True)
    assert sum(map(len, contents(seen))) > 3_000_000
    (longest,) = contents(await ask("huge=500000;chunks=1", stream=True))
    assert len(longest) > 500_000
    assert [call.tokens_sent * 4 // 1_000_000 for call in upstream.calls] == [3, 3, 0]


async def test_huge_is_made_while_it_is_sent(upstream):
    """A client that does not read costs the mock no memory, and hanging up ends it."""
    async with raw(upstream, "huge=4000000000000") as reader:
        await reader.readline()
        await asyncio.sleep(0.05)
    await upstream.settle()
    (call,) = upstream.calls
    assert call.closed_by_peer_at is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_gzip_bomb(ask, stream):
    seen = await ask("gzip_bomb=3", stream=stream)
    assert seen.headers["Content-Encoding"] == "gzip"
    assert len(seen.body) < 3 * 2**20 / 100
    plain = zlib.decompress(seen.body, wbits=31)
    assert len(plain) > 3 * 2**20
    if not stream:
        assert json.loads(plain)["choices"][0]["message"]["content"].startswith("mock answer")


# breaking off


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("kind", ["cut", "rst"])
async def test_a_stream_that_breaks_off(ask, upstream, kind, after):
    seen = await ask(f"{kind}_after={after};chunks=5", stream=True)
    await upstream.settle()
    assert not seen.whole
    assert len(contents(seen)) == upstream.calls[0].chunks_sent == after
    assert b"[DONE]" not in seen.body
    assert (upstream.calls[0].completed, upstream.calls[0].closed_by_peer_at) == (False, None)


async def test_fin_and_rst_differ(upstream):
    async with raw(upstream, "cut_after=1") as reader:
        assert (await reader.read()).endswith(b"}\n\n\r\n")
    async with raw(upstream, "rst_after=1") as reader:
        with pytest.raises(ConnectionResetError):
            await reader.read()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["cut", "rst"])
async def test_breaking_off_before_the_head(ask, kind, stream):
    with pytest.raises(aiohttp.ClientError):
        await ask(f"{kind}_after=-1", stream=stream)


@pytest.mark.parametrize(("after", "half"), [(0, False), (1, True), (9, True)])
@pytest.mark.parametrize("kind", ["cut", "rst"])
async def test_a_json_answer_that_breaks_off(ask, upstream, kind, after, half):
    seen = await ask(f"{kind}_after={after}")
    assert not seen.whole
    assert 2 * len(seen.body) in ((int(seen.headers["Content-Length"]) // 2 * 2,) if half else (0,))
    assert upstream.calls[0].chunks_sent == 0


@pytest.mark.parametrize(
    ("after", "stream", "sent"), [(-1, True, 0), (0, True, 0), (2, True, 2), (-1, False, 0), (0, False, 0), (1, False, 0)]
)
async def test_stall(upstream, after, stream, sent):
    async with raw(upstream, f"stall_after={after}", stream=stream) as reader:
        if after >= 0:
            await reader.readuntil(b"\r\n\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                while await reader.read(65_536):
                    pass
        await until(lambda: upstream.calls and upstream.calls[0].chunks_sent == sent)
        (call,) = upstream.calls
        assert call.ended is None
        with pytest.raises(TimeoutError):
            await upstream.settle(0.02)
    await upstream.settle()
    assert call.closed_by_peer_at is not None


async def test_breaking_off_after_the_last_chunk_is_before_the_finish(ask):
    seen = await ask("cut_after=99;chunks=4", stream=True)
    assert len(contents(seen)) == 4
    assert all(choice["finish_reason"] is None for chunk in chunks(seen) for choice in chunk["choices"])


# what is said


async def test_no_done_and_no_finish(ask):
    assert events(await ask("", stream=True))[-1] == "[DONE]"
    seen = await ask("no_done", stream=True)
    assert seen.whole
    assert json.loads(events(seen)[-1])["choices"][0]["finish_reason"] == "stop"
    seen = await ask("no_finish", stream=True)
    assert events(seen)[-1] == "[DONE]"
    assert {choice["finish_reason"] for chunk in chunks(seen) for choice in chunk["choices"]} == {None}
    assert json.loads((await ask("no_finish")).body)["choices"][0]["finish_reason"] is None


async def test_finish(ask):
    assert json.loads((await ask("finish=content_filter")).body)["choices"][0]["finish_reason"] == "content_filter"
    assert chunks(await ask("finish=length", stream=True))[-1]["choices"][0]["finish_reason"] == "length"


async def test_service_tier(ask):
    assert json.loads((await ask("service_tier=flex")).body)["service_tier"] == "flex"
    assert {chunk["service_tier"] for chunk in chunks(await ask("service_tier=priority", stream=True))} == {"priority"}


@pytest.mark.parametrize("stream", [False, True])
async def test_bad_json_and_html(ask, stream):
    torn, page = await ask("bad_json", stream=stream), await ask("html", stream=stream)
    assert (torn.status, torn.headers["Content-Type"], torn.whole) == (200, "application/json", True)
    with pytest.raises(json.JSONDecodeError):
        json.loads(torn.body)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page.body.startswith(b"<!doctype html>")


async def test_wrong_type(ask):
    whole, seen = await ask("wrong_type"), await ask("wrong_type", stream=True)
    assert {answer.headers["Content-Type"] for answer in (whole, seen)} == {"text/html; charset=utf-8"}
    assert json.loads(whole.body)["choices"][0]["message"]["content"] == "".join(contents(seen))


async def test_bad_sse(ask):
    seen = events(await ask("bad_sse;chunks=3", stream=True))
    broken = [event for event in seen if event != "[DONE]" and not event.endswith("}")]
    assert broken == ['{"id": "chatcmpl-mock", "choi']
    assert len(seen) == 1 + 3 + len(broken) + 2


@pytest.mark.parametrize("after", [0, 2])
async def test_sse_error(ask, upstream, after):
    seen = await ask(f"sse_error_after={after};chunks=5", stream=True)
    assert seen.whole
    assert len(contents(seen)) == after
    assert json.loads(events(seen)[-1])["error"]["message"] == "mock error in mid-stream"
    assert upstream.calls[0].completed


async def test_usage_of_json(ask):
    seen = {
        kind: json.loads((await ask(f"usage={kind}")).body).get("usage")
        for kind in ("absent", "zero", "wrong", "late", "content")
    }
    assert seen["absent"] is None
    assert set(seen["zero"].values()) == {0}
    assert seen["wrong"]["prompt_tokens"] < 0
    assert seen["wrong"]["total_tokens"] != seen["wrong"]["prompt_tokens"] + seen["wrong"]["completion_tokens"]
    assert seen["late"] == seen["content"] == json.loads((await ask("")).body)["usage"]


@pytest.mark.parametrize("asked", [False, True])
async def test_usage_of_streams(ask, asked):
    async def usages(fault):
        """(number of choices, usage) of the chunks that have one."""
        more = {"stream_options": {"include_usage": True}} if asked else {}
        seen = chunks(await ask(f"{fault}chunks=3", stream=True, **more))
        return [(len(chunk["choices"]), chunk["usage"]) for chunk in seen if chunk.get("usage")]

    usage = json.loads((await ask("chunks=3")).body)["usage"]
    zero = dict.fromkeys(usage, 0)
    assert await usages("") == ([(0, usage)] if asked else [])
    assert await usages("usage=absent;") == []
    assert await usages("usage=zero;") == ([(0, zero)] if asked else [])
    assert await usages("usage=late;") == [(0, usage)]
    assert await usages("usage=content;") == [(1, usage)]


async def test_usage_in_the_last_content_chunk_stands_beside_content(ask):
    (chunk,) = [chunk for chunk in chunks(await ask("usage=content;chunks=3", stream=True)) if "usage" in chunk]
    assert chunk["choices"][0]["delta"]["content"]


async def test_empty(ask):
    whole = json.loads((await ask("empty")).body)
    assert (whole["choices"][0]["message"]["content"], whole["usage"]["completion_tokens"]) == ("", 0)
    assert contents(await ask("empty", stream=True)) == []


async def test_no_role(ask):
    assert "role" not in json.loads((await ask("no_role")).body)["choices"][0]["message"]
    assert b'"role"' not in (await ask("no_role", stream=True)).body


async def test_reasoning(ask):
    thoughts = json.loads((await ask("reasoning")).body)["choices"][0]["message"]["reasoning_content"]
    deltas = [choice["delta"] for chunk in chunks(await ask("reasoning", stream=True)) for choice in chunk["choices"]]
    thinking = [place for place, delta in enumerate(deltas) if "reasoning_content" in delta]
    speaking = [place for place, delta in enumerate(deltas) if delta.get("content")]
    assert "".join(deltas[place]["reasoning_content"] for place in thinking) == thoughts
    assert max(thinking) < min(speaking)


# how it is written


async def test_use_tools(ask):
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("dig", "plant")]

    async def said(**more):
        whole = json.loads((await ask("use_tools", tools=tools, **more)).body)["choices"][0]
        streamed = [chunk["choices"][0] for chunk in chunks(await ask("use_tools", stream=True, tools=tools, **more))]
        assert streamed[-1]["finish_reason"] == whole["finish_reason"]
        return [call["function"]["name"] for call in whole["message"].get("tool_calls", [])]

    result = [*BODY["messages"], {"role": "tool", "tool_call_id": "call_1", "content": "dug"}]
    assert await said() == await said(tool_choice="auto") == ["dig"]
    assert await said(tool_choice={"type": "function", "function": {"name": "plant"}}) == ["plant"]
    assert await said(tool_choice="none") == await said(messages=result) == []


async def test_split_utf8(ask, upstream):
    whole = json.loads((await ask("split_utf8")).body)["choices"][0]["message"]["content"]
    body = (await ask("split_utf8", stream=True)).body
    assert "🙂" in whole
    assert b": a comment\r\n" in body
    assert b"\n" not in body.replace(b"\r\n", b"")
    said = [json.loads(line[6:]) for line in body.decode().split("\r\n") if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in said) == whole
    async with raw(upstream, "split_utf8") as reader:
        await reader.readuntil(b"\r\n\r\n")
        pieces = [piece async for piece in http_chunks(reader)]
    assert b"".join(pieces).split(b": a comment")[1:] != []
    assert {len(piece) for piece in pieces} == {1, 2, 3, 5, 7}
    assert any(not valid_utf8(piece) for piece in pieces)


@pytest.mark.parametrize("stream", [False, True])
async def test_trickle(ask, upstream, stream):
    steady, trickled = await ask("", stream=stream), await ask("trickle", stream=stream)
    number = b"chatcmpl-mock-0"
    assert trickled.body.replace(b"chatcmpl-mock-1", number) == steady.body
    async with raw(upstream, "trickle", stream=stream) as reader:
        await reader.readuntil(b"\r\n\r\n")
        if stream:
            assert {len(piece) async for piece in http_chunks(reader)} == {1}
        else:
            assert len(await reader.read(65_536)) < len(steady.body)


async def http_chunks(reader):
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readline()


def valid_utf8(piece):
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


# where a fault comes from


async def test_queue_before_header_before_base_url(upstream, client):
    upstream.script("err=501", times=2)
    upstream.script(Fault(err=502))
    statuses = []
    for header in ("err=503", "err=503", None, "err=503", None, ""):
        headers = {} if header is None else {"X-Chaos": header}
        async with client.post(upstream.url_with("err=504") + CHAT, json=BODY, headers=headers) as answer:
            statuses.append(answer.status)
    assert statuses == [501, 501, 502, 503, 504, 200]


async def test_a_fault_may_wait_for_its_question(upstream, client):
    upstream.script("err=501", to="Which spade?")
    upstream.script("err=502")
    statuses = []
    for words in ("Which spade? None.", "Which", "Which spade?", "Which spade?"):
        body = BODY | {"messages": [{"role": "user", "content": words}]}
        async with client.post(upstream.base_url + CHAT, json=body) as answer:
            statuses.append(answer.status)
    assert statuses == [502, 200, 501, 200]


async def test_a_pause_ends_when_it_is_told_to(upstream, client):
    """One at a time: the next one is kept, from then on."""
    asking = []
    for fault in ("latency_ms=60000;chunk_ms=60000;chunks=3", "stall_after=-1"):
        upstream.script(fault)
        asking.append(asyncio.create_task(client.post(upstream.base_url + CHAT, json=BODY | {"stream": True})))
        while upstream.count < len(asking):  # noqa: ASYNC110 - it counts, and tells nobody
            await asyncio.sleep(0.002)
    for sent in (1, 2):
        upstream.go_on()
        assert upstream.calls[0].chunks_sent == sent
        assert not any(call.ended for call in upstream.calls)
    upstream.go_on()
    assert [call.completed for call in upstream.calls] == [True, False], "silence is no pause"
    async with await asking[0] as answer:
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")
    asking[1].cancel()


async def test_the_queue_is_for_chat_calls(upstream, client):
    upstream.script("err=503")
    async with client.get(f"{upstream.base_url}/models") as answer:
        assert answer.status == 200
    async with client.get(f"{upstream.url_with('err=500')}/models") as answer:
        assert answer.status == 500
    async with client.post(upstream.base_url + CHAT, json=BODY) as answer:
        assert answer.status == 503


@pytest.mark.parametrize(
    "prefix", ["/v1", "", "/openai/v1", "/err=503;latency_ms=1/v1", "/no_done/v1", "/err%3D503/v1", "/a/err=503/b"]
)
async def test_any_prefix_is_a_base_url(upstream, client, prefix):
    async with client.post(f"http://127.0.0.1:{upstream.port}{prefix}{CHAT}", json=BODY) as answer:
        assert answer.status == (503 if "err" in prefix else 200)


async def test_a_wrong_fault_is_refused_everywhere(upstream, client):
    async with client.post(f"http://127.0.0.1:{upstream.port}/eror=503/v1{CHAT}", json=BODY) as answer:
        assert (answer.status, "eror" in await answer.text()) == (400, True)
    async with client.post(upstream.base_url + CHAT, json=BODY, headers={"x-chaos": "err=ten"}) as answer:
        assert (answer.status, "err" in await answer.text()) == (400, True)
    for wrong in ("eror=503", Fault(err=99)):
        with pytest.raises(FaultError, match="er"):
            upstream.script(wrong)


def test_parts_are_made_one_by_one():
    """A plan of a terabyte is not made in advance."""
    question = read_question(msgspec.json.encode(BODY))
    fault = Fault(huge=10**12, chunks=1)
    parts = stream_parts(question, [say(question, fault, 0)], fault, 0)
    assert [len(next(parts).data) for _ in range(4)][2:] == [65_536, 65_536]


def test_every_fault_is_tested_here():
    source = Path(__file__).read_text()
    assert [name for name in DEFAULTS if f"{name}=" not in source and f'"{name}' not in source] == []
