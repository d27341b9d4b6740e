"""The mock behaves as the OpenAI API does: JSON, streams, tools, structured answers, counts."""

import json

import jsonschema_rs
import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError

from bench.chaos import Fault
from bench.chaos.answer import completion, completion_body, say
from bench.chaos.question import read_question

pytestmark = pytest.mark.anyio

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "kind": {"enum": ["spade", "hoe"]},
        "price": {"type": "number", "minimum": 3},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "parent": {"anyOf": [{"$ref": "#/$defs/part"}, {"type": "null"}]},
        "part": {"$ref": "#/$defs/part"},
    },
    "required": ["name", "kind", "price", "tags", "parent", "part"],
    "additionalProperties": False,
    "$defs": {
        "part": {
            "type": "object",
            "properties": {"id": {"type": "integer"}, "ok": {"type": "boolean"}, "next": {"type": ["null", "string"]}},
            "required": ["id", "ok", "next"],
            "additionalProperties": False,
        }
    },
}
TOOLS = [
    {"type": "function", "function": {"name": "first", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "second", "parameters": SCHEMA}},
]


def chat(text="Which spade?", **more):
    return {"model": "mock-model", "messages": [{"role": "user", "content": text}], **more}


async def ask(client, upstream, body):
    async with client.post(f"{upstream.base_url}/chat/completions", json=body) as answer:
        assert answer.status == 200
        return await answer.json()


async def listen(client, upstream, body):
    """The data of a stream's events, the last of which must be [DONE]."""
    async with client.post(f"{upstream.base_url}/chat/completions", json={**body, "stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = (await answer.text()).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


async def test_equal_requests_have_equal_answers(upstream, client):
    body = chat(temperature=0, top_p=1)
    other_order = dict(reversed(body.items()))
    texts = {text_of(await ask(client, upstream, body)) for body in (body, other_order, body | {"stream": False})}
    assert len(texts) == 1
    assert texts.pop().startswith("mock answer ")


async def test_different_requests_have_different_answers(upstream, client):
    bodies = [chat(), chat("Which hoe?"), chat(temperature=0), chat(user="somebody"), chat("Which spade? ")]
    texts = [text_of(await ask(client, upstream, body)) for body in bodies]
    assert len(set(texts)) == len(bodies)
    assert "to: Which hoe?" in texts[1]


async def test_the_question_is_the_last_users(upstream, client):
    parts = [{"type": "text", "text": "third"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": parts},
    ]
    assert "to: third" in text_of(await ask(client, upstream, {"model": "m", "messages": messages}))


async def test_ids_count_the_calls(upstream, client):
    assert [(await ask(client, upstream, chat()))["id"] for _ in range(2)] == ["chatcmpl-mock-0", "chatcmpl-mock-1"]


async def test_usage_adds_up(upstream, client):
    one, three = await ask(client, upstream, chat()), await ask(client, upstream, chat(n=3))
    for answer in (one, three):
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens"] > 0
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in three["choices"]}) == 3
    assert upstream.calls[1].tokens_sent == three["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n": 2},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "second"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "part", "schema": SCHEMA}}},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True, "top_logprobs": 2},
    ],
    ids=lambda more: next(reversed(more), "plain"),
)
async def test_a_stream_adds_up_to_the_json_answer(upstream, client, more):
    """Whatever is asked for: deltas joined by choice are the message, and the usage chunk is the usage."""
    whole = await ask(client, upstream, chat(**more))
    chunks = await listen(client, upstream, chat(**more, stream_options={"include_usage": True}))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    for choice in whole["choices"]:
        deltas = [part for chunk in chunks for part in chunk["choices"] if part["index"] == choice["index"]]
        assert deltas[0]["delta"]["role"] == "assistant"
        assert (deltas[-1]["delta"], deltas[-1]["finish_reason"]) == ({}, choice["finish_reason"])
        joined = "".join(part["delta"].get("content") or "" for part in deltas)
        calls = [call for part in deltas for call in part["delta"].get("tool_calls", [])]
        logprobs = [token for part in deltas for token in (part["logprobs"] or {}).get("content", [])]
        assert joined == (choice["message"]["content"] or "")
        assert logprobs == (choice["logprobs"] or {}).get("content", [])
        if calls:
            (whole_call,) = choice["message"]["tool_calls"]
            assert (calls[0]["id"], calls[0]["function"]["name"]) == (whole_call["id"], whole_call["function"]["name"])
            assert "".join(call["function"]["arguments"] for call in calls) == whole_call["function"]["arguments"]


