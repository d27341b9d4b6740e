"""Keys for tests: hypothesis strategies, and one key that a test changes as it needs."""

import string

import msgspec
from hypothesis import strategies as st

from sentinel_gateway.core.access import DIGITS, SCOPES, Grant, Key
from sentinel_gateway.core.issuance import Draw, Minter
from sentinel_gateway.core.limits import Limits

NOW = 1_800_000_000.0
PEPPER = b"the pepper of all tests, 32 bytes"

GRANT = Grant(name="app", tenant="acme", scopes=frozenset({"inference"}))


def minted(number: int = 0, **changes) -> tuple[Key, str]:
    """A key and its text; each number makes another one."""
    draw = Draw(number.to_bytes(8), number.to_bytes(32))
    return Minter(PEPPER).mint(msgspec.structs.replace(GRANT, **changes), draw, NOW)


KEY = minted()[0]

RIGHTS_OF_LATER = b'{"scopes": ["of-a-later-version"], "models": [], "trial": false, "limits": {}, "user_limits": {}}'
"""The rights of a key, as a newer Sentinel may have written them to the database."""

limit = st.none() | st.integers(1, 5)
limits = st.builds(Limits, limit, limit, limit)
names = st.text(string.ascii_letters, min_size=1, max_size=5)
model = st.sampled_from(["a", "ab", "abc", "b", "a*", "ab*", "*", "b*"])
moments = st.none() | st.floats(NOW - 10, NOW + 10)
grants = st.builds(
    Grant,
    name=names,
    tenant=st.sampled_from(["acme", "other"]),
    scopes=st.frozensets(st.sampled_from(sorted(SCOPES)), min_size=1),
    models=st.lists(model, max_size=3).map(tuple),
    expires=moments,
    trial=st.booleans(),
    limits=limits,
    user_limits=limits,
    max_wrong_hit_rate=st.none() | st.sampled_from([0.0, 0.01, 0.5]),
)
random32 = st.binary(min_size=32, max_size=32)
digits = st.text(DIGITS, min_size=49, max_size=49)


def key_of(grant: Grant, **changes) -> Key:
    key, _ = Minter(PEPPER).mint(grant, Draw(bytes(8), bytes(32)), NOW)
    return msgspec.structs.replace(key, **changes)
