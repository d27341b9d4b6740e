"""Administration: behind the key, clearing the cache, its statistics, reloading the configuration."""

import asyncio
from itertools import count
from types import SimpleNamespace

import pytest

from sentinel_gateway.api.admin import Admin, Controls
from sentinel_gateway.core.access import operator
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.errors import ConfigurationError, ReloadRejected, StoreDown
from sentinel_gateway.pipeline.purge import Purged
from tests.gateway import ADMIN_KEY, chat, one_provider, post, provider, running_gateway, until

pytestmark = pytest.mark.anyio

ROUTES = [("POST", "/admin/cache/clear"), ("GET", "/admin/stats"), ("HEAD", "/admin/stats"), ("POST", "/admin/reload")]


async def clear(gateway, body=None):
    return await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin, json=body)


async def is_kept(gateway, body, **headers) -> bool:
    answer = await gateway.ask(body, cache_control="only-if-cached", **headers)
    assert answer.status in {200, 504}
    return answer.status == 200


@pytest.fixture
async def empty(gateway):
    """The gateway with nothing stored."""
    assert (await clear(gateway)).status == 200
    return gateway


# --- the key ---


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {ADMIN_KEY}x"},
        {"authorization": f"Bearer {ADMIN_KEY[:-1]}"},
        {"authorization": f"Bearer {ADMIN_KEY.upper()}"},
        {"authorization": f"Basic {ADMIN_KEY}"},
        {"authorization": ADMIN_KEY},
        {"authorization": "Bearer \u00e9"},
        {"x-api-key": "wrong"},
        {"x-api-key": ""},
        {"api-key": "wrong"},
        {"key": ADMIN_KEY},
        {"cookie": f"key={ADMIN_KEY}"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nothing_without_the_key(gateway, upstream, method, path, headers):
    async with gateway.elsewhere() as stranger:
        answer = await stranger.request(method, path, headers=headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="sentinel"'
    assert answer.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert answer.json["code"] == "invalid_api_key"
        assert answer.json["error"] == answer.json["detail"]
        assert ADMIN_KEY not in answer.body.decode()


async def test_the_key_is_asked_for_before_anything_is_looked_at(gateway):
    answer = await gateway.request("POST", "/admin/cache/clear", data=b"{not JSON", headers={"content-type": "application/json"})
    assert answer.status == 401
    assert (await gateway.request("POST", "/admin/cache/clear?key=" + ADMIN_KEY)).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ADMIN_KEY}"},
        {"authorization": f"bearer {ADMIN_KEY}"},
        {"x-api-key": ADMIN_KEY},
        {"X-API-Key": ADMIN_KEY},
        {"api-key": ADMIN_KEY},
    ],
    ids=str,
)
async def test_all_styles_of_the_key(gateway, headers):
    assert (await gateway.get("/admin/stats", headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ADMIN_KEY}, Bearer {ADMIN_KEY}"},
        {"authorization": "Bearer wrong", "x-api-key": ADMIN_KEY},
        {"authorization": "Bearer wrong", "api-key": ADMIN_KEY},
        {"x-api-key": "wrong", "api-key": ADMIN_KEY},
    ],
    ids=str,
)
async def test_two_keys_are_one_too_many(gateway, headers):
    answer = await gateway.get("/admin/stats", headers=headers)
    assert (answer.status, answer.json["code"]) == (400, "invalid_header")


