"""Retries, fallbacks and circuits as callers and operators see them, with the gateway's own defaults or near them."""

import time

import pytest

from tests.gateway import chat, one_provider, provider, running_gateway, until
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

AS_SHIPPED = {
    "SENTINEL_ROUTING__RETRY_BUDGET": None,
    "SENTINEL_ROUTING__COOL_DOWN": None,
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": None,
}
BRITTLE = AS_SHIPPED | {
    "SENTINEL_ROUTING__RETRY_BUDGET": "0",
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2",
    "CIRCUIT_BREAKER_SUCCESS_THRESHOLD": "1",
}
SECRET = "5f2b8c0de1a94f7763b2c9d80e4f1a6b"


def two_providers(url):
    return f"""
providers:
{provider("first", url)}{provider("second", url)}
models:
  chain: [first/mock-model, second/mock-small]
  weighted: [{{target: first/mock-model, weight: 1}}, {{target: second/mock-small, weight: 3}}]
"""


def asked(upstream):
    return [call.body["model"] for call in upstream.calls]


@pytest.fixture
def brittle(chaos, tmp_path):
    """A gateway whose circuits open at the second failure."""

    def make(name="a", *, alone=True, **environ):
        (tmp_path / name).mkdir()
        config = two_providers(chaos.base_url)
        return running_gateway(tmp_path / name, config=config, environ=BRITTLE | environ, alone=alone)

    return make


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_mended_by_asking_again(chaos, upstream, text, tmp_path, stream):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=AS_SHIPPED) as gateway:
        upstream.script("err=503")
        answer = await gateway.ask(chat(text, stream=stream))
        assert answer.status == 200
        assert upstream.count == 2
        assert gateway.metric('sentinel_upstream_attempts_total{outcome="broken",provider="mock"}') == 1
        assert gateway.metric('sentinel_upstream_attempts_total{outcome="answered",provider="mock"}') == 1
        assert gateway.metric('upstream_errors_total{error_type="upstream_error"}') == 1
        assert gateway.metric('sentinel_first_token_seconds_count{provider="mock"}') == float(stream)


async def test_retry_after_is_waited_for(chaos, upstream, text, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=AS_SHIPPED) as gateway:
        upstream.script("err=429;retry_after=1")
        start = time.monotonic()
        assert (await gateway.ask(chat(text))).status == 200
        assert time.monotonic() - start >= 0.99
        assert upstream.count == 2


async def test_a_request_that_is_wrong_is_asked_once(chaos, upstream, text, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=AS_SHIPPED) as gateway:
        for fault, status in (("err=400", 400), ("err=401", 502), ("err=404", 404)):
            upstream.script(fault, times=3)
            assert (await gateway.ask(chat(f"{fault} {text}"))).status == status
            assert upstream.count == 1
            upstream.reset()


async def test_a_target_that_fails_is_left_alone_until_somebody_says_it_is_well(brittle, upstream, text):
    async with brittle() as gateway:
        for number in range(2):
            upstream.script("err=500")
            assert (await gateway.ask(chat(f"{number} {text}", "chain"))).status == 200
        assert (await gateway.ask(chat(f"2 {text}", "chain"))).status == 200
        assert asked(upstream) == ["mock-model", "mock-small"] * 2 + ["mock-small"]
        states = (await gateway.get("/health", headers=gateway.admin)).json["circuit_breakers"]
        assert states == {"mock-model": "open", "mock-small": "closed"}
        assert gateway.metric('dspy_circuit_breaker_state{model="mock-model"}') == 1
        assert gateway.metric('sentinel_events_total{event="circuit_opened"}') == 1
        shown = (await gateway.get("/admin/circuits", headers=gateway.admin)).json["targets"]
        first, second = sorted(shown, key=lambda one: one["target"])
        told = {"state": "open", "failures": 2, "in_flight": 0, "cooling": 0.0, "key_refused": False}
        assert first == {"target": "first/mock-model"} | told
        assert (second["target"], second["state"]) == ("second/mock-small", "closed")

        reset = await gateway.request("POST", "/admin/circuits/reset", json={"target": "first/mock-model"}, headers=gateway.admin)
        assert reset.json == {"closed": ["first/mock-model"]}
        (entry,) = (await gateway.get("/admin/audit?limit=1", headers=gateway.admin)).json["data"]
        assert (entry["action"], entry["object"], entry["actor"]) == ("circuit.reset", "first/mock-model", "admin-key")
        upstream.reset()
        assert (await gateway.ask(chat(f"3 {text}", "chain"))).status == 200
        assert asked(upstream) == ["mock-model"]
        again = await gateway.request("POST", "/admin/circuits/reset", headers=gateway.admin)
        assert again.json == {"closed": []}


