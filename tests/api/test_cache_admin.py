"""Looking through what is stored: pages, searches, one entry, what is pinned, ended or removed, and previews of a clear."""

import asyncio
import json
import re
import time
from urllib.parse import quote, urlencode

import pytest

from sentinel_gateway.core.browsing import FOREVER, MOST_PINNED
from sentinel_gateway.core.caching import Entry
from tests.gateway import chat, one_provider, running_gateway, until
from tests.servers import PATIENT, REDIS8, RedisServer

pytestmark = pytest.mark.anyio

ENTRIES = "/admin/cache/entries"
SECRET = "5f2b8c0de1a94f7763b2c9d80e4f1a6b"
FRANCE = "What is the capital of France?"
SOUP = "How long does an onion soup have to cook?"


async def listed(gateway, *, status=200, **asked):
    """One page, once all that was asked before is written."""
    query = f"?{urlencode(asked)}" if asked else ""
    answer = await gateway.get(f"{ENTRIES}{query}", headers=gateway.admin)
    assert answer.status == status, answer.body
    return answer.json


async def everything(gateway, **asked):
    """All pages of a view."""
    data, cursor = [], {}
    while True:
        page = await listed(gateway, **asked, **cursor)
        data += page["data"]
        if page["next"] is None:
            return data
        cursor = {"cursor": page["next"]}


async def act(gateway, entry, action, body=None, *, method="POST", headers=None):
    path = f"{ENTRIES}/{entry['id']}" + (f"/{action}" if action else "")
    return await gateway.request(method, path, headers=headers or gateway.admin, json=body)


async def is_kept(gateway, body, **headers) -> bool:
    return (await gateway.ask(body, cache_control="only-if-cached", **headers)).status == 200


async def settled(gateway):
    """All that was put is where pages find it."""
    await gateway.process.tiers._far.flush()  # noqa: SLF001 - a test need not wait for 50 ms


async def clear(gateway, body=None):
    answer = await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin, json=body or {})
    assert answer.status == 200, answer.body
    return answer.json


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=one_provider(chaos.base_url), semantic=True) as gateway:
        yield gateway


@pytest.fixture
async def filled(gateway, upstream):
    """Three answers, and nothing else."""
    await clear(gateway)
    await gateway.ask(chat(FRANCE), x_cache_tags="geo, quiz")
    await gateway.ask(chat("What is the capital of Peru?", "mock-small"), x_cache_namespace="school", x_cache_tags="geo")
    await gateway.ask(chat(SOUP, temperature=0.5), x_cache_ttl="100")
    await settled(gateway)
    return gateway


def questions(data):
    return [entry["question"] for entry in data]


# --- pages


async def test_an_entry_is_told_with_all_that_is_known_of_it(filled):
    page = await listed(filled)
    assert {name: page[name] for name in ("next", "complete", "tier", "texts")} == {
        "next": None,
        "complete": True,
        "tier": "disk",
        "texts": "shown",
    }
    assert questions(page["data"]) == [SOUP, "What is the capital of Peru?", FRANCE], "the newest first"
    entry = page["data"][1]
    assert re.fullmatch("[0-9a-f]{64}", entry["id"])
    assert (entry["model"], entry["namespace"], entry["tags"]) == ("mock/mock-small", "school", ["geo"])
    assert (entry["pinned"], entry["answers_rewordings"], entry["tenant"]) == (False, True, "")
    assert time.time() - 60 < entry["created"] < time.time() < entry["expires"]
    assert entry["completion_tokens"] > 0
    assert entry["cost_usd"] >= 0


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"namespace": "school"}, ["What is the capital of Peru?"]),
        ({"namespace": ""}, [SOUP, FRANCE]),
        ({"model": "mock/mock-model"}, [SOUP, FRANCE]),
        ({"tag": "geo"}, ["What is the capital of Peru?", FRANCE]),
        ({"tag": "geo", "model": "mock/mock-model"}, [FRANCE]),
        ({"tenant": "nobody"}, []),
        ({"writer": "nobody"}, []),
        ({"older_than": 3600}, []),
        ({"newer_than": 3600}, [SOUP, "What is the capital of Peru?", FRANCE]),
        ({"newer_than": 0}, []),
        ({"words": "CAPITAL peru"}, ["What is the capital of Peru?"]),
        ({"words": "capital"}, ["What is the capital of Peru?", FRANCE]),
        ({"words": "%"}, []),
        ({"state": "pinned"}, []),
        ({"state": "expired"}, []),
        ({"state": "all"}, [SOUP, "What is the capital of Peru?", FRANCE]),
        ({"tier": "memory", "words": "soup"}, [SOUP]),
        ({"sort": "created"}, [FRANCE, "What is the capital of Peru?", SOUP]),
        ({"sort": "expires", "limit": 1}, [SOUP]),
    ],
    ids=str,
)
async def test_a_view(filled, asked, found):
    assert questions((await listed(filled, **asked))["data"]) == found