async def test_two_keys_in_two_headers_are_not_mixed(gateway):
    wire = await gateway.connect()
    lines = f"Authorization: Bearer wrong\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
    wire.send(f"GET /admin/stats HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
    assert (await wire.answer("GET")).status in {400, 401}
    await wire.close()


async def test_a_key_is_made_at_the_first_start(tmp_path):
    """It is kept as a hash, and good for the next start too."""
    environ = {"SENTINEL_ADMIN_KEY": None}
    async with running_gateway(tmp_path, environ=environ) as gateway:
        fresh = gateway.process.admin.fresh
        assert fresh
        assert (await gateway.get("/admin/stats", headers={"x-api-key": fresh})).status == 200
        assert (await gateway.get("/admin/stats", headers=gateway.admin)).status == 401
    kept = [file for file in (tmp_path / "data").rglob("*") if file.is_file() and fresh.encode() in file.read_bytes()]
    assert kept == []
    async with running_gateway(tmp_path, environ=environ) as gateway:
        assert gateway.process.admin.fresh is None
        assert (await gateway.get("/admin/stats", headers={"x-api-key": fresh})).status == 200


# --- statistics ---


async def test_stats_of_seed_000(chaos, upstream, text, tmp_path):
    services = {"redis": "disabled", "qdrant": "disabled", "embeddings": "disabled", "disk": "up", "ledger": "up"}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        answer = await gateway.get("/admin/stats", headers=gateway.admin)
        nothing = {"exact_hits": 0, "semantic_hits": 0, "misses": 0, "total_requests": 0, "hit_rate": 0.0}
        assert (answer.status, answer.json) == (200, {"cache_stats": nothing, "services": services})
        for number in (0, 0, 0, 1):
            await gateway.ask(chat(f"{number} {text}", stream=number == 1))
        await gateway.ask(chat(f"0 {text}"), x_bypass_cache="true")
        await gateway.ask(b"not JSON")
        upstream.script("err=500")
        await gateway.ask(chat(f"2 {text}"))
        stats = (await gateway.get("/admin/stats", headers=gateway.admin)).json["cache_stats"]
        assert stats.keys() == nothing.keys()
        assert (stats["exact_hits"], stats["misses"], stats["total_requests"], stats["hit_rate"]) == (2, 2, 4, 50.0)
        assert all(type(value) in {int, float} for value in stats.values())


# --- clearing ---


async def test_clear_everything(empty, upstream, text):
    for number in range(5):
        await empty.ask(chat(f"{number} {text}"), **({"x_cache_namespace": "n"} if number % 2 else {}))
    answer = await clear(empty)
    assert (answer.status, answer.json) == (200, {"status": "success", "message": "Cache cleared", "cleared": 5})
    assert (await clear(empty, {})).json["cleared"] == 0
    for number in range(5):
        assert not await is_kept(empty, chat(f"{number} {text}"), **({"x_cache_namespace": "n"} if number % 2 else {}))


@pytest.mark.parametrize(
    ("chosen", "stays"),
    [
        ({"namespace": "left"}, ["right", "none"]),
        ({"namespace": ""}, ["left", "right"]),
        ({"tag": "even"}, ["right"]),
        ({"tag": "both"}, ["none"]),
        ({"model": "mock/mock-small"}, ["left", "none"]),
        ({"namespace": "left", "tag": "odd"}, ["left", "right", "none"]),
        ({"namespace": "right", "model": "mock/mock-small", "tag": "odd"}, ["left", "none"]),
        ({"older_than": 3600}, ["left", "right", "none"]),
        ({"older_than": 0}, []),
        ({"tag": "nobody's"}, ["left", "right", "none"]),
        ({"namespace": None, "tag": None}, []),
        ({"writer": "nobody"}, ["left", "right", "none"]),
    ],
    ids=str,
)
async def test_clear_some(empty, upstream, text, chosen, stays):
    entries = {
        "left": (chat(text), {"x_cache_namespace": "left", "x_cache_tags": "both, even"}),
        "right": (chat(text, "mock-small"), {"x_cache_namespace": "right", "x_cache_tags": "odd,both"}),
        "none": (chat(text), {"x_cache_tags": "even"}),
    }
    for body, headers in entries.values():
        await empty.ask(body, **headers)
    await asyncio.sleep(0.01)  # so that they are older than 0 s
    answer = await clear(empty, chosen)
    assert (answer.status, answer.json["status"], answer.json["cleared"]) == (200, "success", len(entries) - len(stays))
    assert [name for name, (body, headers) in entries.items() if await is_kept(empty, body, **headers)] == stays


async def test_clear_takes_what_only_the_disk_holds(chaos, upstream, text, tmp_path):
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path, config=config) as gateway:
        for number in range(3):
            await gateway.ask(chat(f"{number} {text}"))
    async with running_gateway(tmp_path, config=config) as gateway:
        while not await is_kept(gateway, chat(f"0 {text}")):  # from disk, which fills memory; it may be late on a busy machine
            pass
        assert (await clear(gateway)).json["cleared"] == 3
        assert not await is_kept(gateway, chat(f"0 {text}"))
        assert not await is_kept(gateway, chat(f"2 {text}"))
        assert (await gateway.get("/health")).json["cache_size"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tags": "a"}, "tags"),
        ({"namespace": 7}, "namespace"),
        ({"older_than": -1}, "older_than"),
        ({"older_than": "1 h"}, "older_than"),
        ({"older_than": True}, "older_than"),
        ({"tag": ["a"]}, "tag"),
        ({"model": {}, "tag": 1}, "model"),
        ([], "body"),
        ("everything", "body"),
        (7, "body"),
    ],
    ids=str,
)
async def test_malformed_bodies_clear_nothing(empty, upstream, text, body, field):
    await empty.ask(chat(text))
    answer = await clear(empty, body)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    problem = answer.json
    assert problem["code"] == "invalid_value"
    assert isinstance(problem["error"], str)
    assert all(fault.keys() == {"field", "message"} for fault in problem["errors"])
    assert problem["errors"][0]["field"] == field
    assert await is_kept(empty, chat(text))


