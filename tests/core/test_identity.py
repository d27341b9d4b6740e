"""When are two requests the same? C1: everything that can change the answer changes the key, and nothing else does."""

import hashlib
import itertools
from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.core.identity import LEFT_OUT, SAME_AS_ABSENT, VERSION, exact_key
from tests.core.requests import CHANGES, DEFAULTS, NOT_PART, RESPELLINGS, Ask, ask, change_a_value, places

REQUESTS = 2_000
PAIRS = 100_000
CHANGED = 30
"""Of the pairs of each request; the others are respellings."""

MESSAGES = [{"role": "user", "content": "Hi"}]
BASE: dict[str, Any] = {"model": "m", "messages": MESSAGES}


def key(fields: dict[str, Any] | None = None, *, scope: dict[str, Any] | None = None, **more: Any) -> str:
    fixed = {"face": "chat", "targets": ("groq/llama",), "tenant": "", "namespace": ""}
    return exact_key({**(BASE if fields is None else fields), **more}, **{**fixed, **(scope or {})})


# -- the algebra, with much chance


def changed(rng: Random, base: Ask, key: str) -> str:
    """The key of a request that differs; the name of the change."""
    change = rng.choice(CHANGES)
    other = change(rng, base)
    if other is not None:
        assert other.key != key, f"{change.__name__}\n{base}\n{other}"
    return change.__name__ if other is not None else "nothing to change"


def respelled(rng: Random, base: Ask, key: str) -> list[str]:
    other, done = base, rng.sample(RESPELLINGS, rng.randint(1, 3))
    for respell in done:
        other = respell(rng, other)
    assert other.key == key, f"{[respell.__name__ for respell in done]}\n{base}\n{other}"
    return [respell.__name__ for respell in done]


def test_100_000_pairs():
    rng, seen, pairs = Random(20), Counter(), 0
    for _ in range(REQUESTS):
        base = ask(rng)
        base_key = base.key
        for turn in range(PAIRS // REQUESTS):
            if turn < CHANGED:
                seen[changed(rng, base, base_key)] += 1
            else:
                seen.update(respelled(rng, base, base_key))
            pairs += 1
    assert pairs == PAIRS
    assert seen.pop("nothing to change") < PAIRS / 50
    assert set(seen) == {function.__name__ for function in (*CHANGES, *RESPELLINGS)}
    assert min(seen.values()) > PAIRS / 50


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_the_same_pairs_where_they_can_be_made_small(rng):
    base = ask(rng)
    changed(rng, base, base.key)
    respelled(rng, base, base.key)


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_all_changes_of_one_request_are_told_apart(rng):
    """Not only from the request that they were made from."""
    base = ask(rng)
    variants = {other.key: other for other in (change_a_value(rng, base) for _ in range(50)) if other is not None}
    meant = {(msgspec.json.encode(other.fields, order="sorted"), other.key) for other in variants.values()}
    assert len(meant) == len(variants)
    assert base.key not in variants


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_an_unknown_field_takes_part_with_its_whole_value(one, other):
    written = [msgspec.json.encode(value, order="sorted") for value in (one, other)]
    if written[0] != written[1] and one != other:
        assert key(unknown=one) != key(unknown=other)
    assert key(unknown=one) == key(unknown=msgspec.json.decode(written[0]))
    assert (key(unknown=one) == key()) is (one is None)


# -- field by field, as decided


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,a"}}
CAN_CHANGE_THE_ANSWER: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "Hi"}]},
    {"messages": [{"role": "user", "content": "Hi "}]},
    {"messages": [{"role": "user", "content": "hi"}]},
    {"messages": [{"role": "user", "content": "Hi", "name": "Ann"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, IMAGE]}]},
    {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "Hi"}]}]},
    {"messages": [{"role": "user", "content": [{**IMAGE, "image_url": {"url": "data:,b"}}]}]},
    {"messages": [*MESSAGES, *MESSAGES]},
    {"messages": [{"role": "system", "content": ""}, *MESSAGES]},
    {"messages": [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    {"messages": [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "2"}]}]},
    {"messages": [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "2"}]}]},
    {"messages": [*MESSAGES, {"role": "tool", "tool_call_id": "1", "content": "x"}]},
    {"tools": [TOOL]},
    {"tools": [TOOL, TOOL]},
    {"tools": [{**TOOL, "function": {**TOOL["function"], "strict": True}}]},
    {"tool_choice": "auto"},
    {"tool_choice": "none"},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}},
    {"parallel_tool_calls": True},
    {"parallel_tool_calls": False},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}},
    {"temperature": 0},
    {"temperature": 1},
    {"top_p": 1},
    {"top_p": 0.5},
    {"seed": 0},
    {"seed": 1},
    {"stop": []},
    {"stop": "x"},
    {"stop": ["x"]},
    {"stop": ["x", "y"]},
    {"stop": ["y", "x"]},
    {"n": 2},
    {"max_tokens": 1},
    {"max_tokens": 2},
    {"max_tokens": 2, "max_completion_tokens": 1},
    {"max_tokens": 1, "max_completion_tokens": 2},
    {"logprobs": True},
    {"top_logprobs": 0},
    {"logit_bias": {"1": 1}},
    {"logit_bias": {"1": -1}},
    {"presence_penalty": 0.1},
    {"frequency_penalty": 0.1},
    {"modalities": ["text"]},
    {"modalities": ["text", "audio"]},
    {"audio": {"voice": "a", "format": "wav"}},
    {"reasoning_effort": "low"},
    {"reasoning_effort": "high"},
    {"verbosity": "low"},
    {"prediction": {"type": "content", "content": ""}},
    {"web_search_options": {}},
    {"unknown": False},
    {"unknown": 0},
    {"unknown": ""},
    {"unknown": "0"},
    {"unknown": []},
    {"unknown": {}},
    {"unknown": {"a": [1, 2]}},
    {"unknown": {"a": [2, 1]}},
    {"unknown": {"a": {"b": None}}},
    {"unknown": {"a": {}}},
    {"Temperature": 0},
    {"users": "x"},
    {"temperature ": 0},
]


