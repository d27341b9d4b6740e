"""The gateway with Redis as its farther tier: what nodes share, and what an outage of Redis costs."""

import sys
import time

import pytest

from sentinel_gateway.errors import ConfigurationError
from tests.gateway import chat, one_provider, running_gateway, until
from tests.servers import PATIENT, REDIS8, RedisServer, free_port

pytestmark = pytest.mark.anyio

SECRET = "5f2b8c0de1a94f7763b2c9d80e4f1a6b"
RECOVERY = 20.0
"""Ways to Redis, each of which tells when it goes and comes."""


@pytest.fixture
def node(chaos, tmp_path):
    """node(url, name) is a running gateway of that name."""

    def node(url, name="a", **environ):
        (tmp_path / name).mkdir(exist_ok=True)
        variables = {"REDIS_URL": url, "SENTINEL_SECRET": SECRET, "SENTINEL_REPLICAS": "2"} | PATIENT | environ
        return running_gateway(tmp_path / name, config=one_provider(chaos.base_url), environ=variables)

    return node


@pytest.fixture
def server(tmp_path):
    """One to be broken."""
    with RedisServer(REDIS8, tmp_path) as server:
        yield server


async def redis_status(gateway):
    answer = await gateway.get("/health", headers=gateway.admin)
    return answer.status, answer.json["services"]["redis"]["status"], answer.json["redis_connected"]


async def hit_in_time(gateway, body):
    """A hit; asks again where Redis was late, as it may be on a busy machine."""
    for _ in range(50):
        answer = await gateway.ask(body, cache_control="only-if-cached")
        if answer.status == 200:
            return answer
    raise AssertionError("it is not there, or always late")


def kept(server, answers=1):
    """As many are in Redis."""
    with server.client() as client:
        return len(list(client.scan_iter("sentinel:cache:1:*"))) == answers


@pytest.mark.parametrize("kind", ["redis7", "redis8", "redis_cluster"])
async def test_an_answer_made_on_one_node_is_a_hit_on_the_other(request, node, upstream, text, kind):
    server = request.getfixturevalue(kind)
    server.flush()
    async with node(server.url, "a") as a:
        body, miss = await a.ask_in_time(chat(text))
        assert list(miss.tiers) == ["sentinel-redis", "sentinel-memory"]
        assert miss.tiers["sentinel-redis"]["stored"]
    assert kept(server)  # what was taken is written at a stop
    async with node(server.url, "b") as b:
        hit = await hit_in_time(b, body)
        assert (hit.cache, list(hit.tiers)) == ("exact", ["sentinel-redis"])
        assert hit.json["choices"] == miss.json["choices"]
        assert list((await b.ask(body)).tiers) == ["sentinel-memory"]
        assert await redis_status(b) == (200, "up", True)
        assert (await b.get("/admin/stats", headers=b.admin)).json["services"]["redis"] == "up"
        assert "disk" not in (await b.get("/health")).json["services"]
        assert (await b.get("/v1/metrics")).json["stored_items"] == 1


async def test_nodes_that_share_no_secret_share_no_answer(node, server, upstream, text):
    async with node(server.url, "a") as a:
        body, _ = await a.ask_in_time(chat(text))
    async with node(server.url, "b", SENTINEL_SECRET=SECRET[::-1]) as b:
        answer = await b.ask(body, cache_control="only-if-cached")
        assert (answer.status, answer.error["code"]) == (504, "cache_miss")
        assert await b.stored() == 0
    assert kept(server)


async def test_clear_takes_what_all_nodes_have_kept_and_nothing_of_others(node, redis_cluster, upstream, text):
    redis_cluster.flush()
    others = ("sentinel:cache:other", "sentinel:metrics", "someone")
    with redis_cluster.client() as client:
        for name in others:
            client.set(name, "theirs")
    async with node(redis_cluster.url, "a") as a:
        asked = [(await a.ask_in_time(chat(f"{text} {n}")))[0] for n in range(20)]
    assert kept(redis_cluster, 20)
    async with node(redis_cluster.url, "b") as b:
        await hit_in_time(b, asked[0])
        assert await b.stored() == 20
        assert (await b.ask(asked[0], cache_control="only-if-cached")).status == 504
    assert kept(redis_cluster, 0)
    with redis_cluster.client() as client:
        assert [client.get(name) for name in others] == [b"theirs"] * 3


