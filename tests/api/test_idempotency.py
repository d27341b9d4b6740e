"""`Idempotency-Key` over HTTP: done once, answered alike, each tenant's own."""

import asyncio

import pytest

from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    config = one_provider(chaos.base_url) + "keys: {required: false}\n"
    async with running_gateway(tmp_path_factory.mktemp("once"), config=config) as running:
        yield running


async def once(gateway, key, text="once", **more):
    fields = {name: more.pop(name) for name in ("temperature", "stream") if name in more}
    return await gateway.ask(chat(text, **fields), idempotency_key=key, cache_control="no-store", **more)


async def test_a_hundred_at_once_are_one_call_and_one_answer(gateway, upstream):
    upstream.script("latency_ms=100")
    answers = await asyncio.gather(*(once(gateway, "hundred") for _ in range(100)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 99
    assert len(upstream.calls) == 1


async def test_the_same_again_is_the_same_answer_and_another_body_is_refused(gateway, upstream):
    first, again = [await once(gateway, "again", "a question") for _ in range(2)]
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    other = await once(gateway, "again", "another question")
    assert (other.status, other.error["code"]) == (422, "idempotency_key_reused")
    assert len(upstream.calls) == 1


async def test_a_stream_comes_again_as_a_stream(gateway, upstream):
    first, again = [await once(gateway, "streamed", "to be streamed", stream=True) for _ in range(2)]
    assert first.sse.text() == again.sse.text() != ""
    assert again.sse.done
    assert again.headers["idempotent-replayed"] == "true"
    assert len(upstream.calls) == 1


async def test_each_tenant_has_its_own(gateway, upstream):
    keys = [await gateway.key(tenant=tenant) for tenant in ("one", "other")]
    answers = [await once(gateway, "ours", f"of {key}", authorization=f"Bearer {key}") for key in keys]
    assert [answer.status for answer in answers] == [200, 200]
    assert len(upstream.calls) == 2


async def test_a_failure_may_be_tried_again(gateway, upstream):
    upstream.script("err=500")
    assert (await once(gateway, "failed", "fails first")).status == 502
    again = await once(gateway, "failed", "fails first")
    assert (again.status, "idempotent-replayed" in again.headers) == (200, False)


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, '"open', "k\u00e9y", "back\\slash"])
async def test_a_bad_key_is_told(gateway, key):
    answer = await once(gateway, key)
    assert (answer.status, answer.error["param"]) == (400, "idempotency-key")
    assert "1 to 255 visible ASCII characters" in answer.error["message"]


async def leave(gateway, asking):
    """Returns when the gateway knows that its caller has left."""
    connections = gateway.metric("active_connections")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: gateway.metric("active_connections") < connections)


async def test_who_leaves_finds_the_answer_later(gateway, upstream):
    upstream.script("latency_ms=60000")
    leaving = asyncio.create_task(once(gateway, "left", "left alone"))
    await until(lambda: upstream.calls)
    await leave(gateway, leaving)
    upstream.go_on()
    again = await once(gateway, "left", "left alone")
    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
    assert len(upstream.calls) == 1


async def test_a_replay_counts_as_a_request_and_costs_no_tokens(gateway):
    key = await gateway.key(tenant="limited", limits={"requests_per_minute": 2, "tokens_per_minute": 100_000})
    answers = [await once(gateway, "limited", "limited", authorization=f"Bearer {key}") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    left, used = int(answers[1].headers["x-ratelimit-remaining-tokens"]), answers[0].json["usage"]["total_tokens"]
    assert left >= 100_000 - used


@pytest.mark.parametrize("stream", [False, True])
async def test_work_whose_caller_has_left_is_told_when_it_ends(gateway, upstream, stream):
    def told():
        left = gateway.metric('requests_total{method="POST",route="/v1/chat/completions",status="499"}')
        return left, gateway.metric('sentinel_tokens_total{source="provider",type="completion"}')

    upstream.script("chunks=2;chunk_ms=60000" if stream else "latency_ms=60000")
    requests, tokens = told()
    leaving = asyncio.create_task(once(gateway, f"told {stream}".replace(" ", "-"), f"told {stream}", stream=stream))
    await until(lambda: len(upstream.calls) == 1)
    await leave(gateway, leaving)
    upstream.go_on()
    await until(lambda: upstream.calls[0].completed)
    await until(lambda: told()[0] > requests)
    assert told()[0] == requests + 1
    assert told()[1] > tokens


async def test_a_stream_that_waits_for_the_first_says_nothing_of_the_cache(chaos, upstream, tmp_path):
    async with running_gateway(
        tmp_path, environ={"SENTINEL_SERVER__HEARTBEAT": "0.1"}, config=one_provider(chaos.base_url)
    ) as slow:
        upstream.script("latency_ms=60000")
        asking = asyncio.gather(*(slow.ask(chat("wait", stream=True), idempotency_key="wait") for _ in range(2)))
        await until(lambda: upstream.calls)
        for _ in range(10):  # turns of the loop: both have been here, and their hearts have beaten
            await asyncio.sleep(0.05)
        upstream.go_on()
        first, second = await asking
    assert len(upstream.calls) == 1
    waited = next(answer for answer in (first, second) if "x-cache" not in answer.headers)
    assert (waited.sse.comments > 0, waited.sse.done, "cache-status" in waited.headers) == (True, True, False)
    assert first.sse.text() == second.sse.text() != ""
