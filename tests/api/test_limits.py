"""Limits over HTTP: what a key, a tenant, an end user and a model may take, what callers are told, and what is given back."""

import asyncio
import time

import pytest

from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

LIMITS = """
tenants: {shared: {limits: {requests_per_minute: 5}}}
keys: {required: true}
"""


@pytest.fixture(scope="module")
async def limited(chaos, tmp_path_factory):
    models = "models: {narrow: {targets: [mock/mock-model], limits: {requests_per_minute: 2}}}\n"
    config = one_provider(chaos.base_url) + models + LIMITS
    async with running_gateway(tmp_path_factory.mktemp("limited"), config=config) as gateway:
        yield gateway


async def ask(gateway, key, text="limits", **more):
    fields = {name: more.pop(name) for name in ("model", "user", "stream", "max_tokens") if name in more}
    return await gateway.ask(chat(text, **fields), authorization=f"Bearer {key}", **more)


async def are_left(gateway, key, least, *, most=1_000_000):
    """Until so many tokens are: what an answer has cost is booked beside it."""
    for _ in range(2_000):
        told = await ask(gateway, key, "?", cache_control="only-if-cached")
        if least <= int(told.headers["x-ratelimit-remaining-tokens"]) <= most:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{told.headers['x-ratelimit-remaining-tokens']} are left, and not {least} to {most}")


async def test_hits_count_as_requests_and_never_as_tokens(limited, upstream):
    key = await limited.key(tenant="counted", limits={"requests_per_minute": 3, "tokens_per_minute": 10_000})
    answers = [await ask(limited, key, "counted") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.cache for answer in answers[:3]] == ["miss", "exact", "exact"]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    used = answers[0].json["usage"]["total_tokens"]
    left = int(answers[2].headers["x-ratelimit-remaining-tokens"])
    assert 10_000 - used <= left <= 10_000, "only the first one cost tokens, and what it reserved beyond them came back"
    error = answers[3].error
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "3 requests a minute" in error["message"]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert len(upstream.calls) == 1


async def test_tokens_are_reserved_and_then_booked(limited, upstream):
    key = await limited.key(tenant="tokens", limits={"tokens_per_minute": 1_000})
    refused = await ask(limited, key, "tokens 1", max_tokens=2_000)
    assert (refused.status, refused.error["type"]) == (429, "tokens")
    assert refused.headers["x-should-retry"] == "false", "it never fits"
    assert upstream.calls == []
    for number in range(5):  # each reserves nearly all, and costs little
        answer = await ask(limited, key, f"tokens two, {number}", max_tokens=600)
        assert answer.status == 200, answer.body
        await are_left(limited, key, 700)
    for stream in (True, False):
        held = await ask(limited, key, f"tokens three {stream}", max_tokens=300, stream=stream)
        assert held.status == 200


async def test_an_image_counts_as_the_configuration_says(chaos, upstream, tmp_path):
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = {"model": "mock-model", "messages": [{"role": "user", "content": [picture, picture]}], "max_tokens": 10}
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        for more, status in (("", 200), ("tokens: {media: 1600}\n", 429), ("tokens: {media: 85}\n", 200)):
            assert (await gateway.reload(config + more)).status == 200
            key = await gateway.key(limits={"tokens_per_minute": 3_000})
            answer = await gateway.ask(body, authorization=f"Bearer {key}", x_bypass_cache="true")
            assert answer.status == status, "two of 1445 fit, two of 1600 do not"


async def test_what_a_provider_did_not_answer_costs_no_tokens(limited, upstream):
    key = await limited.key(tenant="failing", limits={"tokens_per_minute": 1_000})
    for number in range(4):
        upstream.script("err=500")
        answer = await ask(limited, key, f"failing {number}", max_tokens=800)
        assert answer.status == 502, answer.body
        await are_left(limited, key, 900)


async def test_a_tenant_s_limit_is_that_of_all_its_keys(limited):
    keys = [await limited.key(tenant="shared") for _ in range(3)]
    statuses = [(await ask(limited, keys[number % 3])).status for number in range(7)]
    assert statuses == [200] * 5 + [429] * 2


async def test_a_model_s_limit_counts_for_each_tenant(limited):
    keys = [await limited.key(tenant=tenant) for tenant in ("wide", "wider")]
    for key in keys:
        statuses = [(await ask(limited, key, model="narrow")).status for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await ask(limited, key)).status == 200, "another model has no limit"


