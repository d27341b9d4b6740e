"""`POST /v1/embeddings`: of a batch only what is not known goes upstream, and vectors come back as they were."""

import asyncio
import base64
import json
import struct

import pytest

from tests.gateway import one_provider, post, provider, running_gateway, until

pytestmark = pytest.mark.anyio

EMBEDDINGS = "/v1/embeddings"
HUNG = "stall_after=-1"
OPENAI_S = "mock/text-embedding-3-small"
"""A model that knows token ids."""


def body(asked, /, model: str = "mock-model", **fields):
    return {"model": model, "input": asked, **fields}


async def embed(gateway, asked, /, headers=None, **fields):
    """Ask it, whatever comes back."""
    return await gateway.ask(body(asked, **fields), EMBEDDINGS, **(headers or {}))


def vectors(answer) -> list:
    """The vectors of a good answer, whose every other member is as OpenAI has it."""
    assert answer.status == 200, answer.body
    document = answer.json
    assert list(document) == ["object", "data", "model", "usage"]
    assert document["object"] == "list"
    assert list(document["usage"]) == ["prompt_tokens", "total_tokens"]
    assert document["usage"]["prompt_tokens"] == document["usage"]["total_tokens"]
    assert [list(item) for item in document["data"]] == [["object", "index", "embedding"]] * len(document["data"])
    assert [(item["object"], item["index"]) for item in document["data"]] == [
        ("embedding", place) for place in range(len(document["data"]))
    ]
    return [item["embedding"] for item in document["data"]]


def asked_upstream(upstream) -> list:
    """The input of each call."""
    return [call.body["input"] for call in upstream.calls]


# --- what is known is not asked for again ---


async def test_the_same_again_is_a_hit_byte_by_byte(gateway, upstream, text):
    miss, hit = [await embed(gateway, text) for _ in range(2)]
    assert (miss.cache, hit.cache) == ("miss", "exact")
    assert miss.body == hit.body
    assert upstream.count == 1
    assert asked_upstream(upstream) == [text], "what is asked for as a whole goes out as it came in"
    assert hit.tiers["sentinel-memory"]["hit"] is True
    assert miss.tiers["sentinel-memory"]["stored"] is True
    assert (miss.headers["x-cache-items"], hit.headers["x-cache-items"]) == ("0/1", "1/1")


async def test_of_a_batch_only_what_is_not_known_goes_upstream(gateway, upstream, text):
    one, two, three = (f"{text} {number}" for number in range(3))
    (of_two,) = vectors(await embed(gateway, two))
    batch = await embed(gateway, [one, two, three])
    assert batch.cache == "miss"
    assert batch.headers["x-cache-items"] == "1/3"
    assert asked_upstream(upstream) == [two, [one, three]]
    first, second, third = vectors(batch)
    assert second == of_two
    assert len({str(found) for found in (first, second, third)}) == 3
    assert vectors(await embed(gateway, [three, one])) == [third, first]
    assert upstream.count == 2
    assert (await embed(gateway, [three, one, two])).headers["x-cache-items"] == "3/3"


async def test_an_item_that_stands_twice_is_asked_for_once(gateway, upstream, text):
    first, second, third = vectors(await embed(gateway, [text, "other " + text, text]))
    assert first == third != second
    assert asked_upstream(upstream) == [[text, "other " + text]]


async def test_usage_is_that_of_all_items(gateway, upstream, text):
    one, two = text, text + " and so on, at length"
    alone = [(await embed(gateway, item)).json["usage"]["prompt_tokens"] for item in (one, two)]
    both = await embed(gateway, [one, two, one])
    assert both.cache == "exact"
    assert both.json["usage"] == {"prompt_tokens": 2 * alone[0] + alone[1], "total_tokens": 2 * alone[0] + alone[1]}


async def test_tokens_are_counted_where_they_came_from(gateway, upstream, text):
    bought, saved = (f'sentinel_tokens_total{{source="{source}",type="prompt"}}' for source in ("provider", "cache"))
    before = gateway.metric(bought), gateway.metric(saved)
    miss, _ = [await embed(gateway, text) for _ in range(2)]
    tokens = miss.json["usage"]["prompt_tokens"]
    assert tokens > 0
    assert (gateway.metric(bought), gateway.metric(saved)) == (before[0] + tokens, before[1] + tokens)
    requests = 'requests_total{method="POST",route="/v1/embeddings",status="200"}'
    assert gateway.metric(requests) >= 2