@pytest.mark.parametrize("tier", ["disk", "memory"])
@pytest.mark.parametrize("sort", ["created", "-created", "expires", "-expires"])
async def test_pages_go_on_where_the_last_one_ended(filled, tier, sort):
    pages = await everything(filled, tier=tier, sort=sort, limit=1)
    assert sorted(questions(pages)) == sorted([FRANCE, "What is the capital of Peru?", SOUP])


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"older_than": -1}, "older_than"),
        ({"newer_than": "nan"}, "newer_than"),
        ({"sort": "tenant"}, "sort"),
        ({"state": "gone"}, "state"),
        ({"tier": "redis"}, "tier"),
        ({"tier": "vector"}, "tier"),
        ({"cursor": "%%%"}, "cursor"),
        ({"cursor": "AAAA"}, "cursor"),
        ({"min_similarity": 2, "like": "a"}, "min_similarity"),
        ({"like": "word " * 200}, "like"),
        ({"words": "x" * 201}, "words"),
        ({"tags": "geo"}, "tags"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_asked_for_is_named(filled, asked, named):
    problem = await listed(filled, status=400, **asked)
    assert problem["code"] == "invalid_value"
    assert named in problem["error"]


async def test_a_search_by_meaning_finds_what_is_worded_differently(filled):
    """Most questions have no vector before that: a first search may end before all have one."""
    for _ in range(50):
        page = await listed(filled, like="What's the capital city of France?", min_similarity=0.5)
        if page["complete"]:
            break
        await asyncio.sleep(0.05)
    assert page["complete"]
    assert questions(page["data"])[0] == FRANCE
    assert SOUP not in questions(page["data"])
    assert page["data"][0]["similarity"] > 0.9
    assert (await listed(filled, like=FRANCE, namespace="school", min_similarity=0))["data"][0]["question"].endswith("Peru?")
    assert questions((await listed(filled, like=FRANCE, limit=1))["data"]) == [FRANCE]


async def test_what_is_not_kept_any_more_is_not_found_by_meaning(filled):
    entry = (await listed(filled, words="soup"))["data"][0]
    while not (await listed(filled, like=SOUP))["complete"]:
        pass
    await act(filled, entry, "", method="DELETE")
    assert (await listed(filled, like=SOUP, min_similarity=0.9))["data"] == []


# --- one entry


async def test_one_entry_is_told_with_its_answer(filled, upstream):
    entry = (await listed(filled, words="Peru"))["data"][0]
    asked = await filled.ask(chat("What is the capital of Peru?", "mock-small"), x_cache_namespace="school")
    whole = (await filled.get(f"{ENTRIES}/{entry['id']}", headers=filled.admin)).json
    assert {name: whole[name] for name in entry} == entry
    assert (whole["tier"], whole["texts"]) == ("disk", "shown")
    assert whole["text"] == asked.json["choices"][0]["message"]["content"]
    assert whole["answer"]["choices"] == asked.json["choices"]
    assert whole["bytes"] > len(whole["text"])


@pytest.mark.parametrize("id_", ["0" * 64, "x", "%00", "a" * 256, "..%2f..%2fx", quote("🦔", safe="")])
@pytest.mark.parametrize("action", ["", "/pin", "/unpin", "/expire"])
async def test_what_is_not_there_is_not_found(gateway, id_, action):
    answer = await gateway.request("POST" if action else "GET", f"{ENTRIES}/{id_}{action}", headers=gateway.admin)
    assert answer.status == 404, answer.body
    assert answer.json["code"] in {"answer_not_found", "unknown_url"}


async def test_vectors_are_entries_too(gateway, upstream):
    await clear(gateway)
    made = await gateway.ask({"model": "mock-model", "input": ["one", "two"]}, "/v1/embeddings")
    assert made.status == 200, made.body
    await settled(gateway)
    page = await listed(gateway)
    assert questions(page["data"]) == [None, None]
    whole = (await gateway.get(f"{ENTRIES}/{page['data'][0]['id']}", headers=gateway.admin)).json
    assert whole["text"] is None
    assert whole["answer"].keys() == {"embedding"}


# --- pinned, ended, removed


async def audited(gateway, entry):
    """What was done to it, the last first: other tests ask the same."""
    lines = (await gateway.get("/admin/audit?limit=200", headers=gateway.admin)).json["data"]
    return [line["action"] for line in lines if line["object"] == entry["id"]]


async def test_a_pinned_answer_stays_and_no_newer_one_takes_its_place(filled, upstream):
    entry = (await listed(filled, words="soup"))["data"][0]
    pinned = await act(filled, entry, "pin")
    assert (pinned.status, pinned.json["pinned"], pinned.json["expires"]) == (200, True, None)
    assert [one["id"] for one in (await listed(filled, state="pinned"))["data"]] == [entry["id"]]
    before = await filled.ask(chat(SOUP, temperature=0.5))
    assert before.cache == "exact"
    fresh = await filled.ask(chat(SOUP, temperature=0.5), cache_control="no-cache")
    assert fresh.tiers["sentinel-memory"]["detail"] == "uncacheable-pinned"
    after = await filled.ask(chat(SOUP, temperature=0.5))
    assert (after.cache, after.json["choices"]) == ("exact", before.json["choices"])
    assert (await act(filled, entry, "pin")).status == 200, "again changes nothing"
    unpinned = await act(filled, entry, "unpin", {"ttl": 60})
    assert unpinned.json["pinned"] is False
    assert 50 < unpinned.json["expires"] - time.time() <= 60
    again = await filled.ask(chat(SOUP, temperature=0.5), cache_control="no-cache")
    assert "stored" in again.tiers["sentinel-memory"]
    assert (await audited(filled, entry))[:3] == ["cache.unpin", "cache.pin", "cache.pin"]


async def test_a_pinned_answer_serves_rewordings_after_its_time(filled, upstream):
    entry = (await listed(filled, words="France"))["data"][0]
    await act(filled, entry, "pin")
    answer = await filled.ask(chat("What's the capital of France?"))
    assert (answer.cache, answer.headers["x-cache-matched-id"]) == ("semantic", entry["id"][:32])


async def test_what_is_pinned_is_still_so_after_a_restart(chaos, upstream, tmp_path, text):
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path, config=config) as gateway:
        await gateway.ask(chat(text), x_cache_ttl="60")
        await settled(gateway)
        (entry,) = (await listed(gateway))["data"]
        assert (await act(gateway, entry, "pin")).status == 200
        await gateway.wait(70)
    async with running_gateway(tmp_path, config=config) as gateway:
        await gateway.wait(70)
        while not await is_kept(gateway, chat(text)):  # the disk may be late on a busy machine
            pass
        fresh = await gateway.ask(chat(text), cache_control="no-cache")
        assert fresh.tiers["sentinel-memory"]["detail"] == "uncacheable-pinned"