async def test_end_users_of_a_key_are_apart(limited):
    key = await limited.key(tenant="users", user_limits={"requests_per_minute": 2})
    for user in ("ann", "bob"):
        assert [(await ask(limited, key, user=user)).status for _ in range(3)] == [200, 200, 429]


async def test_malformed_bodies_cost_requests_too(limited):
    key = await limited.key(tenant="broken", limits={"requests_per_minute": 4})
    bodies = [b"{", b"[]", b'{"model": 1}', b'{"model": "no/such", "messages": []}', b"{"]
    statuses = [(await limited.ask(body, authorization=f"Bearer {key}")).status for body in bodies]
    assert statuses[:4] == [400, 400, 400, 404] or statuses[:4] == [400] * 4
    assert statuses[4] == 429


@pytest.mark.parametrize("stream", [False, True])
async def test_places_are_given_back_whatever_happens(limited, upstream, stream):
    key = await limited.key(tenant=f"placed-{stream}", limits={"concurrency": 2})
    upstream.script("latency_ms=60000", 2)
    first = [asyncio.create_task(ask(limited, key, f"slow {stream} {number}", stream=stream)) for number in range(2)]
    await until(lambda: len(upstream.calls) == 2)
    refused = await ask(limited, key, "one more")
    assert (refused.status, refused.error["type"]) == (429, "concurrency")
    upstream.go_on()
    for task in first:
        assert (await task).status == 200
    for _ in range(2):
        upstream.script("err=500")
        await ask(limited, key, f"fails {stream} {_}", stream=stream)
    leaving = asyncio.create_task(ask(limited, key, f"leaves {stream}", stream=stream))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    async def free() -> bool:
        answers = await asyncio.gather(*(ask(limited, key, f"slow {stream} {number}") for number in range(2)))
        return all(answer.status == 200 for answer in answers)

    for _ in range(400):
        if await free():
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("a place is lost")


async def test_a_noisy_neighbour_is_not_heard(limited):
    """L4: one tenant far over its limit, another well within; the second is refused nothing."""
    noisy = await limited.key(tenant="noisy", limits={"requests_per_minute": 10})
    quiet = await limited.key(tenant="quiet", limits={"requests_per_minute": 1000})
    start = time.monotonic()
    answers = await asyncio.gather(*(ask(limited, noisy if number % 10 else quiet, f"L4 {number % 7}") for number in range(200)))
    most = 10 + (time.monotonic() - start) / 6
    by_key = [[answer.status for answer in answers[number::10]] for number in range(10)]
    assert by_key[0] == [200] * 20
    assert sum(status == 200 for statuses in by_key[1:] for status in statuses) <= most


async def test_a_reload_keeps_the_buckets_and_takes_the_new_limits(chaos, tmp_path):
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path, config=config + "limits: {requests_per_minute: 3}\n") as gateway:
        key = await gateway.key()
        assert [(await ask(gateway, key)).status for _ in range(4)] == [200, 200, 200, 429]
        assert (await gateway.reload(config + "limits: {requests_per_minute: 3}\n")).status == 200
        assert (await ask(gateway, key)).status == 429
        assert (await gateway.reload(config)).status == 200
        assert (await ask(gateway, key)).status == 200
        assert gateway.metric("rate_limiter_buckets") >= 1


async def test_models_metrics_and_probes_cost_nothing(limited):
    key = await limited.key(scopes=["read", "inference"], limits={"requests_per_minute": 1})
    for path in ("/v1/models", "/metrics", "/health"):
        for _ in range(3):
            assert (await limited.get(path, headers={"authorization": f"Bearer {key}"})).status == 200


async def test_what_lies_in_memory_takes_no_place_and_still_counts(limited, upstream):
    key = await limited.key(tenant="near", limits={"concurrency": 1, "requests_per_minute": 4})
    assert (await ask(limited, key, "near")).cache == "miss"
    upstream.script("latency_ms=60000")
    slow = asyncio.create_task(ask(limited, key, "slow"))
    await until(lambda: len(upstream.calls) == 2)
    hit = await ask(limited, key, "near")
    assert (hit.status, hit.cache, hit.headers["x-ratelimit-remaining-requests"]) == (200, "exact", "1")
    assert (await ask(limited, key, "far")).error["type"] == "concurrency"
    upstream.go_on()
    assert (await slow).status == 200
    assert (await ask(limited, key, "near")).cache == "exact"
    refused = await ask(limited, key, "near")
    assert (refused.status, refused.error["type"], "x-cache" in refused.headers) == (429, "requests", False)


