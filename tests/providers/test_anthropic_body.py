"""What is sent to a provider of Anthropic's dialect, to the letter; and what is refused before it is."""

import msgspec
import pytest

from sentinel_gateway.providers._anthropic_body import DEFAULT_LIMIT, build_body
from sentinel_gateway.providers._chat_parts import Unfit

USER = {"role": "user", "content": "Where does the Danube rise?"}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object"}}}
CACHE = {"type": "ephemeral"}
NEW, OLD = "claude-opus-5", "claude-sonnet-4-5-20250929"


def body(fields=None, *, model=NEW, stream=False, **more):
    return msgspec.json.decode(build_body({"model": "alias", "messages": [USER], **(fields or {}), **more}, model, stream=stream))


def text(words, **more):
    return {"type": "text", "text": words, **more}


def test_the_least_that_can_be_asked():
    assert body() == {
        "model": NEW,
        "max_tokens": DEFAULT_LIMIT,
        "messages": [{"role": "user", "content": [text("Where does the Danube rise?")]}],
    }
    assert body(stream=True)["stream"] is True


def test_a_conversation_with_everything():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aWNo", "detail": "low"}}
    paper = {"type": "file", "file": {"file_data": "data:application/pdf;base64,cGRm", "filename": "river.pdf"}}
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "s", "index": 0}]
    calls = [
        {"id": "call.1:0", "type": "function", "function": {"name": "look_up", "arguments": '{"river": "Danube"}'}},
        {"id": "two", "type": "function", "function": {"name": "now", "arguments": ""}, "cache_control": CACHE},
    ]
    messages = [
        {"role": "system", "content": [text("Be brief.", cache_control=CACHE)]},
        {"role": "developer", "content": "Be right."},
        {
            "role": "user",
            "content": [text("Look:"), picture, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}, paper],
        },
        {
            "role": "assistant",
            "content": "One moment.",
            "thinking_blocks": thoughts,
            "reasoning_content": "Hm.",
            "tool_calls": calls,
        },
        {"role": "tool", "tool_call_id": "call.1:0", "content": "Donaueschingen", "name": "look_up"},
        {"role": "tool", "tool_call_id": "two", "content": [text("noon"), text("sharp")], "cache_control": CACHE},
        {"role": "user", "content": "And?", "cache_control": CACHE},
        {"role": "assistant", "content": None, "refusal": "No.", "annotations": [], "audio": None, "function_call": None},
        USER,
    ]
    sent = body(messages=messages)
    assert sent["system"] == [text("Be brief.", cache_control=CACHE), text("Be right.")]
    assert sent["messages"] == [
        {
            "role": "user",
            "content": [
                text("Look:"),
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aWNo"}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
                    "title": "river.pdf",
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                text("One moment."),
                {"type": "tool_use", "id": "call_1_0", "name": "look_up", "input": {"river": "Danube"}},
                {"type": "tool_use", "id": "two", "name": "now", "input": {}, "cache_control": CACHE},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1_0", "content": [text("Donaueschingen")]},
                {"type": "tool_result", "tool_use_id": "two", "content": [text("noon"), text("sharp")], "cache_control": CACHE},
                text("And?", cache_control=CACHE),
            ],
        },
        {"role": "assistant", "content": [text("No.")]},
        {"role": "user", "content": [text("Where does the Danube rise?")]},
    ]


def test_a_tool_that_failed_and_a_paper_that_is_elsewhere():
    failed = {"role": "tool", "tool_call_id": "a", "content": "no such river", "is_error": True}
    paper = {"type": "file", "file": {"file_data": "https://x/y", "filename": "river.pdf"}}
    [turn] = body(messages=[failed, {"role": "user", "content": [paper]}])["messages"]
    assert turn["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [text("no such river")], "is_error": True},
        {"type": "document", "source": {"type": "url", "url": "https://x/y"}, "title": "river.pdf"},
    ]


