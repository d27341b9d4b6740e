"""Client keys: what one may do, whether it still may, how its text is made and recognised, and what it may pass on.

Chance and time are arguments. A key's text exists once, when it is made; what is kept is its keyed hash.
"""

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from sentinel_gateway.core import budgets
from sentinel_gateway.core.budgets import NO_BUDGET, Budget
from sentinel_gateway.core.limits import LARGEST, NO_LIMITS, Limits
from sentinel_gateway.errors import InsufficientScope, ModelNotAllowed, ModelNotFound, RequestError

KeyScope = Literal["inference", "read", "admin"]
"""`inference` asks models, `read` looks at metrics and costs, `admin` manages the keys of its tenant, and clears its answers."""
Ended = Literal["revoked", "expired"]

SCOPES: Final[frozenset[KeyScope]] = frozenset(get_args(KeyScope))
ANONYMOUS: Final = ""
"""The tenant of those who need no key; the operator shares their limits."""
GROUP: Final = "group\n"
"""Before the name of a cache group: no tenant's name has a line break."""
DEFAULT_TENANT: Final = "default"
"""Of keys that name none."""
MARK: Final = "sk-sn-"
RANDOM_BYTES: Final = 32
DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_DIGITS: Final = 43
"""62^43 is just above 2^256."""
CHECKSUM_DIGITS: Final = 6
HINT_DIGITS: Final = 4
NAME_LENGTH: Final = 100
TENANT_LENGTH: Final = 1024
MODELS: Final = 100
MODEL_LENGTH: Final = 200

LISTED: Final = "GET /v1/models lists those that this key may use."
OTHER_MODELS: Final = ("models", "fallbacks", "fallback_models", "context_window_fallbacks", "content_policy_fallbacks")
"""What OpenRouter, and gateways that a provider may be, take for names of models to ask instead."""
NOT_ALLOWED: Final = f"This key may not use this model. {LISTED}"
OPERATOR: Final = "operator\n"
"""Where the operator's own answers and idempotency keys are: with no tenant's, and no guest's."""
BLOCK: Final = 64
"""Bytes that SHA-256 takes in at once."""

_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_SHAPE: Final = re.compile(rf"{MARK}[0-9A-Za-z]{{{BODY_DIGITS + CHECKSUM_DIGITS}}}")


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a key is asked to be. `expires` in Unix seconds.

    `models` are names, or beginnings of names that end in `*`; none means all. `user_limits` hold for each end user of the key by
    itself: the `user` field of a request. `max_wrong_hit_rate`, 0 to 1, can only be stricter than what holds for all.
    """

    name: str
    tenant: str
    scopes: frozenset[KeyScope]
    models: tuple[str, ...] = ()
    expires: float | None = None
    trial: bool = False
    limits: Limits = NO_LIMITS
    user_limits: Limits = NO_LIMITS
    max_wrong_hit_rate: float | None = None
    budget: Budget = NO_BUDGET


class Key(Grant, frozen=True, kw_only=True):
    """A key as it is kept. Times in Unix seconds; `hint` is its mark and its last characters.

    `successor` is the id of the key that a rotation made of it.
    """

    id: str
    digest: bytes
    hint: str
    created: float
    revoked: float | None = None
    successor: str | None = None


class Caller(msgspec.Struct, frozen=True):
    """Who asks. `actor` is the id of its key, or an operator by what it came; `tenant` None is an operator, above tenants."""

    actor: str
    tenant: str | None
    scopes: frozenset[KeyScope]
    key: Key | None = None

    @property
    def space(self) -> str:
        """Whose its idempotency keys and its answers are: its tenant's. The operator has a space of its own."""
        return OPERATOR if self.tenant is None else self.tenant

    @property
    def party(self) -> "Key | Guest":
        """Whose limits hold."""
        return GUEST if self.key is None else self.key


ANYBODY: Final = Caller("anybody", ANONYMOUS, frozenset({"inference", "read"}))
"""Who asks where no key is needed."""


def cache_scope(caller: Caller, groups: Mapping[str, str]) -> str:
    """Whose answers a caller shares: its tenant's, or those of the tenant's cache group. No tenant has the name of a group."""
    return shared_space(caller.space, groups)


def shared_space(tenant: str, groups: Mapping[str, str]) -> str:
    """Where a tenant's answers are: by itself, or in its cache group."""
    group = groups.get(tenant)
    return tenant if group is None else GROUP + group


