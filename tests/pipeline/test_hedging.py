"""A second target beside one that is slow to begin: who is heard, who is let go, what it costs, and when nobody else is asked."""

import asyncio
import time
from collections import deque

import msgspec
import pytest

from sentinel_gateway.core.chat import read_answer
from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.pricing import YOCTO_PER_TOKEN, Price, Rates
from sentinel_gateway.core.routing import Conduct, Hedge, Route, Target
from sentinel_gateway.core.standing import ENOUGH, StandingRules
from sentinel_gateway.errors import UpstreamBroken, UpstreamError, UpstreamRefused, UpstreamTimeout
from sentinel_gateway.pipeline.dispatch import GREETING_BYTES
from sentinel_gateway.pipeline.hedging import Accounts, Bet, Race
from sentinel_gateway.ports import Completion, NotCarried
from sentinel_gateway.providers._errors import UpstreamTooLong
from tests.fakes import Connecting, FakeProvider, FakeStream, chunk, completion, delta, spoken, turns
from tests.gateway import running_tasks
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

BOTH = (Target("first", "m"), Target("second", "n"))
ROUTES = {
    "quick": Route(BOTH, conduct=Conduct(hedge=Hedge(2.0, 0.5))),
    "frugal": Route(BOTH, conduct=Conduct(hedge=Hedge(2.0, 0.05))),
    "learned": Route(BOTH, conduct=Conduct(hedge=Hedge(None, 1.0))),
}


