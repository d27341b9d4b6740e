"""Keys of requests that are done once, what makes two requests the same, and which refusals are kept."""

import pytest

from sentinel_gateway.core.idempotency import claim, read_key, refusal, refused
from sentinel_gateway.errors import UpstreamLimited, UpstreamRefused


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e"', "8e03978e"),
        ("a", "a"),
        ("!~#[]", "!~#[]"),
        ("k" * 255, "k" * 255),
        ('"' + "k" * 255 + '"', "k" * 255),
        ("k" * 256, None),
        ("", None),
        ('""', None),
        ('"a', None),
        ('a"', None),
        ('"', None),
        ("a b", None),
        ("one, two", None),
        ("a\\b", None),
        ("caf\u00e9", None),
        ("a\x00", None),
        ("a\n", None),
    ],
)
def test_a_key_is_visible_ascii_bare_or_in_quotes(value, key):
    assert read_key(value) == key


def test_a_claim_is_the_tenants_and_for_one_request():
    first = claim("k", tenant="a", route="/v1/x", body=b"{}")
    assert first == claim("k", tenant="a", route="/v1/x", body=b"{}")
    for other in (claim("k", tenant="b", route="/v1/x", body=b"{}"), claim("l", tenant="a", route="/v1/x", body=b"{}")):
        assert other.mark != first.mark
        assert other.fingerprint == first.fingerprint
    for other in (claim("k", tenant="a", route="/v1/y", body=b"{}"), claim("k", tenant="a", route="/v1/x", body=b"{ }")):
        assert other.mark == first.mark
        assert other.fingerprint != first.fingerprint


def test_no_tenant_can_reach_anothers_key_by_its_name():
    assert claim("b:k", tenant="a", route="", body=b"").mark != claim("k", tenant="a:b", route="", body=b"").mark
    assert claim("1:a:k", tenant="", route="", body=b"").mark != claim("k", tenant="a", route="", body=b"").mark


@pytest.mark.parametrize(
    ("status", "kept"), [(400, True), (422, True), (413, True), (401, False), (404, False), (409, False), (429, False)]
)
def test_a_refusal_is_kept_where_the_same_request_would_meet_it_again(status, kept):
    error = UpstreamRefused("Too long.", upstream_status=status, upstream_code="context_length_exceeded", param="messages")
    found = refused(error)
    assert (found is not None) == kept
    if found is not None:
        again = refusal(found)
        assert (again.message, again.http_status, again.shown_code, again.param) == (
            error.message,
            status,
            "context_length_exceeded",
            "messages",
        )


def test_what_may_be_gone_the_next_time_is_not_kept():
    assert refused(UpstreamLimited("Slow down.")) is None
