"""Bad input: a clear 4xx in OpenAI's shape that names the field; never a 5xx, a stack trace or a second meaning."""

import asyncio
import json
import time

import pytest

from tests.gateway import CHAT, chat, header_lines, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
LIMIT = 4 * MIB
PROMPT = {"role": "user", "content": "Hello"}
GOOD = b'{"model":"mock-model","messages":[{"role":"user","content":"Hello"}]'
"""A good body but for its last brace."""


# --- bodies ---


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "empty"),
        (b" \r\n\t", "empty"),
        (b"\x00", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"model"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"1e3", "must be a JSON object"),
        (GOOD, "not valid JSON"),
        (GOOD + b"}}", "not valid JSON"),
        (GOOD + b"}{}", "not valid JSON"),
        (GOOD + b",}", "not valid JSON"),
        (GOOD + b',"x":NaN}', "not valid JSON"),
        (GOOD + b',"x":Infinity}', "not valid JSON"),
        (GOOD + b',"x":-}', "not valid JSON"),
        (GOOD + b',"x":01}', "not valid JSON"),
        (GOOD + b',"x":1e999}', "not valid JSON"),
        (GOOD + b",'x':1}", "not valid JSON"),
        (GOOD + b',"x":"\n"}', "not valid JSON"),
        (GOOD + b',"x":"\\x41"}', "not valid JSON"),
        (GOOD + b',"x":"\\ud800"}', "surrogate"),
        (GOOD + b',"x":"\\udc00\\ud800"}', "surrogate"),
        (GOOD + b',"x":"\\ud83d\\u0041"}', "surrogate"),
        (GOOD + b', "\\ud800": 1}', "not valid JSON"),
        (GOOD + b',"x":"\xff"}', "not UTF-8"),
        (GOOD + b',"x":"\xc3"}', "not UTF-8"),
        (GOOD + b',"x":"\xed\xa0\x80"}', "not UTF-8"),
        (GOOD + b',"\xc0\xaf":1}', "not UTF-8"),
        ((GOOD + b"}").decode().encode("utf-16"), "not "),
        (b"\xef\xbb\xbf" + GOOD + b"}", "not valid JSON"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "not "),
        (GOOD + b',"x":' + b"[" * 64 + b"]" * 64 + b"}", "64 levels"),
        (GOOD + b', "x": ' + b'{"a":' * 64 + b"1" + b"}" * 64 + b"}", "64 levels"),
        (GOOD + b',"x":' + b"[" * 900 + b"]" * 900 + b"}", "64 levels"),
        (GOOD + b', "x":' + b"[" * 990 + b"]" * 990 + b"}", "deep"),
        (GOOD + b',"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "too deeply"),
        (b"[" * 40_000, "too deeply"),
        (b'{"a":' * 20_000, "too deeply"),
    ],
    ids=lambda value: repr(value[:60] + value[-20:] if len(value) > 80 else value),
)
async def test_what_is_no_request_body(gateway, upstream, raw, words):
    answer = await gateway.ask(raw)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (400, "invalid_request_error", "invalid_body")
    assert words in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.count == 0