def test_what_says_nothing_is_left_out():
    messages = [{"role": "user", "content": ""}, {"role": "assistant", "content": [text("")]}, USER]
    assert body(messages=messages)["messages"] == body()["messages"]
    answered = {"role": "tool", "tool_call_id": "a", "content": ""}
    assert body(messages=[answered])["messages"][0]["content"] == [{"type": "tool_result", "tool_use_id": "a"}]


def test_sampling_and_limits():
    sent = body(temperature=0.5, top_p=0.9, top_k=40, stop=["a", "b"], max_tokens=7)
    assert {name: sent[name] for name in ("temperature", "top_p", "top_k", "stop_sequences", "max_tokens")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "stop_sequences": ["a", "b"],
        "max_tokens": 7,
    }
    assert body(max_tokens=7, max_completion_tokens=9)["max_tokens"] == 9
    assert body(stop="a")["stop_sequences"] == ["a"]


def test_tools():
    strict = {"type": "function", "function": {"name": "f", "strict": True}, "cache_control": CACHE}
    assert body(tools=[TOOL, strict])["tools"] == [
        {"name": "look_up", "description": "Looks up.", "input_schema": {"type": "object"}},
        {"name": "f", "input_schema": {"type": "object", "properties": {}}, "strict": True, "cache_control": CACHE},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", True, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        (
            {"type": "function", "function": {"name": "look_up"}},
            False,
            {"type": "tool", "name": "look_up", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_which_tools_may_be_called(choice, parallel, sent):
    assert body(tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel).get("tool_choice") == sent


def test_an_answer_by_a_schema():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema, "description": "Of a."}}
    wanted = {"type": "json_schema", "schema": {"description": "Of a.", **schema}}
    assert body(response_format=form)["output_config"] == {"format": wanted}
    assert "output_config" not in body(response_format={"type": "text"})


@pytest.mark.parametrize(
    ("effort", "model", "limit", "thinking", "config"),
    [
        ("high", NEW, None, {"type": "adaptive"}, {"effort": "high"}),
        ("minimal", "claude-opus-4-6", None, {"type": "adaptive"}, {"effort": "low"}),
        ("none", NEW, None, {"type": "disabled"}, None),
        ("none", OLD, None, {"type": "disabled"}, None),
        ("low", OLD, None, {"type": "enabled", "budget_tokens": 1024}, None),
        ("medium", "claude-opus-4-20250514", 4096, {"type": "enabled", "budget_tokens": 2048}, None),
        ("high", "anthropic.claude-opus-4-1-20250805-v1:0", 1025, {"type": "enabled", "budget_tokens": 1024}, None),
        ("max", "claude-3-7-sonnet-latest", 200_000, {"type": "enabled", "budget_tokens": 32_768}, None),
    ],
)
def test_how_hard_it_thinks(effort, model, limit, thinking, config):
    sent = body(model=model, reasoning_effort=effort, max_completion_tokens=limit)
    assert (sent["thinking"], sent.get("output_config")) == (thinking, config)
    if thinking.get("budget_tokens"):
        assert thinking["budget_tokens"] < sent["max_tokens"]


def test_thinking_in_anthropics_own_words():
    assert body(thinking={"type": "enabled", "budget_tokens": 2000})["thinking"] == {"type": "enabled", "budget_tokens": 2000}


def test_what_cannot_change_the_answer_is_left_out():
    aside = {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "prompt_cache_key": "k", "seed": 7}
    defaults = {
        "n": 1,
        "logprobs": False,
        "logit_bias": {},
        "presence_penalty": 0,
        "tools": [],
        "modalities": ["text"],
        "audio": None,
    }
    assert body(aside | defaults | {"stream_options": {"include_usage": True}, "parallel_tool_calls": True}) == body()


def with_part(part):
    return {"messages": [{"role": "user", "content": [part]}]}


