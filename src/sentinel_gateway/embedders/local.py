"""An `Embedder` around a model in this process: its threads, its queue, and what it remembers.

The event loop never waits for the model, and no caller longer than the deadline. A text is embedded once, however many ask for
it; what nobody waits for any more is given up if it has not begun. A model that keeps failing is left alone for a while.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, Self

import msgspec
import numpy as np
from cachebox import LRUCache

from sentinel_gateway.core.breaker import Breaker
from sentinel_gateway.errors import EmbedderDown

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

OVERHEAD: Final = 300
"""Bytes that a remembered vector takes beside its text and its numbers: the objects around them."""
UNIT: Final = 1e-3
"""How far a vector's length may be from 1."""


class Card(msgspec.Struct, frozen=True):
    """What is known of a model before it is loaded. It is never asked about more than `max_chars` characters."""

    name: str
    dimension: int
    max_chars: int


class Model(Protocol):
    """Makes vectors, on a thread that may be kept waiting; several threads may ask at the same time. May raise anything."""

    def vectors(self, texts: Sequence[str]) -> list["Vector | None"]:
        """One for each text, an array of its own; None where it can't read the whole of it."""
        ...


class LocalLimits(msgspec.Struct, frozen=True):
    """Seconds and bytes. `failures` in a row make it leave the model alone for `pause`."""

    threads: int = 1
    deadline: float = 1.0
    queue_texts: int = 128
    """Texts that may wait or be in work at the same time."""
    remembered_bytes: int = 8 << 20
    failures: int = 5
    pause: float = 10.0


