"""Bytes to a chat request: what is understood, and how everything else is refused."""

import json
import time
from typing import Any

import msgspec
import pytest

from sentinel_gateway.api.wire.json_body import MAX_FIELDS, MAX_PARTS
from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.errors import BadRequest, InvalidBody, InvalidField

DEPTH = 64
GENEROUS = 2.0
"""Seconds for what takes milliseconds on an idle machine."""
MESSAGES = [{"role": "user", "content": "Hi"}]
BASE: dict[str, Any] = {"model": "m", "messages": MESSAGES}


def read(raw: bytes | str) -> ChatRequest:
    return read_request(raw.encode() if isinstance(raw, str) else raw, max_depth=DEPTH)


def read_fields(**fields: Any) -> ChatRequest:
    return read(json.dumps({**BASE, **fields}))


def with_member(member: str | bytes) -> bytes:
    """A good body with one more member, as written."""
    more = member.encode() if isinstance(member, str) else member
    return json.dumps(BASE).encode()[:-1] + b"," + more + b"}"


def refusal(raw: bytes | str, kind: type[BadRequest] = InvalidBody) -> BadRequest:
    started = time.thread_time()
    with pytest.raises(kind) as caught:
        read(raw)
    assert time.thread_time() - started < GENEROUS
    return caught.value


# -- what is understood


def test_the_least_that_is_a_request():
    assert read_fields() == ChatRequest(fields=BASE, model="m")


def test_what_our_rules_read():
    request = read_fields(
        stream=True, stream_options={"include_usage": True, "more": 1}, temperature=1, max_tokens=7, n=3, model="groq/x"
    )
    assert (request.model, request.stream, request.include_usage) == ("groq/x", True, True)
    assert (request.temperature, request.token_limit, request.choices) == (1.0, 7, 3)


@pytest.mark.parametrize(
    ("fields", "member", "value"),
    [
        ({"stream": False}, "stream", False),
        ({"stream": None}, "stream", False),
        ({"stream_options": None}, "include_usage", False),
        ({"stream_options": {}}, "include_usage", False),
        ({"stream_options": {"include_usage": None}}, "include_usage", False),
        ({"stream_options": {"include_usage": False}}, "include_usage", False),
        ({"temperature": None}, "temperature", None),
        ({"temperature": 0}, "temperature", 0.0),
        ({"max_tokens": 5}, "token_limit", 5),
        ({"max_completion_tokens": 6}, "token_limit", 6),
        ({"max_tokens": 6, "max_completion_tokens": 6}, "token_limit", 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, "token_limit", 5),
        ({"max_tokens": None}, "token_limit", None),
        ({"n": None}, "choices", 1),
        ({"n": 1}, "choices", 1),
        ({"n": 128}, "choices", 128),
    ],
)
def test_each_member(fields, member, value):
    assert getattr(read_fields(**fields), member) == value


RIGHT: dict[str, list[Any]] = {
    "model": ["é" * 256],
    "messages": [
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "anything", "x": 1}], "name": "n"}],
        [{"role": "made-up", "content": "x", "tool_calls": [{}], "tool_call_id": "1", "unknown": 1}],
    ],
    "stop": ["x", ["x"], []],
    "logit_bias": [{}, {"1": -100, "2": 0.5}],
    "logprobs": [True],
    "top_logprobs": [0],
    "seed": [-1, 2**80],
    "temperature": [-5, 1e300],
    "tools": [[], [{"type": "function"}]],
    "tool_choice": ["auto", {"type": "function"}],
    "response_format": [{"type": "json_object"}],
    "modalities": [["text"]],
    "audio": [{"voice": "x"}],
    "reasoning_effort": ["anything"],
    "user": ["u"],
    "metadata": [{"k": "v"}],
    "store": [False],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_what_a_field_means_is_left_to_the_provider(name, value):
    assert read_fields(**{name: value}).fields[name] == value


