"""Chat requests made from chance, changes that must give another key, and respellings that must not.

All chance comes from a `random.Random`: a seeded one gives volume, hypothesis' own one shrinks what it finds.
"""

import json
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.identity import exact_key

NOT_PART = (
    "user",
    "metadata",
    "store",
    "stream",
    "stream_options",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
)
DEFAULTS: dict[str, Any] = {
    "n": 1,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "tools": [],
}
LIMITS = ("max_tokens", "max_completion_tokens")
LETTERS = string.ascii_letters + ' {}[]:,"\\\n0159äß漢🙂é'


@dataclass(frozen=True)
class Ask:
    """A request with everything that its key is made of."""

    fields: Fields
    face: str = "chat"
    targets: tuple[str, ...] = ("openai/gpt",)
    tenant: str = ""
    namespace: str = ""

    @property
    def key(self) -> str:
        return exact_key(self.fields, face=self.face, targets=self.targets, tenant=self.tenant, namespace=self.namespace)


# -- requests


def text(rng: Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(0, 12)))


def number(rng: Random) -> float:
    return rng.choice([0, 1, 2, -1, 7, 0.5, 1.0, -0.25, 100, 2**53, 2**70])


def anything(rng: Random, depth: int = 2) -> Any:
    """JSON of any kind."""
    kind = rng.randint(0, 6 if depth else 4)
    match kind:
        case 0:
            return None
        case 1:
            return rng.random() < 0.5
        case 2:
            return number(rng)
        case 3 | 4:
            return text(rng)
        case 5:
            return [anything(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    return {text(rng): anything(rng, depth - 1) for _ in range(rng.randint(0, 3))}


def something(rng: Random) -> Any:
    """JSON that is no null."""
    return anything(rng) or text(rng) + "x"


def part(rng: Random) -> Fields:
    return rng.choice(
        [
            {"type": "text", "text": text(rng)},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + text(rng), "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": text(rng), "format": "wav"}},
            {"type": "file", "file": {"file_id": text(rng)}},
        ]
    )


def call(rng: Random) -> Fields:
    return {"id": text(rng), "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": number(rng)})}}


def message(rng: Random) -> Fields:
    made: Fields = rng.choice(
        [
            {"role": "system", "content": text(rng)},
            {"role": "developer", "content": text(rng)},
            {"role": "user", "content": text(rng), "name": text(rng)},
            {"role": "user", "content": [part(rng) for _ in range(rng.randint(1, 3))]},
            {"role": "assistant", "content": None, "tool_calls": [call(rng) for _ in range(rng.randint(1, 2))]},
            {"role": "assistant", "content": text(rng), "reasoning_content": text(rng), "refusal": None},
            {"role": "tool", "tool_call_id": text(rng), "content": text(rng)},
        ]
    )
    return made


def tool(rng: Random) -> Fields:
    schema = {"type": "object", "properties": {text(rng): {"type": "integer", "minimum": number(rng)}}, "required": []}
    return {"type": "function", "function": {"name": text(rng), "parameters": schema, "strict": rng.random() < 0.5}}


OPTIONAL: dict[str, Callable[[Random], Any]] = {
    "temperature": lambda rng: rng.choice([0, 0.0, 0.7, 1, 1.0, 2]),
    "top_p": lambda rng: rng.choice([0.1, 1, 1.0]),
    "n": lambda rng: rng.randint(1, 3),
    "seed": lambda rng: rng.choice([0, 1, -5, 2**40]),
    "stop": lambda rng: rng.choice([text(rng), [text(rng), text(rng)]]),
    "max_tokens": lambda rng: rng.randint(1, 3),
    "max_completion_tokens": lambda rng: rng.randint(1, 3),
    "presence_penalty": lambda rng: rng.choice([0, 0.0, 0.5, -1]),
    "frequency_penalty": lambda rng: rng.choice([0, 0.0, 0.5, -1]),
    "logit_bias": lambda rng: rng.choice([{}, {"50256": -100}, {"1": 1, "2": 0.5}]),
    "logprobs": lambda rng: rng.random() < 0.5,
    "top_logprobs": lambda rng: rng.randint(0, 5),
    "tools": lambda rng: [tool(rng) for _ in range(rng.randint(0, 2))],
    "tool_choice": lambda rng: rng.choice(["auto", "none", {"type": "function", "function": {"name": text(rng)}}]),
    "parallel_tool_calls": lambda rng: rng.random() < 0.5,
    "response_format": lambda rng: rng.choice([{"type": "json_object"}, {"type": "json_schema", "json_schema": tool(rng)}]),
    "modalities": lambda rng: rng.choice([["text"], ["text", "audio"]]),
    "audio": lambda rng: {"voice": text(rng), "format": "wav"},
    "reasoning_effort": lambda rng: rng.choice(["low", "high"]),
    "prediction": lambda rng: {"type": "content", "content": text(rng)},
    "next_months_parameter": anything,
    "N": anything,  # not `n`
}