@pytest.mark.parametrize("depth", [1, 62, 63])
async def test_64_levels_are_fine(gateway, upstream, depth):
    answer = await gateway.ask(GOOD + b',"x":' + b"[" * depth + b"]" * depth + b"}")
    assert answer.status == 200
    assert upstream.calls[0].body["x"] == json.loads("[" * depth + "]" * depth)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [PROMPT]}, "model"),
        ({"model": "mock-model"}, "messages"),
        ({"model": "", "messages": [PROMPT]}, "model"),
        ({"model": None, "messages": [PROMPT]}, "model"),
        ({"model": ["mock-model"], "messages": [PROMPT]}, "model"),
        (chat("", messages=[]), "messages"),
        (chat("", messages="Hello"), "messages"),
        (chat("", messages=PROMPT), "messages"),
        (chat("", messages=[PROMPT, "Hello"]), "messages[1]"),
        (chat("", messages=[PROMPT, None]), "messages[1]"),
        (chat("", messages=[{"content": "Hello"}]), "messages[0].role"),
        (chat("", messages=[{"role": 1, "content": "Hello"}]), "messages[0].role"),
        (chat("", messages=[{"role": "user", "content": 1}]), "messages[0].content"),
        (chat("", messages=[{"role": "user", "content": {"text": "Hello"}}]), "messages[0].content"),
        (chat("", messages=[{"role": "user", "content": ["Hello"]}]), "messages[0].content[0]"),
        (chat("", messages=[{"role": "user", "content": "x", "name": 7}]), "messages[0].name"),
        (chat("", messages=[{"role": "assistant", "tool_calls": {}}]), "messages[0].tool_calls"),
        (chat("", stream="yes"), "stream"),
        (chat("", stream=1), "stream"),
        (chat("", stream_options=[]), "stream_options"),
        (chat("", stream=True, stream_options={"include_usage": "true"}), "stream_options.include_usage"),
        (chat("", temperature="hot"), "temperature"),
        (chat("", temperature=True), "temperature"),
        (chat("", top_p=[1]), "top_p"),
        (chat("", n=0), "n"),
        (chat("", n=129), "n"),
        (chat("", n=1.5), "n"),
        (chat("", n="1"), "n"),
        (chat("", n=10**30), "n"),
        (chat("", max_tokens=0), "max_tokens"),
        (chat("", max_tokens=-1), "max_tokens"),
        (chat("", max_completion_tokens=0), "max_completion_tokens"),
        (chat("", max_completion_tokens="many"), "max_completion_tokens"),
        (chat("", stop=7), "stop"),
        (chat("", stop=["a", 7]), "stop[1]"),
        (chat("", seed="x"), "seed"),
        (chat("", logprobs="x"), "logprobs"),
        (chat("", logit_bias={"50256": "low"}), "logit_bias[...]"),
        (chat("", tools={}), "tools"),
        (chat("", tools=["f"]), "tools[0]"),
        (chat("", tool_choice=1), "tool_choice"),
        (chat("", response_format="json"), "response_format"),
        (chat("", metadata="x"), "metadata"),
        (chat("", user=7), "user"),
    ],
    ids=str,
)
async def test_a_field_of_the_wrong_type_is_named(gateway, upstream, body, param):
    answer = await gateway.ask(body)
    assert (answer.status, answer.error["type"], answer.error["code"]) == (400, "invalid_request_error", "invalid_value")
    assert answer.error["param"] == param
    assert param in answer.error["message"]
    assert upstream.count == 0


@pytest.mark.parametrize(
    "more",
    [
        b',"model":"mock-small"}',
        b',"model":"mock-model"}',
        b',"mod\\u0065l":"mock-small"}',
        b',"messages":[]}',
        b',"x":{"a":1,"a":2}}',
        b',"x":[[{"b":{"c":null,"d":1,"c":null}}]]}',
        b',"tools":[{"type":"function","function":{"name":"f","name":"g"}}]}',
        b',"temperature":0,"temperature":2}',
        b',"stream":false,"stream":true}',
    ],
)
async def test_a_key_that_stands_twice_is_refused(gateway, upstream, more):
    answer = await gateway.ask(GOOD + more)
    assert (answer.status, answer.error["code"]) == (400, "invalid_value")
    assert "stands twice" in answer.error["message"]
    assert answer.error["param"] in {"model", "messages", "a", "c", "name", "temperature", "stream"}
    assert upstream.count == 0


@pytest.mark.parametrize("name", ["Model", "MESSAGES", "Stream", "Max_Tokens", "Temperature", "me\u017f\u017fages", "N", "User"])
async def test_a_known_field_in_other_letters_is_refused(gateway, upstream, name):
    answer = await gateway.ask(chat("Hello", **{name: 1}))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_value", name)
    assert upstream.count == 0


async def test_cache_and_provider_see_the_same_request(gateway, upstream, text):
    """Names that only a lenient reader would confuse go out as they came, and are part of the key."""
    bodies = [
        chat(text, Top_K=1),
        chat(text, top_k=1),
        chat(text, Top_K=1, top_k=2),
        chat(text, messages=[{"role": "user", "content": text, "Content": "another"}]),
    ]
    for body in bodies:
        assert (await gateway.ask(body)).cache == "miss"
        assert upstream.calls[-1].body == body
    assert upstream.count == 4