async def test_a_clear_takes_what_is_pinned_too(filled, upstream):
    entry = (await listed(filled, words="France"))["data"][0]
    await act(filled, entry, "pin")
    await clear(filled, {"tag": "quiz"})
    assert (await filled.get(f"{ENTRIES}/{entry['id']}", headers=filled.admin)).status == 404
    await until(lambda: not filled.process.tiers.pins.keys)
    assert "stored" in (await filled.ask(chat(FRANCE))).tiers["sentinel-memory"], "a newer answer is kept again"


async def test_an_answer_that_is_ended_serves_no_more(filled, upstream):
    entry = (await listed(filled, words="France"))["data"][0]
    before = len(await audited(filled, entry))
    ended = await act(filled, entry, "expire")
    assert ended.status == 200
    assert ended.json["expires"] <= time.time() + 1
    assert not await is_kept(filled, chat(FRANCE))
    assert not await is_kept(filled, chat("What's the capital of France?"))
    assert entry["id"] not in {one["id"] for one in (await listed(filled))["data"]}
    assert [one["id"] for one in (await listed(filled, state="expired"))["data"]] == [entry["id"]]
    assert (await filled.ask(chat(FRANCE), cache_control="only-if-cached, max-stale=100")).status == 200
    assert (await act(filled, entry, "expire")).status == 200
    assert len(await audited(filled, entry)) == before + 1, "the second changed nothing"
    assert (await audited(filled, entry))[0] == "cache.expire"


