"""Responses as chats: what each item becomes, and that what can't be carried is refused by its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.api.wire.responses_request import CHATS_OWN, read_response, repeated
from sentinel_gateway.errors import BadRequest, InvalidField

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["type", "role", "content", "text", "call_id", "name", "arguments", "input", "output", "refusal", "image_url", "tools"]
)
WORDS = st.sampled_from(
    [
        *("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning"),
        *("input_text", "output_text", "input_image", "input_file", "input_audio", "refusal", "user", "assistant", "tool"),
    ]
)
ITEM = st.dictionaries(NAMES, WORDS | JSON | st.lists(st.dictionaries(NAMES, WORDS | JSON, max_size=3), max_size=2), max_size=5)


def read(**fields):
    return read_response(json.dumps({"model": "m", "input": "Hi", **fields}).encode(), max_depth=64)


def messages(*items, **fields):
    return read(input=list(items), **fields).fields["messages"]


def user(content):
    return {"role": "user", "content": content}


def test_a_text():
    request = read()
    assert request.fields == {"model": "m", "messages": [user("Hi")]}
    assert (request.model, request.stream, request.include_usage) == ("m", False, True)
    assert request.original == {"model": "m", "input": "Hi"}


def test_fields_under_chats_names():
    schema = {"name": "town", "schema": {"type": "object"}, "strict": True}
    request = read(
        instructions="Be brief.",
        max_output_tokens=9,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", **schema}, "verbosity": "low"},
        temperature=0.2,
        top_p=0.5,
        parallel_tool_calls=False,
        user="u",
        top_k=3,
        stream=True,
    )
    assert request.fields == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, user("Hi")],
        "max_completion_tokens": 9,
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": schema},
        "temperature": 0.2,
        "top_p": 0.5,
        "parallel_tool_calls": False,
        "user": "u",
        "top_k": 3,
        "stream": True,
    }
    assert (request.token_limit, request.temperature, request.stream) == (9, 0.2, True)


def test_what_says_nothing_is_left_out():
    plain = read().fields
    nothing = dict.fromkeys(("instructions", "tools", "tool_choice", "text", "reasoning", "conversation", "prompt", "metadata"))
    quiet = {"store": False, "background": False, "truncation": "disabled", "top_logprobs": 0, "stream_options": {}}
    asked = {"include": ["reasoning.encrypted_content"], "text": {"format": {"type": "text"}}, "metadata": {"a": "b"}}
    assert read(**nothing).fields == plain
    assert read(**quiet).fields == plain
    assert read(**asked).fields == plain
    assert read(tools=[], instructions="").fields == plain
    assert read(text={"format": {"type": "json_object"}}).fields["response_format"] == {"type": "json_object"}


def test_tools():
    grammar = {"syntax": "lark", "definition": "start: A"}
    request = read(
        tools=[
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": None},
            {"type": "custom", "name": "c", "format": {"type": "grammar", **grammar}},
            {"type": "custom", "name": "d"},
        ],
    )
    assert request.fields["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        {"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": grammar}}},
        {"type": "custom", "custom": {"name": "d"}},
    ]


@pytest.mark.parametrize(
    ("choice", "chats"),
    [
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "c"}, {"type": "custom", "custom": {"name": "c"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
    ],
)
def test_tool_choice(choice, chats):
    assert read(tool_choice=choice).fields["tool_choice"] == chats


def test_messages():
    image = {"type": "input_image", "image_url": "data:,", "detail": "low"}
    assert messages(
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Ho"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": None, "role": "user", "content": [{"type": "input_text", "text": "See"}, image]},
        {"role": "user", "content": [{"type": "input_file", "file_data": "data:,", "filename": "a.pdf"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]},
    ) == [
        {"role": "developer", "content": "Be brief."},
        user("Hi"),
        {"role": "assistant", "content": "Ho"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        user([{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}]),
        user([{"type": "file", "file": {"file_data": "data:,", "filename": "a.pdf"}}]),
        user([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]),
        user([{"type": "image_url", "image_url": {"url": "data:,"}}]),
    ]


def test_calls_and_what_came_of_them():
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
    shell = {"type": "custom_tool_call", "call_id": "c2", "name": "shell", "input": "ls"}
    assert messages(
        {"role": "user", "content": "Hi"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": "I look."},
        call,
        shell,
        {"type": "function_call_output", "call_id": "c1", "output": "2,850 km"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "a"}]},
        call,
    ) == [
        user("Hi"),
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2,850 km"},
        {"role": "tool", "tool_call_id": "c2", "content": "a"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tool_calls": 2}, "max_tool_calls"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{}]}, "tools[0].type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}}, "tool_choice.tools"),
        ({"temperature": "hot"}, "temperature"),
        ({"Input": "a"}, "Input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["a"]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": ["user"], "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": []}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://a"}]}]}, "input[0].content[0]"),
        ({"input": [{"role": "user", "content": ["a"]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": None}]}, "input[0].output"),
        (
            {
                "input": [
                    {
                        "type": "function_call_output",
                        "call_id": "c",
                        "output": [{"type": "input_image", "image_url": "data:,"}],
                    }
                ]
            },
            "input[0].output",
        ),
        *[({name: "x"}, name) for name in CHATS_OWN],
    ],
)
def test_what_is_refused_has_its_place(fields, param):
    with pytest.raises(InvalidField) as caught:
        read(**fields)
    assert caught.value.param == param


@given(st.lists(ITEM, min_size=1, max_size=4), st.dictionaries(st.sampled_from(["tools", "tool_choice", "text"]), JSON))
def test_anything_is_understood_or_refused(items, fields):
    try:
        request = read(input=items, **fields)
    except BadRequest:
        return
    assert request.fields["messages"]
    assert json.dumps(repeated(request.original))


def test_what_a_response_repeats():
    told = repeated(read().original)
    assert (told["tools"], told["tool_choice"], told["temperature"], told["store"]) == ([], "auto", 1.0, False)
    tool = {"type": "function", "name": "f", "parameters": {}}
    custom = {"type": "custom", "name": "c"}
    sent = {"tools": [tool, custom], "temperature": 0, "metadata": {"a": "b"}, "instructions": "Be brief."}
    told = repeated(read(**sent, text={"verbosity": "low"}, reasoning={"effort": "low"}).original)
    assert {name: told[name] for name in sent} == {**sent, "tools": [tool | {"description": None, "strict": None}, custom]}
    assert told["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert told["reasoning"] == {"effort": "low", "summary": None}
