"""The demo provider: what it says, in which shapes, and how it fails on demand."""

import asyncio
import time

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamBroken, UpstreamRefused
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers.demo import MODELS, NOTE, DemoProvider, Pace, _chunks, _deltas, _say
from tests.gateway import DEADLINE

pytestmark = pytest.mark.anyio

USER = {"role": "user", "content": "Where does the Danube rise?"}
DAYS = {"type": "integer", "minimum": 1}
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": DAYS}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "now"}}
SHELL = {"type": "custom", "custom": {"name": "shell"}}


@pytest.fixture
def demo():
    return DemoProvider(lambda: 1_700_000_000.9)


def ask(model="demo", **fields):
    return UpstreamCall({"model": "demo", "messages": [USER], **fields}, model, "sentinel-1")


async def message(demo, **fields):
    return (await demo.complete(ask(**fields))).answer.fields["choices"][0]["message"]


async def test_it_repeats_the_question_and_says_that_it_is_a_demo(demo):
    completion = await demo.complete(ask())
    assert completion.answer.fields["choices"][0]["message"] == {
        "role": "assistant",
        "content": f"You asked: Where does the Danube rise?\n\n{NOTE}",
        "refusal": None,
    }
    assert completion.answer.fields["created"] == 1_700_000_000


async def test_the_same_request_gets_the_same_bytes_and_another_one_others(demo):
    first, again, other = [(await demo.complete(ask(seed=seed))).raw for seed in (1, 1, 2)]
    assert first == again != other


@pytest.mark.parametrize(
    ("messages", "quote"),
    [
        ([{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, USER], f"You asked: {USER['content']}"),
        ([{"role": "system", "content": "Be brief."}], "You asked: Be brief."),
        ([USER, {"role": "tool", "content": "Donaueschingen"}], "The tool said: Donaueschingen"),
        ([{"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url"}]}], "You asked: See [image_url]"),
        ([{"role": "user", "content": None}], "You asked: "),
        ([{"role": "user", "content": "x" * 2000}], f"You asked: {'x' * 1000}..."),
    ],
)
async def test_what_is_quoted(demo, messages, quote):
    assert (await message(demo, messages=messages))["content"] == f"{quote}\n\n{NOTE}"


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_the_answer(demo, limit):
    answer = (await demo.complete(ask(**{limit: 3}))).answer
    assert answer.finish_reasons == ("length",)
    assert answer.fields["choices"][0]["message"]["content"] == "You asked: W"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


async def test_json_is_answered_with_json(demo):
    assert msgspec.json.decode((await message(demo, response_format={"type": "json_object"}))["content"])["demo"] is True
    wanted = {"type": "json_schema", "json_schema": {"name": "trip", "schema": CITY, "strict": True}}
    jsonschema_rs.validate(CITY, msgspec.json.decode((await message(demo, response_format=wanted))["content"]))


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"tool_choice": "required"}, ["get_weather"]),
        ({"tool_choice": "required", "parallel_tool_calls": True}, ["get_weather", "now", "shell"]),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, ["now"]),
        ({"tool_choice": {"type": "custom", "custom": {"name": "shell"}}}, ["shell"]),
        ({"tool_choice": "auto"}, []),
        ({"tool_choice": "none"}, []),
        ({}, []),
    ],
)
async def test_which_tools_are_called(demo, fields, called):
    answer = (await demo.complete(ask(tools=[WEATHER, CLOCK, SHELL], **fields))).answer
    calls = answer.fields["choices"][0]["message"].get("tool_calls", [])
    assert [call[call["type"]]["name"] for call in calls] == called
    assert answer.finish_reasons == (("tool_calls",) if called else ("stop",))
    assert len({call["id"] for call in calls}) == len(calls)
    for call in calls:
        if call["type"] == "function":
            parameters = WEATHER["function"]["parameters"] if call["function"]["name"] == "get_weather" else {"type": "object"}
            jsonschema_rs.validate(parameters, msgspec.json.decode(call["function"]["arguments"]))
        else:
            assert call["custom"]["input"] == "You asked: Where does the Danube rise?"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages"),
        ({"n": 0, "messages": [USER]}, None),
        ({"n": 1000}, "n"),
        ({"n": "two"}, "n"),
        ({"n": -1}, "n"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tools": ["x", {"type": "function"}, {"type": 5}]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "missing"}}, "tools": [WEATHER]}, "tool_choice"),
        ({"tool_choice": "required", "tools": [{"type": "function", "function": {"parameters": False}}]}, None),
        ({"tool_choice": "required", "tools": [{"type": "function", "function": {"parameters": {"$ref": "#"}}}]}, "tools"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "colour"}}}}, "response_format"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_it_cannot_understand_is_refused_as_a_provider_would(demo, fields, param, streamed):
    work = demo.open_stream(ask(**fields)) if streamed else demo.complete(ask(**fields))
    if param is None:
        await work
        return
    with pytest.raises(UpstreamRefused) as caught:
        await work
    assert (caught.value.http_status, caught.value.param, caught.value.upstream_code) == (400, param, "invalid_value")


