"""`/admin/cache/entries`: what is stored, looked through a page at a time, searched, and let end at another time.

The operator sees all; whoever administrates a tenant what that tenant has asked for. Questions and answers are other people's
words: they are told only where the configuration lets them be.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from msgspec.structs import replace

from sentinel_gateway.api.bodies import read_body, takes
from sentinel_gateway.api.cache_bodies import HIDDEN, EntriesQuery, Sort, UnpinBody, cursor, shown, shown_whole, told
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.operations import READ
from sentinel_gateway.core.access import Caller
from sentinel_gateway.core.browsing import FOREVER, MOST_PINNED, Page, Place, View, is_pinned
from sentinel_gateway.core.caching import Entry, Head, Tier
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.errors import (
    AnswerNotFound,
    CannotPin,
    EmbedderDown,
    InvalidField,
    KeysUnavailable,
    StoreDown,
    StoreUnavailable,
)
from sentinel_gateway.pipeline.purge import Purge
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import AuditLog, Clock

LOOKING: Final = 0.1
"""Seconds that are spent on one page, about: it ends early if what fits is rare."""
UNKNOWN: Final = (
    "No stored answer has this id: it has ended, was cleared or is another tenant's. GET /admin/cache/entries lists them."
)
AWAY: Final = (
    "Stored answers can't be looked through or changed now: {tier} does not answer ({reason}). Nothing is lost by it: memory and "
    "providers serve meanwhile, and 'tier=memory' shows what this node has in memory. Try again."
)
NO_SEARCH: Final = "'like' needs the semantic tier, which is off: search by 'words', or set cache.semantic.enabled to true."
BY_EXPIRY: Final = "Redis keeps its entries in no order but that of their expiry: say sort=-expires or sort=expires."
ONLY_MEMORY: Final = "Nothing is kept for good here, for there is but memory: set cache.disk.enabled to true, or REDIS_URL."
NOT_KEPT: Final = "This answer is in memory alone: the store behind it did not take it, so it can't be kept for good."
TOO_MANY: Final = f"{MOST_PINNED} answers are pinned already, and no more can be: unpin others first."

Id = Annotated[str, Path(min_length=1, max_length=256, description="The `id` of an entry: 64 hex digits.")]


class CacheAdmin:
    """The endpoints. `purge` compares questions, where they are; `texts` says whether they may be told now."""

    def __init__(
        self, tiers: Tiers, purge: Purge | None, log: AuditLog, *, guard: Guard, texts: Callable[[], bool], clock: Clock
    ) -> None:
        self._tiers = tiers
        self._purge = purge
        self._log = log
        self._guard = guard
        self._texts = texts
        self._clock = clock

    def __repr__(self) -> str:
        return f"<CacheAdmin {self._tiers!r}>"

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind a key."""
        router = APIRouter(prefix="/admin/cache/entries", tags=["cache"])
        operator, administrator = [Depends(self._guard.operator())], [Depends(self._guard.administrator())]
        router.add_api_route("", self.entries, methods=READ, dependencies=administrator)
        router.add_api_route("/{id}", self.entry, methods=READ, dependencies=administrator)
        router.add_api_route("/{id}", self.remove, methods=["DELETE"], dependencies=administrator)
        router.add_api_route("/{id}/expire", self.expire, methods=["POST"], dependencies=administrator)
        router.add_api_route("/{id}/pin", self.pin, methods=["POST"], dependencies=operator)
        router.add_api_route("/{id}/unpin", self.unpin, methods=["POST"], dependencies=operator, openapi_extra=takes(UnpinBody))
        return router

    async def entries(self, request: Request, asked: Annotated[EntriesQuery, Query()]) -> dict[str, Any]:
        """Entries, a page at a time. One with a `next` may hold fewer than asked for, or none: go on from there.

        With `like`, questions of the same meaning; `complete` false: some are still being compared, so ask again in a moment.
        """
        return await self.page(request.state.caller, asked)

    async def entry(self, request: Request, id: Id) -> dict[str, Any]:  # noqa: A002 - the parameter's name in the path
        """One entry, with its question and its answer."""
        return await self.one(request.state.caller, id)

    async def pin(self, request: Request, id: Id) -> dict[str, Any]:  # noqa: A002 - as above
        """Keep this answer: it does not expire, no store of ours evicts it, and no newer answer takes its place. A clear does."""
        return await self.keep(request.state.caller, id)

    async def unpin(self, request: Request, id: Id) -> dict[str, Any]:  # noqa: A002 - as above
        """Have a pinned answer end again, a day from now unless `ttl` says otherwise. Any other is left as it is."""
        return await self.release(request.state.caller, id, (await read_body(request, UnpinBody)).ttl)

    async def expire(self, request: Request, id: Id) -> dict[str, Any]:  # noqa: A002 - as above
        """End an answer now, pinned or not: it serves no more, but for those who take an expired one."""
        return await self.end(request.state.caller, id)

    async def remove(self, request: Request, id: Id) -> dict[str, Any]:  # noqa: A002 - as above
        """Remove one entry from every tier of every node."""
        return await self.drop(request.state.caller, id)

    # --- the same for whoever asks from within ---

    async def page(self, caller: Caller, asked: EntriesQuery) -> dict[str, Any]:
        """What `entries` answers."""
        texts, tier = self._texts(), self._tier(asked)
        for param in ("words", "like"):
            if getattr(asked, param) is not None and not texts:
                raise InvalidField(HIDDEN.format(param=param), param=param)
        view = asked.view(caller, self._order(asked, tier))
        with self._asking(tier):
            if asked.like is not None:
                return await self._alike(asked, asked.like, view, tier)
            page = await self._page(view, tier, asked.after(), asked.limit)
        entries = [shown(head, texts=texts) for head in page.heads]
        return {"data": entries, "next": cursor(page.next), "complete": True, "tier": tier, "texts": told(texts=texts)}

    async def one(self, caller: Caller, key: str) -> dict[str, Any]:
        """What `entry` answers."""
        entry, tier = await self._find(caller, key)
        return shown_whole(entry, tier, texts=self._texts())

    async def keep(self, caller: Caller, key: str) -> dict[str, Any]:
        """What `pin` does."""
        entry, tier = await self._find(caller, key)
        if tier == "memory":
            raise CannotPin(ONLY_MEMORY if self._tiers.lasting is None else NOT_KEPT)
        if not is_pinned(entry) and len(self._tiers.pins.keys) >= MOST_PINNED:
            raise CannotPin(TOO_MANY)
        return await self._amend(caller, entry, "cache.pin", expires=FOREVER)

    async def release(self, caller: Caller, key: str, ttl: float) -> dict[str, Any]:
        """What `unpin` does."""
        entry, _ = await self._find(caller, key)
        if not is_pinned(entry):
            return shown(entry, texts=self._texts())
        return await self._amend(caller, entry, "cache.unpin", expires=self._clock() + ttl)

    async def end(self, caller: Caller, key: str) -> dict[str, Any]:
        """What `expire` does."""
        entry, tier = await self._find(caller, key)
        if entry.expires <= self._clock():
            return shown(entry, texts=self._texts())
        if tier == "memory":  # which keeps nothing that has ended
            await self.drop(caller, key)
            return shown(replace(entry, expires=self._clock()), texts=self._texts())
        return await self._amend(caller, entry, "cache.expire", expires=self._clock())

    async def drop(self, caller: Caller, key: str) -> dict[str, Any]:
        """What `remove` does."""
        entry, tier = await self._find(caller, key)
        await self._record(caller, "cache.remove", entry)
        with self._asking(tier):
            removed = await self._tiers.remove([entry.head()])
        return {"id": entry.key, "removed": removed > 0}

    def _tier(self, asked: EntriesQuery) -> Tier:
        """The one that is looked through; raises `InvalidField` for one that there is not."""
        there: tuple[Tier, ...] = ("memory",) if self._tiers.lasting is None else (self._tiers.lasting, "memory")
        if asked.tier is not None and asked.tier not in there:
            raise InvalidField(f"There is no tier '{asked.tier}' here: say {' or '.join(there)}.", param="tier")
        return asked.tier or there[0]

    def _order(self, asked: EntriesQuery, tier: Tier) -> Sort:
        """As asked for, else the newest first or what is next to that; raises `InvalidField` for one that there is not."""
        orders = self._tiers.orders(tier)
        sort = asked.sort or ("-created" if "created" in orders else "-expires")
        if sort.lstrip("-") not in orders:
            raise InvalidField(BY_EXPIRY, param="sort")
        return sort

    async def _page(self, view: View, tier: Tier, after: Place | None, limit: int) -> Page:
        """As many as were asked for, unless that takes too long."""
        heads: list[Head] = []
        until = self._clock() + LOOKING
        while True:
            page = await self._tiers.page(view, tier, after=after, most=limit - len(heads))
            heads += page.heads
            after = page.next
            if after is None or len(heads) >= limit or self._clock() >= until:
                return Page(tuple(heads), after)

    async def _alike(self, asked: EntriesQuery, text: str, view: View, tier: Tier) -> dict[str, Any]:
        """What the index knows is not always there any more: only what is kept is told."""
        if self._purge is None:
            raise InvalidField(NO_SEARCH, param="like")
        least = self._purge.least if asked.min_similarity is None else asked.min_similarity
        found = await self._purge.search(view.selector, text, least, seconds=LOOKING)
        data: list[dict[str, Any]] = []
        for near in sorted(found.near.values(), key=lambda near: -near.similarity):
            if len(data) == asked.limit:
                break
            if view.matches(near.head, self._clock()) and await self._tiers.entry(near.head.key) is not None:
                data.append(shown(near.head, texts=True) | {"similarity": near.similarity})
        return {"data": data, "next": None, "complete": found.whole, "tier": tier, "texts": told(texts=True)}

    async def _find(self, caller: Caller, key: str) -> tuple[Entry, Tier]:
        """An entry of the caller's. Another tenant's does not exist for it."""
        with self._asking(self._tiers.lasting or "memory"):
            found = await self._tiers.entry(key)
        if found is None or caller.tenant not in {None, found[0].tenant}:
            raise AnswerNotFound(UNKNOWN, param="id")
        return found

    async def _amend(self, caller: Caller, entry: Entry, action: str, *, expires: float) -> dict[str, Any]:
        await self._record(caller, action, entry)
        with self._asking(self._tiers.lasting or "memory"):
            after = await self._tiers.amend(entry.key, expires=expires)
        if after is None:
            raise AnswerNotFound(UNKNOWN, param="id")
        return shown(after, texts=self._texts())

    async def _record(self, caller: Caller, action: str, entry: Entry) -> None:
        """Before it is done: what the log can't take is not done."""
        before = {"model": entry.model, "namespace": entry.namespace, "tenant": entry.tenant, "pinned": is_pinned(entry)}
        line = AuditEntry(
            at=self._clock(), actor=caller.actor, action=action, object=entry.key, tenant=caller.tenant, before=before
        )
        try:
            await self._log.append(line)
        except StoreDown as exc:
            raise KeysUnavailable("The audit log can't be written, so nothing was done: try again.", retry_after=1.0) from exc

    @contextmanager
    def _asking(self, tier: Tier) -> Iterator[None]:
        """What the caller is told where a tier does not answer."""
        try:
            yield
        except (StoreDown, EmbedderDown) as exc:
            who = {"redis": "Redis", "disk": "the disk"}.get(tier, tier) if isinstance(exc, StoreDown) else "the embedding model"
            raise StoreUnavailable(AWAY.format(tier=who, reason=exc), retry_after=1.0) from exc
