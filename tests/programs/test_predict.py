"""Seed 001's predictions, with the real DSPy, over HTTP: its examples to the field, and the path that every request takes."""

import http.client
import json
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.programs.conftest import ADMIN_KEY, PREDICT, QUESTION, agent, echo

MEMBERS = ["request_id", "model", "variant", "output", "metadata"]
METADATA = ["latency_ms", "cached", "cache_level", "input_tokens", "output_tokens", "cost_usd", "timestamp"]
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SEED = {
    "request_id": "optional-request-id",
    "model": "gpt-3.5-turbo",
    "variant": "baseline",
    "input": QUESTION,
    "parameters": {},
    "use_cache": True,
}
"""Its example, as it stands there."""


def predicted(answer):
    """The answer, if it is one: its members are the seed's, of the seed's types, in its order."""
    assert answer.status == 200, answer.body
    body = answer.json
    assert list(body) == MEMBERS
    metadata = body["metadata"]
    assert list(metadata) == METADATA
    types = {name: type(value) for name, value in metadata.items() if name != "cache_level"}
    assert types == {
        "latency_ms": int,
        "cached": bool,
        "input_tokens": int,
        "output_tokens": int,
        "cost_usd": float,
        "timestamp": str,
    }
    assert TIMESTAMP.fullmatch(metadata["timestamp"])
    assert abs(datetime.fromisoformat(metadata["timestamp"]).astimezone(UTC).timestamp() - time.time()) < 60
    return body


def problem(answer, status, code):
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), answer.body
    document = answer.json
    assert (document["status"], document["code"]) == (status, code), document
    assert document["error"] == document["detail"]
    return document


def level(answer):
    body = predicted(answer)
    metadata = body["metadata"]
    return metadata["cache_level"] if metadata["cached"] else None


# --- the seed's examples ---


def test_predict_golden_cached_null_memory_redis(start, upstream, redis8):
    redis8.flush()
    first = start(REDIS_URL=redis8.url)
    body = predicted(first.request("POST", PREDICT, SEED))
    assert body["request_id"] == "optional-request-id"
    assert (body["model"], body["variant"], body["output"]) == ("gpt-3.5-turbo", "baseline", "Paris")
    metadata = body["metadata"]
    assert (metadata["cached"], metadata["cache_level"]) == (False, None)
    assert (metadata["input_tokens"], metadata["output_tokens"]) == (7, 8), "what the provider counted"
    assert metadata["cost_usd"] == pytest.approx(7 * 0.5e-6 + 8 * 1.5e-6), "of gpt-3.5-turbo"
    again = predicted(first.request("POST", PREDICT, SEED))
    assert again["output"] == "Paris"
    assert again["metadata"] | {"latency_ms": 0, "timestamp": ""} == {
        "latency_ms": 0,
        "cached": True,
        "cache_level": "memory",
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0.0,
        "timestamp": "",
    }
    first.stop()
    second = start(REDIS_URL=redis8.url)
    assert level(second.request("POST", PREDICT, SEED)) == "redis"
    assert level(second.request("POST", PREDICT, SEED)) == "memory", "what was found farther away is near now"
    assert upstream.count == 1


def test_on_one_machine_the_far_level_is_the_disk(start, upstream):
    first = start()
    assert [level(first.predict()) for _ in range(2)] == [None, "memory"]
    first.stop()
    second = start()
    assert level(second.predict()) == "disk"
    assert upstream.count == 1
    assert second.costs()["gpt-3.5-turbo:baseline"]["total_requests"] == 3, "the figures outlive the program, too"


def test_use_cache_false(gateway, upstream):
    assert [level(gateway.predict(use_cache=False)) for _ in range(2)] == [None, None]
    assert upstream.count == 2, "neither the prediction nor what its program asked was read or kept"
    assert level(gateway.predict()) is None
    bypassed = gateway.predict(use_cache=False)
    assert (level(bypassed), bypassed.headers["x-cache"]) == (None, "bypass")
    assert upstream.count == 4
    assert level(gateway.predict()) == "memory"


