"""Replay fidelity: what is stored comes back as it was, whole or as a stream, whichever way it came in."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from bench.chaos import ChaosUpstream
from tests.gateway import Answer, Sse, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "town", "schema": SCHEMA}}
FUNCTION = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
TEXT = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}}


@dataclass(frozen=True)
class Feature:
    """Fields of a request, a fault of the upstream, and how one sees in the provider's answer that it was at work."""

    fields: dict[str, Any]
    fault: str
    shows: Callable[[list[dict[str, Any]]], object]


FEATURES = {
    "text": Feature({}, "", lambda said: said[0]["content"].startswith("mock answer")),
    "tool call": Feature({"tools": [FUNCTION], "tool_choice": "required"}, "", lambda said: said[0]["calls"][0][2] == "look_up"),
    "two choices": Feature({"n": 2}, "", lambda said: said[0]["content"] != said[1]["content"]),
    "two tool calls": Feature({"n": 2, "tools": [FUNCTION], "tool_choice": "required"}, "", lambda said: said[1]["calls"]),
    "log probabilities": Feature({"logprobs": True, "top_logprobs": 2}, "", lambda said: said[0]["tokens"][0]["top_logprobs"]),
    "reasoning": Feature({}, "reasoning", lambda said: said[0]["reasoning"]),
    "letters cut in two": Feature({}, "split_utf8", lambda said: "漢字 und 🙂🙃" in said[0]["content"]),
    "structured output": Feature({"response_format": FORMAT}, "", lambda said: json.loads(said[0]["content"])["city"]),
    "an image": Feature(
        {"messages": [{"role": "user", "content": [TEXT, IMAGE]}]}, "", lambda said: "this?" in said[0]["content"]
    ),
    "cut by a limit": Feature({"max_tokens": 5}, "finish=length", lambda said: said[0]["finish"] == "length"),
    "no role": Feature({}, "no_role", lambda said: said),
    "usage in the last content": Feature({}, "usage=content", lambda said: said),
}
WAYS: dict[str, dict[str, Any]] = {
    "whole": {},
    "stream": {"stream": True},
    "stream and usage": {"stream": True, "stream_options": {"include_usage": True}},
}


def said(answer: Answer | dict[str, Any]) -> list[dict[str, Any]]:
    """What an answer says, choice by choice, however it came."""
    if isinstance(answer, dict):
        return [_said_whole(choice) for choice in answer["choices"]]
    if answer.headers["content-type"] == "application/json":
        return said(answer.json)
    stream = answer.sse
    assert stream.done
    assert stream.error is None
    indexes = sorted({choice["index"] for chunk in stream.chunks for choice in chunk["choices"]})
    return [_said_in_pieces(stream, index) for index in indexes]


