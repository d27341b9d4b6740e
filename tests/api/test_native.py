"""From Anthropic's dialect to a provider of Anthropic's dialect: as it came, value for value, and the answer as it was told."""

import json

import pytest

from tests.gateway import one_provider, running_gateway
from tests.native import AnthropicVoice, BedrockVoice, NativeUpstream

pytestmark = pytest.mark.anyio

PATH = "/v1/messages"
MODEL = AnthropicVoice.model
BETAS = "claude-code-20250219, context-management-2025-06-27"
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}


@pytest.fixture(scope="module")
async def native(anyio_backend):
    async with NativeUpstream(AnthropicVoice()) as upstream:
        yield upstream


@pytest.fixture(scope="module")
async def both(native, chaos, tmp_path_factory):
    """`native` speaks Anthropic's dialect and has a beta of its own; `mock` beside it speaks OpenAI's."""
    headers = "{Anthropic-Beta: context-1m-2025-08-07}"
    entry = f"dialect: anthropic, base_url: '{native.base_url}', api_key: k-of-native, models: [{MODEL}], headers: {headers}"
    models = f"models: {{chain: [mock/mock-model, native/{MODEL}]}}\n"
    config = f"{one_provider(chaos.base_url)}  native: {{{entry}}}\n{models}"
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


def ask(text, **fields):
    return {"model": f"native/{MODEL}", "max_tokens": 200, "messages": [{"role": "user", "content": [say(text)]}], **fields}


def say(words):
    return {"type": "text", "text": words}