async def test_one_answer_is_removed(filled, upstream):
    entry = (await listed(filled, words="France"))["data"][0]
    answer = await act(filled, entry, "", method="DELETE")
    assert (answer.status, answer.json) == (200, {"id": entry["id"], "removed": True})
    assert not await is_kept(filled, chat(FRANCE))
    assert (await act(filled, entry, "", method="DELETE")).status == 404
    assert (await audited(filled, entry))[0] == "cache.remove"


async def test_no_more_can_be_pinned_than_leaves_room(filled, upstream):
    entry = (await listed(filled, words="France"))["data"][0]
    pins = filled.process.tiers.pins
    before, pins.keys = pins.keys, frozenset(map(str, range(MOST_PINNED)))
    refused = await act(filled, entry, "pin")
    pins.keys = before
    assert (refused.status, refused.json["code"]) == (409, "cannot_pin")
    assert str(MOST_PINNED) in refused.json["error"]
    assert (await act(filled, entry, "pin")).status == 200
    await act(filled, entry, "", method="DELETE")


@pytest.mark.parametrize("body", [{"ttl": 0}, {"ttl": -1}, {"ttl": "60"}, {"ttl": 1e10}, {"forever": True}, []], ids=str)
async def test_a_malformed_end_changes_nothing(filled, body):
    entry = (await listed(filled, words="France"))["data"][0]
    await act(filled, entry, "pin")
    assert (await act(filled, entry, "unpin", body)).status == 400
    assert [one["id"] for one in (await listed(filled, state="pinned"))["data"]] == [entry["id"]]


async def test_without_a_disk_memory_is_looked_through_and_nothing_is_pinned(chaos, upstream, tmp_path, text):
    config = one_provider(chaos.base_url) + "cache: {disk: {enabled: false}}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        for n in range(3):
            await gateway.ask(chat(f"{n} {text}"))
        page = await listed(gateway, sort="created")
        assert (page["tier"], len(page["data"])) == ("memory", 3)
        refused = await act(gateway, page["data"][0], "pin")
        assert (refused.status, refused.json["code"]) == (409, "cannot_pin")
        assert "cache.disk.enabled" in refused.json["error"]
        assert (await act(gateway, page["data"][0], "expire")).json["expires"] <= time.time() + 1
        assert not await is_kept(gateway, chat(f"0 {text}"))
        assert (await clear(gateway, {"dry_run": True}))["would_clear"] == 2