def ask(rng: Random) -> Ask:
    """A request with some of the optional fields, some that take no part, and a scope."""
    fields = {"model": "m", "messages": [message(rng) for _ in range(rng.randint(1, 4))]}
    for name, make in OPTIONAL.items():
        if rng.random() < 0.4:
            fields[name] = make(rng)
    for name in NOT_PART:
        if rng.random() < 0.2:
            fields[name] = anything(rng)
    targets = tuple(f"{rng.choice(['groq', 'openai'])}/{text(rng)}" for _ in range(rng.randint(1, 2)))
    return Ask(fields, rng.choice(["chat", "query"]), targets, text(rng), text(rng))


# -- changes: each gives a different request, or None where there is nothing to change


Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every node that takes part, with its path."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        if place or name not in {"model", *NOT_PART}:
            yield (*place, name), member
            yield from places(member, (*place, name))


def put(tree: Any, place: Place, value: Any) -> Any:
    """The tree with another value at a place; nothing else is copied."""
    if not place:
        return value
    copied = tree.copy()
    copied[place[0]] = put(tree[place[0]], place[1:], value)
    return copied


def changed_value(rng: Random, value: Any) -> Any:
    """Another value: of the same type, or only looking the same."""
    match value:
        case None:
            return text(rng) + "x"
        case bool():
            return rng.choice([not value, int(value), str(value)])
        case int() | float():
            return rng.choice([value + 1, value - 1, str(value), [value]])
        case str():
            return rng.choice([value + " ", value + "x", "x" + value, value.swapcase() + "x", [value]])
        case list():
            return _changed_list(rng, value)
    return _changed_dict(rng, value)


def _changed_list(rng: Random, items: list[Any]) -> Any:
    options: list[Any] = [[*items, text(rng)], [None, *items], [items]]
    if items:
        spot = rng.randrange(len(items))
        options += [items[:spot] + items[spot + 1 :], [*items[:spot], items[spot], *items[spot:]]]
    if items != items[::-1]:
        options += [items[::-1]] * 3
    return rng.choice(options)


def _changed_dict(rng: Random, members: Fields) -> Any:
    options: list[Any] = [{**members, text(rng) + "_new": anything(rng)}, [members]]
    if members:
        name = rng.choice(list(members))
        rest = {other: value for other, value in members.items() if other != name}
        options += [rest, {**rest, name + "_": members[name]}]
        other = rng.choice(list(members))
        if msgspec.json.encode(members[name]) != msgspec.json.encode(members[other]):
            options += [{**members, name: members[other], other: members[name]}] * 2
    return rng.choice(options)


def change_a_value(rng: Random, base: Ask) -> Ask | None:
    place, value = rng.choice(list(places(base.fields)))
    return replace(base, fields=put(base.fields, place, changed_value(rng, value)))


def add_a_field(rng: Random, base: Ask) -> Ask | None:
    name = rng.choice([name for name in (*OPTIONAL, "unknown", "Temperature", "users") if name not in base.fields])
    value = something(rng) if name not in DEFAULTS else rng.choice(["", "1", 2, 0.5, True, [None], {"a": 0}])
    if name in LIMITS and any(limit in base.fields for limit in LIMITS):
        return None
    return replace(base, fields={**base.fields, name: value})