# --- how vectors are written ---


async def test_base64_and_numbers_are_kept_apart_and_say_the_same(gateway, upstream, text):
    (numbers,) = vectors(await embed(gateway, text))
    (packed,) = vectors(await embed(gateway, text, encoding_format="base64"))
    assert list(struct.unpack("<8f", base64.b64decode(packed))) == numbers
    assert upstream.count == 2
    assert vectors(await embed(gateway, text, encoding_format="float")) == [numbers], "spelled out, it is what it is anyway"
    assert vectors(await embed(gateway, text, encoding_format="base64")) == [packed]
    assert upstream.count == 2


async def test_token_ids_of_openai_s_models(gateway, upstream):
    ids = [15339, 1917]
    alone = await embed(gateway, ids, model=OPENAI_S)
    assert vectors(await embed(gateway, [ids], model=OPENAI_S)) == vectors(alone), "one item, however it is written"
    assert alone.json["usage"]["prompt_tokens"] == 2
    batch = vectors(await embed(gateway, [[15339], ids], model=OPENAI_S))
    assert batch[1] == vectors(alone)[0]
    assert asked_upstream(upstream) == [ids, [[15339]]]


async def test_token_ids_for_other_models_are_texts(gateway, upstream):
    """As LangChain sends them: by OpenAI's encoding, whatever the model is."""
    vectors(await embed(gateway, [[15339, 1917], [15339]]))
    assert asked_upstream(upstream) == [["hello world", "hello"]]
    assert (await embed(gateway, "hello world")).cache == "exact"
    refused = await embed(gateway, [10_000_000])
    assert (refused.status, refused.error["param"]) == (400, "input")
    assert upstream.count == 1


async def test_all_else_that_can_change_a_vector_is_part_of_its_key(gateway, upstream, text):
    await embed(gateway, text)
    assert len(vectors(await embed(gateway, text, dimensions=4))[0]) == 4
    await embed(gateway, text, task_type="retrieval_query")
    await embed(gateway, text, model="mock-small")
    assert upstream.count == 4
    assert upstream.calls[2].body["task_type"] == "retrieval_query"
    assert (await embed(gateway, text, user="somebody")).cache == "exact"


async def test_numbers_come_back_as_they_were_written(gateway, upstream, text):
    """Not as some parser would write them."""
    miss = await embed(gateway, text)
    call = json.dumps(body(text)).encode()
    raw = miss.body.partition(b'"embedding":')[2].partition(b"}")[0]
    async with gateway.session.post(f"{upstream.base_url}/embeddings", data=call) as direct:
        assert b'"embedding":%b' % raw in await direct.read()


# --- tiers, wishes, tenants ---


async def test_it_survives_a_restart(upstream, tmp_path, text):
    config = one_provider(upstream.base_url)
    async with running_gateway(tmp_path, config=config) as gateway:
        first = await embed(gateway, [text, text + "?"])
    async with running_gateway(tmp_path, config=config) as gateway:
        again = await embed(gateway, [text + "?", text])
        assert again.tiers["sentinel-disk"]["hit"] is True
    assert vectors(again) == vectors(first)[::-1]
    assert upstream.count == 1


async def test_wishes(gateway, upstream, text):
    absent = await embed(gateway, text, {"cache_control": "only-if-cached"})
    assert (absent.status, absent.error["code"]) == (504, "cache_miss")
    assert (await embed(gateway, text, {"x_bypass_cache": "true"})).cache == "bypass"
    assert (await embed(gateway, text, {"x_cache_ttl": "0"})).cache == "miss"
    assert (await embed(gateway, text, {"cache_control": "no-store"})).cache == "miss"
    kept = await embed(gateway, text, {"x_cache_ttl": "60", "x_cache_explain": "true"})
    assert "stored for" in kept.headers["x-cache-explain"]
    assert (await embed(gateway, text, {"cache_control": "only-if-cached"})).cache == "exact"
    assert (await embed(gateway, text, {"cache_control": "no-cache"})).cache == "miss"
    assert (await embed(gateway, text, {"x_cache_namespace": "other"})).cache == "miss"
    assert upstream.count == 6


