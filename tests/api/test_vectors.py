"""Reworded questions on several nodes, through whole gateways: who finds what, and where `/health` says that questions are."""

import asyncio
import hashlib

import pytest

from tests.fake_qdrant import FakeQdrant
from tests.gateway import chat, one_provider, running_gateway, until
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

FRANCE = "What is the capital of France?"
REWORDED = "What's the capital of France?"
SECRET = "5f2b8c0de1a94f7763b2c9d80e4f1a6b"


@pytest.fixture
def node(chaos, tmp_path):
    """node(name, ...) is a running gateway of that name; its semantic tier is on."""

    def node(name, **environ):
        (tmp_path / name).mkdir(exist_ok=True)
        variables = {"SENTINEL_SECRET": SECRET} | environ
        return running_gateway(tmp_path / name, config=one_provider(chaos.base_url), environ=variables, semantic=True)

    return node


@pytest.fixture
def namespace(request) -> dict[str, str]:
    """A cache of this test alone."""
    return {"x-cache-namespace": hashlib.sha256(request.node.name.encode()).hexdigest()}


async def service(gateway, name):
    health = (await gateway.get("/health")).json["services"]
    return health.get(name, {}).get("status")


async def in_time(gateway, body, headers):
    """A hit; asks again where Redis was late, as it may be on a busy machine. Never asks a provider."""
    async with asyncio.timeout(30):
        while (answer := await gateway.ask(body, **headers, cache_control="only-if-cached")).status != 200:  # noqa: ASYNC110 - asked again
            await asyncio.sleep(0.1)
    return answer


async def written(server):
    """Returns once Redis has an answer and its question."""

    def is_written():
        with server.client() as client:
            return all(any(client.scan_iter(match)) for match in ("sentinel:vectors:1:*:heads", "sentinel:cache:1:*"))

    async with asyncio.timeout(30):
        while not await asyncio.to_thread(is_written):  # noqa: ASYNC110 - the gateway does it
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", ["redis8", "redis_cluster"])
async def test_an_answer_made_on_one_node_is_a_hit_in_other_words_on_the_other(request, node, upstream, namespace, kind):
    server = request.getfixturevalue(kind)
    server.flush()
    shared = {"REDIS_URL": server.url, "SENTINEL_REPLICAS": "2"} | PATIENT
    async with node("a", **shared) as a:
        asked, miss = await a.ask_in_time(chat(FRANCE), **namespace)
        assert miss.cache == "miss"
        await written(server)
        calls = len(upstream.calls)
    async with node("b", **shared) as b:
        hit = await in_time(b, asked | chat(REWORDED), namespace)
        assert hit.cache == "semantic"
        assert hit.headers["x-cache-similarity"] == "0.987"
        assert hit.json["choices"] == miss.json["choices"]
        assert len(upstream.calls) == calls
        assert await service(b, "vectors") == "up"
        assert (await b.request("POST", "/admin/cache/clear", headers=b.admin)).status == 200
        gone = await b.ask(asked | chat(REWORDED), **namespace, cache_control="only-if-cached")
        assert gone.status == 504


async def test_with_redis_7_answers_are_shared_and_questions_are_not(node, redis7, upstream, namespace):
    redis7.flush()
    shared = {"REDIS_URL": redis7.url, "SENTINEL_REPLICAS": "2"} | PATIENT
    async with node("a", **shared) as a:
        asked, miss = await a.ask_in_time(chat(FRANCE), **namespace)
        assert (await in_time(a, asked | chat(REWORDED), namespace)).cache == "semantic"
        assert await service(a, "vectors") == "local"
        assert (await a.get("/health")).status == 200
        assert b'sentinel_dependency_up{dependency="vectors"} 1.0' in (await a.get("/metrics")).body, "somebody would be woken"
        page = await a.get("/dashboard", headers=a.admin)
        assert (page.status, b"vectors local" in page.body) == (200, True)
    async with node("b", **shared) as b:
        assert (await b.ask(asked | chat(REWORDED), **namespace, cache_control="only-if-cached")).status == 504
        assert (await in_time(b, asked, namespace)).json["choices"] == miss.json["choices"]


async def test_without_redis_nobody_speaks_of_it(node):
    async with node("a") as gateway:
        assert await service(gateway, "vectors") is None
        assert await service(gateway, "redis") == await service(gateway, "qdrant") == "disabled"


async def test_qdrant_has_the_questions_where_it_is_configured(node, upstream, namespace):
    """Before Redis would; there at the start or not, and no request waits for it."""
    server = FakeQdrant()
    async with node("a", QDRANT_URL=server.url, QDRANT_API_KEY=None) as gateway:
        assert (await gateway.ask(chat(FRANCE), **namespace)).tiers["sentinel-vector"] == {"fwd": "miss", "detail": "tier-down"}
        assert await service(gateway, "qdrant") == "down"
        assert (await gateway.get("/health")).status == 503
        assert (await gateway.get("/ready")).status == 200
        await server.start()
        try:
            assert await service(gateway, "qdrant") == "up"
            assert await service(gateway, "vectors") is None
            await until(lambda: FRANCE in str(server.asked))
        finally:
            await server.stop()


async def test_qdrants_other_port_is_a_fault_that_names_the_right_one(tmp_path):
    with pytest.raises(Exception, match="write the one for HTTP, 6333"):
        async with running_gateway(tmp_path, environ={"QDRANT_URL": "http://here:6334"}):
            pass