def test_whatever_can_change_the_answer_has_a_key_of_its_own():
    keys = {key(): "the bare request"}
    for fields in CAN_CHANGE_THE_ANSWER:
        assert keys.setdefault(key(**fields), repr(fields)) == repr(fields)
    assert len(keys) == len(CAN_CHANGE_THE_ANSWER) + 1


@pytest.mark.parametrize("name", NOT_PART)
@pytest.mark.parametrize("value", [True, "x", {"a": [1]}, None])
def test_what_cannot_change_the_answer_is_left_out(name, value):
    assert key(**{name: value}) == key()


def test_the_lists_are_closed():
    assert {*NOT_PART, "model"} == LEFT_OUT
    assert SAME_AS_ABSENT == DEFAULTS
    assert all(type(SAME_AS_ABSENT[name]) is type(value) for name, value in DEFAULTS.items())


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"n": 1.0},
        {"logprobs": False},
        {"presence_penalty": 0},
        {"presence_penalty": 0.0},
        {"frequency_penalty": -0.0},
        {"logit_bias": {}},
        {"tools": []},
        {"stream": False},
        {"temperature": None, "messages": MESSAGES, "unknown": None, "tools": None, "max_tokens": None},
    ],
)
def test_a_default_spelled_out_equals_absence(fields):
    assert key(**fields) == key()


@pytest.mark.parametrize(
    "fields",
    [
        {"n": True},
        {"logprobs": 0},
        {"presence_penalty": False},
        {"logit_bias": []},
        {"tools": {}},
        {"tools": ""},
        {"temperature": 1},
        {"top_p": 1},
        {"tool_choice": "auto"},
        {"stop": []},
        {"modalities": ["text"]},
        {"response_format": {"type": "text"}},
    ],
)
def test_nothing_else_equals_absence(fields):
    assert key(**fields) != key()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"seed": -0.0}, {"seed": 0}),
        ({"top_p": 1.0}, {"top_p": 1}),
        ({"seed": 2.0**52}, {"seed": 2**52}),
        ({"max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"max_tokens": 5}, {"max_tokens": 5.0, "max_completion_tokens": 5}),
        ({"max_tokens": None, "max_completion_tokens": 5}, {"max_tokens": 5, "max_completion_tokens": None}),
    ],
)
def test_two_spellings_of_one_thing(one, other):
    assert key(**one) == key(**other)
    assert key(**one) != key()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"seed": 2**53}, {"seed": 2**53 + 1}),
        ({"seed": 2.0**53}, {"seed": 2**53}),  # from here on a double stands for several whole numbers
        ({"seed": 2.0**53}, {"seed": 2**53 + 1}),
        ({"seed": 1}, {"seed": True}),
        ({"seed": 1}, {"seed": "1"}),
        ({"temperature": 0.1}, {"temperature": 0.1000000001}),
        ({"unknown": 10**30}, {"unknown": 10**30 + 1}),
        ({"max_tokens": 5}, {"max_completion_tokens": 6}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_completion_tokens": 6}),
    ],
)
def test_two_things_that_look_alike(one, other):
    assert key(**one) != key(**other)


@pytest.mark.parametrize("length", [1_000, 100_000, 3_000_000])
def test_the_last_letter_of_a_long_prompt_counts(length):
    prompts = ["x" * length + last for last in "abc"]
    assert len({key(messages=[{"role": "user", "content": prompt}]) for prompt in prompts}) == len(prompts)


