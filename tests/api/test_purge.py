"""Clearing by similarity, on a gateway whose questions are compared by the bundled model."""

import pytest

from tests.api.test_admin import clear, is_kept
from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """With the semantic tier."""
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=one_provider(chaos.base_url), semantic=True) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("chosen", "gone"),
    [
        ({"similar_to": "What's the capital of France?"}, ["france"]),
        ({"similar_to": "What's the capital of France?", "min_similarity": 0.35}, ["france", "peru"]),
        ({"similar_to": "What is the capital of France?", "min_similarity": 1}, ["france"]),
        ({"similar_to": "What is the capital of France?", "min_similarity": 0}, ["france", "peru", "soup"]),
        ({"similar_to": "What is the capital of France?", "namespace": "elsewhere"}, []),
        ({"similar_to": "How is bread baked at home?"}, []),
    ],
    ids=str,
)
async def test_clear_what_is_similar(gateway, upstream, chosen, gone):
    """Each stands in a scope of its own, as most questions do, and none has a vector yet."""
    await clear(gateway)
    asked = {
        "france": (chat("What is the capital of France?"), {}),
        "peru": (chat("What is the capital of Peru?", temperature=0.5), {}),
        "soup": (chat("How long does an onion soup have to cook?"), {"x_cache_namespace": "kitchen"}),
    }
    for body, headers in asked.values():
        await gateway.ask(body, **headers)
    answer = await clear(gateway, chosen)
    assert (answer.status, answer.json["cleared"]) == (200, len(gone)), answer.body
    assert answer.json["message"] == "Matching entries cleared"
    assert [name for name, (body, headers) in asked.items() if not await is_kept(gateway, body, **headers)] == gone


async def test_a_tenants_admin_clears_what_is_similar_of_its_own_only(gateway, upstream, text):
    await clear(gateway)
    keys = {name: await gateway.key(tenant=name, scopes=["inference", "admin"]) for name in ("a", "b")}
    for key in keys.values():
        await gateway.ask(chat(text), authorization=f"Bearer {key}")
    headers = {"authorization": f"Bearer {keys['a']}"}
    answer = await gateway.request("POST", "/admin/cache/clear", headers=headers, json={"similar_to": text})
    assert (answer.status, answer.json["cleared"]) == (200, 1)
    kept = {name: await is_kept(gateway, chat(text), authorization=f"Bearer {key}") for name, key in keys.items()}
    assert kept == {"a": False, "b": True}
    logged = (await gateway.get("/admin/audit", headers=gateway.admin)).json["data"]
    assert next(entry["after"] for entry in logged if entry["action"] == "cache.clear") == {
        "similar_to": f"a text of {len(text)} characters"
    }


@pytest.mark.parametrize(
    ("chosen", "field"),
    [
        ({"min_similarity": 0.9}, "min_similarity"),
        ({"similar_to": ""}, "similar_to"),
        ({"similar_to": "x" * 1025}, "similar_to"),
        ({"similar_to": "word " * 200}, "similar_to"),
        ({"similar_to": "Hello", "min_similarity": 1.01}, "min_similarity"),
        ({"similar_to": "Hello", "min_similarity": -0.1}, "min_similarity"),
        ({"similar_to": "Hello", "min_similarity": "0.9"}, "min_similarity"),
        ({"similar_to": ["Hello"]}, "similar_to"),
    ],
    ids=str,
)
async def test_what_cannot_be_compared_is_refused(gateway, chosen, field):
    answer = await clear(gateway, chosen)
    assert (answer.status, answer.json["code"]) == (400, "invalid_value")
    assert field in answer.json["error"]
