"""Which provider is asked, and which is asked next when one fails."""

import pytest

from tests.gateway import chat, provider, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """Two providers, which both have all models, and names of the operator's own."""
    config = f"""
providers:
{provider("first", chaos.base_url)}{provider("second", chaos.base_url)}
models:
  single: first/mock-model
  chain: [first/mock-model, second/mock-small]
  with/slash: second/mock-large
"""
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


async def test_an_alias_and_its_target_are_one_model(gateway, upstream, text):
    first, again, other = [await gateway.ask(chat(text, model)) for model in ("single", "first/mock-model", "second/mock-model")]
    assert (first.cache, again.cache, other.cache) == ("miss", "exact", "miss")
    assert [call.body["model"] for call in upstream.calls] == ["mock-model", "mock-model"]
    assert [call.headers["authorization"] for call in upstream.calls] == ["Bearer key-of-first", "Bearer key-of-second"]


async def test_a_name_of_the_operator_s_may_hold_a_slash(gateway, upstream, text):
    assert (await gateway.ask(chat(text, "with/slash"))).status == 200
    assert upstream.calls[0].body["model"] == "mock-large"
    assert (await gateway.get("/v1/models/with/slash")).json["owned_by"] == "sentinel"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["err=500", "err=503", "err=429", "err=401", "cut_after=0", "rst_after=0", "html", "err=408"])
async def test_the_next_target_is_asked_when_one_fails(gateway, upstream, text, stream, fault):
    await gateway.reload()  # a key that was refused is another one now
    upstream.script(fault)
    answer = await gateway.ask(chat(text, "chain", stream=stream))
    assert (answer.status, answer.cache) == (200, "miss")
    failed, good = upstream.calls
    assert str(failed.fault) == fault
    assert (failed.body["model"], good.body["model"]) == ("mock-model", "mock-small")
    assert good.headers["authorization"] == "Bearer key-of-second"
    answered_by = answer.sse.chunks[0]["model"] if stream else answer.json["model"]
    assert answered_by == "mock-small"
    assert (await gateway.ask(chat(text, "chain"))).cache == "exact"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_is_wrong_is_not_asked_of_the_next(gateway, upstream, text, stream):
    upstream.script("err=400")
    answer = await gateway.ask(chat(text, "chain", stream=stream))
    assert (answer.status, answer.error["message"]) == (400, "mock error 400")
    assert upstream.count == 1


async def test_nothing_goes_to_another_target_after_the_first_word(gateway, upstream, text):
    upstream.script("cut_after=1")
    answer = await gateway.ask(chat(text, "chain", stream=True))
    assert answer.status == 200
    assert answer.sse.error["code"] == "upstream_error"
    assert upstream.count == 1


async def test_when_all_fail_the_last_one_is_told_of(gateway, upstream, text):
    upstream.script("err=500")
    upstream.script("err=429;retry_after=7")
    answer = await gateway.ask(chat(text, "chain"))
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert "second" in answer.error["message"]
    assert answer.headers["retry-after"] == "7"
    assert upstream.count == 2


async def test_a_name_that_two_providers_have_is_not_guessed(gateway, upstream, text):
    answer = await gateway.ask(chat(text, "mock-model"))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert "first/mock-model, second/mock-model" in answer.error["message"]
    assert upstream.count == 0


@pytest.mark.parametrize(
    ("model", "near"),
    [("mock-modle", "first/mock-model"), ("chains", "chain"), ("first_mock-smal", "mock-small"), ("dmeo", "demo")],
)
async def test_an_unknown_name_is_answered_with_near_ones(gateway, upstream, text, model, near):
    answer = await gateway.ask(chat(text, model))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert near in answer.error["message"]
    assert (await gateway.get(f"/v1/models/{model}")).status == 404
    assert upstream.count == 0