async def test_a_stream_has_usage_only_if_asked(upstream, client):
    assert not any("usage" in chunk for chunk in await listen(client, upstream, chat()))


async def test_tool_calls(upstream, client):
    assert "tool_calls" not in (await ask(client, upstream, chat(tools=TOOLS)))["choices"][0]["message"]
    required = (await ask(client, upstream, chat(tools=TOOLS, tool_choice="required")))["choices"][0]
    choice = {"type": "function", "function": {"name": "second"}}
    named = (await ask(client, upstream, chat(tools=TOOLS, tool_choice=choice)))["choices"][0]
    assert [part["finish_reason"] for part in (required, named)] == ["tool_calls", "tool_calls"]
    assert [part["message"]["content"] for part in (required, named)] == [None, None]
    assert required["message"]["tool_calls"][0]["function"] == {"name": "first", "arguments": "{}"}
    assert named["message"]["tool_calls"][0]["function"]["name"] == "second"
    jsonschema_rs.validate(SCHEMA, json.loads(named["message"]["tool_calls"][0]["function"]["arguments"]))


async def test_structured_answers_are_valid(upstream, client):
    format_ = {"type": "json_schema", "json_schema": {"name": "part", "strict": True, "schema": SCHEMA}}
    jsonschema_rs.validate(SCHEMA, json.loads(text_of(await ask(client, upstream, chat(response_format=format_)))))
    assert json.loads(text_of(await ask(client, upstream, chat(response_format={"type": "json_object"}))))["answer"]
    upstream.script("tokens=400")
    padded = text_of(await ask(client, upstream, chat(response_format=format_)))
    jsonschema_rs.validate(SCHEMA, json.loads(padded))
    assert len(padded) == 1600


async def test_logprobs(upstream, client):
    answer = await ask(client, upstream, chat(logprobs=True, top_logprobs=2))
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == text_of(answer)
    assert len(tokens) == answer["usage"]["completion_tokens"]
    assert [len(token["top_logprobs"]) for token in tokens] == [2] * len(tokens)


async def test_the_catalogue(upstream, client):
    async with client.get(f"{upstream.base_url}/models") as answer:
        assert [model["id"] for model in (await answer.json())["data"]] == ["mock-model", "mock-small", "mock-large"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"model": "m", "messages": []}', b'{"model": "m", "messages": [1]}', b"\xff"]
)
async def test_what_is_no_chat_request_is_a_400(upstream, client, body):
    async with client.post(f"{upstream.base_url}/chat/completions", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_unknown_routes_and_methods(upstream, client):
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/chat/completions", 405), ("POST", "/models", 405)):
        async with client.request(method, upstream.base_url + path) as answer:
            assert answer.status == status
    assert [call.status for call in upstream.calls] == [404, 405, 405]


async def test_the_openai_sdk_can_use_it(upstream):
    async with AsyncOpenAI(base_url=upstream.base_url, api_key="sk-test", max_retries=0) as sdk:
        messages = [{"role": "user", "content": "Which spade?"}]
        whole = await sdk.chat.completions.create(model="mock-model", messages=messages)
        stream = await sdk.chat.completions.create(model="mock-model", messages=messages, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == whole.choices[0].message.content
        assert "mock-model" in [model.id async for model in sdk.models.list()]
        upstream.script("err=400")
        with pytest.raises(BadRequestError, match="mock error 400"):
            await sdk.chat.completions.create(model="mock-model", messages=messages)
    assert upstream.calls[0].headers["authorization"] == "Bearer sk-test"
    assert [call.completed for call in upstream.calls] == [True] * 4


def test_the_template_says_what_the_general_way_says():
    for text in ("Which spade?", 'quotes " and \\ and é 🙂'):
        question = read_question(msgspec.json.encode(chat(text)))
        for fault in (Fault(), Fault(tokens=250, latency_ms=5)):
            sayings = [say(question, fault, 0)]
            body = completion_body(question, sayings, fault, 7)
            assert body == msgspec.json.encode(completion(question, sayings, fault, 7))
