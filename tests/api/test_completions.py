"""`POST /v1/completions` as a client sees it: whole and streamed, through the same cache as a chat that asks the same."""

import asyncio

import pytest

from tests.gateway import chat

pytestmark = pytest.mark.anyio

COMPLETIONS = "/v1/completions"


def body(prompt, **fields):
    return {"model": "mock-model", "prompt": prompt, **fields}


async def complete(gateway, prompt, /, headers=None, **fields):
    return await gateway.ask(body(prompt, **fields), COMPLETIONS, **(headers or {}))


def text_of(answer) -> str:
    assert answer.status == 200, answer.body
    document = answer.json
    assert document["object"] == "text_completion"
    assert document["id"].startswith("cmpl-")
    (choice,) = document["choices"]
    assert choice.keys() == {"index", "text", "logprobs", "finish_reason"}
    said: str = choice["text"]
    return said


def streamed(answer) -> str:
    stream = answer.sse
    assert stream.done
    assert {chunk["object"] for chunk in stream.chunks} == {"text_completion"}
    return "".join(choice["text"] for chunk in stream.chunks for choice in chunk["choices"])


async def test_whole_and_streamed_are_one_answer(gateway, upstream, text):
    miss = await complete(gateway, text)
    assert text[:40] in text_of(miss)
    assert (miss.cache, (await complete(gateway, text)).cache) == ("miss", "exact")
    again = await complete(gateway, text, stream=True)
    assert (again.cache, streamed(again)) == ("exact", text_of(miss))
    assert upstream.count == 1
    assert upstream.calls[0].body["messages"] == [{"role": "user", "content": text}]
    assert upstream.calls[0].path == "/v1/chat/completions"


async def test_a_stream_comes_as_it_is_made(gateway, upstream, text):
    upstream.script("chunk_ms=5")
    live = await complete(gateway, text, stream=True, stream_options={"include_usage": True})
    assert live.cache == "miss"
    (usage,) = live.sse.usages
    whole = await complete(gateway, text)
    assert (whole.cache, text_of(whole), whole.json["usage"]) == ("exact", streamed(live), usage)
    reasons = [choice["finish_reason"] for chunk in live.sse.chunks for choice in chunk["choices"]]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}


async def test_a_chat_that_asks_the_same_has_the_same_answer(gateway, upstream, text):
    said = (await gateway.ask(chat(text))).json["choices"][0]["message"]["content"]
    completion = await complete(gateway, text)
    assert (completion.cache, text_of(completion)) == ("exact", said)
    assert upstream.count == 1


async def test_several_choices_and_identical_requests_at_once(gateway, upstream, text):
    upstream.script("latency_ms=100")
    answers = await asyncio.gather(*(complete(gateway, text, n=2) for _ in range(3)))
    assert upstream.count == 1
    assert len({choice["text"] for answer in answers for choice in answer.json["choices"]}) == 2


async def test_a_stream_that_breaks_is_told(gateway, upstream, text):
    upstream.script("cut_after=2")
    broken = (await complete(gateway, text, stream=True)).sse
    assert not broken.done
    assert broken.error["code"] == "upstream_error"
    assert (await complete(gateway, text)).cache == "miss"


async def test_an_idempotency_key(gateway, upstream, text):
    key = {"idempotency_key": f"{len(text)}-completions", "x_bypass_cache": "true"}
    first, again = [await complete(gateway, text, key) for _ in range(2)]
    assert first.body == again.body
    assert again.headers["idempotent-replayed"] == "true"
    assert upstream.count == 1


async def test_what_is_refused(gateway, upstream, text):
    for fields, param in (({"echo": True}, "echo"), ({"prompt": [1]}, "prompt"), ({"tools": []}, "tools")):
        refused = await complete(gateway, text, **fields) if "prompt" not in fields else await gateway.ask(body([1]), COMPLETIONS)
        assert (refused.status, refused.error["param"], refused.error["type"]) == (400, param, "invalid_request_error")
    upstream.script("err=400")
    assert (await complete(gateway, text)).status == 400
    for path in ("/completions", "/completions/", "/v1/completions/"):
        assert (await gateway.ask(body(text), path)).status == 200