@pytest.mark.parametrize("raw", [b"{", b"{}}", b"\xff", b'{"tag": NaN}', b'{"older_than": 1e999}', b"[" * 100_000, b"nonsense"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
async def test_bodies_that_are_no_json_clear_nothing(empty, upstream, text, raw, kind):
    await empty.ask(chat(text))
    headers = empty.admin | {"content-type": kind}
    answer = await empty.request("POST", "/admin/cache/clear", data=raw, headers=headers)
    assert answer.status in {400, 413}
    assert isinstance(answer.json["error"], str)
    assert await is_kept(empty, chat(text))


async def test_a_large_body_is_refused(empty, upstream, text):
    await empty.ask(chat(text))
    answer = await clear(empty, {"tag": "x" * 70_000})
    assert (answer.status, answer.json["code"]) == (413, "request_too_large")
    assert await is_kept(empty, chat(text))


async def test_what_needs_the_semantic_tier_is_said_so(empty, upstream, text):
    await empty.ask(chat(text))
    answer = await clear(empty, {"similar_to": "Hello", "min_similarity": 0.9})
    assert (answer.status, answer.json["code"]) == (400, "invalid_value")
    assert "cache.semantic.enabled" in answer.json["error"]
    assert await is_kept(empty, chat(text))


async def test_a_purge_that_did_not_see_all_says_so():
    class Hasty:
        usual = 0.95

        async def clear(self, selector, text, least):
            assert (text, least) == ("Hello", 0.95)
            return Purged(7, whole=False)

    class Log:
        async def append(self, entry):
            pass

    async def body():
        return b'{"similar_to": "Hello"}'

    admin = Admin(None, Hasty(), Log(), guard=None, controls=None, clock=lambda: 0.0)
    told = await admin.clear(SimpleNamespace(state=SimpleNamespace(caller=operator("cli")), body=body))
    assert told["cleared"] == 7
    assert told["message"] == "Matching entries cleared, but not all questions could be compared yet: send the same again"


@pytest.mark.parametrize("stream", [False, True])
async def test_clear_during_a_request_does_not_resurrect(empty, upstream, text, stream):
    upstream.script("chunk_ms=60000;chunks=2" if stream else "latency_ms=60000")
    running = asyncio.create_task(empty.ask(chat(text, stream=stream)))
    await until(lambda: upstream.count == 1)
    assert (await clear(empty, {"tag": "of something else"})).status == 200
    upstream.go_on()
    answer = await running
    assert answer.status == 200
    if not stream:
        assert answer.tiers["sentinel-memory"]["detail"] == "uncacheable-cleared-meanwhile"
    assert not await is_kept(empty, chat(text))
    assert (await clear(empty)).json["cleared"] == 0


# --- reloading ---


def named(chaos, alias: str, model: str = "mock-model") -> str:
    return f"{one_provider(chaos.base_url)}\nmodels:\n  {alias}: [mock/{model}]\n"


@pytest.fixture
async def reloading(chaos, upstream, tmp_path):
    """A gateway of one's own, with the name `first`."""
    async with running_gateway(tmp_path, config=named(chaos, "first")) as gateway:
        yield gateway


async def test_reload(reloading, chaos, upstream, text):
    before = await reloading.ask(chat(text, "first"))
    answer = await reloading.reload(named(chaos, "second", "mock-large"))
    assert (answer.status, answer.json) == (200, {"status": "success", "message": "Configuration reloaded", "notes": []})
    assert (await reloading.ask(chat(text, "second"))).json["model"] == "mock-large"
    assert (await reloading.get("/v1/models/second")).status == 200
    assert "first" not in {model["id"] for model in (await reloading.get("/v1/models")).json["data"]}
    assert (await reloading.ask(chat(text, "mock-model"))).cache == "exact", "the cache is still the same"
    assert before.cache == "miss"


async def test_a_changed_alias_is_not_answered_from_what_it_was(reloading, chaos, upstream, text):
    assert (await reloading.ask(chat(text, "first"))).json["model"] == "mock-model"
    await reloading.reload(named(chaos, "first", "mock-small"))
    after = await reloading.ask(chat(text, "first"))
    assert (after.cache, after.json["model"]) == ("miss", "mock-small")


async def test_what_needs_a_restart_is_said(reloading, chaos):
    answer = await reloading.reload(
        f"{named(chaos, 'first')}\nserver: {{max_connections: 7, queue: 3}}\nlogging: {{format: text}}\n"
    )
    assert answer.status == 200
    notes = " ".join(answer.json["notes"])
    assert "server.max_connections" in notes
    assert "logging" in notes
    assert "queue" not in notes


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("models: {first: [nobody/mock-model]}", ["sentinel.yaml:1", "models.first"]),
        (
            "server: {queue: -1, portt: 1}\ncache: {ttl: -1}",
            ["sentinel.yaml:1", "server.queue", "portt", "sentinel.yaml:2", "cache.ttl"],
        ),
        ("providers: [", ["sentinel.yaml:1"]),
        ("\tserver: {}", ["sentinel.yaml:1"]),
    ],
)
async def test_a_bad_configuration_is_rejected_whole(reloading, upstream, text, config, words):
    good = reloading.config.read_text()
    for _ in range(2):
        answer = await reloading.reload(config)
        assert (answer.status, answer.json["code"]) == (400, "invalid_configuration")
        for word in words:
            assert word in answer.json["error"]
        assert (await reloading.ask(chat(text, "first"))).status == 200, "the old one stays in force"
    assert (await reloading.reload(good)).status == 200