async def test_circuits_are_named_by_model_and_with_the_provider_where_several_have_it(brittle, upstream, text):
    async with brittle() as gateway:

        async def fails(target):
            upstream.script("err=500", times=2)
            for number in range(2):
                assert (await gateway.ask(chat(f"{number} {text}", target))).status == 502
            return (await gateway.get("/health", headers=gateway.admin)).json["circuit_breakers"]

        assert await fails("first/mock-model") == {"mock-model": "open", "mock-small": "closed"}
        known = {"first/mock-model": "open", "second/mock-model": "open", "mock-small": "closed"}
        assert await fails("second/mock-model") == known
        for name, state in known.items():
            assert gateway.metric(f'dspy_circuit_breaker_state{{model="{name}"}}') == float(state == "open")


async def test_it_comes_back_by_itself(brittle, upstream, text):
    async with brittle(CIRCUIT_BREAKER_TIMEOUT_SECS="30") as gateway:
        for number in range(2):
            upstream.script("err=500")
            await gateway.ask(chat(f"{number} {text}", "chain"))
        await gateway.wait(31)
        upstream.reset()
        assert (await gateway.ask(chat(f"2 {text}", "chain"))).status == 200
        assert asked(upstream) == ["mock-model"]
        assert gateway.metric('dspy_circuit_breaker_state{model="mock-model"}') == 0


async def test_the_only_target_is_tried_once_a_second(brittle, upstream, text):
    async with brittle() as gateway:
        for number in range(50):  # on a machine that is busy the second may be over each time
            asked, _ = upstream.count, upstream.script("err=500")
            refused = await gateway.ask(chat(f"{number} {text}", "first/mock-model"))
            assert (refused.status, refused.error["code"]) == (502, "upstream_error")
            if number >= 2 and upstream.count == asked:
                break
        assert "once a second" in refused.error["message"]
        upstream.reset()
        await gateway.wait(1.1)
        assert (await gateway.ask(chat(f"3 {text}", "first/mock-model"))).status == 200


async def test_the_operator_alone_resets(brittle, upstream):
    async with brittle() as gateway:
        for method, path in (("GET", "/admin/circuits"), ("POST", "/admin/circuits/reset")):
            assert (await gateway.request(method, path)).status == 401
            key = await gateway.key(scopes=["read", "inference"])
            assert (await gateway.request(method, path, headers={"authorization": f"Bearer {key}"})).status == 403
        wrong = await gateway.request("POST", "/admin/circuits/reset", json={"traget": "x"}, headers=gateway.admin)
        assert wrong.status == 400


async def test_a_reload_keeps_what_is_known_and_tries_a_refused_key_again(brittle, upstream, text):
    async with brittle() as gateway:
        upstream.script("err=401")
        await gateway.ask(chat(f"0 {text}", "chain"))
        await gateway.ask(chat(f"1 {text}", "chain"))
        assert asked(upstream) == ["mock-model", "mock-small", "mock-small"]
        assert [one["key_refused"] for one in (await gateway.get("/admin/circuits", headers=gateway.admin)).json["targets"]] == [
            True,
            False,
        ]
        for number in range(2):
            upstream.script("err=500")
            await gateway.ask(chat(f"{number} {text}", "second/mock-small"))
        upstream.reset()
        assert (await gateway.reload()).status == 200
        await gateway.ask(chat(f"2 {text}", "chain"))
        assert asked(upstream) == ["mock-model"]
        assert gateway.metric('dspy_circuit_breaker_state{model="mock-small"}') == 1


async def test_weights(brittle, upstream, text):
    async with brittle() as gateway:
        for number in range(60):
            assert (await gateway.ask(chat(f"{number} {text}", "weighted"))).status == 200
        assert 30 <= asked(upstream).count("mock-small") <= 57


async def test_what_one_node_finds_failing_the_other_passes_over(brittle, upstream, text, redis7):
    shared = {"REDIS_URL": redis7.url, "SENTINEL_SECRET": SECRET, "SENTINEL_REPLICAS": "2"} | PATIENT
    async with brittle("a", **shared) as one, brittle("b", alone=False, **shared) as other:
        for number in range(2):
            upstream.script("err=500")
            assert (await one.ask(chat(f"{number} {text}", "chain"))).status == 200
        await until(lambda: other.metric('dspy_circuit_breaker_state{model="mock-model"}') == 1)
        upstream.reset()
        assert (await other.ask(chat(f"2 {text}", "chain"))).status == 200
        assert asked(upstream) == ["mock-small"]
        await other.request("POST", "/admin/circuits/reset", headers=other.admin)
        await until(lambda: one.metric('dspy_circuit_breaker_state{model="mock-model"}') == 0)
