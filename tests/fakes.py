"""The path's ports as small fakes in memory. Each notes what it was asked and can be told to fail or to wait."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, Literal, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel_gateway.core.browsing import Order, Page, Place, Selection, View, page_of
from sentinel_gateway.core.budget import OF
from sentinel_gateway.core.bulletin import Notice
from sentinel_gateway.core.caching import Entry, Head, Selector, Tier
from sentinel_gateway.core.chat import Chunk, read_answer
from sentinel_gateway.core.evidence import ALL, Count, Decision, Finding, Findings, Label
from sentinel_gateway.core.idempotency import Claim, Held, Outcome
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.core.spending import DayCost
from sentinel_gateway.core.tightening import Stance
from sentinel_gateway.errors import EmbedderDown, StoreDown
from sentinel_gateway.pipeline.reply import Live
from sentinel_gateway.ports import ChunkStream, Completion, Landed, News, ScopeView, Told, Unsent, UpstreamCall

Vector = NDArray[np.float32]
T = TypeVar("T")

START = 1_800_000_000.0
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class HandMovedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is moved by hand: what should take seconds takes none, and what falls together is decided."""

    now = 0.0

    def time(self) -> float:
        return self.now


def at_once(step: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that never suspends; it needs no event loop."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it has suspended")


async def turns(count: int = 10) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


class FakeIdempotency:
    """Idempotency keys without a lifetime or a quota; `held` is what is known by each mark."""

    def __init__(self) -> None:
        self.held: dict[bytes, Held] = {}

    async def claim(self, wanted: Claim, now: float) -> Held | None:
        found = self.held.get(wanted.mark)
        if found is None:
            self.held[wanted.mark] = Held(wanted.fingerprint, None)
        return found

    async def keep(self, held: Claim, outcome: Outcome) -> None:
        if self._is_worked_on(held):
            self.held[held.mark] = Held(held.fingerprint, outcome)

    async def release(self, held: Claim) -> None:
        if self._is_worked_on(held):
            del self.held[held.mark]

    async def close(self) -> None:
        pass

    def _is_worked_on(self, held: Claim) -> bool:
        return self.held.get(held.mark) == Held(held.fingerprint, None)


NO_TIME: Final = 0.01
"""Seconds in which a fake does nothing."""


class FakeHandover:
    """What all nodes of a fleet see, and one node's end of it: a `Handover`. What was landed stays fresh until it is `old`."""

    def __init__(self, shared: "FakeHandover | None" = None, name: str = "") -> None:
        self._shared = shared or self
        self._name = name
        self.holders: dict[str, tuple[str, int]] = {}
        self.landed: dict[str, Landed] = {}
        self.old = False
        self.down = False

    def of(self, name: str) -> "FakeHandover":
        return FakeHandover(self._shared, name)

    async def claim(self, key: str, flight: int, *, waited: float) -> Landed | bool:
        shared = self._shared
        if shared.down:
            raise StoreDown("down")
        if key in shared.landed and (not shared.old or waited > NO_TIME):
            return shared.landed[key]
        name, number = shared.holders.get(key, (self._name, flight))
        if name != self._name or number > flight:
            return False
        shared.holders[key] = self._name, flight
        return True

    def land(self, key: str, flight: int, landed: Landed) -> None:
        if self._shared.holders.get(key) == (self._name, flight):
            self._shared.landed[key] = landed
            self.release(key, flight)

    def release(self, key: str, flight: int) -> None:
        if self._shared.holders.get(key) == (self._name, flight):
            del self._shared.holders[key]

    async def close(self) -> None:
        pass


class FakeNear:
    """A memory tier without bounds. Unless it `takes` them, entries are dropped."""

    def __init__(self) -> None:
        self.takes = True
        self.entries: dict[str, Entry] = {}
        self.asked: list[str] = []
        self.puts = 0

    def get(self, key: str) -> Entry | None:
        self.asked.append(key)
        return self.entries.get(key)

    def put(self, entry: Entry) -> bool:
        self.puts += 1
        if self.takes:
            self.entries[entry.key] = entry
        return self.takes

    def clear(self, selector: Selector, now: float) -> int:
        return _remove(self.entries, selector, now)

    def held(self) -> list[Entry]:
        return list(self.entries.values())

    def size(self) -> tuple[int, int]:
        return len(self.entries), sum(len(entry.body) for entry in self.entries.values())