async def test_a_day_unless_told_otherwise(gateway, upstream, text):
    told = (await embed(gateway, text, {"x_cache_explain": "true"})).headers["x-cache-explain"]
    seconds = int(told.partition("stored for ")[2].partition(" s")[0])
    assert 0.9 * 86_400 <= seconds <= 86_400


async def test_no_tenant_gets_anothers(upstream, tmp_path, text):
    async with running_gateway(tmp_path, config=one_provider(upstream.base_url)) as gateway:
        keys = [await gateway.key(tenant=tenant) for tenant in ("one", "two")]
        for key in keys * 2:
            answer = await embed(gateway, text, {"authorization": f"Bearer {key}"})
            assert answer.status == 200
        assert upstream.count == 2
        assert (await embed(gateway, text)).status == 401


async def test_cleared_by_model(gateway, upstream, text):
    await embed(gateway, text, model="mock-large")
    cleared = await gateway.request("POST", "/admin/cache/clear", json={"model": "mock/mock-large"}, headers=gateway.admin)
    assert cleared.json["cleared"] == 1
    assert (await embed(gateway, text, model="mock-large")).cache == "miss"


async def test_tokens_are_limited(upstream, tmp_path, text):
    config = one_provider(upstream.base_url)
    async with running_gateway(tmp_path, config=config) as gateway:
        key = await gateway.key(limits={"tokens_per_minute": 40})
        bearer = {"authorization": f"Bearer {key}"}
        first = await embed(gateway, list(range(30)), bearer, model=OPENAI_S)
        assert first.status == 200
        assert first.headers["x-ratelimit-remaining-tokens"] == "10"
        refused = await embed(gateway, list(range(1, 31)), bearer, model=OPENAI_S)
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert (await embed(gateway, list(range(30)), bearer, model=OPENAI_S)).cache == "exact", "a hit takes none"
    assert upstream.count == 1


# --- at the same time ---


async def test_identical_requests_at_once_share_one_call(gateway, upstream, text):
    upstream.script("latency_ms=60000")
    asked = [embed(gateway, [text, text + "!"]), embed(gateway, [text + "!", text]), embed(gateway, text)]
    asking = asyncio.gather(*asked)
    await until(lambda: gateway.places() == 3 and upstream.count)
    upstream.go_on()
    first, turned, alone = await asking
    assert upstream.count == 1
    assert vectors(turned) == vectors(first)[::-1]
    assert vectors(alone) == vectors(first)[:1]
    assert sum("collapsed" in answer.headers["cache-status"] for answer in (first, turned, alone)) == 2


async def test_what_overlaps_is_asked_for_once(gateway, upstream, text):
    upstream.script("latency_ms=200", times=2)
    await asyncio.gather(embed(gateway, [text, text + "!"]), embed(gateway, [text + "!", text + "?"]))
    assert sorted(map(sorted, asked_upstream(upstream))) in (
        [[text, text + "!"], [text + "?"]],
        [[text], [text + "!", text + "?"]],
    )


async def test_who_leaves_closes_the_call_and_who_stays_gets_it(gateway, upstream, text):
    upstream.script(HUNG)
    wire = await gateway.connect()
    wire.send(post(body(text), EMBEDDINGS))
    await until(lambda: upstream.count == 1)
    wire.abort()
    await until(lambda: upstream.calls[0].ended is not None)
    assert upstream.calls[0].closed_by_peer_at is not None
    await until(lambda: gateway.places() == 0)
    upstream.script("latency_ms=60000")
    leaving = await gateway.connect()
    leaving.send(post(body(text), EMBEDDINGS))
    await until(lambda: upstream.count == 2)
    staying = asyncio.create_task(embed(gateway, text))
    await until(lambda: gateway.places() == 2)
    leaving.abort()
    await until(lambda: gateway.places() == 1)
    upstream.go_on()
    assert (await staying).status == 200
    assert upstream.count == 2


