"""The bulletin of several nodes: one stream in Redis, which each node reads from where it stopped, on a connection of its own.

Nobody can tell a stream that was cut from one that never was longer. So a node reads on from an entry that it knows to stand
there; as long as that is found, nothing after it is lost. A node begins with an entry of its own.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

import msgspec

from sentinel_gateway.core.bulletin import KINDS, Notice
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Events
from sentinel_gateway.stores._redis import Client, RedisLink, end
from sentinel_gateway.stores._redis_member import Member

STREAM: Final = "sentinel:bulletin"
KEPT: Final = 1_000
"""Notices, at least: whoever was away for more has missed some."""
AT_ONCE: Final = 100
WAIT_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 1.0
"""What an answer may take beyond the time that was waited on purpose."""
PAUSE_SECONDS: Final = 0.5
WORTH_TELLING: Final = 3
"""A connection may be lost once, and a second time while it is looked for again."""

Heard = Callable[[Notice], None]
Missed = Callable[[], None]

HELLO: Final = "hello"
"""The kind of entry with which a node begins; no notice."""

_decode = msgspec.json.Decoder(Notice).decode


class RedisBulletin:
    """A `Bulletin` of all nodes, over a link that is its maker's to close.

    Tells bulletin_missed where notices may have been lost; bulletin_down where it can't be read though Redis answers others,
    and bulletin_up when it can again.
    """

    def __init__(self, link: RedisLink, *, member: Member, events: Events) -> None:
        self._link = link
        self._stream = f"{STREAM}:{member.owner}"
        self._node = member.node.encode()
        self._events = events
        self._at: bytes | None = None
        """The last entry that was read."""
        self._failures = 0
        """Times in a row that it could not be read though Redis answers others."""
        self._tried = asyncio.Event()
        """Set for good once it was read, or could not be."""
        self._following: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RedisBulletin of {self._node.decode()} at {self._at!r}>"

    async def publish(self, notice: Notice) -> None:
        kind, body = str(notice.__struct_config__.tag), msgspec.json.encode(notice)
        await self._link.call(lambda client: self._add(client, kind, body))

    async def follow(self, heard: Heard, missed: Missed) -> None:
        self._following = asyncio.create_task(self._follow(heard, missed))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._tried.wait()

    async def close(self) -> None:
        if self._following is not None:
            await end(self._following)

    async def _follow(self, heard: Heard, missed: Missed) -> None:
        while True:
            try:
                async with self._link.blocking(WAIT_SECONDS + PATIENCE_SECONDS) as client:
                    await self._read(client, heard, missed)
            except Exception as exc:  # noqa: BLE001 - broad: whatever a server sends, this node must not be deaf for good
                self._at = self._at if isinstance(exc, StoreDown) else None
                await self._failed(exc)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self, client: Client, heard: Heard, missed: Missed) -> None:
        wait = None  # the first time: is anything lost?
        while True:
            if self._at is None:
                self._at = await self._add(client, HELLO)
                missed()
            found: Any = await client.xread({self._stream: self._at}, count=AT_ONCE, block=wait)
            if not await client.xrange(self._stream, self._at, self._at):
                self._at = None
                self._events.note("bulletin_missed")
                continue
            self._succeeded()
            wait = int(WAIT_SECONDS * 1000)
            for entry, fields in found[0][1] if found else ():
                self._at = entry
                self._pass_on(fields or {}, heard, missed)

    def _pass_on(self, fields: Mapping[bytes, bytes], heard: Heard, missed: Missed) -> None:
        if fields.get(b"node") == self._node or fields.get(b"kind", b"").decode(errors="replace") not in KINDS:
            return
        try:
            notice = _decode(fields.get(b"notice", b""))
        except msgspec.MsgspecError:
            self._events.note("bulletin_missed")
            missed()
        else:
            heard(notice)

    async def _add(self, client: Client, kind: str, body: bytes = b"") -> bytes:
        """The new entry's name."""
        return cast("bytes", await client.xadd(self._stream, {"node": self._node, "kind": kind, "notice": body}, maxlen=KEPT))

    async def _failed(self, reason: Exception) -> None:
        """It could not be read. Where Redis does not answer anybody, the link tells; a connection may be lost at any time."""
        self._tried.set()
        with suppress(StoreDown):
            await self._link.check()
            self._failures += 1
            if self._failures == WORTH_TELLING:
                self._events.note("bulletin_down", reason=str(reason) or type(reason).__name__)

    def _succeeded(self) -> None:
        if self._failures >= WORTH_TELLING:
            self._events.note("bulletin_up")
        self._failures = 0
        self._tried.set()