def test_request_id_echo_else_uuid(gateway, upstream):
    named = gateway.predict(request_id="my-7")
    assert (predicted(named)["request_id"], named.headers["x-request-id"]) == ("my-7", "my-7")
    by_header = gateway.predict(QUESTION, {"x-request-id": "other-8"})
    assert predicted(by_header)["request_id"] == "other-8"
    made = gateway.predict()
    told = uuid.UUID(predicted(made)["request_id"])
    assert (told.version, made.headers["x-request-id"]) == (4, str(told))
    strange = gateway.predict(request_id="Größe 9\n")
    assert predicted(strange)["request_id"] == "Größe 9\n", "as it was sent"
    assert strange.headers["x-request-id"].isascii()
    assert predicted(gateway.predict(request_id="another-one"))["request_id"] == "another-one", "also on a hit"


def test_predict_gpt35_bare(gateway, upstream):
    """A bare name goes to the one provider that has it."""
    assert predicted(gateway.predict(model="gpt-3.5-turbo"))["model"] == "gpt-3.5-turbo"
    assert upstream.calls[0].body["model"] == "gpt-3.5-turbo"
    predicted(gateway.predict(model="openai/gpt-4"))
    assert upstream.calls[1].body["model"] == "gpt-4"


def test_costs_keys_model_variant(start, upstream):
    gateway = start()
    for question in ("one", "two", "one"):
        predicted(gateway.predict(question))
    predicted(gateway.predict("one", variant="cot"))
    costs = gateway.costs()
    assert costs.keys() == {"gpt-3.5-turbo:baseline", "gpt-3.5-turbo:cot"}
    told = costs["gpt-3.5-turbo:baseline"]
    assert (told["total_requests"], told["cache_hits"]) == (3, 1)
    assert (told["total_input_tokens"], told["total_output_tokens"]) == (14, 16)
    assert told["total_cost_usd"] == pytest.approx(2 * 0.0000155)
    assert TIMESTAMP.fullmatch(told["last_updated"])
    assert costs["gpt-3.5-turbo:cot"]["total_requests"] == 1


def test_dspy_metrics_move(gateway, upstream):
    def moved():
        use = 'model="gpt-3.5-turbo"'
        names = {
            "predicted": f'dspy_predictions_total{{{use},status="success",variant="baseline"}}',
            "failed": f'dspy_predictions_total{{{use},status="error",variant="baseline"}}',
            "timed": f'dspy_prediction_duration_seconds_count{{{use},variant="baseline"}}',
            "hits": 'dspy_cache_operations_total{level="memory",operation="hit"}',
            "misses": 'dspy_cache_operations_total{level="none",operation="miss"}',
            "cost": f'dspy_prediction_cost_total{{{use},variant="baseline"}}',
            "input": f'dspy_token_usage_total{{{use},type="input"}}',
            "output": f'dspy_token_usage_total{{{use},type="output"}}',
            "errors": 'dspy_errors_total{error_type="upstream_error"}',
        }
        return {name: gateway.metric(sample) for name, sample in names.items()}

    before = moved()
    predicted(gateway.predict())
    predicted(gateway.predict())
    upstream.say = lambda body: 500
    problem(gateway.predict("another"), 502, "upstream_error")
    difference = {name: round(value - before[name], 9) for name, value in moved().items()}
    assert difference == {
        "predicted": 2,
        "failed": 1,
        "timed": 3,
        "hits": 1,
        "misses": 1,
        "cost": 0.0000155,
        "input": 7,
        "output": 8,
        "errors": 1,
    }
    upstream.reset()
    upstream.delay = 1.0
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(gateway.predict, "slowly")
        upstream.until(1)
        assert gateway.metric("dspy_active_predictions") == 1
        predicted(asking.result())
    assert gateway.metric("dspy_active_predictions") == 0
    assert gateway.metric('requests_total{method="POST",route="/v1/predict/baseline",status="200"}') >= 3


# --- what is asked, and what is wrong with it ---