# --- errors ---


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("", "empty item"),
        ([], "expected a text"),
        ([""], "empty item"),
        (["a", 1], "nothing else"),
        ([[1], "a"], "nothing else"),
        ([[]], "empty item"),
        (None, "expected a text"),
        ({"text": "a"}, "expected a text"),
        ([1.5], "expected a text"),
        ([True], "expected a text"),
        ([-1], "below 0"),
        (["a"] * 2049, "2048"),
    ],
)
async def test_a_wrong_input_is_told(gateway, upstream, asked, why):
    answer = await embed(gateway, asked)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, "input", "invalid_value")
    assert why in answer.error["message"]
    assert upstream.count == 0


async def test_other_wrong_fields_are_told(gateway, upstream):
    for fields, param in (
        ({"model": "mock-model"}, "input"),
        ({"input": "a"}, "model"),
        (body("a", encoding_format="int8"), "encoding_format"),
        (body("a", dimensions=0), "dimensions"),
        (body("a", dimensions="8"), "dimensions"),
        ({"model": "mock-model", "Input": "a"}, "Input"),
    ):
        answer = await gateway.ask(fields, EMBEDDINGS)
        assert (answer.status, answer.error["param"]) == (400, param), answer.body
    answer = await gateway.ask(body("a", encoding_format="int8"), EMBEDDINGS)
    assert answer.error["message"] == "'encoding_format' must be 'float' or 'base64'."
    assert upstream.count == 0
    assert (await gateway.get(EMBEDDINGS)).status == 405
    assert (await embed(gateway, "a", model="demo/none")).status == 404
    for path in ("/embeddings", "/embeddings/", "/v1/embeddings/"):
        assert (await gateway.ask(body("a"), path)).status == 200


async def test_many_token_ids_are_no_large_body(gateway, upstream, text):
    ids = [[number % 10] * (100 + number // 10) for number in range(1300)]
    assert 200_000 < sum(map(len, ids)) < 300_000
    batch = await gateway.ask(json.dumps(body(ids, OPENAI_S), separators=(",", ":")).encode(), EMBEDDINGS)
    assert len(vectors(batch)) == 1300
    too_many = await gateway.ask(json.dumps(body([[1] * 8000] * 38), separators=(",", ":")).encode(), EMBEDDINGS)
    assert (too_many.status, too_many.error["param"]) == (400, "input")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("err=400", 400, "upstream_refused"),
        ("err=401", 502, "upstream_unauthorized"),
        ("err=429;retry_after=1", 429, "rate_limit_exceeded"),
        ("err=500", 502, "upstream_error"),
        ("bad_json", 502, "upstream_error"),
        ("html", 502, "upstream_error"),
        ("cut_after=0", 502, "upstream_error"),
    ],
)
async def test_what_fails_upstream_is_told_and_nothing_is_kept(gateway, upstream, text, fault, status, code):
    upstream.script(fault)
    failed = await embed(gateway, text)
    assert (failed.status, failed.error["code"]) == (status, code)
    assert (await embed(gateway, text)).cache == "miss"


async def test_another_target_is_asked_only_if_it_has_the_same_model(chaos, upstream, tmp_path, text):
    providers = provider("first", chaos.base_url) + provider("second", chaos.base_url)
    same, other = "[first/mock-model, second/mock-model]", "[first/mock-model, second/mock-small]"
    config = f"providers:\n{providers}models: {{same: {same}, other: {other}}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        upstream.script("err=500")
        assert (await embed(gateway, text, model="same")).status == 200
        assert upstream.count == 2
        upstream.script("err=500")
        assert (await embed(gateway, text, model="other")).status == 502
        assert upstream.count == 3


# --- the demo ---


async def test_the_demo_makes_vectors(gateway, upstream, text):
    near, far, same = "The Danube rises here.", "Quite something else", "the Danube rises  here."
    first, second, third = vectors(await embed(gateway, [near, far, same], model="demo"))
    assert len(first) == 256
    assert sum(number * number for number in first) == pytest.approx(1)
    assert first == third != second
    (packed,) = vectors(await embed(gateway, near, model="demo", encoding_format="base64"))
    assert list(struct.unpack("<256f", base64.b64decode(packed))) == first
    assert len(vectors(await embed(gateway, text, model="demo", dimensions=3))[0]) == 3
    assert (await embed(gateway, text, model="demo", dimensions=5000)).status == 400
    assert (await embed(gateway, text, model="demo-fail-503")).status == 502
    assert upstream.count == 0
