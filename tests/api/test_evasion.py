"""What callers try so that a provider is paid for more than was held of them, or for another model than they may use."""

import pytest

from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

PRICES = "prices: {models: {mock/*: {input: 0, output: 1000}}}\nkeys: {required: true}\n"
"""A token of output costs 0.001 USD, and one of input nothing."""
OTHERS = {"models": ["mock/mock-large"], "fallbacks": [{"mock-small": ["mock-large"]}], "fallback_models": ["mock/mock-large"]}


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    async with running_gateway(tmp_path_factory.mktemp("evasion"), config=one_provider(chaos.base_url) + PRICES) as gateway:
        yield gateway


@pytest.mark.parametrize("given", [{"models": ["mock/mock-small"]}, {"budget": {"day": 1}}], ids=["a list", "a budget"])
@pytest.mark.parametrize("name", OTHERS)
async def test_a_provider_is_asked_for_no_other_model_beside(gateway, upstream, given, name):
    """OpenRouter goes on to those of `models` when the first can't answer, whatever the key may use."""
    key = await gateway.key(**given)
    for stream in (False, True):
        body = chat(f"beside {name}", model="mock/mock-small", stream=stream, **{name: OTHERS[name]})
        refused = await gateway.ask(body, authorization=f"Bearer {key}")
        assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "model_not_allowed", name)
    vectors = {"model": "mock/mock-small", "input": f"beside {name}", name: OTHERS[name]}
    refused = await gateway.ask(vectors, "/v1/embeddings", authorization=f"Bearer {key}")
    assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "model_not_allowed", name)
    assert upstream.calls == []
    alone = await gateway.ask(chat("alone", model="mock/mock-small", **{name: []}), authorization=f"Bearer {key}")
    assert alone.status == 200


async def test_who_may_use_all_models_may_name_some(gateway, upstream):
    key = await gateway.key()
    answer = await gateway.ask(chat("any of them", models=["mock/mock-large"]), authorization=f"Bearer {key}")
    assert answer.status == 200
    assert upstream.calls[-1].body["models"] == ["mock/mock-large"], "it went out as it came"


async def test_one_bound_is_held_and_no_other_is_sent(gateway, upstream):
    """A provider that goes by `max_tokens` would have made 4,000 tokens where five were held."""
    key = await gateway.key(budget={"day": 0.02})
    body = chat("two bounds", max_completion_tokens=5, max_tokens=4000)
    refused = await gateway.ask(body, authorization=f"Bearer {key}")
    assert (refused.status, refused.error["param"]) == (400, "max_tokens")
    assert upstream.calls == []
