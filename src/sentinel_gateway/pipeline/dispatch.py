"""Ask the providers: whom, when and how often says `core/retrying.py`, in which order `core/choosing.py`.

Nothing is asked again, or of another, once a stream has said its first word; unless nobody has heard it (`recovery.py`).
"""

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Protocol, TypeVar

from msgspec.structs import replace

from sentinel_gateway.core.chat import Batches, Chunk, Usage, speaks
from sentinel_gateway.core.choosing import choose, unable
from sentinel_gateway.core.pricing import FREE, Pricing, Unpriced
from sentinel_gateway.core.retrying import Course, Pause, RetryRules
from sentinel_gateway.core.routing import Hedge, Target
from sentinel_gateway.core.tokens import usage_about
from sentinel_gateway.errors import InvalidField, UpstreamBroken, UpstreamError
from sentinel_gateway.pipeline.attempt import Try, pause
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.hedging import Accounts, Bet, Race, paid_for, told_or_about
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import (
    ChunkStream,
    Completion,
    Embedded,
    EmbeddingProvider,
    NotCarried,
    Provider,
    Unsent,
    UpstreamCall,
)

Answered = TypeVar("Answered")
Raced = TypeVar("Raced", Completion, "OpenStream")
Attempt = Callable[[Target, UpstreamCall], Callable[[Try], Awaitable[Answered]]]
"""Puts a call into a provider's words, or raises `NotCarried`; what comes back asks it."""

GREETING_BYTES: Final = 1024 * 1024
"""A stream that has said so much without a word has begun: what it goes on to say is not kept for another to overtake it."""


class OpenStream:
    """A stream that has begun: its first chunks are here. Closing it closes the upstream connection."""

    def __init__(self, stream: ChunkStream, first: list[Chunk], rest: Batches[Chunk], one: Try) -> None:
        self._stream = stream
        self._first: list[Chunk] | None = first
        self._rest = rest
        self._try = one
        self._closed = False

    @property
    def finished(self) -> bool:
        """The provider said that the stream is complete."""
        return self._stream.finished

    async def pipe(self, into: Callable[[list[Chunk]], bool]) -> None:
        """As of any stream, the first chunks first."""
        first, self._first = self._first, None
        if first is None or into(first):
            await self._rest.pipe(into)

    def unread(self) -> list[Chunk]:
        """The first chunks, if nobody has read them; only once."""
        first, self._first = self._first, None
        return first or []

    def ended(self, error: Exception | None, usage: Usage, *, whole: bool) -> None:
        """It has come as far as it will: to its end, to an error, or until nobody read it any more. To be told once."""
        if whole:
            self._try.answered(usage)
        elif isinstance(error, UpstreamError):
            self._try.failed(error, usage)
        else:
            self._try.left(usage)

    async def give_up(self, spent: Usage) -> None:
        """It broke off before anybody was told of it, after so much: what came of the attempt is its asker's to say."""
        self._try.spent(spent)
        await self.close()

    async def close(self) -> None:
        """Let go of the upstream connection; may be called twice."""
        if not self._closed:
            self._closed = True
            await self._stream.__aexit__(None, None, None)


class Answering(Protocol):
    """Whom a path asks for what is not stored: providers (`Dispatch`), or programs (`predicting.py`)."""

    def complete(self, plan: Plan, journey: Journey) -> Awaitable[Completion]:
        """A whole answer; raises `RequestError`s."""
        ...

    def open_stream(self, plan: Plan, journey: Journey) -> Awaitable[OpenStream]:
        """A stream with its first chunks."""
        ...

    def read_stream(self, plan: Plan, journey: Journey, read: Callable[[OpenStream], Awaitable[Answered]]) -> Awaitable[Answered]:
        """What `read` makes of a stream that has begun."""
        ...


def free(_: str) -> Pricing:
    """Nothing is counted."""
    return FREE


async def _at_once() -> None:
    """There is time."""


