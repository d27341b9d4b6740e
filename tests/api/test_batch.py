"""`POST /v1/query/batch`: many queries as one request, each answered once, each on its own terms."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time

import aiohttp
import pytest

from sentinel_gateway.api.batch import _broken
from sentinel_gateway.api.batched import AGAIN
from sentinel_gateway.errors import InternalError
from tests.gateway import chat, one_provider, post, running_gateway, running_tasks, until
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

BATCH, QUERY = "/v1/query/batch", "/v1/query"
SINGLE = 'requests_total{method="POST",route="/v1/query",status="%d"}'
TOGETHER = 'requests_total{method="POST",route="/v1/query/batch",status="%d"}'
SUMMARY = [
    *("queries", "answered", "failed", "exact_hits", "semantic_hits", "misses", "repeated", "duplicates", "upstream_calls"),
    *("cost_usd", "saved_usd", "latency_ms"),
]
"""In this order."""
MANY = 1_000
PATIENCE = 60.0
"""Seconds that a thousand queries may take where a test has the machine for itself in part."""
SOON = 5.0
"""Seconds: far from the moment that it takes and from the minute that the provider would."""


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\n"
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def semantic(chaos, tmp_path_factory):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\n"
    async with running_gateway(tmp_path_factory.mktemp("semantic"), config=config, semantic=True, alone=False) as gateway:
        yield gateway


async def ask(gateway, queries, /, headers=None, **fields):
    """Send a batch, whatever comes back."""
    return await gateway.ask({"queries": queries, **fields}, BATCH, **(headers or {}))


def told(answer) -> tuple[list[dict], dict]:
    """The results and the summary of a batch that was taken."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.json.keys() == {"results", "summary"}
    return checked(answer.json["results"]), summed(answer.json["summary"], answer.json["results"])


def lines(body: bytes) -> tuple[list[dict], dict]:
    """The same of a stream."""
    assert body.endswith(b"\n")
    *results, last = map(json.loads, body.splitlines())
    assert last.keys() == {"summary"}
    checked(sorted(results, key=lambda one: one["index"]))
    return results, summed(last["summary"], results)


def checked(results: list[dict]) -> list[dict]:
    assert [one["index"] for one in results] == list(range(len(results)))
    for one in results:
        assert ("answer" in one) != ("problem" in one)
        assert ("answer" in one) == (one["status"] == 200)
        if "problem" in one:
            assert one["problem"]["status"] == one["status"]
    return results


def summed(summary: dict, results: list[dict]) -> dict:
    assert list(summary) == SUMMARY
    assert summary["queries"] == len(results) == summary["answered"] + summary["failed"]
    assert summary["answered"] == sum(one["status"] == 200 for one in results)
    decided = ("exact_hits", "semantic_hits", "misses", "repeated")
    assert summary["answered"] == sum(summary[name] for name in decided)
    assert summary["duplicates"] == sum("duplicate_of" in one for one in results)
    return summary


def asked(upstream) -> list[str]:
    """What the provider was asked, in the order in which that was."""
    return [call.body["messages"][0]["content"] for call in upstream.calls]


# --- answered once ---


async def test_a_batch_of_1000_with_30_percent_duplicates_is_700_calls(gateway, upstream, text):
    distinct = [f"{number} {text}" for number in range(700)]
    chance = random.Random(7)
    prompts = distinct + chance.choices(distinct, k=300)
    chance.shuffle(prompts)
    before = [gateway.metric(SINGLE % 200), gateway.metric(TOGETHER % 200)]
    async with asyncio.timeout(PATIENCE), gateway.session.post(BATCH, json={"queries": prompts}) as response:
        assert response.status == 200
        answer = await response.json()
    results, summary = checked(answer["results"]), summed(answer["summary"], answer["results"])

    assert upstream.count == 700
    assert sorted(asked(upstream)) == sorted(distinct)
    first = {prompt: prompts.index(prompt) for prompt in distinct}
    for number, (prompt, one) in enumerate(zip(prompts, results, strict=True)):
        assert one["answer"]["response"].endswith(f"to: {prompt[:60]}")
        assert one.get("duplicate_of") == (None if first[prompt] == number else first[prompt])
        assert one["answer"]["response"] == results[first[prompt]]["answer"]["response"]
        assert one["answer"]["cache_hit"] == (first[prompt] != number)
    assert (summary["duplicates"], summary["exact_hits"], summary["misses"], summary["upstream_calls"]) == (300, 300, 700, 700)
    assert summary["failed"] == 0
    assert [gateway.metric(SINGLE % 200), gateway.metric(TOGETHER % 200)] == [before[0] + MANY, before[1] + 1]


