"""What an upstream's failure means to the caller: golden cases, one table."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from sentinel_gateway.providers._connection import (
    BrokenOff,
    CertificateRefused,
    ConnectFailed,
    ConnectTimeout,
    Disconnected,
    HandshakeFailed,
    NoAddress,
    NotHttp,
)
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._errors import (
    MAX_MESSAGE,
    Source,
    clean,
    read_error,
    read_failure,
    read_reported_error,
    read_retry_after,
)

KEY = "sk-live-0123456789abcdef"
GROQ = Source("groq", "GROQ_API_KEY", (f"Bearer {KEY}", KEY))
NOW = 1_700_000_000.0

CONTEXT = {
    "error": {
        "message": "maximum context length is 8192 tokens",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
}
BAD_KEY = "groq refused our key (403): check GROQ_API_KEY."
GOLDEN = [
    (400, CONTEXT, UpstreamRefused, 400, "maximum context length is 8192 tokens"),
    (404, {"error": {"message": "no such model"}}, UpstreamRefused, 404, "no such model"),
    (409, {}, UpstreamRefused, 409, "groq refused the request (409) and did not say why."),
    (413, b"<html>too large</html>", UpstreamRefused, 413, "groq refused the request (413) and did not say why."),
    (415, {"error": "use JSON"}, UpstreamRefused, 415, "use JSON"),
    (422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}, {"msg": "and odd"}]}, UpstreamRefused, 422, "too big; and odd"),
    (400, {"object": "error", "message": {"detail": [{"msg": "bad n"}]}, "code": 3}, UpstreamRefused, 400, "bad n"),
    (400, [{"error": {"code": 400, "message": "bad tools", "status": "INVALID"}}], UpstreamRefused, 400, "bad tools"),
    (400, {"message": "plain"}, UpstreamRefused, 400, "plain"),
    (401, {"error": {"message": f"bad key {KEY}"}}, UpstreamUnauthorized, 502, "groq refused our key (401): check GROQ_API_KEY."),
    (403, {}, UpstreamUnauthorized, 502, BAD_KEY),
    (
        402,
        {},
        UpstreamUnauthorized,
        502,
        "groq says that our account has no credit left (402): top it up, or use another provider.",
    ),
    (
        429,
        {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}},
        UpstreamUnauthorized,
        502,
        "groq says that our account has no credit left (429): top it up, or use another provider.",
    ),
    (408, {}, UpstreamTimeout, 504, "groq gave up waiting for the request (408)."),
    (
        429,
        {"error": {"message": "org-123 over limit", "code": "rate_limit_exceeded"}},
        UpstreamLimited,
        429,
        "groq's rate limit is reached (429).",
    ),
    (500, {"error": {"message": "Traceback (most recent call last)"}}, UpstreamBroken, 502, "groq failed (500)."),
    (529, b"", UpstreamOverloaded, 502, "groq failed (529)."),
    *(
        (status, {}, UpstreamRefused, status, f"groq refused the request ({status}) and did not say why.")
        for status in (405, 406, 410, 418, 425, 451)
    ),
    (
        403,
        {"error": {"code": 403, "message": "Flagged.", "metadata": {"reasons": ["violence"], "flagged_input": "a secret"}}},
        UpstreamRefused,
        403,
        "Flagged.",
    ),
    (403, {"error": {"message": "m", "metadata": {"provider_name": "x"}}}, UpstreamUnauthorized, 502, BAD_KEY),
    (424, {}, UpstreamBroken, 502, "groq failed (424)."),
    (498, {}, UpstreamBroken, 502, "groq failed (498)."),
    (204, b"", UpstreamBroken, 502, "groq failed (204)."),
    (301, b"", UpstreamBroken, 502, "groq redirects (301), which is never followed: check base_url."),
]


@pytest.mark.parametrize(("status", "body", "kind", "shown", "message"), GOLDEN)
def test_each_answer_that_is_none_has_one_meaning(status, body, kind, shown, message):
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    error = read_error(status, {}, raw, source=GROQ, now=NOW)
    assert type(error) is kind
    assert (error.http_status, error.message) == (shown, message)
    assert KEY not in error.message


def test_a_refusal_keeps_param_and_code():
    error = read_error(400, {}, msgspec.json.encode(CONTEXT), source=GROQ, now=NOW)
    assert isinstance(error, UpstreamRefused)
    assert (error.param, error.upstream_code, error.next_target) == ("messages", "context_length_exceeded", False)


@pytest.mark.parametrize("odd", [5, {"a": 1}, [], None, "", KEY])
def test_odd_params_and_codes_are_left_out(odd):
    body = msgspec.json.encode({"error": {"message": "m", "param": odd, "code": odd}})
    error = read_error(400, {}, body, source=GROQ, now=NOW)
    assert isinstance(error, UpstreamRefused)
    assert {error.param, error.upstream_code} <= {None, "[key]"}


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"header was 'Bearer {KEY}'",
        f"{KEY}{KEY} twice",
        "Authorization: bearer abcdefghijklmnop",
        "your key gsk_abcdefghijklmnop1234",
        "your key AIzaSyA1234567890abcdefg",
    ],
)
def test_no_key_is_ever_shown(text):
    shown = clean(text, GROQ.secrets)
    assert "[key]" in shown
    for start in range(len(KEY) - 11):
        assert KEY[start : start + 12] not in shown
    assert "abcdefghijkl" not in shown
    assert "1234567890" not in shown


def test_a_key_without_a_known_look_is_not_shown_either():
    assert clean("api-key 0f1e2d3c4b5a6978 is bad", ("0f1e2d3c4b5a6978",)) == "api-key [key] is bad"


def test_a_quoted_prompt_is_left_out_and_short_names_stay():
    shown = clean(f"Invalid schema 'colours': input was '{'once upon a time ' * 20}'", ())
    assert shown == "Invalid schema 'colours': input was '[...]'"


@given(st.text(max_size=60))
def test_what_is_shown_is_one_short_printable_line(text):
    shown = clean(text, ())
    assert len(shown) <= MAX_MESSAGE
    assert shown.isprintable()


def test_a_long_message_is_cut():
    error = read_error(400, {}, msgspec.json.encode({"error": {"message": "word " * 1000}}), source=GROQ, now=NOW)
    assert len(error.message) == MAX_MESSAGE
    assert error.message.endswith("...")


json_bodies = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(400, 599),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "message", "code"]), inner),
)


@given(st.integers(100, 599), st.binary(max_size=40) | json_bodies.map(msgspec.json.encode))
def test_any_body_gives_an_upstream_error(status, body):
    assert isinstance(read_error(status, {}, body, source=GROQ, now=NOW), UpstreamError)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"error":' * 5_000, b'{"error":{"message":' + b'"' + b"x" * 100_000 + b'"}}'])
def test_absurd_bodies_say_nothing(body):
    assert read_error(400, {}, body, source=GROQ, now=NOW).message == "groq refused the request (400) and did not say why."


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"retry-after": b"7"}, 7.0),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after": b"-3"}, 0.0),
        ({b"retry-after": b"1000000000"}, 30.0),
        ({b"retry-after": b"inf"}, 30.0),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b""}, None),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:25 GMT"}, 5.0),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:15 GMT"}, 0.0),
        ({b"retry-after": b"Tue, 14 Nov 2099 22:13:15 GMT"}, 30.0),
        ({b"retry-after": b"Tue, 99 Nov 99999 22:13:15 GMT"}, None),
        ({b"retry-after-ms": b"1500", b"retry-after": b"9"}, 1.5),
        ({b"retry-after-ms": b"x", b"retry-after": b"9"}, 9.0),
    ],
)
def test_how_long_a_provider_asks_to_wait(headers, seconds):
    assert read_retry_after(headers, NOW) == seconds


def test_a_limit_and_a_failure_carry_the_wait():
    for status in (408, 429, 503):
        assert read_error(status, {b"retry-after": b"2"}, b"", source=GROQ, now=NOW).retry_after == 2.0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "slow down"}, UpstreamLimited),
        ({"code": "503", "message": "x"}, UpstreamBroken),
        ({"status": 400, "message": "x"}, UpstreamRefused),
        ({"status_code": 401}, UpstreamUnauthorized),
        ({"code": 200}, UpstreamBroken),
        ({"code": True}, UpstreamBroken),
        ({"code": "server_error", "message": "stack"}, UpstreamBroken),
        ("text", UpstreamBroken),
        (["list"], UpstreamBroken),
    ],
)
def test_an_error_reported_within_an_answer(error, kind):
    assert type(read_reported_error(error, source=GROQ, now=NOW)) is kind


@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [
        (ConnectTimeout(), UpstreamTimeout, "timeouts.connect"),
        (NoAddress(), UpstreamUnreachable, "no address"),
        (ConnectFailed(), UpstreamUnreachable, "no connection"),
        (CertificateRefused(), UpstreamUnreachable, "certificate"),
        (HandshakeFailed(), UpstreamUnreachable, "handshake"),
        (Disconnected(), UpstreamBroken, "closed the connection"),
        (BrokenOff(), UpstreamBroken, "middle"),
        (NotHttp(), UpstreamBroken, "valid HTTP"),
    ],
)
def test_failures_of_a_connection_become_ours(raised, kind, says):
    error = read_failure(raised, "groq", Timeouts())
    assert type(error) is kind
    assert says in error.message


def test_a_total_shorter_than_the_time_to_connect_is_named():
    error = read_failure(ConnectTimeout(), "groq", Timeouts(total=3))
    assert type(error) is UpstreamTimeout
    assert "timeouts.total" in error.message


def test_googles_errors():
    """A bad key is a 400 there, and how long to wait stands in the body."""

    def error(status, *details):
        body = {"error": {"code": status, "message": "m", "status": "S", "details": list(details)}}
        return read_error(status, {}, msgspec.json.encode(body), source=Source("gemini", "GEMINI_API_KEY"), now=0)

    bad_key = error(400, {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"})
    assert isinstance(bad_key, UpstreamUnauthorized)
    assert "GEMINI_API_KEY" in bad_key.message
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
    assert error(429, "odd", {"retryDelay": 7}, retry).retry_after == 7.5
    assert error(503).retry_after is None
    assert isinstance(error(400, {"reason": "OTHER"}), UpstreamRefused)


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Input is too long for requested model.",
        "This model's maximum context length is 8192 tokens.",
    ],
)
def test_a_request_that_is_too_long_however_it_is_said(message):
    error = read_error(400, {}, msgspec.json.encode({"error": {"message": message}}), source=Source("p"), now=0)
    assert (error.shown_code, error.param, error.message) == ("context_length_exceeded", "messages", message)
    own = {"error": {"message": message, "code": "string_above_max_length"}}
    assert read_error(400, {}, msgspec.json.encode(own), source=Source("p"), now=0).shown_code == "string_above_max_length"


@pytest.mark.parametrize(
    ("status", "untouched"),
    [(429, True), (503, True), (401, True), (404, True), (408, False), (500, False), (502, False), (504, False), (529, False)],
)
def test_which_answers_say_that_nothing_was_begun(status, untouched):
    assert read_error(status, {}, b"", source=GROQ, now=NOW).untouched is untouched


@pytest.mark.parametrize(
    ("raised", "untouched"),
    [(ConnectTimeout(), True), (ConnectFailed(), True), (HandshakeFailed(), True), (Disconnected(), False), (BrokenOff(), False)],
)
def test_which_failures_of_a_connection_say_that_nothing_was_begun(raised, untouched):
    assert read_failure(raised, "groq", Timeouts()).untouched is untouched
    assert not Timeouts().exceeded("groq", "first_byte").untouched