# --- previews


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"tag": "geo"},
        {"namespace": ""},
        {"model": "mock/mock-small", "tag": "geo"},
        {"older_than": 0},
        {"older_than": 3600},
        {"similar_to": FRANCE},
        {"similar_to": FRANCE, "min_similarity": 0.35},
        {"similar_to": FRANCE, "min_similarity": 0, "namespace": "school"},
        {"similar_to": "How is bread baked at home?"},
    ],
    ids=str,
)
async def test_a_preview_tells_what_a_clear_then_removes(filled, chosen):
    await asyncio.sleep(0.01)  # so that they are older than 0 s
    audited_before = len((await filled.get("/admin/audit?limit=200", headers=filled.admin)).json["data"])
    told = await clear(filled, chosen | {"dry_run": True})
    assert told["complete"] is True
    assert told["message"] == f"Nothing was cleared. A clear would remove {told['would_clear']}"
    assert len((await filled.get("/admin/audit?limit=200", headers=filled.admin)).json["data"]) == audited_before
    sample = {entry["id"] for entry in told["sample"]}
    assert len(sample) == told["would_clear"]
    before = {entry["id"] for entry in await everything(filled)}
    assert sample <= before
    assert (await clear(filled, chosen))["cleared"] == told["would_clear"]
    assert {entry["id"] for entry in await everything(filled)} == before - sample


async def test_a_preview_of_many_shows_some(gateway, upstream, text):
    await clear(gateway)
    for n in range(25):
        await gateway.ask(chat(f"{n} {text}"), x_cache_tags="many")
    told = await clear(gateway, {"tag": "many", "dry_run": True})
    assert (told["would_clear"], len(told["sample"])) == (25, 20)


# --- who may


@pytest.mark.parametrize("path", ["", "/" + "0" * 64])
@pytest.mark.parametrize("scope", ["inference", "read"])
async def test_readers_see_nothing_of_it(chaos, upstream, tmp_path, path, scope):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        key = await gateway.key(scopes=[scope])
        assert (await gateway.get(ENTRIES + path)).status == 401
        assert (await gateway.get(ENTRIES + path, headers={"x-api-key": key})).status == 403


async def test_a_tenants_admin_sees_and_ends_its_own_alone(chaos, upstream, tmp_path, text):
    config = one_provider(chaos.base_url) + "admin: {show_text: true}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        keys = {name: await gateway.key(tenant=name, scopes=["inference", "admin"]) for name in ("a", "b")}
        heads = {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}
        for name in keys:
            await gateway.ask(chat(f"{text} {name}"), authorization=heads[name]["authorization"])
        await settled(gateway)
        own = (await gateway.get(ENTRIES, headers=heads["a"])).json["data"]
        assert questions(own) == [f"{text} a"]
        assert questions(
            (await gateway.get(f"{ENTRIES}?{urlencode({'like': text, 'min_similarity': 0})}", headers=heads["a"])).json["data"]
        ) in (
            [f"{text} a"],
            [],
        )
        assert (await gateway.get(f"{ENTRIES}?tenant=b", headers=heads["a"])).status == 403
        (other,) = (await gateway.get(ENTRIES, headers=heads["b"])).json["data"]
        strange = await gateway.get(f"{ENTRIES}/{other['id']}", headers=heads["a"])
        nowhere = await gateway.get(f"{ENTRIES}/{'0' * 64}", headers=heads["a"])
        assert (strange.status, strange.json["error"]) == (404, nowhere.json["error"])
        for action, method in (("expire", "POST"), ("", "DELETE")):
            assert (await act(gateway, other, action, method=method, headers=heads["a"])).status == 404
        for action in ("pin", "unpin"):  # room for good is the operator's to give
            assert (await act(gateway, own[0], action, headers=heads["a"])).status == 403
        assert (await act(gateway, own[0], "expire", headers=heads["a"])).status == 200
        preview = await gateway.request("POST", "/admin/cache/clear", headers=heads["b"], json={"dry_run": True})
        assert (preview.json["would_clear"], questions(preview.json["sample"])) == (1, [f"{text} b"])


