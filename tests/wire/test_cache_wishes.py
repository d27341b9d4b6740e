"""What callers ask of the cache, header by header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.api.wire.cache_headers import ASKING, MAX_DIRECTIVES, MAX_TAGS, read_wish
from sentinel_gateway.core.caching import YEAR, Wish
from sentinel_gateway.errors import InvalidHeader


def wish(**headers: str) -> Wish:
    return read_wish(encoded(headers))


def encoded(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}


BYPASS = Wish(read=False, write=False, bypass=True)


@pytest.mark.parametrize("headers", [{}, {"accept": "*/*", "x_cache": "x", "pragma": "no-cache"}])
def test_who_asks_nothing_gets_the_usual(headers):
    assert wish(**headers) == Wish()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x_bypass_cache": "true"}, BYPASS),
        ({"x_bypass_cache": "TRUE"}, BYPASS),
        ({"x_bypass_cache": " 1 "}, BYPASS),
        ({"x_bypass_cache": "false"}, Wish()),
        ({"x_bypass_cache": "0"}, Wish()),
        ({"x_cache_explain": "true"}, Wish(explain=True)),
        ({"x_cache_explain": "False"}, Wish()),
        ({"x_cache_ttl": "0"}, Wish(ttl=0.0)),
        ({"x_cache_ttl": " 60 "}, Wish(ttl=60.0)),
        ({"x_cache_ttl": "0060"}, Wish(ttl=60.0)),
        ({"x_cache_ttl": str(int(YEAR))}, Wish(ttl=YEAR)),
        ({"x_cache_namespace": "a"}, Wish(namespace="a")),
        ({"x_cache_namespace": "Team_1.x:/-" + "n" * 117}, Wish(namespace="Team_1.x:/-" + "n" * 117)),
        ({"x_cache_tags": "a"}, Wish(tags=("a",))),
        ({"x_cache_tags": "b, a ,b,v1.0"}, Wish(tags=("b", "a", "v1.0"))),
        ({"x_cache_tags": ",".join(f"t{n}" for n in range(MAX_TAGS))}, Wish(tags=tuple(f"t{n}" for n in range(MAX_TAGS)))),
        ({"x_similarity_threshold": "0"}, Wish(similarity_threshold=0.0)),
        ({"x_similarity_threshold": "0.95"}, Wish(similarity_threshold=0.95)),
        ({"x_similarity_threshold": "1"}, Wish(similarity_threshold=1.0)),
        ({"x_similarity_threshold": "1.000000"}, Wish(similarity_threshold=1.0)),
        ({"x_recovery": "buffered"}, Wish(buffered=True)),
        ({"x_recovery": " Buffered "}, Wish(buffered=True)),
        ({"x_recovery": "none"}, Wish()),
        ({"cache_control": "no-cache"}, Wish(read=False)),
        ({"cache_control": "No-Cache"}, Wish(read=False)),
        ({"cache_control": "no-store"}, Wish(write=False)),
        ({"cache_control": "no-cache, no-store"}, Wish(read=False, write=False)),
        ({"cache_control": "only-if-cached"}, Wish(only_if_cached=True)),
        ({"cache_control": "max-age=0"}, Wish(max_age=0.0)),
        ({"cache_control": "max-age=60 , min-fresh = 5"}, Wish(max_age=60.0, min_fresh=5.0)),
        ({"cache_control": "max-stale"}, Wish(max_stale=float("inf"))),
        ({"cache_control": "max-stale=60, stale-if-error=5"}, Wish(max_stale=60.0, stale_if_error=5.0)),
        ({"cache_control": 'MAX-AGE="60"'}, Wish(max_age=60.0)),
        ({"cache_control": "max-age=9999999999"}, Wish(max_age=9999999999.0)),
        ({"cache_control": ""}, Wish()),
        ({"cache_control": ",,"}, Wish()),
        ({"cache_control": "no-cache, " * (MAX_DIRECTIVES - 1) + "no-store"}, Wish(read=False, write=False)),
        ({"cache_control": "no-transform, max-rest=5, x-own=y, =7"}, Wish()),
        ({"cache_control": 'no-cache="Set-Cookie"'}, Wish(read=False)),
        ({"x_bypass_cache": "true", "cache_control": "only-if-cached"}, Wish(False, False, True, True)),
        ({"x_bypass_cache": "false", "cache_control": "no-store", "x_cache_ttl": "5"}, Wish(write=False, ttl=5.0)),
    ],
)
def test_good_values(headers, expected):
    assert wish(**headers) == expected


BAD: dict[str, list[str]] = {
    "x-bypass-cache": ["", "yes", "2", "truee", "true, true", "true;x", "\u00b9"],
    "x-cache-explain": ["", "on", "t", "01"],
    "x-cache-ttl": ["", "-1", "+1", "1.5", "1e3", "60s", "0x10", "60, 60", "31536001", "9" * 11, "\u00b2", "inf", "nan", "1_000"],
    "x-cache-namespace": ["", " ", "a b", "a,b", "n" * 129, "é", "a\u00a0b", "a\0", "{}", "*", "a\nb", "%2F"],
    "x-cache-tags": [
        "",
        ",",
        "a,,b",
        "a,",
        "a b",
        "é",
        "n" * 129,
        ",".join(f"t{n}" for n in range(MAX_TAGS + 1)),
        ",".join("a" * 17),
    ],
    "x-similarity-threshold": ["", "1.1", "-0.1", "2", "0.", ".5", "0,9", "1.0000001", "0.1234567", "nan", "95%", "00.5", "1e-1"],
    "x-recovery": ["", "true", "1", "buffer", "buffered, none", "restart"],
    "cache-control": [
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=1.5",
        "min-fresh=x",
        "min-fresh",
        'max-age=""',
        "max-age=99999999999",
        "," * MAX_DIRECTIVES,
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_malformed_value_names_its_header(name, value):
    with pytest.raises(InvalidHeader) as caught:
        wish(**{name: value})
    error = caught.value
    assert (error.param or "").lower() == name
    assert f"'{error.param}' is malformed: expected " in error.message
    assert (error.http_status, error.code) == (400, "invalid_header")


def test_every_header_that_asks_is_in_the_table():
    assert {name.encode() for name in BAD} == ASKING


def test_the_later_of_two_equal_directives_holds():
    assert wish(cache_control="max-age=1, max-age=2") == Wish(max_age=2.0)


@given(st.sampled_from(sorted(ASKING)), st.binary(max_size=20))
def test_any_bytes_are_a_wish_or_a_bad_header(name, value):
    try:
        read = read_wish({name: value})
    except InvalidHeader as error:
        assert (error.param or "").lower() == name.decode()
    else:
        assert read.namespace.isascii()
        assert all(tag.isascii() for tag in read.tags)
