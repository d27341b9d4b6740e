"""What an attempt leaves behind: its event, and what is known of its target; and what the next requests make of it."""

import asyncio
from contextlib import aclosing

import pytest

from sentinel_gateway.core.bulletin import CircuitTurned
from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.pricing import FREE
from sentinel_gateway.core.routing import Ability, Route, Target
from sentinel_gateway.core.standing import StandingRules
from sentinel_gateway.errors import (
    InvalidField,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from sentinel_gateway.pipeline.attempt import Try
from sentinel_gateway.ports import NotCarried
from sentinel_gateway.providers._errors import UpstreamTooLong, UpstreamUnstreamed
from tests.fakes import START, FakeProvider, FakeStream, completion, payloads, spoken, turns
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

KEEN = StandingRules(CircuitRules(failures=3, successes=1, pause=60.0))
REFUSED = UpstreamRefused("x", upstream_status=400, upstream_code="content_filter")


@pytest.fixture
async def keen():
    """A path that retries, cools and breaks."""
    path = Path(standing=KEEN)
    yield path
    await path.circuits.close()


async def fail(path, times, error=None, **fields):
    for number in range(times):
        path.first.replies += [error or UpstreamBroken("x")] * 3
        with pytest.raises(UpstreamError):
            await path.ask(question(f"{number}?", **fields))


# --- the event ---


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer(path, stream):
    hold = asyncio.Event()
    path.first.replies += [hold, FakeStream(*spoken("Paris.")) if stream else completion()]
    asking = asyncio.create_task(path.ask(question(stream=stream)))
    await turns()
    path.clock.now += 2.0
    hold.set()
    _, journey = await asking
    (attempt,) = path.events.attempts
    assert (attempt.sentinel_id, attempt.target, attempt.number, attempt.stream) == ("s", "first/m", 1, stream)
    assert (attempt.ending, attempt.error, attempt.at, attempt.seconds) == ("answered", "", START, 2.0)
    assert attempt.first_token_seconds == (2.0 if stream else 0.0)
    assert (attempt.prompt_tokens, attempt.completion_tokens) == (3, 5)
    assert journey.attempts == 1


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (UpstreamBroken("x", failure="json_error"), "broken"),
        (UpstreamError("x"), "broken"),
        (UpstreamLimited("x"), "limited"),
        (UpstreamTimeout("x"), "timeout"),
        (UpstreamUnauthorized("x"), "unauthorized"),
        (UpstreamUnreachable("x"), "unreachable"),
        (REFUSED, "refused"),
    ],
)
async def test_an_error(path, error, ending):
    path.first.replies.append(error)
    with pytest.raises(UpstreamError):
        await path.ask(question())
    (attempt,) = path.events.attempts
    assert (attempt.ending, attempt.error) == (ending, error.kind)


@pytest.mark.parametrize(
    ("error", "asked", "billed"),
    [
        (UpstreamTooLong("x"), {"n": 8, "max_tokens": 5}, 40),
        (UpstreamTooLong("x"), {}, 0),
        (UpstreamUnstreamed("x").of_size(400), {"max_tokens": 5}, 5),
        (UpstreamUnstreamed("x").of_size(400), {"max_tokens": 500}, 100),
        (UpstreamUnstreamed("x").of_size(400), {}, 100),
    ],
)
async def test_what_a_provider_takes_money_for_is_billed_though_nobody_is_given_it(path, error, asked, billed):
    path.first.replies.append(error)
    journey = path.journey()
    with pytest.raises(UpstreamError):
        await path.ask(question(**asked), journey)
    (attempt,) = path.events.attempts
    assert (attempt.ending, attempt.basis) == ("broken", "estimated")
    assert (attempt.prompt_tokens, attempt.completion_tokens) == (12, billed)
    assert journey.completion_tokens == billed