# -- wrong types name their dotted path


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": 7}, "model"),
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": ["m"]}, "model"),
    ({"model": "é" * 257}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [None]}, "messages[0]"),
    ({"messages": [*MESSAGES, "Hi"]}, "messages[1]"),
    ({"messages": [{"role": 7}]}, "messages[0].role"),
    ({"messages": [{"role": None}]}, "messages[0].role"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [*MESSAGES, {}]}, "messages[1].role"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{}, 7]}]}, "messages[0].content[1]"),
    ({"messages": [{"role": "user", "name": 7}]}, "messages[0].name"),
    ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "assistant", "tool_calls": ["x"]}]}, "messages[0].tool_calls[0]"),
    ({"messages": [{"role": "tool", "tool_call_id": 1}]}, "messages[0].tool_call_id"),
    ({"stream": "true"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": True}, "stream_options"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": []}, "top_p"),
    ({"n": 1.5}, "n"),
    ({"n": "1"}, "n"),
    ({"n": True}, "n"),
    ({"n": 0}, "n"),
    ({"n": -1}, "n"),
    ({"n": 129}, "n"),
    ({"n": 10**30}, "n"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
    ({"max_tokens": 0, "max_completion_tokens": 5}, "max_tokens"),
    ({"max_tokens": 4000, "max_completion_tokens": 5}, "max_tokens"),
    ({"stop": 7}, "stop"),
    ({"stop": ["x", 7]}, "stop[1]"),
    ({"presence_penalty": "x"}, "presence_penalty"),
    ({"frequency_penalty": {}}, "frequency_penalty"),
    ({"logit_bias": []}, "logit_bias"),
    ({"logit_bias": {"5": "x"}}, "logit_bias[...]"),
    ({"logprobs": 1}, "logprobs"),
    ({"top_logprobs": True}, "top_logprobs"),
    ({"seed": 1.5}, "seed"),
    ({"seed": "x"}, "seed"),
    ({"tools": {}}, "tools"),
    ({"tools": [{}, "x"]}, "tools[1]"),
    ({"tool_choice": 7}, "tool_choice"),
    ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ({"response_format": "json"}, "response_format"),
    ({"modalities": "text"}, "modalities"),
    ({"modalities": [7]}, "modalities[0]"),
    ({"audio": "x"}, "audio"),
    ({"reasoning_effort": 1}, "reasoning_effort"),
    ({"user": 7}, "user"),
    ({"metadata": []}, "metadata"),
    ({"store": "x"}, "store"),
]


@pytest.mark.parametrize(("fields", "path"), WRONG)
def test_a_wrong_value_names_its_path(fields, path):
    error = refusal(json.dumps({**BASE, **fields}), InvalidField)
    assert error.param == path
    assert f"'{path}'" in error.message
    assert (error.http_status, error.type, error.code) == (400, "invalid_request_error", "invalid_value")


@pytest.mark.parametrize(("fields", "path"), [({"messages": MESSAGES}, "model"), ({"model": "m"}, "messages"), ({}, "model")])
def test_what_is_missing_is_named(fields, path):
    error = refusal(json.dumps(fields), InvalidField)
    assert (error.param, error.message) == (path, f"Missing required field '{path}'.")


