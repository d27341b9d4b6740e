"""What comes of a stream hangs on no batch: who hears what of it, how it ends for each, what is kept, and what is paid.

The truth is each chunk in a batch of its own, the end long after the last. A provider hands out the same chunks in batches of any
size, with its end or its failure right behind or later, to callers who come and pause as they like.
"""

import asyncio
from collections.abc import Iterator
from itertools import product
from typing import Any, Literal, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.chat import Chunk
from sentinel_gateway.core.routing import Conduct, Hedge, Route, Target
from sentinel_gateway.core.streaming import DEEPEST
from sentinel_gateway.errors import UpstreamBroken, UpstreamError
from sentinel_gateway.pipeline.reply import Live, Whole
from tests.fakes import USAGE, FakeStream, chunk, delta, turns
from tests.pipeline.conftest import Path, question

Mode = Literal["plain", "buffered", "hedged"]
MODES: tuple[Mode, ...] = ("plain", "buffered", "hedged")
HEDGE = Conduct(hedge=Hedge(after=9.0, share=1.0))
MORE = chunk(delta(content=" more"))
GOOD = [
    chunk(delta(role="assistant", content="")),
    chunk(delta(content="Two")),
    Chunk(MORE.raw, None, " more"),
    chunk(delta("stop")),
    chunk(delta("stop", index=1, content="Four")),
    chunk(usage=USAGE),
]
ENDED = 4
"""The chunk that ends the last choice."""


def too_deep() -> Chunk:
    """More than can be put together."""
    inner: Any = "x"
    for _ in range(DEEPEST + 2):
        inner = {"a": inner}
    return chunk(delta(odd=inner))


class Script(NamedTuple):
    """Chunks, and what they end in: `done` as the provider says, or `broken`."""

    chunks: tuple[Chunk, ...]
    done: bool = True
    broken: bool = False

    @property
    def sound(self) -> tuple[Chunk, ...]:
        """Those before the first that is wrong."""
        return tuple(one for one, good in zip(self.chunks, GOOD, strict=False) if one is good)

    def passes(self, mode: Mode) -> bool:
        """It is an answer, whether it can be kept or not."""
        ended = len(self.chunks) > ENDED
        return self.sound == self.chunks and not self.broken and (ended or (self.done and mode != "buffered"))

    @property
    def kept(self) -> bool:
        """Both choices have ended, the provider says that this was all, and nothing is wrong."""
        return self.passes("buffered") and self.done


class Seat(NamedTuple):
    """Who asks: when the stream stands before this batch; for `all` at once or as a stream; and when it wants no more for now."""

    joins: int = 0
    whole: bool = False
    usage: bool = True
    wants: tuple[bool, ...] = ()

    @property
    def kind(self) -> tuple[bool, bool]:
        """Those of a kind hear the same."""
        return self.whole, self.usage or self.whole


class Course(NamedTuple):
    """How a script is handed out. `sizes` are those of its batches; `early`: its end or failure is known with the last."""

    sizes: tuple[int, ...]
    early: bool
    ready: tuple[bool, ...]
    seats: tuple[Seat, ...]


class Came(NamedTuple):
    """What each heard, what was kept, how the attempts ended and what they used, and what the first caller paid for."""

    heard: dict[tuple[bool, bool], Any]
    kept: list[bytes]
    attempts: list[Any]
    paid: tuple[int, int]


class CutStream(FakeStream):
    """One that may know of its end when it hands out its last batch, as those do that have read both together."""

    def __init__(self, *script: Any, done: bool, early: bool) -> None:
        super().__init__(*script, done=done)
        self._early = early

    async def __anext__(self) -> list[Chunk]:
        batch = await super().__anext__()
        if self._early and not any(isinstance(step, list | Exception) for step in self._script[self._at :]):
            self.finished = self._done
        return batch


async def run(mode: Mode, script: Script, course: Course) -> Came:
    route = Route((Target("first", "m"),), conduct=HEDGE if mode == "hedged" else None)
    path = Path(aliases={"asked": route}, sleep=lambda _: asyncio.Event().wait())
    gates = [asyncio.Event() for _ in range(len(course.sizes) + 1)]
    for gate, ready in zip(gates[:-1], course.ready, strict=False):
        if ready:
            gate.set()
    steps, chunks = [], iter(script.chunks)
    for gate, size in zip(gates[:-1], course.sizes, strict=True):
        steps += [gate, [next(chunks) for _ in range(size)]]
    failure = [UpstreamBroken("told to")] if script.broken else []
    steps += [*failure, gates[-1]] if course.early else [gates[-1], *failure]
    path.first.replies.append(CutStream(*steps, done=script.done, early=course.early))
    journeys, asking = [], []
    for number, gate in enumerate(gates):
        for seat in course.seats:
            over = bool(asking) and asking[0][1].done()
            if min(seat.joins, len(gates) - 1) == number and not over:  # who comes later is a caller like the first
                journeys.append(path.journey(buffered=mode == "buffered"))
                asking.append((seat, asyncio.ensure_future(sit(path, seat, journeys[-1]))))
                await turns(9)
        gate.set()
        await turns(9)
    heard: dict[tuple[bool, bool], Any] = {}
    for seat, one in asking:
        assert heard.setdefault(seat.kind, await one) == await one
    attempts = [(one.ending, one.error, one.prompt_tokens, one.completion_tokens) for one in path.events.attempts]
    kept = [entry.body for entry in path.near.entries.values()]
    assert path.calls == len(attempts) == 1
    return Came(heard, kept, attempts, (journeys[0].prompt_tokens, journeys[0].completion_tokens))


