"""A program in the place of a provider: what it asks, what comes of that, and that it ends with whoever waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.caching import Wish
from sentinel_gateway.core.chat import ChatRequest, Fields
from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.core.pricing import Price, Rates, yocto
from sentinel_gateway.core.routing import Conduct, Directory, Route, Target
from sentinel_gateway.core.standing import StandingRules
from sentinel_gateway.core.tokens import Expected
from sentinel_gateway.errors import LeftAlone, ProgramFailed, TokensLimited, UpstreamBroken
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.handle import Pipeline, Terms
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.predicting import APART, Predicting
from sentinel_gateway.pipeline.reply import Repeated, Reply
from sentinel_gateway.ports import Ask, Completion, Prediction
from sentinel_gateway.stores.memory_limits import MemoryLimits
from sentinel_gateway.terms import of_predictions
from tests.fakes import FakeEvents, completion, turns
from tests.pipeline.conftest import FakeTokens, Party, Path, told

pytestmark = pytest.mark.anyio

ROUTE = Route((Target("first", "m"),))
DRAINED = Route(ROUTE.targets, conduct=Conduct(drain=True))
Run = Callable[[Prediction, Ask], Awaitable[Any]]


class FakeProgram:
    """Takes anything."""

    name = "fake"
    version = "1"

    def __init__(self, *, semantic: bool = False) -> None:
        self.semantic = semantic

    def read(self, given: str | Fields) -> Fields:
        return {"question": given} if isinstance(given, str) else given


class FakePrograms:
    """Runs what it is told to."""

    names = ("fake",)

    def __init__(self, run: Run) -> None:
        self.run = run

    async def load(self) -> None: ...

    def find(self, name: str) -> FakeProgram:
        return FakeProgram()


def body(text: str) -> bytes:
    """What a program asks: of no model in particular."""
    return msgspec.json.encode({"model": "whoever", "messages": [{"role": "user", "content": text}]})


def content(raw: bytes) -> str:
    said: str = msgspec.json.decode(raw)["choices"][0]["message"]["content"]
    return said


def plan(*, semantic: bool = False) -> Plan:
    fields = {"model": "first/m", "messages": [{"role": "user", "content": "q"}]}
    asked = Prediction(fields=fields, model="first/m", program=FakeProgram(semantic=semantic), inputs={}, parameters={})
    return Plan(asked, ROUTE, "key")


class Stage:
    """A program between its caller and the path, whose `first` provider answers what it asks."""

    def __init__(self, path: Path) -> None:
        self.path, self.events = path, FakeEvents()
        self.journey = Journey(at=path.clock(), request_id="r", sentinel_id="s", route="/v1/predict/fake", method="POST")

    def answers(self, *replies: Completion | Exception | asyncio.Event) -> None:
        self.path.first.replies.extend(replies)

    def predict(self, run: Run, *, semantic: bool = False) -> Awaitable[Completion]:
        predicting = Predicting(FakePrograms(run), {False: self.path.pipeline, True: Never()}, self.events, self.path.clock)
        return predicting.complete(plan(semantic=semantic), self.journey)


class Never:
    """A path that must not be taken."""

    async def handle(self, raw: bytes, journey: Journey, *, waiting: Any) -> Reply:
        raise AssertionError("the other path was taken")


@pytest.fixture
def stage(path: Path) -> Stage:
    return Stage(path)


async def test_it_asks_the_model_that_was_named_and_its_caller_is_told_what_that_took(stage: Stage) -> None:
    stage.answers(completion("Paris."), completion("Rome."))

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one"))) + content(await ask(body("two")))

    done = await stage.predict(run)
    first, second = stage.path.first.calls
    assert (first.model, first.fields["model"], second.model) == ("m", "first/m", "m")
    assert done.answer.fields["output"] == done.answer.fields["choices"][0]["message"]["content"] == "Paris.Rome."
    assert msgspec.json.decode(done.raw) == done.answer.fields
    assert done.answer.finish_reasons == ("stop",)
    told = stage.journey
    assert (told.target, told.attempts, told.prompt_tokens, told.completion_tokens) == ("first/m", 2, 6, 10)
    assert done.answer.usage is not None
    assert done.answer.usage.total_tokens == 16
    assert told.paid is not None
    assert (told.paid.prompt_tokens, told.paid.completion_tokens, told.paid.cost) == (6, 10, told.cost)
    assert 0 < told.upstream_started <= told.upstream_ended
    attempts = stage.path.events.attempts
    assert [(one.number, one.sentinel_id, one.route) for one in attempts] == [(n, "s", "/v1/predict/fake") for n in (1, 2)]
    assert stage.path.events.records == [], "it is one request, which others tell of"


async def test_what_it_has_cost_is_the_sum_and_an_estimate_makes_all_of_it_one(stage: Stage) -> None:
    stage.path.prices["first/m"] = 1
    without = {"choices": [{"message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
    stage.answers(completion("a"), Completion(b"{}", completion("a").answer))
    stage.path.first.replies[1] = _without_usage(without)

    async def run(asked: Prediction, ask: Ask) -> dict[str, int]:
        await ask(body("one"))
        await ask(body("two"))
        return {"words": 2}

    done = await stage.predict(run)
    assert (done.answer.fields["output"], content(done.raw)) == ({"words": 2}, '{"words":2}')
    assert stage.journey.cost > 8_000
    assert stage.journey.basis == "estimated"


def _without_usage(fields: Fields) -> Completion:
    answer = completion("a").answer
    return Completion(msgspec.json.encode(fields), msgspec.structs.replace(answer, fields=fields, usage=None))


async def test_what_is_stored_is_not_asked_and_costs_nothing(stage: Stage) -> None:
    stage.answers(completion("Paris."))

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one"))) + content(await ask(body("one")))

    done = await stage.predict(run)
    assert done.answer.fields["output"] == "Paris.Paris."
    assert len(stage.path.first.calls) == 1
    assert (stage.journey.attempts, stage.journey.prompt_tokens) == (1, 3)


async def test_its_caller_s_wish_holds_for_what_it_asks(stage: Stage) -> None:
    stage.answers(completion("one"), completion("two"))
    stage.journey.wish = Wish(read=False, write=False, bypass=True)

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("q"))) + content(await ask(body("q")))

    assert (await stage.predict(run)).answer.fields["output"] == "onetwo"
    assert stage.path.near.entries == {}


async def test_asked_afresh_it_takes_nothing_stored_and_leaves_nothing(stage: Stage) -> None:
    stage.answers(completion("one"), completion("two"))

    async def run(asked: Prediction, ask: Ask) -> str:
        texts = [content(await ask(body("q"))), content(await ask(body("q"), fresh=True)), content(await ask(body("q")))]
        return " ".join(texts)

    assert (await stage.predict(run)).answer.fields["output"] == "one two one"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_what_is_made_of_an_answer_that_is_not_whole_is_not_whole(stage: Stage, reason: str) -> None:
    stage.answers(completion("a", finish=reason), completion("b"))

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one"))) + content(await ask(body("two")))

    assert (await stage.predict(run)).answer.finish_reasons == (reason,)


async def test_so_it_is_where_that_was_stored(stage: Stage) -> None:
    stage.answers(completion("a", finish="length"))
    limited = msgspec.json.encode(msgspec.json.decode(body("one")) | {"max_tokens": 9})

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(limited))

    for _ in range(2):
        assert (await stage.predict(run)).answer.finish_reasons == ("length",)
    assert len(stage.path.first.calls) == 1


async def test_attempts_have_numbers_of_their_own_also_side_by_side(stage: Stage) -> None:
    hold = asyncio.Event()
    stage.answers(completion("0"), hold, completion("1"), completion("2"), completion("3"))

    async def run(asked: Prediction, ask: Ask) -> str:
        await ask(body("zero"))
        slow = asyncio.create_task(ask(body("one")))
        await turns()
        fast = asyncio.create_task(ask(body("two")))
        await turns()
        hold.set()
        await asyncio.gather(slow, fast)
        await ask(body("three"))
        return "done"

    await stage.predict(run)
    numbers = [attempt.number for attempt in stage.path.events.attempts]
    assert sorted(numbers) == [1, 2, 2 + APART, 3 + APART]
    assert stage.journey.attempts == 4


async def test_an_error_comes_through_to_the_program_and_what_it_cost_is_told(stage: Stage) -> None:
    stage.answers(UpstreamBroken("told to"), completion("after all"))

    async def run(asked: Prediction, ask: Ask) -> str:
        with pytest.raises(UpstreamBroken):
            await ask(body("one"))
        return content(await ask(body("one")))

    assert (await stage.predict(run)).answer.fields["output"] == "after all"
    assert stage.journey.attempts == 2


async def test_where_nobody_was_asked_that_is_said(make_path: Callable[..., Path]) -> None:
    stage = Stage(make_path(standing=StandingRules(CircuitRules(failures=1), retry_budget=0.0, cool_down=0.0)))
    stage.answers(UpstreamBroken("told to"))

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one")))

    with pytest.raises(UpstreamBroken, match="told to"):
        await stage.predict(run)
    with pytest.raises(LeftAlone, match="again and again"):
        await stage.predict(run)
    assert len(stage.path.first.calls) == 1


async def test_whoever_leaves_ends_what_is_asked_and_what_would_be(stage: Stage) -> None:
    stage.answers(asyncio.Event(), asyncio.Event())
    asks: list[Ask] = []

    async def run(asked: Prediction, ask: Ask) -> str:
        asks.append(ask)
        await asyncio.gather(ask(body("one")), ask(body("two")))
        raise AssertionError("it went on")

    predicting = asyncio.ensure_future(stage.predict(run))
    await turns()
    assert len(stage.path.first.calls) == 2
    predicting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await predicting
    assert [attempt.ending for attempt in stage.path.events.attempts] == ["left", "left"]
    assert stage.journey.attempts == 2
    with pytest.raises(asyncio.CancelledError):
        await asks[0](body("three"))
    assert len(stage.path.first.calls) == 2


async def test_what_it_asks_beside_is_let_go_when_it_has_put_out(stage: Stage) -> None:
    stage.answers(asyncio.Event())
    beside: list[asyncio.Task[bytes]] = []

    async def run(asked: Prediction, ask: Ask) -> str:
        beside.append(asyncio.ensure_future(ask(body("one"))))
        await turns()
        return "done"

    assert (await stage.predict(run)).answer.fields["output"] == "done"
    assert beside[0].cancelled()


async def test_a_failure_of_its_own_is_told_the_operator(stage: Stage) -> None:
    async def run(asked: Prediction, ask: Ask) -> str:
        try:
            return {"a": "b"}["canary"]
        except LookupError as exc:
            raise ProgramFailed("It failed.") from exc

    with pytest.raises(ProgramFailed):
        await stage.predict(run)
    ((name, about),) = stage.events.notes
    assert (name, about["program"], about["error"], about["sentinel_id"]) == ("program_failed", "fake", "KeyError", "s")
    assert str(about["at"]).startswith("test_predicting.py:")


async def test_reworded_questions_answer_it_if_it_says_so(stage: Stage) -> None:
    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one")))

    with pytest.raises(AssertionError, match="the other path"):
        await stage.predict(run, semantic=True)


async def test_it_takes_tokens_and_no_second_request_of_its_caller_s_limits(make_path: Callable[..., Path]) -> None:
    def estimate(_: Plan) -> FakeTokens:
        return FakeTokens(Expected(60, 10), told())

    stage = Stage(make_path(estimate=estimate))
    limiter = Limiter(MemoryLimits(clock=stage.path.clock), rules=LimitRules(), clock=stage.path.clock, chance=lambda: 0.0)
    party = Party(limits=Limits(requests_per_minute=1, tokens_per_minute=100, concurrency=1))
    grant = stage.journey.grant = limiter.grant(party)
    await grant.enter(model="first/m")
    stage.answers(completion("a"), completion("b"))

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one"))) + content(await ask(body("two")))

    await stage.predict(run)
    requests, tokens = grant.standings()
    assert requests is not None
    assert tokens is not None
    assert (requests.remaining, tokens.remaining) == (0, 32), "when they were last looked at: 60 were reserved after 8 were used"

    async def three(asked: Prediction, ask: Ask) -> str:
        await asyncio.gather(ask(body("three")), ask(body("four")))
        return ""

    stage.answers(completion("c"), completion("d"))
    with pytest.raises(TokensLimited):
        await stage.predict(three)
    part = grant.part()
    await part.spoiled()
    await part.leave()
    assert part.standings() == (None, None)


async def test_each_of_its_questions_that_has_no_bound_is_given_what_is_left_of_a_budget(make_path: Callable[..., Path]) -> None:
    """Anew for each: what the first held and did not take is there for the second."""

    def estimate(_: Plan) -> FakeTokens:
        return FakeTokens(Expected(60, 10), told())

    rate = yocto(Fraction(1))
    price = Price(Rates.of({"input": rate, "output": rate}))
    stage = Stage(make_path(estimate=estimate, costing=Costing(lambda _: price, output=4096)))
    stage.path.prices["first/m"] = 1
    limiter = Limiter(MemoryLimits(clock=stage.path.clock), rules=LimitRules(), clock=stage.path.clock, chance=lambda: 0.0)
    budget, party = 1_000_000, Party(limits=Limits(), budget=Budget(day=1_000_000))
    grant = stage.journey.grant = limiter.grant(party)
    await grant.enter(model="first/m")
    stage.answers(completion("a"), completion("b"))

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one"))) + content(await ask(body("two")))

    assert (await stage.predict(run)).answer.fields["output"] == "ab"
    bounds = [call.fields["max_tokens"] for call in stage.path.first.calls]
    assert bounds == [(budget - 10_000) // 1000, (budget - 8_000 - 10_000) // 1000], "an answer takes 8,000 nano-USD"
    later = limiter.grant(party)
    await later.enter(model="first/m")
    [(_, account)] = later.budgets()
    assert (account.settled, account.held, stage.journey.cost) == (16_000, 0, 16_000)


async def test_it_is_not_drained_when_nobody_waits_any_more(path: Path) -> None:
    """Its route may say so: that is for the answers to what it asks, each of which is one."""
    path.drains.most = 1
    terms = Terms(Admission(Capacity(8, 0, 0.0), lambda: 0.0), drains=path.drains)
    hold = asyncio.Event()
    path.first.replies += [hold, completion("a"), completion("b")]

    async def run(asked: Prediction, ask: Ask) -> str:
        return content(await ask(body("one"))) + content(await ask(body("two")))

    asked = plan()
    whole = Pipeline(
        terms=of_predictions(terms),
        planner=Planner("predict", lambda _: asked.request, lambda: Directory({"first/m": DRAINED}, ("first",), {}, {})),
        tiers=path.tiers,
        semantic=None,
        dispatch=Predicting(FakePrograms(run), {False: path.pipeline}, path.events, path.clock),
        settlement=path.settlement,
    )
    asking = asyncio.ensure_future(whole.handle(b"{}", path.journey(), waiting=_nobody))
    await turns(20)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    hold.set()
    await turns(20)
    assert [attempt.ending for attempt in path.events.attempts] == ["left"]


async def _nobody(_: Plan) -> None: ...


async def test_it_is_no_stream_nor_anything_but_a_prediction(stage: Stage) -> None:
    async def run(asked: Prediction, ask: Ask) -> str:
        return ""

    predicting = Predicting(FakePrograms(run), {}, stage.events, stage.path.clock)
    with pytest.raises(TypeError, match="none is streamed"):
        predicting.read_stream(plan(), stage.journey, None)
    with pytest.raises(TypeError, match="no program answers"):
        await predicting.complete(Plan(ChatRequest({}, "m"), ROUTE, "key"), stage.journey)
    assert "FakePrograms" in repr(predicting)


async def test_a_reply_that_no_question_has_is_a_fault(stage: Stage) -> None:
    class Odd:
        async def handle(self, raw: bytes, journey: Journey, *, waiting: Callable[[Plan], Awaitable[None]]) -> Reply:
            await waiting(plan())
            return Repeated(plan(), completion("a"), None)  # type: ignore[arg-type] - as no path replies to it

    async def run(asked: Prediction, ask: Ask) -> str:
        assert "1 under way" not in repr(ask.__self__)  # type: ignore[attr-defined] - it is a method
        return content(await ask(body("one")))

    with pytest.raises(TypeError, match="neither for streams"):
        await Predicting(FakePrograms(run), {False: Odd()}, stage.events, stage.path.clock).complete(plan(), stage.journey)
