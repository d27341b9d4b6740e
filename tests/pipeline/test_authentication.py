"""From headers to the caller, and what is told to whoever is none."""

import hashlib
import math
import random
import statistics
from contextlib import suppress
from time import perf_counter_ns
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.access import DIGITS, SCOPES, Grant, Key, make_key_text
from sentinel_gateway.core.issuance import Draw, Minter
from sentinel_gateway.errors import InvalidHeader, InvalidKey, KeysUnavailable, RequestError, TooManyBadKeys
from sentinel_gateway.pipeline.authentication import ADDRESSES, BURST, HASHES, PAUSE, Authenticator
from sentinel_gateway.pipeline.keyring import CURRENT_SECONDS, TRUSTED_SECONDS, KeyRing
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from tests.core.keys import NOW, PEPPER, minted
from tests.pipeline.test_keyring import Keys, Time, revoked

pytestmark = pytest.mark.anyio

ADMIN = "the-admin-key-of-these-tests"
KEY, TEXT = minted(1)
OTHER, OTHER_TEXT = minted(2)
EXPIRED, EXPIRED_TEXT = minted(3, expires=NOW)
REVOKED, REVOKED_TEXT = minted(4)
UNKNOWN_TEXT = minted(5)[1]
HERE = "192.0.2.1"


class Door:
    """An authenticator with a clock and a store that a test moves."""

    def __init__(self, *keys: Key) -> None:
        self.time = Time()
        self.keys = Keys(*keys)
        self.ring = KeyRing(self.keys, bulletin=LoneBulletin(), clock=self.time, on_event=lambda *_, **__: None)
        digest = hashlib.sha256(ADMIN.encode()).hexdigest()
        self.authenticator = Authenticator(self.ring, pepper=PEPPER, admin_hash=digest, clock=self.time)

    def __call__(self, *headers: Any, address: str = HERE) -> Any:
        """The caller, or the error. `headers` in the order of `KEY_HEADERS`; those left out were not sent."""
        given = (value.encode() if isinstance(value, str) else value for value in (*headers, None, None, None)[:3])
        try:
            return self.authenticator.authenticate(*given, address=address)
        except RequestError as error:
            return error

    def actor(self, *headers: Any) -> str:
        return self(*headers).actor


@pytest.fixture
async def door() -> Door:
    opened = Door(KEY, OTHER, EXPIRED, revoked(REVOKED))
    await opened.ring.refresh()
    return opened


@pytest.mark.parametrize(
    "headers",
    [
        (f"Bearer {TEXT}",),
        (f"bearer {TEXT}",),
        (f"BEARER   {TEXT}",),
        (None, TEXT),
        ("", TEXT),
        (f"Bearer {TEXT}", ""),
        (f"Bearer {TEXT}", TEXT),
        (f"bearer  {TEXT}", TEXT),
        (None, None, TEXT),
        ("", "", TEXT),
        (f"Bearer {TEXT}", None, ""),
        (f"Bearer {TEXT}", None, TEXT),
        (None, TEXT, TEXT),
        (f"bearer  {TEXT}", TEXT, TEXT),
    ],
)
async def test_a_key_in_any_header(door, headers):
    caller = door(*headers)
    assert (caller.key, caller.actor, caller.tenant, caller.scopes) == (KEY, KEY.id, "acme", KEY.scopes)


@pytest.mark.parametrize(
    "text",
    [
        UNKNOWN_TEXT,
        REVOKED_TEXT,
        TEXT[:-1],
        TEXT[:20],
        TEXT + "0",
        TEXT + " ",
        TEXT + "\n",
        TEXT.upper(),
        TEXT.lower(),
        TEXT.swapcase(),
        TEXT[:-1] + chr(ord(TEXT[-1]) ^ 1),
        f'"{TEXT}"',
        "Bearer " + TEXT,
        "unused",
        "sk-sn-",
        "' OR 1=1 --",
        "\x00",
        "é",
        KEY.hint,
        KEY.id,
        KEY.digest.hex(),
        "x" * 65_000,
    ],
)
async def test_all_wrong_keys_are_told_the_same(door, text):
    refusals = {
        (type(error), error.message)
        for error in (door(f"Bearer {text}"), door(None, text), door(None, None, text), door(f"Bearer {UNKNOWN_TEXT}"))
    }
    assert len(refusals) == 1
    error = door(f"Bearer {text}")
    assert (error.http_status, error.code, error.retry) == (401, "invalid_api_key", False)
    assert text not in error.message or text == "sk-sn-"