class Guest(msgspec.Struct, frozen=True):
    """Stands for a key where none is needed; all guests share their limits."""

    id: str = "guest"
    name: str = "without a key"
    tenant: str = ANONYMOUS
    limits: Limits = NO_LIMITS
    user_limits: Limits = NO_LIMITS
    budget: Budget = NO_BUDGET


GUEST: Final = Guest()


def operator(actor: Literal["admin-key", "cli", "start"]) -> Caller:
    """Who may do everything."""
    return Caller(actor, None, SCOPES)


def caller_of(key: Key) -> Caller:
    """Who asks with this key."""
    return Caller(key.id, key.tenant, key.scopes, key)


def standing(key: Key, now: float) -> Ended | None:
    """Why the key is good no more; None while it is."""
    if key.revoked is not None:
        return "revoked"
    if key.expires is not None and now >= key.expires:
        return "expired"
    return None


def may_use(key: Key, model: str) -> bool:
    """Is the model among those that the key names?"""
    return not key.models or any(_covers(pattern, model) for pattern in key.models)


def require_scope(caller: Caller, scope: KeyScope) -> None:
    """Raises `InsufficientScope`."""
    if scope not in caller.scopes:
        raise InsufficientScope(f"This needs a key with the scope '{scope}'.")


def allows(caller: Caller, model: str) -> bool:
    """May this caller use the model? Without a key all."""
    return caller.key is None or may_use(caller.key, model)


def require_model(caller: Caller, model: str) -> None:
    """Raises `ModelNotAllowed`. `model` is the name that the caller sent."""
    if not allows(caller, model):
        raise ModelNotAllowed(NOT_ALLOWED, param="model")


def require_no_other(fields: Mapping[str, Any]) -> None:
    """Raises `ModelNotAllowed` for what has a provider use a model that is not the one that was asked for.

    For callers of whom it matters: those with a list of models, and those for whom what the answer costs is held.
    """
    for name in filter(fields.get, OTHER_MODELS):
        sentence = f"'{name}' has a provider use other models, which a key with a list of models, or with a budget, may not."
        raise ModelNotAllowed(f"{sentence} Leave it out; the operator can put several targets under one name.", param=name)


def discreet(error: ModelNotFound, caller: Caller) -> RequestError:
    """The same for a caller who may use all models; one whose key has a list learns no names but its own."""
    if caller.key is None or not caller.key.models:
        return error
    if not may_use(caller.key, error.name):
        return ModelNotAllowed(NOT_ALLOWED, param="model")
    sentence = f"Nobody here serves the model '{error.name[:MODEL_LENGTH]}'. {LISTED}"
    return ModelNotFound(sentence, name=error.name, param=error.param)


def faults(grant: Grant, now: float) -> Iterator[tuple[str, str]]:
    """What is wrong with a grant: fields by their names, each with what would be right."""
    if not _is_plain(grant.name, NAME_LENGTH):
        yield "name", f"must have 1 to {NAME_LENGTH} printable characters, and no space at its ends"
    if not _is_plain(grant.tenant, TENANT_LENGTH):
        yield "tenant", f"must have 1 to {TENANT_LENGTH} printable characters, and no space at its ends"
    if not grant.scopes or grant.scopes - SCOPES:
        yield "scopes", f"must be some of {', '.join(get_args(KeyScope))}"
    if len(grant.models) > MODELS:
        yield "models", f"must be {MODELS} at most"
    if not all(_is_plain(model, MODEL_LENGTH) and "*" not in model[:-1] for model in grant.models):
        yield "models", f"must be names of 1 to {MODEL_LENGTH} printable characters; a '*' may stand at the end only"
    if grant.expires is not None and not now < grant.expires < float("inf"):
        yield "expires", "must be in the future"
    yield from _figures_at_fault(grant)


def _figures_at_fault(grant: Grant) -> Iterator[tuple[str, str]]:
    if grant.max_wrong_hit_rate is not None and not 0 <= grant.max_wrong_hit_rate <= 1:
        yield "max_wrong_hit_rate", "must be from 0 to 1, such as 0.005 for one in two hundred"
    for place, limits in (("limits", grant.limits), ("user_limits", grant.user_limits)):
        for name, limit in _members(limits):
            if limit is not None and not 1 <= limit <= LARGEST:
                yield f"{place}.{name}", f"must be from 1 to {LARGEST}"
    for span, sentence in budgets.faults(grant.budget):
        yield f"budget.{span}", sentence