async def test_a_stream_that_breaks_after_its_first_word(keen):
    first, *_ = spoken()
    for number in range(3):
        keen.first.replies.append(FakeStream(first, UpstreamTimeout("silent")))
        with pytest.raises(UpstreamTimeout):
            await keen.ask(question(f"{number}?", stream=True))
    assert [(a.ending, a.error) for a in keen.events.attempts] == [("timeout", "upstream_timeout")] * 3
    assert keen.circuits.states() == {"first/m": "open"}, "nothing is asked again, and it is a failure all the same"


async def test_a_stream_that_is_cut(keen):
    first, *_ = spoken()
    keen.first.replies.append(FakeStream(first, done=False))
    with pytest.raises(UpstreamBroken, match="cut"):
        await keen.ask(question(stream=True))
    (attempt,) = keen.events.attempts
    assert (attempt.ending, attempt.error) == ("broken", "io_error")


async def test_a_caller_who_leaves_says_nothing_of_the_target():
    keen = Path(standing=StandingRules(CircuitRules(failures=4)))
    await fail(keen, 1)
    keen.events.attempts.clear()
    first, *_ = spoken()
    keen.first.replies.append(FakeStream(first, asyncio.Event()))
    live = await keen.handle(question(stream=True), journey := keen.journey())
    async with aclosing(payloads(live)) as batches:
        await anext(batches)
    await keen.pipeline.close(live, journey)
    keen.first.replies.append(asyncio.Event())
    asking = asyncio.create_task(keen.ask(question("Another?")))
    await turns()
    assert keen.circuits.standings.of("first/m").busy == 1
    asking.cancel()
    await turns()
    assert [(a.ending, a.error) for a in keen.events.attempts] == [("left", "")] * 2
    assert [a.completion_tokens for a in keen.events.attempts] == [1, 0], "the one chunk that was heard"
    assert [a.prompt_tokens for a in keen.events.attempts] == [12, 9], "the provider has read it, so it is billed"
    assert journey.completion_tokens == 1
    assert keen.circuits.standings.of("first/m").busy == 0
    assert keen.circuits.standings.of("first/m").circuit.failures == 3
    assert keen.circuits.states() == {}


async def test_an_attempt_says_what_it_is(path):
    journey = path.journey()
    journey.target, journey.attempts = "first/m", 2
    assert repr(Try(path.circuits, journey, FREE, START, again=False, stream=False)) == "<Try 2 first/m>"


# --- what a provider has no word for ---


class Wordless(FakeProvider):
    """A provider whose dialect has no word for what is asked."""

    def complete(self, call):
        raise NotCarried(f"{self.name} can't be given 'logit_bias'.", param="logit_bias")

    open_stream = complete


def wordless(*providers):
    """A path whose `m` goes to these providers, the wordless `first` and the fake `second`."""
    route = Route(tuple(Target(name, f"m{index}") for index, name in enumerate(providers)))
    return Path(standing=KEEN, aliases={"m": route}, first=Wordless("first"))


@pytest.mark.parametrize("stream", [False, True])
async def test_who_has_no_word_for_a_request_costs_it_no_attempt(stream):
    path = wordless("first", "first", "first", "second")
    path.circuits.standings.of("first/m0").circuit.open(path.clock.now - KEEN.circuit.pause)
    path.second.replies.append(FakeStream(*spoken("Paris.")) if stream else completion())
    _, journey = await path.ask(question(model="m", stream=stream))
    assert (journey.attempts, journey.target) == (1, "second/m3")
    assert [(a.number, a.target, a.ending) for a in path.events.attempts] == [(1, "second/m3", "answered")]
    standing = path.circuits.standings.of("first/m0")
    assert (standing.busy, standing.circuit.admits(path.clock.now, last=False)) == (0, True), "it holds no probe"


async def test_what_one_has_no_word_for_hides_no_failure_of_another():
    path = wordless("second", "first", "first")
    path.second.replies += [UpstreamBroken("503"), completion()]
    _, journey = await path.ask(question(model="m"))
    assert (journey.attempts, journey.target) == (2, "second/m0")
    path.second.replies += [UpstreamUnauthorized("our key")]
    with pytest.raises(UpstreamUnauthorized):
        await path.ask(question("Again?", model="m"))


