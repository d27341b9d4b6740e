"""Who asks: from the headers of a request to its caller, without asking any store.

The way of a key is one hash and one look in a table, whatever a wrong one looks like: how long it takes tells nothing. A good one
that was sent before is spared the hash, and nothing else: the table is asked each time.
"""

import hashlib
import hmac
from typing import Final

from sentinel_gateway.core.access import Caller, key_hasher, operator, standing
from sentinel_gateway.core.backoff import Backoff
from sentinel_gateway.errors import InvalidHeader, InvalidKey, RequestError, TooManyBadKeys
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.ports import Clock

BEARER: Final = b"bearer "
USUAL: Final = b"Bearer sk-"
BURST: Final = 20
"""Wrong keys that an address may send at once."""
PAUSE: Final = 3.0
"""Seconds for one more."""
ADDRESSES: Final = 10_000
HASHES: Final = 1_000
"""Good keys whose hash is remembered; then they are hashed anew."""
MISSING: Final = "Send a key of this gateway: 'Authorization: Bearer sk-sn-...'."
WRONG: Final = "This key is not good here: it is not one of this gateway, or it has been revoked."
EXPIRED: Final = "This key has expired: ask who gave it to you for a new one."
"""Told to nobody but who has the key."""
AMBIGUOUS: Final = "Send one key, in one header: 'Authorization: Bearer ...', 'x-api-key' or 'api-key', not two that differ."
KEY_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key")
"""Where a key may stand: as OpenAI's clients send it, as Anthropic's do, as Azure's do."""


class Authenticator:
    """`pepper` is the gateway's secret, `admin_hash` the SHA-256 of the admin key in hex, whose holder may do everything."""

    def __init__(self, ring: KeyRing, *, pepper: bytes, admin_hash: str, clock: Clock) -> None:
        self._ring = ring
        self._digest = key_hasher(pepper)
        self._hashes: dict[bytes, bytes] = {}
        self._admin_hash = admin_hash
        self._clock = clock
        self._backoff = Backoff(burst=BURST, pause=PAUSE, addresses=ADDRESSES)

    def __repr__(self) -> str:
        return f"<Authenticator {self._ring!r}, {len(self._hashes)} hashes, {self._backoff!r}>"

    def authenticate(
        self, authorization: bytes | None, x_api_key: bytes | None = None, api_key: bytes | None = None, *, address: str
    ) -> Caller:
        """Whose key these headers hold; one that was sent several times is its values joined by commas.

        Raises `InvalidHeader` where they hold two keys, `InvalidKey` for none or a wrong one, `TooManyBadKeys` for a wrong one
        after many from the same address, `KeysUnavailable` where the store has been away for too long.
        """
        given = _credential(authorization, x_api_key, api_key)
        now = self._clock()
        known = self._hashes.get(given)
        digest = known or self._digest(given)
        caller = self._ring.find(digest, now)
        if caller is None:
            if hmac.compare_digest(hashlib.sha256(given).hexdigest(), self._admin_hash):
                return operator("admin-key")
            self._ring.check_current(now)
            raise self._refusal(WRONG, address, now)
        if caller.key is not None and standing(caller.key, now):
            raise self._refusal(EXPIRED, address, now)
        if known is None:
            self._remember(given, digest)
        return caller

    def _remember(self, given: bytes, digest: bytes) -> None:
        if len(self._hashes) >= HASHES:
            self._hashes.clear()
        self._hashes[given] = digest

    def _refusal(self, why: str, address: str, now: float) -> RequestError:
        if wait := self._backoff.failed(address, now):
            return TooManyBadKeys("Too many wrong keys came from your address: mend the key, or wait.", retry_after=wait)
        return InvalidKey(why)


def _credential(authorization: bytes | None, x_api_key: bytes | None, api_key: bytes | None) -> bytes:
    """The one key that the headers hold. Nothing is forgiven in it: a space or a letter of the other case is another key."""
    if (
        x_api_key is api_key is None
        and authorization is not None
        and authorization.startswith(USUAL)
        and b"," not in authorization
    ):
        return authorization[7:]  # what follows comes to the same, for 1 us more
    given = {value for value in (x_api_key, api_key) if value}
    if authorization:
        given.add(authorization[7:].lstrip(b" ") if authorization[:7].lower() == BEARER else b"")
    if len(given) > 1 or b"," in (authorization or b"") or any(b"," in key for key in given):
        raise InvalidHeader(AMBIGUOUS, param="authorization")
    key = next(iter(given), b"")
    if not key:
        raise InvalidKey(MISSING)
    return key