@pytest.mark.parametrize(
    ("members", "places"),
    [
        ({"input": ""}, [["body", "input"]]),
        ({"input": 7}, [["body", "input"]]),
        ({"input": None}, [["body", "input"]]),
        ({"input": {}}, [["body", "input"]]),
        ({"parameters": {"stop": 7}}, [["body", "parameters", "stop"]]),
        ({"variant": "made-up"}, [["body", "variant"]]),
        ({"variant": 7, "use_cache": "yes"}, [["body", "use_cache"], ["body", "variant"]]),
        ({"parameters": {"temperature": 3, "max_token": 7}}, [["body", "parameters", n] for n in ("temperature", "max_token")]),
        ({"parameters": {"max_tokens": "many"}}, [["body", "parameters", "max_tokens"]]),
        ({"variant": "score"}, [["body", "input"]]),
        ({"variant": "score", "input": {"question": "a"}}, [["body", "input", "context"]]),
        ({"variant": "score", "input": {"question": "", "context": 7, "x": 1}}, [["body", "input", n] for n in ("context", "x")]),
        ({"variant": "price", "input": {"thing": "nail", "amount": "some"}}, [["body", "input", "amount"]]),
        ({"model": "demo/none"}, None),
    ],
)  # fmt: skip
def test_a_body_that_is_wrong_names_each_place(gateway, upstream, members, places):
    answer = gateway.predict(**members) if "input" not in members else gateway.predict(members.pop("input"), **members)
    if places is None:
        problem(answer, 404, "model_not_found")
    else:
        document = problem(answer, 422, "invalid_value")
        assert sorted(fault["loc"] for fault in document["errors"]) == sorted(places)
        assert all(fault.keys() == {"loc", "msg"} and fault["msg"] for fault in document["errors"])
    assert upstream.count == 0


def test_other_errors_are_as_everywhere(gateway, upstream):
    allowed = problem(gateway.request("GET", PREDICT), 405, "method_not_allowed")
    assert "POST a prediction" in allowed["error"]
    problem(gateway.request("POST", f"{PREDICT}/cot", SEED), 404, "unknown_url")
    problem(gateway.predict(QUESTION, {"cache-control": "only-if-cached"}), 504, "cache_miss")
    problem(gateway.predict(QUESTION, {"x-cache-ttl": "soon"}), 400, "invalid_header")
    problem(gateway.predict(QUESTION, {"origin": "https://evil.example"}), 403, "origin_not_allowed")
    assert upstream.count == 0


def test_parameters_reach_the_model_and_are_part_of_the_key(gateway, upstream):
    sent = {"temperature": 0.2, "max_tokens": 99, "top_p": 0.5, "seed": 4, "stop": ["END"], "presence_penalty": 0.5}
    predicted(gateway.predict(parameters=sent))
    assert {name: upstream.calls[0].body[name] for name in sent} == sent
    assert upstream.calls[0].body["messages"][0]["role"] == "system"
    assert level(gateway.predict(parameters=sent)) == "memory"
    assert level(gateway.predict(parameters=sent | {"seed": 5})) is None
    assert level(gateway.predict(variant="cot", parameters=sent)) is None


def test_a_text_and_its_object_are_one_input(gateway, upstream):
    assert level(gateway.predict(QUESTION)) is None
    assert level(gateway.predict({"question": QUESTION})) == "memory"


def test_the_cache_s_headers_hold(gateway, upstream):
    missed = gateway.predict(QUESTION, {"x-cache-ttl": "0"})
    assert (level(missed), missed.headers["x-cache"]) == (None, "miss")
    assert level(gateway.predict()) is None, "it was not kept"
    assert level(gateway.predict()) == "memory"
    assert level(gateway.predict(QUESTION, {"cache-control": "no-cache"})) is None
    assert upstream.count == 3, "asked for anew, its program asks anew"
    found = gateway.predict(QUESTION, {"cache-control": "only-if-cached"})
    assert (level(found), found.headers["x-cache"]) == ("memory", "exact")
    assert int(found.headers["age"]) >= 0
    assert float(found.headers["x-sentinel-saved-usd"]) == pytest.approx(0.0000155)


# --- what a provider does ---


@pytest.mark.parametrize(
    ("status", "shown", "code"),
    [(500, 502, "upstream_error"), (401, 502, "upstream_unauthorized"), (429, 429, "rate_limit_exceeded")],
)
def test_an_error_of_the_provider_is_answered_as_everywhere(gateway, upstream, status, shown, code):
    upstream.say = lambda body: status
    problem(gateway.predict(f"{QUESTION} {status}"), shown, code)
    assert upstream.count == 1, "DSPy asks nothing again by itself"


def test_an_open_circuit_is_503(start, upstream):
    gateway = start(CIRCUIT_BREAKER_FAILURE_THRESHOLD="2")
    upstream.say = lambda body: 500
    for number in range(2):
        problem(gateway.predict(str(number)), 502, "upstream_error")
    refused = gateway.predict("once more")
    problem(refused, 503, "circuit_open")
    assert "retry-after" in refused.headers
    assert upstream.count == 2, "the third was not asked"
    assert gateway.request("GET", "/health").json["circuit_breakers"]["gpt-3.5-turbo"] == "open"