def an_agent_s(text):
    """As Claude Code asks, in the middle of its work."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"river": "Danube"}, "caller": {"type": "direct"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "tool_reference", "tool_name": "look_up"}]}
    return ask(
        text,
        system=[
            {**say("x-anthropic-billing-header: cc_version=2"), "new": 1},
            {**say("Be brief."), "cache_control": {"ttl": "1h"}},
        ],
        metadata={"user_id": "u-1", "new": [1]},
        thinking={"type": "adaptive", "display": "omitted"},
        output_config={"effort": "high", "task_budget": {"type": "tokens", "total": 9.5}},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        tools=[{"name": "look_up", "input_schema": {"type": "object"}, "defer_loading": True, "eager_input_streaming": True}],
        service_tier="auto",
        something_new={"a": [1, 2.0, None]},
        messages=[
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [say("First."), call, thought, say("Then.")]},
            {"role": "user", "content": [say("So:"), result]},
            {"role": "system", "content": [{**say("The time is nine."), "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": [say(text)]},
        ],
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_value_for_value(both, native, text, stream):
    body = an_agent_s(text) | ({"stream": True} if stream else {})
    answer = await both.ask(body, f"{PATH}?beta=true", anthropic_beta=BETAS, anthropic_version="2023-06-01")
    assert answer.status == 200, answer.body
    call = native.calls[-1]
    assert call.body == {**body, "model": MODEL}
    assert list(call.body["messages"][1]["content"][1]) == list(body["messages"][1]["content"][1])
    betas = "context-1m-2025-08-07,claude-code-20250219,context-management-2025-06-27"
    assert (call.headers["anthropic-beta"], call.headers["anthropic-version"]) == (betas, "2023-06-01")
    assert call.headers["x-api-key"] == "k-of-native"


async def test_where_the_conversation_has_been_is_mended(both, native, text):
    """Thoughts that nobody signed, and ids that Anthropic refuses, come from other providers."""
    call = {"type": "tool_use", "id": "functions.look_up:0", "name": "look_up", "input": {}}
    unsigned = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    turns = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [unsigned]},
        {"role": "assistant", "content": [call, say("Wait.")]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "functions.look_up:0"}, say(text)]},
    ]
    assert (await both.ask(ask(text, messages=turns), PATH)).status == 200
    first, second, third = native.calls[-1].body["messages"]
    assert (first["content"], second["content"]) == ("Look.", [{**call, "id": "functions_look_up_0"}, say("Wait.")])
    assert third["content"][0]["tool_use_id"] == "functions_look_up_0"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tools": [SEARCH]}, "tools[0].type"),
        ({"tools": [{"name": "a", "input_schema": {}, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"system": [{**say("a"), "new": 1}]}, "system[0].new"),
        ({"mcp_servers": [{"name": "a"}]}, "mcp_servers"),
    ],
)
@pytest.mark.parametrize("model", ["mock/mock-model", "demo"])
async def test_who_cannot_be_told_is_not_asked(both, upstream, text, model, fields, place):
    answer = await both.ask(ask(text, model=model, **fields), PATH)
    told = answer.json["error"]
    assert (answer.status, told["type"]) == (400, "invalid_request_error")
    assert f"can't be given '{place}'" in told["message"]
    assert upstream.count == 0


async def test_the_next_target_may_be_told(both, native, upstream, text):
    answer = await both.ask(ask(text, model="chain", tools=[SEARCH]), PATH)
    assert (answer.status, answer.json["model"]) == (200, MODEL)
    assert (native.calls[-1].body["tools"], upstream.count) == ([SEARCH], 0)


async def test_what_helps_stays_here_where_nobody_knows_it(both, upstream, text):
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    answer = await both.ask(ask(text, model="mock/mock-model", context_management=edits), PATH, anthropic_beta=BETAS)
    assert answer.status == 200
    assert upstream.calls[0].body.keys() == {"model", "max_tokens", "messages"}
    assert "anthropic-beta" not in upstream.calls[0].headers


async def test_what_a_header_switches_on_is_part_of_what_is_asked(both, native, text):
    before = len(native.calls)
    sent = [None, BETAS, BETAS, BETAS.replace(" ", ""), "other-beta", None]
    answers = [await both.ask(ask(text), PATH, **({"anthropic_beta": betas} if betas else {})) for betas in sent]
    assert [answer.cache for answer in answers] == ["miss", "miss", "exact", "exact", "miss", "exact"]
    assert len(native.calls) == before + 3
    refused = await both.ask(ask(text), PATH, anthropic_beta="<script>")
    assert (refused.status, "anthropic-beta" in refused.json["error"]["message"]) == (400, True)


async def test_a_provider_of_its_dialect_is_told_the_version(both, native, text):
    """Of what a chat says as well; and who asks in another dialect asks in the usual one, which takes all that a chat says."""
    sent = [{}, {"anthropic_version": "2026-10-21"}, {"anthropic_version": "2023-06-01"}]
    before = len(native.calls)
    for number, version in enumerate(sent):
        assert (await both.ask(ask(f"{number} {text}"), PATH, **version)).status == 200
        assert (await both.ask(an_agent_s(f"{number} {text}"), PATH, **version)).status == 200
    await both.ask({"model": f"native/{MODEL}", "messages": [{"role": "user", "content": text}]}, anthropic_version="2026-10-21")
    told = [call.headers["anthropic-version"] for call in native.calls[before:]]
    assert told == ["2023-06-01"] * 2 + ["2026-10-21"] * 2 + ["2023-06-01"] * 3


async def test_the_operator_s_version_stands_above_the_caller_s(native, tmp_path, text):
    """For a server of Anthropic's dialect that knows one only."""
    entry = f"dialect: anthropic, base_url: '{native.base_url}', api_key: k, models: [{MODEL}]"
    config = f"providers:\n  native: {{{entry}, headers: {{Anthropic-Version: 2023-06-01}}}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        for body in (ask(text), an_agent_s(text)):
            assert (await gateway.ask(body, PATH, anthropic_version="2026-10-21", anthropic_beta=BETAS)).status == 200
            assert native.calls[-1].headers["anthropic-version"] == "2023-06-01"