async def test_the_same_request_in_other_spellings_is_a_duplicate(gateway, upstream, text):
    upstream.script("latency_ms=100")
    spellings = [
        text,
        {"prompt": text},
        {"prompt": text, "temperature": 0.7, "provider": "mock"},
        {"prompt": text, "max_tokens": 9},
    ]
    results, summary = told(await ask(gateway, spellings))
    assert [one.get("duplicate_of") for one in results] == [None, 0, 0, None]
    assert (upstream.count, summary["upstream_calls"]) == (2, 2)


async def test_rewordings_are_answered_once_and_negations_never_together(semantic, upstream):
    upstream.script("latency_ms=60000", times=5)  # nothing is stored before all have begun
    prompts = [
        "How do I reset my password?",
        "How can I reset my password?",
        "What is the capital of France?",
        "How do I not reset my password?",
        "What's the capital of France?",
        "What is the capital of Germany?",
        "How do I reset my password?",
        "What is two plus three?",
    ]
    asking = asyncio.create_task(ask(semantic, prompts, {"x-cache-namespace": "reworded"}))
    await until(lambda: upstream.count == 5)
    upstream.go_on()
    results, summary = told(await asking)
    assert sorted(asked(upstream)) == sorted(prompts[place] for place in (0, 2, 3, 5, 7))
    matched = [one["answer"]["matched_prompt"] for one in results]
    assert matched == [None, prompts[0], None, None, prompts[2], None, prompts[0], None]
    assert [results[place]["answer"]["similarity_score"] < 1 for place in (1, 4)] == [True, True]
    assert results[1]["answer"]["response"] == results[0]["answer"]["response"]
    assert [one.get("duplicate_of") for one in results] == [None] * 6 + [0, None]
    assert (summary["semantic_hits"], summary["exact_hits"], summary["upstream_calls"]) == (2, 1, 5)


@pytest.mark.parametrize(("threshold", "calls"), [({}, 2), ({"similarity_threshold": 0.75}, 1)])
async def test_a_query_s_threshold_says_whether_it_waits(semantic, upstream, threshold, calls):
    upstream.script("latency_ms=60000", times=calls)
    queries = ["What is 2+2?", {"prompt": "What is two plus two?"} | threshold]
    asking = asyncio.create_task(ask(semantic, queries, {"x-cache-namespace": f"threshold-{calls}"}))
    await until(lambda: upstream.count == calls)
    upstream.go_on()
    results, _ = told(await asking)
    assert [one["answer"]["cache_hit"] for one in results] == [False, bool(threshold)]
    assert upstream.count == calls


async def test_many_rewordings_of_many_questions(semantic, upstream):
    things = ["password", "invoice", "router", "passport", "contract", "laptop", "garden", "violin", "recipe", "bicycle"]
    upstream.script("latency_ms=150", times=100)
    prompts = [f"{start} {thing}?" for start in ("How do I replace my old", "How can I replace my old") for thing in things]
    results, summary = told(await ask(semantic, prompts, {"x-cache-namespace": "many"}))
    reworded = [one["answer"] for one in results[len(things) :]]
    served = [one for one in reworded if one["cache_hit"]]
    assert summary["semantic_hits"] == len(served)
    assert upstream.count == len(prompts) - len(served)
    assert len(served) == len(things)
    for prompt, one in zip(prompts, reworded, strict=False):
        assert one["matched_prompt"] == prompt


