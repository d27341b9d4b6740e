"""The vector index in process: one set of rows for each scope, so nothing of another scope is ever touched.

Few questions are searched on the event loop, in less time than it takes to ask a thread; more in a thread of the index's own.
Whatever would take long for many questions is done in slices, with the event loop free in between.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock, ScopeView, VectorArchive
from sentinel_gateway.vectors._questions import Questions
from sentinel_gateway.vectors._rows import Snapshot, decode, encode, search, signs_of

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

ON_LOOP: Final = 256
"""Rows that are searched on the event loop, within 0.1 ms (measured)."""
SLICE: Final = 16
"""Questions that are handled before the event loop gets its turn: 0.1 to 0.2 ms (measured)."""
NUMBER_BYTES: Final = 2


class IndexLimits(msgspec.Struct, frozen=True):
    """Questions of all scopes together and bytes of their texts; seconds that a search may take; searches that may wait."""

    questions: int = 100_000
    text_bytes: int = 64 << 20
    deadline: float = 0.5
    searches: int = 256


class MemoryIndex:
    """A `VectorIndex` in this process, for vectors made by `model`, of `dimension` numbers. To be closed."""

    def __init__(
        self, *, model: str, dimension: int, limits: IndexLimits, clock: Clock, archive: VectorArchive | None = None
    ) -> None:
        self._model = model
        self._dimension = dimension
        self._limits = limits
        self._clock = clock
        self._archive = archive
        self._questions = self._none()
        self._clearing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sentinel-vectors")
        self._searching = 0

    @property
    def shared(self) -> bool:
        return False

    async def prepare(self) -> None:
        """Take what the archive holds, except where a newer question has come in. Meanwhile the index works."""
        if self._archive is None:
            return
        async for page in self._archive.heads(model=self._model):
            for start in range(0, len(page), SLICE):
                self._take_back(page[start : start + SLICE])
                await asyncio.sleep(0)

    def add(self, head: Head) -> None:
        self._questions.add(head, self._clock())

    async def view(self, scope: str, *, waiting: int) -> ScopeView:
        rows = self._questions.rows(scope)
        return ScopeView(0 if rows is None else len(rows), self._questions.waiting(scope, waiting))

    async def attach(self, vectors: "Sequence[tuple[Head, Vector]]") -> None:
        for start in range(0, len(vectors), SLICE):
            held = [(head, vector) for head, vector in vectors[start : start + SLICE] if head in self._questions]
            if held:
                numbers = encode([vector for _, vector in held])
                self._attach([head for head, _ in held], numbers)
                if self._archive is not None:
                    kept = [(head.key, row.tobytes()) for (head, _), row in zip(held, numbers, strict=True)]
                    self._archive.keep_vectors(kept, model=self._model)
            await asyncio.sleep(0)

    async def nearest(self, scope: str, vector: "Vector", *, limit: int) -> list[Neighbour]:
        """At most `limit` questions of the scope, the most similar first; among very many, nearly always the very nearest."""
        rows = self._questions.rows(scope)
        if rows is None:
            return []
        if len(rows) <= ON_LOOP:
            return rows.nearest(vector, limit)
        places = await self._search(rows.snapshot(), vector, limit)
        rows = self._questions.rows(scope)  # a clear may have put others in its place
        return [] if rows is None else rows.score(places, vector)

    def drop(self, heads: Iterable[Head]) -> None:
        for head in heads:
            if head in self._questions:
                self._questions.forget(head.key)

    async def clear(self, selector: Selector, now: float) -> int:
        """Forget what is selected; what is added meanwhile stays."""
        async with self._clearing:
            if selector.everything:
                return await self._clear_all()
            if selector.keys is not None:
                return await self._clear_keys(selector.keys, lambda head: selector.matches(head, now))
            return await self._clear(lambda head: selector.matches(head, now))

    async def status(self) -> Mapping[str, str]:
        return {}

    async def questions(self, selector: Selector, now: float) -> AsyncGenerator[list[tuple[Head, "Vector | None"]]]:
        steps = self._questions.walk()
        while page := list(islice(steps, SLICE)):
            yield [(head, None if numbers is None else decode(numbers)) for head, numbers in page if selector.matches(head, now)]
            await asyncio.sleep(0)

    def size(self) -> tuple[int, int]:
        """Questions held, and how many of them have a vector."""
        return len(self._questions), self._questions.vectors

    async def close(self) -> None:
        """Let the thread go, once the search in it has ended."""
        self._thread.shutdown(cancel_futures=True)

    def __repr__(self) -> str:
        questions, vectors = self.size()
        return f"<MemoryIndex {self._model}: {questions}/{self._limits.questions} questions, {vectors} with a vector>"

    def _none(self) -> Questions:
        limits = self._limits
        return Questions(
            dimension=self._dimension, max_questions=limits.questions, max_bytes=limits.text_bytes, now=self._clock()
        )

    def _take_back(self, page: list[tuple[Head, bytes | None]]) -> None:
        now = self._clock()
        taken = [(head, kept) for head, kept in page if not self._questions.holds(head.key) and self._questions.add(head, now)]
        whole = [(head, kept) for head, kept in taken if kept is not None and len(kept) == self._dimension * NUMBER_BYTES]
        numbers = np.frombuffer(b"".join(kept for _, kept in whole), np.int16).reshape(len(whole), self._dimension)
        self._attach([head for head, _ in whole], numbers)

    def _attach(self, heads: Sequence[Head], numbers: "np.typing.NDArray[np.int16]") -> None:
        for head, row, signs in zip(heads, numbers, signs_of(numbers), strict=True):
            self._questions.attach(head, row, signs)

    async def _search(self, snapshot: Snapshot, vector: "Vector", limit: int) -> list[int]:
        if self._searching >= self._limits.searches:
            raise StoreDown(f"{self._searching} searches are waiting already")
        self._searching += 1
        found = asyncio.get_running_loop().run_in_executor(self._thread, search, snapshot, vector, limit)
        try:
            await asyncio.wait([found], timeout=self._limits.deadline)  # `asyncio.timeout` needs a task, and a hit has none
            if not found.done():
                raise StoreDown(f"no neighbour was found within {self._limits.deadline:g} s")
            return found.result()
        finally:
            found.cancel()
            self._searching -= 1

    async def _clear_all(self) -> int:
        cleared, self._questions = self._questions, self._none()
        removed = len(cleared)
        while len(cleared):
            for _ in range(min(SLICE, len(cleared))):
                cleared.forget_newest()
            await asyncio.sleep(0)
        return removed

    async def _clear_keys(self, keys: Iterable[str], selected: Callable[[Head], bool]) -> int:
        removed = 0
        for step, key in enumerate(keys):
            head = self._questions.get(key)
            if head is not None and selected(head):
                self._questions.forget(key)
                removed += 1
            if step % SLICE == 0:
                await asyncio.sleep(0)
        return removed

    async def _clear(self, selected: Callable[[Head], bool]) -> int:
        removed = 0
        for step in range(len(self._questions)):
            if not len(self._questions):
                break
            removed += self._questions.forget_next(selected)
            if step % SLICE == 0:
                await asyncio.sleep(0)
        return removed
