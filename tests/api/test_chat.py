"""What reaches the provider, on which paths and for which names."""

import json
import re

import pytest

from tests.gateway import CHAT, chat, post, running_gateway

pytestmark = pytest.mark.anyio

ODD_VALUES = {
    "big": 2**63,
    "negative": -(2**53) - 1,
    "tiny": 1e-7,
    "whole": 2.0,
    "none": None,
    "empty": ["", {}, [], 0, False],
    "letters": 'é 漢 🙂 \u2028 \x7f \\ " / \t \x00',
    "nested": {"a": [{"b": [{"c": 1.5}]}], "": "an empty name", "é": "a name beyond ASCII"},
    "prediction": {"type": "content", "content": "x"},
    "reasoning_effort": "low",
    "service_tier": "auto",
    "user": "u-1",
    "store": False,
}


# --- what the provider is sent ---


@pytest.mark.parametrize("stream", [False, True])
async def test_every_field_is_forwarded_value_for_value(gateway, upstream, text, stream):
    body = chat(text, stream=stream, **ODD_VALUES)
    answer = await gateway.ask(body)
    assert answer.status == 200
    sent = json.loads(upstream.calls[0].raw_body)
    expected = body | {"stream_options": {"include_usage": True}} if stream else {k: v for k, v in body.items() if k != "stream"}
    assert sent == expected
    assert json.dumps(sent, sort_keys=True) == json.dumps(expected, sort_keys=True), "1 and 1.0 are told apart"


async def test_numbers_too_large_for_64_bits_are_forwarded(gateway, upstream, text):
    await gateway.ask(chat(text, big=2**64 + 1, small=-(2**64)))
    sent = json.loads(upstream.calls[0].raw_body)
    assert (sent["big"], sent["small"]) == (2**64 + 1, -(2**64))


async def test_the_upstream_is_told_nothing_of_the_caller(gateway, upstream, text):
    await gateway.ask(
        chat(text),
        authorization="Bearer sk-of-the-client",
        cookie="session=1",
        x_api_key="sk-of-the-client",
        x_stainless_lang="python",
        x_cache_ttl="60",
        x_cache_namespace="team-a",
        x_request_id="id-of-the-client",
        x_forwarded_for="10.0.0.1",
        openai_organization="org-of-the-client",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        x_chaos="err=500",
        user_agent="a client",
        referer="https://example.com/",
    )
    (call,) = upstream.calls
    assert call.status == 200, "x-chaos did not come through"
    own = {
        "host",
        "accept",
        "authorization",
        "content-type",
        "content-length",
        "via",
        "user-agent",
        "accept-encoding",
        "x-request-id",
    }
    assert call.headers.keys() == own
    assert call.headers["authorization"] == "Bearer key-of-mock"
    assert call.headers["user-agent"].startswith("sentinel/")
    assert call.headers["accept-encoding"] == "identity"
    assert not any("client" in value for value in call.headers.values())


async def test_the_upstream_is_told_our_id(gateway, upstream, text):
    answer = await gateway.ask(chat(text), x_request_id="id-of-the-client")
    assert answer.headers["x-request-id"] == "id-of-the-client"
    assert upstream.calls[0].headers["x-request-id"] == answer.headers["x-sentinel-id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat),
        ("/v1/completions", lambda text: {"model": "mock-model", "prompt": text}),
        ("/v1/embeddings", lambda text: {"model": "mock-model", "input": text}),
    ],
)
async def test_via_names_this_gateway_and_ends_a_loop(gateway, upstream, text, path, body):
    await gateway.ask(body(text), path)
    own = upstream.calls[0].headers["via"]
    assert re.fullmatch(r"1\.1 sentinel-[0-9a-f]{8}", own)
    answer = await gateway.ask(body(f"{text} again"), path, via=f"1.1 proxy, {own}, 1.1 another")
    assert (answer.status, answer.error["code"]) == (508, "loop_detected")
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.count == 1


@pytest.mark.parametrize("how", [{}, {"stream": True}])
async def test_via_tells_the_gateways_before_this_one(gateway, upstream, text, how):
    """And nothing else that stood between them. Each call has its own."""
    await gateway.ask(chat(text, **how), via="1.1 inner.example, 1.1 sentinel-00000000, HTTP/1.1 SENTINEL-00000001 (x)")
    await gateway.ask(chat(f"{text} again", **how))
    through, alone = [call.headers["via"] for call in upstream.calls]
    assert through == f"1.1 sentinel-00000000, 1.1 sentinel-00000001, {alone}"


async def test_a_loop_that_no_name_gives_away_ends(gateway, upstream, text):
    names = [f"1.1 sentinel-0000000{number}" for number in range(8)]
    assert (await gateway.ask(chat(text), via=", ".join(names[:7]))).status == 200
    answer = await gateway.ask(chat(f"{text} again"), via=", ".join(names))
    assert (answer.status, answer.error["code"]) == (508, "loop_detected")
    assert "has come through 8 gateways" in answer.error["message"]
    assert upstream.count == 1


