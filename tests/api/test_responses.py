"""`POST /v1/responses` as a client sees it: without memory, whole and streamed, through the same cache as a chat."""

import json

import pytest

from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"


async def respond(gateway, asked, /, headers=None, **fields):
    return await gateway.ask({"model": "mock-model", "input": asked, **fields}, RESPONSES, **(headers or {}))


def text_of(response) -> str:
    """What a complete response says."""
    assert (response["object"], response["status"]) == ("response", "completed")
    (message,) = response["output"]
    (part,) = message["content"]
    said: str = part["text"]
    return said


def events_of(answer, *, done: bool = True) -> list:
    """The events of a stream; the last thing that is sent is [DONE], unless it broke."""
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), answer.body
    blocks = answer.body.decode().split("\n\n")[:-1]
    if done:
        assert blocks.pop() == "data: [DONE]"
    events = []
    for block in blocks:
        if not block.startswith(":"):
            name, data = block.split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


async def test_whole_and_streamed_are_one_answer(gateway, upstream, text):
    miss, hit = [await respond(gateway, text) for _ in range(2)]
    assert (miss.cache, hit.cache) == ("miss", "exact")
    assert text[:40] in text_of(miss.json)
    assert text_of(miss.json) == text_of(hit.json)
    assert miss.json["usage"] == hit.json["usage"]
    assert miss.json["id"] != hit.json["id"]
    replayed = await respond(gateway, text, stream=True)
    events = events_of(replayed)
    assert (replayed.cache, text_of(events[-1]["response"])) == ("exact", text_of(miss.json))
    assert upstream.count == 1
    assert upstream.calls[0].path == "/v1/chat/completions"
    assert upstream.calls[0].body == {"model": "mock-model", "messages": [{"role": "user", "content": text}]}


async def test_a_stream_comes_as_it_is_made(gateway, upstream, text):
    upstream.script("chunk_ms=5")
    live = await respond(gateway, text, stream=True)
    events = events_of(live)
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert len(deltas) > 3
    assert "".join(deltas) == text_of(events[-1]["response"])
    assert events[-1]["response"]["usage"]["total_tokens"] > 0
    whole = await respond(gateway, text)
    assert (whole.cache, text_of(whole.json)) == ("exact", "".join(deltas))


async def test_a_chat_that_asks_the_same_has_the_same_answer(gateway, upstream, text):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    said = (await gateway.ask(chat("", messages=messages, temperature=0))).json["choices"][0]["message"]["content"]
    response = await respond(gateway, text, instructions="Be brief.", temperature=0)
    assert (response.cache, text_of(response.json)) == ("exact", said)
    assert upstream.count == 1


async def test_tools_are_called_and_heard(gateway, upstream, text):
    look_up = {
        "type": "function",
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]},
    }
    upstream.script("use_tools", times=2)
    first = (await respond(gateway, text, tools=[look_up])).json
    (call,) = first["output"]
    assert (call["type"], call["name"], "river" in json.loads(call["arguments"])) == ("function_call", "look_up", True)
    heard = {"type": "function_call_output", "call_id": call["call_id"], "output": "2,850 km"}
    asked = [{"role": "user", "content": text}, *first["output"], heard]
    assert text_of((await respond(gateway, asked, tools=[look_up])).json)
    assert upstream.calls[1].body["messages"][-1] == {
        "role": "tool",
        "tool_call_id": call["call_id"],
        "content": "2,850 km",
    }
    streamed = events_of(await respond(gateway, text, tools=[look_up], stream=True))
    assert streamed[-1]["response"]["output"][0]["arguments"] == call["arguments"]


async def test_a_schema(gateway, upstream, text):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    wanted = {"format": {"type": "json_schema", "name": "town", "schema": schema}}
    response = (await respond(gateway, text, text=wanted)).json
    assert isinstance(json.loads(text_of(response))["name"], str)
    assert response["text"] == wanted


async def test_thoughts_and_what_is_cut_short(gateway, upstream, text):
    upstream.script("reasoning")
    thought, message = (await respond(gateway, text)).json["output"]
    assert (thought["type"], message["type"]) == ("reasoning", "message")
    upstream.script("finish=length")
    cut = (await respond(gateway, text + "!", max_output_tokens=20)).json
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


async def test_a_stream_that_breaks_is_told(gateway, upstream, text):
    upstream.script("cut_after=2")
    broken = await respond(gateway, text, stream=True)
    *_, error, failed = events_of(broken, done=False)
    assert (error["type"], error["code"]) == ("error", "upstream_error")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert b"[DONE]" not in broken.body
    assert (await respond(gateway, text)).cache == "miss"


async def test_an_error_after_a_heartbeat_is_an_event(upstream, tmp_path, text):
    environ = {"SENTINEL_SERVER__HEARTBEAT": "0.05"}
    async with running_gateway(tmp_path, environ=environ, config=one_provider(upstream.base_url)) as gateway:
        upstream.script("err=500;latency_ms=300")
        (error,) = events_of(await respond(gateway, text, stream=True), done=False)
        assert (error["type"], error["code"], error["error"]["code"]) == ("error", "upstream_error", "upstream_error")
        upstream.script("err=500")
        failed = await respond(gateway, text, stream=True)
        assert (failed.status, failed.error["code"]) == (502, "upstream_error")


async def test_an_idempotency_key(gateway, upstream, text):
    key = {"idempotency_key": f"{len(text)}-responses", "x_bypass_cache": "true"}
    first, again = [await respond(gateway, text, key) for _ in range(2)]
    assert again.headers["idempotent-replayed"] == "true"
    assert [first.json[name] for name in ("id", "output", "usage")] == [again.json[name] for name in ("id", "output", "usage")]
    assert upstream.count == 1


async def test_what_is_refused(gateway, upstream, text):
    for fields, param in (
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ):
        refused = await respond(gateway, text, **fields)
        assert (refused.status, refused.error["param"], refused.error["type"]) == (400, param, "invalid_request_error")
    assert upstream.count == 0
    for path in ("/responses", "/responses/", "/v1/responses/"):
        assert (await gateway.ask({"model": "demo", "input": text}, path)).status == 200
    assert (await gateway.get(f"{RESPONSES}/resp_1")).status == 404