def test_an_answer_that_does_not_fit_is_told_apart_and_not_kept(gateway, upstream):
    upstream.say = lambda body: "I would rather not. secret-of-the-model"
    answer = gateway.predict("canary-of-the-caller")
    assert "baseline" in problem(answer, 502, "answer_unfit")["error"]
    assert upstream.count == 2, "DSPy asks for JSON where the fields don't come"
    upstream.say = echo
    assert level(gateway.predict("canary-of-the-caller", use_cache=False)) is None
    said = gateway.errors.read_text() + gateway.lines.read_text()
    assert "secret-of-the-model" not in said
    assert "canary-of-the-caller" not in said


def test_what_was_cut_short_is_kept_only_where_a_limit_was_set(gateway, upstream):
    upstream.finish = "length"
    assert [level(gateway.predict()) for _ in range(2)] == [None, None]
    limited = {"parameters": {"max_tokens": 50}}
    assert [level(gateway.predict(**limited)) for _ in range(2)] == [None, "memory"]


# --- many, and who leaves ---


def test_a_hundred_at_once(gateway, upstream):
    upstream.crowd = 100
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(gateway.predict, [f"question {number}" for number in range(100)]))
    assert {predicted(answer)["output"] for answer in answers} == {"Paris"}
    assert upstream.most == 100, "all of them were asked at the same time"
    assert upstream.count == 100
    end = time.monotonic() + 60
    while (threads := gateway.threads()) > 0:
        assert time.monotonic() < end, f"{threads} threads are left"


def test_the_same_at_the_same_time_is_predicted_once(gateway, upstream):
    upstream.delay = 3.0
    with ThreadPoolExecutor(20) as pool:
        answers = [predicted(answer) for answer in pool.map(lambda _: gateway.predict(), range(20))]
    assert upstream.count == 1
    assert sum(answer["metadata"]["input_tokens"] for answer in answers) == 7, "who joins has used nothing"
    assert sum(answer["metadata"]["cost_usd"] for answer in answers) == pytest.approx(0.0000155)


@pytest.mark.parametrize("variant", ["baseline", "three", "stubborn"])
def test_who_leaves_ends_what_is_asked_for_it(gateway, upstream, variant):
    left = gateway.metric('dspy_errors_total{error_type="client_left"}')
    upstream.delay = 20.0
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    body = {"model": "gpt-3.5-turbo", "input": f"{variant} {QUESTION}", "variant": variant}
    connection.request("POST", PREDICT, json.dumps(body))
    count = 3 if variant == "three" else 1
    upstream.until(count)
    hung_up = time.monotonic()
    connection.close()
    end = hung_up + 60
    while any(call.left_at is None for call in upstream.calls):
        assert time.monotonic() < end, "the call goes on"
        time.sleep(0.01)
    assert max(call.left_at for call in upstream.calls) - hung_up < upstream.delay / 2
    while gateway.metric('dspy_errors_total{error_type="client_left"}') == left:
        assert time.monotonic() < end, "the prediction goes on"
        time.sleep(0.05)
    while (threads := gateway.threads()) > 0:
        assert time.monotonic() < end, f"the program goes on, in {threads} threads"
    assert upstream.count == count, "nothing more was asked"
    assert gateway.metric("dspy_active_predictions") == 0


# --- who may, how much, and what is written down ---


def key(gateway, **fields):
    made = gateway.admin("POST", "/admin/keys", {"name": "test"} | fields)
    assert made.status == 201, made.body
    return {"authorization": f"Bearer {made.json['key']}"}


