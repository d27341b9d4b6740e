"""Providers of other dialects behind the whole gateway, asked with the real OpenAI SDK."""

from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI

from sentinel_gateway.probes import Probe, probe_providers
from sentinel_gateway.settings.load import load
from tests.gateway import Gateway, chat, provider, running_gateway
from tests.native import AnthropicVoice, BedrockVoice, Fault, GeminiVoice, NativeUpstream, Voice

pytestmark = pytest.mark.anyio

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
VOICES: dict[str, type[Voice]] = {"anthropic": AnthropicVoice, "gemini": GeminiVoice, "bedrock": BedrockVoice}


@pytest.fixture(scope="module", params=VOICES)
async def native(request, anyio_backend) -> AsyncIterator[NativeUpstream]:
    async with NativeUpstream(VOICES[request.param]()) as upstream:
        yield upstream


@pytest.fixture(scope="module")
async def gateway(native, chaos, tmp_path_factory) -> AsyncIterator[Gateway]:
    """The provider `native`, and `mock` beside it."""
    entry = (
        f"dialect: {native.voice.dialect}, base_url: '{native.base_url}', api_key: k-of-native, models: [{native.voice.model}]"
    )
    config = f"""
providers:
  native: {{{entry}}}
{provider("mock", chaos.base_url)}models:
  one: native/{native.voice.model}
  chain: [native/{native.voice.model}, mock/mock-model]
"""
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def client(gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-of-the-client", max_retries=0) as client:
        yield client


def ask(text):
    return [{"role": "user", "content": text}]


async def test_a_whole_answer_then_the_same_again_is_a_hit_also_as_a_stream(client, native, text):
    before = len(native.calls)
    first = await client.chat.completions.create(model="one", messages=ask(text))
    again = await client.chat.completions.create(model="one", messages=ask(text))
    assert first.choices[0].message.content == f"You asked: {text} The Danube rises in the Black Forest."
    assert again.choices == first.choices
    assert first.usage.total_tokens == again.usage.total_tokens == 21
    streamed = [chunk async for chunk in await client.chat.completions.create(model="one", messages=ask(text), stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == first.choices[0].message.content
    assert len(native.calls) == before + 1
    assert "k-of-native" in str(native.calls[-1].headers.values())


async def test_a_stream_of_tool_calls(client, text):
    asked = {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look_up"}}}
    async with client.chat.completions.stream(model="one", messages=ask(text), **asked) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_completion()
    assert events
    [call] = final.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments.replace(" ", "")) == ("look_up", '{"river":"Danube"}')
    assert final.choices[0].finish_reason == "tool_calls"


async def test_what_cannot_be_carried_is_a_400_that_names_the_field(client, native, text):
    before = len(native.calls)
    with pytest.raises(openai.BadRequestError, match="native can't be given 'logit_bias': leave it out") as caught:
        await client.chat.completions.create(model="one", messages=ask(text), logit_bias={"1": 5})
    assert (caught.value.param, caught.value.code) == ("logit_bias", "unsupported_value")
    assert len(native.calls) == before


async def test_what_one_target_cannot_carry_the_next_may(gateway, upstream, text):
    answer = await gateway.ask(chat(text, "chain", logit_bias={"1": 5}))
    assert (answer.status, answer.json["model"]) == (200, "mock-model")
    assert upstream.calls[0].body["logit_bias"] == {"1": 5}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_one_target_fails_at_the_next_does(gateway, native, upstream, text, stream):
    native.script(Fault(status=503))
    assert (await gateway.ask(chat(text, "chain", stream=stream))).status == 200
    assert upstream.count == 1


async def test_a_stream_that_was_cut_ends_in_an_error_and_is_not_kept(gateway, native, text):
    native.script(Fault(cuts=1))
    sse = (await gateway.ask(chat(text, "one", stream=True))).sse
    assert not sse.done
    assert "cut" in sse.error["message"]
    assert (await gateway.ask(chat(text, "one"))).cache == "miss"


async def test_a_cut_stream_of_another_is_replaced_before_its_first_word(gateway, native, upstream, text):
    native.script(Fault(cuts=100))
    assert (await gateway.ask(chat(text, "chain", stream=True))).sse.done
    assert upstream.count == 1


async def test_the_doctor_asks_for_its_models(native, tmp_path):
    entry = f"dialect: {native.voice.dialect}, base_url: '{native.base_url}', api_key: '${{KEY}}'"
    (tmp_path / "sentinel.yaml").write_text(f"providers:\n  native: {{{entry}}}\n")
    settings = load({"HOME": str(tmp_path), "KEY": "k-of-native"}, cwd=tmp_path).settings
    assert await probe_providers(settings) == [Probe("native", ok=True, detail="1 models")]
    native.script(Fault(status=401))
    assert await probe_providers(settings) == [Probe("native", ok=False, detail="native refused our key (401): check api_key.")]


async def test_anthropics_clients_reach_it_too(gateway, native, text):
    """Tools, hints for a prompt cache and a result that failed go from one dialect to the other, by way of OpenAI's."""
    hint = {"type": "ephemeral"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"river": "Rhine"}}
    failed = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "No such river.", "is_error": True}
    body = {
        "model": "one",
        "max_tokens": 50,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": hint}],
        "messages": [
            {"role": "user", "content": text},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [failed, {"type": "text", "text": "Then the other one."}]},
        ],
        "tools": [{"name": "look_up", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "look_up"},
    }
    answer = await gateway.ask(body, "/v1/messages")
    [block] = answer.json["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "look_up", {"river": "Danube"})
    assert answer.json["stop_reason"] == "tool_use"
    sent = native.calls[-1].raw
    for word in (b"Be brief.", b"Rhine", b"No such river.", b"error", b"Then the other one."):
        assert word in sent
