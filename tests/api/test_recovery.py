"""`x-recovery: buffered`: a stream that is cut comes whole from the next target, in every dialect that streams."""

import json

import pytest

from tests.gateway import chat, post, provider, running_gateway, until

pytestmark = pytest.mark.anyio

BUFFERED = {"x-recovery": "buffered"}
LINE = "x-recovery: buffered\r\n"
BROKEN = 'sentinel_upstream_attempts_total{outcome="broken",provider="first"}'
LEFT = 'sentinel_upstream_attempts_total{outcome="left",provider="third"}'


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """Two providers that have to hurry, and one name for both; a comment after each 50 ms of silence."""
    hasty = ", timeouts: {idle: 1}"
    config = f"""
providers:
{provider("first", chaos.base_url, more=hasty)}{provider("second", chaos.base_url, more=hasty)}
{provider("third", chaos.base_url)}
models:
  chain: [first/mock-model, second/mock-small]
  calm: [third/mock-model, second/mock-small]
server: {{heartbeat: 0.05}}
"""
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


def message(text):
    body = {"model": "chain", "max_tokens": 200, "stream": True, "messages": [{"role": "user", "content": text}]}
    return "/v1/messages", body


def response(text):
    return "/v1/responses", {"model": "chain", "stream": True, "input": text}


def completion(text):
    return "/v1/completions", {"model": "chain", "stream": True, "prompt": text}


def conversation(text):
    return "/v1/chat/completions", chat(text, "chain", stream=True)


BEGINNING = {
    message: b"event: message_start",
    response: b"event: response.created",
    completion: b'"mock-small"',
    conversation: b'"role":"assistant"',
}
END = {message: b"event: message_stop", response: b"event: response.completed", completion: b"[DONE]", conversation: b"[DONE]"}


@pytest.mark.parametrize("fault", ["cut_after=2", "rst_after=2", "bad_sse", "sse_error_after=2"])
@pytest.mark.parametrize("dialect", list(END))
async def test_the_next_target_s_answer_comes_whole(gateway, upstream, text, dialect, fault):
    path, body = dialect(text)
    upstream.script(fault)
    before = gateway.metric(BROKEN)
    answer = await gateway.ask(body, path, **BUFFERED)
    assert (answer.status, answer.cache) == (200, "miss")
    failed, good = upstream.calls
    assert (str(failed.fault), failed.body["model"], good.body["model"]) == (fault, "mock-model", "mock-small")
    assert b"mock-small" in answer.body
    assert b"mock-model" not in answer.body, "nothing of what broke off"
    if dialect is not completion:
        assert answer.body.count(BEGINNING[dialect]) == 1
    assert answer.body.count(END[dialect]) == 1
    assert b'"error":{' not in answer.body
    stored = await gateway.ask(body, path)
    assert stored.cache == "exact"
    assert gateway.metric(BROKEN) == before + 1


@pytest.mark.parametrize("fault", ["cut_after=2", "rst_after=2", "stall_after=2"])
async def test_where_no_stream_comes_to_its_end_no_word_and_no_end_is_sent(gateway, upstream, text, fault):
    upstream.script(f"{fault};latency_ms=100", times=2)
    answer = await gateway.ask(chat(text, "chain", stream=True), **BUFFERED)
    events = answer.sse
    assert events.comments > 0, "the connection looked alive meanwhile"
    assert not events.done
    [told] = events.chunks
    assert told["error"]["code"] == ("upstream_timeout" if fault.startswith("stall") else "upstream_error")
    assert [call.fault.latency_ms for call in upstream.calls] == [100, 100], "both were asked, and both broke off"


async def test_comments_keep_the_connection_alive_until_the_end_is_here(gateway, upstream, text):
    upstream.script("chunk_ms=60000;chunks=2")
    wire = await gateway.connect()
    wire.send(post(chat(text, "calm", stream=True), headers=LINE))
    await wire.read_until(b": keep-alive\n\n")
    assert upstream.calls[0].ended is None, "it is still being said"
    upstream.go_on()
    rest = await wire.read_until(b"data: [DONE]\n\n")
    assert b'"content"' in rest
    assert upstream.calls[0].completed
    await wire.close()


async def test_who_leaves_is_noticed_and_the_provider_let_go(gateway, upstream, text):
    upstream.script("chunk_ms=60000;chunks=2")
    wire = await gateway.connect()
    before = gateway.metric(LEFT)
    wire.send(post(chat(text, "calm", stream=True), headers=LINE))
    await wire.read_until(b": keep-alive\n\n")
    wire.abort()
    await upstream.settle()
    assert not upstream.calls[0].completed
    await until(lambda: gateway.metric(LEFT) == before + 1)


async def test_with_an_idempotency_key_what_was_recovered_is_repeated(gateway, upstream, text):
    upstream.script("cut_after=2")
    asked, headers = chat(text, "chain", stream=True), {**BUFFERED, "idempotency-key": "recovered", "x-bypass-cache": "true"}
    first, again = [await gateway.ask(asked, **headers) for _ in range(2)]
    assert first.sse.text() == again.sse.text() != ""
    assert again.headers["idempotent-replayed"] == "true"
    assert upstream.count == 2


async def test_without_the_header_a_cut_is_told(gateway, upstream, text):
    upstream.script("cut_after=2")
    answer = await gateway.ask(chat(text, "chain", stream=True), **{"x-recovery": "none"})
    assert answer.sse.error["code"] == "upstream_error"
    assert upstream.count == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_malformed_value_names_its_header(gateway, upstream, text, path):
    answer = await gateway.ask(chat(text, "chain", max_tokens=5), path, **{"x-recovery": "yes"})
    assert answer.status == 400
    assert "x-recovery" in json.dumps(answer.json)
    assert upstream.count == 0
