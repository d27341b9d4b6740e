"""`POST /v1/messages` streamed, and `POST /v1/messages/count_tokens`, over HTTP."""

import asyncio
import json

import pytest

from tests.gateway import chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

PATH = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
LOOK_UP = {
    "name": "look_up",
    "input_schema": {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]},
}


def ask(text, **fields):
    """A request for a streamed message."""
    return {
        "model": "mock-model",
        "max_tokens": 200,
        "stream": True,
        "messages": [{"role": "user", "content": text}],
        **fields,
    }


def events(body):
    """The events of a stream, read strictly: a name, a data line that has the same type, and a line between."""
    assert body.endswith(b"\n\n"), body[-80:]
    found = []
    for block in body.decode().removesuffix("\n\n").split("\n\n"):
        if block.startswith(": "):  # a comment: it is nothing to who reads the stream
            continue
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def text_in(told):
    return "".join(event["delta"].get("text", "") for event in told if event["type"] == "content_block_delta")


async def test_a_stream_says_what_the_whole_answer_says(gateway, upstream, text):
    live, stored = [await gateway.ask(ask(text), PATH) for _ in range(2)]
    whole = await gateway.ask(ask(text, stream=False), PATH)
    assert [answer.cache for answer in (live, stored, whole)] == ["miss", "exact", "exact"]
    for answer in (live, stored):
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        told = events(answer.body)
        kinds = [event["type"] for event in told]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert set(kinds[2:-3]) == {"content_block_delta"}
        assert text_in(told) == whole.json["content"][0]["text"]
        assert told[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
        assert told[-2]["usage"] == whole.json["usage"]
    assert len(events(live.body)) > len(events(stored.body))
    assert upstream.calls[0].body["stream_options"] == {"include_usage": True}
    assert upstream.count == 1


async def test_a_chat_s_stream_is_stored_for_messages_as_well(gateway, upstream, text):
    streamed = await gateway.ask(chat(text, stream=True, max_tokens=200))
    told = events((await gateway.ask(ask(text), PATH)).body)
    assert streamed.sse.text() == text_in(told) != ""
    assert upstream.count == 1


async def test_tools_are_streamed_as_json_in_pieces(gateway, upstream, text):
    streamed = await gateway.ask(ask(text, tools=[LOOK_UP], tool_choice={"type": "any"}), PATH)
    told = events(streamed.body)
    opening = told[1]["content_block"]
    assert (opening["type"], opening["name"], opening["input"]) == ("tool_use", "look_up", {})
    pieces = [event["delta"]["partial_json"] for event in told if event["type"] == "content_block_delta"]
    assert len(pieces) > 1
    whole = await gateway.ask(ask(text, tools=[LOOK_UP], tool_choice={"type": "any"}, stream=False), PATH)
    assert whole.json["content"] == [{**opening, "input": json.loads("".join(pieces))}]
    assert told[-2]["delta"]["stop_reason"] == "tool_use"
    assert upstream.count == 1


async def test_reasoning_is_a_block_of_thoughts_for_whoever_asks(gateway, upstream, text):
    upstream.script("reasoning", times=2)
    thinks = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    told, untold = [events((await gateway.ask(ask(text, **more), PATH)).body) for more in (thinks, {})]
    blocks = [
        [event["content_block"]["type"] for event in each if event["type"] == "content_block_start"] for each in (told, untold)
    ]
    assert blocks == [["thinking", "text"], ["text"]]


async def test_characters_may_be_torn(gateway, upstream, text):
    upstream.script("split_utf8")
    streamed = await gateway.ask(ask(text), PATH)
    assert "Grüße, 漢字 und 🙂🙃" in text_in(events(streamed.body))


@pytest.mark.parametrize("fault", ["cut_after=2", "rst_after=2", "sse_error_after=2", "bad_sse", "no_done;no_finish"])
async def test_a_stream_that_breaks_ends_in_an_error(gateway, upstream, text, fault):
    upstream.script(fault)
    answer = await gateway.ask(ask(text), PATH)
    assert answer.status == 200
    *others, last = events(answer.body)
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert last["request_id"] == answer.headers["request-id"]
    assert {event["type"] for event in others} <= {"message_start", "content_block_start", "content_block_delta"}
    again = await gateway.ask(ask(text), PATH)
    assert again.cache == "miss"
    assert events(again.body)[-1] == {"type": "message_stop"}


async def test_a_silent_stream_is_kept_alive_by_pings(chaos, upstream, text, tmp_path):
    config = one_provider(chaos.base_url) + "server: {heartbeat: 0.05}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        upstream.script("first_token_ms=60000")
        wire = await gateway.connect()
        wire.send(post(ask(text), PATH, headers="Connection: close\r\n"))
        asking = asyncio.create_task(wire.answer())
        await until(lambda: upstream.calls)
        for _ in range(10):  # turns of the loop, and moments in which its heart beats
            await asyncio.sleep(0.05)
        upstream.go_on()
        told = events((await asking).body)
        await wire.close()
        pings = [event for event in told if event["type"] == "ping"]
        assert len(pings) >= 2
        rest = [event["type"] for event in told if event["type"] != "ping"]
        assert (rest[0], rest[-1]) == ("message_start", "message_stop")
        upstream.script("latency_ms=200;err=500")
        refused = events((await gateway.ask(ask(f"{text} again"), PATH)).body)
        assert [event["type"] for event in refused][-1] == "error"


async def test_a_caller_who_leaves_ends_the_call(gateway, upstream, text):
    upstream.script("chunk_ms=60000")
    wire = await gateway.connect()
    wire.send(post(ask(text), PATH))
    await wire.read_until(b"content_block_delta")
    wire.abort()
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at is not None


# --- counting ---


def count(words, **fields):
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": words}], **fields}


@pytest.mark.parametrize("path", [COUNT, "/messages/count_tokens", f"{COUNT}/"])
async def test_tokens_are_counted_and_nobody_is_asked(gateway, upstream, path):
    answer = await gateway.ask(count("Hello, world"), path)
    assert (answer.status, answer.json) == (200, {"input_tokens": 10})
    assert answer.headers["request-id"]
    assert answer.headers["cache-control"] == "private, no-store"
    assert upstream.count == 0


async def test_all_that_is_sent_counts(gateway, upstream):
    async def tokens(**fields):
        return (await gateway.ask(count("Hello, world", **fields), COUNT)).json["input_tokens"]

    bare = await tokens()
    assert await tokens(max_tokens=4000, stream=True) == bare
    assert await tokens(system="Be brief.") > bare
    assert await tokens(tools=[LOOK_UP]) > bare + 20
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}
    assert await tokens(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello, world"}, image]}]) == bare + 1445


async def test_what_can_t_be_counted(gateway, upstream):
    answers = [
        await gateway.ask(count("a", messages=[]), COUNT),
        await gateway.ask(count("a", model="groq/none"), COUNT),
        await gateway.get(COUNT),
    ]
    assert [answer.status for answer in answers] == [400, 404, 405]
    assert [answer.json["error"]["type"] for answer in answers] == [
        "invalid_request_error",
        "not_found_error",
        "invalid_request_error",
    ]
