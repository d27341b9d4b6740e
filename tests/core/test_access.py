"""The rules of client keys."""

import hmac
import re

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sentinel_gateway.core.access import (
    ANYBODY,
    DIGITS,
    GUEST,
    OTHER_MODELS,
    SCOPES,
    Defaults,
    Limits,
    cache_scope,
    caller_of,
    describe,
    discreet,
    excess,
    faults,
    is_key_text,
    key_digest,
    key_hasher,
    key_hint,
    make_key_text,
    may_use,
    operator,
    require_model,
    require_no_other,
    require_scope,
    standing,
)
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.errors import InsufficientScope, ModelNotAllowed, ModelNotFound
from tests.core.keys import GRANT, KEY, NOW, PEPPER, digits, grants, key_of, minted, model, moments, random32

# --- the text of a key ---


@given(random32)
def test_a_key_has_one_form_and_is_recognised(random):
    text = make_key_text(random)
    assert re.fullmatch(r"sk-sn-[0-9A-Za-z]{49}", text)
    assert is_key_text(text)
    assert make_key_text(random) == text


@given(random32, random32)
def test_other_chance_makes_another_key(one, other):
    assume(one != other)
    assert make_key_text(one)[:-6] != make_key_text(other)[:-6]


def test_all_256_bits_are_in_it_to_the_last():
    """The digits before the checksum are the number itself: nothing is lost at either end."""
    for number in (0, 1, 61, 62, 2**255, 2**256 - 1):
        value = 0
        for digit in make_key_text(number.to_bytes(32))[6:-6]:
            value = value * 62 + DIGITS.index(digit)
        assert value == number


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_less_chance_is_not_made(length):
    with pytest.raises(ValueError, match="32 bytes"):
        make_key_text(bytes(length))


@given(random32, st.integers(0, 54), st.characters())
def test_one_other_character_is_no_key(random, place, character):
    text = make_key_text(random)
    assume(character != text[place])
    assert not is_key_text(text[:place] + character + text[place + 1 :])


@given(random32)
def test_nearly_the_same_text_is_no_key(random):
    text = make_key_text(random)
    for other in (text[:-1], text + "0", text + " ", " " + text, text + "\n", text.upper(), text.lower(), text.swapcase(), ""):
        assert not is_key_text(other)


@given(digits)
def test_digits_without_the_right_checksum_are_no_key(text):
    """What scanners ask: one in 56 billion random texts passes."""
    assert not is_key_text("sk-sn-" + text)


def test_the_hint_shows_four_characters():
    _, text = minted()
    assert key_hint(text) == f"sk-sn-...{text[-4:]}"


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_the_digest_is_hmac_sha256(pepper, text):
    expected = hmac.new(pepper, text, "sha256").digest()
    assert key_digest(pepper, text) == expected
    assert key_hasher(pepper)(text) == expected


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_hasher_remembers_nothing(one, other):
    digest = key_hasher(PEPPER)
    assert (digest(one), digest(other), digest(one)) == tuple(key_digest(PEPPER, text) for text in (one, other, one))


def test_a_digest_needs_the_pepper():
    _, text = minted()
    assert key_digest(PEPPER, text) == key_digest(PEPPER, text.encode()) == KEY.digest
    assert key_digest(PEPPER + b".", text) != KEY.digest


# --- how long it is good ---


@given(moments, moments, st.floats(NOW - 20, NOW + 20))
def test_a_key_is_good_until_it_is_revoked_or_expires(expires, revoked, now):
    state = standing(msgspec.structs.replace(KEY, expires=expires, revoked=revoked), now)
    if revoked is not None:
        assert state == "revoked"
    else:
        assert state == ("expired" if expires is not None and expires <= now else None)


@given(st.floats(NOW, NOW + 10), st.floats(0, 1e9))
def test_what_has_ended_never_begins_again(now, later):
    key = msgspec.structs.replace(KEY, expires=NOW)
    assert standing(key, now) == standing(key, now + later) == "expired"


# --- models ---


@pytest.mark.parametrize(
    ("models", "allowed", "refused"),
    [
        ((), ["anything", ""], []),
        (("gpt-4",), ["gpt-4"], ["gpt-4o", "gpt", "GPT-4", "gpt-4 ", "x/gpt-4", ""]),
        (("gpt-*",), ["gpt-", "gpt-4", "gpt-*"], ["gpt", "GPT-4", "x/gpt-4"]),
        (("*",), ["anything", ""], []),
        (("a", "b*"), ["a", "b", "bc"], ["ab", "c"]),
        (("a.c",), ["a.c"], ["abc"]),
    ],
)
def test_which_models_a_key_may_use(models, allowed, refused):
    key = msgspec.structs.replace(KEY, models=models)
    assert [name for name in allowed + refused if may_use(key, name)] == allowed


