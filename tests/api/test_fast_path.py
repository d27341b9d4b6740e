"""Bytes that were answered from memory before: the same answer as from the whole path, as long as nothing has changed.

The fast path takes a request that comes in one piece, and no other: sent in two, the same bytes walk the whole path.
"""

import asyncio
import gc
import json
import re
import sys
from types import FunctionType, ModuleType

import pytest

from sentinel_gateway.api.asgi import SEGMENT_BYTES
from sentinel_gateway.core.access import Caller
from tests.gateway import DAY, away_from_the_end_of, chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

OWN = re.compile(r"[0-9a-f]{32}|\"created\":\d+")
"""What is each answer's own: its ids, and when it was made."""
PASSING = {"date", "age", "x-sentinel-id", "x-request-id", "cache-status"}
CONFIG = """
tenants: {limited: {limits: {requests_per_minute: 1000}}}
models:
  alias: {targets: [mock/mock-model]}
  narrow: {targets: [mock/mock-model], limits: {requests_per_minute: 1000}}
prices:
  models: {mock/*: {input: 0, output: 1000}}
"""


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fast")
    async with running_gateway(folder, config=one_provider(chaos.base_url) + CONFIG) as gateway:
        await gateway.key()  # from now on all need one
        yield gateway


class Watched:
    """The events, and what they were told."""

    def __init__(self, events):
        self.events = events
        self.records = []

    def finished(self, record):
        self.records.append(record)
        self.events.finished(record)


def answered_again(gateway, request):
    """Is this request answered on the fast path?"""
    answer = gateway.process.answer_again(request, "127.0.0.1")
    return answer is not None and answer[0] == 200


async def known(gateway, request):
    """A connection over which this request has been asked until the fast path answers it."""
    wire = await gateway.connect()
    for _ in range(3):
        wire.send(request)
        assert (await wire.answer()).status == 200
    return wire


async def in_two(wire, request):
    wire.send(request[:20])
    await asyncio.sleep(0.02)
    wire.send(request[20:])
    return await wire.answer()


def comparable(answer):
    kept = {name: value for name, value in answer.headers.items() if name not in PASSING}
    for name, value in kept.items():  # each request takes one more, on either path
        if "ratelimit" in name and "limit-" not in name.removeprefix("x-ratelimit"):
            kept[name] = re.sub(r"\d[\d.]*(ms|s)?", "N", value)
    return answer.status, kept, OWN.sub("OWN", answer.body.decode())


VARIANTS = {
    "plain": {},
    "alias": {"model": "alias"},
    "limits of a model": {"model": "narrow"},
    "an end user": {"user": "u-1"},
    "ids": {"headers": "X-Request-Id: mine\r\n"},
    "namespace": {"headers": "X-Cache-Namespace: here\r\nX-Cache-Tags: a,b\r\n"},
    "age": {"headers": "Cache-Control: max-age=600\r\n"},
    "only if cached": {"headers": "Cache-Control: max-age=600, min-fresh=1\r\n"},
    "gzip": {"headers": "Accept-Encoding: gzip\r\n"},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("limits", [{}, {"requests_per_minute": 1000, "tokens_per_minute": 50_000}], ids=["free", "limited"])
async def test_it_answers_as_the_whole_path_does(gateway, text, name, limits):
    fields = dict(VARIANTS[name])
    key = await gateway.key(tenant=f"{name} {len(limits)}", limits=limits, user_limits=limits)
    headers = f"Authorization: Bearer {key}\r\n{fields.pop('headers', '')}"
    request = post(chat(text, **fields), headers=headers)
    wire = await known(gateway, request)
    wire.send(request)
    fast = await wire.answer()
    whole = await in_two(wire, request)
    assert comparable(fast) == comparable(whole)
    assert list(fast.headers) == list(whole.headers)
    assert fast.headers["x-sentinel-id"] != whole.headers["x-sentinel-id"]
    assert json.loads(fast.body)["id"] == f"chatcmpl-{fast.headers['x-sentinel-id']}"
    if limits:
        left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in (fast, whole)]
        assert left[0] - left[1] <= 1, "one more was taken, and some may have come back"
    assert answered_again(gateway, request), "or this test has compared the whole path with itself"
    await wire.close()