async def test_what_was_stored_before_is_a_hit(gateway, upstream, text):
    await gateway.ask({"prompt": text}, QUERY)
    results, summary = told(await ask(gateway, [text, f"another {text}"]))
    assert [one["answer"]["cache_hit"] for one in results] == [True, False]
    assert (summary["exact_hits"], summary["duplicates"], upstream.count) == (1, 0, 2)
    assert summary["saved_usd"] >= 0


async def test_who_wants_nothing_stored_has_each_asked(gateway, upstream, text):
    results, summary = told(await ask(gateway, [text] * 3, {"x-bypass-cache": "true"}))
    assert (upstream.count, summary["misses"], summary["duplicates"]) == (3, 3, 0)
    assert not any(one["answer"]["cache_hit"] for one in results)


async def test_tenants_share_nothing(chaos, upstream, tmp_path, text):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\nkeys: {{required: true}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        keys = [await gateway.key(tenant=tenant) for tenant in ("one", "two", "one")]
        sent = [ask(gateway, [text, text], {"authorization": f"Bearer {key}"}) for key in keys]
        summaries = [told(answer)[1] for answer in [await one for one in sent]]
        assert [summary["upstream_calls"] for summary in summaries] == [1, 1, 0]
        assert upstream.count == 2
        assert (await ask(gateway, [text])).status == 401


# --- what a batch is made of ---


async def test_members_beside_the_queries_hold_for_all_that_do_not_say(gateway, upstream, text):
    queries = [f"a {text}", {"prompt": f"b {text}", "max_tokens": 7}, {"prompt": f"c {text}", "model": None}]
    told(await ask(gateway, queries, model="mock-small", max_tokens=9, temperature=0.1))
    bodies = sorted((call.body for call in upstream.calls), key=lambda body: body["messages"][0]["content"])
    assert [(body["model"], body["max_tokens"], body["temperature"]) for body in bodies] == [
        ("mock-small", 9, 0.1),
        ("mock-small", 7, 0.1),
        ("mock-model", 9, 0.1),
    ]


async def test_each_answer_is_the_one_of_a_query_and_names_its_request(gateway, upstream, text):
    queries = [{"prompt": f"a {text}", "id": "first"}, {"prompt": f"b {text}"}]
    results, _ = told(await ask(gateway, queries, {"x-request-id": "order-4711"}))
    assert [(one.get("id"), one["request_id"]) for one in results] == [("first", "order-4711-0"), (None, "order-4711-1")]
    for query, one in zip(queries, results, strict=True):
        alone = (await gateway.ask(query, QUERY)).json
        hit = {"cache_hit": True, "similarity_score": 1.0, "matched_prompt": query["prompt"], "tokens_used": 0}
        assert alone | {"latency_ms": 0} == one["answer"] | hit | {"latency_ms": 0}
        assert one["answer"]["tokens_used"] > 0


async def test_an_id_that_is_long_still_names_each_query(gateway, upstream, text):
    results, _ = told(await ask(gateway, [f"a {text}", f"b {text}"], {"x-request-id": "x" * 128}))
    assert [one["request_id"] for one in results] == ["x" * 120 + "-0", "x" * 120 + "-1"]


async def test_each_error_is_the_one_of_a_query(gateway, upstream, text):
    queries = [
        text,
        {"prompt": ""},
        {"prompt": text, "provider": "groq"},
        7,
        {"prompt": f"b {text}", "temperature": "hot"},
        f"c {text}",
    ]
    results, summary = told(await ask(gateway, queries))
    assert [one["status"] for one in results] == [200, 422, 404, 422, 422, 200]
    for query, one in list(zip(queries, results, strict=True))[1:5]:
        alone = await gateway.ask(query if isinstance(query, dict) else json.dumps(query).encode(), QUERY)
        assert (alone.status, alone.json) == (one["status"], one["problem"])
    assert (summary["answered"], summary["failed"], upstream.count) == (2, 4, 2)


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, [["body", "queries"]]),
        ({"queries": []}, [["body", "queries"]]),
        ({"queries": "one"}, [["body", "queries"]]),
        ({"queries": ["a"] * 1001}, [["body", "queries"]]),
        ({"queries": ["a"], "stream": "yes"}, [["body", "stream"]]),
        ({"queries": [{"prompt": "a", "id": 1}, {"prompt": "a", "id": ""}]}, [["body", "queries", str(n), "id"] for n in (0, 1)]),
        ({"queries": [], "temperature": 3, "max_tokens": 0}, [["body", n] for n in ("queries", "temperature", "max_tokens")]),
        (b'{"queries": [', [["body"]]),
        (b'{"queries": [{"prompt": "a", "prompt": "b"}]}', [["body", "prompt"]]),
        (b"[]", [["body"]]),
    ],
)
async def test_batch_validation(gateway, upstream, body, places):
    answer = await gateway.ask(body, BATCH)
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json"), answer.body
    assert [fault["loc"] for fault in answer.json["errors"]] == places
    assert all(fault["msg"] for fault in answer.json["errors"])
    assert upstream.count == 0


