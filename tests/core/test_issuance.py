"""What becomes of a key when it is made, rotated, revoked."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import SCOPES, Grant, caller_of, describe, is_key_text, key_digest, operator, standing
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.issuance import Draw, Minter
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.errors import InsufficientScope, KeyEnded, KeyNotFound
from tests.core.keys import GRANT, KEY, NOW, PEPPER, grants, key_of, minted, random32

OPERATOR = operator("admin-key")
ADMIN = caller_of(key_of(msgspec.structs.replace(GRANT, scopes=SCOPES)))
STRANGER = caller_of(key_of(msgspec.structs.replace(GRANT, tenant="other", scopes=SCOPES)))


@given(grants, random32, st.binary(min_size=8, max_size=8))
def test_a_minted_key_is_what_was_asked_for(grant, secret, id_):
    key, text = Minter(PEPPER).mint(grant, Draw(id_, secret), NOW)
    assert is_key_text(text)
    assert key.digest == key_digest(PEPPER, text)
    assert {name: getattr(key, name) for name in Grant.__struct_fields__} == msgspec.structs.asdict(grant)
    assert (key.id, key.created, key.revoked, key.successor) == (f"key_{id_.hex()}", NOW, None, None)
    assert repr(PEPPER) not in repr(Minter(PEPPER))


def test_the_log_is_told_who_made_it_and_no_secret():
    key, text = minted()
    entry = issuance.create(ADMIN, key)
    assert (entry.action, entry.actor, entry.object, entry.tenant) == ("key.create", ADMIN.actor, key.id, "acme")
    assert (entry.before, entry.after) == (None, describe(key))
    assert text not in str(entry)
    assert key.digest.hex() not in str(entry)
    assert issuance.create(OPERATOR, key).actor == "admin-key"


def test_nobody_makes_a_key_wider_than_their_own():
    limited = caller_of(key_of(msgspec.structs.replace(GRANT, scopes=SCOPES, limits=Limits(5))))
    with pytest.raises(InsufficientScope, match=r"limits\.requests_per_minute") as refused:
        issuance.create(limited, KEY)
    assert refused.value.param == "limits.requests_per_minute"
    with pytest.raises(InsufficientScope, match="tenant"):
        issuance.create(STRANGER, KEY)


def test_a_revoked_key_opens_nothing():
    done = issuance.revoke(KEY, ADMIN, NOW + 5)
    assert done.key == msgspec.structs.replace(KEY, revoked=NOW + 5)
    assert standing(done.key, NOW + 5) == "revoked"
    assert (done.entry.action, done.entry.before["revoked"], done.entry.after["revoked"]) == ("key.revoke", None, NOW + 5)
    assert done.successor is None


def test_revoking_again_changes_nothing():
    revoked = msgspec.structs.replace(KEY, revoked=NOW)
    assert issuance.revoke(revoked, OPERATOR, NOW + 5) == issuance.Amendment(revoked)


@given(grants, st.floats(0, 100))
def test_a_rotated_key_lives_on_as_long_as_is_said_and_no_longer_than_it_would(grant, overlap):
    key = key_of(grant, expires=None if grant.expires is None else NOW + 50)
    successor, _ = Minter(PEPPER).mint(key, Draw(b"8 bytes.", bytes(31) + b"x"), NOW)
    done = issuance.rotate(key, OPERATOR, successor, overlap)
    assert done.key.expires == min(NOW + overlap, key.expires or NOW + overlap)
    assert done.key.successor == successor.id
    assert done.successor == successor
    assert (successor.expires, successor.scopes, successor.limits) == (key.expires, key.scopes, key.limits)
    assert successor.digest != key.digest
    assert (done.entry.action, done.entry.object) == ("key.rotate", key.id)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"revoked": NOW}, "is revoked"),
        ({"expires": NOW}, "is expired"),
        ({"successor": "key_0000000000000001", "expires": NOW + 5}, "rotate key_0000000000000001"),
    ],
)
def test_what_has_ended_is_not_rotated(changes, why):
    successor, _ = minted(1)
    with pytest.raises(KeyEnded, match=why):
        issuance.rotate(msgspec.structs.replace(KEY, **changes), OPERATOR, successor, 5.0)


def test_rotating_a_wider_key_would_hand_it_over():
    """Whoever rotates a key gets to see its successor."""
    wide = msgspec.structs.replace(KEY, limits=Limits(10))
    narrow = caller_of(key_of(msgspec.structs.replace(GRANT, scopes=SCOPES, limits=Limits(5))))
    with pytest.raises(InsufficientScope):
        issuance.rotate(wide, narrow, msgspec.structs.replace(wide, id="key_1"), 5.0)
    assert issuance.revoke(wide, narrow, NOW).key.revoked == NOW


def test_a_key_of_others_is_as_if_it_were_not_there():
    refusals = []
    for key, caller in ((KEY, STRANGER), (None, STRANGER), (None, OPERATOR)):
        with pytest.raises(KeyNotFound) as refused:
            issuance.find(key, caller)
        refusals.append((refused.value.http_status, refused.value.message, refused.value.param))
    assert len(set(refusals)) == 1
    for step in (lambda: issuance.revoke(KEY, STRANGER, NOW), lambda: issuance.rotate(KEY, STRANGER, minted(1)[0], 5.0)):
        with pytest.raises(KeyNotFound):
            step()
    assert issuance.find(KEY, ADMIN) is KEY


def test_a_key_that_was_made_elsewhere_is_told_of_as_adopted():
    entry = issuance.adopt(OPERATOR, KEY, NOW + 5)
    assert (entry.action, entry.at, entry.object, entry.before, entry.after) == (
        "key.adopt",
        NOW + 5,
        KEY.id,
        None,
        describe(KEY),
    )


def test_a_budget_is_changed_for_a_key_that_still_opens_something():
    amended = issuance.rebudget(KEY, ADMIN, Budget(day=7), NOW)
    assert amended.key == msgspec.structs.replace(KEY, budget=Budget(day=7))
    assert amended.entry is not None
    assert (amended.entry.action, amended.entry.before, amended.entry.after) == (
        "key.budget",
        describe(KEY),
        describe(amended.key),
    )
    with pytest.raises(KeyEnded, match="revoked: it spends nothing any more"):
        issuance.rebudget(msgspec.structs.replace(KEY, revoked=NOW), ADMIN, Budget(day=7), NOW)
    with pytest.raises(KeyNotFound):
        issuance.rebudget(KEY, STRANGER, Budget(day=7), NOW)


def test_nobody_gives_a_key_more_to_spend_than_their_own():
    poor = caller_of(key_of(msgspec.structs.replace(GRANT, scopes=SCOPES, budget=Budget(day=5))))
    assert issuance.rebudget(KEY, poor, Budget(day=5), NOW).key.budget == Budget(day=5)
    with pytest.raises(InsufficientScope, match=r"budget\.day"):
        issuance.rebudget(KEY, poor, Budget(day=6), NOW)