class Dispatch:
    """Sends plans to providers. `providers` are by name. Without `accounts` every call is free.

    `give_way` is awaited when a whole answer is here: what is to be done with it can wait while the loop has too much to do.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        circuits: Circuits,
        rules: RetryRules,
        accounts: Accounts | None = None,
        *,
        give_way: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._give_way = give_way
        self._providers = providers
        self._circuits = circuits
        self._rules = rules
        self._accounts = accounts or Accounts(free, circuits.world.clock)
        self._prices = self._accounts.prices
        self._world = circuits.world

    def complete(self, plan: Plan, journey: Journey) -> Awaitable[Completion]:
        """A whole answer; raises the last target's `UpstreamError` when all fail."""
        if (conduct := plan.route.conduct) is not None and conduct.hedge is not None:
            return self._race(conduct.hedge, self._complete, plan, journey, stream=False)
        return self._ask(self._complete, plan, journey, stream=False)

    def open_stream(self, plan: Plan, journey: Journey) -> Awaitable[OpenStream]:
        """A stream with its first chunks; raises the last target's `UpstreamError` when none begins."""
        if (conduct := plan.route.conduct) is not None and conduct.hedge is not None:
            return self._race(conduct.hedge, self._open_to_a_word, plan, journey, stream=True)
        return self._ask(self._open, plan, journey, stream=True)

    def read_stream(self, plan: Plan, journey: Journey, read: Callable[[OpenStream], Awaitable[Answered]]) -> Awaitable[Answered]:
        """What `read` makes of a stream that has begun: what it raises, the attempt has failed with, and the next is made."""
        return self._ask(partial(self._open_and_read, read), plan, journey, stream=True)

    def embed(self, plan: Plan, journey: Journey) -> Awaitable[Embedded]:
        """Vectors for what is asked; raises the last target's `UpstreamError` when all fail."""
        return self._ask(self._embed, plan, journey, stream=False)

    async def _ask(self, attempt: Attempt[Answered], plan: Plan, journey: Journey, *, stream: bool) -> Answered:
        clock, failure = self._world.clock, None
        now = journey.upstream_started = clock()
        try:
            course = self._course(plan, journey, now)
            while (target := course.next(now)) is not None:
                if isinstance(target, Pause):
                    await pause(self._world, target.seconds)
                    now = clock()
                    continue
                price = self._prices(target.name)
                try:
                    asking = self._prepare(attempt, plan, journey, target, price, now=now)
                except NotCarried as error:
                    course.passed_over(target, error)
                    continue
                journey.target = target.name
                journey.attempts += 1
                one = Try(self._circuits, journey, price, now, again=target in course.errors, stream=stream)
                try:
                    answered = await asking(one)
                    if isinstance(answered, Completion):
                        usage = told_or_about(answered, plan.request)
                    elif isinstance(answered, Embedded):
                        tokens = answered.tokens
                        usage = usage_about(plan.request.fields) if tokens is None else Usage(tokens, 0, tokens)
                    else:  # a stream that has begun: how it ends is told by itself
                        return answered
                except UpstreamError as error:
                    failure = error
                    now = one.failed(error, paid_for(error, plan.request))
                    course.failed(target, error, now)
                except BaseException as error:  # of what was cancelled, what was sent is paid; of a fault of ours, nothing
                    sent = isinstance(error, CancelledError) and not isinstance(error, Unsent)
                    one.left(usage_about(plan.request.fields) if sent else None)
                    raise
                else:
                    one.answered(usage)  # also if its caller leaves before its turn
                    if isinstance(answered, Completion):
                        await self._give_way()
                    return answered
            raise failure or course.why(now)
        finally:
            journey.upstream_ended = clock()

    async def _race(self, hedge: Hedge, attempt: Attempt[Raced], plan: Plan, journey: Journey, *, stream: bool) -> Raced:
        """As `_ask`, on a route that hedges."""
        now = journey.upstream_started = self._world.clock()
        try:
            bet = Bet(plan, hedge, self._accounts.of(plan.request.model, hedge.share))
            prepare = partial(self._prepare_priced, attempt, plan, journey)
            return await Race(self._course(plan, journey, now), prepare, journey, self._circuits, bet, stream=stream).run()
        finally:
            journey.upstream_ended = self._world.clock()

    def _prepare(
        self, attempt: Attempt[Answered], plan: Plan, journey: Journey, target: Target, price: Pricing, *, now: float
    ) -> Callable[[Try], Awaitable[Answered]]:
        """One call, in its provider's words; raises `NotCarried`, also where what has no price is not to be asked."""
        if isinstance(price, Unpriced) and price.refused:
            raise _unpriced(price)
        request, conduct = plan.request, plan.route.conduct
        call = UpstreamCall(
            request.fields,
            target.model,
            journey.sentinel_id,
            request.dialect,
            request.native,
            through=journey.through,
            version=journey.version,
        )
        if (trace := journey.trace) is not None:
            call = replace(call, traceparent=trace.calling(target.name, journey.attempts + 1))
        if conduct is not None:
            limits = conduct.deadlines_of(target, journey.waited + now - journey.upstream_started)
            call = replace(call, deadlines=limits, once=target in conduct.careful)
        return attempt(target, call)

    def _prepare_priced(
        self, attempt: Attempt[Answered], plan: Plan, journey: Journey, target: Target, now: float
    ) -> Callable[[Try], Awaitable[Answered]]:
        """The same; who asks by himself looks the price up for more than this."""
        return self._prepare(attempt, plan, journey, target, self._prices(target.name), now=now)

    def _course(self, plan: Plan, journey: Journey, now: float) -> Course:
        """Whom this request may ask, in their order; raises `InvalidField` where nobody can serve it."""
        route, chance, standings = plan.route, self._world.chance, self._circuits.standings
        targets = route.targets
        if route.strategy != "priority" or route.abilities:
            targets = choose(route, plan.request, standings, now=now, chance=chance)
            if not targets:
                what, param = unable(plan.request.fields)
                raise InvalidField(f"No target of '{plan.request.model}' takes {what}: use another model.", param=param)
        started = now - journey.waited
        return Course(targets, standings, self._rules, started=started, chance=chance, conduct=route.conduct)

    def _complete(self, target: Target, call: UpstreamCall) -> Callable[[Try], Awaitable[Completion]]:
        answer = self._providers[target.provider].complete(call)
        return lambda _: answer

    def _embed(self, target: Target, call: UpstreamCall) -> Callable[[Try], Awaitable[Embedded]]:
        provider = self._providers[target.provider]
        if not isinstance(provider, EmbeddingProvider):
            raise InvalidField(f"The provider '{target.provider}' makes no embeddings: name a model of another.", param="model")
        vectors = provider.embed(call)
        return lambda _: vectors

    def _open(self, target: Target, call: UpstreamCall) -> Callable[[Try], Awaitable[OpenStream]]:
        return partial(self._begin, target, self._providers[target.provider].open_stream(call))

    def _open_to_a_word(self, target: Target, call: UpstreamCall) -> Callable[[Try], Awaitable[OpenStream]]:
        """Whoever only greets has not begun before another."""
        return partial(self._begin, target, self._providers[target.provider].open_stream(call), to_a_word=True)

    def _open_and_read(
        self, read: Callable[[OpenStream], Awaitable[Answered]], target: Target, call: UpstreamCall
    ) -> Callable[[Try], Awaitable[Answered]]:
        begin = self._open(target, call)

        async def ask(one: Try) -> Answered:
            return await read(await begin(one))

        return ask

    async def _begin(self, target: Target, opening: Awaitable[ChunkStream], one: Try, *, to_a_word: bool = False) -> OpenStream:
        stream = await (await opening).__aenter__()
        batches = one.heard(stream)
        try:
            first = await batches.__anext__()
            if to_a_word:
                first = await _to_a_word(first, batches)
        except BaseException as error:  # broad: whatever it is, the stream is closed
            await stream.__aexit__(type(error), error, error.__traceback__)
            if isinstance(error, StopAsyncIteration):
                said = f"{target.provider} closed the stream before its first word."
                raise UpstreamBroken(said, failure="io_error") from None
            raise
        one.began()
        return OpenStream(stream, first, batches, one)


async def _to_a_word(first: list[Chunk], rest: Batches[Chunk]) -> list[Chunk]:
    """All chunks up to those with the first word, to the stream's end, or to `GREETING_BYTES`."""
    heard, batch, size = list(first), first, 0
    with suppress(StopAsyncIteration):
        while not any(map(speaks, batch)) and (size := size + sum(len(chunk.raw) for chunk in batch)) <= GREETING_BYTES:
            batch = await anext(rest)
            heard += batch
    return heard


def _unpriced(price: Unpriced) -> NotCarried:
    fix = "name another model, or have the operator set its price under prices.models"
    sentence = f"No price is known for '{price.target[:200]}', and this gateway asks no model without one: {fix}."
    return NotCarried(sentence, param="model")