async def test_who_counts_tokens_still_shares_one_flight(limited, upstream):
    """Long texts are counted one after the other: the first answer may be here before the last is counted."""
    key = await limited.key(tenant="counting", limits={"tokens_per_minute": 10_000_000})
    long = "a few words that take a while to count. " * 2_000
    await ask(limited, key, long + "first")  # loads what counts
    upstream.reset()
    answers = await asyncio.gather(*(ask(limited, key, long) for _ in range(12)))
    assert {answer.status for answer in answers} == {200}
    assert len(upstream.calls) == 1
    used = answers[0].json["usage"]["total_tokens"]
    after = int((await ask(limited, key, long)).headers["x-ratelimit-remaining-tokens"])
    assert after >= 10_000_000 - 3 * used - 30_000, "who was given the answer gave back what it had reserved"


async def test_a_place_is_held_from_the_moment_that_work_may_go_on(limited, upstream):
    """Who leaves while its idempotency key is being claimed has no more in flight than who stays."""
    key = await limited.key(tenant="claiming", limits={"concurrency": 1})
    upstream.script("latency_ms=60000", times=8)
    for number in range(8):
        leaving = asyncio.create_task(ask(limited, key, f"claiming {number}", idempotency_key=f"claiming-{number}"))
        await asyncio.sleep(0.001)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert len(upstream.calls) <= 1
    upstream.go_on()
    await upstream.settle()


@pytest.mark.parametrize("stream", [False, True])
async def test_work_that_goes_on_keeps_its_place(limited, upstream, stream):
    """Under an idempotency key it does: who leaves at once has no more in flight than who stays."""
    key = await limited.key(tenant=f"goes-on {stream}", limits={"concurrency": 1})
    upstream.script("tokens=400;chunks=2;chunk_ms=60000" if stream else "latency_ms=60000")
    leaving = asyncio.create_task(ask(limited, key, "goes on", idempotency_key="goes-on", stream=stream))
    await until(lambda: len(upstream.calls) == 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert (await ask(limited, key, "meanwhile")).error["type"] == "concurrency"
    again = await ask(limited, key, "goes on", idempotency_key="goes-on", stream=stream)
    assert again.status == 429, "it waits for no place"
    upstream.go_on()
    for _ in range(400):
        if (await ask(limited, key, "afterwards")).status == 200:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the place is lost")


@pytest.mark.parametrize("fault", ["tokens=400;chunks=200;chunk_ms=1;usage=absent", "tokens=4000;usage=absent"])
async def test_what_nobody_tells_the_usage_of_is_not_free(limited, upstream, fault):
    stream = "chunks" in fault
    key = await limited.key(tenant=f"untold {stream}", limits={"tokens_per_minute": 150})
    upstream.script(fault)
    assert (await ask(limited, key, f"untold {stream}", stream=stream)).status == 200
    await are_left(limited, key, 0, most=0)
    refused = await ask(limited, key, f"untold {stream}, again", stream=stream)
    assert (refused.status, refused.error["type"]) == (429, "tokens")


async def test_the_limit_of_the_configuration_is_no_way_to_a_key_with_more(chaos, tmp_path):
    config = one_provider(chaos.base_url) + LIMITS + "limits: {requests_per_minute: 3}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        maker = {"authorization": f"Bearer {await gateway.key(tenant='acme', scopes=['admin', 'inference'])}"}

        async def create(limit: int):
            asked = {"name": "more", "limits": {"requests_per_minute": limit}}
            return await gateway.request("POST", "/admin/keys", json=asked, headers=maker)

        refused = await create(4)
        assert (refused.status, refused.json["code"]) == (403, "insufficient_scope")
        assert "limits.requests_per_minute" in refused.json["detail"]
        made = await create(3)
        assert made.status == 201
        rotated = await gateway.request("POST", f"/admin/keys/{made.json['id']}/rotate", headers=maker)
        assert rotated.status == 201
