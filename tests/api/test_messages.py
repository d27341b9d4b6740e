"""`POST /v1/messages` over HTTP, whole: what providers are sent, what callers are told, and that it is the same path."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from tests.gateway import ADMIN_KEY, chat, one_provider, running_gateway, until
from tests.native import AnthropicVoice, NativeUpstream

pytestmark = pytest.mark.anyio

PATH = "/v1/messages"
HINT = {"type": "ephemeral"}
LOOK_UP = {
    "name": "look_up",
    "input_schema": {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]},
    "cache_control": HINT,
}


def ask(text, **fields):
    """A request for a message."""
    return {"model": "mock-model", "max_tokens": 200, "messages": [{"role": "user", "content": text}], **fields}


def error_of(answer):
    """Type and message; the shape is Anthropic's, and the id is the one in the headers."""
    document = answer.json
    assert document.keys() == {"type", "error", "request_id"}
    assert document["type"] == "error"
    assert document["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert document["error"].keys() == {"type", "message"}
    return document["error"]["type"], document["error"]["message"]


@pytest.mark.parametrize("path", [PATH, "/messages", f"{PATH}/", "/messages/", f"{PATH}?beta=true"])
async def test_a_message_and_the_same_again(gateway, upstream, text, path):
    miss, hit = [await gateway.ask(ask(text), path, anthropic_version="2023-06-01") for _ in range(2)]
    assert [(answer.status, answer.cache) for answer in (miss, hit)] == [(200, "miss"), (200, "exact")]
    message = miss.json
    ((block,), usage) = message["content"], message["usage"]
    assert block["text"].startswith("mock answer")
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "mock-model")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert usage.keys() == {"input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"}
    assert usage["input_tokens"] > 0 < usage["output_tokens"]
    assert hit.json | {"id": message["id"]} == message
    assert hit.json["id"] == f"msg_{hit.headers['x-sentinel-id']}"
    assert hit.headers["request-id"] == hit.headers["x-request-id"]
    assert upstream.count == 1


async def test_what_the_provider_is_sent(gateway, upstream, text):
    """Of a provider of OpenAI's dialect: what it has no place for stays here."""
    body = ask(
        text,
        system=[{"type": "text", "text": "Be brief.", "cache_control": HINT}],
        stop_sequences=["END"],
        thinking={"type": "adaptive"},
        top_k=40,
        metadata={"user_id": "u-1"},
        tools=[LOOK_UP],
        tool_choice={"type": "none"},
        cache_control=HINT,
    )
    answer = await gateway.ask(body, PATH, anthropic_version="2023-06-01", anthropic_beta="context-1m-2025-08-07")
    assert answer.status == 200, answer.body
    assert upstream.calls[0].body == {
        "model": "mock-model",
        "max_tokens": 200,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": text},
        ],
        "stop": ["END"],
        "top_k": 40,
        "user": "u-1",
        "tools": [{"type": "function", "function": {"name": "look_up", "parameters": LOOK_UP["input_schema"]}}],
        "tool_choice": "none",
    }
    assert not any(name.startswith("anthropic") for name in upstream.calls[0].headers)


async def test_the_hints_of_others_go_through(gateway, upstream, text):
    """Who speaks OpenAI's dialect and adds them knows the provider."""
    hinted = {"messages": [{"role": "user", "content": [{"type": "text", "text": text, "cache_control": HINT}]}]}
    answer = await gateway.ask(chat(text, thinking={"type": "enabled"}) | hinted)
    assert answer.status == 200
    sent = upstream.calls[0].body
    assert (sent["messages"], sent["thinking"]) == (hinted["messages"], {"type": "enabled"})


