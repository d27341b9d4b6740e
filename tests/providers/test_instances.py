"""Instances for schemas, checked by a real validator."""

import time

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.providers._instances import FORMATS, NoInstance, make_instance

TREE = {
    "type": "object",
    "properties": {
        "value": {"type": "string"},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["value", "children", "next"],
    "additionalProperties": False,
}
DEFS = {
    "$defs": {
        "step": {"properties": {"say": {"type": "string"}, "then": {"$ref": "#/$defs/step"}}, "required": ["say"]},
        "a/b~c": {"type": "integer", "minimum": 3},
    },
    "type": "object",
    "properties": {"steps": {"items": {"$ref": "#/$defs/step"}, "minItems": 2}, "n": {"$ref": "#/$defs/a~1b~0c"}},
    "required": ["steps", "n"],
}
SCHEMAS = [
    {},
    True,
    {"type": "string"},
    {"type": "string", "minLength": 9},
    {"type": "string", "maxLength": 2},
    {"type": ["null", "string"]},
    {"type": ["array", "null"], "items": False, "minItems": 1},
    {"const": {"a": [1]}},
    {"enum": ["red", "blue"]},
    {"allOf": [{"enum": ["red", "blue", "green"]}, {"enum": ["black", "green"]}]},
    {"properties": {"a": {"type": "integer"}}, "required": ["a", "b"]},
    {"type": "object", "required": ["a"], "additionalProperties": {"type": "number"}},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": False}},
    {"items": {"type": "boolean"}},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "items": {"type": "integer", "maximum": -5}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
    {"type": "array", "maxItems": 0},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "number", "minimum": 0.1, "maximum": 0.2},
    {"type": "number", "multipleOf": 0.01, "minimum": 0.05, "exclusiveMaximum": 0.07},
    {"type": "number", "exclusiveMaximum": -3},
    {"type": "integer", "minimum": 2.5},
    {"type": "integer", "multipleOf": 0.5, "exclusiveMinimum": 4},
    {"type": "integer", "maximum": -10},
    {"minimum": 4},
    {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    {"type": "object", "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
            {"type": "object", "properties": {"kind": {"const": "dog"}}, "required": ["kind"]},
        ]
    },
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
            {"properties": {"a": {"maximum": 9}, "b": {"minLength": 20}}, "required": ["b"]},
            {"allOf": [{"properties": {"b": {"type": "string"}}}]},
        ]
    },
    {"allOf": [{"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}]},
    {"allOf": [{"$ref": "#/$defs/x"}, {"maximum": 9}], "$defs": {"x": {"type": "integer", "minimum": 8}}},
    {"$ref": "#/$defs/x", "maxLength": 3, "$defs": {"x": {"type": "string"}}},
    {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/prefixItems/0"}}, "prefixItems": [{"type": "null"}]},
    {"allOf": [{"$ref": "#/$defs/low"}, {"$ref": "#/$defs/high"}], "$defs": {"low": {"minimum": 4}, "high": {"type": "integer"}}},
    {"allOf": [{"const": 1}, {"const": 1}]},
    {"anyOf": [{"allOf": [{"const": 1}, {"const": 2}]}, {"allOf": [{"type": "number"}, {"type": ["integer", "string"]}]}]},
    TREE,
    DEFS,
    *({"type": "string", "format": name} for name in FORMATS),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_an_instance_is_valid(schema):
    made = make_instance(schema)
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(made)
    assert make_instance(schema) == made


def test_recursion_ends_where_it_may():
    assert make_instance(TREE) == {"value": "demo", "children": [], "next": None}
    assert make_instance(DEFS) == {"steps": [{"say": "demo"}, {"say": "demo"}], "n": 3}


bounds = st.integers(-20, 20)
leaves = st.one_of(
    st.fixed_dictionaries({"type": st.just("integer")}, optional={"minimum": bounds, "multipleOf": st.integers(1, 7)}),
    st.fixed_dictionaries({"type": st.just("number")}, optional={"maximum": bounds, "multipleOf": st.sampled_from([0.5, 3])}),
    st.fixed_dictionaries({"type": st.just("number")}, optional={"exclusiveMinimum": bounds}),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 9), "format": st.just("date")}),
    st.fixed_dictionaries({"enum": st.lists(st.text(max_size=3) | st.none(), min_size=1, max_size=3)}),
    st.just({"type": "boolean"}),
    st.just({"$ref": "#/$defs/word"}),
)
names = st.sampled_from(["a", "b", "c"])


def compound(inner):
    objects = st.builds(
        lambda properties, keep: {"type": "object", "properties": properties, "required": [n for n in properties if n in keep]},
        st.dictionaries(names, inner, max_size=3),
        st.sets(names),
    )
    arrays = st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 3)})
    either = st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches})
    both = st.tuples(objects, objects).map(lambda two: {"allOf": [two[0], {"required": ["a"], "properties": {"z": two[1]}}]})
    return objects | arrays | either | both


@settings(max_examples=150)
@given(st.recursive(leaves, compound, max_leaves=8))
def test_instances_of_made_up_schemas_are_valid(schema):
    schema = {**schema, "$defs": {"word": {"type": "string"}}}
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(make_instance(schema))


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#"},
        {"type": "object", "properties": {"again": {"$ref": "#"}}, "required": ["again"]},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/nothing"},
        {"$ref": 5},
        {"allOf": [{"type": "string"}, False]},
        {"enum": []},
        {"anyOf": []},
        {"type": "colour"},
        {"type": 5},
        {"minimum": "low"},
        {"properties": 5},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "number", "exclusiveMinimum": 5, "maximum": 5},
        {"type": "string", "minLength": 1_000_000_000},
        {"type": "array", "minItems": 1_000_000_000, "items": {}},
        {"type": "array", "items": {"type": "array", "items": {"type": "array", "minItems": 99}, "minItems": 99}, "minItems": 99},
        {"allOf": [{"$ref": "#"}]},
        "text",
        None,
        [],
    ],
    ids=str,
)
def test_a_schema_without_an_instance_is_refused_quickly(schema):
    started = time.process_time()
    with pytest.raises(NoInstance) as caught:
        make_instance(schema)
    assert time.process_time() - started < 5
    assert "nothing" not in str(caught.value)


def test_what_is_optional_is_left_out_of_a_large_instance():
    wide = {"type": "array", "items": {"type": "string"}, "minItems": 3000}
    made = make_instance({"properties": dict.fromkeys("abcd", wide), "required": ["d"]})
    assert [(name, len(made[name])) for name in made] == [("a", 3000), ("b", 3000), ("d", 3000)]


def test_branches_that_all_lead_back_do_not_explode():
    names = [f"d{number}" for number in range(12)]
    everyone = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]}
    schema = {**everyone, "$defs": {name: {"type": "object", "properties": {"x": everyone}, "required": ["x"]} for name in names}}
    with pytest.raises(NoInstance):
        make_instance(schema)


def test_deep_schemas_are_refused_not_fatal():
    schema = {"type": "string"}
    for _ in range(500):
        schema = {"type": "array", "items": schema, "minItems": 1}
    with pytest.raises(NoInstance):
        make_instance(schema)