# --- headers ---


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-bypass-cache", "yes"),
        ("x-bypass-cache", ""),
        ("x-bypass-cache", "true, false"),
        ("x-cache-ttl", "soon"),
        ("x-cache-ttl", "-1"),
        ("x-cache-ttl", "1.5"),
        ("x-cache-ttl", "1e3"),
        ("x-cache-ttl", "31536001"),
        ("x-cache-ttl", "9" * 400),
        ("x-cache-ttl", "\u0661"),
        ("x-cache-ttl", ""),
        ("x-cache-namespace", ""),
        ("x-cache-namespace", "a b"),
        ("x-cache-namespace", "x" * 129),
        ("x-cache-namespace", "team\u00e9"),
        ("x-cache-namespace", "a;b"),
        ("x-cache-namespace", "a\tb"),
        ("x-cache-tags", "a,,b"),
        ("x-cache-tags", "a,"),
        ("x-cache-tags", "a b"),
        ("x-cache-tags", ",".join(map(str, range(17)))),
        ("x-cache-explain", "maybe"),
        ("x-similarity-threshold", "2"),
        ("x-similarity-threshold", "-0.1"),
        ("x-similarity-threshold", "nan"),
        ("x-similarity-threshold", "0,9"),
        ("Cache-Control", "max-age"),
        ("Cache-Control", "max-age=soon"),
        ("Cache-Control", "max-age=-1"),
        ("Cache-Control", "min-fresh="),
        ("Cache-Control", "no-store, max-age=1.5"),
    ],
)
async def test_a_malformed_cache_header_is_named(gateway, upstream, name, value):
    wire = await gateway.connect()
    wire.send(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\nContent-Length: {len(GOOD) + 1}\r\n\r\n".encode())
    wire.send(GOOD + b"}")
    answer = await wire.answer()
    await wire.close()
    assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "invalid_header", name)
    assert name in answer.error["message"]
    assert upstream.count == 0


@pytest.mark.parametrize("more", [{}, {"stream": True}], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "model", ["a\r\nx: y", "a\nset-cookie: b=c\n\n<html>", "\r\n\r\nHTTP/1.1 200 OK", "a\x00b", "\u010d\u010a", "e\u0301"]
)
async def test_a_model_s_name_never_becomes_a_header(gateway, upstream, text, model, more):
    for expected in ("miss", "exact"):
        wire = await gateway.connect()
        wire.send(post(chat(text, model, **more), headers="x-cache-explain: true\r\nConnection: close\r\n"))
        answer = await wire.answer()
        assert await wire.ended()
        await wire.close()
        assert (answer.status, answer.headers["x-cache"]) == (200, expected)
        assert answer.headers.keys().isdisjoint({"x", "set-cookie"})
        assert "target=mock/" in answer.headers["x-cache-explain"]
        assert answer.headers["x-cache-explain"].isprintable()
    assert upstream.calls[0].body["model"] == model


async def test_a_model_s_name_is_quoted_safely(gateway, upstream):
    """In an error it stands as a JSON string; it has a length."""
    answer = await gateway.ask(chat("Hello", "demo/\r\n<script>" + "x" * 240))
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    long = await gateway.ask(chat("Hello", "x" * 257))
    assert (long.status, long.error["param"]) == (400, "model")
    assert len(long.body) < 300
    for path in ("x" * 5000, "%0d%0aset-cookie:a", "demo%2F%00"):
        assert (await gateway.get(f"/v1/models/{path}")).status in {200, 404}