# -- what is no JSON


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "The body is empty."),
        (b" \r\n\t", "The body is empty."),
        (b"hello", "not valid JSON"),
        (b'{"model": "m"', "not valid JSON: Input data was truncated."),
        (b"{'model': 'm'}", "not valid JSON"),
        (json.dumps(BASE).encode() + b"x", "not valid JSON"),
        (json.dumps(BASE).encode() * 2, "not valid JSON"),
        (json.dumps(BASE).encode()[:-1] + b",}", "not valid JSON"),
        (b"\xef\xbb\xbf" + json.dumps(BASE).encode(), "not valid JSON"),
        (json.dumps(BASE).encode("utf-16"), "not UTF-8"),
        (json.dumps(BASE).encode("utf-32-le"), "not valid JSON"),
        (with_member(b'"x":"\xff"'), "not UTF-8"),
        (with_member(b'"\xff":1'), "not UTF-8"),
        (with_member(b'"x":"\xed\xa0\x80"'), "not UTF-8"),
        (with_member(b'"x":"\xc0\xaf"'), "not UTF-8"),
        (b"\xff", "not UTF-8 (byte 0)"),
        (with_member('"x":NaN'), "not valid JSON"),
        (with_member('"x":-Infinity'), "not valid JSON"),
        (with_member('"x":1e400'), "not valid JSON: Number out of range"),
        (with_member('"temperature":-1e400'), "not valid JSON: Number out of range"),
        (with_member('"x":' + "9" * 5000), "not valid JSON: Integer value out of range"),
        (with_member('"x":01'), "not valid JSON"),
        (with_member('"x":.5'), "not valid JSON"),
        (with_member('"x":0x1'), "not valid JSON"),
        (with_member('"x":"\x01"'), "not valid JSON"),
        (with_member('"x":"\\x41"'), "not valid JSON"),
        (with_member('"x":"\\ud800"'), "half of a surrogate pair"),
        (with_member('"x":"\\ud83d\\u0041"'), "surrogate pair"),
        (with_member('"x":"\\udc00"'), "surrogate pair"),
        (with_member('"\\ud800":1'), "half of a surrogate pair"),
        (b"[]", "must be a JSON object"),
        (b'[{"model":"m"}]', "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"7", "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
def test_what_is_no_json_object_is_told_so(raw, says):
    error = refusal(raw)
    assert says in error.message
    assert (error.http_status, error.param, error.code) == (400, None, "invalid_body")


# -- depth


def nested(depth: int, kind: str, *, space: str = "") -> bytes:
    """A body of this depth; the body itself is the first level."""
    inner = depth - 1
    opening, closing = {"lists": ("[", "]"), "objects": ('{"a":', "}"), "both": ('[{"a":', "}]")}[kind]
    if kind == "both":
        assert inner % 2 == 0
        inner //= 2
    filling = "" if kind == "lists" else "1"
    return with_member(f'"x":{space}' + opening * inner + filling + closing * inner)


KINDS = pytest.mark.parametrize("kind", ["lists", "objects"])


@KINDS
@pytest.mark.parametrize("space", ["", " "])
def test_sixty_four_levels_are_enough(kind, space):
    assert "x" in read(nested(DEPTH, kind, space=space)).fields
    assert refusal(nested(DEPTH + 1, kind, space=space)).message == "The body is nested more than 64 levels deep."


def test_levels_of_both_kinds_count():
    assert "x" in read(nested(DEPTH - 1, "both")).fields
    refusal(nested(DEPTH + 1, "both"))


def test_brackets_in_strings_and_side_by_side_are_no_depth():
    fields = {"x": "[{" * 500, "y": [[]] * 500, "z": [{}] * 500}
    assert read_fields(**fields).fields == {**BASE, **fields}


@KINDS
@pytest.mark.parametrize("space", ["", " "])
def test_any_greater_depth_is_refused(kind, space):
    """The parsers give up at different depths below a thousand, depending on the caller's: none may do so in its own way."""
    for depth in (300, *range(800, 1030), 5_000, 20_000):
        assert "nested" in refusal(nested(depth, kind, space=space)).message


@pytest.mark.parametrize("raw", [b"[" * 40_000, b'{"a":' * 20_000, b'{"x":' + b"[" * 40_000])
def test_depth_that_never_ends(raw):
    assert "nested" in refusal(raw).message


@KINDS
def test_depth_that_a_second_key_hides(kind):
    """Parsed, the body is flat: only the last value of a key is left."""
    for depth in range(800, 1030):
        refusal(nested(depth, kind)[:-1] + b',"x":1}', BadRequest)


# -- size


MANY = 24_000
TOO_MANY = f"more than {MAX_PARTS:,} keys and values"


def test_many_keys_are_only_many():
    body = {**BASE, "metadata": {f"k{number}": number for number in range(MANY)}}
    assert len(read(msgspec.json.encode(body)).fields["metadata"]) == MANY
    assert len(read(json.dumps(body)).fields["metadata"]) == MANY


def test_a_thousand_fields_are_more_than_any_request_has():
    fields = {**BASE, **{f"k{number}": number for number in range(MAX_FIELDS - len(BASE))}}
    assert read_fields(**fields).fields == fields
    assert "more than 1,000 fields of its own" in refusal(json.dumps(fields | {"x": 0})).message


def test_many_duplicates():
    pairs = ",".join(f'"k{number % 500}":{number}' for number in range(MANY))
    assert "stands twice" in refusal(with_member(pairs), InvalidField).message


def test_many_small_containers():
    assert len(read(with_member('"x": [' + ",".join(["[]", "{}"] * 10_000) + "]")).fields["x"]) == 20_000


@pytest.mark.parametrize("item", ["[]", "{}", "1", "1.5", "null", '"ab"', '{"a":1}', '["{",[{}]]', '"\\",{""":"["}'])
def test_more_keys_and_values_than_any_sane_body_has(item):
    """Millions of them, in 4 MiB, would hold up every other request for a second."""
    raw = with_member('"x":[' + ",".join([item] * (4_000_000 // len(item))) + "]")
    assert TOO_MANY in refusal(raw).message


def test_a_million_keys():
    assert TOO_MANY in refusal("{" + ",".join(f'"{number:x}":0' for number in range(1_000_000)) + "}").message


def test_the_text_of_a_message_counts_for_nothing():
    text = 'for (i = [0, 1], j = {"a": 2}; ) { f(i, j, "\\"); }\n' * 70_000
    assert read_fields(x=text).fields["x"] == text


def test_one_long_string():
    assert read_fields(x="é" * 1_000_000).fields["x"] == "é" * 1_000_000


# -- one meaning


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ('"model":"other"', "model"),
        ('"model":"m"', "model"),
        (' "model" : "other"', "model"),
        ('"\\u006dodel":"other"', "model"),
        ('"\\u006Dodel":"other"', "model"),
        ('"x":1,"x":1', "x"),
        ('"a":1,"\\u0061":2', "a"),
        ('"x":{"a":1,"a":1}', "a"),
        ('"x":{"a":1, "\\u0061":1}', "a"),
        ('"x":[[{"y":{"a":{},"b":2,"a":{}}}]]', "a"),
        ('"x":{"":1,"":2}', ""),
        ('"x":{"é":1,"\\u00e9":2}', "é"),
        ('"x":{"\\ud83d\\ude42":1,"🙂":2}', "🙂"),
        ('"x":{"\\/":1,"/":2}', "/"),
        ('"messages":[]', "messages"),
        ('"stream":false,"stream":true', "stream"),
    ],
)
@pytest.mark.parametrize("compact", [False, True])
def test_a_key_that_stands_twice_is_refused(member, name, compact):
    raw = with_member(member)
    error = refusal(raw.replace(b" ", b"") if compact else raw, InvalidField)
    assert error.param == name
    assert f"'{name}' stands twice" in error.message


def test_a_long_key_that_stands_twice_is_told_in_short():
    name = "k" * 5000
    error = refusal(with_member(f'"x":{{"{name}":1,"{name}":2}}'), InvalidField)
    assert len(error.message) < 200
    assert error.param == "k" * 100


@pytest.mark.parametrize(
    "member",
    [
        '"x":{"a":1},"y":{"a":1}',
        '"x":[{"a":1},{"a":1}]',
        '"a":{"a":{"a":1}}',
        '"x":{"e\\u0301":1,"\\u00e9":2}',
        '"x":{"a":1,"a ":1,"A":1}',
        '"x":"\\"a\\":1,\\"a\\":2"',
    ],
)
def test_the_same_key_elsewhere_is_another_key(member):
    assert read(with_member(member))
    assert read(with_member(" " + member))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Model", "model"),
        ("MODEL", "model"),
        ("Messages", "messages"),
        ("streaM", "stream"),
        ("\\u004dodel", "model"),
        ("N", "n"),
        ("\u017ftream", "stream"),  # long s: other parsers match it
        ("me\u017fsages", "messages"),
        ("max_to\u212aens", "max_tokens"),  # the sign for kelvin, likewise
    ],
)
def test_a_field_in_other_letters_is_refused(name, meant):
    """A provider whose parser doesn't care about case would obey it, and neither our rules nor our key have seen it as that."""
    error = refusal(with_member(f'"{name}":null'), InvalidField)
    assert error.param == json.loads(f'"{name}"')
    assert f"write '{meant}'" in error.message


@pytest.mark.parametrize("name", sorted({path.partition(".")[0].partition("[")[0] for _, path in WRONG}))
def test_every_field_that_has_a_type_has_its_letters(name):
    assert f"write '{name}'" in refusal(with_member(f'"{name.capitalize()}":null'), InvalidField).message


@pytest.mark.parametrize("name", ["models", "m0del", "Unknown", " model", "model ", "mode\u0131"])
def test_a_field_that_only_looks_alike_is_an_unknown_field(name):
    assert read_fields(**{name: 1}).fields[name] == 1