@pytest.mark.parametrize(
    ("setting", "keys", "shown"), [("", False, True), ("", True, False), ("true", True, True), ("false", False, False)]
)
async def test_texts_are_told_where_nobody_needs_a_key_or_the_configuration_says_so(
    chaos, upstream, tmp_path, setting, keys, shown, text
):
    config = one_provider(chaos.base_url) + (f"admin: {{show_text: {setting}}}\n" if setting else "")
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        headers = {"authorization": f"Bearer {await gateway.key()}"} if keys else {}
        answer = await gateway.ask(chat(text), **headers)
        said = answer.json["choices"][0]["message"]["content"]
        await settled(gateway)
        page = await gateway.get(ENTRIES, headers=gateway.admin)
        (entry,) = page.json["data"]
        whole = await gateway.get(f"{ENTRIES}/{entry['id']}", headers=gateway.admin)
        preview = await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin, json={"dry_run": True})
        assert preview.json["would_clear"] == 1
        told = page.body + whole.body + preview.body
        assert (json.dumps(text).encode()[1:-1] in told, json.dumps(said).encode()[1:-1] in told) == (shown, shown)
        assert page.json["texts"] == whole.json["texts"] == ("shown" if shown else "hidden")
        for param in ("words", "like"):
            searched = await gateway.get(f"{ENTRIES}?{urlencode({param: text})}", headers=gateway.admin)
            assert searched.status == (200 if shown else 400)
            assert shown or "admin.show_text" in searched.json["error"]
        alike = {"similar_to": text, "dry_run": True}
        guessed = await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin, json=alike)
        assert guessed.status == (200 if shown else 400)
        assert shown or {"admin.show_text", "'similar_to'"} <= set(guessed.json["error"].replace(":", "").split())
        assert shown or "would_clear" not in guessed.json
        del alike["dry_run"]
        assert (await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin, json=alike)).json["cleared"] == 1


# --- Redis


@pytest.fixture
def node(chaos, tmp_path):
    """node(url, name) is a running gateway of that name."""

    def node(url, name="a", alone=True, **environ):
        (tmp_path / name).mkdir(exist_ok=True)
        variables = {"REDIS_URL": url, "SENTINEL_SECRET": SECRET, "SENTINEL_REPLICAS": "2"} | PATIENT | environ
        return running_gateway(
            tmp_path / name, config=one_provider(chaos.base_url), environ=variables, alone=alone, semantic=True
        )

    return node


async def soon(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["redis7", "redis8", "redis_cluster"])
async def test_nodes_share_what_is_pinned_and_what_is_ended(request, node, upstream, text, kind):
    server = request.getfixturevalue(kind)
    server.flush()
    async with node(server.url, "a") as a, node(server.url, "b", alone=False) as b:
        for n in range(5):
            await a.ask(chat(f"{n} {text}"), x_cache_tags="t")
        await settled(a)
        page = await listed(b, limit=2)
        assert (page["tier"], len(page["data"])) == ("redis", 2)
        assert sorted(questions(await everything(b, limit=2))) == [f"{n} {text}" for n in range(5)]
        assert "expiry" in (await listed(b, status=400, sort="created"))["error"]
        entries = {entry["question"][0]: entry for entry in await everything(b)}
        await b.ask(chat(f"1 {text}"))
        assert (await act(a, entries["0"], "pin")).json["pinned"]
        assert (await act(a, entries["1"], "expire")).status == 200
        await soon(lambda: _pinned(b, entries["0"]))
        fresh = await b.ask(chat(f"0 {text}"), cache_control="no-cache")
        assert fresh.tiers["sentinel-memory"]["detail"] == "uncacheable-pinned"
        await soon(lambda: _is_gone(b, chat(f"1 {text}")))
        told = await clear(a, {"tag": "t", "dry_run": True})
        assert (await clear(a, {"tag": "t"}))["cleared"] == told["would_clear"] == 5
        await soon(lambda: _pinned(b, None))


async def _pinned(gateway, entry):
    return gateway.process.tiers.pins.keys == (frozenset() if entry is None else {entry["id"]})


async def _is_gone(gateway, body):
    return not await is_kept(gateway, body)