def _said_whole(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    return {
        "index": choice["index"],
        "content": message.get("content") or "",
        "reasoning": message.get("reasoning_content") or "",
        "calls": [(call["id"], call["type"], *call["function"].values()) for call in message.get("tool_calls") or ()],
        "tokens": (choice.get("logprobs") or {}).get("content") or [],
        "finish": choice["finish_reason"],
    }


def _said_in_pieces(stream: Sse, index: int) -> dict[str, Any]:
    """Joined as the SDKs join it."""
    pieces = [choice for chunk in stream.chunks for choice in chunk["choices"] if choice["index"] == index]
    deltas = [piece["delta"] for piece in pieces]
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        for call in delta.get("tool_calls") or ():
            if call["index"] not in calls:
                calls[call["index"]] = [call["id"], call["type"], call["function"]["name"], ""]
            calls[call["index"]][3] += call["function"]["arguments"]
    assert deltas[0].get("role", "assistant") == "assistant"
    assert [piece["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert deltas[-1] == {}
    return {
        "index": index,
        "content": "".join(delta.get("content") or "" for delta in deltas),
        "reasoning": "".join(delta.get("reasoning_content") or "" for delta in deltas),
        "calls": [tuple(call) for call in calls.values()],
        "tokens": [token for piece in pieces for token in (piece.get("logprobs") or {}).get("content") or ()],
        "finish": pieces[-1]["finish_reason"],
    }


def check_usage(answer: Answer, way: str, usage: dict[str, int]) -> None:
    """The usage is where it was asked for, and nowhere else."""
    match way:
        case "whole":
            assert answer.json["usage"] == usage
        case "stream":
            assert answer.sse.usages == []
        case _:
            *others, last = answer.sse.chunks
            assert last["choices"] == []
            assert last["usage"] == usage
            assert all(chunk["choices"] for chunk in others)


async def ask_directly(upstream: ChaosUpstream, body: dict[str, Any]) -> dict[str, Any]:
    """The upstream's own answer, whole."""
    async with aiohttp.ClientSession() as session, session.post(f"{upstream.base_url}/chat/completions", json=body) as response:
        answer: dict[str, Any] = await response.json()
        return answer


@pytest.mark.parametrize("again", WAYS)
@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("name", FEATURES)
async def test_a_hit_says_what_the_provider_said(gateway, upstream, text, name, first, again):
    feature = FEATURES[name]
    body = chat(text, test=text) | feature.fields
    upstream.script(feature.fault, times=2)
    original = await ask_directly(upstream, body)

    miss = await gateway.ask(body | WAYS[first])
    hit = await gateway.ask(body | WAYS[again])

    assert (miss.status, miss.cache, hit.status, hit.cache) == (200, "miss", 200, "exact")
    assert said(miss) == said(hit) == said(original)
    assert feature.shows(said(original))
    check_usage(hit, again, original["usage"])
    if feature.fault != "usage=content":
        check_usage(miss, first, original["usage"])
    assert upstream.count == 2, "the original and the miss"


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": True}])
async def test_usage_is_always_asked_for_upstream(gateway, upstream, text, options):
    answer = await gateway.ask(chat(text, stream=True, stream_options=options))
    (call,) = upstream.calls
    assert call.body["stream"] is True
    assert call.body["stream_options"] == {"include_usage": True}
    assert len(answer.sse.usages) == bool(options and options.get("include_usage"))


async def test_a_whole_answer_is_asked_for_without_stream_options(gateway, upstream, text):
    await gateway.ask(chat(text, stream=False, stream_options=None))
    assert upstream.calls[0].body.keys() == {"model", "messages"}


async def test_other_stream_options_are_passed_on(gateway, upstream, text):
    await gateway.ask(chat(text, stream=True, stream_options={"include_obfuscation": False, "include_usage": False}))
    assert upstream.calls[0].body["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize("fault", ["", "usage=late"])
async def test_a_usage_chunk_that_nobody_asked_for_is_left_out(gateway, upstream, text, fault):
    upstream.script(fault)
    answer = await gateway.ask(chat(text, stream=True))
    assert answer.sse.usages == []
    assert answer.sse.done
    again = await gateway.ask(chat(text, stream=True, stream_options={"include_usage": True}))
    assert again.cache == "exact"
    assert [set(usage) for usage in again.sse.usages] == [{"prompt_tokens", "completion_tokens", "total_tokens"}]
    assert all(chunk["usage"] is None for chunk in again.sse.chunks[:-1])


@pytest.mark.parametrize("fault", ["usage=absent", "usage=wrong", "usage=zero"])
async def test_odd_usage_is_passed_on_as_it_is(gateway, upstream, text, fault):
    upstream.script(fault, times=2)
    original = await ask_directly(upstream, chat(text))
    miss, hit = await gateway.ask(chat(text)), await gateway.ask(chat(text))
    assert hit.cache == "exact"
    assert miss.json.get("usage") == hit.json.get("usage") == original.get("usage")


async def test_every_hit_has_an_id_and_a_time_of_its_own(gateway, upstream, text):
    start = time.time()
    whole = [(await gateway.ask(chat(text))).json for _ in range(3)]
    stream = (await gateway.ask(chat(text, stream=True))).sse
    assert upstream.count == 1
    assert whole[0]["id"] == "chatcmpl-mock-0"
    assert {(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in stream.chunks} == {
        (stream.chunks[0]["id"], stream.chunks[0]["created"], "mock-model", "chat.completion.chunk")
    }
    hits = [*whole[1:], stream.chunks[0]]
    assert len({hit["id"] for hit in hits}) == 3
    for hit in hits:
        assert hit["id"].startswith("chatcmpl-")
        assert start - 2 <= hit["created"] <= time.time() + 2


async def test_a_whole_hit_is_the_answer_but_for_its_id_and_time(gateway, upstream, text):
    miss, hit = (await gateway.ask(chat(text))).json, (await gateway.ask(chat(text))).json
    own = {"id": "", "created": 0}
    assert miss | own == hit | own
    assert list(miss) == ["id", "object", "created", "model", "choices", "system_fingerprint", "usage"]


async def test_the_provider_s_bytes_are_passed_on(gateway, upstream, text):
    """A miss is not written anew: what the gateway can't read must not be lost on the way."""
    url = f"{upstream.base_url}/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=chat(text)) as response:
        original = await response.read()
    upstream.reset()
    assert (await gateway.ask(chat(text))).body == original


async def test_equal_requests_however_they_are_written(gateway, upstream, text):
    body = chat(text, temperature=1.0, stop=["a", "b"])
    assert (await gateway.ask(body)).cache == "miss"
    spellings = [
        json.dumps(body, indent=3).encode(),
        json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(dict(reversed(body.items())) | {"temperature": 1}).encode(),
        json.dumps(body | {"n": 1, "stream": False, "presence_penalty": 0, "tools": [], "user": "u", "seed": None}).encode(),
        json.dumps(body | {"metadata": {"a": "b"}, "store": True, "service_tier": "flex", "safety_identifier": "s"}).encode(),
        json.dumps(body | {"model": "mock/mock-model"}).encode(),
    ]
    for spelling in spellings:
        answer = await gateway.ask(spelling)
        assert (answer.status, answer.cache) == (200, "exact"), spelling
    assert upstream.count == 1


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 0.5},
        {"seed": 1},
        {"n": 2},
        {"max_tokens": 9},
        {"stop": ["b", "a"]},
        {"an_unknown_field": False},
        {"model": "mock-small"},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": "q", "name": "x"}]},
        {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "q"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}]},
    ],
    ids=str,
)
async def test_whatever_can_change_the_answer_makes_another_request(gateway, upstream, text, other):
    body = chat(text, messages=[{"role": "user", "content": "q"}], stop=["a", "b"], test=text)
    assert (await gateway.ask(body)).cache == "miss"
    assert (await gateway.ask(body | other)).cache == "miss"
    assert upstream.count == 2


async def test_a_hit_survives_a_restart_and_fills_memory(chaos, upstream, tmp_path, text):
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path, config=config) as gateway:
        body, first = await gateway.ask_in_time(chat(text, stream=True))
        assert first.tiers == {"sentinel-disk": {"fwd": "uri-miss"}, "sentinel-memory": {"fwd": "uri-miss"}}
        count = upstream.count
    async with running_gateway(tmp_path, config=config) as gateway:
        hits = [await gateway.ask(body, cache_control="only-if-cached")]
        while hits[0].status == 504:  # the disk was late, as it may be on a busy machine
            hits = [await gateway.ask(body, cache_control="only-if-cached")]
        hits.append(await gateway.ask(body | {"stream": False}))
        assert [list(hit.tiers) for hit in hits] == [["sentinel-disk"], ["sentinel-memory"]]
        assert hits[0].tiers["sentinel-disk"]["hit"] is True
        assert 3000 < hits[0].tiers["sentinel-disk"]["ttl"] <= 3600
        assert 200 < hits[1].tiers["sentinel-memory"]["ttl"] <= 300
        assert said(hits[0]) == said(hits[1]) == said(first)
    assert upstream.count == count