def drop_a_field(rng: Random, base: Ask) -> Ask | None:
    droppable = [
        name
        for name, value in base.fields.items()
        if name not in {"model", *NOT_PART, *LIMITS} and value is not None and not is_default(name, value)
    ]
    name = rng.choice(droppable)
    return replace(base, fields={other: value for other, value in base.fields.items() if other != name})


def change_the_scope(rng: Random, base: Ask) -> Ask | None:
    more = text(rng) + "x"
    return rng.choice(
        [
            replace(base, tenant=base.tenant + more),
            replace(base, namespace=more + base.namespace),
            replace(base, face=base.face + more),
            replace(base, targets=(*base.targets, more)),
            replace(base, targets=(base.targets[0] + more, *base.targets[1:])),
            replace(base, targets=(*base.targets[1:], base.targets[0] + more)),
        ]
    )


CHANGES: tuple[Callable[[Random, Ask], Ask | None], ...] = (
    change_a_value,
    change_a_value,
    change_a_value,
    add_a_field,
    drop_a_field,
    change_the_scope,
)


# -- respellings: each gives the same request


def is_default(name: str, value: Any) -> bool:
    if name not in DEFAULTS:
        return False
    return value == DEFAULTS[name] and isinstance(value, bool) == isinstance(DEFAULTS[name], bool)


def reordered(rng: Random, value: Any) -> Any:
    """Other key order, at every depth."""
    if isinstance(value, list):
        return [reordered(rng, item) for item in value]
    if not isinstance(value, dict):
        return value
    members = list(value.items())
    rng.shuffle(members)
    return {name: reordered(rng, member) for name, member in members}


def reorder(rng: Random, base: Ask) -> Ask:
    return replace(base, fields=reordered(rng, base.fields))


def rewrite(rng: Random, base: Ask) -> Ask:
    """Other white space and escapes, read again."""
    indent, ascii_only = rng.choice([None, 0, 1, "\t"]), rng.random() < 0.5
    written = json.dumps(base.fields, indent=indent, ensure_ascii=ascii_only)
    return replace(base, fields=msgspec.json.decode(written))


def change_what_takes_no_part(rng: Random, base: Ask) -> Ask:
    fields = {name: value for name, value in base.fields.items() if name not in NOT_PART or rng.random() < 0.5}
    fields |= {name: anything(rng) for name in NOT_PART if rng.random() < 0.5}
    return replace(base, fields={**fields, "model": text(rng)})


def spell_out_defaults(rng: Random, base: Ask) -> Ask:
    fields = {name: value for name, value in base.fields.items() if not is_default(name, value) or rng.random() < 0.5}
    for name, value in DEFAULTS.items():
        if name not in fields and rng.random() < 0.7:
            fields[name] = float(value) if type(value) is int and rng.random() < 0.5 else value
    return replace(base, fields=fields)


def write_nulls(rng: Random, base: Ask) -> Ask:
    fields = {name: value for name, value in base.fields.items() if value is not None}
    absent = [name for name in (*OPTIONAL, "unknown", "other") if name not in fields]
    fields |= {name: None for name in absent if rng.random() < 0.5}
    return replace(base, fields=fields)


def respell_numbers(rng: Random, base: Ask) -> Ask:
    def respelled(value: Any) -> Any:
        if type(value) is int and abs(value) < 2**53:
            return float(value)
        return int(value) if type(value) is float and value.is_integer() else value

    return replace(base, fields={name: respelled(value) for name, value in base.fields.items()})


def rename_the_limit(rng: Random, base: Ask) -> Ask:
    """`max_tokens`, `max_completion_tokens`, or both with the same value."""
    limits = {base.fields[name] for name in LIMITS if base.fields.get(name) is not None}
    if len(limits) != 1:
        return base
    fields = {name: value for name, value in base.fields.items() if name not in LIMITS}
    for name in rng.choice([LIMITS, LIMITS[:1], LIMITS[1:]]):
        fields[name] = next(iter(limits))
    return replace(base, fields=fields)


RESPELLINGS: tuple[Callable[[Random, Ask], Ask], ...] = (
    reorder,
    rewrite,
    change_what_takes_no_part,
    spell_out_defaults,
    write_nulls,
    respell_numbers,
    rename_the_limit,
)