async def test_a_clear_takes_vectors_and_keeps_what_is_known_of_providers(chaos, redis8, upstream, tmp_path):
    """Seed 004's keys have no prefix of ours before them."""
    redis8.flush()
    environ = {"REDIS_URL": redis8.url, "SENTINEL_SECRET": SECRET} | PATIENT
    with redis8.client() as client:
        client.ping()  # its connection is none of the gateway's

        def there(pattern):
            return {name: client.dump(name) for name in client.scan_iter(pattern)}

        def known():
            return there("metrics:*") | there("latency:*") | there("provider_health*")

        async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ, semantic=True) as gateway:
            for country in ("France", "Spain"):
                await gateway.ask(chat(f"What is the capital of {country}?"))
            await until(lambda: len(there("sentinel:cache:1:*")) == 2 and there("sentinel:vectors:*"))
            await until(lambda: client.zcard("latency:mock:mock-model") == 2)
            before = known()
            assert len(before) >= 4
            assert await gateway.stored() == 2
            await until(lambda: not there("sentinel:cache:1:*") and not there("sentinel:vectors:*"))
            assert known() == before


@pytest.mark.parametrize("freeze", [True, False])
async def test_an_outage_costs_no_request(node, server, upstream, text, freeze):
    """Requests go on from memory and the provider; it is told in every place, and it is over by itself."""
    async with node(server.url, SENTINEL_REDIS__TIMEOUT="0.05") as gateway:
        body, _ = await gateway.ask_in_time(chat(text))
        server.freeze() if freeze else server.stop()
        answers = [await gateway.ask(chat(f"{text} {n}")) for n in range(10)]
        assert [answer.status for answer in answers] == [200] * 10
        steps = [answer.tiers["sentinel-redis"] for answer in answers]
        assert [(step["fwd"], step["detail"]) for step in steps] == [("miss", "tier-down")] * 10
        assert not any("stored" in step for step in steps[-3:])
        assert (await gateway.ask(body)).cache == "exact", "memory still answers"
        assert await redis_status(gateway) == (503, "down", False)
        assert (await gateway.get("/ready")).status == (await gateway.get("/livez")).status == 200
        assert (await gateway.get("/v1/metrics", headers=gateway.admin)).json["stored_items"] == 11
        failed = await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin)
        assert failed.status == 503
        assert failed.json["error"].startswith("Failed to flush Redis: ")

        server.thaw() if freeze else server.start()
        begun = time.monotonic()
        while (await gateway.get("/health")).status != 200:
            assert time.monotonic() - begun < RECOVERY
        body, miss = await gateway.ask_in_time(chat(f"{text} afterwards"))
        assert miss.tiers["sentinel-redis"]["stored"]
        down = gateway.metric('sentinel_events_total{event="redis_down"}')
        assert 1 <= down <= 3  # one that nobody has used meanwhile has noticed nothing
        await until(lambda: gateway.metric('sentinel_events_total{event="redis_up"}') == down)


async def test_redis_dead_at_start(node, tmp_path, upstream, text):
    server = RedisServer(REDIS8, tmp_path)
    async with node(server.url) as gateway:
        assert (await gateway.ask(chat(text))).status == 200
        assert await redis_status(gateway) == (503, "down", False)
        with server:
            begun = time.monotonic()
            while (await gateway.get("/health")).status != 200:
                assert time.monotonic() - begun < RECOVERY
            _, miss = await gateway.ask_in_time(chat(f"{text} again"))
            assert miss.tiers["sentinel-redis"]["stored"]


async def test_a_package_that_is_not_installed_is_named(node, monkeypatch):
    for module in [name for name in sys.modules if name.startswith(("redis", "sentinel_gateway.stores._redis"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'sentinel-gateway\[redis\]'"):
        async with node(f"redis://127.0.0.1:{free_port()}"):
            pass
