"""Why an answer came from the cache, or did not, through the whole gateway and the model that is built in."""

import hashlib
import re

import pytest

from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

FRANCE = "What is the capital of France?"
REWORDED = "What's the capital of France?"
ID = r"[0-9a-f]{32}"
EXPLAIN = {"x-cache-explain": "true"}


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    config = one_provider(chaos.base_url) + "tenants: {a: {cache_group: both}, b: {cache_group: both}}\nkeys: {required: false}\n"
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config, semantic=True) as gateway:
        yield gateway


@pytest.fixture
def namespace(request) -> dict[str, str]:
    """A cache of this test alone."""
    return {"x-cache-namespace": hashlib.sha256(request.node.name.encode()).hexdigest()}


async def explained(gateway, text, headers, **fields) -> str:
    answer = await gateway.ask(chat(text, **fields), **headers, **EXPLAIN)
    return answer.headers["x-cache-explain"]


async def compare(gateway, a, b):
    answer = await gateway.request("POST", "/admin/cache/explain", headers=gateway.admin, json={"a": a, "b": b})
    assert answer.status == 200, answer.body
    return answer.json


# -- the header


async def test_a_hit_names_what_it_matched_and_a_miss_what_was_against_it(gateway, upstream, namespace):
    assert "; other words: empty-scope; " in await explained(gateway, FRANCE, namespace)
    hit = await gateway.ask(chat(REWORDED), **namespace, **EXPLAIN)
    near = f"near {hit.headers['x-cache-matched-id']} 0.987 confidence 0.987: fits"
    assert (
        f"; nearest question 0.987; threshold 0.950 of similarity; budget 0.01 of deployment; {near}; vector hit, "
        in hit.headers["x-cache-explain"]
    )
    told = await explained(gateway, "What was not the capital of Spain in 1999?", namespace)
    against = re.search(
        rf"; threshold 0\.950 of similarity; budget 0\.01 of deployment; near {ID} (0\.\d{{3}}) confidence \1: ([^;]*); ", told
    )[2]
    assert against.startswith("below-threshold, guard-numbers, guard-negation")
    assert "guard-names" in against
    assert "; other words: below-threshold; stored for " in told


async def test_the_nearest_may_be_refused_and_the_next_one_serve(gateway, upstream, namespace):
    for text in ("How far is it from London to Paris in miles?", "How far is it from London to Paris in km?"):
        await gateway.ask(chat(text), **namespace)
    told = await explained(gateway, "How far is London to Paris in km?", namespace | {"x-similarity-threshold": "0.7"})
    assert re.search(rf"threshold 0\.700 of similarity; near {ID} .*: fits; near {ID} .*: guard-\w+.*; vector hit", told), told


async def test_what_is_not_compared_says_why(gateway, upstream, namespace):
    told = await explained(gateway, FRANCE, namespace, n=2)
    assert "; other words: uncacheable-choices; " in told
    assert "near" not in told


async def test_a_tenant_of_the_same_group_is_told_ids_and_figures_and_no_word(gateway, upstream, namespace):
    """Whoever may be served the answer may know that there is one; what others asked is theirs."""
    one, other, stranger = [await gateway.key(tenant=name) for name in ("a", "b", "c")]
    secret = "Is our merger with Contoso called project nightingale?"
    stored = await gateway.ask(chat(secret), authorization=f"Bearer {one}", **namespace)
    assert stored.cache == "miss"
    asked = "Is our merger with Fabrikam called project nightingale?"
    told = await explained(gateway, asked, namespace | {"authorization": f"Bearer {other}"})
    assert re.search(rf"near {ID} 0\.\d+ confidence", told)
    assert not {"merger", "contoso", "nightingale"} & set(re.findall(r"\w+", told.lower()))
    assert "near" not in await explained(gateway, asked, namespace | {"authorization": f"Bearer {stranger}"})


async def test_its_length_is_bounded(gateway, upstream, namespace):
    """As many neighbours as are asked, as different as can be."""
    for number in range(9):
        text = f"Why did {number} owls not buy 'Rust {number}' in JSON yesterday before she sold my Paris #{number} flat?"
        await gateway.ask(chat(text), **namespace)
    told = await explained(gateway, "Can he tell me who is selling her London house after 2 pm now?", namespace)
    assert told.count("; near ") == 5
    assert len(told) < 2048


async def test_streams_are_told_as_well(gateway, upstream, namespace):
    await gateway.ask(chat(FRANCE), **namespace)
    assert ": fits; vector hit" in await explained(gateway, REWORDED, namespace, stream=True)


# -- two texts