async def sit(path: Path, seat: Seat, journey: Any) -> Any:
    """What is heard, and how it ends."""
    said, wants, more = [], list(seat.wants), True

    def take(payloads: list[bytes]) -> bool:
        nonlocal more
        assert more, "it wanted no more for now"
        said.extend(payloads)
        more = wants.pop() if wants else True
        return more

    options = {"stream_options": {"include_usage": True}} if seat.usage and not seat.whole else {}
    try:
        reply = await path.handle(question(model="asked", n=2, stream=not seat.whole, **options), journey)
        if isinstance(reply, Whole):
            return reply.completion.answer.fields, "end"
        assert isinstance(reply, Live)
        reader = reply.reader()
        try:
            while await reader.pipe(take):
                more = True
                await turns(1)
        finally:
            await path.pipeline.close(reply, journey)
    except UpstreamError as error:
        return said, (type(error), error.kind, error.message)
    return said, "end"


KINDS = (Seat(), Seat(usage=False), Seat(whole=True))


def scripts() -> Iterator[Script]:
    """One that is good, and some that are not, in every place."""
    for done, broken in product([True, False], repeat=2):
        for until in range(1, len(GOOD) + 1):
            yield Script(tuple(GOOD[:until]), done, broken)
    deep = too_deep()
    for place in range(len(GOOD) + 1):
        yield Script((*GOOD[:place], deep, *GOOD[place:]))


SCRIPTS = list(scripts())


def groupings(count: int, most: int = 3) -> Iterator[tuple[int, ...]]:
    """All sizes of so many batches at most that make so many chunks."""
    yield (count,)
    for first in range(1, count if most > 1 else 1):
        yield from ((first, *rest) for rest in groupings(count - first, most - 1))


class Comparison:
    """With the truth, for which there is one run of each script."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._known: dict[tuple[Mode, int], Came] = {}

    def truth(self, mode: Mode, number: int) -> Came:
        if (mode, number) not in self._known:
            course = Course((1,) * len(SCRIPTS[number].chunks), early=False, ready=(), seats=KINDS)
            self._known[mode, number] = self._runner.run(run(mode, SCRIPTS[number], course))
        return self._known[mode, number]

    def __call__(self, mode: Mode, number: int, course: Course) -> None:
        expected, came = self.truth(mode, number), self._runner.run(run(mode, SCRIPTS[number], course))
        assert came._replace(heard={}) == expected._replace(heard={})
        assert came.heard == {kind: expected.heard[kind] for kind in came.heard}


def test_of_a_stream_chunk_by_chunk_all_hear_what_is_sound_and_how_it_ends():
    with asyncio.Runner() as runner:
        truth = Comparison(runner).truth
        for mode, (number, script) in product(MODES, enumerate(SCRIPTS)):
            came = truth(mode, number)
            assert len(came.kept) == script.kept
            assert {ending == "end" for _, ending in came.heard.values()} == {script.passes(mode)}
            told = script.sound if mode == "plain" or script.passes(mode) else ()
            assert mode == "hedged" or came.heard[KINDS[0].kind][0] == [one.raw for one in told]


def test_every_grouping_into_three_batches_comes_to_the_same():
    two = Seat(), Seat(joins=1, usage=False)
    with asyncio.Runner() as runner:
        compare = Comparison(runner)
        for number, script in enumerate(SCRIPTS):
            for sizes, early in product(groupings(len(script.chunks)), [False, True]):
                compare("plain", number, Course(sizes, early, (), two))


seats = st.builds(Seat, st.integers(0, 8), st.booleans(), st.booleans(), st.lists(st.booleans(), max_size=6).map(tuple))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Mode, int, Course]:
    number, sizes = draw(st.integers(0, len(SCRIPTS) - 1)), []
    while left := len(SCRIPTS[number].chunks) - sum(sizes):
        sizes.append(draw(st.integers(1, left)))
    ready, others = draw(st.lists(st.booleans(), max_size=8)), draw(st.lists(seats, max_size=3))
    first = draw(seats)._replace(joins=0, whole=False)
    mode: Mode = draw(st.sampled_from(MODES))
    return mode, number, Course(tuple(sizes), draw(st.booleans()), tuple(ready), (first, *others))


def test_whoever_comes_whenever_hears_the_same():
    with asyncio.Runner() as runner:
        compare = Comparison(runner)

        @given(cases())
        def holds(case: tuple[Mode, int, Course]) -> None:
            compare(*case)

        holds()
