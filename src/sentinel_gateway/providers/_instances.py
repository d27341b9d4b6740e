"""A valid instance for a JSON schema, so that the demo can answer where structure is demanded. Not a validator.

Covers what structured outputs and tools use: types, `enum`, `const`, objects, arrays, bounds, common formats, `anyOf`,
`oneOf` (its first branch that works out), `allOf`, and references, recursive ones too. `pattern`, `not` and `if` are not
looked at. Schemas come from callers, so the work is bounded: `MAX_STEPS`, `MAX_DEPTH`, `MAX_LENGTH`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Final
from urllib.parse import unquote

MAX_STEPS: Final = 10_000
MAX_DEPTH: Final = 64
MAX_LENGTH: Final = 10_000

WORD: Final = "demo"
FORMATS: Final = {
    "date": "2025-01-31",
    "date-time": "2025-01-31T12:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "7d444840-9dc0-41d1-a245-5ffdce74fad2",
}

_TYPE_OF: Final = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}
"""What a schema without a type speaks of, told by its keywords."""

Schema = dict[str, Any]


class NoInstance(ValueError):
    """No instance could be made; the message says why, and repeats nothing of the schema."""


class _DeadEnd(NoInstance):
    """This branch leads nowhere; another may."""


def make_instance(schema: Any) -> Any:
    """An instance, the same for the same schema. Raises NoInstance."""
    try:
        return _Maker(schema).make(schema)
    except NoInstance:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as exc:
        raise NoInstance("the schema isn't a valid JSON schema") from exc


class _Maker:
    """Makes one instance: the schema that references start from, those being followed, and the work that is left."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._following = ["#"]
        self._steps = MAX_STEPS
        self._depth = 0

    def make(self, schema: Any, nth: int = 0) -> Any:
        """The `nth` of several instances, if they must differ."""
        self._steps -= 1
        if self._steps < 0:
            raise NoInstance("the schema asks for too large an instance")
        if self._depth >= MAX_DEPTH or schema is False:
            raise _DeadEnd("the schema has no finite instance")
        self._depth += 1
        try:
            return WORD if schema is True else self._make(schema, nth)
        finally:
            self._depth -= 1

    def _make(self, schema: Schema, nth: int) -> Any:
        if "$ref" in schema:
            return self._follow(schema, nth)
        if "allOf" in schema:
            return self.make(self._merged([_without(schema, "allOf"), *schema["allOf"]]), nth)
        if choice := next((word for word in ("anyOf", "oneOf") if word in schema), None):
            rest = _without(schema, choice)
            return self._first([{"allOf": [rest, branch]} for branch in schema[choice]], nth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._first([{"const": value} for value in _from(schema["enum"], nth)], nth)
        kind = schema["type"] if "type" in schema else next((kind for word, kind in _TYPE_OF.items() if word in schema), "string")
        if isinstance(kind, list):
            return self._first([{**schema, "type": one} for one in kind], nth)
        return self._typed(kind, schema, nth)

    def _first(self, schemas: Iterable[Schema], nth: int) -> Any:
        for schema in schemas:
            if made := self._perhaps(schema, nth):
                return made[0]
        raise _DeadEnd("the schema has no finite instance")

    def _perhaps(self, schema: Any, nth: int = 0) -> list[Any]:
        """One instance, or none where the schema leads nowhere."""
        try:
            return [self.make(schema, nth)]
        except _DeadEnd:
            return []

    def _typed(self, kind: str, schema: Schema, nth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "integer" | "number":
                return _number(schema, nth, whole=kind == "integer")
            case "boolean":
                return nth % 2 == 0
            case "null":
                return None
            case "string":
                return _string(schema, nth)
            case _:
                raise NoInstance("the schema names an unknown type")

    def _object(self, schema: Schema) -> Schema:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        made = {}
        for name in dict.fromkeys([*properties, *required]):
            wanted = properties.get(name, schema.get("additionalProperties", True))
            if name in required:
                made[name] = self.make(wanted)
            elif self._steps > MAX_STEPS // 2:
                made.update((name, value) for value in self._perhaps(wanted))
        return made

    def _array(self, schema: Schema) -> list[Any]:
        least, most, prefix = schema.get("minItems", 0), schema.get("maxItems"), schema.get("prefixItems", [])
        count = max(least, len(prefix), 1)
        made: list[Any] = []
        for index in range(count if most is None else min(count, most)):
            wanted = prefix[index] if index < len(prefix) else schema.get("items", True)
            nth = index if schema.get("uniqueItems") else 0
            item = [self.make(wanted, nth)] if index < least else self._perhaps(wanted, nth)
            if not item:
                break
            made += item
        return made

    def _follow(self, schema: Schema, nth: int) -> Any:
        # An instance of finite size never needs a reference within itself: where that happens, another branch must do.
        reference = schema["$ref"]
        if reference in self._following:
            raise _DeadEnd("the schema has no finite instance")
        self._following.append(reference)
        try:
            return self.make(self._merged([self._target(reference), _without(schema, "$ref")]), nth)
        finally:
            self._following.pop()

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise NoInstance("the schema refers to something outside itself")
        found = self._root
        for part in filter(None, unquote(reference[1:]).split("/")):
            name = part.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) else found[name]
        return found

    def _merged(self, parts: list[Any]) -> Any:
        """One schema that demands what all parts demand."""
        merged: Schema = {}
        for part in parts:
            if part is False:
                return False
            if part is not True:
                _merge(merged, {"allOf": [part]} if "$ref" in part and "$ref" in merged else part)
        return merged


def _merge(into: Schema, part: Schema) -> None:
    for word, value in part.items():
        if word in into and into[word] != value:
            into[word] = _MERGED[word](into[word], value) if word in _MERGED else value
        else:
            into[word] = value


def _merged_types(one: str | list[str], other: str | list[str]) -> list[str]:
    ones, others = ([kinds] if isinstance(kinds, str) else kinds for kinds in (one, other))
    both = [kind for kind in ones if kind in others]
    return both or ["integer" for mine, theirs in ((ones, others), (others, ones)) if "integer" in mine and "number" in theirs]


def _merged_properties(one: Schema, other: Schema) -> Schema:
    return {name: {"allOf": [one.get(name, True), other.get(name, True)]} for name in dict.fromkeys([*one, *other])}


def _merged_branches(one: list[Any], other: list[Any]) -> list[Any]:
    return [{"allOf": [mine, theirs]} for mine in one for theirs in other]


def _merged_constants(_one: Any, _other: Any) -> Any:
    raise _DeadEnd("the schema has no finite instance")


_MERGED: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "type": _merged_types,
    "properties": _merged_properties,
    "required": lambda one, other: list(dict.fromkeys([*one, *other])),
    "const": _merged_constants,
    "enum": lambda one, other: [value for value in one if value in other],
    "allOf": lambda one, other: [*one, *other],
    "anyOf": _merged_branches,
    "oneOf": _merged_branches,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems"), min),
}
"""How two demands become one; where it isn't known how, the later one holds."""