async def test_other_methods_and_paths(gateway):
    assert (await gateway.get(BATCH)).status == 405
    unknown = await gateway.ask({}, "/v1/query/other")
    assert (unknown.status, "POST /v1/query/batch" in unknown.json["detail"]) == (404, True)


# --- as they come ---


async def test_results_come_as_they_are_there(gateway, upstream, text):
    upstream.script("latency_ms=60000", to=f"0 {text}")
    queries = [{"prompt": f"{number} {text}", "id": f"q{number}"} for number in range(5)]
    queries.append({"prompt": f"0 {text}", "id": "again"})
    async with gateway.session.post(BATCH, json={"queries": queries, "stream": True}) as response:
        assert (response.status, response.headers["content-type"]) == (200, "application/x-ndjson")
        assert response.headers["cache-control"] == "private, no-store"
        early = [json.loads(await response.content.readline()) for _ in range(4)]
        assert all(call.ended for call in upstream.calls if asked_of(call) != f"0 {text}")
        assert next(call for call in upstream.calls if asked_of(call) == f"0 {text}").ended is None, (
            "the first one is still asked"
        )
        upstream.go_on()
        rest = await response.content.read()
    assert sorted(one["index"] for one in early) == [1, 2, 3, 4]
    results, summary = lines(b"".join(json.dumps(one).encode() + b"\n" for one in early) + rest)
    assert [one["index"] for one in results[4:]] == [0, 5]
    assert {one["index"]: one["id"] for one in results} == dict(enumerate(["q0", "q1", "q2", "q3", "q4", "again"]))
    assert (summary["upstream_calls"], summary["duplicates"], upstream.count) == (5, 1, 5)


def asked_of(call) -> str:
    return call.body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("accept", "stream", "kind"),
    [
        ("application/x-ndjson", {}, "application/x-ndjson"),
        ("application/x-ndjson", {"stream": False}, "application/json"),
        ("*/*", {"stream": True}, "application/x-ndjson"),
        ("application/json, application/x-ndjson;q=0.5", {"stream": None}, "application/x-ndjson"),
        ("*/*", {}, "application/json"),
    ],
)
async def test_how_it_comes_is_asked_for(gateway, upstream, text, accept, stream, kind):
    answer = await ask(gateway, [text, ""], {"accept": accept}, **stream)
    assert (answer.status, answer.headers["content-type"]) == (200, kind)
    results = answer.json["results"] if kind == "application/json" else lines(answer.body)[0]
    assert sorted(one["status"] for one in results) == [200, 422]


