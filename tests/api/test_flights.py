"""One flight for many: identical requests, at the same time, make one upstream call, however they want their answer."""

import asyncio
import time
from dataclasses import replace

import aiohttp
import pytest

from tests.gateway import chat, post, until

pytestmark = pytest.mark.anyio

COALESCED = 'sentinel_cache_requests_total{outcome="coalesced",tier="none"}'


@pytest.fixture
async def crowd(gateway):
    """The same gateway, for a thousand clients at once."""
    session = aiohttp.ClientSession(gateway.base_url, connector=aiohttp.TCPConnector(limit=0))
    yield replace(gateway, session=session)
    await session.close()


async def at_once(gateway, bodies, **headers):
    return await asyncio.gather(*(gateway.ask(body, **headers) for body in bodies))


async def together(gateway, upstream, bodies):
    """The provider waits until all are here."""
    asking = asyncio.create_task(at_once(gateway, bodies))
    await until(lambda: gateway.places() == len(bodies) and upstream.count)
    upstream.go_on()
    return await asking


def said(answer, body):
    return answer.sse.text() if body.get("stream") else answer.json["choices"][0]["message"]["content"]


@pytest.mark.parametrize("leads_by_streaming", [True, False])
async def test_a_thousand_at_once_make_one_call(crowd, upstream, text, leads_by_streaming):
    """C4: whole answers and streams mixed, usage asked for or not; those who come late get it from its beginning."""
    upstream.script("latency_ms=60000;chunk_ms=20;chunks=20")
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    kinds = [chat(text, stream=True), chat(text), chat(text, **usage), chat(text, stream=False)]
    leader = asyncio.create_task(crowd.ask(kinds[0 if leads_by_streaming else 1]))
    await until(lambda: upstream.count == 1)
    coalesced = crowd.metric(COALESCED)
    bodies = [kinds[number % 4] for number in range(999)]
    early = asyncio.create_task(at_once(crowd, bodies[:700]))
    await until(lambda: crowd.places() == 701)
    upstream.go_on()
    late = await at_once(crowd, bodies[700:])
    answers = [await leader, *await early, *late]

    assert upstream.count == 1
    assert {answer.status for answer in answers} == {200}
    assert len({said(answer, body) for answer, body in zip(answers[1:], bodies, strict=True)}) == 1
    for answer, body in zip(answers[1:], bodies, strict=True):
        if body.get("stream"):
            assert answer.sse.done
            assert len(answer.sse.usages) == (1 if "stream_options" in body else 0)
        if answer.cache == "miss":
            assert all(step.get("collapsed") for step in answer.tiers.values())
    shared = sum(answer.cache == "miss" for answer in answers[1:])
    assert shared >= 700, "most came while it was in the air"
    assert crowd.metric(COALESCED) - coalesced == shared
    assert (await crowd.ask(chat(text))).cache == "exact"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_leader_may_leave(gateway, upstream, text, stream):
    upstream.script("chunk_ms=60000;chunks=2" if stream else "latency_ms=60000")
    leader = await gateway.connect()
    leader.send(post(chat(text, stream=stream)))
    await until(lambda: upstream.count == 1)
    followers = asyncio.create_task(at_once(gateway, [chat(text, stream=stream)] * 5))
    if stream:
        await leader.read_until(b'"content":"mock')
    await until(lambda: gateway.places() == 6)
    leader.abort()
    await until(lambda: gateway.places() == 5)
    upstream.go_on()
    for answer in await followers:
        assert answer.status == 200
        assert not stream or answer.sse.done
    assert upstream.count == 1
    assert upstream.calls[0].completed
    assert (await gateway.ask(chat(text))).cache == "exact"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_to_leave_ends_it(gateway, upstream, text, stream):
    upstream.script("stall_after=1" if stream else "latency_ms=60000")
    wires = [await gateway.connect() for _ in range(4)]
    for wire in wires:
        wire.send(post(chat(text, stream=stream)))
    await until(lambda: gateway.places() == len(wires) and upstream.count == 1)
    for wire in wires[:-1]:
        wire.abort()
    await until(lambda: gateway.places() == 1)
    assert upstream.calls[0].closed_by_peer_at is None, "one still waits"
    left = time.monotonic()
    wires[-1].abort()
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at - left < 5.0, "a minute before the provider would have ended it"
    await until(lambda: gateway.places() == 0)
    assert upstream.count == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_reaches_those_who_wait_and_nobody_else(gateway, upstream, text, stream):
    upstream.script("latency_ms=60000;err=500")
    answers = await together(gateway, upstream, [chat(text, stream=stream)] * 20)
    assert {answer.status for answer in answers} == {502}
    assert upstream.count == 1
    assert (await gateway.ask(chat(text, stream=stream))).status == 200
    assert upstream.count == 2


async def test_a_cut_reaches_all_who_listen(gateway, upstream, text):
    upstream.script("latency_ms=60000;chunk_ms=20;cut_after=4")
    answers = await together(gateway, upstream, [chat(text, stream=True)] * 5)
    assert upstream.count == 1
    for answer in answers:
        assert answer.sse.error["code"] == "upstream_error"
        assert not answer.sse.done


@pytest.mark.parametrize(
    "header",
    [{"x_bypass_cache": "true"}, {"cache_control": "no-cache"}, {"x_cache_namespace": "mine"}],
    ids=lambda h: next(iter(h)),
)
async def test_bypass_neither_reads_writes_nor_joins_a_flight(gateway, upstream, text, header):
    upstream.script("latency_ms=200", times=3)
    plain = asyncio.create_task(gateway.ask(chat(text)))
    await until(lambda: upstream.count == 1)
    alone = await at_once(gateway, [chat(text)], **header)
    assert (await plain).status == alone[0].status == 200
    assert upstream.count == 2


@pytest.mark.parametrize("header", [{"cache_control": "no-store"}, {"x_cache_ttl": "0"}], ids=["no-store", "ttl 0"])
async def test_who_wants_nothing_kept_leads_nobody(gateway, upstream, text, header):
    upstream.script("latency_ms=200", times=3)
    first = asyncio.create_task(gateway.ask(chat(text), **header))
    await until(lambda: upstream.count == 1)
    await gateway.ask(chat(text))
    await first
    assert upstream.count == 2
    assert (await gateway.ask(chat(text))).cache == "exact"


async def test_an_answer_that_is_not_kept_is_shared_all_the_same(gateway, upstream, text):
    upstream.script("latency_ms=60000;finish=content_filter")
    answers = await together(gateway, upstream, [chat(text)] * 10)
    assert [answer.status for answer in answers] == [200] * 10
    assert upstream.count == 1
    upstream.reset()
    assert (await gateway.ask(chat(text))).cache == "miss"
