"""20,000 answers that must not be kept, through the whole path: both tiers stay empty."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sentinel_gateway.core.caching import NotStorable, Store
from sentinel_gateway.errors import (
    RequestError,
    UpstreamBroken,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from tests.fakes import FakeStream, Reply, completion, completion_of, spoken, turns
from tests.pipeline.conftest import MAX_BYTES, Path, question

pytestmark = pytest.mark.anyio

TOTAL = 20_000
ROUNDS = 25

ERRORS: list[Callable[[], RequestError]] = [
    lambda: UpstreamUnreachable("x"),
    lambda: UpstreamUnauthorized("x"),
    lambda: UpstreamBroken("x"),
    lambda: UpstreamTimeout("x"),
    lambda: UpstreamLimited("x"),
    lambda: UpstreamRefused("x", upstream_status=400),
]


@dataclass(frozen=True)
class Case:
    """What the provider does, `why` the answer is not kept (None: there is none), what else the caller asks for."""

    reply: Callable[[random.Random], Reply]
    why: str | None
    fields: dict[str, Any] = field(default_factory=dict)
    wish: dict[str, Any] = field(default_factory=dict)
    leaves: bool = False


def words(rng: random.Random) -> str:
    return "".join(rng.choices("abc äöü 漢字 🙂", k=rng.randint(1, 20)))


def empty(rng: random.Random) -> Reply:
    return completion(
        rng.choice([None, ""]),
        finish=rng.choice(["stop", "tool_calls"]),
        refusal=None,
        tool_calls=[],
        reasoning_content=words(rng),
    )


def cut(rng: random.Random, *end: Exception) -> Reply:
    """A stream that stops after some of its chunks, before its end."""
    script = list(spoken(*words(rng)))[:-2]
    return FakeStream(*script[: rng.randint(1, len(script))], *end, done=False)


def streamed(finish: str | None = "stop", *, done: bool = True) -> Callable[[random.Random], Reply]:
    return lambda rng: FakeStream(*spoken(*words(rng), finish=finish), done=done)


def whole(finish: str | None = "stop") -> Callable[[random.Random], Reply]:
    return lambda rng: completion(words(rng), finish=finish)


def two(*reasons: str) -> Callable[[random.Random], Reply]:
    return lambda rng: completion_of(*({"message": {"content": words(rng)}, "finish_reason": reason} for reason in reasons))


STREAM = {"stream": True}
CASES = {
    "error": Case(lambda rng: rng.choice(ERRORS)(), None),
    "error of a stream": Case(lambda rng: rng.choice(ERRORS)(), None, STREAM),
    "stream without a word": Case(lambda rng: FakeStream(done=rng.random() < 0.5), None, STREAM),
    "content filter": Case(whole("content_filter"), "content-filter"),
    "content filter in a stream": Case(streamed("content_filter"), "content-filter", STREAM),
    "content filter in one of two": Case(two("stop", "content_filter"), "content-filter", {"n": 2}),
    "cut by the provider's limit": Case(whole("length"), "length"),
    "one of two cut": Case(two("length", "stop"), "length", {"n": 2}),
    "stream cut by the provider's limit": Case(streamed("length"), "length", STREAM),
    "no ending": Case(whole(None), "unfinished"),
    "empty ending": Case(whole(""), "unfinished"),
    "an ending nobody knows": Case(whole("eos_token"), "unknown-finish"),
    "empty": Case(empty, "empty"),
    "empty stream": Case(lambda rng: FakeStream(*spoken()), "empty", STREAM),
    "too large": Case(lambda rng: completion("x" * rng.randint(MAX_BYTES, 2 * MAX_BYTES)), "too-large"),
    "too large a stream": Case(lambda rng: FakeStream(*spoken("x" * MAX_BYTES)), "too-large", STREAM),
    "too large a stream, and cut": Case(lambda rng: FakeStream(*spoken("x" * MAX_BYTES), done=False), "unproven-end", STREAM),
    "one of two missing": Case(whole(), "too-few-choices", {"n": 2}),
    "one of two missing in a stream": Case(streamed(), "unproven-end", {"n": 2, **STREAM}),
    "stream cut": Case(cut, "unproven-end", STREAM),
    "stream broken": Case(lambda rng: cut(rng, UpstreamBroken("x")), "unproven-end", STREAM),
    "stream without an ending": Case(streamed(None), "unproven-end", STREAM),
    "stream with an empty ending": Case(streamed(""), "unproven-end", STREAM),
    "stream without [DONE]": Case(streamed(done=False), "unproven-end", STREAM),
    "caller leaves": Case(
        lambda rng: FakeStream(*list(spoken(words(rng)))[:2], asyncio.Event()), "unproven-end", STREAM, leaves=True
    ),
    "no-store": Case(whole(), "no-store", wish={"write": False}),
    "no-store for a stream": Case(streamed(), "no-store", STREAM, {"write": False}),
    "bypass": Case(whole(), "bypass", wish={"read": False, "write": False, "bypass": True}),
    "bypass for a stream": Case(streamed(), "bypass", STREAM, {"read": False, "write": False, "bypass": True}),
    "ttl 0": Case(whole(), "ttl-0", wish={"ttl": 0.0}),
    "ttl 0 for a stream": Case(streamed(), "ttl-0", STREAM, {"ttl": 0.0}),
}


async def ask(path: Path, case: Case, rng: random.Random, number: int) -> NotStorable | Store | None:
    """What became of the answer; None = there was none."""
    path.first.replies.append(case.reply(rng))
    journey = path.journey(**case.wish)
    path.chance = rng.random()
    asking = path.ask(question(f"{number}", **case.fields), journey)
    try:
        if case.leaves:
            task = asyncio.create_task(asking)
            await turns(8)
            assert path.said
            task.cancel()
            await task
        else:
            await asking
    except (RequestError, asyncio.CancelledError):
        pass
    return journey.kept


@pytest.mark.parametrize("part", range(ROUNDS))
async def test_nothing_unfit_is_ever_stored(path, part):
    rng, seen = random.Random(part), Counter()
    names = list(CASES)
    for number in range(TOTAL // ROUNDS):
        name = names[number % len(names)]
        kept = await ask(path, CASES[name], rng, number)
        assert kept == (NotStorable(CASES[name].why) if CASES[name].why else None), name
        seen[name] += 1
    assert seen.total() == TOTAL // ROUNDS
    assert path.calls == seen.total(), "a provider was asked each time"
    assert (path.near.puts, path.far.puts) == (0, 0)


@pytest.mark.parametrize(
    "case",
    [
        Case(whole(), ""),
        Case(streamed(), "", STREAM),
        Case(two("stop", "stop"), "", {"n": 2}),
        Case(whole("length"), "", {"max_tokens": 5}),
        Case(streamed("length"), "", {"max_completion_tokens": 5, **STREAM}),
        Case(whole("tool_calls"), ""),
    ],
)
async def test_what_is_fit_is_stored_by_the_same_means(path, case):
    assert isinstance(await ask(path, case, random.Random(0), 0), Store)
    assert (path.near.puts, path.far.puts) == (1, 1)