async def test_tools_are_called_and_their_results_go_back(gateway, upstream, text):
    asked = ask(text, tools=[LOOK_UP], tool_choice={"type": "any"})
    first = (await gateway.ask(asked, PATH)).json
    (call,) = first["content"]
    assert (first["stop_reason"], call["type"], call["name"]) == ("tool_use", "tool_use", "look_up")
    assert isinstance(call["input"]["river"], str)
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "2,850 km", "is_error": True}
    turns = [*asked["messages"], {"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    second = (await gateway.ask({**asked, "messages": turns, "tool_choice": {"type": "auto"}}, PATH)).json
    assert second["stop_reason"] == "end_turn"
    sent = upstream.calls[-1].body["messages"]
    assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == call["input"]
    assert sent[2] == {"role": "tool", "tool_call_id": call["id"], "content": "2,850 km"}


@pytest.mark.parametrize("first", [PATH, "/v1/chat/completions"])
async def test_an_answer_in_one_dialect_serves_the_other(gateway, upstream, text, first):
    bodies = {PATH: ask(text, system="Be brief.", stop_sequences=["END"]), "/v1/chat/completions": chat(text, stop=["END"])}
    bodies["/v1/chat/completions"]["max_completion_tokens"] = 200
    bodies["/v1/chat/completions"]["messages"].insert(0, {"role": "system", "content": "Be brief."})
    second = next(path for path in bodies if path != first)
    answers = {path: await gateway.ask(bodies[path], path) for path in (first, second)}
    assert [answers[path].cache for path in (first, second)] == ["miss", "exact"]
    said = answers[PATH].json["content"][0]["text"]
    assert said == answers["/v1/chat/completions"].json["choices"][0]["message"]["content"]
    assert upstream.count == 1


async def test_wishes_reach_the_cache(gateway, upstream, text):
    answers = [await gateway.ask(ask(text), PATH, x_bypass_cache="true", x_cache_explain="true") for _ in range(2)]
    assert [answer.cache for answer in answers] == ["bypass", "bypass"]
    assert "target=mock/mock-model" in answers[0].headers["x-cache-explain"]
    refused = await gateway.ask(ask(f"{text} again"), PATH, cache_control="only-if-cached")
    assert (refused.status, error_of(refused)[0]) == (504, "timeout_error")
    assert upstream.count == 2


async def test_a_key_for_idempotency_does_it_once(gateway, upstream, text):
    sent = {"idempotency_key": "messages-1", "cache_control": "no-store"}
    first, again = [await gateway.ask(ask(text), PATH, **sent) for _ in range(2)]
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    assert upstream.count == 1


async def test_identical_requests_share_one_call(gateway, upstream, text):
    upstream.script("latency_ms=100")
    answers = await asyncio.gather(*(gateway.ask(ask(text), PATH) for _ in range(10)))
    assert len({answer.json["content"][0]["text"] for answer in answers}) == 1
    assert upstream.count == 1


# --- errors ---


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("err=400", 400, "invalid_request_error"),
        ("err=404", 404, "not_found_error"),
        ("err=413", 413, "request_too_large"),
        ("err=429;retry_after=3", 429, "rate_limit_error"),
        ("err=401", 502, "api_error"),
        ("err=500", 502, "api_error"),
        ("err=529", 529, "overloaded_error"),
        ("bad_json", 502, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_fails(gateway, upstream, text, stream, fault, status, kind):
    upstream.script(fault)
    answer = await gateway.ask(ask(text, stream=stream), PATH)
    assert (answer.status, error_of(answer)[0]) == (status, kind)
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (status == 429)
    assert upstream.count == 1


async def test_what_is_wrong_is_named(gateway, upstream, text):
    answers = [
        await gateway.ask(b"{", PATH),
        await gateway.ask(ask(text, n=2), PATH),
        await gateway.ask(ask(text, tools=[{"type": "web_search_20250305"}]), PATH),
        await gateway.ask(ask(text), PATH, x_cache_ttl="soon"),
        await gateway.ask(ask(text, model="demo/none"), PATH),
        await gateway.get(PATH),
        await gateway.ask({}, "/v1/messages/batches"),
    ]
    told = [(answer.status, *error_of(answer)) for answer in answers]
    assert [status for status, _, _ in told] == [400, 400, 400, 400, 404, 405, 404]
    parts = ["JSON", "'n'", "tools[0].type", "x-cache-ttl", "demo serves only", "POST", "/v1/messages/count_tokens"]
    for (_, _, message), part in zip(told, parts, strict=True):
        assert part in message
    assert {kind for _, kind, _ in told} == {"invalid_request_error", "not_found_error"}
    assert answers[5].headers["allow"] == "POST"
    assert upstream.count == 0


@pytest.mark.parametrize("path", [PATH, f"{PATH}/count_tokens"])
async def test_another_version_of_the_api_is_not_spoken(gateway, upstream, text, path):
    """Whoever reads another would be answered in what it can't read."""
    refused = [await gateway.ask(ask(text), path, anthropic_version=version) for version in ("2023-01-01", "2036-10-21", "")]
    assert [answer.status for answer in refused] == [400] * 3
    kind, message = error_of(refused[0])
    assert (kind, upstream.count) == ("invalid_request_error", 0)
    assert message == "'anthropic-version' must be '2023-06-01' or '2026-10-21': no other is served here."


async def test_the_versions_of_the_api_share_answers(gateway, upstream, text):
    sent = [{}, {"anthropic_version": "2023-06-01"}, {"anthropic_version": "2026-10-21"}]
    answers = [await gateway.ask(ask(text), PATH, **version) for version in sent]
    assert [(answer.status, answer.cache) for answer in answers] == [(200, "miss"), (200, "exact"), (200, "exact")]
    chatted = {"model": "mock-model", "max_tokens": 200, "messages": [{"role": "user", "content": text}]}
    assert (await gateway.ask(chatted)).cache == "exact"


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"top_p": 0.5}, {"top_k": 5}])
async def test_what_a_version_refuses_is_another_request_in_it(gateway, upstream, text, fields):
    """Else one would be given the other's refusal, or an answer in place of it."""
    sent = [{}, {"anthropic_version": "2026-10-21"}, {"anthropic_version": "2023-06-01"}, {"anthropic_version": "2026-10-21"}]
    answers = [await gateway.ask(ask(text, **fields), PATH, **version) for version in sent]
    assert [(answer.status, answer.cache) for answer in answers] == [(200, one) for one in ("miss", "miss", "exact", "exact")]