# --- paths ---


@pytest.mark.parametrize("path", [CHAT, "/chat/completions", f"{CHAT}/", "/chat/completions/", f"{CHAT}?api-version=1"])
async def test_chat_paths(gateway, upstream, text, path):
    answers = [await gateway.ask(chat(text), path) for _ in range(2)]
    assert [(answer.status, answer.cache) for answer in answers] == [(200, "miss"), (200, "exact")]


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/", "/models/"])
async def test_paths_of_the_models(gateway, path):
    answer = await gateway.get(path)
    listing = answer.json
    assert (answer.status, listing["object"]) == (200, "list")
    assert [model["id"] for model in listing["data"] if model["owned_by"] == "mock"] == [
        "mock/mock-large",
        "mock/mock-model",
        "mock/mock-small",
    ]
    assert "demo" in {model["id"] for model in listing["data"]}
    for model in listing["data"]:
        assert model.keys() == {"id", "object", "created", "owned_by"}
        assert (model["object"], type(model["created"])) == ("model", int)


@pytest.mark.parametrize(
    "path", ["/v1/models/mock/mock-model", "/models/mock-model", "/v1/models/mock/mock-model/", "/models/demo"]
)
async def test_one_model(gateway, path):
    answer = await gateway.get(path)
    assert answer.status == 200
    assert answer.json["id"] == path.partition("/models/")[2].removesuffix("/")
    assert answer.json["owned_by"] == ("demo" if path.endswith("demo") else "mock")


async def test_head_of_the_models(gateway):
    wire = await gateway.connect()
    wire.send(b"HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head, whole = await wire.answer("HEAD"), await wire.answer("GET")
    await wire.close()
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("PUT", "/models/mock-model", 405, "method_not_allowed"),
        ("GET", "/v1/", 404, "unknown_url"),
        ("POST", "/v1/engines", 404, "unknown_url"),
        ("POST", "/v1//chat/completions", 404, "unknown_url"),
        ("POST", "/v1/v1/chat/completions", 404, "unknown_url"),
        ("GET", "/chat/", 404, "unknown_url"),
    ],
)
async def test_other_paths_and_methods(gateway, method, path, status, code):
    answer = await gateway.request(method, path)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"


async def test_no_redirect_anywhere(gateway, upstream):
    for path in ("/v1", "/v1/chat", "/v1/chat/completions//", "/health/", "/admin", "/admin/cache/clear/", "/"):
        for method in ("GET", "POST"):
            answer = await gateway.request(method, path, allow_redirects=False)
            assert 400 <= answer.status < 500, (path, answer.status)


# --- names ---


async def test_a_name_that_nobody_has_goes_to_the_only_provider(gateway, upstream, text):
    assert (await gateway.ask(chat(text, "org/brand-new-model"))).status == 200
    assert upstream.calls[0].body["model"] == "org/brand-new-model"


async def test_bare_model_with_only_groq_key(chaos, upstream, tmp_path, text):
    """A fresh machine with one key in the environment: what the seeds' clients send just works."""
    environ = {"GROQ_API_KEY": "gsk_not-a-real-key", "GROQ_BASE_URL": chaos.base_url}
    async with running_gateway(tmp_path, environ=environ) as gateway:
        answer = await gateway.ask(chat(text, "llama-3.3-70b-versatile"))
        assert answer.status == 200
    (call,) = [call for call in upstream.calls if call.method == "POST"]
    assert call.body["model"] == "llama-3.3-70b-versatile"
    assert call.headers["authorization"] == "Bearer gsk_not-a-real-key"


async def test_without_any_configuration(upstream, tmp_path, text):
    """Nothing is set: the demo answers, and says what it is."""
    async with running_gateway(tmp_path) as gateway:
        answer = await gateway.ask(chat(text, "demo"))
        assert (answer.status, answer.cache) == (200, "miss")
        assert f"You asked: {text}" in answer.json["choices"][0]["message"]["content"]
        assert (await gateway.ask(chat(text, "demo", stream=True))).cache == "exact"
        missing = await gateway.ask(chat(text, "gpt-4o"))
        assert missing.status == 404
        assert "OPENAI_API_KEY" in missing.error["message"]


# --- several requests on one connection ---


async def test_pipelined_requests_are_answered_in_their_order(gateway, upstream, text):
    upstream.script("latency_ms=50")
    wire = await gateway.connect()
    wire.send(b"".join(post(chat(f"{number} {text}")) for number in range(3)))
    said = [(await wire.answer()).json["choices"][0]["message"]["content"] for _ in range(3)]
    await wire.close()
    assert [re.search(r" to: (\d)", line)[1] for line in said] == ["0", "1", "2"]
