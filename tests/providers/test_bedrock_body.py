"""What is sent to Bedrock's Converse, to the letter; and what is refused before it is."""

import msgspec
import pytest

from sentinel_gateway.providers._anthropic_body import DEFAULT_LIMIT
from sentinel_gateway.providers._bedrock_body import build_body
from sentinel_gateway.providers._chat_parts import Unfit

USER = {"role": "user", "content": "Where does the Danube rise?"}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object"}}}
CACHE = {"type": "ephemeral", "ttl": "1h"}
POINT = {"cachePoint": {"type": "default", "ttl": "1h"}}
LONG, BETWEEN = "context-1m-2025-08-07", "interleaved-thinking-2025-05-14"
NOVA, OLD, NEW = "amazon.nova-pro-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-opus-5"


def body(fields=None, *, model=NOVA, **more):
    return msgspec.json.decode(build_body({"model": "alias", "messages": [USER], **(fields or {}), **more}, model))


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def test_the_least_that_can_be_asked():
    assert body() == {"messages": [{"role": "user", "content": [{"text": "Where does the Danube rise?"}]}]}


def test_what_was_said_keeps_its_order():
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    turn = {"role": "assistant", "content": [{"type": "text", "text": one} for one in "ab"], "thinking_blocks": [thought]}
    turn |= {"tool_calls": [call], "block_order": ["text", "tool_use", "thinking", "text"]}
    said = body(messages=[USER, turn])["messages"][1]["content"]
    assert [next(iter(block)) for block in said] == ["text", "toolUse", "reasoningContent", "text"]


def test_a_conversation_with_everything():
    paper = {"type": "file", "file": {"file_data": "data:application/pdf;base64,cGRm", "filename": "my_river (1).pdf"}}
    plain = {"type": "file", "file": {"file_data": "data:text/plain;base64,eA=="}}
    thoughts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "thinking", "thinking": "Well."},
        {"type": "redacted_thinking", "data": "cg=="},
    ]
    call = {"id": "a.1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}, "cache_control": CACHE}
    messages = [
        {"role": "system", "content": "Be brief.", "cache_control": CACHE},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, image("data:image/jpeg;base64,anA="), paper, plain]},
        {"role": "assistant", "content": "Yes.", "thinking_blocks": thoughts, "tool_calls": [call]},
        {
            "role": "tool",
            "tool_call_id": "a.1",
            "content": [{"type": "text", "text": "1"}, image("data:image/png;base64,cA==")],
        },
        {"role": "tool", "tool_call_id": "b", "content": "No.", "is_error": True},
        {"role": "user", "content": "And?", "cache_control": {"type": "ephemeral"}},
    ]
    sent = body(messages=messages)
    assert sent["system"] == [{"text": "Be brief."}, POINT]
    assert sent["messages"] == [
        {
            "role": "user",
            "content": [
                {"text": "Look:"},
                {"image": {"format": "jpeg", "source": {"bytes": "anA="}}},
                {"document": {"format": "pdf", "name": "my-river-(1)-pdf", "source": {"bytes": "cGRm"}}},
                {"document": {"format": "txt", "name": "document", "source": {"bytes": "eA=="}}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
                {"reasoningContent": {"reasoningText": {"text": "Well."}}},
                {"reasoningContent": {"redactedContent": "cg=="}},
                {"text": "Yes."},
                {"toolUse": {"toolUseId": "a_1", "name": "f", "input": {"a": 1}}},
                POINT,
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "a_1",
                        "content": [{"text": "1"}, {"image": {"format": "png", "source": {"bytes": "cA=="}}}],
                    }
                },
                {"toolResult": {"toolUseId": "b", "content": [{"text": "No."}], "status": "error"}},
                {"text": "And?"},
                {"cachePoint": {"type": "default"}},
            ],
        },
    ]


def test_a_turn_of_nothing_but_thoughts_of_a_new_kind_is_left_out():
    thoughtful = {"role": "assistant", "thinking_blocks": [{"type": "new"}]}
    assert body(messages=[USER, thoughtful, USER])["messages"] == body()["messages"] * 2


def test_sampling_and_what_one_model_alone_understands():
    sent = body(temperature=1, top_p=0.9, stop="a", max_tokens=7, additional_model_request_fields={"top_k": 5})
    assert sent["inferenceConfig"] == {"temperature": 1, "topP": 0.9, "stopSequences": ["a"], "maxTokens": 7}
    assert sent["additionalModelRequestFields"] == {"top_k": 5}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, {}),
        ("auto", {"toolChoice": {"auto": {}}}),
        ("required", {"toolChoice": {"any": {}}}),
        ({"type": "function", "function": {"name": "look_up"}}, {"toolChoice": {"tool": {"name": "look_up"}}}),
    ],
)
def test_tools(choice, sent):
    strict = {"type": "function", "function": {"name": "f", "strict": True}, "cache_control": CACHE}
    assert body(tools=[TOOL, strict], tool_choice=choice)["toolConfig"] == {
        "tools": [
            {"toolSpec": {"name": "look_up", "description": "Looks up.", "inputSchema": {"json": {"type": "object"}}}},
            {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}, "strict": True}},
            POINT,
        ],
        **sent,
    }


def test_an_answer_by_a_schema():
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    assert body(response_format=form)["outputConfig"] == {
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": '{"type":"object"}', "name": "n"}}}
    }


