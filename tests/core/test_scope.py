"""When do two requests differ in nothing but the wording of a question? Everything else must be the same, exactly."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest

from sentinel_gateway.core.identity import MAX_CHARACTERS, Question, question
from tests.core.requests import CHANGES, RESPELLINGS, Ask, ask, message, text

PAIRS = 10_000
ASKED = "What is the capital of France?"
BASE: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": ASKED}]}
FIXED: dict[str, Any] = {"face": "chat", "targets": ("groq/llama",), "tenant": "", "namespace": ""}


def of(fields: dict[str, Any] | None = None, *, within: dict[str, Any] | None = None, **more: Any) -> Any:
    return question({**(BASE if fields is None else fields), **more}, **{**FIXED, **(within or {})})


def scope(fields: dict[str, Any] | None = None, **more: Any) -> str:
    asked = of(fields, **more)
    assert isinstance(asked, Question), asked
    return asked.scope


def said(*turns: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(turns)]


# -- against the exact key, with much chance


class Typed(msgspec.Struct):
    """What a request is checked for before anything compares it."""

    class Message(msgspec.Struct):
        role: str
        content: str | list[dict[str, Any]] | None = None

    messages: list[Message]
    temperature: float | None = None
    seed: int | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None


def is_sound(made: Ask) -> bool:
    try:
        return bool(msgspec.convert(made.fields, Typed).messages)
    except msgspec.ValidationError:
        return False


def read(made: Ask) -> Any:
    return question(made.fields, face=made.face, targets=made.targets, tenant=made.tenant, namespace=made.namespace)


def reduced(made: Ask) -> str:
    """The exact key of a request without what a scope leaves out."""
    fields = {name: value for name, value in made.fields.items() if name not in {"seed", "max_tokens", "max_completion_tokens"}}
    if (temperature := fields.get("temperature")) is not None:
        fields["temperature"] = 0.3 if temperature <= 0.3 else 0.7 if temperature <= 0.7 else 2
    *earlier, last = fields["messages"]
    if isinstance(last["content"], list):
        last = {**last, "content": "\n".join(part["text"] for part in last["content"])}
    return replace(made, fields={**fields, "messages": [*earlier, last]}).key


def speaking(rng: Random) -> Ask:
    """A request that is compared by meaning."""
    while True:
        made = ask(rng)
        words = text(rng) + "x"
        content: Any = words if rng.random() < 0.7 else [{"type": "text", "text": words}]
        fields = {name: value for name, value in made.fields.items() if name not in {"n", "logprobs", "top_logprobs", "audio"}}
        fields["messages"] = [*(message(rng) for _ in range(rng.randint(0, 2))), {"role": "user", "content": content}]
        made = replace(made, fields={**fields, "modalities": ["text"]})
        if isinstance(read(made), Question):
            return made


def reword(rng: Random, base: Ask) -> Ask:
    *earlier, last = base.fields["messages"]
    return replace(base, fields={**base.fields, "messages": [*earlier, {**last, "content": "y" + text(rng)}]})


def test_a_scope_and_a_text_are_the_exact_key_without_what_is_left_out():
    rng, seen = Random(7), Counter()
    for _ in range(PAIRS):
        base = speaking(rng)
        other = rng.choice([*CHANGES, *RESPELLINGS, reword])(rng, base)
        if other is None or not is_sound(other) or not isinstance(asked := read(other), Question):
            seen["no question"] += 1
            continue
        assert (read(base) == asked) == (reduced(base) == reduced(other)), f"{base}\n{other}"
        seen["same" if read(base) == asked else "same scope" if read(base).scope == asked.scope else "other scope"] += 1
    assert min(seen.values()) > PAIRS / 50
    assert set(seen) == {"no question", "same", "same scope", "other scope"}


# -- line by line


def test_only_the_wording_of_the_last_turn_is_no_part_of_a_scope():
    assert scope() == scope(messages=said("Something else altogether."))
    assert of() == Question(scope(), ASKED)
    assert scope(messages=said("a", "b", "c")) == scope(messages=said("a", "b", "d"))
    for other in (said("a", "b!", "c"), said("a!", "b", "c"), said("c"), [{"role": "system", "content": "s"}, *said("c")]):
        assert scope(messages=other) != scope(messages=said("a", "b", "c"))


def test_who_speaks_is_part_of_it():
    assert scope(messages=[{"role": "user", "content": "a", "name": "eve"}]) != scope()


@pytest.mark.parametrize(
    "left_out", [{"seed": 7}, {"max_tokens": 5}, {"max_completion_tokens": 5}, {"user": "u"}, {"stream": True}]
)
def test_what_is_left_out(left_out):
    assert scope(**left_out) == scope()


@pytest.mark.parametrize("differs", [{"stop": "x"}, {"top_p": 0.5}, {"tools": [{"type": "function"}]}, {"unheard_of": 1}])
def test_everything_else_counts(differs):
    assert scope(**differs) != scope()


@pytest.mark.parametrize("part", [{"face": "query"}, {"targets": ("a/b",)}, {"tenant": "t"}, {"namespace": "n"}])
def test_whose_it_is_counts(part):
    assert scope(within=part) != scope()


@pytest.mark.parametrize("same", [(0, 0.0, 0.3), (0.31, 0.5, 0.7), (0.71, 1, 2), (None,)])
def test_temperatures_are_classes(same):
    classes = [(0, 0.3), (0.5,), (1.0,), (None,)]
    assert len({scope(temperature=temperature) for temperature in same}) == 1
    assert len({scope(temperature=values[0]) for values in classes}) == len(classes)


def test_a_text_may_come_in_parts():
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "it?"}]
    assert of(messages=[{"role": "user", "content": parts}]) == Question(scope(), "What is\nit?")


IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"n": 2}, "choices"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "media"),
        ({"audio": {"voice": "v"}}, "media"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}]}, "media"),
        ({"messages": [{"role": "user", "content": [IMAGE]}, *said("a")]}, "media"),
        ({"messages": [*said("a"), {"role": "assistant", "content": "b"}]}, "last-turn"),
        ({"messages": [*said("a"), {"role": "tool", "tool_call_id": "c", "content": "b"}]}, "last-turn"),
        ({"messages": [{"role": "system", "content": "a"}]}, "last-turn"),
        ({"messages": [{"role": "user", "content": None}]}, "last-turn"),
        ({"messages": [{"role": "user", "content": []}]}, "last-turn"),
        ({"messages": said(" \n")}, "last-turn"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]}, "last-turn"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "last-turn"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": 7}]}]}, "last-turn"),
        ({"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "a"}]}]}, "last-turn"),
        ({"messages": said("x" * (MAX_CHARACTERS + 1))}, "long"),
        ({"messages": said("프랑스의 수도는 어디인가요?")}, "language"),
    ],
)
def test_what_is_compared_with_no_other_wording(fields, why):
    assert of(**fields) == why


def test_the_longest_text_and_spoken_media_types_pass():
    assert isinstance(of(messages=said("x" * MAX_CHARACTERS)), Question)
    assert isinstance(of(modalities=["text"]), Question)
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    assert isinstance(of(messages=[*said("a"), refused, *said("b")]), Question)
