"""The door while it can't tell whether anybody has a key: after a night that the machine slept through, before it has looked."""

import pytest

from sentinel_gateway.api.guard import Guard, Policy
from sentinel_gateway.core.access import ANYBODY
from sentinel_gateway.errors import InvalidKey, KeysUnavailable
from sentinel_gateway.pipeline.authentication import Authenticator
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from tests.core.keys import PEPPER, minted
from tests.fakes import FakeClock
from tests.pipeline.test_keyring import Keys

pytestmark = pytest.mark.anyio

KEYED = {b"authorization": b"Bearer sk-sn-" + b"x" * 49}


@pytest.mark.parametrize("headers", [{}, KEYED], ids=["without a key", "with any"])
async def test_who_needed_no_key_is_told_to_try_again_and_never_that_it_needs_one(headers):
    clock, keys = FakeClock(), Keys()
    ring = KeyRing(keys, bulletin=LoneBulletin(), clock=clock, on_event=print)
    authenticator = Authenticator(ring, pepper=PEPPER, admin_hash="", clock=clock)
    guard = Guard(authenticator, ring, Policy())
    await ring.refresh()
    assert guard.admit(headers, "127.0.0.1") == ANYBODY
    clock.now += 8 * 3600
    with pytest.raises(KeysUnavailable, match="try again shortly"):
        guard.admit(headers, "127.0.0.1")
    with pytest.raises(InvalidKey):  # elsewhere it needs one whatever was made
        Guard(authenticator, ring, Policy(loopback=False)).admit({}, "127.0.0.1")
    await ring.refresh()
    assert guard.admit(headers, "127.0.0.1") == ANYBODY
    keys.history.append(minted(0)[0])
    await ring.refresh()
    clock.now += 8 * 3600
    with pytest.raises(InvalidKey):
        guard.admit({}, "127.0.0.1")