class LocalEmbedder:
    """An `Embedder` in this process. Made by `open`, to be closed.

    Changes of state are told to `on_event`, on the event loop: embedder_down (reason) and embedder_up.
    """

    def __init__(self, card: Card, *, limits: LocalLimits, on_event: Callable[..., None]) -> None:
        self._card = card
        self._limits = limits
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="sentinel-embedder")
        self._breaker = Breaker(failures=limits.failures, pause=limits.pause)
        self._remembered: LRUCache[str, Vector | None] = LRUCache(limits.remembered_bytes, getsizeof=_weight)
        self._in_work: dict[str, _Batch] = {}
        self._in_time = 0.0
        """When a batch last ended within its deadline, by the loop's clock."""
        self._model: Model | None = None
        self._absence = "the model is not loaded"

    @classmethod
    async def open(cls, card: Card, load: Callable[[], Model], *, limits: LocalLimits, on_event: Callable[..., None]) -> Self:
        """Returns when `load` has returned, in a thread. If it raises, the embedder is down for good, and says so once."""
        embedder = cls(card, limits=limits, on_event=on_event)
        loading = asyncio.wrap_future(embedder._threads.submit(load))
        await asyncio.wait([loading])
        if (error := loading.exception()) is None:
            embedder._model = loading.result()
        else:
            embedder._absence = f"the model could not be loaded: {error}"
            on_event("embedder_down", reason=embedder._absence)
        return embedder

    @property
    def model(self) -> str:
        return self._card.name

    @property
    def works(self) -> bool:
        return self._model is not None and not self._breaker.is_open

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return self._card.dimension

    async def embed(self, texts: Sequence[str]) -> list["Vector | None"]:
        """The vector of each text; arrays that are shared, and can't be written to."""
        vectors: dict[str, Vector | None] = {}
        batches: set[_Batch] = set()
        fresh: list[str] = []
        for text in dict.fromkeys(texts):
            if len(text) > self._card.max_chars:
                vectors[text] = None
            elif text in self._remembered:
                vectors[text] = self._remembered[text]
            elif (batch := self._in_work.get(text)) is not None:
                batches.add(batch)
            else:
                fresh.append(text)
        if fresh:
            batches.add(self._begin(fresh))
        if batches:
            vectors |= await self._await(batches)
        return [vectors[text] for text in texts]

    async def close(self) -> None:
        """Give up what waits, and let what is in work end, within the deadline."""
        self._model, self._absence = None, "the embedder is closed"
        batches = set(self._in_work.values())
        for batch in batches:
            batch.settle(self._absence)
            self._give_up(batch)
        begun = [batch.ended for batch in batches if not batch.ended.done()]
        if begun:
            await asyncio.wait(begun, timeout=self._limits.deadline)
        self._threads.shutdown(wait=all(ended.done() for ended in begun))

    def __repr__(self) -> str:
        state = "working" if self._model is not None else self._absence
        return f"<LocalEmbedder {self._card.name}: {state}, {len(self._in_work)} texts in work, {self._breaker!r}>"

    def _begin(self, texts: list[str]) -> "_Batch":
        if self._model is None:
            raise EmbedderDown(self._absence)
        if len(self._in_work) + len(texts) > self._limits.queue_texts:
            raise EmbedderDown(f"{len(self._in_work)} texts are waiting already")
        if self._breaker.is_open and not self._breaker.allows(self._loop.time()):
            raise EmbedderDown("the model failed several times in a row and is left alone for a while")
        batch = _Batch(texts, self._threads.submit(self._make, self._model, texts), self._loop)
        self._in_work |= dict.fromkeys(texts, batch)
        batch.timer = self._loop.call_later(self._limits.deadline, self._expire, batch)
        batch.job.add_done_callback(partial(self._announce, texts[0]))
        return batch

    async def _await(self, batches: set["_Batch"]) -> dict[str, "Vector | None"]:
        for batch in batches:
            batch.waiting += 1
        try:
            await asyncio.wait([batch.settled for batch in batches])
        finally:
            for batch in batches:
                batch.waiting -= 1
                if not batch.waiting:
                    self._give_up(batch)
        vectors: dict[str, Vector | None] = {}
        for batch in batches:
            match batch.settled.result():
                case str(reason):
                    raise EmbedderDown(reason)
                case made:
                    vectors |= made
        return vectors

    # On one of the threads.

    def _make(self, model: Model, texts: list[str]) -> list["Vector | None"]:
        vectors = model.vectors(texts)
        if len(vectors) != len(texts):
            raise EmbedderDown(f"the model made {len(vectors)} vectors of {len(texts)} texts")
        for vector in vectors:
            if vector is not None:
                self._check(vector)
                vector.flags.writeable = False
        return vectors

    def _check(self, vector: "Vector") -> None:
        if vector.shape != (self._card.dimension,):
            raise EmbedderDown(f"the model made a vector of shape {vector.shape} instead of ({self._card.dimension},)")
        length = float(np.linalg.norm(vector))
        if not abs(length - 1.0) <= UNIT:  # said so that NaN fails, too
            raise EmbedderDown(f"the model made a vector of length {length:g} instead of 1")

    def _announce(self, text: str, job: Future[list["Vector | None"]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._find, text, job)

    # On the event loop.

    def _find(self, text: str, job: Future[list["Vector | None"]]) -> None:
        """Finish the batch of a job, which does not hold it: each would keep the other until the garbage collector comes."""
        batch = self._in_work.get(text)
        if batch is not None and batch.job is job:
            self._finish(batch)

    def _finish(self, batch: "_Batch") -> None:
        """The job has ended, or was given up."""
        if batch.ended.done():
            return
        batch.ended.set_result(None)
        batch.timer.cancel()
        for text in batch.texts:
            del self._in_work[text]
        if batch.job.cancelled():
            return
        if (error := batch.job.exception()) is not None:
            self._fail(batch, str(error) or type(error).__name__)
            return
        vectors = dict(zip(batch.texts, batch.job.result(), strict=True))
        self._remembered.update(vectors)
        if not batch.settle(vectors):
            return
        self._in_time = self._loop.time()
        if self._breaker.succeeded():
            self._on_event("embedder_up")

    def _expire(self, batch: "_Batch") -> None:
        if batch.job.done():  # it is the loop that was late
            self._finish(batch)
            return
        late = f"no vector within {self._limits.deadline:g} s"
        if self._in_time >= batch.asked:  # the model works: it had others to see to, which is no failure
            batch.settle(late)
        else:
            self._fail(batch, late)
        self._give_up(batch)

    def _give_up(self, batch: "_Batch") -> None:
        """Without effect if it has begun: what comes of it is remembered."""
        if batch.job.cancel():
            self._finish(batch)

    def _fail(self, batch: "_Batch", reason: str) -> None:
        if batch.settle(reason) and self._breaker.failed(self._loop.time()):
            self._on_event("embedder_down", reason=reason)


class _Batch:
    """Texts that are embedded together, and how many callers wait for them.

    `settled` tells the callers what came of it: the vectors, or the reason why there are none.
    """

    __slots__ = ("asked", "ended", "job", "settled", "texts", "timer", "waiting")

    timer: asyncio.TimerHandle

    def __init__(self, texts: list[str], job: Future[list["Vector | None"]], loop: asyncio.AbstractEventLoop) -> None:
        self.texts = texts
        self.job = job
        self.settled: asyncio.Future[dict[str, Vector | None] | str] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.asked = loop.time()
        self.waiting = 0

    def settle(self, result: dict[str, "Vector | None"] | str) -> bool:
        """False if the callers have been told already."""
        if self.settled.done():
            return False
        self.settled.set_result(result)
        return True


def _weight(text: str, vector: "Vector | None") -> int:
    return sys.getsizeof(text) + OVERHEAD + (0 if vector is None else vector.nbytes)
