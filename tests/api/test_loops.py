"""Requests that go in a circle: over one other gateway or two, and over a balancer."""

import pytest

from tests.gateway import chat, provider, running_gateway

pytestmark = pytest.mark.anyio

SECRET = "7c1f0a9be26d4835" * 4
CODE = "loop_detected"


def next_one(url, *, more="", targets="next/on"):
    """The name `on` is the next gateway's."""
    return f"providers:\n{provider('next', url)}{more}models: {{on: [{targets}]}}\n"


@pytest.fixture
async def gateways(chaos, tmp_path_factory):
    """gateways(secrets): so many running gateways, each of which asks the next, and the last one the first."""
    running, opened = [], []

    async def start(*secrets):
        for number, secret in enumerate(secrets):
            environ = {"SENTINEL_SECRET": secret, "SENTINEL_ROUTING__RETRY_BUDGET": "1"}
            folder = tmp_path_factory.mktemp(f"g{number}")
            opening = running_gateway(folder, config=next_one(chaos.base_url), environ=environ, alone=False)
            running.append(await opening.__aenter__())
            opened.append(opening)
        for number, gateway in enumerate(running):
            following = running[(number + 1) % len(running)]
            assert (await gateway.reload(next_one(f"{following.base_url}/v1"))).status == 200
        return running

    yield start
    for opening in reversed(opened):
        await opening.__aexit__(None, None, None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("others", [1, 2])
async def test_a_circle_ends_where_it_began(gateways, upstream, text, others, stream):
    first, *rest = await gateways(*(f"{number}{SECRET[1:]}" for number in range(1 + others)))
    answer = await first.ask(chat(text, model="on", stream=stream))
    assert (answer.status, answer.error["code"], answer.headers["x-should-retry"]) == (508, CODE, "false")
    assert "next leads back to a gateway that this request has come through (508)" in answer.error["message"]
    ended = 'requests_total{method="POST",route="/v1/chat/completions",status="508"}'
    assert first.metric(ended) == 2, "the caller's and the one that came back: none was sent again"
    assert upstream.count == 0
    for gateway in rest:
        assert gateway.metric('sentinel_upstream_attempts_total{outcome="refused",provider="next"}') == 1


async def test_nodes_with_one_secret_are_one_gateway(gateways, text):
    """As behind a balancer, which gives what comes back to the other of them."""
    one, _, other = await gateways(SECRET, f"b{SECRET[1:]}", SECRET)
    assert one.process.via == other.process.via
    answer = await one.ask(chat(text, model="on"))
    assert (answer.status, answer.error["code"]) == (508, CODE)
    passed = 'sentinel_upstream_attempts_total{outcome="refused",provider="next"}'
    assert [gateway.metric(passed) for gateway in (one, other)] == [1, 0], "the other one has refused it"


async def test_another_name_of_the_service_is_another_gateway(tmp_path_factory, chaos, upstream, text):
    """Where two that share the secret are meant to stand behind each other."""
    folder, environ = tmp_path_factory.mktemp, {"SENTINEL_SECRET": SECRET}
    inner = running_gateway(folder("inner"), config=next_one(chaos.base_url), environ=environ, alone=False)
    async with inner as behind:
        named = f"{next_one(f'{behind.base_url}/v1')}service: {{name: edge}}\n"
        async with running_gateway(folder("edge"), config=named, environ=environ, alone=False) as edge:
            upstream.script("tokens=3")
            answer = await edge.ask(chat(text, model="on"))
            assert answer.status == 200, answer.body
    via = upstream.calls[0].headers["via"]
    assert via == f"1.1 {edge.process.via}, 1.1 {behind.process.via}"


async def test_who_claims_to_have_been_there_closes_nobody_s_way(gateways, chaos, upstream, text):
    """The next gateway refuses what names it in `Via`. That is nothing to remember of it: anybody can bring it about."""
    first, second = await gateways(SECRET, f"b{SECRET[1:]}")
    assert (await second.reload(next_one(chaos.base_url))).status == 200
    for number in range(8):
        answer = await first.ask(chat(f"{number} {text}", model="on"), via=f"1.1 {second.process.via}")
        assert (answer.status, answer.error["code"]) == (508, CODE)
    assert (await first.ask(chat(text, model="on"))).status == 200


async def test_another_target_may_lead_elsewhere(gateways, chaos, upstream, text):
    first, second = await gateways(SECRET, f"b{SECRET[1:]}")
    mock, targets = provider("mock", chaos.base_url), "next/on, mock/mock-model"
    assert (await first.reload(next_one(f"{second.base_url}/v1", more=mock, targets=targets))).status == 200
    answer = await first.ask(chat(text, model="on"))
    assert (answer.status, upstream.count) == (200, 1)