# --- hosts and paths ---


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b"a b",
        b"a/admin/stats",
        b"a?x",
        b"a#x",
        b"a@b",
        b"127.0.0.1:80:80",
        b"a:port",
        b"[::1",
        b"\xff\xfe",
        b'"><script>',
        b"a" * 300,
        b"a, b",
        b"a\r\nHost: b",
    ],
)
async def test_absurd_hosts(gateway, upstream, host):
    wire = await gateway.connect()
    wire.send(b"GET /admin/stats HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    answer = await wire.answer("GET")
    assert await wire.ended()
    await wire.close()
    assert (answer.status, answer.error["param"]) == (400, "host")


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        (b"/v1/../admin/stats", {404}),
        (b"/v1/%2e%2e/admin/stats", {404}),
        (b"/v1/models/../../admin/stats", {200, 404}),
        (b"//admin/stats", {404}),
        (b"/admin//stats", {404}),
        (b"/admin/stats/", {404}),
        (b"/admin/stats;x=1", {404}),
        (b"/%61dmin/stats", {401}),
        (b"/admin/stats?x=/v1/models", {401}),
        (b"http://a/admin/stats", {401}),
        (b"http://evil.example/v1/models", {200}),
        (b"/livez\\..\\admin", {404}),
        (b"/\xff\xfe", {400, 404}),
        (b"/%ff%00%0d%0aX:y", {404}),
        (b"/v1/%00", {404}),
        (b"/v1/" + b"a" * 8000, {404}),
        (b"/v1/" + b"a" * 9000, {400}),
        (b"*", {400}),
        (b"admin/stats", {400}),
        (b"/v1/models#x", {400}),
        (b"file:///etc/passwd", {400}),
    ],
)
async def test_absurd_paths(gateway, upstream, target, statuses):
    wire = await gateway.connect()
    wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await wire.answer("GET")
    await wire.close()
    assert answer.status in statuses
    if answer.status == 200:
        assert answer.json["object"] in {"list", "model"}, "at most a model's name"
    else:
        assert isinstance(answer.json["error"], str | dict)
    assert "cache_stats" not in answer.body.decode()


# --- senders ---


@pytest.mark.parametrize("size", [LIMIT + 1, 10**12])
async def test_a_body_that_says_it_is_too_large_is_not_read(gateway, upstream, size):
    wire = await gateway.connect()
    wire.send(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), size))
    wire.send(GOOD)
    answer = await wire.answer()
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert str(LIMIT) in answer.error["message"]
    assert await wire.ended()
    await wire.close()


async def test_a_body_that_grows_too_large_is_cut(gateway, upstream):
    wire = await gateway.connect()
    wire.send(b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % CHAT.encode())
    piece = b"%x\r\n%b\r\n" % (MIB, bytes(MIB))
    for _ in range(5):
        wire.send(piece)
    answer = await wire.answer()
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    await wire.close()


async def test_the_largest_body_is_served(gateway, upstream):
    raw = GOOD + b"}" + b" " * (LIMIT - len(GOOD) - 1)
    wire = await gateway.connect()
    wire.send(post(raw))
    assert (await wire.answer()).status == 200
    wire.send(post(raw + b" "))
    assert (await wire.answer()).status == 413
    await wire.close()


@pytest.fixture(scope="module")
async def hurried(chaos, tmp_path_factory):
    """One whose senders have half a second."""
    environ = {"SENTINEL_SERVER__BODY_TIMEOUT": "0.5", "SENTINEL_SERVER__HEADER_TIMEOUT": "0.5"}
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path_factory.mktemp("hurried"), environ=environ, config=config, alone=False) as gateway:
        yield gateway


@pytest.mark.parametrize("sent", [b"", GOOD[:30]])
async def test_a_slow_body(hurried, upstream, sent):
    wire = await hurried.connect()
    wire.send(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(GOOD)) + sent)
    start = time.monotonic()
    answer = await wire.answer()
    assert 0.4 < time.monotonic() - start < 15
    assert (answer.status, answer.error["type"], answer.error["code"]) == (408, "timeout_error", "request_timeout")
    assert answer.headers["connection"] == "close"
    assert "x-should-retry" not in answer.headers
    assert await wire.ended()
    await wire.close()
    await until(lambda: hurried.places() == 0)


async def test_a_slow_head(hurried, upstream):
    wire = await hurried.connect()
    wire.send(b"POST %b HTTP/1.1\r\nHost: localhost\r\n" % CHAT.encode())
    answer = await wire.answer()
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    await wire.close()


@pytest.mark.parametrize("sent", [b"", GOOD[:30]])
async def test_a_sender_that_stops(gateway, upstream, sent):
    left = 'requests_total{method="POST",route="/v1/chat/completions",status="499"}'
    before, clients = gateway.metric(left), gateway.metric("active_connections")
    wire = await gateway.connect()
    wire.send(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(GOOD)) + sent)
    await until(lambda: gateway.metric("active_connections") == clients + 1)
    await asyncio.sleep(0.02)
    await wire.close()
    await until(lambda: gateway.metric(left) == before + 1)
    assert upstream.count == 0


