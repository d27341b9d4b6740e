"""What is sent to Gemini in its own words, to the letter; and what is refused before it is."""

import msgspec
import pytest

from sentinel_gateway.providers._chat_parts import Unfit
from sentinel_gateway.providers._gemini_body import NO_SIGNATURE, build_body

USER = {"role": "user", "content": "Where does the Danube rise?"}
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks up.", "parameters": {"type": "object"}}}
NEW, OLD = "gemini-3-pro", "gemini-2.5-flash"


def body(fields=None, *, model=OLD, **more):
    return msgspec.json.decode(build_body({"model": "alias", "messages": [USER], **(fields or {}), **more}, model))


def call(name, call_id, signature=None):
    extra = {"extra_content": {"google": {"thought_signature": signature}}} if signature else {}
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": '{"a":1}'}, **extra}


def test_the_least_that_can_be_asked():
    assert body() == {"contents": [{"role": "user", "parts": [{"text": "Where does the Danube rise?"}]}]}


def test_a_conversation_with_everything():
    media = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aWNo"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.JPG?z=1"}},
        {"type": "image_url", "image_url": {"url": "https://x/y"}},
        {"type": "file", "file": {"file_data": "https://x/y.pdf", "filename": "y"}},
        {"type": "input_audio", "input_audio": {"data": "bXAz", "format": "mp3"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,cGRm", "filename": "a.pdf"}},
    ]
    thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "of another's"}]
    hinted = {**call("g", "c2"), "cache_control": {"type": "ephemeral"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look:", "cache_control": {"type": "ephemeral"}}, *media]},
        {"role": "assistant", "content": "Yes.", "thinking_blocks": thoughts, "tool_calls": [call("f", "c1"), hinted]},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "o"}, {"type": "text", "text": "ne"}]},
        {"role": "tool", "tool_call_id": "c0", "name": "h", "content": "No.", "is_error": True},
    ]
    sent = body(messages=messages)
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert sent["contents"] == [
        {
            "role": "user",
            "parts": [
                {"text": "Look:"},
                {"inlineData": {"mimeType": "image/png", "data": "aWNo"}},
                {"fileData": {"fileUri": "https://x/y.JPG?z=1", "mimeType": "image/jpeg"}},
                {"fileData": {"fileUri": "https://x/y"}},
                {"fileData": {"fileUri": "https://x/y.pdf", "mimeType": "application/pdf"}},
                {"inlineData": {"mimeType": "audio/mp3", "data": "bXAz"}},
                {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Yes."},
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"id": "c2", "name": "g", "args": {"a": 1}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c2", "name": "g", "response": {"output": "two"}}},
                {"functionResponse": {"id": "c1", "name": "f", "response": {"output": "o\nne"}}},
                {"functionResponse": {"id": "c0", "name": "h", "response": {"error": "No."}}},
            ],
        },
    ]


def test_a_turn_of_nothing_but_another_s_thoughts_is_left_out():
    thoughtful = {"role": "assistant", "thinking_blocks": [{"type": "thinking", "thinking": "Hm."}]}
    assert body(messages=[USER, thoughtful, USER])["contents"] == body()["contents"] * 2


def test_what_was_said_keeps_its_order():
    turn = {"role": "assistant", "content": [{"type": "text", "text": one} for one in "ab"], "tool_calls": [call("f", "t")]}
    turn |= {"block_order": ["text", "tool_use", "thinking", 1, "text"]}
    [said] = [content for content in body({"messages": [USER, turn]})["contents"] if content["role"] == "model"]
    assert [next(iter(part)) for part in said["parts"]] == ["text", "functionCall", "text"]


def test_signatures_come_back_and_where_another_model_made_the_call_one_stands_for_it():
    def signatures(model, *calls):
        content = body(messages=[USER, {"role": "assistant", "tool_calls": list(calls)}], model=model)["contents"][-1]
        return [part.get("thoughtSignature") for part in content["parts"]]

    assert signatures(NEW, call("f", "a", "sig"), call("g", "b")) == ["sig", None]
    assert signatures(NEW, call("f", "a"), call("g", "b")) == [NO_SIGNATURE, None]
    assert signatures(OLD, call("f", "a"), call("g", "b", "sig")) == [None, "sig"]
    assert "thoughtSignature" not in str(body(model=NEW))


def test_sampling_and_limits():
    penalties = {"presence_penalty": 1.5, "frequency_penalty": 1}
    sent = body(penalties, temperature=2, top_p=0.9, top_k=40, stop=["a"], max_tokens=7, seed=3, n=2)
    assert sent["generationConfig"] == {
        "temperature": 2,
        "topP": 0.9,
        "topK": 40,
        "stopSequences": ["a"],
        "maxOutputTokens": 7,
        "seed": 3,
        "presencePenalty": 1.5,
        "frequencyPenalty": 1,
        "candidateCount": 2,
    }


@pytest.mark.parametrize(
    ("choice", "strict", "sent"),
    [
        (None, False, None),
        ("auto", False, None),
        ("auto", True, {"mode": "VALIDATED"}),
        ("none", False, {"mode": "NONE"}),
        ("required", True, {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "look_up"}}, False, {"mode": "ANY", "allowedFunctionNames": ["look_up"]}),
    ],
)
def test_which_tools_may_be_called(choice, strict, sent):
    tool = {**TOOL, "function": {**TOOL["function"], "strict": strict}}
    asked = body(tools=[tool], tool_choice=choice)
    assert asked["tools"] == [
        {"functionDeclarations": [{"name": "look_up", "description": "Looks up.", "parametersJsonSchema": {"type": "object"}}]}
    ]
    assert asked.get("toolConfig") == (sent and {"functionCallingConfig": sent})


