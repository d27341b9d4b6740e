"""Clear what answers questions like this one: in all scopes of whoever asks, and of nobody else.

A question is compared by its vector, and most have none yet: they get theirs here. That takes its time, so one purge makes so
many vectors and takes so long, and then says that it has not seen all; whoever asks again goes on where it ended. Questions are
looked at page by page, and so few of them at once that requests are answered meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.browsing import Selection
from sentinel_gateway.core.bulletin import SimilarCleared
from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.errors import EmbedderDown, InvalidField, StoreDown
from sentinel_gateway.pipeline.semantic import ON_THE_PATH, Semantic
from sentinel_gateway.pipeline.tiers import KEYS_AT_ONCE, Tiers, failing_to, in_parts
from sentinel_gateway.ports import Bulletin, Clock, Events

if TYPE_CHECKING:
    from sentinel_gateway.ports.cache import Vector

TRUE_TO: Final = 1e-3
"""An index tells similarities no more exactly."""
NOTHING: Final[frozenset[str]] = frozenset()


class PurgeLimits(msgspec.Struct, frozen=True):
    """What one purge may cost."""

    texts: int = 5_000
    """Vectors made: about ten seconds."""
    seconds: float = 30.0
    keys: int = KEYS_AT_ONCE
    """Entries that are removed at once."""


class Purged(msgspec.Struct, frozen=True):
    """How many entries went; `whole` if all questions were compared."""

    removed: int
    whole: bool


class Found(msgspec.Struct):
    """What a search has found so far, by key; `whole` once all questions were compared."""

    near: dict[str, Neighbour] = {}
    whole: bool = False
    fault: EmbedderDown | StoreDown | None = None


USUAL: Final = PurgeLimits()


class Purge:
    """`selector` says what the caller may clear and wants to, whatever it resembles.

    What was begun for another node and could not be ended is told: purge_incomplete (reason).
    """

    def __init__(
        self,
        semantic: Semantic,
        tiers: Tiers,
        bulletin: Bulletin,
        *,
        clock: Clock,
        events: Events,
        limits: PurgeLimits = USUAL,
    ) -> None:
        self._limits = limits
        self._semantic = semantic
        self._tiers = tiers
        self._bulletin = bulletin
        self._clock = clock
        self._events = events
        self._one_at_a_time = asyncio.Lock()
        self._following: set[asyncio.Task[None]] = set()
        self._searching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Purge {self._semantic!r}, {len(self._following)} for others>"

    @property
    def usual(self) -> float:
        """How similar a question must be for its answer to serve another: so much is meant where nothing is said."""
        return self._semantic.thresholds.usual

    @property
    def least(self) -> float:
        """How similar a question must be to come into question at all: so much is enough for a search."""
        return self._semantic.thresholds.least

    async def clear(self, selector: Selector, text: str, least: float) -> Purged:
        """Remove the answers to questions with at least this cosine to `text`, on all nodes.

        Raises `InvalidField` for a text that can't be compared, `EmbedderDown`, and `StoreDown` as `Tiers.clear`.
        """
        embedder, vector = self._semantic.embedder, await self._vector_of(text, "similar_to")
        await self._tiers.clear(replace(selector, keys=NOTHING))  # what is under way now can't be compared: it is not kept
        with failing_to("tell the other nodes"):
            await self._bulletin.publish(SimilarCleared(selector, embedder.model, vector.astype("<f4").tobytes(), least))
        removed = await self._tiers.remove(await self._late(selector, vector, least))
        purged = await self._walk(selector, vector, least)
        return replace(purged, removed=removed + purged.removed)

    async def preview(self, selector: Selector, text: str, least: float, *, sample: int) -> tuple[Selection, bool]:
        """What `clear` would remove now, and whether all questions could be compared. Raises as that."""
        vector = await self._vector_of(text, "similar_to")
        alike = {head.key: head for head in await self._late(selector, vector, least)}
        async with self._one_at_a_time:
            allowed = _Allowance(self._clock() + self._limits.seconds, self._limits.texts)
            async with aclosing(self._alike(selector, vector, least, allowed)) as pages:
                async for found in pages:
                    alike |= {near.head.key: near.head for near in found}
        count, shown = 0, list[Head]()
        for part, _ in in_parts(alike.values()):
            selection = await self._tiers.preview(part, sample=sample - len(shown))
            count += selection.count
            shown += selection.sample
        return Selection(count, tuple(shown)), allowed.whole

    async def search(self, selector: Selector, text: str, least: float, *, seconds: float) -> Found:
        """The questions with at least this cosine to `text`, as far as they were compared within so many seconds.

        The rest is compared beside everything else, within the limits of a purge, so that the same search finds it soon: one at
        a time, and a newer one takes its place. Raises as `clear`.
        """
        vector, found = await self._vector_of(text, "like"), Found()
        if self._searching is not None:
            self._searching.cancel()
        self._searching = task = asyncio.create_task(self._search(found, selector, vector, least))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        await asyncio.wait({task}, timeout=seconds)
        if found.fault is not None:
            raise found.fault
        return found

    async def _search(self, found: Found, selector: Selector, vector: "Vector", least: float) -> None:
        allowed = _Allowance(self._clock() + self._limits.seconds, self._limits.texts)
        try:
            async with aclosing(self._alike(selector, vector, least, allowed)) as pages:
                async for page in pages:
                    found.near |= {near.head.key: near for near in page}
        except (EmbedderDown, StoreDown) as exc:
            found.fault = exc
        else:
            found.whole = allowed.whole

    async def _vector_of(self, text: str, param: str) -> "Vector":
        (vector,) = await self._semantic.embedder.embed([text])
        if vector is None:
            raise InvalidField(f"'{param}' can't be compared: it is too long, or has signs unknown to us.", param=param)
        return vector

    def follow(self, notice: SimilarCleared) -> None:
        """Another node has cleared this: do the same, beside everything else, to what that node may not have seen."""
        if notice.model == self._semantic.embedder.model:
            task = asyncio.create_task(self._follow(notice))
            self._following.add(task)
            task.add_done_callback(self._following.discard)

    async def close(self) -> None:
        """Stop what was begun for others."""
        following = list(self._following)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)

    async def _follow(self, notice: SimilarCleared) -> None:
        import numpy as np  # noqa: PLC0415 - loaded only where questions are compared

        what = notice.selector, np.frombuffer(notice.vector, "<f4"), notice.least
        self._tiers.take_back(await self._late(*what))
        if self._semantic.index.shared:
            return
        try:
            whole = (await self._walk(*what)).whole
        except (EmbedderDown, StoreDown) as exc:
            self._events.note("purge_incomplete", reason=str(exc))
        else:
            if not whole:
                self._events.note("purge_incomplete", reason="not all questions could be compared in time")

    async def _late(self, selector: Selector, vector: "Vector", least: float) -> list[Head]:
        """Of what this node has just stored, what is similar: in a shared index its questions may not stand yet.

        What can't be compared now is taken for similar.
        """
        late = self._tiers.late(selector) if self._semantic.index.shared else []
        late = [head for head in late if head.scope]
        alike, rest = [], late[self._limits.texts :]
        for start in range(0, len(late) - len(rest), ON_THE_PATH):
            part = late[start : min(start + ON_THE_PATH, self._limits.texts)]
            try:
                compared = zip(part, await self._embed(part), strict=True)
                alike += [near.head for near in _similar(compared, vector, least)]
            except EmbedderDown:
                return [*alike, *late[start:]]
        return alike + rest

    async def _walk(self, selector: Selector, vector: "Vector", least: float) -> Purged:
        async with self._one_at_a_time:
            removed, found = 0, list[Head]()
            allowed = _Allowance(self._clock() + self._limits.seconds, self._limits.texts)
            async with aclosing(self._alike(selector, vector, least, allowed)) as pages:
                async for page in pages:
                    found += [near.head for near in page]
                    while len(found) >= self._limits.keys:
                        removed += await self._tiers.remove(found[: self._limits.keys])
                        del found[: self._limits.keys]
            return Purged(removed + await self._tiers.remove(found), allowed.whole)

    async def _alike(
        self, selector: Selector, vector: "Vector", least: float, allowed: "_Allowance"
    ) -> AsyncGenerator[list[Neighbour]]:
        """What is similar, page by page, as far as that is allowed."""
        with failing_to("compare the stored questions"):
            async with aclosing(self._semantic.index.questions(selector, self._clock())) as pages:
                async for page in pages:
                    if not allowed.spend(0, self._clock()):
                        return
                    yield _similar(page, vector, least)
                    waiting = [head for head, made in page if made is None]
                    for start in range(0, len(waiting), ON_THE_PATH):
                        part = waiting[start : start + ON_THE_PATH]
                        if not allowed.spend(len(part), self._clock()):
                            return
                        vectors = await self._embed(part)
                        with suppress(StoreDown):  # they can be compared all the same
                            await self._semantic.give(part, vectors)
                        yield _similar(zip(part, vectors, strict=True), vector, least)

    async def _embed(self, heads: Sequence[Head]) -> list["Vector | None"]:
        return await self._semantic.embedder.embed([head.text for head in heads])


class _Allowance(msgspec.Struct):
    """What a purge may still do; `whole` until that was too little."""

    until: float
    texts: int
    whole: bool = True

    def spend(self, texts: int, now: float) -> bool:
        self.whole = now < self.until and texts <= self.texts
        self.texts -= texts
        return self.whole


def _similar(compared: Iterable[tuple[Head, "Vector | None"]], vector: "Vector", least: float) -> list[Neighbour]:
    """Those whose vector is near enough."""
    import numpy as np  # noqa: PLC0415 - loaded only where questions are compared

    pairs = [(head, made) for head, made in compared if made is not None]
    if not pairs:
        return []
    cosines = (np.stack([made for _, made in pairs]) @ vector).tolist()
    near = zip(pairs, cosines, strict=True)
    return [Neighbour(head, min(cosine, 1.0)) for (head, _), cosine in near if cosine >= least - TRUE_TO]