# --- keys, limits and models ---


@pytest.fixture(scope="module")
async def closed(chaos, tmp_path_factory):
    """One that asks for keys, with one place and small bodies."""
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    environ = {
        "SENTINEL_SERVER__MAX_IN_FLIGHT": "1",
        "SENTINEL_SERVER__QUEUE": "0",
        "SENTINEL_SERVER__MAX_BODY_BYTES": "20000",
    }
    async with running_gateway(tmp_path_factory.mktemp("closed"), config=config, environ=environ) as gateway:
        yield gateway


async def test_a_key_in_either_header(closed, upstream, text):
    key = await closed.key()
    for headers in ({"x_api_key": key}, {"authorization": f"Bearer {key}"}):
        assert (await closed.ask(ask(text), PATH, **headers)).status == 200
    for headers in ({}, {"x_api_key": "sk-ant-of-somebody"}):
        refused = await closed.ask(ask(text), PATH, **headers)
        assert (refused.status, error_of(refused)[0]) == (401, "authentication_error")
    narrow = await closed.key(models=["mock-small"], scopes=["inference"])
    refused = await closed.ask(ask(text), PATH, x_api_key=narrow)
    assert (refused.status, error_of(refused)[0]) == (403, "permission_error")
    reader = await closed.key(scopes=["read"])
    refused = await closed.ask(ask(text), PATH, x_api_key=reader)
    assert (refused.status, error_of(refused)[0]) == (403, "permission_error")


async def test_a_body_that_is_too_large(closed, upstream, text):
    answer = await closed.ask(ask("x" * 20_000), PATH, x_api_key=ADMIN_KEY)
    assert (answer.status, error_of(answer)[0]) == (413, "request_too_large")