def test_a_model_that_is_not_allowed_is_told_without_its_name():
    caller = caller_of(msgspec.structs.replace(KEY, models=("a",)))
    require_model(caller, "a")
    require_model(operator("admin-key"), "anything")
    with pytest.raises(ModelNotAllowed) as refused:
        require_model(caller, "secret-model")
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (403, "model_not_allowed", "model")
    assert "secret-model" not in refused.value.message


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_no_field_may_have_a_provider_use_another_model(name):
    require_no_other({"model": "a", name: []})
    with pytest.raises(ModelNotAllowed, match=f"'{name}' has a provider use other models") as refused:
        require_no_other({"model": "a", name: ["b"]})
    assert refused.value.param == name


def test_whose_list_it_is_learns_no_names_but_its_own():
    missing = ModelNotFound("Did you mean 'secret'?", name="app/x", param="model")
    key = msgspec.structs.replace(KEY, models=("app/*",))
    assert discreet(missing, operator("cli")) is discreet(missing, caller_of(KEY)) is missing
    own = discreet(missing, caller_of(key))
    assert (type(own), own.name, own.param) == (ModelNotFound, "app/x", "model")
    assert own.message.startswith("Nobody here serves the model 'app/x'.")
    assert "secret" not in own.message
    other = discreet(ModelNotFound("x", name="other", param="model"), caller_of(key))
    assert (type(other), other.param) == (ModelNotAllowed, "model")


# --- scopes ---


def test_a_scope_is_had_or_not():
    caller = caller_of(msgspec.structs.replace(KEY, scopes=frozenset({"read"})))
    require_scope(caller, "read")
    for scope in ("inference", "admin"):
        with pytest.raises(InsufficientScope, match=scope):
            require_scope(caller, scope)
    for scope in SCOPES:
        require_scope(operator("cli"), scope)


def test_callers_are_named_for_the_log():
    assert (caller_of(KEY).actor, caller_of(KEY).tenant, caller_of(KEY).key) == (KEY.id, "acme", KEY)
    assert (operator("cli").actor, operator("admin-key").actor) == ("cli", "admin-key")
    assert operator("cli").tenant is None


def test_who_asks_without_a_key_has_the_limits_of_guests():
    assert caller_of(KEY).party is KEY
    assert ANYBODY.party is operator("cli").party is GUEST


def test_answers_are_shared_by_a_tenant_or_by_its_cache_group():
    groups = {"acme": "shared", "other": "shared"}
    caller = caller_of(KEY)
    assert cache_scope(caller, {}) == "acme"
    assert cache_scope(caller, groups) == cache_scope(msgspec.structs.replace(caller, tenant="other"), groups) != "shared"
    assert cache_scope(operator("cli"), groups) == operator("cli").space


# --- what may be asked for ---


def faulty(**changes) -> list[str]:
    return [field for field, _ in faults(msgspec.structs.replace(GRANT, **changes), NOW)]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, []),
        ({"name": ""}, ["name"]),
        ({"name": "n" * 100}, []),
        ({"name": "n" * 101}, ["name"]),
        ({"name": " n"}, ["name"]),
        ({"name": "a\nb"}, ["name"]),
        ({"name": "a\x1b[2Jb"}, ["name"]),
        ({"name": "a\x00b"}, ["name"]),
        ({"name": "a\u202eb"}, ["name"]),
        ({"name": "Zoë's % key_'"}, []),
        ({"tenant": ""}, ["tenant"]),
        ({"tenant": "t" * 1024}, []),
        ({"tenant": "t" * 1025}, ["tenant"]),
        ({"tenant": "a:b*{}ü"}, []),
        ({"scopes": frozenset()}, ["scopes"]),
        ({"scopes": frozenset({"root"})}, ["scopes"]),
        ({"models": ("a", "b*", "*")}, []),
        ({"models": ("a*b",)}, ["models"]),
        ({"models": ("**",)}, ["models"]),
        ({"models": ("",)}, ["models"]),
        ({"models": ("m" * 201,)}, ["models"]),
        ({"models": ("m",) * 101}, ["models"]),
        ({"expires": NOW}, ["expires"]),
        ({"expires": NOW + 0.5}, []),
        ({"expires": float("inf")}, ["expires"]),
        ({"expires": float("nan")}, ["expires"]),
        ({"limits": Limits(0)}, ["limits.requests_per_minute"]),
        ({"limits": Limits(1, 10**9, 1)}, []),
        ({"budget": Budget(day=0)}, ["budget.day"]),
        ({"max_wrong_hit_rate": -0.01}, ["max_wrong_hit_rate"]),
        ({"max_wrong_hit_rate": float("nan")}, ["max_wrong_hit_rate"]),
        ({"max_wrong_hit_rate": 1.0}, []),
        ({"user_limits": Limits(1, 10**9 + 1, -1)}, ["user_limits.tokens_per_minute", "user_limits.concurrency"]),
    ],
)
def test_a_grant_that_makes_no_sense_is_told_by_its_field(changes, fields):
    assert faulty(**changes) == fields