async def test_two_texts_that_mean_the_same(gateway, upstream):
    told = await compare(gateway, FRANCE, REWORDED)
    assert told == {
        "serves": True,
        "reason": None,
        "similarity": pytest.approx(0.987, abs=1e-3),
        "confidence": told["similarity"],
        "confidence_is": "similarity",
        "threshold": 0.95,
        "max_wrong_hit_rate": {"rate": 0.01, "of": "deployment"},
        "guards": dict.fromkeys(told["guards"], "passes"),
    }
    assert len(told["guards"]) == 13
    assert upstream.calls == []


async def test_two_texts_that_are_told_apart_by_every_guard_that_can(gateway):
    told = await compare(gateway, "What is 2 + 2?", "What is 2 + 3?")
    assert (told["serves"], told["reason"], told["guards"]["numbers"]) == (False, "below-threshold", "objects")
    told = await compare(gateway, "case D-7781 of Monday in Paris", "case D-7782 of Monday in London")
    objecting = {guard for guard, verdict in told["guards"].items() if verdict == "objects"}
    assert objecting >= {"numbers", "names"}


async def test_texts_that_are_compared_with_nothing(gateway):
    told = await compare(gateway, FRANCE, "What does \U0001f994 mean?")
    assert (told["reason"], told["similarity"], told["confidence"], told["guards"]) == ("uncacheable-unread", None, None, {})
    assert (await compare(gateway, FRANCE, "capital " * 200))["reason"] == "uncacheable-long"


async def test_what_it_says_is_what_happens(gateway, upstream, namespace):
    for number, (a, b) in enumerate(
        [
            (FRANCE, REWORDED),
            (FRANCE, "Which city is the capital of France?"),
            ("How do I reset my password?", "How can I reset my password?"),
            ("Is the earth flat?", "Is the earth not flat?"),
        ]
    ):
        own = {"x-cache-namespace": f"{namespace['x-cache-namespace'][:32]}-{number}"}
        await gateway.ask(chat(a), **own)
        answer = await gateway.ask(chat(b), **own)
        told = await compare(gateway, a, b)
        assert told["serves"] == (answer.cache == "semantic")
        assert told["serves"] or told["reason"] == answer.tiers["sentinel-vector"]["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"a": "x"}', b'{"a": "", "b": "x"}', b'{"a": 1, "b": "x"}', b'{"a":"x","b":"y","c":1}']
)
async def test_a_body_that_is_none(gateway, body):
    answer = await gateway.request("POST", "/admin/cache/explain", headers=gateway.admin, data=body)
    assert answer.status == 400, answer.body


async def test_it_is_for_administrators(gateway):
    asking, reading, admin = [await gateway.key(tenant="a", scopes=[scope]) for scope in ("inference", "read", "admin")]
    for key, status in ((asking, 403), (reading, 403), (admin, 200)):
        headers = {"authorization": f"Bearer {key}"}
        answer = await gateway.request("POST", "/admin/cache/explain", headers=headers, json={"a": FRANCE, "b": REWORDED})
        assert answer.status == status
    assert (await gateway.request("POST", "/admin/cache/explain", json={"a": "x", "b": "y"})).status == 401


async def test_it_is_told_by_the_budget_of_a_key(gateway):
    """That of the key which asks, or of one that is named and may be known to who asks."""

    async def minted(tenant, rate, *scopes):
        body = {"name": "strict", "tenant": tenant, "max_wrong_hit_rate": rate} | ({"scopes": scopes} if scopes else {})
        return (await gateway.request("POST", "/admin/keys", json=body, headers=gateway.admin)).json

    strict, other, admin = await minted("a", 0.002), await minted("b", 0.002), await minted("a", 0.005, "admin")

    async def budget(secret, **body):
        headers = {"authorization": f"Bearer {secret}"}
        body = {"a": FRANCE, "b": REWORDED} | body
        answer = await gateway.request("POST", "/admin/cache/explain", headers=headers, json=body)
        return answer.json.get("max_wrong_hit_rate") or answer.status

    operator = gateway.admin["authorization"].removeprefix("Bearer ")
    assert await budget(operator) == {"rate": 0.01, "of": "deployment"}
    assert await budget(admin["key"]) == {"rate": 0.005, "of": "key"}
    for secret in (operator, admin["key"]):
        assert await budget(secret, key=strict["id"]) == {"rate": 0.002, "of": "key"}
    assert await budget(operator, key=strict["id"], tenant="b") == 400
    assert await budget(admin["key"], key=other["id"]) == 404
    assert await budget(operator, key="key_none") == 404


async def test_without_the_semantic_tier_there_is_nothing_to_compare(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        answer = await gateway.request("POST", "/admin/cache/explain", headers=gateway.admin, json={"a": "x", "b": "y"})
    assert (answer.status, "cache.semantic.enabled" in answer.json["detail"]) == (400, True)