async def test_limits_are_told_in_anthropic_s_headers_too(closed, upstream, text):
    key = await closed.key(tenant="limited", limits={"requests_per_minute": 2, "tokens_per_minute": 10_000})
    answers = [await closed.ask(ask(text), PATH, x_api_key=key) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert error_of(answers[2])[0] == "rate_limit_error"
    for answer in answers:
        for what in ("limit", "remaining"):
            ours = answer.headers[f"x-ratelimit-{what}-requests"]
            assert answer.headers[f"anthropic-ratelimit-requests-{what}"] == ours
        reset = datetime.fromisoformat(answer.headers["anthropic-ratelimit-requests-reset"])
        assert 0 < (reset - datetime.now(UTC)).total_seconds() <= 61
    assert answers[0].headers["anthropic-ratelimit-tokens-limit"] == "10000"
    assert int(answers[2].headers["retry-after"]) > 0


async def test_end_users_are_told_apart_by_metadata(closed, upstream, text):
    key = await closed.key(tenant="users", user_limits={"requests_per_minute": 1})
    answers = [await closed.ask(ask(text, metadata={"user_id": user}), PATH, x_api_key=key) for user in ("one", "one", "other")]
    assert [answer.status for answer in answers] == [200, 429, 200]


async def test_no_room_is_an_error_that_anthropic_s_clients_know(closed, upstream, text):
    key = await closed.key(tenant="crowd")
    upstream.script("latency_ms=60000")
    held = asyncio.create_task(closed.ask(ask(text), PATH, x_api_key=key))
    await until(lambda: upstream.count)
    refused = await closed.ask(ask(f"{text} again"), PATH, x_api_key=key)
    assert (refused.status, error_of(refused)[0]) == (529, "overloaded_error")
    assert "retry-after" in refused.headers
    held.cancel()
    await until(lambda: closed.places() == 0)


async def test_models_as_anthropic_lists_them(gateway):
    listing = (await gateway.get("/v1/models?limit=1000", headers={"anthropic-version": "2023-06-01"})).json
    assert listing["has_more"] is False
    names = [model["id"] for model in listing["data"]]
    assert "mock/mock-model" in names
    assert (listing["first_id"], listing["last_id"]) == (names[0], names[-1])
    one = (await gateway.get("/v1/models/mock/mock-model", headers={"anthropic-version": "2023-06-01"})).json
    assert (one["type"], one["id"], one["display_name"]) == ("model", "mock/mock-model", "mock/mock-model")
    assert one in listing["data"]
    absent = await gateway.get("/v1/models/groq/none", headers={"anthropic-version": "2023-06-01"})
    assert (absent.status, error_of(absent)[0]) == (404, "not_found_error")
    assert (await gateway.get("/v1/models")).json["object"] == "list"


async def test_a_count_is_a_request_of_its_caller_s(closed, upstream, text):
    path = f"{PATH}/count_tokens"
    key = await closed.key(tenant="counting", limits={"requests_per_minute": 1, "concurrency": 1})
    answers = [await closed.ask(ask(text), path, x_api_key=key) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    assert answers[0].json["input_tokens"] > 5
    other = await closed.key(tenant="others", models=["mock-small"])
    assert (await closed.ask(ask(text), path, x_api_key=other)).status == 403
    assert (await closed.ask(ask(text), path)).status == 401
    assert upstream.count == 0


async def test_a_count_is_no_guess_by_the_bytes(closed, text):
    """Blanks are few tokens and many bytes."""
    key = await closed.key(tenant="exact", limits={"requests_per_minute": 10})
    sent = [ask(said) for said in (text, text + " " * 4000)]
    answers = [await closed.ask(body, f"{PATH}/count_tokens", x_api_key=key) for body in sent]
    short, long = [answer.json["input_tokens"] for answer in answers]
    assert short < long < short + 500


async def test_from_anthropic_s_dialect_to_anthropic_s_nothing_is_lost(anyio_backend, tmp_path):
    png, signed = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}, {"type": "thinking", "thinking": "Hm."}
    failed = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [{"type": "text", "text": "no"}]}
    sent = {
        "model": AnthropicVoice.model,
        "max_tokens": 4000,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind.", "cache_control": HINT}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "top_k": 4,
        "stop_sequences": ["END"],
        "tools": [{**LOOK_UP, "description": "The length of a river."}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look."}, {"type": "image", "source": png}]},
            {
                "role": "assistant",
                "content": [
                    {**signed, "signature": "c2ln"},
                    {"type": "text", "text": "I do."},
                    {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"river": "Danube"}},
                ],
            },
            {"role": "user", "content": [failed, {"type": "text", "text": "And?", "cache_control": HINT}]},
        ],
    }
    async with NativeUpstream(AnthropicVoice()) as native:
        entry = f"dialect: anthropic, base_url: '{native.base_url}', api_key: k-of-native, models: [{AnthropicVoice.model}]"
        async with running_gateway(tmp_path, config=f"providers:\n  native: {{{entry}}}\n") as gateway:
            answer = await gateway.ask(sent, PATH)
            assert b"You asked: And?" in answer.body
            assert answer.body.endswith(b'data: {"type":"message_stop"}\n\n')
            assert native.calls[-1].body == sent