class Defaults(msgspec.Struct, frozen=True):
    """What a key may use and spend where it says nothing itself."""

    limits: Limits = NO_LIMITS
    budget: Budget = NO_BUDGET


NO_DEFAULTS: Final = Defaults()


def excess(grant: Grant, maker: Key, defaults: Defaults = NO_DEFAULTS) -> Iterator[str]:
    """The fields in which a grant goes beyond what its maker has: nobody gives away more than is theirs."""
    if grant.tenant != maker.tenant:
        yield "tenant"
    if grant.scopes - maker.scopes:
        yield "scopes"
    if maker.models and not (grant.models and all(_within(model, maker.models) for model in grant.models)):
        yield "models"
    if _beyond(grant.expires, maker.expires):
        yield "expires"
    if maker.trial and not grant.trial:
        yield "trial"
    if _beyond(grant.max_wrong_hit_rate, maker.max_wrong_hit_rate):
        yield "max_wrong_hit_rate"
    yield from _figures_beyond(grant, maker, defaults)


def _figures_beyond(grant: Grant, maker: Key, defaults: Defaults) -> Iterator[str]:
    for span in budgets.beyond(grant.budget.or_else(defaults.budget), maker.budget.or_else(defaults.budget)):
        yield f"budget.{span}"
    limits = ("limits", grant.limits.or_else(defaults.limits), maker.limits.or_else(defaults.limits))
    for place, asked, own in (limits, ("user_limits", grant.user_limits, maker.user_limits)):
        for (name, limit), (_, bound) in zip(_members(asked), _members(own), strict=True):
            if _beyond(limit, bound):
                yield f"{place}.{name}"


def describe(key: Key) -> dict[str, Any]:
    """All of a key that may be shown: no digest. Its budget in USD."""
    shown: dict[str, Any] = msgspec.to_builtins(key, builtin_types=(bytes,))
    del shown["digest"]
    shown |= {"scopes": sorted(key.scopes), "models": list(key.models), "budget": budgets.describe(key.budget)}
    return {"id": key.id, "hint": key.hint} | shown


def make_key_text(random: bytes) -> str:
    """The text of a key, from 32 random bytes: mark, 43 digits, 6 of checksum, by which scanners know it from anything else."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key is made of {RANDOM_BYTES} bytes, not {len(random)}")
    body = MARK + _base62(int.from_bytes(random), BODY_DIGITS)
    return body + _checksum(body)


def is_key_text(text: str) -> bool:
    """Is this a whole key, to the letter? Says nothing of whether anybody has it."""
    return bool(_SHAPE.fullmatch(text)) and _checksum(text[:-CHECKSUM_DIGITS]) == text[-CHECKSUM_DIGITS:]


def key_hint(text: str) -> str:
    """What tells one key from another without telling it."""
    return f"{MARK}...{text[-HINT_DIGITS:]}"


def key_digest(pepper: bytes, text: str | bytes) -> bytes:
    """How a key is kept and looked up: 32 bytes that nobody without the pepper can make."""
    return hmac.digest(pepper, text.encode() if isinstance(text, str) else text, "sha256")


def key_hasher(pepper: bytes) -> Callable[[bytes], bytes]:
    """`key_digest` with its pepper taken in once, as RFC 2104 section 4 has it: 1.5 us a key where OpenSSL's own takes 3.5."""
    block = pepper if len(pepper) <= BLOCK else hashlib.sha256(pepper).digest()
    inner, outer = (hashlib.sha256(block.ljust(BLOCK, b"\0").translate(pad)) for pad in (_INNER, _OUTER))

    def digest(text: bytes) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(text)
        second.update(first.digest())
        return second.digest()

    return digest


def _is_plain(text: str, longest: int) -> bool:
    return 1 <= len(text) <= longest and text.isprintable() and text == text.strip()


def _covers(pattern: str, model: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


def _within(asked: str, patterns: tuple[str, ...]) -> bool:
    """Does one of the patterns cover all that `asked` covers? What ends in `*` lies only below a pattern that does."""
    if asked.endswith("*"):
        return any(pattern.endswith("*") and asked.startswith(pattern[:-1]) for pattern in patterns)
    return any(_covers(pattern, asked) for pattern in patterns)


def _beyond(asked: float | None, bound: float | None) -> bool:
    return bound is not None and (asked is None or asked > bound)


def _members(limits: Limits) -> Iterator[tuple[str, int | None]]:
    return ((name, getattr(limits, name)) for name in limits.__struct_fields__)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(DIGITS))
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_DIGITS)