async def test_nobody_has_a_word_for_it():
    path = wordless("first", "first")
    with pytest.raises(NotCarried, match="logit_bias"):
        await path.ask(question(model="m"))
    assert path.events.attempts == []
    path = wordless("first", "second")
    path.circuits.standings.of("second/m1").circuit.open(path.clock.now)
    with pytest.raises(UpstreamBroken, match="second has failed again and again"):
        await path.ask(question(model="m"))


# --- again ---


async def test_the_same_target_is_asked_again_after_a_pause(keen):
    keen.chance = 0.5
    keen.first.replies += [UpstreamBroken("1"), UpstreamTimeout("2"), completion()]
    _, journey = await keen.ask(question())
    assert keen.slept == [0.5, 1.0]
    assert [(a.number, a.ending) for a in keen.events.attempts] == [(1, "broken"), (2, "timeout"), (3, "answered")]
    assert journey.attempts == 3
    assert journey.upstream_ended - journey.upstream_started == 1.5


async def test_three_attempts_are_all(keen):
    keen.first.replies += [UpstreamBroken(str(number)) for number in range(5)]
    with pytest.raises(UpstreamBroken, match="2"):
        await keen.ask(question())
    assert keen.calls == 3


async def test_a_stream_that_never_began_is_asked_for_again(keen):
    keen.first.replies += [FakeStream(), FakeStream(*spoken("Paris."))]
    await keen.ask(question(stream=True))
    assert b"".join(keen.said).count(b"Paris.") == 1


async def test_who_leaves_during_the_pause_leaves_nothing_behind():
    sleeping = []

    async def for_ever(seconds):
        sleeping.append(seconds)
        await asyncio.Event().wait()

    keen = Path(standing=KEEN, sleep=for_ever)
    keen.chance = 0.5
    keen.first.replies.append(UpstreamBroken("x"))
    asking = asyncio.create_task(keen.ask(question()))
    await turns()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert keen.calls == 1
    assert sleeping == [0.5]


async def test_a_429_alone_is_waited_for(keen):
    keen.first.replies += [UpstreamLimited("x", retry_after=20.0), completion()]
    await keen.ask(question())
    assert keen.slept == [20.0]
    keen.first.replies.append(UpstreamLimited("x", retry_after=20.0))
    keen.second.replies += [completion(), completion()]
    await keen.ask(question("One?", model="both"))
    await keen.ask(question("Two?", model="both"))
    assert len(keen.first.calls) == 3, "the second time it was passed over"


# --- circuits ---


async def test_a_target_that_fails_is_passed_over_and_all_are_told(keen):
    keen.second.replies += [completion() for _ in range(5)]
    for number in range(3):
        keen.first.replies.append(UpstreamBroken("x"))
        await keen.ask(question(f"{number}?", model="both"))
    await turns()
    assert keen.circuits.states() == {"first/m": "open"}
    assert keen.circuits.shown() == {"m": "open"}
    assert keen.bulletin.notices == [CircuitTurned("first/m", opened=True)]
    name, fields = keen.events.notes[0]
    assert (name, fields["target"], fields["failures"]) == ("circuit_opened", "first/m", 3)
    await keen.ask(question("Three?", model="both"))
    assert len(keen.first.calls) == 3
    keen.clock.now += 60.0
    keen.first.replies.append(completion())
    _, journey = await keen.ask(question("Four?", model="both"))
    await turns()
    assert journey.target == "first/m"
    assert keen.bulletin.notices[1:] == [CircuitTurned("first/m", opened=False)]
    assert keen.events.notes[1:] == [("circuit_closed", {"target": "first/m"})]
    assert keen.circuits.states() == {}


async def test_the_last_target_is_asked_once_a_second(keen):
    await fail(keen, 1)
    keen.first.replies.clear()
    before = keen.calls
    with pytest.raises(UpstreamBroken, match="once a second"):
        await keen.ask(question("Again?"))
    assert keen.calls == before
    assert keen.events.attempts[-1].ending == "broken"
    keen.clock.now += 1.0
    keen.first.replies.append(completion())
    await keen.ask(question("And again?"))
    assert keen.circuits.states() == {}