def test_json():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    is_json = {"responseMimeType": "application/json"}
    assert body(response_format=form)["generationConfig"] == {**is_json, "responseJsonSchema": schema}
    assert body(response_format={"type": "json_object"})["generationConfig"] == is_json


@pytest.mark.parametrize(
    ("effort", "model", "limit", "sent"),
    [
        ("none", OLD, None, {"thinkingBudget": 0}),
        ("low", OLD, None, {"thinkingBudget": 1024, "includeThoughts": True}),
        ("high", OLD, 10_000, {"thinkingBudget": 5000, "includeThoughts": True}),
        ("max", OLD, None, {"thinkingBudget": 24_576, "includeThoughts": True}),
        ("minimal", NEW, None, {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
        ("high", NEW, 10, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("max", NEW, None, {"thinkingLevel": "XHIGH", "includeThoughts": True}),
    ],
)
def test_how_hard_it_thinks(effort, model, limit, sent):
    asked = body(model=model, reasoning_effort=effort, max_completion_tokens=limit)
    assert asked["generationConfig"]["thinkingConfig"] == sent


@pytest.mark.parametrize(
    ("thinking", "model", "sent"),
    [
        ({"type": "disabled"}, OLD, {"thinkingBudget": 0}),
        ({"type": "disabled"}, "gemini-2.5-pro", None),
        ({"type": "disabled"}, NEW, None),
        ({}, NEW, None),
        ({"type": "adaptive"}, OLD, {"includeThoughts": True}),
        ({"type": "enabled", "budget_tokens": 2000}, OLD, {"thinkingBudget": 2000, "includeThoughts": True}),
        ({"type": "enabled", "budget_tokens": 2000}, NEW, {"thinkingBudget": 2000, "includeThoughts": True}),
        ({"type": "enabled", "budget_tokens": 60_000}, OLD, {"thinkingBudget": 24_576, "includeThoughts": True}),
        (
            {"type": "enabled", "budget_tokens": 2000, "display": "omitted"},
            OLD,
            {"thinkingBudget": 2000, "includeThoughts": False},
        ),
    ],
)
def test_thinking_in_anthropics_words(thinking, model, sent):
    assert body(model=model, thinking=thinking) == body(model=model) | (
        {"generationConfig": {"thinkingConfig": sent}} if sent else {}
    )


CALLED = {"role": "assistant", "tool_calls": [call("f", "a")]}
PICTURE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}


@pytest.mark.parametrize(
    ("fields", "param", "fix"),
    [
        ({"logprobs": True}, "logprobs", "leave it out"),
        ({"thinking": {"type": "enabled"}}, "thinking", "budget_tokens of 1024"),
        ({"thinking": {"type": "enabled", "budget_tokens": True}}, "thinking", "budget_tokens of 1024"),
        ({"thinking": {"type": ["adaptive"]}}, "thinking", "adaptive"),
        ({"thinking": {"type": "adaptive", "new": 1}}, "thinking.new", "leave it out"),
        ({"thinking": "adaptive"}, "thinking", "object"),
        ({"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}, "reasoning_effort", "not both"),
        ({"temperature": 2.5}, "temperature", "at most 2"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls", "leave it out"),
        ({"reasoning_effort": "none"}, "reasoning_effort", "minimal"),
        ({"messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}, "messages", "assistant's message"),
        (
            {"messages": [CALLED, {"role": "tool", "tool_call_id": "a", "content": [PICTURE]}]},
            "messages.1.content.0.image_url.url",
            "text only",
        ),
    ],
)
def test_what_has_no_place_is_refused_by_name(fields, param, fix):
    with pytest.raises(Unfit, match=fix) as caught:
        body(fields, model=NEW)
    assert caught.value.param == param