# --- what may be passed on ---


@given(grants)
def test_a_key_may_pass_on_what_it_has(grant):
    assert list(excess(grant, key_of(grant))) == []


def covered(patterns, name) -> bool:
    return may_use(msgspec.structs.replace(KEY, models=tuple(patterns)), name)


@given(grants, grants, st.lists(model, max_size=8))
def test_what_is_passed_on_is_never_more(grant, own, probes):
    maker = key_of(own)
    if list(excess(grant, maker)):
        return
    assert grant.tenant == maker.tenant
    assert grant.scopes <= maker.scopes
    assert grant.trial or not maker.trial
    assert own.max_wrong_hit_rate is None or (grant.max_wrong_hit_rate or 0.0) <= own.max_wrong_hit_rate
    assert maker.expires is None or (grant.expires is not None and grant.expires <= maker.expires)
    for name in ["", "z", "abcd", *(probe.strip("*") for probe in probes), *probes]:
        assert covered(own.models, name) or not covered(grant.models, name)
    for mine, theirs in ((own.limits, grant.limits), (own.user_limits, grant.user_limits)):
        for bound, asked in zip(msgspec.structs.astuple(mine), msgspec.structs.astuple(theirs), strict=True):
            assert bound is None or (asked is not None and asked <= bound)


@pytest.mark.parametrize(
    ("own", "asked", "fields"),
    [
        ({}, {"tenant": "other"}, ["tenant"]),
        ({}, {"scopes": frozenset({"inference", "admin"})}, ["scopes"]),
        ({"scopes": frozenset({"admin"})}, {}, ["scopes"]),
        ({"models": ("a",)}, {}, ["models"]),
        ({"models": ("a",)}, {"models": ("a*",)}, ["models"]),
        ({"models": ("a*",)}, {"models": ("ab*", "a", "a*")}, []),
        ({"models": ("a*",)}, {"models": ("*",)}, ["models"]),
        ({"models": ("*",)}, {}, ["models"]),
        ({"expires": NOW + 5}, {}, ["expires"]),
        ({"expires": NOW + 5}, {"expires": NOW + 6}, ["expires"]),
        ({"trial": True}, {}, ["trial"]),
        ({"limits": Limits(5)}, {}, ["limits.requests_per_minute"]),
        ({"limits": Limits(5)}, {"limits": Limits(6)}, ["limits.requests_per_minute"]),
        ({"limits": Limits(5)}, {"limits": Limits(5, 7)}, []),
        ({"budget": Budget(day=5)}, {"budget": Budget(day=6)}, ["budget.day"]),
        ({"user_limits": Limits(None, None, 2)}, {}, ["user_limits.concurrency"]),
        ({"max_wrong_hit_rate": 0.01}, {}, ["max_wrong_hit_rate"]),
        ({"max_wrong_hit_rate": 0.01}, {"max_wrong_hit_rate": 0.02}, ["max_wrong_hit_rate"]),
        ({"max_wrong_hit_rate": 0.01}, {"max_wrong_hit_rate": 0.0}, []),
    ],
)
def test_more_than_the_maker_has_is_told_by_its_field(own, asked, fields):
    maker = key_of(msgspec.structs.replace(GRANT, **own))
    assert list(excess(msgspec.structs.replace(GRANT, **asked), maker)) == fields


@pytest.mark.parametrize(
    ("own", "asked", "fields"),
    [
        ({}, {}, []),
        ({}, {"limits": Limits(60)}, []),
        ({}, {"limits": Limits(61)}, ["limits.requests_per_minute"]),
        ({"limits": Limits(90)}, {"limits": Limits(61)}, []),
        ({"limits": Limits(30)}, {}, ["limits.requests_per_minute"]),
        ({}, {"limits": Limits(None, 5)}, []),
    ],
)
def test_a_key_without_limits_of_its_own_has_those_of_the_configuration(own, asked, fields):
    maker = key_of(msgspec.structs.replace(GRANT, **own))
    assert list(excess(msgspec.structs.replace(GRANT, **asked), maker, Defaults(Limits(60)))) == fields


# --- what is shown ---


@given(grants)
def test_a_description_holds_all_but_the_digest(grant):
    key = key_of(grant)
    shown = describe(key)
    assert shown.keys() == set(key.__struct_fields__) - {"digest"}
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown
    assert key.digest.hex() not in str(shown)