@given(st.binary(max_size=80), st.none() | st.binary(max_size=80), st.none() | st.binary(max_size=80))
async def test_no_bytes_are_a_key_by_accident(authorization, x_api_key, api_key):
    door = Door()
    await door.ring.refresh()
    assert isinstance(door(authorization, x_api_key, api_key), InvalidKey | InvalidHeader)
    assert isinstance(door(b"Bearer " + authorization, x_api_key, api_key), InvalidKey | InvalidHeader)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("", ""),
        ("Bearer",),
        ("Bearer ",),
        ("Bearer    ",),
        (TEXT,),
        (f"Basic {TEXT}",),
        (f"Bearer{TEXT}",),
        (None, ""),
        (None, None, ""),
        ("", "", ""),
    ],
)
async def test_no_key_is_told_what_to_send(door, headers):
    error = door(*headers)
    assert isinstance(error, InvalidKey)
    assert "Authorization: Bearer sk-sn-" in error.message


@pytest.mark.parametrize(
    "headers",
    [
        (f"Bearer {TEXT}", OTHER_TEXT),
        (f"Bearer {TEXT}", TEXT + " "),
        (f"Basic {TEXT}", TEXT),
        ("Bearer", TEXT),
        (f"Bearer {TEXT}, Bearer {TEXT}",),
        (f"Bearer {TEXT}, Bearer {OTHER_TEXT}",),
        (f"Basic abc, Bearer {TEXT}",),
        (None, f"{TEXT}, {TEXT}"),
        (f"Bearer {TEXT}, Bearer {TEXT}", f"{TEXT}, Bearer {TEXT}"),
        (f"Bearer {TEXT}", None, OTHER_TEXT),
        (f"Bearer {TEXT}", None, "what a client of Azure's sends"),
        (f"Bearer {TEXT}", TEXT, OTHER_TEXT),
        (None, TEXT, OTHER_TEXT),
        (f"Basic {TEXT}", None, TEXT),
        ("Bearer", None, TEXT),
        (None, None, f"{TEXT}, {TEXT}"),
        (f"Basic abc, Bearer {TEXT}", None, TEXT),
    ],
)
async def test_two_keys_are_not_chosen_from(door, headers):
    error = door(*headers)
    assert isinstance(error, InvalidHeader)
    assert (error.http_status, error.param) == (400, "authorization")
    assert TEXT not in error.message


async def test_an_expired_key_is_told_so(door):
    """Who sent it has proved to have had it."""
    assert "expired" in door(f"Bearer {EXPIRED_TEXT}").message
    assert door(f"Bearer {EXPIRED_TEXT}").code == "invalid_api_key"
    door.time.now = NOW - 1
    assert door.actor(f"Bearer {EXPIRED_TEXT}") == EXPIRED.id


async def test_the_admin_key_may_do_everything(door):
    caller = door(f"Bearer {ADMIN}")
    assert (caller.actor, caller.tenant, caller.scopes, caller.key) == ("admin-key", None, SCOPES, None)
    assert door.actor(None, ADMIN) == door.actor(None, None, ADMIN) == "admin-key"
    assert isinstance(door(f"Bearer {ADMIN}x"), InvalidKey)
    assert isinstance(door(f"Bearer {hashlib.sha256(ADMIN.encode()).hexdigest()}"), InvalidKey)


# --- without the store ---


async def test_a_revoked_key_is_refused_at_the_next_request(door):
    assert door.actor(f"Bearer {TEXT}") == KEY.id
    door.keys.history.append(revoked(KEY))
    await door.ring.refresh()
    assert isinstance(door(f"Bearer {TEXT}"), InvalidKey)


