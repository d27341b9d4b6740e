"""Chat bodies grown from the types that OpenAI's own SDK declares, and damage to them.

Every field and branch of those types comes up. Chance is a `random.Random`: a seed makes the same bodies again.
"""

import copy
from functools import cache
from random import Random
from typing import Any, Final

from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

WRONG: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308, 5e-324),
    *("", "x", "0", "true", "null", "\x00", "\ud800", "🙂" * 50, "a" * 5000, "$ref", "#/$defs/a", "../../etc/passwd"),
    *(
        [],
        [None],
        [[]],
        [{}],
        [[[[[[]]]]]],
        {},
        {"": None},
        {"type": "object"},
        {"type": []},
        {"$ref": "#"},
        {"0": {"0": {"0": 0}}},
    ),
)
"""What some field is not prepared for."""
DEEPEST: Final = 6
LIKELY: Final = 0.3
"""How often a field that may be left out is there."""

Schema = dict[str, Any]


@cache
def schema() -> Schema:
    """JSON Schema of a chat request."""
    return TypeAdapter(CompletionCreateParamsStreaming).json_schema()


def valid(chance: Random, node: Schema, depth: int = 0) -> Any:
    """A value that `node` allows."""
    if "$ref" in node:
        return valid(chance, schema()["$defs"][node["$ref"].rpartition("/")[2]], depth)
    if branches := node.get("anyOf") or node.get("oneOf"):
        return valid(chance, chance.choice(branches if depth < DEEPEST else branches[-1:]), depth)
    if "const" in node or "enum" in node:
        return chance.choice(node.get("enum") or [node["const"]])
    match node.get("type"):
        case "object":
            return _object(chance, node, depth)
        case "array":
            return [valid(chance, node.get("items", {}), depth + 1) for _ in range(chance.randrange(4) if depth < DEEPEST else 0)]
        case "string":
            return chance.choice(["", "Hello", "Grüße", "auto", "漢字 🙂", "a" * 200])
        case "integer":
            return chance.choice([0, 1, 2, 7, 128, 4096])
        case "number":
            return chance.choice([0, 0.0, 0.7, 1, 1.5, -2])
        case "boolean":
            return chance.random() < 0.5
    return None if node.get("type") == "null" else copy.deepcopy(chance.choice(WRONG))


def _object(chance: Random, node: Schema, depth: int) -> dict[str, Any]:
    required = node.get("required", ())
    fields = {
        name: valid(chance, child, depth + 1)
        for name, child in node.get("properties", {}).items()
        if name in required or (depth < DEEPEST and chance.random() < LIKELY)
    }
    if isinstance(more := node.get("additionalProperties"), dict) or (more and not fields):
        fields["any"] = valid(chance, more if isinstance(more, dict) else {}, depth + 1)
    return fields


def damage(chance: Random, value: Any) -> Any:
    """`value` with one thing in it replaced, left out, doubled or renamed, at any depth."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        return copy.deepcopy(chance.choice(WRONG))
    value = copy.copy(value)
    at = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    match chance.randrange(8):
        case 0:
            del value[at]
        case 1 if isinstance(value, dict):
            value[chance.choice([at.upper(), f"{at} ", f"\x00{at}", "\ud800", ""])] = value.pop(at)
        case 1:
            value *= 40
        case _:
            value[at] = damage(chance, value[at])
    return value


def body(chance: Random, model: str) -> Any:
    """A request for `model`, damaged in up to three places."""
    grown = valid(chance, schema()) | {"model": model}
    for _ in range(chance.randrange(4)):
        grown = damage(chance, grown)
    return grown