class FakeBulletin:
    """What was told to other nodes. While `down`, they can't be told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self.down = False

    async def publish(self, notice: Notice) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StoreDown("told to")
        self.notices.append(notice)

    async def follow(self, heard: Callable[[Notice], None], missed: Callable[[], None]) -> None:
        pass

    async def close(self) -> None:
        pass


class FakeEmbedder:
    """Texts in which the same letters are as frequent are similar. `batches` are the texts that it was asked for.

    While `down`, or after `fail_after` calls, it fails; `too_long` are the texts that it has no vector for; `hold` makes it wait
    until the event is set.
    """

    model = "letters"
    works = True

    def __init__(self) -> None:
        self.down = False
        self.fail_after: int | None = None
        self.too_long: set[str] = set()
        self.hold: asyncio.Event | None = None
        self.batches: list[list[str]] = []

    async def embed(self, texts: Sequence[str]) -> list[Vector | None]:
        self.batches.append(list(texts))
        if self.hold is not None:
            await self.hold.wait()
        if self.down or (self.fail_after is not None and len(self.batches) > self.fail_after):
            raise EmbedderDown("told to")
        return [None if text in self.too_long else self.vector(text) for text in texts]

    @staticmethod
    def vector(text: str) -> Vector:
        counts = np.bincount([ord(char) % 128 for char in text.casefold()], minlength=128).astype(np.float32)
        unit: Vector = counts / np.linalg.norm(counts)
        return unit


class FakeIndex:
    """An index without bounds. While `down` its coroutines fail; `strays` are found whatever scope is asked.

    `hold` makes a clear wait, until the event is set.
    """

    shared = False

    def __init__(self) -> None:
        self.down = False
        self.heads: dict[str, Head] = {}
        self.vectors: dict[str, Vector] = {}
        self.strays: list[Neighbour] = []
        self.hold: asyncio.Event | None = None

    def add(self, head: Head) -> None:
        self.heads[head.key] = head
        self.vectors.pop(head.key, None)

    async def view(self, scope: str, *, waiting: int) -> ScopeView:
        self._work()
        inside = [head for head in self.heads.values() if head.scope == scope]
        without = tuple(head for head in inside if head.key not in self.vectors)
        return ScopeView(len(inside) - len(without) + len(self.strays), without[:waiting])

    async def attach(self, vectors: Sequence[tuple[Head, Vector]]) -> None:
        self._work()
        self.vectors.update((head.key, vector) for head, vector in vectors if self.heads.get(head.key) == head)

    async def nearest(self, scope: str, vector: Vector, *, limit: int) -> list[Neighbour]:
        self._work()
        inside = [head for head in self.heads.values() if head.scope == scope and head.key in self.vectors]
        found = [Neighbour(head, float(self.vectors[head.key] @ vector)) for head in inside]
        return (self.strays + sorted(found, key=lambda near: -near.similarity))[:limit]

    def drop(self, heads: Iterable[Head]) -> None:
        for head in heads:
            if self.heads.get(head.key) == head:
                del self.heads[head.key]
                self.vectors.pop(head.key, None)

    async def clear(self, selector: Selector, now: float) -> int:
        if self.hold is not None:
            await self.hold.wait()
        self._work()
        gone = [head for head in self.heads.values() if selector.matches(head, now)]
        self.drop(gone)
        return len(gone)

    async def questions(self, selector: Selector, now: float) -> AsyncGenerator[list[tuple[Head, Vector | None]]]:
        """Those of a scope on a page."""
        self._work()
        heads = [head for head in self.heads.values() if selector.matches(head, now)]
        for scope in dict.fromkeys(head.scope for head in heads):
            yield [(head, self.vectors.get(head.key)) for head in heads if head.scope == scope]

    def size(self) -> tuple[int, int]:
        return len(self.heads), len(self.vectors)

    async def status(self) -> dict[str, str]:
        return {"vectors": "down" if self.down else "up"}

    async def prepare(self) -> None: ...
    async def close(self) -> None: ...
    def _work(self) -> None:
        if self.down:
            raise StoreDown("told to")


class FakeEvidence:
    """Decisions by our ids, and what was said. While `down` it fails; `hold` makes findings wait, `slow` what was written."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}
        self.said: dict[tuple[str, str], Label] = {}
        self.down = False
        self.lots: list[tuple[int, int]] = []
        self.counts: list[Count] = []
        self.taken: dict[str, Stance] = {}
        self.spendings: dict[int, DayCost] = {}
        self.hold: asyncio.Event | None = None
        self.slow: asyncio.Event | None = None

    async def keep(self, decisions: Sequence[Decision], counts: Sequence[Count]) -> None:
        await self._pass()
        self.lots.append((len(decisions), len(counts)))
        self.decisions |= {decision.id: decision for decision in decisions}
        self.counts += counts
        if self.slow is not None:
            await self.slow.wait()

    async def stances(self) -> list[Stance]:
        await self._pass()
        return list(self.taken.values())

    async def take(self, stance: Stance) -> None:
        await self._pass()
        self.taken[stance.scope] = stance
        self.counts = [count for count in self.counts if stance.scope not in {count.scope, ALL}]

    async def get(self, id: str) -> Decision | None:  # noqa: A002 - its name
        await self._pass()
        return self.decisions.get(id)

    async def findings(self, since: float, *, scopes: int) -> Findings:
        await self._pass()
        if self.hold is not None:
            await self.hold.wait()
        labels = [
            Finding(kept.id, kept.at, kept.scope, kept.drawn, label.source, label.correct, kept.budgets)
            for (of, _), label in self.said.items()
            if (kept := self.decisions[of]).at >= since
        ]
        strict = [stance.scope for stance in self.taken.values() if stance.level and stance.scope != ALL]
        sums: dict[str, list[int]] = {scope: [0, 0] for scope in strict}
        for count in self.counts:
            reached, hits = sums.get(count.scope, [0, 0])
            sums[count.scope] = [reached + count.reached, hits + count.hits]
        named = [Count(0, name, *both) for name, both in sums.items()]
        all_scopes, budgets = ([count for count in named if (OF in count.scope) is budget] for budget in (False, True))
        whole = sum(count.reached for count in all_scopes), sum(count.hits for count in all_scopes)
        return Findings(labels, *whole, all_scopes[: scopes + len(strict)], budgets)

    async def find(self, id: str, *, tenant: str) -> Decision | None:  # noqa: A002 - its name
        await self._pass()
        found = [kept for kept in self.decisions.values() if kept.tenant == tenant and id in {kept.id, kept.request_id}]
        return found[-1] if found else None

    async def label(self, label: Label) -> bool:
        await self._pass()
        old = self.said.get((label.decision, label.source))
        self.said[label.decision, label.source] = label
        return old is None or old.correct != label.correct

    async def spend(self, cost: DayCost) -> None:
        await self._pass()
        before = self.spendings.get(cost.day, DayCost(cost.day))
        self.spendings[cost.day] = DayCost(cost.day, before.whole + cost.whole, before.extra + cost.extra)

    async def spent(self) -> DayCost:
        await self._pass()
        return self.spendings[max(self.spendings)] if self.spendings else DayCost(0)

    async def labels(self, decision: str) -> tuple[Label, ...]:
        await self._pass()
        return tuple(label for (of, _), label in self.said.items() if of == decision)

    async def _pass(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StoreDown("told to")


class FakeLearners:
    """What was learned, by realm. While `down` it fails; `hold` makes it wait until the event is set."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.at: dict[str, float] = {}
        self.lessons: dict[str, int] = {}
        self.finds = 0
        self.down = False
        self.hold: asyncio.Event | None = None

    async def keep(self, realm: str, state: bytes, at: float, lesson: int) -> bool:
        await self._pass()
        if lesson < self.lessons.get(realm, 0):
            return False
        self.kept.pop(realm, None)
        self.kept[realm] = state
        self.at[realm] = at
        self.lessons[realm] = lesson
        return True

    async def find(self, realm: str) -> bytes | None:
        self.finds += 1
        await self._pass()
        return self.kept.get(realm)

    async def begins(self, realm: str, size: int) -> bytes | None:
        await self._pass()
        return None if realm not in self.kept else self.kept[realm][:size]

    async def latest(self, limit: int) -> list[str]:
        await self._pass()
        return list(self.kept)[-limit:][::-1]

    async def _pass(self) -> None:
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise StoreDown("told to")


class FakeLessons:
    """What nodes have told, beside what they keep; it forgets an hour after it was kept. While `down` it fails."""

    def __init__(self, learners: FakeLearners) -> None:
        self.told: dict[str, Told] = {}
        self.last = 0
        self.turns: dict[str, tuple[str, float]] = {}
        self.ends: dict[str, float] = {}
        self.marked: list[tuple[str, int]] = []
        self.down = False
        self._learners = learners

    async def tell(self, lessons: Sequence[tuple[str, str, bytes]], at: float) -> None:
        await self._pass()
        for id_, realm, lesson in lessons:
            if id_ not in self.told:
                self.last += 1
                self.told[id_] = Told(self.last, realm, lesson)
        for id_ in [id_ for id_, ends in self.ends.items() if ends < at]:
            del self.told[id_], self.ends[id_]

    async def news(self, since: int | None, limit: int) -> News:
        await self._pass()
        return self._news(limit, [] if since is None else [told for told in self.told.values() if told.number > since])

    async def of(self, realm: str, since: int, limit: int) -> News:
        await self._pass()
        return self._news(limit, [told for told in self.told.values() if told.realm == realm and told.number > since])

    async def claim(self, realm: str, node: str, now: float, seconds: float) -> bool:
        await self._pass()
        holder, ends = self.turns.get(realm, (node, 0.0))
        if holder == node or ends <= now:
            self.turns[realm] = node, now + seconds
        return self.turns[realm][0] == node

    async def learned(self, realm: str, upto: int, at: float) -> None:
        await self._pass()
        self.marked.append((realm, upto))
        for id_, told in self.told.items():
            if told.realm == realm and told.number <= upto:
                self.ends.setdefault(id_, at + 3_600.0)

    def _news(self, limit: int, found: list[Told]) -> News:
        return News(found[:limit], self.last, dict(self._learners.at))

    async def _pass(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise StoreDown("told to")


class FakeFar:
    """A farther tier. While `down` it fails; `hold` makes it wait in the middle of an operation, until the event is set.

    Unless it `takes` them, entries are dropped. Unless it `promises` to, it keeps them and does not say so.
    """

    tier: Tier = "disk"
    shared = False
    orders: frozenset[Order] = frozenset({"created", "expires"})

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.asked: list[str] = []
        self.puts = 0
        self.down = False
        self.takes = self.promises = True
        self.hold: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def _pass(self) -> None:
        self.reached.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise StoreDown("told to fail")

    async def get(self, key: str) -> Entry | None:
        self.asked.append(key)
        found = self.entries.get(key)
        await self._pass()
        return found

    def put(self, entry: Entry) -> bool:
        self.puts += 1
        if self.takes:
            self.entries[entry.key] = entry
        return self.takes and self.promises

    async def clear(self, selector: Selector, now: float) -> int:
        await self._pass()
        return _remove(self.entries, selector, now)

    async def count(self) -> int:
        return len(self.entries)

    async def page(self, view: View, now: float, *, after: Place | None, most: int) -> Page:
        await self._pass()
        return page_of(self.entries.values(), view, now, after=after, most=most)

    async def select(self, selector: Selector, now: float, *, sample: int) -> Selection:
        await self._pass()
        found = [entry.head() for entry in self.entries.values() if selector.matches(entry, now)]
        return Selection(len(found), tuple(found[:sample]))

    async def flush(self) -> None:
        await self._pass()

    async def ping(self) -> None:
        await self._pass()

    async def close(self) -> None: ...


def _remove(entries: dict[str, Entry], selector: Selector, now: float) -> int:
    doomed = [key for key, entry in entries.items() if selector.matches(entry, now)]
    for key in doomed:
        del entries[key]
    return len(doomed)


Step = list[Chunk] | Exception | asyncio.Event
"""What a stream does next: bring a batch, fail, or wait."""


class FakeStream:
    """A stream that follows a script. `done`: at the end the provider says so."""

    def __init__(self, *script: Step, done: bool = True) -> None:
        self._script = script
        self._at = 0
        self._done = done
        self.finished = False
        self.opened = 0
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        return self

    async def __anext__(self) -> list[Chunk]:
        """Cancelled, it loses nothing: no generator, which would end with the wait."""
        while self._at < len(self._script):
            step = self._script[self._at]
            if isinstance(step, asyncio.Event):
                await step.wait()
            self._at += 1
            if isinstance(step, Exception):
                raise step
            if isinstance(step, list):
                return step
        self.finished = self._done
        raise StopAsyncIteration

    async def pipe(self, into: Callable[[list[Chunk]], bool]) -> None:
        while into(await self.__anext__()):
            pass

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed += 1


class Connecting(asyncio.Event):
    """What a provider waits for before it sends anything."""

    async def wait(self) -> Literal[True]:
        try:
            return await super().wait()
        except asyncio.CancelledError as error:
            raise Unsent from error


Reply = Completion | FakeStream | Exception | asyncio.Event


class FakeProvider:
    """Gives `replies` in their order, one a call; an event is waited for, then the next reply is given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replies: deque[Reply] = deque()
        self.calls: list[UpstreamCall] = []
        self.reached = asyncio.Event()

    async def _next(self, call: UpstreamCall) -> Completion | FakeStream:
        self.calls.append(call)
        self.reached.set()
        while isinstance(reply := self.replies.popleft(), asyncio.Event):
            await reply.wait()
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def complete(self, call: UpstreamCall) -> Completion:
        reply = await self._next(call)
        assert isinstance(reply, Completion)
        return reply

    async def open_stream(self, call: UpstreamCall) -> ChunkStream:
        reply = await self._next(call)
        assert isinstance(reply, FakeStream)
        return reply

    async def list_models(self) -> frozenset[str]:
        return frozenset()


class FakeEvents:
    """What was told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.attempts: list[Attempt] = []
        self.notes: list[tuple[str, dict[str, str | float | bool | None]]] = []

    def finished(self, record: Record) -> None:
        self.records.append(record)

    def attempted(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def note(self, event: str, **fields: str | float | bool | None) -> None:
        self.notes.append((event, fields))


async def payloads(live: Live) -> AsyncGenerator[list[bytes]]:
    """The batches of a live answer, each only when it is asked for."""
    reader, came = live.reader(), list[list[bytes]]()

    def take(batch: list[bytes]) -> bool:
        came.append(batch)
        return False

    while await reader.pipe(take):
        yield came.pop()


def completion(content: str | None = "Paris.", *, finish: str | None = "stop", **message: Any) -> Completion:
    """A provider's whole answer with one choice."""
    return completion_of({"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish})


def completion_of(*choices: dict[str, Any]) -> Completion:
    """A provider's whole answer with these choices."""
    numbered = [{"index": index, **choice} for index, choice in enumerate(choices)]
    fields = {"id": "x", "object": "chat.completion", "created": 1, "model": "m-1", "choices": numbered, "usage": USAGE}
    answer = read_answer(fields)
    assert answer is not None
    return Completion(msgspec.json.encode(fields), answer)


def chunk(*choices: dict[str, Any], **fields: Any) -> Chunk:
    """One chunk with these choices."""
    whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": list(choices), **fields}
    return Chunk(msgspec.json.encode(whole), whole)


def delta(finish: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    """One choice of a chunk."""
    return {"index": index, "delta": members, "finish_reason": finish}


def spoken(*pieces: str, finish: str | None = "stop") -> Iterable[list[Chunk]]:
    """Batches of a usual stream: the role, each piece, the end, the usage."""
    yield [chunk(delta(role="assistant", content=""))]
    for piece in pieces:
        yield [chunk(delta(content=piece))]
    yield [chunk(delta(finish=finish))]
    yield [chunk(usage=USAGE)]