async def test_who_says_nothing_of_the_target_takes_no_probe(keen):
    await fail(keen, 1)
    keen.first.replies.clear()
    keen.clock.now += 1.0
    keen.first.replies.append(asyncio.Event())
    asking = asyncio.create_task(keen.ask(question("Left?")))
    await turns()
    asking.cancel()
    await turns()
    assert keen.circuits.states() == {"first/m": "open"}
    keen.first.replies.append(REFUSED)
    with pytest.raises(UpstreamRefused):
        await keen.ask(question("Wrong?"))
    await turns()
    assert keen.circuits.states() == {}, "who refuses is there"
    assert keen.bulletin.notices[-1] == CircuitTurned("first/m", opened=False)


@pytest.mark.parametrize("error", [REFUSED, UpstreamUnauthorized("x"), UpstreamLimited("x", retry_after=0.0)])
async def test_what_is_no_failure_opens_nothing(error):
    path = Path(standing=StandingRules(CircuitRules(failures=3), retry_budget=0.0, cool_down=0.0))
    await fail(path, 5, error)
    assert path.circuits.states() == {}


async def test_what_anybody_can_bring_about_is_not_remembered(path):
    for number in range(20):
        path.first.replies.append(UpstreamRefused("x", upstream_status=404))
        with pytest.raises(UpstreamRefused):
            await path.ask(question(model=f"first/no-such-{number}"))
    assert "of 0 targets" in repr(path.circuits)


async def test_others_tell(keen):
    keen.circuits.hear(CircuitTurned("first/m", opened=False))
    assert keen.circuits.standings.find("first/m") is None
    keen.circuits.hear(CircuitTurned("first/m", opened=True))
    keen.circuits.hear(CircuitTurned("first/m", opened=True))
    keen.second.replies.append(completion())
    _, journey = await keen.ask(question(model="both"))
    assert journey.target == "second/n"
    keen.circuits.hear(CircuitTurned("first/m", opened=False))
    assert keen.circuits.states() == {}
    assert [name for name, _ in keen.events.notes] == ["circuit_opened", "circuit_closed"]
    assert keen.bulletin.notices == [], "what was heard is not told again"


async def test_they_can_be_closed_by_hand(keen):
    for name in ("first/m", "second/m", "second/n"):
        keen.circuits.hear(CircuitTurned(name, opened=True))
    assert keen.circuits.shown() == {"first/m": "open", "second/m": "open", "n": "open"}
    assert keen.circuits.reset("nobody/m") == []
    assert keen.circuits.reset("second/n") == ["second/n"]
    assert keen.circuits.reset(None) == ["first/m", "second/m"]
    await turns()
    assert [notice.opened for notice in keen.bulletin.notices] == [False] * 3


async def test_a_bulletin_that_is_away_stops_nobody(keen):
    keen.bulletin.down = True
    await fail(keen, 1)
    await turns()
    assert keen.circuits.states() == {"first/m": "open"}


# --- routes ---


async def test_the_order_is_the_route_s():
    spread = Route((Target("first", "m"), Target("second", "n")), "least_latency")
    path = Path(aliases={"spread": spread})
    standing = path.circuits.standings.of("first/m")
    standing.succeeded(standing.enter(path.clock(), stream=False, again=False), stream=False, seconds=3.0)
    path.second.replies.append(completion())
    _, journey = await path.ask(question(model="spread"))
    assert journey.target == "second/n"


async def test_what_no_target_can_do_is_said_before_any_is_asked():
    blind = Route((Target("first", "m"),), abilities=(Ability(vision=False, tools=False),))
    path = Path(aliases={"blind": blind})
    content = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(InvalidField, match="No target of 'blind' takes pictures") as caught:
        await path.ask({"model": "blind", "messages": [{"role": "user", "content": content}]})
    assert caught.value.param == "messages"
    assert path.calls == 0
    path.first.replies.append(completion())
    await path.ask(question(model="blind"))