def _without(schema: Schema, word: str) -> Schema:
    return {name: value for name, value in schema.items() if name != word}


def _from(values: list[Any], start: int) -> list[Any]:
    """The values from the `start`th on, round and round."""
    turn = start % max(len(values), 1)
    return values[turn:] + values[:turn]


def _string(schema: Schema, nth: int) -> str:
    text: str = FORMATS.get(schema.get("format", ""), f"{WORD} {nth + 1}" if nth else WORD)
    least, most = schema.get("minLength", 0), schema.get("maxLength", MAX_LENGTH)
    if least > MAX_LENGTH:
        raise NoInstance("the schema asks for too long a text")
    return text.ljust(least, ".")[: max(most, 0)]


def _number(schema: Schema, nth: int, *, whole: bool) -> int | float:
    """The multiple nearest to zero that is within the bounds; the next ones for `nth`."""
    low, above = _fraction(schema.get("minimum")), _fraction(schema.get("exclusiveMinimum"))
    high, below = _fraction(schema.get("maximum")), _fraction(schema.get("exclusiveMaximum"))
    step = _fraction(schema.get("multipleOf")) or Fraction(1)
    if whole:
        step = Fraction(step.numerator)
    floor = max((bound for bound in (low, above) if bound is not None), default=None)
    ceiling = min((bound for bound in (high, below) if bound is not None), default=None)
    first, direction = Fraction(0), 1
    if floor is not None and floor >= 0:
        first = math.ceil(floor / step) * step
        first += step if first == above else 0
    elif ceiling is not None and ceiling <= 0:
        first, direction = math.floor(ceiling / step) * step, -1
        first -= step if first == below else 0
    value = first + direction * nth * step
    if not _within(value, floor, ceiling, above, below):
        if floor is None or ceiling is None or whole or "multipleOf" in schema:
            raise _DeadEnd("the schema's bounds leave no number")
        value = (floor + ceiling) / 2
        if not _within(value, floor, ceiling, above, below):
            raise _DeadEnd("the schema's bounds leave no number")
    return int(value) if value.denominator == 1 else float(value)


def _within(
    value: Fraction, floor: Fraction | None, ceiling: Fraction | None, above: Fraction | None, below: Fraction | None
) -> bool:
    return (floor is None or value >= floor) and (ceiling is None or value <= ceiling) and value not in (above, below)


def _fraction(value: Any) -> Fraction | None:
    return None if value is None else Fraction(str(value))