def with_call(**call):
    return {"messages": [USER, {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", **call}]}]}


REFUSED = [
    ({"logprobs": True}, "logprobs", "leave it out"),
    ({"n": 2}, "n", "leave it out"),
    ({"presence_penalty": 0.5}, "presence_penalty", "leave it out"),
    ({"logit_bias": {"50256": -100}}, "logit_bias", "leave it out"),
    ({"web_search_options": {"a": 1}}, "web_search_options", "leave it out"),
    ({"functions": [{"name": "f"}]}, "functions", "leave it out"),
    ({"modalities": ["text", "audio"]}, "modalities", "leave it out"),
    ({"new_field": 1}, "new_field", "leave it out"),
    ({"temperature": 1.5}, "temperature", "at most 1"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "low, medium"),
    ({"reasoning_effort": "low", "thinking": {"type": "adaptive"}}, "reasoning_effort", "not both"),
    ({"response_format": {"type": "json_object"}}, "response_format", "json_schema"),
    ({"response_format": {"type": "grammar"}}, "response_format", "json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "with a schema"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type", "function only"),
    ({"tools": [{"type": "function", "function": {"name": 7}}]}, "tools.0.function.name", "string"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 7}}]}, "tools.0.function.parameters", "object"),
    ({"tools": [{"type": "function", "function": {"name": "f", "new": 7}}]}, "tools.0.function.new", "leave it out"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "one function"),
    ({"tool_choice": "any"}, "tool_choice", "one function"),
    ({"messages": [{"role": "system", "content": "Be brief."}]}, "messages", "a user"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.0.role", "only"),
    ({"messages": [{"role": "user", "name": "Ada", "content": "x"}]}, "messages.0.name", "into the content"),
    ({"messages": [{"role": "user", "content": "x", "new": 1}]}, "messages.0.new", "leave it out"),
    ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]}, "messages.0.audio", "leave it out"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id", "string"),
    ({"messages": [{"role": "tool", "tool_call_id": "", "content": "x"}]}, "messages.0.tool_call_id", "needs an id"),
    ({"messages": [{"role": "user", "content": "x", "cache_control": "yes"}]}, "messages.0.cache_control", "object"),
    ({"messages": [{"role": "assistant", "thinking_blocks": "x"}]}, "messages.0.thinking_blocks", "list"),
    (
        {"messages": [{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}]},
        None,
        "user's",
    ),
    (with_part({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}), None, "not audio/mp3"),
    (with_part({"type": "file", "file": {"file_id": "file-1"}}), "messages.0.content.0.file.file_id", "file_data"),
    (with_part({"type": "file", "file": {"file_data": "AAAA"}}), "messages.0.content.0.file.file_data", "data:"),
    (with_part({"type": "image_url", "image_url": {"url": "ftp://x"}}), "messages.0.content.0.image_url.url", "https://"),
    (with_part({"type": "image_url", "image_url": {}}), "messages.0.content.0.image_url.url", "string"),
    (with_part({"type": "image_url", "image_url": 7}), "messages.0.content.0.image_url", "object"),
    (with_part({"type": "video", "video": {}}), "messages.0.content.0.type", "types"),
    (with_part({"type": "text", "text": 7}), "messages.0.content.0.text", "string"),
    (with_part({"type": "text", "text": "x", "new": 7}), "messages.0.content.0.new", "leave it out"),
    (with_call(function={"name": "f", "arguments": "{"}), "messages.1.tool_calls.0.function.arguments", "JSON"),
    (with_call(function={"name": "f", "arguments": "[1]"}), "messages.1.tool_calls.0.function.arguments", "object"),
    (with_call(function={"name": "f", "arguments": {"a": 1}}), "messages.1.tool_calls.0.function.arguments", "in a string"),
    (with_call(function=None), "messages.1.tool_calls.0.function", "object"),
    (with_call(type="custom"), "messages.1.tool_calls.0.type", "function only"),
    (with_call(id=None, function={"name": "f"}), "messages.1.tool_calls.0.id", "string"),
]


@pytest.mark.parametrize(("fields", "param", "fix"), REFUSED)
def test_what_has_no_place_is_refused_by_name(fields, param, fix):
    with pytest.raises(Unfit, match=fix) as caught:
        body(fields)
    assert param is None or caught.value.param == param


def test_a_budget_needs_room():
    with pytest.raises(Unfit, match="1024"):
        body(model=OLD, reasoning_effort="low", max_tokens=1024)