class Bell:
    """A sleep that ends when it is told to; `asked` are the seconds."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._waiting: deque[asyncio.Event] = deque()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        waiting = asyncio.Event()
        self._waiting.append(waiting)
        await waiting.wait()

    def ring(self) -> None:
        self._waiting.pop().set()


@pytest.fixture
def bell():
    return Bell()


def with_prices(path, prices):
    """The same, not free."""
    path.dispatch._accounts = Accounts(prices, path.clock)  # noqa: SLF001 - the path's own go by its targets
    return path


@pytest.fixture
async def path(bell):
    return Path(aliases=ROUTES, sleep=bell)


def reply(*, stream: bool, text: str = "Paris."):
    return FakeStream(*spoken(text)) if stream else completion(text)


def told(prompt, said):
    """A whole answer that tells what it has used."""
    usage = {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}
    fields = {**completion().answer.fields, "usage": usage}
    return Completion(msgspec.json.encode(fields), read_answer(fields))


def endings(path):
    return [(attempt.target, attempt.ending, attempt.hedge) for attempt in path.events.attempts]


async def begin(path, *, stream=False, model="quick", text="Capital of France?"):
    asking = asyncio.create_task(path.ask(question(text, model=model, stream=stream)))
    await turns()
    return asking


@pytest.mark.parametrize("stream", [False, True])
async def test_who_begins_in_time_is_asked_alone(path, bell, stream):
    path.first.replies.append(reply(stream=stream))
    _, journey = await (await begin(path, stream=stream))
    assert (path.calls, bell.asked, journey.attempts) == (1, [2.0], 1)
    assert endings(path) == [("first/m", "answered", False)]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_second_is_heard_and_the_first_let_go(path, bell, stream):
    path.first.replies += [asyncio.Event()]
    path.second.replies.append(reply(stream=stream))
    asking = await begin(path, stream=stream)
    assert path.calls == 1
    path.clock.now += 2.0
    bell.ring()
    _, journey = await asking
    assert (journey.target, journey.attempts, path.calls) == ("second/n", 2, 2)
    told_to_caller = (journey.prompt_tokens, journey.completion_tokens)
    assert told_to_caller == (3, 5), "the tokens of the call that was lost are nobody's answer"
    lost, won = sorted(path.events.attempts, key=lambda attempt: attempt.target)
    assert ("first/m", "lost", False) in endings(path)
    assert (won.ending, won.hedge, won.number, won.prompt_tokens, won.completion_tokens) == ("answered", True, 2, 3, 5)
    assert (lost.number, lost.seconds, lost.prompt_tokens) == (1, 2.0, 12)
    assert lost.completion_tokens == (0 if stream else 5), "a whole answer is paid for to its end"
    busy = [path.circuits.standings.of(name).busy for name in ("first/m", "second/n")]
    assert busy == [0, 0]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_is_heard_if_it_begins_after_all(path, bell, stream):
    hold = asyncio.Event()
    path.first.replies += [hold, reply(stream=stream)]
    path.second.replies += [asyncio.Event()]
    asking = await begin(path, stream=stream)
    bell.ring()
    await turns()
    assert path.calls == 2
    hold.set()
    _, journey = await asking
    assert (journey.target, journey.attempts) == ("first/m", 2)
    assert ("second/n", "lost", True) in endings(path)


async def test_who_only_greets_has_not_begun(path, bell):
    role, *rest = spoken("one")
    path.first.replies.append(FakeStream(role, asyncio.Event(), *rest))
    path.second.replies.append(reply(stream=True, text="two"))
    asking = await begin(path, stream=True)
    bell.ring()
    _, journey = await asking
    assert journey.target == "second/n"
    assert b"two" in b"".join(path.said)
    assert b"".join(path.said).count(b'"role"') == 1


async def test_who_greets_for_a_megabyte_has_begun(path):
    greeting = [chunk(delta(role="assistant", content=""))]
    size = len(greeting[0].raw)
    hold = asyncio.Event()
    path.first.replies.append(FakeStream(*[greeting] * (GREETING_BYTES // size + 2), hold, *spoken("one")))
    asking = await begin(path, stream=True)
    assert GREETING_BYTES < sum(map(len, path.said)) <= GREETING_BYTES + 2 * size
    hold.set()
    _, journey = await asking
    assert journey.target == "first/m"


async def test_a_long_greeting_is_read_once(path):
    """Each chunk looked at again for each that comes would take this for half a minute."""
    greeting = [chunk(delta(role="assistant", content=""))]
    path.first.replies.append(FakeStream(*[greeting] * 8_000, *spoken("one")))
    started = time.thread_time()
    await (await begin(path, stream=True))
    assert time.thread_time() - started < 6


async def test_a_stream_that_says_nothing_is_what_it_is(path):
    role, *_ = spoken()
    path.first.replies.append(FakeStream(role))
    await (await begin(path, stream=True))
    assert [(a.ending, a.first_token_seconds) for a in path.events.attempts] == [("answered", 0.0)]


async def test_both_begin_at_once(path, bell):
    hold, streams = asyncio.Event(), [FakeStream(*spoken("one")), FakeStream(*spoken("two"))]
    path.first.replies += [hold, streams[0]]
    path.second.replies += [hold, streams[1]]
    asking = await begin(path, stream=True)
    bell.ring()
    await turns()
    hold.set()
    _, journey = await asking
    assert journey.target == "first/m"
    assert (streams[1].opened, streams[1].closed) in {(1, 1), (0, 0)}
    assert streams[0].closed == 1
    assert sorted(endings(path)) == [("first/m", "answered", False), ("second/n", "lost", True)]
    assert b"one" in b"".join(path.said)


@pytest.mark.parametrize("error", [UpstreamBroken("x"), UpstreamTimeout("x")])
async def test_one_that_fails_leaves_the_other(path, bell, error):
    hold, failing = asyncio.Event(), asyncio.Event()
    path.first.replies += [hold, completion()]
    path.second.replies += [failing, error]
    asking = await begin(path)
    bell.ring()
    await turns()
    failing.set()
    await turns()
    assert not asking.done()
    hold.set()
    _, journey = await asking
    assert journey.target == "first/m"
    assert [ending for _, ending, _ in endings(path)] == [
        "timeout" if isinstance(error, UpstreamTimeout) else "broken",
        "answered",
    ]


async def test_one_that_fails_and_is_paid_for_is_billed(path, bell):
    path.first.replies.append(UpstreamTooLong("x"))
    with pytest.raises(UpstreamTooLong):
        await path.ask(question(model="quick", max_tokens=7))
    assert [attempt.completion_tokens for attempt in path.events.attempts] == [7]


async def test_where_the_second_fails_a_third_is_asked_as_late(bell):
    third = Route((*BOTH, Target("second", "o")), conduct=Conduct(hedge=Hedge(2.0, 1.0)))
    path = Path(aliases={"quick": third}, sleep=bell)
    path.circuits.standings.of("second/o")
    path.first.replies += [asyncio.Event()]
    path.second.replies += [UpstreamBroken("x"), completion()]
    asking = await begin(path)
    bell.ring()
    await turns()
    assert (path.calls, bell.asked) == (2, [2.0, 2.0])
    bell.ring()
    _, journey = await asking
    assert (journey.target, journey.attempts) == ("second/o", 3)


async def test_both_fail(path, bell):
    path.first.replies += [first := asyncio.Event(), UpstreamBroken("first")]
    path.second.replies += [second := asyncio.Event(), UpstreamBroken("second")]
    asking = await begin(path)
    bell.ring()
    await turns()
    second.set()
    await turns()
    first.set()
    with pytest.raises(UpstreamBroken, match="first"):
        await asking
    assert path.calls == 2


async def test_one_that_fails_in_time_is_followed_as_ever(path, bell):
    path.first.replies.append(UpstreamBroken("x"))
    path.second.replies.append(completion())
    _, journey = await (await begin(path))
    assert (journey.target, journey.attempts, endings(path)[1]) == ("second/n", 2, ("second/n", "answered", False))
    assert bell.asked == [2.0], "the second has nobody left beside it"


async def refused_beside(path, bell):
    """The second refuses the request while the first is at work; the request, and what lets the first go on."""
    path.first.replies += [hold := asyncio.Event()]
    path.second.replies.append(UpstreamRefused("too long for me", upstream_status=400))
    asking = await begin(path)
    bell.ring()
    await turns()
    assert endings(path) == [("second/n", "refused", True)]
    return asking, hold


async def test_what_the_second_refuses_the_first_may_still_answer(path, bell):
    asking, hold = await refused_beside(path, bell)
    path.first.replies.append(completion())
    hold.set()
    _, journey = await asking
    assert (journey.target, endings(path)[1:]) == ("first/m", [("first/m", "answered", False)])


async def test_after_a_refusal_nobody_is_asked_any_more(bell):
    third = Route((*BOTH, Target("second", "o")), conduct=Conduct(hedge=Hedge(2.0, 1.0)))
    path = Path(aliases={"quick": third}, sleep=bell)
    asking, hold = await refused_beside(path, bell)
    assert bell.asked == [2.0], "no time is waited for at which nobody would be asked"
    path.first.replies.append(UpstreamBroken("first"))
    hold.set()
    with pytest.raises(UpstreamBroken, match="first"):
        await asking
    assert path.calls == 2


async def test_a_target_that_is_alone_waits_for_nobody_beside_it(bell):
    path = Path(aliases={"quick": Route(BOTH[:1], conduct=Conduct(hedge=Hedge(2.0, 1.0)))}, sleep=bell)
    path.first.replies += [hold := asyncio.Event(), completion()]
    asking = await begin(path)
    assert bell.asked == []
    hold.set()
    await asking


@pytest.mark.parametrize("first", [0, 1], ids=["the first", "the second"])
async def test_a_whole_answer_that_came_as_well_is_booked_as_it_tells(path, bell, first):
    """What it has used is known: nothing has to be taken for it."""
    answers = [told(100, 7), told(90, 60)]
    holds = [asyncio.Event(), asyncio.Event()]
    path.first.replies += [holds[0], answers[0]]
    path.second.replies += [holds[1], answers[1]]
    asking = await begin(path)
    bell.ring()
    await turns()
    holds[first].set()
    holds[1 - first].set()
    await asking
    used = {attempt.target: (attempt.prompt_tokens, attempt.completion_tokens) for attempt in path.events.attempts}
    assert used == {"first/m": (100, 7), "second/n": (90, 60)}
    assert {attempt.ending for attempt in path.events.attempts} == {"answered", "lost"}


async def test_who_leaves_as_an_answer_comes_pays_what_it_tells(path, bell):
    path.first.replies += [hold := asyncio.Event(), told(100, 7)]
    asking = await begin(path)
    hold.set()
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (attempt,) = path.events.attempts
    assert (attempt.prompt_tokens, attempt.completion_tokens) == (100, 7)


@pytest.mark.parametrize("rung", [False, True])
async def test_who_leaves_leaves_both(path, bell, rung):
    path.first.replies += [asyncio.Event()]
    path.second.replies += [asyncio.Event()]
    before = running_tasks()
    asking = await begin(path, stream=True)
    if rung:
        bell.ring()
        await turns()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [ending for _, ending, _ in endings(path)] == ["left"] * (2 if rung else 1)
    assert [path.circuits.standings.of(name).busy for name in ("first/m", "second/n")] == [0, 0]
    await turns()
    assert running_tasks() <= before


async def test_who_leaves_pays_for_those_that_were_sent(path, bell):
    path.first.replies += [asyncio.Event()]
    path.second.replies += [Connecting()]
    asking = await begin(path)
    bell.ring()
    await turns()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [(attempt.target, attempt.prompt_tokens) for attempt in path.events.attempts] == [("first/m", 12), ("second/n", 0)]


async def test_who_leaves_while_the_loser_is_let_go_pays_for_the_stream_that_has_begun(path, bell):
    class Clinging(asyncio.Event):
        async def wait(self):
            try:
                return await super().wait()
            finally:
                await asyncio.Event().wait()

    stream = FakeStream(*spoken("Paris."))
    path.first.replies += [hold := asyncio.Event(), stream]
    path.second.replies += [Clinging()]
    asking = await begin(path, stream=True)
    bell.ring()
    await turns()
    hold.set()
    await turns()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert sorted((a.target, a.ending, a.prompt_tokens) for a in path.events.attempts) == [
        ("first/m", "left", 12),
        ("second/n", "left", 12),
    ]
    assert stream.closed == 1


async def test_who_loses_before_it_was_sent_costs_nothing(path, bell):
    path.first.replies += [Connecting()]
    path.second.replies.append(completion())
    asking = await begin(path)
    bell.ring()
    _, journey = await asking
    used = {attempt.ending: attempt.prompt_tokens for attempt in path.events.attempts}
    assert (journey.target, used) == ("second/n", {"lost": 0, "answered": 3})


async def test_a_target_whose_circuit_is_open_is_nobody_s_second(bell):
    path = Path(aliases=ROUTES, sleep=bell, standing=StandingRules(CircuitRules(failures=1)))
    path.circuits.standings.of("second/n").circuit.open(path.clock())
    path.first.replies += [hold := asyncio.Event(), completion()]
    asking = await begin(path)
    bell.ring()
    await turns()
    assert path.calls == 1
    hold.set()
    await asking


async def test_a_target_that_is_tried_once_a_second_is_so_if_it_loses(bell):
    path = Path(aliases=ROUTES, sleep=bell, standing=StandingRules(CircuitRules(failures=1, pause=60.0)))
    circuit = path.circuits.standings.of("second/n").circuit
    circuit.open(path.clock())
    path.clock.now += 60.0
    path.first.replies += [hold := asyncio.Event(), completion()]
    path.second.replies.append(asyncio.Event())
    asking = await begin(path)
    bell.ring()
    await turns()
    hold.set()
    await asking
    assert ("second/n", "lost", True) in endings(path)
    assert not circuit.admits(path.clock(), last=True), "it has had its turn"
    assert circuit.admits(path.clock() + 1.0, last=False)


async def test_attempts_are_counted_together(path, bell):
    """Three calls at most, whatever is asked of whom."""
    path.first.replies += [first := asyncio.Event(), UpstreamBroken("x")]
    path.second.replies += [second := asyncio.Event(), UpstreamBroken("x")]
    asking = await begin(path)
    bell.ring()
    await turns()
    first.set()
    second.set()
    with pytest.raises(UpstreamError):
        await asking
    assert path.calls <= 3
    assert [attempt.number for attempt in path.events.attempts] == [1, 2]


async def side_by_side(path, bell, second):
    """Both are asked, and end in the same turn: the first with an answer."""
    holds = [asyncio.Event(), asyncio.Event()]
    path.first.replies += [holds[0], completion()]
    path.second.replies += [holds[1], second]
    asking = await begin(path)
    bell.ring()
    await turns()
    for hold in holds:
        hold.set()
    return await asking


async def test_one_that_fails_as_the_other_answers_has_failed(path, bell):
    _, journey = await side_by_side(path, bell, UpstreamBroken("x"))
    assert (journey.target, endings(path)) == ("first/m", [("first/m", "answered", False), ("second/n", "broken", True)])


async def test_a_fault_of_ours_is_hidden_by_no_answer(path, bell):
    with pytest.raises(ZeroDivisionError):
        await side_by_side(path, bell, ZeroDivisionError("ours"))
    assert [ending for _, ending, _ in endings(path)] == ["answered", "left"]


async def test_reprs_tell_the_state(path):
    plan = path.pipeline._planner.plan(msgspec.json.encode(question(model="quick")), tenant="", namespace="")  # noqa: SLF001
    accounts = Accounts(path.prices.get, path.clock)
    assert repr(accounts) == "<Accounts of nobody>"
    bets = [Bet(plan, Hedge(after, 0.5), accounts.of("quick", 0.5)) for after in (2.0, None)]
    assert [repr(bet) for bet in bets] == ["<Bet after 2.0>", "<Bet after p95>"]
    assert repr(accounts) == "<Accounts of quick>"
    assert repr(Race(None, None, path.journey(), path.circuits, bets[0], stream=False)) == "<Race of nobody>"


class Wordless(FakeProvider):
    """Its dialect has no word for what is asked."""

    def complete(self, call):
        raise NotCarried(f"{self.name} can't be given 'logit_bias'.", param="logit_bias")

    open_stream = complete


@pytest.mark.parametrize("stream", [False, True])
async def test_who_has_no_word_for_a_request_is_passed_over(bell, stream):
    path = Path(aliases=ROUTES, sleep=bell, first=Wordless("first"))
    path.second.replies.append(reply(stream=stream))
    _, journey = await (await begin(path, stream=stream))
    assert (journey.target, journey.attempts) == ("second/n", 1)
    assert endings(path) == [("second/n", "answered", False)]


# --- money ---


def a_dollar_a_million(_):
    return Price(Rates.of({"input": YOCTO_PER_TOKEN, "output": YOCTO_PER_TOKEN}))


async def hedged(path, bell, text):
    """Does a slow first target get another beside it?"""
    before, slow = path.calls, asyncio.Event()
    path.first.replies += [slow, completion()]
    path.second.replies.append(completion())
    asking = await begin(path, text=text, model="frugal")
    bell.ring()
    await turns()
    slow.set()
    _, journey = await asking
    path.first.replies.clear()
    path.second.replies.clear()
    assert journey.attempts == path.calls - before
    return path.calls - before == 2


async def spend(path, calls):
    for _ in range(calls):
        path.first.replies.append(completion())
        await (await begin(path, text=f"{path.calls}?", model="frugal"))


async def test_nobody_else_is_asked_beyond_the_share(bell):
    path = with_prices(Path(aliases=ROUTES, sleep=bell), a_dollar_a_million)
    assert not await hedged(path, bell, "What?"), "nothing was spent yet"
    await spend(path, 40)
    assert await hedged(path, bell, "How?"), "41 times 8 tokens, of which a twentieth may be lost"
    lost = [attempt for attempt in path.events.attempts if attempt.ending == "lost"]
    assert len(lost) == 1
    assert not await hedged(path, bell, "Why?"), "that was the share"
    path.clock.now += 86_400.0
    assert not await hedged(path, bell, "Who?"), "a new day begins with nothing"


# --- when ---


async def test_the_95th_percentile_is_learned(path, bell):
    for number in range(ENOUGH):
        hold = asyncio.Event()
        path.first.replies += [hold, completion()]
        asking = await begin(path, text=f"{number}?", model="learned")
        path.clock.now += 30.0 if number == 7 else 1.0
        hold.set()
        await asking
    assert bell.asked == [], "of too few nothing is known"
    path.first.replies += [asyncio.Event()]
    path.second.replies.append(completion())
    asking = await begin(path, model="learned")
    assert bell.asked == [1.0]
    path.clock.now += 1.0
    bell.ring()
    _, journey = await asking
    assert journey.target == "second/n"