@pytest.mark.parametrize("model", ["gpt-4", "demo-fail-200", "demo-fail-999", "demo-fail-", "demo-fail-\u0665\u0660\u0660", ""])
async def test_other_models_are_not_found(demo, model):
    with pytest.raises(UpstreamRefused) as caught:
        await demo.complete(ask(model))
    assert (caught.value.http_status, caught.value.upstream_code) == (404, "model_not_found")


async def test_every_listed_model_answers_or_fails_as_named(demo):
    assert await demo.list_models() == MODELS
    answers = {model for model in MODELS if "fail" not in model and model != "demo-cut"}
    assert answers == {"demo", "demo-slow"}


async def test_a_cut_answer_is_broken(demo):
    with pytest.raises(UpstreamBroken, match="broke off"):
        await demo.complete(ask("demo-cut"))
    async with await demo.open_stream(ask("demo-cut")) as stream:
        heard = [chunk async for batch in stream for chunk in batch]
    assert not stream.finished
    assert heard
    assert all(chunk.fields["choices"][0]["finish_reason"] is None for chunk in heard)


async def test_slow_is_slow_and_streams_at_its_pace():
    never = DemoProvider(lambda: 0.0, slow=Pace(first=3_600, each=0.01))
    async with asyncio.timeout(DEADLINE), await never.open_stream(ask("demo-slow")):
        pass  # it has begun
    demo = DemoProvider(lambda: 0.0, slow=Pace(first=0.5, each=0.01))
    started = time.monotonic()
    async with await demo.open_stream(ask("demo-slow")) as stream:
        await anext(stream)
        assert time.monotonic() - started >= 0.49
        rest = [batch async for batch in stream]
    assert time.monotonic() - started >= 0.49 + 0.009 * len(rest)
    started = time.monotonic()
    await demo.complete(ask("demo-slow"))
    assert time.monotonic() - started >= 0.49


async def test_a_left_stream_says_nothing_more(demo):
    async with await demo.open_stream(ask()) as stream:
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@given(text, st.integers(1, 3), st.booleans())
def test_the_chunks_fold_back_to_the_message(question, count, with_tools):
    fields = {"messages": [{"role": "user", "content": question}]}
    if with_tools:
        fields |= {"tools": [WEATHER, SHELL], "tool_choice": "required", "parallel_tool_calls": True}
    said = [_say(fields, index) for index in range(count)]
    fold = Fold(expected=count, max_bytes=1_000_000)
    for index, (whole, reason) in enumerate(said):
        for delta in _deltas(whole):
            fold.add({"choices": [{"index": index, "delta": delta, "finish_reason": None}]}, 1)
        fold.add({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}, 1)
    answer = fold.answer()
    for choice, (whole, reason) in zip(answer.fields["choices"], said, strict=True):
        assert choice["finish_reason"] == reason
        assert choice["message"]["content"] == whole["content"]
        assert choice["message"].get("tool_calls", []) == whole.get("tool_calls", [])


async def test_usage_comes_last_and_only_there(demo):
    completion = await demo.complete(ask())
    *others, last = _chunks(completion.answer)
    assert last["choices"] == []
    assert last["usage"] == completion.answer.fields["usage"]
    assert {chunk["usage"] for chunk in others} == {None}
