"""What Claude Code asks of a gateway, line by line: https://code.claude.com/docs/en/llm-gateway-protocol.

What it sends with each request, and that all of it reaches a provider of Anthropic's dialect, is in `test_native.py`.
"""

import json
from datetime import datetime

import pytest

from tests.gateway import one_provider, running_gateway

pytestmark = pytest.mark.anyio

PATH = "/v1/messages"
AGENT = {
    "anthropic_version": "2023-06-01",
    "anthropic_beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
    "x_app": "cli",
    "x_claude_code_session_id": "0f6e",
    "user_agent": "claude-cli/2.1.291 (external, cli)",
    "x_stainless_retry_count": "0",
}


def ask(text, **fields):
    return {
        "model": "mock-model",
        "max_tokens": 32_000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": '{"device_id":"d"}'},
        "system": [{"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": text}]},
            {"role": "system", "content": [{"type": "text", "text": "It is nine.", "cache_control": {"type": "ephemeral"}}]},
        ],
        "tools": [{"name": "look_up", "input_schema": {"type": "object", "properties": {"river": {"type": "string"}}}}],
        **fields,
    }


@pytest.fixture(scope="module")
async def closed(chaos, tmp_path_factory):
    """It asks for keys, and says every tenth of a second that it is there."""
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    environ = {"SENTINEL_SERVER__HEARTBEAT": "0.1"}
    async with running_gateway(tmp_path_factory.mktemp("closed"), config=config, environ=environ) as gateway:
        yield gateway


def events(body):
    told = body.removesuffix(b"\n\n").split(b"\n\n")
    blocks = [block.split(b"\n") for block in told if not block.startswith(b":")]  # a comment is nothing to who reads the stream
    named = [(kind.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))) for kind, data in blocks]
    assert all(data["type"] == name for name, data in named)
    return named


async def test_a_request_with_a_token_as_it_sends_it(closed, upstream, text):
    """`ANTHROPIC_AUTH_TOKEN` comes as a bearer; a provider of another dialect is asked for what it knows."""
    token = f"Bearer {await closed.key()}"
    answer = await closed.ask(ask(text, stream=True), f"{PATH}?beta=true", authorization=token, **AGENT)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    names = [name for name, _ in events(answer.body) if name != "ping"]
    assert (names[:2], names[-2:]) == (["message_start", "content_block_start"], ["message_delta", "message_stop"])
    sent = upstream.calls[0]
    told = {"model", "max_tokens", "messages", "tools", "user", "reasoning_effort", "stream", "stream_options"}
    assert sent.body.keys() == told
    assert not [name for name in sent.headers if name.startswith(("anthropic", "x-claude", "x-app", "x-stainless"))]


async def test_it_is_told_that_it_is_still_worked_on(closed, upstream, text):
    """Its watchdogs end a connection that says nothing."""
    upstream.script("latency_ms=500")
    answer = await closed.ask(ask(text, stream=True), PATH, x_api_key=await closed.key(), **AGENT)
    names = [name for name, _ in events(answer.body)]
    assert names[0] == "ping"
    assert names[-1] == "message_stop"


async def test_a_stream_that_breaks_has_no_proper_end(closed, upstream, text):
    upstream.script("cut_after=2")
    answer = await closed.ask(ask(text, stream=True), PATH, x_api_key=await closed.key(), **AGENT)
    name, error = events(answer.body)[-1]
    assert (name, error["error"]["type"]) == ("error", "api_error")
    assert error["request_id"] == answer.headers["request-id"]
    assert not {"message_delta", "message_stop"} & {name for name, _ in events(answer.body)}


@pytest.mark.parametrize(
    ("fault", "status", "kind", "words"),
    [
        ("err=529", 529, "overloaded_error", "529"),
        ("err=429;retry_after=3", 429, "rate_limit_error", "rate limit"),
        ("err=500", 502, "api_error", "failed"),
    ],
)
async def test_errors_that_it_goes_by(closed, upstream, text, fault, status, kind, words):
    upstream.script(fault)
    answer = await closed.ask(ask(text), PATH, x_api_key=await closed.key(), **AGENT)
    document = answer.json
    assert (answer.status, document["type"], document["error"]["type"]) == (status, "error", kind)
    assert words in document["error"]["message"]
    assert document["request_id"] == answer.headers["request-id"]
    if "retry-after" in answer.headers:
        assert answer.headers["retry-after"].isdecimal()


async def test_without_a_key_it_is_told_so(closed):
    answer = await closed.ask(ask("Hello"), PATH, **AGENT)
    assert (answer.status, answer.json["error"]["type"]) == (401, "authentication_error")


async def test_it_counts_what_it_would_send(closed, upstream, text):
    """Tools of Anthropic's own among it, which nobody has to be told to be counted."""
    asked = {name: value for name, value in ask(text).items() if name != "max_tokens"}
    asked["tools"].append({"type": "web_search_20250305", "name": "web_search"})
    answer = await closed.ask(asked, f"{PATH}/count_tokens?beta=true", x_api_key=await closed.key(), **AGENT)
    assert (answer.status, answer.json.keys()) == (200, {"input_tokens"})
    assert answer.json["input_tokens"] > 20
    assert upstream.count == 0


async def test_it_finds_the_models(closed):
    headers = {"authorization": f"Bearer {await closed.key()}", "anthropic-version": "2023-06-01"}
    listing = (await closed.get("/v1/models?limit=1000", headers=headers)).json
    assert listing.keys() == {"data", "has_more", "first_id", "last_id"}
    for model in listing["data"]:
        assert model.keys() == {"type", "id", "display_name", "created_at"}
        assert datetime.fromisoformat(model["created_at"])


async def test_its_warm_up_is_answered_at_once_and_sent_nowhere_else(closed):
    headers = {"authorization": f"Bearer {await closed.key()}"}
    async with closed.session.head(f"{closed.base_url}/api/hello", headers=headers, allow_redirects=False) as answer:
        assert answer.status == 404
        assert "location" not in answer.headers