def test_the_request_is_not_changed():
    base = ask(Random(3))
    before = msgspec.json.encode(base.fields)
    _ = base.key
    assert msgspec.json.encode(base.fields) == before


def test_generated_requests_reach_every_field():
    """The volume is worth nothing if its requests are poor."""
    rng, reached = Random(20), Counter()
    for _ in range(200):
        reached.update({str(place[0]) for place, _ in places(ask(rng).fields)})
    assert reached.keys() >= {name for fields in CAN_CHANGE_THE_ANSWER for name in fields} - {
        "verbosity",
        "web_search_options",
        "unknown",
        "Temperature",
        "users",
        "temperature ",
    }


# -- scope


NASTY = [
    "",
    ":",
    ",",
    "*",
    "{}",
    "{",
    "a",
    "a:",
    ":a",
    "a,",
    "a:b",
    "1:a,",
    "0:,",
    "4:chat,",
    "17:sentinel:cache:v1,",
    "chat",
    "é",
    "e\u0301",
    "漢字",
    "🙂",
    "\0",
    "a\nb",
    "x" * 1024,
    "x" * 1023,
    "x" * 1024 + ":",
    "é" * 512,
]


def test_no_tenant_namespace_and_model_run_into_each_other():
    keys = {
        key(scope={"tenant": tenant, "namespace": namespace, "targets": (model,)})
        for tenant, namespace, model in itertools.product(NASTY, repeat=3)
    }
    assert len(keys) == len(NASTY) ** 3


@settings(max_examples=500)
@given(*[st.tuples(st.text("1:,a{0", max_size=4), st.text("1:,a{0", max_size=4), st.lists(st.text("1:,a{0", max_size=3)))] * 2)
def test_scopes_are_equal_only_if_every_part_is(one, other):
    keys = [key(scope={"tenant": t, "namespace": n, "targets": models}) for t, n, models in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"tenant": "ab", "namespace": "c"}, {"tenant": "a", "namespace": "bc"}),
        ({"tenant": "a", "namespace": ""}, {"tenant": "", "namespace": "a"}),
        ({"namespace": "a", "targets": ("b",)}, {"namespace": "", "targets": ("a", "b")}),
        ({"targets": ("a/b", "c/d")}, {"targets": ("c/d", "a/b")}),
        ({"targets": ("a/b", "c/d")}, {"targets": ("a/b",)}),
        ({"targets": ("a/b", "c/d")}, {"targets": ("a/b,c/d",)}),
        ({"targets": ("a/b", "3:c/d,")}, {"targets": ("a/b", "3:c/d", "")}),
        ({"face": "chat", "tenant": ""}, {"face": "", "tenant": "chat"}),
    ],
)
def test_what_stands_at_an_edge(one, other):
    assert key(scope=one) != key(scope=other)


# -- the derivation itself


RICH = {
    "model": "fast",
    "messages": [{"role": "system", "content": "é🙂"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}, IMAGE]}],
    "tools": [TOOL],
    "tool_choice": "auto",
    "temperature": 0.7,
    "seed": 2**64,
    "logit_bias": {"50256": -100, "1": 0.5},
    "unknown": {"b": [1.0, None], "a": True},
    "user": "ann",
}
GOLDEN = [
    (BASE, {}, "786a7c0de6316d2e076e5ee6372aadd4282e1640314fa39b9328463bf33693a1"),
    (RICH, {}, "f1c9d9012d733d3688e2396945cd21ad14fd8480c38f029511fea9726118b163"),
    (
        RICH,
        {"tenant": "t", "namespace": "n", "targets": ("groq/llama", "local/q")},
        "403281251f3ecbe1ca5d4d10ba9709c7e4e5fd5ba80984660103f0109c8525c1",
    ),
]


@pytest.mark.parametrize(("fields", "scope", "digest"), GOLDEN)
def test_golden_digests(fields, scope, digest):
    """Other digests are another VERSION: docs/decisions/003."""
    assert key(fields, scope=scope) == digest
    assert VERSION == b"sentinel:cache:v1"


def test_the_derivation_in_full():
    fields = {"stream": True, "temperature": 0.5, "messages": MESSAGES, "model": "alias", "max_tokens": 7, "n": 1, "stop": None}
    written = (
        "17:sentinel:cache:v1,4:chat,3:tä,0:,10:groq/llama,7:local/q,"
        '{"max_completion_tokens":7,"messages":[{"content":"Hi","role":"user"}],"temperature":0.5}'
    )
    scope = {"tenant": "tä", "targets": ("groq/llama", "local/q")}
    assert key(fields, scope=scope) == hashlib.sha256(written.encode()).hexdigest()
