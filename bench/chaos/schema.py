"""A small valid instance of a JSON schema, for structured answers and tool arguments.

Covers what OpenAI's strict mode allows; not a validator, and no keyword beyond those that shape an instance.
"""

from typing import Any, Final

Schema = dict[str, Any]

MAX_DEPTH: Final = 32
"""A schema that needs more than this for its smallest instance is recursive without an end."""


def instance(schema: Schema, text: str) -> Any:
    """A valid value in which every free string is `text`."""
    return _value(schema, schema, text, MAX_DEPTH)


def _value(schema: Schema, root: Schema, text: str, depth: int) -> Any:
    if depth == 0:
        return None
    if "$ref" in schema:
        return _value(_resolve(schema["$ref"], root), root, text, depth - 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return _value(_shallowest(schema[choice]), root, text, depth - 1)
    return _typed(schema, root, text, depth)


def _typed(schema: Schema, root: Schema, text: str, depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            return {name: _value(properties.get(name, {}), root, text, depth - 1) for name in schema.get("required", ())}
        case "array":
            return [_value(schema.get("items", {}), root, text, depth - 1)] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]


def _resolve(reference: str, root: Schema) -> Schema:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        found = found[name] if name else found
    return dict(found)


def _shallowest(choices: list[Schema]) -> Schema:
    """Prefer a choice without a reference: it ends a recursion."""
    return next((choice for choice in choices if "$ref" not in choice), choices[0])