async def test_while_redis_is_away_it_is_said_what_still_works(node, upstream, text, tmp_path):
    with RedisServer(REDIS8, tmp_path) as server:
        async with node(server.url) as gateway:
            await gateway.ask(chat(text))
            await settled(gateway)
            (entry,) = (await listed(gateway))["data"]
            server.stop()
            for answer in (
                await gateway.get(ENTRIES, headers=gateway.admin),
                await gateway.get(f"{ENTRIES}/{entry['id']}", headers=gateway.admin),
                *[await act(gateway, entry, action) for action in ("pin", "unpin", "expire")],
                await act(gateway, entry, "", method="DELETE"),
            ):
                assert (answer.status, answer.json["code"]) == (503, "store_unavailable"), answer.body
                assert "Redis does not answer" in answer.json["error"]
                assert "tier=memory" in answer.json["error"]
            preview = await gateway.request("POST", "/admin/cache/clear", headers=gateway.admin, json={"dry_run": True})
            assert (preview.status, preview.json["code"]) == (503, "store_unavailable")
            assert questions((await listed(gateway, tier="memory"))["data"]) == [text]
            assert await is_kept(gateway, chat(text)), "memory serves"
            server.start()

            async def works():
                return (await gateway.get(ENTRIES, headers=gateway.admin)).status == 200

            await soon(works)


async def test_what_redis_evicted_is_pinned_no_more(node, upstream, text, redis8):
    redis8.flush()
    async with node(redis8.url, SENTINEL_CACHE__MEMORY__TTL="0.01") as gateway:
        await gateway.ask(chat(text))
        await settled(gateway)
        (entry,) = (await listed(gateway))["data"]
        await act(gateway, entry, "pin")
        with redis8.client() as client:
            for key in client.scan_iter("sentinel:cache:1:*"):
                client.delete(key)
        await asyncio.sleep(0.02)
        assert (await gateway.ask(chat(text))).cache == "miss"
        answer = await gateway.ask(chat(text), cache_control="no-cache")  # another node's would do else
        assert "stored" in answer.tiers["sentinel-memory"]


# --- much


@pytest.mark.long
@pytest.mark.parametrize("kind", ["disk", "redis8", "redis_cluster"])
async def test_each_page_of_10000_entries_takes_less_than_300_ms(request, chaos, upstream, tmp_path, kind):
    environ = {}
    if kind != "disk":
        server = request.getfixturevalue(kind)
        server.flush()
        environ = {"REDIS_URL": server.url, "SENTINEL_SECRET": SECRET} | PATIENT
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ, semantic=True) as gateway:
        now, far = time.time(), gateway.process.tiers._far  # noqa: SLF001 - 10,000 answers of a provider would take long
        for n in range(10_000):
            scope, question = f"{n % 10:064x}", f"What about number {n} and its price?"
            end = FOREVER if n % 1000 == 0 else now + 3600 + n
            far.put(
                Entry(
                    key=f"{n:064x}",
                    model="mock/mock-model",
                    created=now - n,
                    expires=end,
                    tags=(f"t{n % 100}",),
                    scope=scope,
                    text=question,
                    body=b'"choices":[{"message":{"content":"%b"}}]}' % (b"word " * 300),
                )
            )
            if n % 500 == 0:
                await far.flush()
        await far.flush()
        slowest: dict[str, float] = {}
        for name, asked in {
            "first": {},
            "tag": {"tag": "t7"},
            "words": {"words": "number 77"},
            "rare words": {"words": "number 9999"},
            "none": {"words": "zebra"},
            "pinned": {"state": "pinned"},
            "soonest": {"sort": "expires"},
            "like": {"like": "What about the price of number 3?"},
        }.items():
            cursor: dict[str, str] = {}
            for _ in range(10):
                took = []
                for _ in range(2):  # the better of two: others may use the machine
                    begun = time.monotonic()
                    page = await listed(gateway, **asked, **cursor)
                    took.append(time.monotonic() - begun)
                slowest[name] = max(slowest.get(name, 0.0), min(took))
                if page["next"] is None:
                    break
                cursor = {"cursor": page["next"]}
        print(kind, {name: round(1000 * seconds) for name, seconds in slowest.items()})
        assert max(slowest.values()) < 0.3, slowest
