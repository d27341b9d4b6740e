"""The client keys as this node knows them: a table in memory, which no request ever waits for.

It follows the store: what this process changes is in it at once, what another one changes within a second, and at once if that
one can tell (the bulletin). While the store is
down, known keys go on for a minute, so that a database that restarts stops nobody; then all are refused with 503, because a key
that was revoked meanwhile looks like any other. A key that is not in the table is never called wrong by a node that can't know.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Self

from sentinel_gateway.core.access import Caller, caller_of, standing
from sentinel_gateway.core.bulletin import KeysChanged
from sentinel_gateway.errors import KeysUnavailable, StoreDown
from sentinel_gateway.ports import Bulletin, Clock, KeyStore, Mark

POLL_SECONDS: Final = 0.4
CURRENT_SECONDS: Final = 2.0
"""After so long without the store, a key that is not known may have been made meanwhile."""
TRUSTED_SECONDS: Final = 60.0
"""After so long without the store, a key that is known may have been revoked meanwhile."""


class KeyRing:
    """The table `{digest: caller}`. `on_event` is told when the store goes and comes."""

    def __init__(self, store: KeyStore, *, bulletin: Bulletin, clock: Clock, on_event: Callable[..., None]) -> None:
        self._store = store
        self._bulletin = bulletin
        self._clock = clock
        self._on_event = on_event
        self.current = CURRENT_SECONDS
        self._callers: dict[bytes, Caller] = {}
        self._mark: Mark | None = None
        self._as_of = float("-inf")
        self._down: str | None = None
        self._any_made = False
        self._refreshing = asyncio.Lock()
        self._hurried = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, store: KeyStore, *, bulletin: Bulletin, clock: Clock, on_event: Callable[..., None]) -> Self:
        """Filled, if the store is there, and following it from now on."""
        ring = cls(store, bulletin=bulletin, clock=clock, on_event=on_event)
        with suppress(StoreDown):
            await ring.refresh()
        ring._watching = asyncio.create_task(ring._watch())
        return ring

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    def __len__(self) -> int:
        return len(self._callers)

    def __repr__(self) -> str:
        return f"<KeyRing {len(self)} keys{', without its store' if self._down is not None else ''}>"

    @property
    def is_virgin(self) -> bool:
        """Is it known that no key has ever been made? One that was revoked was made."""
        return self._mark is not None and not self._any_made and self._clock() - self._as_of <= TRUSTED_SECONDS

    @property
    def why_unread(self) -> str | None:
        """Why the store could not be read up to now; None once it was: an empty table means no key only then."""
        return self._down if self._mark is None else None

    def find(self, digest: bytes, now: float) -> Caller | None:
        """Whose key this is, expired or not; None if nobody's, or if the table is too old to say. `now`: of the ring's clock."""
        return None if now - self._as_of > TRUSTED_SECONDS else self._callers.get(digest)

    def holders(self) -> Iterable[Caller]:
        """Whoever has a key that was not revoked."""
        return self._callers.values()

    def knows(self, caller: Caller, now: float) -> bool:
        """Is this still what its key stands for: not revoked, not changed, not expired?"""
        key = caller.key
        return key is not None and self.find(key.digest, now) is caller and standing(key, now) is None

    def check_current(self, now: float) -> None:
        """Raises `KeysUnavailable` where a key that was not found may be good all the same."""
        if now - self._as_of > self.current:
            raise KeysUnavailable("Whether this key is good can't be told now: try again shortly.", retry_after=1.0)

    def check_made(self) -> None:
        """Raises `KeysUnavailable` where none is known, and the table is too old to say that none was made."""
        if not self._any_made and not self.is_virgin:
            raise KeysUnavailable("Whether a key is needed can't be told now: try again shortly.", retry_after=1.0)

    async def changed(self) -> None:
        """This process has changed keys: they are known when this returns, and other nodes are told. Raises `StoreDown`."""
        try:
            await self.refresh()
        finally:
            with suppress(StoreDown):  # then they see it by themselves
                await self._bulletin.publish(KeysChanged())

    def hurry(self) -> None:
        """Look at once, not only when it is time again."""
        self._hurried.set()

    async def refresh(self) -> None:
        """All that the store has committed by now is known when this returns. Raises `StoreDown`."""
        async with self._refreshing:  # else an older answer could be taken in after a newer one
            now = self._clock()
            try:
                self._callers, self._mark = await self._follow(self._callers, self._mark)
            except Exception as exc:  # broad: it is told as what it is, then raised again
                reason = str(exc) if isinstance(exc, StoreDown) else type(exc).__name__  # whose words may hold anything
                if self._down is None:
                    self._on_event("keys_down", reason=reason)
                self._down = reason
                raise
            if self._down is not None:
                self._on_event("keys_up")
            self._down = None
            self._as_of = now

    async def _follow(self, callers: dict[bytes, Caller], mark: Mark | None) -> tuple[dict[bytes, Caller], Mark]:
        """The table as of now. One that is filled anew takes the place of the old one when it is complete."""
        while True:
            changes = await self._store.changes(mark)
            callers = {} if changes.whole else callers
            self._any_made = self._any_made or bool(changes.keys)
            for key in changes.keys:
                if key.revoked is None:
                    callers[key.digest] = caller_of(key)
                else:
                    callers.pop(key.digest, None)
            mark = changes.mark
            if not changes.more:
                return callers, mark

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._hurried.wait()
            self._hurried.clear()
            with suppress(Exception):  # broad: it was told, and a node that no longer looked would refuse all keys for good
                await self.refresh()
