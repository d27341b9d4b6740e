"""Limits in headers, to the byte; the structured ones are read back by another's parser."""

import re
from fractions import Fraction

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.api.wire.limit_headers import LIMIT_HEADERS, limit_headers
from sentinel_gateway.core.limits import Standing

amounts = st.integers(0, 10**9)
standings = st.none() | st.builds(Standing, amounts, amounts, st.integers(0, 10**8))


def test_nothing_is_told_where_nothing_is_limited():
    assert list(limit_headers(None, None)) == []


def test_both():
    assert list(limit_headers(Standing(60, 59, 1_000), Standing(10_000, 2_500, 45_000))) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"10000"),
        (b"x-ratelimit-remaining-tokens", b"2500"),
        (b"x-ratelimit-reset-tokens", b"45s"),
        (b"ratelimit-policy", b'"requests";q=60;w=60, "tokens";q=10000;w=60'),
        (b"ratelimit", b'"requests";r=59;t=1, "tokens";r=2500;t=45'),
    ]


def test_one():
    assert list(limit_headers(None, Standing(600, 0, 6_050))) == [
        (b"x-ratelimit-limit-tokens", b"600"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"6.05s"),
        (b"ratelimit-policy", b'"tokens";q=600;w=60'),
        (b"ratelimit", b'"tokens";r=0;t=7'),
    ]


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [
        (0, b"0s"),
        (1, b"1ms"),
        (88, b"88ms"),
        (999, b"999ms"),
        (1000, b"1s"),
        (1500, b"1.5s"),
        (10000, b"10s"),
        (59950, b"59.95s"),
        (59999, b"59.999s"),
        (60000, b"1m0s"),
        (100000, b"1m40s"),
        (360000, b"6m0s"),
        (365040, b"6m5.04s"),
        (3600000, b"1h0m0s"),
        (7322001, b"2h2m2.001s"),
    ],
)
def test_durations_are_written_as_go_does(milliseconds, written):
    assert dict(limit_headers(Standing(1, 0, milliseconds), None))[b"x-ratelimit-reset-requests"] == written


def test_all_names_are_listed():
    assert {name.decode() for name, _ in limit_headers(Standing(1, 1, 0), Standing(1, 1, 0))} == set(LIMIT_HEADERS)


UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


@given(st.integers(0, 10**9))
def test_a_duration_reads_back_to_the_millisecond(milliseconds):
    written = dict(limit_headers(None, Standing(1, 0, milliseconds)))[b"x-ratelimit-reset-tokens"].decode()
    assert re.fullmatch(r"((\d+h)?\d+m)?\d+(\.\d*[1-9])?s|\d+ms", written)
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", written)
    assert sum(Fraction(number) * UNITS[unit] for number, unit in parts) == milliseconds


@given(standings, standings)
def test_the_structured_headers_say_the_same(requests, tokens):
    headers = dict(limit_headers(requests, tokens))
    told = {kind: standing for kind, standing in (("requests", requests), ("tokens", tokens)) if standing is not None}
    if not told:
        assert not headers
        return
    policy = dict(http_sf.parse(headers[b"ratelimit-policy"], tltype="list"))
    rest = dict(http_sf.parse(headers[b"ratelimit"], tltype="list"))
    assert policy == {kind: {"q": standing.limit, "w": 60} for kind, standing in told.items()}
    assert {kind: members["r"] for kind, members in rest.items()} == {kind: s.remaining for kind, s in told.items()}
    assert all(members["t"] - 1 < told[kind].reset / 1000 <= members["t"] for kind, members in rest.items())