NOT_PLAIN = {
    "a stream": ({"stream": True}, ""),
    "explained": ({}, "X-Cache-Explain: true\r\n"),
    "once": ({}, "Idempotency-Key: once\r\n"),
    "a page": ({}, "Origin: http://localhost\r\n"),
    "the last one": ({}, "Connection: close\r\n"),
    "told to go on": ({}, "Expect: 100-continue\r\n"),
    "past the cache": ({}, "X-Bypass-Cache: true\r\n"),
    "afresh": ({}, "Cache-Control: no-cache\r\n"),
    "long": ({"metadata": {"pad": "x" * SEGMENT_BYTES}}, ""),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
async def test_what_is_not_plain_always_walks_the_whole_path(gateway, text, name):
    fields, headers = NOT_PLAIN[name]
    request = post(chat(text, **fields), headers=f"Authorization: Bearer {await gateway.key(tenant=name)}\r\n{headers}")
    for _ in range(4):
        wire = await gateway.connect()
        wire.send(request)
        assert (await wire.answer()).status == 200
        await wire.close()
    assert not answered_again(gateway, request)


async def test_nor_does_one_of_two_requests_in_one_piece(gateway, text):
    request = post(chat(text), headers=f"Authorization: Bearer {await gateway.key()}\r\n")
    wire = await gateway.connect()
    for _ in range(3):
        wire.send(request + request)
        assert [(await wire.answer()).status for _ in range(2)] == [200, 200]
    assert not answered_again(gateway, request + request)
    await wire.close()


async def test_a_long_answer_is_still_compressed(gateway, upstream, text):
    upstream.script("tokens=2000")
    request = post(chat(text), headers=f"Authorization: Bearer {await gateway.key()}\r\nAccept-Encoding: gzip\r\n")
    wire = await known(gateway, request)
    wire.send(request)
    answer = await wire.answer()
    assert (answer.cache, answer.headers.get("content-encoding")) == ("exact", "gzip")
    assert not answered_again(gateway, request)
    await wire.close()


async def test_what_is_compressed_takes_no_room(gateway, upstream, text):
    upstream.script("tokens=2000")
    request = post(chat(text), headers=f"Authorization: Bearer {await gateway.key()}\r\nAccept-Encoding: gzip\r\n")
    before = repr(gateway.process._wiring.fast)  # noqa: SLF001 - it tells how many it knows
    await (await known(gateway, request)).close()
    assert repr(gateway.process._wiring.fast) == before  # noqa: SLF001


async def test_a_request_for_which_pages_are_told_more_walks_the_whole_path(chaos, tmp_path, text):
    config = one_provider(chaos.base_url) + "server: {cors: {origins: ['https://page.example']}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        request = post(chat(text))
        wire = await known(gateway, request)
        wire.send(request)
        assert comparable(await wire.answer()) == comparable(await in_two(wire, request))
        await wire.close()


async def test_what_is_known_takes_no_more_memory_than_it_says(gateway, text):
    """A body of many small lists takes twenty times its bytes once it is parsed."""
    key = await gateway.key(tenant="nested")
    fast = gateway.process._wiring.fast  # noqa: SLF001 - whose memory is measured
    first = chat(text, junk=[[]] * 8_000)
    await (await known(gateway, post(first, headers=f"Authorization: Bearer {key}\r\n"))).close()
    (segment,) = (segment for segment in fast._known if b"junk" in segment)  # noqa: SLF001
    seen = _reach(fast._known[segment])  # noqa: SLF001
    assert sum(map(sys.getsizeof, seen)) < 4096


def _reach(root):
    """All that is kept by an object, but for classes, functions and what its caller's key is."""
    found, left = {}, [root]
    while left:
        thing = left.pop()
        if id(thing) not in found and not isinstance(thing, type | FunctionType | ModuleType | Caller):
            found[id(thing)] = thing
            left += gc.get_referents(thing)
    return found.values()


async def test_a_revoked_key_is_refused(gateway, text):
    made = await gateway.request("POST", "/admin/keys", json={"name": "revoked"}, headers=gateway.admin)
    request = post(chat(text), headers=f"Authorization: Bearer {made.json['key']}\r\n")
    wire = await known(gateway, request)
    assert answered_again(gateway, request)
    gone = await gateway.request("POST", f"/admin/keys/{made.json['id']}/revoke", headers=gateway.admin)
    assert gone.status == 200, gone.body
    assert not answered_again(gateway, request)
    wire.send(request)
    assert (await wire.answer()).status == 401
    await wire.close()


async def test_an_expired_key_is_refused(gateway, text):
    now = gateway.process.clock()
    made = await gateway.request("POST", "/admin/keys", json={"name": "brief", "expires": now + 4}, headers=gateway.admin)
    assert made.status == 201, made.body
    request = post(chat(text), headers=f"Authorization: Bearer {made.json['key']}\r\n")
    wire = await known(gateway, request)
    assert answered_again(gateway, request)
    await until(lambda: gateway.process.clock() > now + 4)
    wire.send(request)
    answer = await wire.answer()
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    await wire.close()


async def test_a_limit_refuses_the_same_request_as_without_it(gateway, text):
    key = await gateway.key(tenant="spent", limits={"requests_per_minute": 6})
    request = post(chat(text), headers=f"Authorization: Bearer {key}\r\n")
    wire = await known(gateway, request)
    seen = []
    for _ in range(5):
        wire.send(request)
        seen.append(await wire.answer())
    assert [answer.status for answer in seen] == [200, 200, 200, 429, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in seen] == ["2", "1", "0", "0", "0"]
    await wire.close()


async def test_a_budget_is_told_as_it_stands(gateway, text):
    await away_from_the_end_of(DAY)
    key = await gateway.key(tenant="spender", budget={"day": 1000}, limits={"requests_per_minute": 1000})
    headers = f"Authorization: Bearer {key}\r\n"
    request, left = post(chat(text), headers=headers), []
    wire = await known(gateway, request)
    for asked in (request, request, post(chat(f"{text}, and what else?"), headers=headers), request):
        wire.send(asked)
        left.append(float((await wire.answer()).headers["x-budget-remaining"]))
    assert left[0] == left[1] > left[3], "a hit takes nothing, and is told what an answer has taken meanwhile"
    assert answered_again(gateway, request)
    await wire.close()


async def test_what_was_cleared_or_has_expired_is_asked_anew(gateway, upstream, text):
    key = await gateway.key(tenant="cleared")
    request = post(chat(text), headers=f"Authorization: Bearer {key}\r\nX-Cache-Ttl: 30\r\n")
    wire = await known(gateway, request)
    await gateway.request("POST", "/admin/cache/clear", json={"tenant": "cleared"}, headers=gateway.admin)
    wire.send(request)
    assert (await wire.answer()).cache == "miss"
    assert len(upstream.calls) == 2
    wire.send(request)
    assert (await wire.answer()).cache == "exact"
    assert answered_again(gateway, request)
    await gateway.wait(31)
    wire.send(request)
    assert (await wire.answer()).cache == "miss"
    assert len(upstream.calls) == 3
    await wire.close()


async def test_when_the_models_were_listed_anew_routes_are_looked_up_again(gateway, text):
    request = post(chat(text), headers=f"Authorization: Bearer {await gateway.key()}\r\n")
    wire = await known(gateway, request)
    gateway.process._wiring.routes._relist()  # noqa: SLF001 - as every ten minutes
    assert not answered_again(gateway, request)
    wire.send(request)
    assert (await wire.answer()).cache == "exact"
    assert answered_again(gateway, request)
    await wire.close()


async def test_where_there_is_no_room_it_is_refused(gateway, chaos, text):
    request = post(chat(text), headers=f"Authorization: Bearer {await gateway.key()}\r\n")
    wire = await known(gateway, request)
    admission = gateway.process.admission
    async with admission:
        before = admission._capacity  # noqa: SLF001 - as a reload would change it
        admission.resize(type(before)(1, 0, 0.1))
        assert not answered_again(gateway, request)
        wire.send(request)
        assert (await wire.answer()).status == 503
        admission.resize(before)
    assert answered_again(gateway, request)
    await wire.close()


async def test_it_is_counted_and_logged_as_any_hit(gateway, text):
    request = post(chat(text), headers=f"Authorization: Bearer {await gateway.key()}\r\n")
    wire = await known(gateway, request)
    watched = Watched(gateway.process.events)
    gateway.process._wiring.fast._events = watched  # noqa: SLF001 - whose record is wanted
    counted = 'sentinel_cache_requests_total{outcome="exact",tier="memory"}'
    before = gateway.metric(counted)
    wire.send(request)
    await wire.answer()
    gateway.process._wiring.fast._events = watched.events  # noqa: SLF001
    assert gateway.metric(counted) == before + 1
    (record,) = watched.records
    assert (record.route, record.method, record.status) == ("/v1/chat/completions", "POST", 200)
    assert (record.outcome, record.tier, record.model, record.target) == ("exact", "memory", "mock-model", "mock/mock-model")
    assert record.prompt_tokens > 0
    assert record.client == "127.0.0.1"
    assert 0 < record.seconds < 10
    await wire.close()


async def test_a_reload_forgets_what_was_known(chaos, tmp_path, text):
    config = one_provider(chaos.base_url) + "models: {alias: {targets: [mock/mock-model]}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        request = post(chat(text, model="alias"))
        wire = await known(gateway, request)
        assert answered_again(gateway, request), "and without a key, where none is needed"
        await gateway.reload(config.replace("mock/mock-model", "mock/mock-small"))
        assert not answered_again(gateway, request)
        wire.send(request)
        assert (await wire.answer()).cache == "miss"
        await wire.close()
        wire = await known(gateway, request)
        assert answered_again(gateway, request)
        await gateway.key()
        assert not answered_again(gateway, request), "now a key is needed"
        await wire.close()


async def test_a_connection_that_reads_nothing_is_not_fed_without_end(gateway, upstream, text):
    upstream.script("tokens=20000")
    request = post(chat(text), headers=f"Authorization: Bearer {await gateway.key()}\r\n")
    await (await known(gateway, request)).close()
    assert answered_again(gateway, request)
    counted = 'sentinel_cache_requests_total{outcome="exact",tier="memory"}'
    wire = await gateway.connect(receive_buffer=4096)
    before = gateway.metric(counted)
    for _ in range(500):
        wire.send(request)
        await asyncio.sleep(0)
    await until(lambda: gateway.metric(counted) > before)
    await asyncio.sleep(0.5)
    answered = gateway.metric(counted) - before
    assert 0 < answered < 500, "some wait until it reads"
    wire.abort()


async def test_a_connection_that_is_idle_after_it_is_closed_in_time(chaos, tmp_path, text):
    config = one_provider(chaos.base_url) + "server: {keep_alive: 0.5, header_timeout: 30}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        request = post(chat(text))
        await (await known(gateway, request)).close()
        wire = await gateway.connect()
        wire.send(request)
        assert (await wire.answer()).cache == "exact"
        async with asyncio.timeout(15):  # a head would have had twice as long
            assert await wire.ended()
        await wire.close()
