"""What each field and block of Anthropic's is in OpenAI's chat shape, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.api.wire.anthropic_request import read_count, read_messages
from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.identity import Question, exact_key, question
from sentinel_gateway.errors import InvalidBody, InvalidField

HINT = {"type": "ephemeral"}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
LOOK_UP = {
    "name": "look_up",
    "description": "The length of a river.",
    "input_schema": {"type": "object", "properties": {"river": {"type": "string"}}},
}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"river": "Danube"}}


def read(**fields):
    body = {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}], **fields}
    return read_messages(json.dumps(body).encode(), max_depth=32)


def chat(**fields):
    return read(**fields).fields


def said(*messages, **fields):
    return chat(messages=list(messages), **fields)["messages"]


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(words, **more):
    return {"type": "text", "text": words, **more}


def refused(**fields):
    with pytest.raises(InvalidField) as caught:
        read(**fields)
    return caught.value


def test_the_least_that_is_asked():
    request = read()
    assert request.fields == {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
    assert (request.model, request.token_limit, request.stream, request.dialect) == ("demo", 100, False, "anthropic")
    assert request.include_usage


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"stream": True}, {"stream": True}),
        ({"stream": False}, {}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"temperature": None, "system": None, "tools": None, "metadata": None, "stop_sequences": None}, {}),
        ({"stop_sequences": ["END", "STOP"]}, {"stop": ["END", "STOP"]}),
        ({"stop_sequences": []}, {}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "adaptive"}}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, {"thinking": {"type": "disabled"}}),
        ({"output_config": {"effort": "max"}}, {"reasoning_effort": "max"}),
        ({"output_config": {}}, {}),
        ({"metadata": {"user_id": "u-1"}}, {"user": "u-1"}),
        ({"metadata": {}}, {}),
        ({"service_tier": "auto"}, {}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, {}),
        ({"inference_geo": "eu", "speed": "fast"}, {"inference_geo": "eu", "speed": "fast"}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
    ],
)
def test_fields_of_the_request(sent, told):
    assert chat(**sent) == chat() | told


@pytest.mark.parametrize(
    ("system", "told"),
    [
        ("Be brief.", "Be brief."),
        ([text("Be brief.")], "Be brief."),
        ([text("Be"), text("brief.")], [text("Be"), text("brief.")]),
        ([text("Be brief.", cache_control=HINT)], [text("Be brief.", cache_control=HINT)]),
    ],
)
def test_the_system_prompt_is_the_first_message(system, told):
    messages = chat(system=system)["messages"]
    assert messages == [{"role": "system", "content": told}, {"role": "user", "content": "Hello"}]


def test_no_system_prompt_is_no_message():
    assert chat(system="") == chat(system=[]) == chat()


def test_a_system_message_among_the_others():
    turn = {"role": "system", "content": [text("From now on in French.")]}
    assert said(user(text("Hi")), turn)[1] == {"role": "system", "content": "From now on in French."}


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (text("a", cache_control=HINT), [text("a", cache_control=HINT)]),
        (text("a", citations=[{"type": "char_location"}]), [text("a")]),
        ({"type": "image", "source": PNG}, [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]),
        (
            {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}, "cache_control": HINT},
            [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}, "cache_control": HINT}],
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
            [{"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}],
        ),
        (
            {
                "type": "document",
                "title": "Rivers",
                "context": "A list.",
                "source": {"type": "url", "url": "https://a.example/r"},
            },
            [text("A list."), {"type": "file", "file": {"filename": "Rivers", "file_data": "https://a.example/r"}}],
        ),
        (
            {
                "type": "document",
                "title": "Rivers",
                "context": "A list.",
                "citations": {"enabled": False},
                "cache_control": HINT,
                "source": {"type": "text", "media_type": "text/plain", "data": "Danube"},
            },
            [text("Rivers\n\nA list.\n\nDanube", cache_control=HINT)],
        ),
    ],
)
def test_a_block_of_a_user(block, parts):
    (message,) = said(user(text("Look:"), block))
    expected = [text("Look:"), *parts]
    assert message == {"role": "user", "content": expected}


def test_a_lone_text_is_a_string_whoever_says_it():
    turns = said(user(text("a")), assistant(text("b")), user(text("c")))
    assert [turn["content"] for turn in turns] == ["a", "b", "c"]
    assert said(user()) == [{"role": "user", "content": []}]


def test_calls_and_results_of_tools():
    turns = said(
        user(text("How long is it?")),
        assistant(text("I look it up."), CALL, {**CALL, "id": "toolu_2", "input": {}, "cache_control": HINT}),
        user(
            text("And quickly."),
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "2,850 km"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_2",
                "content": [text("no"), {"type": "image", "source": PNG}],
                "is_error": True,
                "cache_control": HINT,
            },
        ),
    )
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    assert turns[1:] == [
        {
            "role": "assistant",
            "content": "I look it up.",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "look_up", "arguments": '{"river":"Danube"}'}},
                {
                    "id": "toolu_2",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": "{}"},
                    "cache_control": HINT,
                },
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "2,850 km"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": [text("no"), image], "cache_control": HINT, "is_error": True},
        {"role": "user", "content": "And quickly."},
    ]


def test_results_alone_and_calls_alone():
    turns = said(assistant(CALL), user({"type": "tool_result", "tool_use_id": "toolu_1", "is_error": False}))
    assert turns[0]["content"] is None
    assert turns[1:] == [{"role": "tool", "tool_call_id": "toolu_1", "content": ""}]


def test_signed_thoughts_go_back_as_they_came():
    signed = {"type": "thinking", "thinking": "Rivers...", "signature": "c2ln"}
    hidden = {"type": "redacted_thinking", "data": "ZW5j"}
    unsigned = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    turns = said(user(text("a")), assistant(signed, hidden, unsigned, text("b")), assistant(unsigned, text("c")))
    assert turns[1:] == [
        {"role": "assistant", "content": "b", "thinking_blocks": [signed, hidden]},
        {"role": "assistant", "content": "c"},
    ]


def test_a_hint_for_the_whole_request_is_one_for_its_last_block():
    assert said({"role": "user", "content": "a"}, cache_control=HINT) == [{"role": "user", "content": "a", "cache_control": HINT}]


def test_tools_and_the_choice_among_them():
    tools = [
        {**LOOK_UP, "type": "custom", "strict": True, "cache_control": HINT, "eager_input_streaming": True},
        {"name": "n", "input_schema": {"type": "object"}, "defer_loading": False},
    ]
    told = chat(tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    function = {
        "name": "look_up",
        "description": LOOK_UP["description"],
        "parameters": LOOK_UP["input_schema"],
        "strict": True,
    }
    assert told["tools"] == [
        {"type": "function", "function": function, "cache_control": HINT},
        {"type": "function", "function": {"name": "n", "parameters": {"type": "object"}}},
    ]
    assert (told["tool_choice"], told["parallel_tool_calls"]) == ("auto", False)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "look_up"}, {"type": "function", "function": {"name": "look_up"}}),
    ],
)
def test_the_choice_of_a_tool(choice, told):
    assert chat(tools=[LOOK_UP], tool_choice=choice)["tool_choice"] == told
    assert chat(tool_choice=choice).get("tool_choice") == (None if told in ("auto", "none") else told)
    assert "parallel_tool_calls" not in chat(tools=[LOOK_UP], tool_choice=choice)


def test_no_tools_is_as_if_none_were_sent():
    assert chat(tools=[]) == chat()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "100"}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [], "system": "Be brief."}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role"),
        ({"messages": [user({"text": "a"})]}, "messages[0].content[0].type"),
        ({"messages": [user(text(1))]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "thinking"})]}, "messages[0].content[0].type"),
        ({"messages": [user(CALL)]}, "messages[0].content[0].type"),
        ({"messages": [assistant({"type": "tool_result"})]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "image", "source": "x"})]}, "messages[0].content[0].source"),
        ({"messages": [user({"type": "image", "source": {"type": "base64"}})]}, "messages[0].content[0].source.media_type"),
        ({"messages": [user({"type": "document", "source": PNG})]}, "messages[0].content[0].source.media_type"),
        ({"messages": [user({"type": "tool_result", "content": "a"})]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": 1})]}, "messages[0].content[0].content"),
        (
            {"messages": [user({"type": "tool_result", "tool_use_id": "t", "content": ["a"]})]},
            "messages[0].content[0].content[0].type",
        ),
        ({"messages": [assistant({**CALL, "input": "x"})]}, "messages[0].content[0].input"),
        ({"messages": [assistant({**CALL, "name": None})]}, "messages[0].content[0].name"),
        ({"system": [{"type": "image", "source": {}}]}, "system[0].source.type"),
        ({"system": {"text": "a"}}, "system"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [{**LOOK_UP, "name": 1}]}, "tools[0].name"),
        ({"tool_choice": {"type": "required"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format"),
        ({"n": 2}, "n"),
        ({"stop": ["a"]}, "stop"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
        ({"Max_Tokens": 5}, "Max_Tokens"),
        ({"top_k": 1.5}, "top_k"),
    ],
)
def test_what_is_refused_is_named(fields, param):
    error = refused(**fields)
    assert error.param == param
    assert error.http_status == 400
    assert param.rpartition(".")[2].strip("[0]") in error.message


SEARCH = {"type": "search_result", "source": "u", "title": "t", "content": [text("a")]}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a"}
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": [user(SEARCH)]}, "messages[0].content[0].type"),
        ({"messages": [user({**RESULT, "content": [SEARCH]})]}, "messages[0].content[0].content[0].type"),
        ({"messages": [assistant({"type": "server_tool_use", "id": "s", "name": "n"})]}, "messages[0].content[0].type"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [user({"type": "document", "source": {"type": "text", "data": "a"}, "citations": {"enabled": True}})]},
            "messages[0].content[0].citations",
        ),
        (
            {"messages": [user({"type": "image", "source": PNG, "transformations": {"a": 1}})]},
            "messages[0].content[0].transformations",
        ),
        ({"messages": [assistant({**CALL, "toolset_name": "t"})]}, "messages[0].content[0].toolset_name"),
        ({"messages": [{**user(text("a")), "new": 1}]}, "messages[0].new"),
        ({"system": [text("a", new=1)]}, "system[0].new"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{**LOOK_UP, "input_examples": [{"river": "Inn"}]}]}, "tools[0].input_examples"),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 1}}}, "output_config.task_budget"),
        ({"mcp_servers": [{"name": "a"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
    ],
)
def test_what_only_a_provider_of_this_dialect_can_be_told(fields, place):
    native = read(**fields).native
    assert (native.needs, bool(native.digest)) == (place, True)


@pytest.mark.parametrize(
    "fields",
    [
        {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
        {"new_field": 1},
        {"output_config": {"effort": "high"}},
        {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive", "display": "omitted"}},
        {"output_config": {"effort": "high"}, "thinking": {"type": "disabled"}},
        {"tools": [{**LOOK_UP, "eager_input_streaming": True}]},
        {"messages": [user(text("a")), assistant(text("b", citations=[{"type": "char_location"}]))]},
        {"messages": [user(text("a")), assistant({**CALL, "caller": {"type": "direct"}})]},
        {"messages": [user({"type": "document", "source": {"type": "text", "data": "a"}})]},
        {"messages": [user(text("a")), assistant(CALL, text("b"))]},
        {"messages": [user(text("a")), assistant(text("b"), SIGNED)]},
        {"messages": [user(text("a")), assistant(CALL), user(text("b"), RESULT)]},
        {"messages": [user(text("a")), {"role": "system", "content": "Be brief."}]},
    ],
)
def test_what_helps_and_can_be_done_without(fields):
    native = read(**fields).native
    assert (native.needs, bool(native.digest)) == ("", True)
    assert native.body == {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}], **fields}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
        {"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"}, "top_k": 2},
        {"metadata": {"user_id": "u", "team": "a"}, "service_tier": "auto", "stream": True, "context_management": {}},
        {"messages": [user(text("a"), {"type": "image", "source": PNG}), assistant(SIGNED, text("b"), CALL), user(RESULT)]},
        {"tools": [{**LOOK_UP, "type": "custom", "cache_control": HINT, "defer_loading": False}], "system": [text("a")]},
    ],
)
def test_what_a_chat_says_all_of(fields):
    assert not read(**fields).native.says_more


def test_what_is_left_unsaid_is_part_of_what_is_asked():
    """Equal but for what does not change it."""
    edits = {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}
    same = [read(**edits), read(**edits, metadata={"user_id": "u"}, stream=True, service_tier="auto", temperature=None)]
    assert len({request.native.digest for request in same}) == 1
    assert read(**edits, top_k=1).native.digest != same[0].native.digest


def test_the_order_of_an_answer_is_told_where_it_is_not_a_chat_s():
    mixed = assistant(text("a"), CALL, SIGNED, text(""), text("b"), {"type": "thinking", "thinking": "unsigned"})
    _, turn, _ = said(user(text("q")), mixed, user(RESULT))
    assert turn["block_order"] == ["text", "tool_use", "thinking", "text"]
    _, turn, _ = said(user(text("q")), assistant(SIGNED, text("a"), CALL), user(RESULT))
    assert "block_order" not in turn


def test_what_is_no_json_is_told_with_an_example():
    with pytest.raises(InvalidBody, match='"max_tokens": 1024'):
        read_messages(b"", max_depth=32)


def test_a_count_needs_no_bound_of_its_answer():
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 7, "stream": True}
    request = read_count(json.dumps(body).encode(), max_depth=32)
    assert (request.token_limit, request.stream) == (None, False)


WHERE = {"face": "chat", "targets": ["demo/demo"], "tenant": "", "namespace": ""}


def key(request):
    return exact_key(request.fields, **WHERE)


def test_it_is_compared_by_meaning_with_what_was_asked_in_the_other_dialect():
    ours = read(messages=[user(text("What is the capital of France?"))], system=[text("Be brief.")])
    spoken = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What's the capital of France?"}]
    theirs = read_request(json.dumps({"model": "demo", "messages": spoken}).encode(), max_depth=32)
    asked, other = question(ours.fields, **WHERE), question(theirs.fields, **WHERE)
    assert isinstance(asked, Question)
    assert asked.text == "What is the capital of France?"
    assert asked.scope == other.scope


@settings(max_examples=50)
@given(
    question=st.text(min_size=1),
    system=st.none() | st.text(min_size=1),
    temperature=st.none() | st.floats(0, 1),
    stop=st.lists(st.text(min_size=1), max_size=2),
    blocks=st.booleans(),
)
def test_the_same_asked_in_both_dialects_is_the_same(question, system, temperature, stop, blocks):
    """So an answer to one serves the other."""
    content = [text(question)] if blocks else question
    ours = {"max_tokens": 9, "temperature": temperature, "model": "demo"}
    asked = ours | {"system": system, "messages": [{"role": "user", "content": content}], "stop_sequences": stop}
    spoken = [{"role": "system", "content": system}] if system else []
    same = ours | {"messages": [*spoken, {"role": "user", "content": question}], "stop": stop or None}
    anthropic = read_messages(json.dumps(asked).encode(), max_depth=32)
    assert key(anthropic) == key(read_request(json.dumps(same).encode(), max_depth=32))
    other = read_messages(json.dumps(asked | {"top_k": 5}).encode(), max_depth=32)
    assert key(other) != key(anthropic)


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.text(max_size=3)
    | st.sampled_from(["text", "user", "tool_use", "base64"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "text", "source", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
WHOLE = {
    "system": [text("a", cache_control=HINT)],
    "messages": [
        user(
            text("a"), {"type": "image", "source": PNG}, {"type": "document", "title": "b", "source": {"type": "url", "url": "c"}}
        ),
        assistant({"type": "thinking", "thinking": "a", "signature": "b"}, CALL),
        user({"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("a")], "is_error": True}),
    ],
    "tools": [LOOK_UP],
    "tool_choice": {"type": "tool", "name": "look_up"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "metadata": {"user_id": "a"},
    "service_tier": "auto",
    "stop_sequences": ["a"],
    "top_k": 1,
}


def places(value, above=()):
    """The way to everything in a body."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        yield (*above, name)
        yield from places(inner, (*above, name))


@given(place=st.sampled_from(sorted(places(WHOLE), key=str)), other=ANY)
def test_whatever_stands_in_a_place_it_is_carried_or_refused(place, other):
    body = json.loads(json.dumps(WHOLE))
    *way, last = place
    at = body
    for step in way:
        at = at[step]
    at[last] = other
    try:
        fields = chat(**body)
    except InvalidField as error:
        assert error.message
    else:
        assert json.dumps(fields)