async def test_a_configuration_that_is_gone_is_rejected(reloading, upstream, text):
    reloading.config.unlink()
    assert (await reloading.reload()).status == 400
    assert (await reloading.ask(chat(text, "first"))).status == 200


async def test_a_running_stream_finishes_on_the_old_configuration(reloading, chaos, upstream, text):
    upstream.script("chunk_ms=60000;chunks=2")
    running = asyncio.create_task(reloading.ask(chat(text, "first", stream=True)))
    await until(lambda: upstream.calls and upstream.calls[0].chunks_sent > 0)
    assert (await reloading.reload(named(chaos, "second"))).status == 200
    assert not running.done()
    assert (await reloading.ask(chat(text, "second"))).status == 200
    upstream.go_on()
    answer = await running
    assert (answer.status, answer.sse.done, answer.sse.error) == (200, True, None)
    assert upstream.calls[0].completed


async def test_a_kept_connection_sees_the_new_configuration(reloading, chaos, upstream, text):
    wire = await reloading.connect()
    wire.send(post(chat(text, "first")))
    assert (await wire.answer()).status == 200
    await reloading.reload(named(chaos, "second", "mock-small"))
    wire.send(post(chat(text, "second")))
    assert (await wire.answer()).json["model"] == "mock-small"
    await wire.close()