async def test_what_a_header_switches_on_reaches_claude_at_bedrock(anyio_backend, tmp_path, text):
    """As far as it is known there."""
    claude = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    async with NativeUpstream(BedrockVoice()) as bedrock:
        entry = f"dialect: bedrock, base_url: '{bedrock.base_url}', api_key: k, region: us-east-1, models: ['{claude}']"
        async with running_gateway(tmp_path, config=f"providers:\n  aws: {{{entry}}}\n") as gateway:
            betas = f"{BETAS}, context-1m-2025-08-07"
            answers = [
                await gateway.ask(ask(text, model=f"aws/{claude}"), PATH, **sent)
                for sent in ({}, {"anthropic_beta": betas}, {"anthropic_beta": betas})
            ]
    assert [(answer.status, answer.cache) for answer in answers] == [(200, "miss"), (200, "miss"), (200, "exact")]
    more = [call.body.get("additionalModelRequestFields") for call in bedrock.calls]
    assert more == [None, {"anthropic_beta": ["context-1m-2025-08-07"]}]


def put_together(body: bytes):
    """The message that the events of a stream make, as Anthropic's clients put it together."""
    events = [json.loads(line.removeprefix(b"data: ")) for line in body.splitlines() if line.startswith(b"data: ")]
    message, pieces = events[0]["message"], {}
    for event in events[1:]:
        match event:
            case {"type": "content_block_start", "index": index, "content_block": block}:
                assert index == len(message["content"])
                message["content"].append(block)
            case {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}:
                message["content"][index]["text"] += text
            case {"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": piece}}:
                pieces[index] = pieces.get(index, "") + piece
            case {"type": "content_block_delta", "index": index, "delta": {"type": "citations_delta", "citation": citation}}:
                message["content"][index].setdefault("citations", []).append(citation)
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                message |= {**delta, "usage": usage}
    for index, text in pieces.items():
        message["content"][index]["input"] = json.loads(text or "{}")
    assert events[-1] == {"type": "message_stop"}
    return message


@pytest.mark.parametrize("stream", [False, True])
async def test_what_it_did_there_is_told(both, native, text, stream):
    """Searches at Anthropic, results, what is cited, and that it is not done yet: whole, as a stream, and from the cache."""
    before, asked = len(native.calls), ask(text, tools=[SEARCH])
    answers = [await both.ask({**asked, "stream": streamed}, PATH) for streamed in (stream, not stream, stream)]
    assert [answer.cache for answer in answers] == ["miss", "exact", "exact"]
    whole, *streams = sorted(answers, key=lambda answer: answer.body.startswith(b"event:"))
    messages = [answer.json if answer.body.startswith(b"{") else put_together(answer.body) for answer in (whole, *streams)]
    for message in messages:
        assert message["content"] == AnthropicVoice.searched
        assert (message["stop_reason"], message["stop_sequence"]) == ("pause_turn", None)
        assert message["usage"]["server_tool_use"] == {"web_search_requests": 1}
        assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (12, 9)
    assert len(native.calls) == before + 1
    assert native.calls[-1].body["tools"] == [SEARCH]


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_without_arguments_and_calls_told_at_once_are_one_block_each(both, text, stream):
    tool = {"name": "look_up", "input_schema": {"type": "object"}, "eager_input_streaming": True}  # no chat can say that
    asked = ask(text, tools=[tool], tool_choice={"type": "any"})
    for streamed in (stream, not stream):
        answer = await both.ask({**asked, "stream": streamed}, PATH)
        message = put_together(answer.body) if streamed else answer.json
        assert message["content"] == AnthropicVoice.called
        assert message["stop_reason"] == "tool_use"


async def test_an_idempotency_key_is_for_what_the_headers_switch_on_as_well(both, native, text):
    before = len(native.calls)
    answers = [
        await both.ask(ask(text), PATH, idempotency_key="switched-on", anthropic_beta=b) for b in (BETAS, BETAS, "other-beta")
    ]
    assert [answer.status for answer in answers] == [200, 200, 422]
    assert len(native.calls) == before + 1
