"""A signed webhook, by the Standard Webhooks specification: receivers verify it with that project's libraries.

What is signed is `id.timestamp.body`, by HMAC-SHA256. The id stays the same however often it is sent, so a receiver can tell what
it had already; the timestamp is of the sending.
"""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from sentinel_gateway.core.alerting.notices import Stamp
from sentinel_gateway.errors import ChannelDown
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.alerts import Letter

MARK: Final = "whsec_"
"""How secrets of that specification begin; base64 follows."""
TYPE: Final = "sentinel.{}"
"""`sentinel.alerts`, `sentinel.report`."""
FINAL: Final = frozenset({400, 410, 413, 422})
"""Answers that say it is the message's fault, or that nobody wants it any more."""
PASSING: Final = frozenset({408, 425, 429})
"""Those of 4xx that may be others in a while, however often they came."""
TRIES: Final = 5
"""Of any other 4xx: who is being deployed, or has a key changed, may say 404 or 401 for a moment."""
_GOOD: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_REFUSALS: Final = frozenset(range(400, 500)) - PASSING

Post = Callable[[Mapping[str, str], bytes], Awaitable[int]]
"""Sends headers and a JSON body to the one place that is configured; the status. Raises `ChannelDown`, within a deadline."""


def secret_bytes(text: str) -> bytes:
    """The key that a secret stands for; ValueError where it is none."""
    try:
        return base64.b64decode(text.removeprefix(MARK), validate=True)
    except binascii.Error as exc:
        raise ValueError("is no secret of a webhook") from exc


def signature(secret: bytes, id_: str, timestamp: str, body: bytes) -> str:
    """As it stands in `webhook-signature`."""
    signed = f"{id_}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, 'sha256')).decode()}"


class Webhook:
    """Behind `Channel`."""

    kind = "webhook"

    def __init__(self, name: str, post: Post, secret: bytes, *, clock: Clock, stamp: Stamp) -> None:
        self.name = name
        self._post = post
        self._secret = secret
        self._clock = clock
        self._stamp = stamp

    def __repr__(self) -> str:
        return f"<Webhook {self.name}>"

    async def send(self, letter: Letter) -> None:
        """Any 2xx is its arrival."""
        told = letter.message
        data = {"title": told.title, "text": told.text, **told.data}
        body = msgspec.json.encode({"type": TYPE.format(told.kind), "timestamp": self._stamp(letter.at), "data": data})
        now = str(int(self._clock()))
        sent = {
            "webhook-id": letter.id,
            "webhook-timestamp": now,
            "webhook-signature": signature(self._secret, letter.id, now, body),
        }
        status = await self._post(sent, body)
        if status in _REDIRECTS:
            raise ChannelDown(f"it answered {status}, and redirects are not followed: configure where it leads to")
        if status not in _GOOD:
            gone = status in FINAL or (status in _REFUSALS and letter.tries >= TRIES)
            raise ChannelDown(f"it answered {status}", gone=gone)