async def test_a_provider_may_come_and_go(reloading, chaos, upstream, text):
    both = f"providers:\n{provider('mock', chaos.base_url)}{provider('other', chaos.base_url)}"
    assert (await reloading.reload(both)).status == 200
    assert (await reloading.ask(chat(text, "other/mock-model"))).status == 200
    assert upstream.calls[-1].headers["authorization"] == "Bearer key-of-other"
    assert (await reloading.reload(one_provider(chaos.base_url))).status == 200
    assert (await reloading.ask(chat(text, "other/mock-small"))).json["model"] == "other/mock-small", "the only provider is asked"
    assert (await reloading.get("/ready")).status == 200


async def test_reload_under_load(reloading, chaos, upstream, text):
    """U2: a hundred, good and bad ones in turn, and not one request notices."""
    bad = [
        ("cache: {ttl: -1}", ":1 cache.ttl"),
        ("nonsense: 1", ":1 nonsense"),
        (named(chaos, "first") + "\nserver:\n  queue: -1\n", ":8 server.queue"),
        ("models:\n  first: [nobody/mock-model]", ":2 models.first"),
        ("providers: [", ":1"),
    ]
    numbers = count()
    stop = asyncio.Event()
    answers = []

    async def load(stream: bool) -> None:
        while not stop.is_set():
            answers.append(await reloading.ask(chat(f"{next(numbers)} {text}", "first", stream=stream)))

    clients = [asyncio.create_task(load(number % 2 == 0)) for number in range(6)]
    for number in range(50):
        model = ("mock-model", "mock-small")[number % 2]
        assert (await reloading.reload(named(chaos, "first", model))).status == 200
        faulty, place = bad[number % len(bad)]
        rejected = await reloading.reload(faulty)
        assert (rejected.status, rejected.json["code"]) == (400, "invalid_configuration")
        assert f"sentinel.yaml{place}" in rejected.json["error"]
        assert (await reloading.ask(chat(f"{number} {text}?", "first"))).json.get("model") == model, (
            "the last good one stays in force"
        )
    stop.set()
    await asyncio.gather(*clients)
    assert len(answers) > 100
    assert {answer.status for answer in answers} == {200}
    assert all(answer.sse.done for answer in answers if "event-stream" in answer.headers["content-type"])
    assert {call.body["model"] for call in upstream.calls} == {"mock-model", "mock-small"}, "both were in force"


class FullLog:
    """An audit log that takes one entry, and then no more."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    async def append(self, entry: AuditEntry) -> None:
        if self.entries:
            raise StoreDown("the disk is full")
        self.entries.append(entry)


async def test_the_faults_of_a_configuration_are_told_whatever_the_audit_log_takes():
    async def reload(_mark: str | None) -> list[str]:
        raise ConfigurationError([("modles", "unknown setting")])

    log = FullLog()
    admin = Admin(None, None, log, guard=None, controls=Controls(dict, None, reload), clock=lambda: 0.0)
    with pytest.raises(ReloadRejected, match="modles"):
        await admin.put_in_force(operator("admin-key"), None)
    assert [entry.action for entry in log.entries] == ["configuration.reload"]