async def test_a_silent_stream_beats(chaos, upstream, tmp_path, text):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\nserver: {{heartbeat: 0.1}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        upstream.script("latency_ms=60000")
        async with asyncio.timeout(PATIENCE), gateway.session.post(BATCH, json={"queries": [text], "stream": True}) as response:
            assert await response.content.readexactly(2) == b"  ", "a space now and then, which every reader of JSON passes over"
            upstream.go_on()
            assert lines(await response.content.read())[0][0]["status"] == 200


# --- failures, limits, leaving ---


async def test_duplicates_of_what_fails_fail_with_it(gateway, upstream, text):
    upstream.script("err=500;latency_ms=100", to=text)
    before = gateway.metric(SINGLE % 502)
    results, summary = told(await ask(gateway, [text] * 6 + [f"other {text}"]))
    assert [one["status"] for one in results] == [502] * 6 + [200]
    assert len({json.dumps(one["problem"]) for one in results[:6]}) == 1
    assert asked(upstream).count(text) == 1
    assert (summary["failed"], summary["upstream_calls"]) == (6, 2)
    assert gateway.metric(SINGLE % 502) == before + 6, "each is told of as a request of its own"
    assert told(await ask(gateway, [text]))[1]["answered"] == 1, "the failure is nobody's later"


async def test_a_rewording_of_what_fails_is_asked_itself(semantic, upstream):
    upstream.script("err=500;latency_ms=100", to="How do I bake bread?")
    results, _ = told(await ask(semantic, ["How do I bake bread?", "How can I bake bread?"], {"x-cache-namespace": "failing"}))
    assert [one["status"] for one in results] == [502, 200]
    assert upstream.count == 2


@pytest.fixture(scope="module")
async def limited(chaos, tmp_path_factory):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\nkeys: {{required: true}}\n"
    async with running_gateway(tmp_path_factory.mktemp("limited"), config=config, alone=False) as gateway:
        yield gateway


async def test_each_query_counts_as_a_request_and_those_beyond_the_limit_say_when(limited, upstream, text):
    key = {"authorization": f"Bearer {await limited.key(tenant='minute', limits={'requests_per_minute': 5})}"}
    results, summary = told(await ask(limited, [f"{number} {text}" for number in range(8)], key))
    assert sorted(one["status"] for one in results) == [200] * 5 + [429] * 3
    for one in results:
        assert ("retry_after" in one) == (one["status"] == 429)
        if one["status"] == 429:
            assert one["problem"]["code"] == "rate_limit_exceeded"
            assert 0 < one["retry_after"] <= 60
    assert (summary["answered"], summary["failed"], upstream.count) == (5, 3, 5)
    again = await ask(limited, [text], key)
    assert (again.status, again.json["code"]) == (429, "rate_limit_exceeded"), "nothing is left: the batch itself is refused"
    assert "retry-after" in again.headers


async def test_what_can_t_be_understood_costs_requests(limited):
    key = {"authorization": f"Bearer {await limited.key(tenant='broken', limits={'requests_per_minute': 3})}"}
    assert [(await limited.ask(b"{", BATCH, **key)).status for _ in range(4)] == [422] * 3 + [429]
    key = {"authorization": f"Bearer {await limited.key(tenant='emptied', limits={'requests_per_minute': 3})}"}
    results, _ = told(await ask(limited, [""] * 4, key))
    assert sorted(one["status"] for one in results) == [422] * 3 + [429]


async def test_a_batch_keeps_to_the_places_of_its_key_and_leaves_one(limited, upstream, text):
    key = {"authorization": f"Bearer {await limited.key(tenant='places', limits={'concurrency': 3})}"}
    upstream.script("latency_ms=60000", times=2)
    asking = asyncio.create_task(ask(limited, [f"{number} {text}" for number in range(8)], key))
    await until(lambda: upstream.count == 2)
    upstream.script("latency_ms=30", times=20)
    beside = await limited.ask(chat(text), **key)
    assert beside.status == 200, "the third place is free for others"
    assert not asking.done()
    upstream.go_on()
    assert told(await asking)[1]["answered"] == 8
    assert most_at_once(upstream) <= 3


def most_at_once(upstream) -> int:
    """The most calls that ran at the same time."""
    moments = [(call.started, 1) for call in upstream.calls] + [(call.ended, -1) for call in upstream.calls]
    running = most = 0
    for _, step in sorted(moments):
        running += step
        most = max(most, running)
    return most


async def test_what_a_batch_reserves_comes_back_to_it(limited, upstream, text):
    """A minute's tokens do for two answers at their longest, and for all as they turn out: the batch gets that narrow."""
    key = {"authorization": f"Bearer {await limited.key(tenant='reserved', limits={'tokens_per_minute': 1_200})}"}
    upstream.script("latency_ms=60000", times=2)
    upstream.script("latency_ms=30", times=20)
    asking = asyncio.create_task(ask(limited, [f"{number} {text}" for number in range(8)], key, max_tokens=500))
    await until(lambda: upstream.count == 2)
    upstream.go_on()
    results, summary = told(await asking)
    assert summary["answered"] == 8, results
    assert most_at_once(upstream) == 2
    results, _ = told(await ask(limited, [{"prompt": text, "max_tokens": 2_000}, f"last {text}"], key, max_tokens=100))
    assert [one["status"] for one in results] == [429, 200], "what never fits is not asked again"


async def test_a_key_of_another_scope_or_model_is_refused(limited, upstream, text):
    reader = {"authorization": f"Bearer {await limited.key(scopes=['read'])}"}
    assert (await ask(limited, [text], reader)).status == 403
    narrow = {"authorization": f"Bearer {await limited.key(models=['mock/mock-small'])}"}
    queries = [text, {"prompt": text, "model": "mock/mock-small"}]
    results, _ = told(await ask(limited, queries, narrow))
    assert [one["status"] for one in results] == [403, 200]


async def test_one_beside_a_batch_is_answered_before_it(gateway, upstream, text):
    upstream.script("latency_ms=60000", times=32)
    asking = asyncio.create_task(ask(gateway, [f"{number} {text}" for number in range(300)]))
    await until(lambda: upstream.count >= 32)
    for number in range(5):
        assert (await gateway.ask(chat(f"{number} beside {text}"))).status == 200
    assert not asking.done()
    upstream.script("latency_ms=20", times=300)
    upstream.go_on()
    assert told(await asking)[1]["answered"] == 300
    assert most_at_once(upstream) <= 33, "32 of the batch and one beside it"


async def test_a_batch_of_hits_lets_others_in_between(gateway, upstream, text):
    """A thousand answers that are there once the first is wait for nothing: the loop is still let go after each."""
    upstream.script("latency_ms=300")
    ended = gateway.metric(TOGETHER % 200)
    async with (
        asyncio.timeout(PATIENCE),
        gateway.session.post(BATCH, json={"queries": [text] * MANY, "stream": True}) as response,
    ):
        await response.content.readline()
        assert (await gateway.get("/livez")).status == 200
        assert gateway.metric(TOGETHER % 200) == ended, "the batch goes on"
        rest = (await response.read()).splitlines()
    assert len(rest) == MANY
    assert upstream.count == 1


async def test_who_leaves_lets_all_providers_go(gateway, upstream, text):
    await until(lambda: gateway.places() == 0)
    tasks, left = running_tasks(), gateway.metric(SINGLE % 499)
    upstream.script("latency_ms=60000", times=100)
    wire = await gateway.connect()
    wire.send(post({"queries": [f"{number} {text}" for number in range(100)]}, BATCH))
    await until(lambda: upstream.count == 32)
    start = time.monotonic()
    await wire.close()
    await upstream.settle()
    assert max(call.closed_by_peer_at for call in upstream.calls) - start < SOON
    await until(lambda: gateway.places() == 0 and not running_tasks() - tasks)
    assert upstream.count == 32, "no other was begun"
    assert gateway.metric(SINGLE % 499) == left + 32
    assert gateway.metric(TOGETHER % 499) >= 1


async def test_a_slow_reader_makes_the_batch_wait(gateway, upstream, text):
    """What the kernel takes goes out; beyond that each of the 32 holds an answer, and none is asked for."""
    upstream.script("huge=400000", times=150)
    queries = [f"{number} {text}" for number in range(150)]
    async with asyncio.timeout(PATIENCE), gateway.session.post(BATCH, json={"queries": queries, "stream": True}) as response:
        await until(lambda: upstream.count >= 33)
        seen = 0
        while seen != upstream.count:  # until nothing more is asked
            seen = upstream.count
            await asyncio.sleep(0.5)
        assert seen < 100, "what nobody reads is not asked for"
        body = await response.read()
    results, summary = lines(body)
    assert (len(results), summary["answered"], upstream.count) == (150, 150, 150)


async def test_answers_that_are_too_long_together_are_asked_for_as_a_stream(gateway, upstream, text):
    upstream.script("huge=3000000", times=40)
    prompts = [f"{number} {text}" for number in range(13)]
    answer = await ask(gateway, prompts)
    assert answer.status == 422, answer.body[:200]
    assert answer.json["errors"][0]["loc"] == ["body", "stream"]
    async with asyncio.timeout(PATIENCE), gateway.session.post(BATCH, json={"queries": prompts, "stream": True}) as response:
        assert len((await response.read()).splitlines()) == 14


async def test_a_full_gateway_says_so_to_the_batch_and_to_each_query(chaos, upstream, tmp_path, text):
    environ = {"SENTINEL_BATCH__IN_FLIGHT": "1", "SENTINEL_SERVER__MAX_IN_FLIGHT": "2", "SENTINEL_SERVER__QUEUE": "0"}
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\n"
    async with running_gateway(tmp_path, environ=environ, config=config) as gateway:
        upstream.script("latency_ms=60000", times=2)
        alone = asyncio.create_task(gateway.ask(chat(text)))
        await until(lambda: upstream.count == 1)
        asking = asyncio.create_task(ask(gateway, [f"{number} {text}" for number in range(3)]))
        await until(lambda: upstream.count == 2)
        refused = await ask(gateway, [text])
        assert (refused.status, refused.json["code"]) == (503, "server_is_overloaded")
        assert "retry-after" in refused.headers
        upstream.go_on()
        assert told(await asking)[1]["answered"] == 3, "what one of the batch holds, the next waits for"
        assert gateway.metric(SINGLE % 503) == 2
        assert (await alone).status == 200
        upstream.script("latency_ms=60000", times=2)
        others = [asyncio.create_task(gateway.ask(chat(f"{number} again {text}"))) for number in range(2)]
        await until(lambda: upstream.count == 6)
        results, _ = told(await ask(gateway, [f"{number} refused {text}" for number in range(3)]))
        assert [(one["status"], one["retry_after"] > 0) for one in results] == [(503, True)] * 3
        upstream.go_on()
        await asyncio.gather(*others)


@pytest.fixture
async def strained(chaos, tmp_path):
    """A gateway that has too much to do, and asks for little patience. It works on four queries of a batch at once."""
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\nbatch: {{concurrency: 4}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        gateway.process.admission._chance = lambda: -0.495  # noqa: SLF001 - a hundredth of a second
        strain = gateway.process.strain
        strain.is_strained, strain._took = True, 1.0  # noqa: SLF001 - as if turns had taken long
        yield gateway


async def test_a_moment_with_too_much_to_do_makes_no_batch_narrow(strained, upstream, text):
    upstream.script("latency_ms=60000", times=4)
    asking = asyncio.create_task(ask(strained, [f"{number} {text}" for number in range(8)]))
    await until(lambda: strained.metric(SINGLE % 503) >= 4)
    assert upstream.count == 0
    strained.process.strain.is_strained = False
    await until(lambda: upstream.count == 4)
    asking.cancel()
    await until(lambda: strained.places() == 0)
    await upstream.settle()


async def test_a_batch_waits_for_a_while_until_there_is_less_to_do(strained, upstream, text):
    results, _ = told(await ask(strained, [f"{number} {text}" for number in range(4)]))
    assert [(one["status"], one["problem"]["code"]) for one in results] == [(503, "server_is_overloaded")] * 4
    assert strained.metric(SINGLE % 503) == 4 * (1 + AGAIN)
    assert upstream.count == 0
    strained.process.strain.is_strained = False
    assert told(await ask(strained, [text]))[1]["answered"] == 1


async def test_more_at_once_than_the_configuration_says_are_not_asked(chaos, upstream, tmp_path, text):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\nbatch: {{queries: 12, concurrency: 3}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        upstream.script("latency_ms=60000", times=3)
        upstream.script("latency_ms=60", times=20)
        asking = asyncio.create_task(ask(gateway, [f"{number} {text}" for number in range(12)]))
        await until(lambda: upstream.count == 3)
        upstream.go_on()
        assert told(await asking)[1]["answered"] == 12
        assert most_at_once(upstream) == 3
        assert (await ask(gateway, [text] * 13)).status == 422


# --- once, under a key ---


async def test_the_same_batch_under_an_idempotency_key_is_done_once(gateway, upstream, text):
    headers = {"idempotency-key": "k" * 255, "x-bypass-cache": "true"}
    upstream.script("err=500")
    queries = [text, f"b {text}", text]
    first, _ = told(await ask(gateway, queries, headers))
    assert sorted(one["status"] for one in first) == [200, 200, 502]
    again, summary = told(await ask(gateway, queries, headers))
    assert upstream.count == 4, "what had failed is asked again, and nothing else"
    assert (summary["repeated"], summary["misses"], summary["upstream_calls"]) == (2, 1, 1)
    for one, other in zip(first, again, strict=True):
        if one["status"] == 200:
            assert one["answer"] | {"latency_ms": 0} == other["answer"] | {"latency_ms": 0}
    changed, _ = told(await ask(gateway, ["changed", *queries[1:]], headers))
    assert [(one["status"], one.get("problem", {}).get("code")) for one in changed] == [
        (422, "idempotency_key_reused"),
        (200, None),
        (200, None),
    ]


async def test_who_does_not_read_the_whole_is_no_fault_of_ours(gateway, upstream, text):
    """A stream that is left in the middle: what is under way ends, and the rest is not begun."""
    upstream.script("latency_ms=60000", times=200)
    async with aiohttp.ClientSession(gateway.base_url) as session:
        queries = [f"{number} {text}" for number in range(200)]
        asking = asyncio.create_task(session.post(BATCH, json={"queries": queries, "stream": True}))
        await until(lambda: upstream.count == 32)
        upstream.go_on()
        response = await asking
        await response.content.readline()
        response.close()
    await until(lambda: gateway.places() == 0)
    await upstream.settle()
    assert upstream.count < 200


def test_a_stream_of_which_nothing_more_comes_says_why():
    said = json.loads(_broken(InternalError("The gateway failed on this request.")))
    assert (said.keys(), said["problem"]["status"]) == ({"problem"}, 500)


# --- written down ---


async def test_each_query_is_a_row_of_the_ledger_and_the_batch_is_none(chaos, upstream, tmp_path, text):
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\n"
    upstream.script("err=500", to=f"a {text}")
    async with running_gateway(tmp_path, config=config) as gateway:
        headers = {"x-request-id": "order-4711"}
        told(await ask(gateway, [f"a {text}", f"a {text}", "", f"b {text}", f"b {text}"], headers))
    export = [sys.executable, "-m", "sentinel_gateway", "ledger", "export", "--format", "jsonl", "--table"]
    env = os.environ | {"HOME": str(tmp_path), "SENTINEL_DATA_DIR": str(tmp_path / "data")}
    rows = {}
    for table in ("requests", "attempts"):
        done = await asyncio.to_thread(subprocess.run, [*export, table], env=env, capture_output=True, check=True)
        rows[table] = [json.loads(line) for line in done.stdout.splitlines()]
    told_of = {row["request_id"]: (row["route"], row["status"], row["outcome"], row["attempts"]) for row in rows["requests"]}
    assert told_of == {
        "order-4711-0": (QUERY, 502, "miss", 1),
        "order-4711-1": (QUERY, 502, "miss", 0),
        "order-4711-3": (QUERY, 200, "miss", 1),
        "order-4711-4": (QUERY, 200, "exact", 0),
    }, "what can't be understood leaves no row, as ever"
    assert sorted(row["ending"] for row in rows["attempts"]) == ["answered", "broken"]


async def test_rewordings_are_answered_once_with_redis_as_well(chaos, upstream, redis8, tmp_path):
    redis8.flush()
    config = f"{one_provider(chaos.base_url)}routing: {{default: mock/mock-model}}\n"
    environ = {"REDIS_URL": redis8.url, **PATIENT}
    upstream.script("latency_ms=200", times=4)
    async with running_gateway(tmp_path, config=config, environ=environ, semantic=True, alone=False) as gateway:
        prompts = ["How do I reset my password?", "How can I reset my password?", "How do I not reset my password?"]
        results, _ = told(await ask(gateway, prompts))
    assert [one["answer"]["matched_prompt"] for one in results] == [None, prompts[0], None]
    assert upstream.count == 2