@pytest.mark.parametrize(
    ("effort", "model", "limit", "more", "told"),
    [
        ("high", NOVA, None, None, "high"),
        ("minimal", NOVA, 9, None, "low"),
        ("high", NEW, None, {"thinking": {"type": "adaptive"}}, "high"),
        ("none", NEW, None, {"thinking": {"type": "disabled"}}, None),
        ("medium", OLD, None, {"thinking": {"type": "enabled", "budget_tokens": 8192}}, None),
        ("medium", OLD, 4000, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, None),
    ],
)
def test_how_hard_it_thinks(effort, model, limit, more, told):
    sent = body(model=model, reasoning_effort=effort, max_completion_tokens=limit)
    assert sent.get("additionalModelRequestFields") == more
    assert sent.get("outputConfig") == (told and {"effort": told})
    budgeted = "budget_tokens" in str(more)
    assert sent.get("inferenceConfig", {}).get("maxTokens") == (limit or (DEFAULT_LIMIT if budgeted else None))


def test_what_a_maker_s_words_mean_is_not_looked_at():
    asked = body(additional_model_request_fields={"thinking": 5}, reasoning_effort="low")
    assert (asked["additionalModelRequestFields"], asked["outputConfig"]) == ({"thinking": 5}, {"effort": "low"})


def test_top_k_of_claude():
    assert body(model=NEW, top_k=5)["additionalModelRequestFields"] == {"top_k": 5}


@pytest.mark.parametrize(
    ("model", "betas", "more", "carried"),
    [
        (OLD, f"claude-code-20250219,{LONG},{BETWEEN},files-api-2025-04-14", {}, [LONG, BETWEEN]),
        ("eu.anthropic.claude-opus-4-6-v1", f"{BETWEEN},{LONG}", {}, [BETWEEN, LONG]),
        ("anthropic.claude-opus-4-1-20250805-v1:0", f"{LONG},{BETWEEN}", {}, [BETWEEN]),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", f"{LONG},{BETWEEN}", {}, None),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", BETWEEN, {}, None),
        (NEW, f"{LONG},{BETWEEN}", {}, None),
        (NOVA, f"{LONG},{BETWEEN}", {}, None),
        (OLD, "", {}, None),
        (OLD, LONG, {"anthropic_beta": ["a-new-one", LONG]}, ["a-new-one", LONG]),
        (OLD, "", {"anthropic_beta": "a-new-one"}, "a-new-one"),
        (NOVA, LONG, {"anthropic_beta": "a-new-one"}, "a-new-one"),
        (NOVA, LONG, {"anthropic_beta": ["a-new-one"]}, ["a-new-one"]),
    ],
)
def test_betas_go_to_those_that_know_them(model, betas, more, carried):
    """Bedrock refuses a request with any other, and a client of Anthropic's sends many."""
    asked = {"model": "alias", "messages": [USER], **({"additional_model_request_fields": more} if more else {})}
    sent = msgspec.json.decode(build_body(asked, model, betas))
    assert sent.get("additionalModelRequestFields", {}).get("anthropic_beta") == carried


@pytest.mark.parametrize("named", ["a-new-one", None, {}, [{}], ["a-new-one", 1]])
def test_betas_that_cannot_be_joined_with_those_of_the_header_are_refused(named):
    asked = {"model": "alias", "messages": [USER], "additional_model_request_fields": {"anthropic_beta": named}}
    with pytest.raises(Unfit, match="takes a list of names as 'anthropic_beta'") as caught:
        build_body(asked, OLD, LONG)
    assert caught.value.param == "additional_model_request_fields"


def test_thinking_in_anthropics_own_words():
    thinking = {"type": "enabled", "budget_tokens": 2000}
    assert body(model=OLD, thinking=thinking)["additionalModelRequestFields"] == {"thinking": thinking}


@pytest.mark.parametrize("thinking", [{"type": "disabled"}, {}])
def test_thinking_that_is_not_wanted_is_no_word_to_models_that_know_none(thinking):
    assert body(thinking=thinking) == body()
    assert body(model=NEW, thinking=thinking)["additionalModelRequestFields"] == {"thinking": thinking}


@pytest.mark.parametrize(
    ("fields", "param", "fix"),
    [
        ({"n": 2}, "n", "leave it out"),
        ({"top_k": 5}, "top_k", "additional_model_request_fields"),
        ({"thinking": {"type": "adaptive"}}, "thinking", "send reasoning_effort, or additional_model_request_fields"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking", "in the words of its maker"),
        ({"temperature": 1.5}, "temperature", "at most 1"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls", "leave it out"),
        ({"tools": [TOOL], "tool_choice": "none"}, "tool_choice", "leave the tools out"),
        ({"reasoning_effort": "none"}, "reasoning_effort", "leave it out"),
        ({"reasoning_effort": "low", "thinking": {"type": "adaptive"}}, "reasoning_effort", "not both"),
        ({"response_format": {"type": "json_object"}}, "response_format", "json_schema"),
        ({"additional_model_request_fields": [1]}, "additional_model_request_fields", "object"),
        ({"messages": [{"role": "user", "content": [image("https://x/y.png")]}]}, "messages.0.content.0.image_url.url", "data:"),
        ({"messages": [{"role": "user", "content": [image("data:image/tiff;base64,AA")]}]}, None, "image/tiff"),
        ({"messages": [{"role": "user", "content": [image("data:;base64,AA")]}]}, None, "without a type"),
    ],
)
def test_what_has_no_place_is_refused_by_name(fields, param, fix):
    with pytest.raises(Unfit, match=fix) as caught:
        body(fields)
    assert param is None or caught.value.param == param
