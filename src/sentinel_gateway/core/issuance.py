"""The life of a client key: made, rotated, revoked. Each step is a pure rule: what to keep, and what the audit log is told.

A rule is given what is kept *now*, inside the store's transaction, so that two who change one key at once never undo each other.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sentinel_gateway.core.access import (
    NO_DEFAULTS,
    Caller,
    Defaults,
    Grant,
    Key,
    describe,
    excess,
    key_digest,
    key_hint,
    make_key_text,
    standing,
)
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.errors import InsufficientScope, KeyEnded, KeyNotFound

ID_BYTES: Final = 8
NO_KEY: Final = "There is no such key."


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One administrative change. `before` and `after` hold no secret; `id` is given by the log, in the order of the changes.

    `tenant` None: it concerns the whole gateway, and only the operator reads it.
    """

    at: float
    actor: str
    action: str
    object: str
    tenant: str | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    id: int | None = None


class Draw(msgspec.Struct, frozen=True):
    """The chance that a new key is made of."""

    id: bytes
    secret: bytes


class Amendment(msgspec.Struct, frozen=True):
    """What becomes of a key: the key as it is from now on, the one that follows it, and what the log is told.

    `entry` None: nothing has changed.
    """

    key: Key
    successor: Key | None = None
    entry: AuditEntry | None = None


class Minter:
    """Makes keys. `pepper` is the gateway's secret, `defaults` are what a key has where it says nothing itself."""

    def __init__(self, pepper: bytes, *, defaults: Defaults = NO_DEFAULTS) -> None:
        self.defaults = defaults
        self._pepper = pepper

    def __repr__(self) -> str:
        return "<Minter>"

    def mint(self, grant: Grant, draw: Draw, now: float) -> tuple[Key, str]:
        """A key and its text, which is shown once and kept nowhere."""
        text = make_key_text(draw.secret)
        key = Key(
            id=f"key_{draw.id.hex()}",
            digest=key_digest(self._pepper, text),
            hint=key_hint(text),
            created=now,
            name=grant.name,
            tenant=grant.tenant,
            scopes=grant.scopes,
            models=grant.models,
            expires=grant.expires,
            trial=grant.trial,
            limits=grant.limits,
            user_limits=grant.user_limits,
            max_wrong_hit_rate=grant.max_wrong_hit_rate,
            budget=grant.budget,
        )
        return key, text


def create(caller: Caller, key: Key, *, defaults: Defaults = NO_DEFAULTS) -> AuditEntry:
    """The entry for a new key; raises `InsufficientScope` if the caller would give away more than it has."""
    _refuse_excess(caller, key, defaults)
    return _entry(caller, "key.create", key.created, before=None, after=key)


def adopt(caller: Caller, key: Key, now: float) -> AuditEntry:
    """The entry for a key that was made elsewhere, and is kept here from now on."""
    return _entry(caller, "key.adopt", now, before=None, after=key)


def revoke(key: Key, caller: Caller, now: float) -> Amendment:
    """From now on it opens nothing. Doing so again changes nothing. Raises `KeyNotFound` for a key of another tenant."""
    find(key, caller)
    if key.revoked is not None:
        return Amendment(key)
    after = msgspec.structs.replace(key, revoked=now)
    return Amendment(after, entry=_entry(caller, "key.revoke", now, before=key, after=after))


def rotate(key: Key, caller: Caller, successor: Key, overlap: float, *, defaults: Defaults = NO_DEFAULTS) -> Amendment:
    """`successor`, minted with the same grant, takes over; the old key lives on for `overlap` seconds.

    Raises `KeyNotFound`, `KeyEnded` for one that is revoked, expired or rotated already, and `InsufficientScope` where the
    caller would come to hold more than it has.
    """
    find(key, caller)
    now = successor.created
    if ended := standing(key, now):
        raise KeyEnded(f"This key is {ended}: create a new one.")
    if key.successor is not None:
        raise KeyEnded(f"This key was rotated already: rotate {key.successor}, which took its place.")
    _refuse_excess(caller, key, defaults)
    until = now + overlap
    last = until if key.expires is None else min(key.expires, until)
    after = msgspec.structs.replace(key, expires=last, successor=successor.id)
    return Amendment(after, successor, _entry(caller, "key.rotate", now, before=key, after=after))


def rebudget(key: Key, caller: Caller, budget: Budget, now: float, *, defaults: Defaults = NO_DEFAULTS) -> Amendment:
    """From now on it may spend so much; what was spent stays spent. Raises as `rotate`, but for a key that was rotated."""
    find(key, caller)
    if ended := standing(key, now):
        raise KeyEnded(f"This key is {ended}: it spends nothing any more.")
    after = msgspec.structs.replace(key, budget=budget)
    _refuse_excess(caller, after, defaults)
    return Amendment(after, entry=_entry(caller, "key.budget", now, before=key, after=after))


def find(key: Key | None, caller: Caller) -> Key:
    """The key, if there is one and the caller may know of it; else the same `KeyNotFound`, whichever it is."""
    if key is None or (caller.tenant is not None and key.tenant != caller.tenant):
        raise KeyNotFound(NO_KEY)
    return key


def _refuse_excess(caller: Caller, grant: Grant, defaults: Defaults) -> None:
    wider = [] if caller.key is None else list(excess(grant, caller.key, defaults))
    if wider:
        raise InsufficientScope(f"Your key can't give away more than it has itself: see {', '.join(wider)}.", param=wider[0])


def _entry(caller: Caller, action: str, at: float, *, before: Key | None, after: Key) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=caller.actor,
        action=action,
        object=after.id,
        tenant=after.tenant,
        before=None if before is None else describe(before),
        after=describe(after),
    )