async def test_without_its_store_no_key_is_called_wrong(door):
    for age, known, unknown in (
        (0.0, True, InvalidKey),
        (CURRENT_SECONDS + 0.1, True, KeysUnavailable),
        (TRUSTED_SECONDS, True, KeysUnavailable),
    ):
        door.time.now = NOW + age
        assert (door(f"Bearer {TEXT}").key == KEY) is known
        assert isinstance(door(f"Bearer {UNKNOWN_TEXT}"), unknown)
    door.time.now = NOW + TRUSTED_SECONDS + 0.1
    for text in (TEXT, UNKNOWN_TEXT, REVOKED_TEXT):
        assert isinstance(door(f"Bearer {text}"), KeysUnavailable)
    assert door.actor(f"Bearer {ADMIN}") == "admin-key"


# --- guessing ---


async def test_after_many_wrong_keys_wrong_ones_wait_and_right_ones_pass(door):
    for number in range(BURST):
        assert isinstance(door(f"Bearer guess-{number}"), InvalidKey)
    error = door("Bearer guess")
    assert isinstance(error, TooManyBadKeys)
    assert (error.http_status, error.retry, error.retry_after) == (429, False, PAUSE)
    assert door.actor(f"Bearer {TEXT}") == KEY.id
    assert door.actor(f"Bearer {ADMIN}") == "admin-key"
    assert isinstance(door("Bearer guess", address="192.0.2.2"), InvalidKey)
    door.time.now = NOW + PAUSE
    await door.ring.refresh()
    assert isinstance(door("Bearer guess"), InvalidKey)
    assert isinstance(door("Bearer guess"), TooManyBadKeys)


async def test_no_key_at_all_is_no_guess(door):
    for _ in range(BURST + 5):
        assert isinstance(door(), InvalidKey)
    assert isinstance(door("Bearer guess"), InvalidKey)


async def test_memory_of_guessers_is_bounded(door):
    for number in range(ADDRESSES + 500):
        door("Bearer guess", address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert (
        repr(door.authenticator) == f"<Authenticator <KeyRing 3 keys>, 0 hashes, <Backoff {ADDRESSES} of {ADDRESSES} addresses>>"
    )


async def test_hashes_of_good_keys_are_remembered_within_bounds():
    minter = Minter(PEPPER)
    grant = Grant(name="many", tenant="many", scopes=frozenset({"inference"}))
    made = [minter.mint(grant, Draw(number.to_bytes(8), number.to_bytes(32)), NOW) for number in range(HASHES + 5)]
    door = Door(*(key for key, _ in made))
    await door.ring.refresh()
    for _ in range(2):
        for key, text in made:
            assert door.actor(f"Bearer {text}") == key.id
    assert " 10 hashes" in repr(door.authenticator), "all were forgotten twice on the way"
    assert isinstance(door(f"Bearer {made[0][1]}x"), InvalidKey)
    assert " 10 hashes" in repr(door.authenticator), "a wrong key is not remembered"


PROBES = 200_000
SLOWEST_LEFT_OUT = 0.2
"""Of all probes: a machine that does something else now and then tells nothing of us."""


@pytest.mark.long
async def test_the_time_of_a_refusal_tells_nothing_of_keys(door):
    """Wrong keys that are all but right, and wrong keys at random, in turn: Welch's t of their times stays below 4.5."""
    chance = random.Random(0)
    near = [TEXT[:-1] + digit for digit in DIGITS if digit != TEXT[-1]]
    far = [make_key_text(chance.randbytes(32)) for _ in near]
    headers = [[f"Bearer {text}".encode() for text in texts] for texts in (near, far)]
    times: list[list[int]] = [[], []]
    for _ in range(PROBES):
        kind = chance.randrange(2)
        header = chance.choice(headers[kind])
        start = perf_counter_ns()
        with suppress(InvalidKey, TooManyBadKeys):
            door.authenticator.authenticate(header, None, address=HERE)
        times[kind].append(perf_counter_ns() - start)
    bound = sorted(times[0] + times[1])[int(PROBES * (1 - SLOWEST_LEFT_OUT))]
    kept = [[took for took in taken if took <= bound] for taken in times]
    spread = math.sqrt(sum(statistics.variance(taken) / len(taken) for taken in kept))
    t = (statistics.fmean(kept[0]) - statistics.fmean(kept[1])) / spread
    print(f"|t| = {abs(t):.2f} of {PROBES} probes, {statistics.fmean(kept[0]) / 1000:.1f} us each")
    assert abs(t) < 4.5