def test_keys_limits_and_budgets_hold_for_predictions_and_what_they_ask(start, upstream):
    gateway = start()
    few = key(gateway, limits={"requests_per_minute": 2})
    problem(gateway.predict(), 401, "invalid_api_key")
    assert [level(gateway.predict(q, few)) for q in ("one", "two")] == [None, None], (
        "a prediction is one request, however much it asks"
    )
    assert gateway.predict("two", few).headers["x-ratelimit-remaining-requests"] == "0"
    problem(gateway.predict("two", few), 429, "rate_limit_exceeded")
    problem(gateway.predict(QUESTION, key(gateway, scopes=["read"])), 403, "insufficient_scope")
    problem(gateway.predict(QUESTION, key(gateway, models=["gpt-4"])), 403, "model_not_allowed")
    count = upstream.count
    tokens = key(gateway, limits={"tokens_per_minute": 5000})
    predicted(gateway.predict("three", tokens, parameters={"max_tokens": 100}))
    problem(gateway.predict("four", tokens, parameters={"max_tokens": 100_000}), 429, "rate_limit_exceeded")
    poor = key(gateway, budget={"day": 0.00002})
    refused = gateway.predict("five", poor, parameters={"max_tokens": 1000})
    assert (refused.status, refused.json["code"]) == (429, "insufficient_quota")
    assert upstream.count == count + 1
    rich = key(gateway, budget={"day": 1})
    answer = gateway.predict("six", rich)
    assert predicted(answer)["output"] == "Paris"
    assert upstream.calls[-1].body["max_completion_tokens"] > 0, "no bound was asked for, and a budget sets one"
    booked = gateway.predict("six", rich)
    assert (level(booked), float(booked.headers["x-budget-remaining"])) == ("memory", pytest.approx(1 - 0.0000155))


def test_a_tenant_s_predictions_are_its_own(start, upstream):
    gateway = start()
    ours, theirs = key(gateway, tenant="ours"), key(gateway, tenant="theirs")
    assert [level(gateway.predict(QUESTION, who)) for who in (ours, ours, theirs)] == [None, "memory", None]
    assert upstream.count == 2


def test_one_row_for_the_request_and_one_for_each_call(start, upstream):
    gateway = start()
    upstream.say = agent(("calculator", {"expression": "1 + 1"}))
    answer = gateway.predict(variant="react")
    assert upstream.count == 3, "a tool, the end, and what is made of both"
    assert predicted(answer)["metadata"]["input_tokens"] == 3 * 7
    end = time.monotonic() + 60
    path = f"/api/monitoring/cost-analysis/requests?id={answer.headers['x-sentinel-id']}"
    while len((calls := gateway.request("GET", path).json)["calls"]) < 3:
        assert time.monotonic() < end, calls
        time.sleep(0.1)
    assert sorted(call["attempt"] for call in calls["calls"]) == [1, 2, 3]
    assert gateway.costs()["gpt-3.5-turbo:react"]["total_requests"] == 1


def test_done_once_under_an_idempotency_key(gateway, upstream):
    once = {"idempotency-key": uuid.uuid4().hex}
    first = predicted(gateway.predict("once", once, use_cache=False))
    again = gateway.predict("once", once, use_cache=False)
    assert predicted(again)["output"] == first["output"]
    assert again.headers["idempotent-replayed"] == "true"
    assert upstream.count == 1


# --- it costs nobody else anything ---


def test_dspy_is_loaded_by_the_first_prediction_beside_other_requests(start, upstream):
    gateway = start()
    asked = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "Hello"}]}
    assert gateway.request("POST", "/v1/chat/completions", asked).status == 200
    assert not gateway.has_loaded("_regex.cpython"), "no request but a prediction brings it in"
    with ThreadPoolExecutor(1) as pool:
        asking, probes = pool.submit(gateway.predict), 0
        while not asking.done():
            assert gateway.request("GET", "/livez").status == 200
            probes += 1
        predicted(asking.result())
    assert probes > 10, "the loop went on"
    assert gateway.has_loaded("_regex.cpython")


def test_neither_litellm_nor_dspy_s_caches_are_used(gateway, upstream):
    for name, there in (("dspy", "true"), ("litellm", "false"), ("openai", "false")):
        assert predicted(gateway.predict(name, variant="loaded", use_cache=False))["output"] == there
    assert upstream.count == 0, "a program may ask nothing"
    assert not list(gateway.home.glob(".dspy_cache"))
    assert not list(gateway.home.glob("**/.dspy_cache"))


def test_config_is_shown_without_secrets(gateway):
    shown = gateway.request("GET", "/config").json
    assert shown["programs"]["score"]["signature"] == "question, context -> score: float"
    assert shown["server"]["host"] == "127.0.0.1"
    assert ADMIN_KEY not in str(shown)
    assert "sk-of-the-upstream" not in str(shown)
    assert shown["admin_key"] == "**********"


def test_a_prediction_of_the_demo_needs_no_key(start):
    gateway = start(OPENAI_API_KEY="")
    for variant in ("baseline", "cot", "react"):
        body = predicted(gateway.predict(model="demo", variant=variant))
        assert body["output"].startswith(f"You asked: {QUESTION}")