@pytest.mark.parametrize("framing", ["Content-Length: -1", "Content-Length: 5x", "Content-Length: 1\r\nContent-Length: 2"])
async def test_framing_that_means_two_things(gateway, upstream, framing):
    wire = await gateway.connect()
    wire.send(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode() + GOOD)
    answer = await wire.answer()
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert await wire.ended()
    await wire.close()


async def test_too_many_headers(gateway, upstream):
    for lines in (header_lines((f"x-{n}", "y") for n in range(101)), header_lines([("x-long", "y" * 65_536)])):
        wire = await gateway.connect()
        wire.send(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        answer = await wire.answer()
        assert (answer.status, answer.error["code"]) == (431, "request_header_fields_too_large")
        await wire.close()


async def test_a_body_of_another_type_is_read_as_json(gateway, upstream, text):
    """As OpenAI does: what counts is what it is."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"):
        assert (await gateway.ask(chat(text), content_type=kind)).status == 200


# --- what takes long to read (D2) ---


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
        (GOOD + b',"x":{' + b",".join(b'"k%d":0' % n for n in range(1_000_000)) + b"}}", 413),
        (GOOD + b',"x":' + b"9" * 1_000_000 + b"}", 400),
        (GOOD + b',"x":' + b"9" * 4_000_000 + b"}", 400),
        (GOOD + b',"x":1e' + b"9" * 1_000_000 + b"}", 400),
        (GOOD + b',"x":"' + b"\\ud800" * 100_000 + b'"}', 400),
        (GOOD + b',"x":' + b"NaN," * 100_000 + b"}", 400),
        (b'{"messages":[' + b'{"role":"user","content":1},' * 100_000 + b'1],"model":"m"}', 400),
    ],
    ids=["depth", "depth of objects", "a million keys", "digits", "more digits", "exponent", "surrogates", "NaN", "messages"],
)
async def test_hostile_json_is_refused_at_once(gateway, upstream, raw, status):
    """Twenty times the bar, for machines that are slow, in time of the processor, for those that are busy."""
    wire = await gateway.connect()
    start = time.process_time()
    wire.send(post(raw))
    answer = await wire.answer()
    took = time.process_time() - start
    await wire.close()
    assert answer.status == status
    assert took < 1.0


async def test_an_error_never_repeats_the_prompt(gateway, upstream):
    """Nor a key that stands in a place where it does not belong."""
    secret = "sk-proj-0123456789abcdef"
    for body in (chat(secret, n=0), chat(secret, temperature=secret), {"model": "m", "messages": secret}, {"messages": [secret]}):
        answer = await gateway.ask(body, authorization=f"Bearer {secret}")
        assert answer.status == 400
        assert secret not in answer.body.decode()
        assert secret not in str(answer.headers)


async def test_bad_requests_keep_the_connection(gateway, upstream):
    """A 400 costs its sender nothing but the request."""
    wire = await gateway.connect()
    for raw in (b"{", GOOD + b"}", b"[]", GOOD + b"}"):
        wire.send(post(raw))
    assert [(await wire.answer()).status for _ in range(4)] == [400, 200, 400, 200]
    await wire.close()


async def test_what_is_wrong_with_a_small_body_is_told_shortly(gateway):
    """To tell of five thousand keys, one by one, took a core for 30 ms, in which nobody else is served."""

    async def give(keys: int) -> tuple[int, dict]:
        answer = await gateway.ask({f"k{number}": 0 for number in range(keys)}, "/v1/feedback")
        assert len(answer.body) < 5_000
        return answer.status, answer.json

    status, told = await give(500)
    assert (status, len(told["errors"])) == (400, 20)
    status, told = await give(5_000)
    assert (status, told["code"]) == (400, "invalid_body")
    assert "more than 2,000 keys and values" in told["detail"]
    assert "errors" not in told
    many = await gateway.get("/api/monitoring/requests?" + "&".join(f"limit={number}x" for number in range(150)))
    assert many.status == 400
    assert len(many.body) < 5_000
