"""Evidence on the path: what is kept of semantic hits, and what feedback does."""

import asyncio
import math
from contextlib import suppress

import msgspec
import pytest
from msgspec.structs import replace

from sentinel_gateway.core.access import Caller, caller_of
from sentinel_gateway.core.budget import ErrorBudget, ErrorBudgets
from sentinel_gateway.core.bulletin import CacheCleared
from sentinel_gateway.core.caching import Selector, Step
from sentinel_gateway.core.confidence.curve import Point
from sentinel_gateway.core.confidence.features import NAMES
from sentinel_gateway.core.confidence.learner import Fit, Prior
from sentinel_gateway.core.evidence import Decision, Label
from sentinel_gateway.core.experiments import Arm, Place
from sentinel_gateway.core.judging import Case
from sentinel_gateway.core.tightening import OFF, Stance
from sentinel_gateway.errors import InvalidField, StoreDown, UpstreamError, UpstreamUnreachable
from sentinel_gateway.pipeline import evidence, evidence_log
from sentinel_gateway.pipeline.evidence import Habits, Means
from sentinel_gateway.pipeline.evidence_log import EvidenceLog
from sentinel_gateway.pipeline.handle import Cached, Whole
from sentinel_gateway.telemetry.lines import Event, json_line
from tests.core.keys import KEY
from tests.fakes import FakeStream, completion, spoken, turns
from tests.gateway import until
from tests.pipeline.conftest import question
from tests.pipeline.loop import credulous
from tests.pipeline.test_path import content
from tests.pipeline.test_semantic import ASKED, OTHER, REWORDED, learn, missed

pytestmark = pytest.mark.anyio


SURE = Fit((*Prior().weights[:-1], 30.0), (Point(0.0, 0.0, 0.0),), labels=1_000)


@pytest.fixture
async def path(make_path):
    path = make_path(semantic=True, judged=True)
    yield path
    await path.evidence.close()


async def hit(path, text=REWORDED, id="s-1", request_id="r-1", tenant=""):  # noqa: A002 - its name
    journey = path.journey()
    journey.sentinel_id, journey.request_id = id, request_id
    reply, _ = await path.ask(question(text), journey)
    assert isinstance(reply, Cached)
    return journey


async def hear(path, id="s-1", *, correct=False):  # noqa: A002 - its name
    return await path.evidence.hear(id, tenant="", correct=correct)


async def test_a_semantic_hit_is_kept_without_a_word_of_it(path):
    await learn(path, ASKED)
    await hit(path)
    await path.evidence.close()
    (kept,) = path.kept.decisions.values()
    (entry,) = path.near.entries.values()
    assert (kept.id, kept.request_id, kept.tenant, kept.at) == ("s-1", "r-1", "", path.clock.now)
    assert (kept.scope, kept.entry, kept.owner) == (entry.scope, entry.key, entry.tenant)
    assert 0.95 <= kept.similarity < 1
    assert not any("capital" in str(value) for value in (kept.scope, kept.entry))


async def test_exact_hits_and_misses_are_no_evidence(path):
    await learn(path, ASKED, OTHER)
    reply, _ = await path.ask(question(ASKED))
    assert isinstance(reply, Cached)
    await path.evidence.close()
    assert path.kept.decisions == {}


@pytest.mark.parametrize("name", ["s-1", "r-1"])
async def test_a_wrong_hit_is_evicted_everywhere_and_counted_once(path, name):
    await learn(path, ASKED, OTHER)
    await hit(path)
    for _ in range(3):
        decision = await hear(path, name)
        assert decision is not None
        assert decision.id == "s-1"
    assert path.evidence.heard == {True: 0, False: 1}
    for tier in (path.near.entries, path.far.entries):
        assert [entry.text for entry in tier.values()] == [OTHER]
    assert [head.text for head in path.index.heads.values()] == [OTHER]
    assert path.bulletin.notices == [CacheCleared(Selector(tenant="", keys=frozenset({decision.entry})))] * 2
    path.first.replies.append(completion("Anew."))
    reply, _ = await path.ask(question(REWORDED))
    assert isinstance(reply, Whole)


async def test_a_right_hit_stays_and_is_counted(path):
    await learn(path, ASKED)
    await hit(path)
    for _ in range(2):
        await hear(path, correct=True)
    assert path.evidence.heard == {True: 1, False: 0}
    await hit(path, id="s-2", request_id="r-2")


async def test_who_changes_its_mind_is_heard(path):
    await learn(path, ASKED)
    await hit(path)
    await hear(path, correct=True)
    await hear(path, correct=False)
    assert path.evidence.heard == {True: 1, False: 1}
    assert path.near.entries == {}
    (label,) = path.kept.said.values()
    assert (label.source, label.correct) == ("feedback", False)


async def test_the_same_said_twice_at_once_counts_once(path):
    await learn(path, ASKED)
    await hit(path)
    await asyncio.gather(*(hear(path) for _ in range(5)))
    assert path.evidence.heard[False] == 1


async def test_an_id_of_nobody_and_of_another_tenant(path):
    await learn(path, ASKED)
    await hit(path)
    assert await hear(path, "s-2") is None
    assert await path.evidence.hear("s-1", tenant="other", correct=False) is None
    assert len(path.near.entries) == 1


async def test_feedback_that_could_not_evict_is_to_be_said_again(path):
    await learn(path, ASKED)
    await hit(path)
    path.far.down = True
    with pytest.raises(StoreDown):
        await hear(path)
    assert path.evidence.heard[False] == 0
    path.far.down = False
    await hear(path)
    assert path.evidence.heard[False] == 1
    assert path.far.entries == {}


async def test_a_store_that_is_away_costs_no_answer_and_is_caught_up_with(path, monkeypatch):
    monkeypatch.setattr(evidence_log, "PAUSE", 0.0)
    await learn(path, ASKED)
    path.kept.down = True
    for number in range(3):
        await hit(path, id=f"s-{number}")
        for _ in range(5):
            await asyncio.sleep(0)
    assert [event for event, _ in path.events.notes] == ["evidence_waits"]
    with pytest.raises(StoreDown):
        await hear(path)
    path.kept.down = False
    await hit(path, id="s-3")
    await path.evidence.close()
    assert list(path.kept.decisions) == ["s-0", "s-1", "s-2", "s-3"]


async def test_what_waits_is_bounded_and_written_in_lots(path, monkeypatch):
    monkeypatch.setattr(evidence_log, "WAITING", 5)
    monkeypatch.setattr(evidence_log, "AT_ONCE", 2)
    await learn(path, ASKED)
    for number in range(7):
        await hit(path, id=f"s-{number}")
    assert [event for event, _ in path.events.notes] == ["evidence_lost"]
    assert "5 waiting" in repr(path.evidence.log)
    await path.evidence.close()
    assert path.kept.lots == [(2, 1), (2, 0), (1, 0)]


async def test_what_waits_at_the_end_is_written_or_let_go(path):
    await learn(path, ASKED)
    await hit(path)
    path.kept.down = True
    await path.evidence.close()
    path.kept.down = False
    await path.evidence.close()
    assert list(path.kept.decisions) == ["s-1"]


# -- exploration


def explore(path, *, exploration=0.5, audit=0.0, shadow=False, judge=None, budget=1.0, simulated=frozenset()):
    """Compare so many hits; `judge` says how the two answers compare."""
    dispatch = path.pipeline._dispatch  # noqa: SLF001 - the wiring has it
    path.evidence.use(Habits(exploration, audit, shadow, simulated, "m", budget), dispatch, lambda: None)
    path.judge = FakeJudge(judge)
    path.evidence.means = Means(path.judge, dispatch.complete)


class FakeJudge:
    """Says the same of all cases, and which they were."""

    def __init__(self, verdict) -> None:
        self.verdict = verdict
        self.cases: list[Case] = []
        self.free: list[Case] = []
        """Those that it was not to ask a model about."""
        self.hold: asyncio.Event | None = None

    async def compare(self, case: Case):
        self.cases.append(case)
        if self.hold is not None:
            await self.hold.wait()
        return self.verdict

    async def agree(self, case: Case):
        self.free.append(case)
        return self.verdict


@pytest.fixture
async def drawn(path):
    """A path on which the next hit is explored."""
    await learn(path, ASKED, answer="Paris.")
    explore(path)
    return path


async def settle(path):
    for _ in range(50):
        await asyncio.sleep(0)
    await path.evidence.log.flush()


async def explored(path, answer="Lyon.", id="s-1", **fields):  # noqa: A002 - its name
    path.first.replies.append(answer if isinstance(answer, UpstreamError | FakeStream) else completion(answer))
    journey = path.journey()
    journey.sentinel_id, journey.request_id = id, "r-1"
    reply, _ = await path.ask(question(REWORDED, **fields), journey)
    await settle(path)
    return reply, journey


@pytest.mark.parametrize("verdict", [True, False])
async def test_an_explored_hit_is_answered_by_the_provider_and_compared(drawn, verdict):
    drawn.judge.verdict = verdict
    reply, journey = await explored(drawn)
    assert reply.completion.answer.fields["choices"][0]["message"]["content"] == "Lyon."
    assert journey.outcome == "miss"
    assert journey.miss.steps[0] == Step("vector", "miss", "explored")
    assert drawn.judge.cases == [Case(REWORDED, "Lyon.", "Paris.")]
    (decision,) = drawn.kept.decisions.values()
    assert (decision.id, decision.kind, decision.drawn) == ("s-1", "explored", 0.5)
    assert drawn.kept.said == {("s-1", "judge"): Label("s-1", "judge", verdict, drawn.clock.now)}
    assert drawn.evidence.compared == {True: int(verdict), False: int(not verdict), None: 0}
    assert ASKED in {entry.text for entry in drawn.near.entries.values()}, "the stored answer was given to nobody"
    assert await hear(drawn) is None, "feedback would be on the provider's answer"


async def test_the_answer_of_an_explored_request_is_kept_as_any_other(drawn):
    await explored(drawn)
    reply, journey = await drawn.ask(question(REWORDED))
    assert (content(reply), journey.outcome) == ("Lyon.", "exact")


async def test_an_explored_stream_is_compared_once_it_has_ended(drawn):
    drawn.judge.verdict = True
    await explored(drawn, FakeStream(*spoken("Pa", "ris.")), stream=True)
    assert drawn.judge.cases == [Case(REWORDED, "Paris.", "Paris.")]


@pytest.mark.parametrize(
    "answer",
    [
        FakeStream(*list(spoken("Pa"))[:-2], done=False),
        completion("Par", finish="length"),
        completion(None, finish="tool_calls", tool_calls=[{"id": "c", "function": {"name": "f"}}]),
    ],
    ids=["cut", "too long", "a call"],
)
async def test_an_answer_that_was_not_said_to_its_end_is_no_evidence(drawn, answer):
    drawn.first.replies.append(answer)
    with suppress(UpstreamError):
        await drawn.ask(question(REWORDED, stream=isinstance(answer, FakeStream), max_tokens=9))
    await settle(drawn)
    assert drawn.judge.cases == []
    assert [kept.kind for kept in drawn.kept.decisions.values()] == ["explored"]


async def test_where_no_provider_answers_the_hit_serves_after_all(drawn):
    reply, journey = await explored(drawn, UpstreamUnreachable("gone"))
    assert isinstance(reply, Cached)
    assert (content(reply), journey.outcome, journey.tier, journey.miss) == ("Paris.", "semantic", "vector", None)
    assert [(kept.kind, kept.drawn) for kept in drawn.kept.decisions.values()] == [("served", 0.0)]
    assert drawn.judge.cases == []


async def test_nobody_else_waits_for_what_is_explored(drawn):
    arrives = asyncio.Event()
    drawn.first.replies += [arrives, completion("Lyon.")]
    first = asyncio.create_task(drawn.ask(question(REWORDED)))
    await drawn.first.reached.wait()
    await turns()
    drawn.chance = 0.9
    async with asyncio.timeout(5):
        reply, _ = await drawn.ask(question(REWORDED))
    assert isinstance(reply, Cached)
    arrives.set()
    reply, _ = await first
    assert isinstance(reply, Whole)


async def test_a_provider_that_fails_without_a_hit_is_an_error_as_ever(drawn):
    drawn.first.replies.append(UpstreamUnreachable("gone"))
    with pytest.raises(UpstreamUnreachable):
        await drawn.ask(question(OTHER))


async def test_who_wants_nothing_but_what_is_stored_is_not_explored(drawn):
    reply, _ = await drawn.ask(question(REWORDED), drawn.journey(only_if_cached=True))
    assert isinstance(reply, Cached)


async def test_who_sets_a_threshold_is_in_no_rate(drawn):
    drawn.index.heads.pop("none", None)
    reply, _ = await drawn.ask(question(REWORDED), drawn.journey(similarity_threshold=0.9))
    assert isinstance(reply, Cached)
    drawn.first.replies.append(completion())
    await drawn.ask(question(OTHER), drawn.journey(similarity_threshold=0.9))
    await settle(drawn)
    assert [kept.drawn for kept in drawn.kept.decisions.values()] == [0.0]
    assert drawn.kept.counts == []


async def test_what_is_counted_is_what_reached_the_decision(drawn):
    explore(drawn, exploration=0.0)
    await drawn.ask(question(REWORDED))
    drawn.first.replies += [completion(), completion()]
    await drawn.ask(question(OTHER))
    await drawn.ask(question("Who?", temperature=0.1))  # alone in its scope
    await settle(drawn)
    assert [(count.reached, count.hits) for count in drawn.kept.counts] == [(2, 1)]
    standings = await drawn.evidence.log.estimate()
    assert (standings.overall.reached, standings.overall.hits) == (2, 1)
    assert standings.overall.wrong.high == 1.0


async def test_chance_decides(drawn):
    drawn.chance = 0.5
    reply, _ = await drawn.ask(question(REWORDED))
    assert isinstance(reply, Cached)


async def test_an_error_of_the_judge_is_an_open_case(drawn):
    drawn.kept.down = True
    drawn.first.replies.append(completion("Lyon."))
    drawn.judge.verdict = True
    await drawn.ask(question(REWORDED))
    for _ in range(50):
        await asyncio.sleep(0)
    assert drawn.evidence.compared == {True: 0, False: 0, None: 1}
    drawn.kept.down = False


async def test_what_nobody_can_tell_is_no_label(drawn):
    await explored(drawn)
    assert drawn.kept.said == {}
    assert drawn.evidence.compared[None] == 1


async def test_comparisons_that_wait_are_bounded_and_let_go_at_the_end(drawn, monkeypatch):
    monkeypatch.setattr(evidence, "WAITING", 1)
    drawn.judge.hold = asyncio.Event()
    for number in range(4):
        drawn.near.entries = {key: entry for key, entry in drawn.near.entries.items() if entry.text == ASKED}
        drawn.far.entries.clear()
        await explored(drawn, id=f"s-{number}")
    assert len(drawn.judge.cases) == 1
    assert "1 to compare" in repr(drawn.evidence)
    await drawn.evidence.close()
    assert len(drawn.judge.cases) == 1


# -- what it costs


async def test_nothing_is_explored_beyond_the_budget(path):
    path.prices = {"first/m": 100}
    await learn(path, ASKED, OTHER)
    explore(path, budget=0.5)
    _, journey = await explored(path)  # one of three calls
    assert journey.miss.steps[0].detail == "explored"
    await path.tiers.clear(Selector(keys=frozenset({key for key, entry in path.near.entries.items() if entry.text == REWORDED})))
    reply, _ = await path.ask(question(REWORDED))
    assert isinstance(reply, Cached), "one more would be two of four"
    whole, spent = path.evidence.spending.today()
    assert spent == pytest.approx(whole / 3)


async def restarted(make_path, path):
    """Another process with the same evidence, the same prices and the same question answered."""
    other = make_path(semantic=True, judged=True)
    other.kept.spendings, other.prices = path.kept.spendings, path.prices
    await other.evidence.open()
    return other


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_restart_gives_no_new_budget(make_path, path, end):
    path.prices = {"first/m": 100}
    await learn(path, ASKED, OTHER)
    explore(path, budget=0.5)
    await explored(path)  # one of three calls
    if end == "stopped":
        await path.evidence.close()
    other = await restarted(make_path, path)
    assert other.evidence.spending.today() == pytest.approx(path.evidence.spending.today())
    await learn(other, ASKED)  # a fourth
    explore(other, budget=0.49)
    assert isinstance((await other.ask(question(REWORDED)))[0], Cached), "one more would be two to four"
    explore(other, budget=0.5)
    assert (await explored(other))[1].miss.steps[0].detail == "explored"
    await other.evidence.close()


async def test_what_a_store_that_is_away_could_not_keep_is_kept_later(make_path, path):
    path.prices = {"first/m": 100}
    await learn(path, ASKED)
    explore(path)
    path.kept.down = True
    with pytest.raises(StoreDown):
        await explored(path)  # to flush what is known of it
    path.kept.down = False
    assert path.kept.spendings == {}
    await path.evidence.close()
    other = await restarted(make_path, path)
    assert other.evidence.spending.today() == pytest.approx(path.evidence.spending.today())


async def test_the_demo_is_not_explored(drawn):
    explore(drawn, simulated=frozenset({"first"}))
    assert isinstance((await drawn.ask(question(REWORDED)))[0], Cached)


# -- shadow mode and audits


async def test_in_shadow_mode_nothing_is_served_and_all_is_compared(drawn):
    explore(drawn, exploration=0.0, shadow=True, judge=True)
    drawn.chance = 0.99
    reply, journey = await explored(drawn)
    assert isinstance(reply, Whole)
    assert journey.miss.steps[0].detail == "explored"
    assert [(kept.kind, kept.drawn) for kept in drawn.kept.decisions.values()] == [("explored", 1.0)]
    assert len(drawn.judge.cases) == 1


async def test_in_shadow_mode_answers_of_the_demo_are_counted_and_not_compared(drawn):
    explore(drawn, shadow=True, judge=False, simulated=frozenset({"first"}))
    reply, _ = await explored(drawn)
    assert isinstance(reply, Whole)
    assert drawn.judge.cases == []
    assert [kept.drawn for kept in drawn.kept.decisions.values()] == [0.0]
    assert [(count.reached, count.hits) for count in drawn.kept.counts] == [(1, 1)]


async def test_in_shadow_mode_nothing_is_served_where_the_provider_fails_or_a_threshold_is_set(drawn):
    explore(drawn, shadow=True)
    drawn.first.replies.append(UpstreamUnreachable("gone"))
    with pytest.raises(UpstreamUnreachable):
        await drawn.ask(question(REWORDED))
    drawn.first.replies.append(completion("Lyon."))
    reply, _ = await drawn.ask(question(REWORDED), drawn.journey(similarity_threshold=0.9))
    assert isinstance(reply, Whole)
    await settle(drawn)
    assert drawn.kept.decisions == {}


async def test_an_audited_hit_is_served_and_compared_beside_the_path(drawn):
    explore(drawn, exploration=0.0, audit=0.5, judge=True)
    drawn.first.replies.append(completion("Lyon."))
    reply, _ = await drawn.ask(question(REWORDED))
    assert isinstance(reply, Cached)
    await settle(drawn)
    assert drawn.judge.cases == [Case(REWORDED, "Lyon.", "Paris.")]
    assert [(kept.kind, kept.drawn) for kept in drawn.kept.decisions.values()] == [("served", 0.5)]
    assert ASKED in {entry.text for entry in drawn.near.entries.values()}


async def test_an_audit_is_the_operator_s_call_and_not_the_caller_s(drawn):
    explore(drawn, exploration=0.0, audit=0.5, judge=True)
    drawn.first.replies.append(completion("Lyon."))
    journey = drawn.journey()
    journey.caller = Caller("key_1", "", frozenset({"inference"}))
    reply, _ = await drawn.ask(question(REWORDED), journey)
    assert isinstance(reply, Cached)
    await settle(drawn)
    assert [attempt.key for attempt in drawn.events.attempts] == ["anybody"] * len(drawn.events.attempts)
    assert len(drawn.judge.cases) == 1


async def test_an_audit_that_finds_a_wrong_answer_evicts_it(drawn):
    explore(drawn, exploration=0.0, audit=0.5, judge=False)
    drawn.first.replies.append(completion("Lyon."))
    await drawn.ask(question(REWORDED))
    await settle(drawn)
    assert drawn.near.entries == drawn.far.entries == {}


async def test_an_audit_whose_provider_fails_is_an_open_case(drawn):
    explore(drawn, exploration=0.0, audit=1.0, judge=True)
    drawn.first.replies.append(UpstreamUnreachable("gone"))
    await drawn.ask(question(REWORDED))
    await settle(drawn)
    assert drawn.evidence.compared[None] == 1


async def test_an_audit_that_no_target_takes_any_more_is_an_open_case_and_the_next_goes_on(drawn):
    explore(drawn, exploration=0.0, audit=0.5, judge=True)
    ask = drawn.evidence.means.ask
    asked = []

    async def reloaded(plan, journey):
        asked.append(journey)
        if len(asked) == 1:
            raise InvalidField("No target takes it.", param="tools")
        return await ask(plan, journey)

    drawn.evidence.means = Means(drawn.judge, reloaded)
    drawn.first.replies.append(completion("Paris."))
    for number in range(2):
        await hit(drawn, id=f"s-{number}")
    await settle(drawn)
    assert drawn.evidence.compared == {True: 1, False: 0, None: 1}


async def test_without_means_nothing_is_compared(path):
    await learn(path, ASKED)
    path.evidence.habits = Habits(audit=1.0)
    await hit(path)
    await settle(path)
    assert path.evidence.compared[None] == 1


# -- what is learned


def learned(path):
    """Labels and requests that were learned from, of all that share this realm."""
    (stands,) = path.evidence.calibration.standings(0.01)
    return path.evidence.calibration._ward(stands.realm).learner  # noqa: SLF001 - labels are shown only after a refit


def rows(path):
    said = {0.0: False, 1.0: True}  # else nobody can tell
    found = (row for block in learned(path).work().blocks for row in block.tolist())
    return [(said.get(right), weight, told > 0.0) for _, told, right, weight, _, _ in found]


async def test_what_is_served_is_weighed_and_its_numbers_are_kept(drawn):
    drawn.chance = 0.9
    journey = await hit(drawn)
    await settle(drawn)
    (kept,) = drawn.kept.decisions.values()
    assert kept.realm == journey.realm == "\n"
    assert kept.weighed == journey.weighed
    assert 0 < kept.weighed.confidence < 1
    assert rows(drawn) == [], "who was not drawn teaches nothing"
    assert drawn.evidence.told == (journey.similarity, 1)


@pytest.mark.parametrize("verdict", [True, False, None])
async def test_an_explored_hit_teaches_for_all_that_it_stands_for(drawn, verdict):
    drawn.judge.verdict = verdict
    await explored(drawn)
    assert rows(drawn) == [(verdict, 2.0, True)]


async def test_an_explored_answer_is_held_against_all_that_stood_near_without_asking_a_model(drawn):
    await learn(drawn, "What is the capital of Frances?", answer="Paris!", journey=drawn.journey(read=False))
    drawn.judge.verdict = True
    await explored(drawn)
    assert [case.stored for case in drawn.judge.cases] == ["Paris."]
    assert sorted(case.stored for case in drawn.judge.free) == ["Paris!", "Paris."]
    assert len(learned(drawn).kinship.verdicts()) == 3


async def test_a_miss_teaches_by_the_answer_that_it_brings(drawn):
    drawn.evidence.habits = msgspec.structs.replace(drawn.evidence.habits, least=0.7)
    drawn.judge.verdict = False
    drawn.first.replies.append(completion("Madrid."))
    await drawn.ask(question("Please tell me the capital of France"))
    await settle(drawn)
    assert drawn.judge.cases == [], "no model is asked"
    assert [case.stored for case in drawn.judge.free] == ["Paris."]
    assert rows(drawn) == [(False, 1.0, True)]
    assert drawn.kept.decisions == {}


class TripsOnce:
    """An `Aside` whose first rule trips, once it is let go on."""

    def __init__(self) -> None:
        self.go_on, self.trips = asyncio.Event(), True

    async def __call__(self, rule):
        if self.trips:
            await self.go_on.wait()
            self.trips = False
            return {}[question]
        return rule()

    def close(self) -> None: ...


async def test_a_rule_that_trips_over_a_text_keeps_no_other_comparison_waiting(drawn):
    aside = drawn.evidence.calibration.aside = TripsOnce()
    drawn.judge.verdict = False
    drawn.evidence.habits = msgspec.structs.replace(drawn.evidence.habits, least=0.7)
    for text in ("Please tell me the capital of France", "The capital of France, please"):
        drawn.first.replies.append(completion("Madrid."))
        await drawn.ask(question(text))
    assert "1 to compare" in repr(drawn.evidence), "the second waits for the first"
    aside.go_on.set()
    await settle(drawn)
    ((event, fields),) = drawn.events.notes
    assert (event, fields["error"]) == ("evidence_failed", "KeyError")
    assert fields["at"].startswith("test_evidence.py:")
    assert "0 to compare" in repr(drawn.evidence)
    assert rows(drawn) == [(False, 2.0, True)], "the second was learned from, and stands for both"


async def test_a_miss_whose_neighbours_are_far_or_vetoed_is_a_request_without_a_candidate(drawn):
    drawn.evidence.habits = msgspec.structs.replace(drawn.evidence.habits, least=0.7)
    drawn.judge.verdict = True
    for text in (OTHER, "What is the capital of Spain in 1999?"):
        drawn.first.replies.append(completion("Madrid."))
        drawn.clock.now += 9
        await drawn.ask(question(text))
        await settle(drawn)
    assert rows(drawn) == [(None, 1.0, False)] * 2


@pytest.mark.parametrize("reason", ["not drawn", "simulated", "cut", "crowded", "own"])
async def test_what_is_not_studied(drawn, reason, monkeypatch):
    journey = drawn.journey(similarity_threshold=1.0) if reason == "own" else None
    if reason == "not drawn":
        drawn.evidence._sampling.chance = lambda now: 0.0  # noqa: SLF001 - nothing is so rare
    if reason == "simulated":
        explore(drawn, simulated=frozenset({"first"}))
    if reason == "crowded":
        monkeypatch.setattr(evidence, "WAITING", 0)
    drawn.first.replies.append(completion("Mad", finish="length" if reason == "cut" else "stop"))
    await drawn.ask(question(OTHER, max_tokens=9), journey)
    await settle(drawn)
    assert drawn.judge.free == []
    assert not drawn.evidence.calibration.standings(0.01) or rows(drawn) == []


@pytest.mark.parametrize("gone", [True, False])
async def test_a_neighbour_that_is_gone_or_of_another_scope_by_now_is_left_out(drawn, gone):
    drawn.judge.verdict = True
    for tier in (drawn.near.entries, drawn.far.entries):
        newer = {} if gone else {key: msgspec.structs.replace(entry, scope="") for key, entry in tier.items()}
        tier.clear()
        tier.update(newer)
    drawn.first.replies.append(completion("Madrid."))
    await drawn.ask(question("Please tell me the capital of France"))
    await settle(drawn)
    assert drawn.judge.free == []


async def test_a_hit_that_was_drawn_when_the_budget_was_spent_is_an_open_case(drawn):
    drawn.evidence.spending.allows = lambda *_: False
    await hit(drawn)
    assert rows(drawn) == [(None, 2.0, True)]


async def test_complaints_and_the_operators_word_teach_and_count_for_no_rate(drawn):
    drawn.chance = 0.9
    await hit(drawn)
    await hear(drawn, correct=True)
    assert rows(drawn) == [(True, 0.0, True)]
    await drawn.evidence.rule("s-1", correct=False)
    assert rows(drawn) == [(False, 0.0, True)], "in place of the caller's"
    await hear(drawn, correct=False)
    await hear(drawn, correct=True)
    assert rows(drawn) == [(False, 0.0, True)], "the operator has the last word"


async def test_who_changes_its_mind_teaches_once(drawn):
    drawn.chance = 0.9
    await hit(drawn)
    for correct in (True, False, True, False):
        await hear(drawn, correct=correct)
    assert rows(drawn) == [(False, 0.0, True)]


@pytest.mark.parametrize("verdict", [True, False, None])
async def test_the_operators_word_stands_in_place_of_the_judges(drawn, verdict):
    """For as many requests as it: what chance has drawn was drawn by chance, whoever looks at it."""
    drawn.judge.verdict = verdict
    await explored(drawn)
    for correct in (False, True, True):
        await drawn.evidence.rule("s-1", correct=correct)
        assert rows(drawn) == [(correct, 2.0, True)]


@pytest.mark.parametrize("verdict", [True, False])
async def test_who_was_given_an_answer_may_complain_and_not_absolve(drawn, verdict):
    explore(drawn, exploration=0.0, audit=0.5)
    drawn.judge.verdict = verdict
    drawn.first.replies.append(completion("Lyon."))
    await hit(drawn)
    await settle(drawn)
    assert rows(drawn) == [(verdict, 2.0, True)]
    await hear(drawn, correct=True)
    assert rows(drawn) == [(verdict, 2.0, True)]
    await hear(drawn, correct=False)
    assert rows(drawn) == [(False, 2.0, True)]


@pytest.mark.parametrize(
    ("says", "verdict", "taught", "stays"),
    [
        ("operator", False, [(None, 0.0, True), (True, 2.0, True)], True),  # what the operator calls right is not evicted
        ("operator", None, [(None, 0.0, True), (True, 2.0, True)], True),
        ("feedback", True, [(None, 0.0, True), (True, 2.0, True)], True),
        ("feedback", False, [(None, 0.0, True), (False, 2.0, True)], False),
        ("feedback", None, [(None, 0.0, True), (None, 2.0, True), (True, 0.0, True)], True),
    ],
)
async def test_a_judge_that_is_late_is_heard_as_if_it_had_been_in_time(drawn, says, verdict, taught, stays):
    explore(drawn, exploration=0.0, audit=0.5, judge=verdict)
    drawn.judge.hold = asyncio.Event()
    drawn.first.replies.append(completion("Lyon."))
    await hit(drawn)
    await settle(drawn)
    await (drawn.evidence.rule("s-1", correct=True) if says == "operator" else hear(drawn, correct=True))
    assert rows(drawn) == [(True, 0.0, True)], "it has spoken before the judge"
    drawn.judge.hold.set()
    await settle(drawn)
    assert rows(drawn) == taught
    assert bool(drawn.near.entries) is stays
    assert ("s-1", "judge") in drawn.kept.said or verdict is None


async def test_a_complaint_before_the_judge_stands(drawn):
    explore(drawn, exploration=0.0, audit=0.5, judge=True)
    drawn.judge.hold = asyncio.Event()
    drawn.first.replies.append(completion("Lyon."))
    await hit(drawn)
    await settle(drawn)
    await hear(drawn, correct=False)
    drawn.judge.hold.set()
    await settle(drawn)
    assert rows(drawn)[1:] == [(False, 2.0, True)]


async def test_where_none_is_drawn_each_hit_counts_as_one_that_nobody_can_tell(drawn):
    """If they left no trace, what is below the threshold would look better and better."""
    drawn.evidence.habits = replace(drawn.evidence.habits, exploration=0.0, audit=0.0)
    await hit(drawn)
    assert rows(drawn) == [(None, 1.0, True)]


async def test_a_complaint_about_an_answer_at_a_threshold_of_the_callers_teaches_nothing(drawn):
    journey = drawn.journey(similarity_threshold=0.9)
    journey.sentinel_id = "s-1"
    await drawn.ask(question(REWORDED), journey)
    await hear(drawn)
    assert rows(drawn) == []


async def test_who_is_sure_of_everything_still_hears_the_guards_and_the_floor(path):
    path.learned.kept["\n"] = credulous()
    await path.evidence.calibration.open()
    await learn(path, "Capital of France in 1999?")
    for text, reason in (("Capital of France in 1998?", "guard-numbers"), ("Jazz quiz?", "below-threshold")):
        assert (await missed(path, text)).detail == reason
    reply, _ = await path.ask(question("So which capital had France in 1999?"), path.journey(explain=True))
    assert isinstance(reply, Cached)
    assert 0.7 < reply.hit.similarity < 0.95
    assert 0 < reply.hit.confidence < 1


ROUTING = "Where do I find the routing number of my bank?"
REWORDED_ROUTING = "Could you please tell me what my bank's routing code is?"
SWAPPED_ROUTING = "Where do I find the account number of my bank?"


async def test_a_rewording_with_other_words_is_served_once_labels_decide_and_no_swap_is(path):
    await learn(path, ROUTING)
    for text in (REWORDED_ROUTING, SWAPPED_ROUTING):
        assert (await missed(path, text, path.journey(similarity_threshold=0.7))).detail.startswith("guard-")
    path.learned.kept["\n"] = credulous()
    await path.evidence.calibration.open()
    path.evidence.calibration._ward("\n").learner.adopt(SURE)  # noqa: SLF001 - not even of doubts
    await path.tiers.clear(Selector(keys=frozenset(key for key, entry in path.near.entries.items() if entry.text != ROUTING)))
    journey = path.journey(explain=True)
    reply, _ = await path.ask(question(REWORDED_ROUTING), journey)
    assert isinstance(reply, Cached)
    assert [near.objections for near in journey.explanation.candidates] == [()]
    told = dict(zip((*NAMES, "standing"), journey.weighed.features, strict=False))
    assert (told["doubt_question"], told["doubt_words"]) == (1.0, 1.0)
    assert (await missed(path, SWAPPED_ROUTING)).detail == "guard-words"
    assert (await missed(path, REWORDED_ROUTING + "!", path.journey(similarity_threshold=0.7))).detail == "guard-question"


async def test_who_is_not_sure_enough_serves_nothing_and_says_so(path):
    path.learned.kept["\n"] = credulous()
    await path.evidence.calibration.open()
    path.evidence.calibration._ward("\n").learner.adopt(Fit(Prior().weights, (), labels=1_000))  # noqa: SLF001 - nothing proves it
    await learn(path, ASKED)
    journey = path.journey(explain=True)
    assert (await missed(path, REWORDED, journey)).detail == "below-threshold"
    assert journey.explanation.basis == "probability"
    assert journey.explanation.bar.budget == ErrorBudget(0.01)
    (near,) = journey.explanation.candidates
    assert near.objections == ("below-threshold",)
    assert near.confidence == journey.weighed.confidence


# -- the operator


async def test_the_operator_has_the_last_word(drawn):
    drawn.judge.verdict = True
    await explored(drawn)
    assert (await drawn.evidence.rule("s-1", correct=False)).id == "s-1"
    assert drawn.kept.said["s-1", "operator"].correct is False
    assert (await drawn.evidence.log.estimate()).overall.wrong_hits.rate == 1.0
    assert ASKED in {entry.text for entry in drawn.near.entries.values()}, "it was given to nobody"
    assert await drawn.evidence.rule("s-2", correct=True) is None


async def test_what_the_operator_finds_wrong_is_evicted_if_it_was_given(path):
    await learn(path, ASKED)
    await hit(path)
    await path.evidence.rule("s-1", correct=False)
    assert path.near.entries == path.far.entries == {}


# -- a broken budget


def decision_in(scope, id, at):  # noqa: A002 - its name
    named = {"id": id, "request_id": "r", "scope": scope, "entry": "e", "tenant": "", "owner": ""}
    return Decision(**named, at=at, similarity=0.96, drawn=0.5)


async def broken(path, wrong=8, right=4):
    """Evidence that most hits are wrong."""
    log, now = path.evidence.log, path.clock.now
    (scope,) = {entry.scope for entry in path.near.entries.values()}
    for number in range(wrong + right):
        about = decision_in(scope, f"of-{now}-{number}", now)
        log.keep(about)
        log.count(scope, hit=True)
        await log.flush()
        await log.label(Label(about.id, "judge", number >= wrong, now))
    return scope


def notes(path):
    return [(event, fields["scope"], fields["step"]) for event, fields in path.events.notes]


async def test_a_broken_budget_tightens_the_scope_step_by_step_until_it_is_off(drawn):
    explore(drawn, exploration=0.0)
    assert isinstance((await drawn.ask(question(REWORDED)))[0], Cached)
    drawn.evidence.log.most_wrong = 0.01
    drawn.evidence.habits = msgspec.structs.replace(drawn.evidence.habits, threshold=0.95)
    for level, event in ((1, "semantic_tightened"), (2, "semantic_tightened"), (3, "semantic_off")):
        scope = await broken(drawn)
        drawn.clock.now += 1
        standings = await drawn.evidence.log.estimate()
        assert notes(drawn)[-1] == (event, scope, level)
        assert drawn.evidence.log.level(scope) == level
        assert standings.overall.wrong.rate > 0.01
        assert "of its requests were answered wrongly" in drawn.events.notes[-1][1]["reason"]
    assert "all" not in {name for _, name, _ in notes(drawn)}, "one scope was to blame"
    drawn.first.replies.append(completion())
    _, journey = await drawn.ask(question(REWORDED))
    assert journey.miss.steps[0].detail == "below-threshold"
    assert drawn.evidence.log.level("another scope") == 0


async def test_a_step_that_complaints_have_proven_says_so_in_the_log(drawn):
    log, now = drawn.evidence.log, drawn.clock.now
    log.most_wrong = 0.01
    for number in range(4):
        log.keep(decision_in("s", f"{number}", now))
        log.count("s", hit=True)
    await log.flush()
    for number in range(2):
        await log.label(Label(f"{number}", "feedback", correct=False, at=now))
    await log.estimate()
    ((event, fields),) = drawn.events.notes
    line = msgspec.json.decode(json_line(Event(now, "warning", event, fields)))
    assert (line["event"], line["level"], line["step"]) == ("semantic_tightened", "warning", 1)
    assert line["reason"] == "2 of its 4 requests reported as answered wrongly"


async def test_who_looks_twice_at_once_takes_one_step(drawn):
    drawn.evidence.log.most_wrong = 0.01
    scope = await broken(drawn)
    drawn.clock.now += 1
    drawn.kept.hold = asyncio.Event()
    looking = [asyncio.create_task(drawn.evidence.log.estimate()) for _ in range(3)]
    await turns()
    drawn.kept.hold.set()
    await asyncio.gather(*looking)
    assert notes(drawn) == [("semantic_tightened", scope, 1)]


async def test_a_week_without_a_broken_budget_takes_a_step_back(drawn):
    drawn.evidence.log.most_wrong = 0.01
    scope = await broken(drawn)
    drawn.clock.now += 1
    await drawn.evidence.log.estimate()
    drawn.clock.now += evidence_log.WINDOW
    await drawn.evidence.log.estimate()
    assert notes(drawn)[-1] == ("semantic_relaxed", scope, 0)


async def test_all_scopes_are_tightened_where_none_is_to_blame_alone(drawn):
    drawn.evidence.log.most_wrong = 0.01
    log, now = drawn.evidence.log, drawn.clock.now
    for number in range(12):  # one in each scope: of none enough
        about = decision_in(f"s{number}", f"{number}", now)
        log.keep(about)
        log.count(about.scope, hit=True)
        for _ in range(2):
            log.count(about.scope, hit=False)
        await log.flush()
        await log.label(Label(about.id, "judge", number > 7, now))
    await log.estimate()
    assert notes(drawn) == [("semantic_tightened", "all", 1)]
    assert log.level("any scope") == 1


async def test_a_keys_own_budget_is_watched_and_tightens_for_that_key_alone(drawn):
    """What is well within the deployment's budget may break a stricter one."""
    explore(drawn, exploration=0.0)
    drawn.evidence.habits = msgspec.structs.replace(drawn.evidence.habits, threshold=0.95)
    log, key = drawn.evidence.log, replace(KEY, max_wrong_hit_rate=0.005)
    log.most_wrong, name = 0.9, f"key:{key.id}"
    for level in (1, 2, 3):
        for number in range(12):  # in scopes of their own: none is to blame alone
            about = decision_in(f"s{number}", f"{level}-{number}", drawn.clock.now)
            log.keep(replace(about, budgets=(name,)))
            log.count(about.scope, {name: 0.005}, hit=True)
            await log.flush()
            await log.label(Label(about.id, "judge", number > 7, drawn.clock.now))
        drawn.clock.now += 1
        await log.estimate()
        assert notes(drawn)[-1][1:] == (name, level)
    assert len(notes(drawn)) == 3, "nothing else is tightened"
    assert isinstance((await drawn.ask(question(REWORDED)))[0], Cached), "others are served"
    journey = drawn.journey()
    journey.caller = caller_of(key)
    drawn.first.replies.append(completion())
    _, journey = await drawn.ask(question(REWORDED), journey)
    assert journey.stricter == {name: 0.005}
    assert journey.miss.steps[0].detail == "below-threshold"


@pytest.mark.parametrize("closed", ["scope", "all", "budget"])
async def test_who_sets_a_threshold_reopens_nothing_that_a_broken_budget_has_closed(drawn, closed):
    """And is bound by no step before that: it has asked for similarity alone."""
    key = replace(KEY, max_wrong_hit_rate=0.005)
    (scope,) = {entry.scope for entry in drawn.near.entries.values()}
    name = {"scope": scope, "all": "all", "budget": f"key:{key.id}"}[closed]
    served = []
    for level in (OFF - 1, OFF):
        await drawn.kept.take(Stance(name, level, drawn.clock.now))
        await drawn.evidence.log.open()
        journey = drawn.journey(similarity_threshold=0.7, explain=True)
        journey.caller = caller_of(key)
        drawn.first.replies.append(completion())
        reply, _ = await drawn.ask(question(REWORDED), journey)
        served.append(isinstance(reply, Cached))
    assert served == [True, False]
    assert (journey.miss.steps[0].detail, journey.explanation.threshold) == ("below-threshold", math.inf)
    await settle(drawn)
    assert drawn.kept.counts == [], "neither is in any rate"


@pytest.mark.parametrize("closed", ["arm", "key", "model", "namespace", "deployment"])
async def test_an_arm_s_threshold_reopens_nothing_that_a_budget_of_none_has_closed(drawn, closed):
    explore(drawn, exploration=0.0)
    thresholds, served = drawn.semantic.thresholds, []
    for rate in (0.01, 0.0):
        said = {"arm": None, "key": None, "model": None, "namespace": None, "deployment": 0.01} | {closed: rate}
        of = {one: {} if said[one] is None else {name: said[one]} for one, name in (("model", "first/m"), ("namespace", ""))}
        budgets = ErrorBudgets(said["deployment"], of["model"], of["namespace"])
        drawn.semantic.thresholds = replace(thresholds, budgets=budgets)
        journey = drawn.journey()
        journey.caller = caller_of(replace(KEY, max_wrong_hit_rate=said["key"]))
        journey.place = Place("cheaper", Arm("loose", threshold=0.7, max_wrong_hit_rate=said["arm"]), 7)
        drawn.first.replies.append(completion())
        served.append(isinstance((await drawn.ask(question(REWORDED), journey))[0], Cached))
    assert served == [True, False]
    assert journey.miss.steps[0].detail == "below-threshold"


@pytest.mark.parametrize(("own", "bar"), [(0.8, 0.8), (None, 0.99)])
async def test_a_caller_s_own_threshold_stands_above_its_arm_s(drawn, own, bar):
    plan = drawn.pipeline._planner.plan(msgspec.json.encode(question(ASKED)), tenant="", namespace="")  # noqa: SLF001
    journey = drawn.journey(similarity_threshold=own)
    journey.place = Place("cheaper", Arm("strict", threshold=0.99), 7)
    await drawn.evidence.calibration.ready(journey.realm)
    assert drawn.semantic.bar(plan, journey).similarity == bar


async def test_it_is_as_strict_after_a_restart(drawn):
    drawn.evidence.log.most_wrong = 0.01
    scope = await broken(drawn)
    await drawn.evidence.log.estimate()
    after = EvidenceLog(drawn.kept, drawn.clock, drawn.events)
    assert after.level(scope) == 0
    await after.open()
    assert after.level(scope) == 1
    drawn.kept.down = True
    await EvidenceLog(drawn.kept, drawn.clock, drawn.events).open()
    drawn.kept.down = False


async def test_what_another_node_closes_is_closed_here_and_stays_so_while_the_store_is_away(drawn, monkeypatch):
    monkeypatch.setattr(evidence_log, "FOLLOW", 0.001)
    log = EvidenceLog(drawn.kept, drawn.clock, drawn.events, shared=True)
    await log.open()
    await drawn.kept.take(Stance("s", OFF, drawn.clock.now))
    await until(lambda: log.level("s") == OFF)
    drawn.kept.down = True
    await asyncio.sleep(0.01)
    assert log.level("s") == OFF
    drawn.kept.down = False
    await drawn.kept.take(Stance("s", OFF - 1, drawn.clock.now))
    await until(lambda: log.level("s") == OFF - 1)
    await log.close()
    assert drawn.events.notes == [], "that it is away others say"


async def test_a_node_that_has_never_learned_what_others_have_closed_serves_nothing(drawn, monkeypatch):
    monkeypatch.setattr(evidence_log, "FOLLOW", 0.001)
    drawn.kept.down = True
    log = EvidenceLog(drawn.kept, drawn.clock, drawn.events, shared=True)
    await log.open()
    assert log.level("s") == OFF
    drawn.kept.down = False
    await until(lambda: log.level("s") == 0)
    drawn.kept.down = True
    await asyncio.sleep(0.01)
    assert log.level("s") == 0, "what was known last holds"
    await log.close()


async def test_the_estimate_is_renewed_while_requests_come(path, monkeypatch):
    monkeypatch.setattr(evidence_log, "PAUSE", 0.0)
    await learn(path, ASKED)
    log = path.evidence.log
    await hit(path)
    await until(lambda: log.standings.overall.hits == 1)
    for _ in range(2):
        await hit(path)
        await settle(path)
    assert log.standings.overall.hits == 1, "not each time"
    path.clock.now += evidence_log.FRESH
    await hit(path)
    await until(lambda: log.standings.overall.hits == 4)


async def test_what_is_counted_while_it_is_written_is_written_next(path):
    log = path.evidence.log
    log.count("s", hit=True)
    path.kept.slow = asyncio.Event()
    writing = asyncio.create_task(log.flush())
    await turns()
    log.count("s", hit=False)
    path.kept.slow.set()
    await writing
    assert [(count.reached, count.hits) for count in path.kept.counts] == [(1, 1), (1, 0)]


async def test_what_nobody_waits_for_any_more_is_written_once(path):
    path.kept.slow = asyncio.Event()
    path.evidence.log.count("s", hit=True)
    asking = asyncio.create_task(path.evidence.log.find("s-1", tenant=""))
    await turns()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    path.kept.slow.set()
    await path.evidence.log.flush()
    assert [(count.reached, count.hits) for count in path.kept.counts] == [(1, 1)]


async def test_it_stops_while_something_is_being_written(path, monkeypatch):
    monkeypatch.setattr(evidence_log, "PAUSE", 0.0)
    await path.evidence.log.estimate()  # so that none is due
    path.kept.slow = asyncio.Event()
    path.evidence.log.count("s", hit=True)
    await until(lambda: path.kept.counts)
    closing = asyncio.create_task(path.evidence.log.close())
    await turns()
    assert not closing.done()
    path.kept.slow.set()
    await closing
    assert [(count.reached, count.hits) for count in path.kept.counts] == [(1, 1)]


async def test_scopes_that_wait_are_bounded(path, monkeypatch):
    monkeypatch.setattr(evidence_log, "WAITING", 2)
    for scope in ("a", "b", "c", "a"):
        path.evidence.log.count(scope, hit=False)
    assert [event for event, _ in path.events.notes] == ["evidence_lost"]
    await path.evidence.log.flush()
    assert [(count.scope, count.reached) for count in path.kept.counts] == [("a", 2), ("b", 1)]


async def test_a_provider_that_tells_no_usage_has_spent_what_nobody_knows(path):
    path.prices["first/m"] = 1
    bare = completion("Paris.")
    path.first.replies.append(msgspec.structs.replace(bare, answer=msgspec.structs.replace(bare.answer, usage=None)))
    await path.ask(question(ASKED))
    assert path.evidence.spending.today() == (0.0, 0.0)
    await learn(path, OTHER)
    assert path.evidence.spending.today()[0] > 0.0


async def test_what_was_labelled_is_told_with_what_still_waits_to_be_written(path):
    log, now = path.evidence.log, path.clock.now
    for number, at in enumerate((now - 10, now)):
        log.keep(decision_in("scope", f"s-{number}", at))
        path.kept.said[f"s-{number}", "judge"] = Label(f"s-{number}", "judge", correct=True, at=at)
    assert [found.decision for found in await log.labelled(now - 5)] == ["s-1"]


async def test_rates_of_budgets_are_remembered_of_so_many(path, monkeypatch):
    monkeypatch.setattr(evidence_log, "WAITING", 2)
    log = path.evidence.log
    for name in ("key:a", "key:b", "key:c"):
        log.count("scope", {name: 0.1}, hit=True)
        await log.flush()
    assert [log.rate(name) for name in ("key:a", "key:b", "key:c")] == [None, 0.1, 0.1]


async def test_a_budget_that_nobody_has_asked_under_since_the_start_takes_no_step(path):
    log, now = path.evidence.log, path.clock.now
    for number in range(12):
        about = decision_in(f"s{number}", f"s-{number}", now)
        log.keep(replace(about, budgets=("key:a",)))
        log.count(about.scope, {"key:a": 0.005}, hit=True)
        await log.flush()
        await log.label(Label(about.id, "judge", number > 7, now))
    restarted = EvidenceLog(path.kept, path.clock, path.events)
    restarted.most_wrong = 0.9
    await restarted.estimate()
    assert notes(path) == []
    restarted.count("s0", {"key:a": 0.005}, hit=True)
    await restarted.estimate()
    assert notes(path) == [("semantic_tightened", "key:a", 1)]
    await restarted.close()


async def test_two_comparisons_are_made_one_after_the_other(drawn):
    drawn.judge.verdict, drawn.judge.hold = True, asyncio.Event()
    await explored(drawn)
    await learn(drawn, "What is a glacier made of?")
    drawn.first.replies.append(completion("Ice."))
    await drawn.ask(question("What's a glacier made of?"))
    await settle(drawn)
    assert len(drawn.judge.cases) == 1
    drawn.judge.hold.set()
    await settle(drawn)
    assert drawn.evidence.compared[True] == 2


async def test_an_audit_without_usage_costs_what_nobody_can_tell(drawn):
    explore(drawn, exploration=0.0, audit=1.0, judge=True)
    bare = completion("Paris.")
    drawn.first.replies.append(msgspec.structs.replace(bare, answer=msgspec.structs.replace(bare.answer, usage=None)))
    await drawn.ask(question(REWORDED))
    await settle(drawn)
    assert drawn.evidence.compared[True] == 1
    assert drawn.evidence.spending.today()[1] == 0.0


async def test_a_step_is_judged_by_what_came_after_it(drawn):
    """One of twenty is wrong since; what was asked before is no part of that."""
    log = drawn.evidence.log
    log.most_wrong = 0.01
    scope = await broken(drawn)
    drawn.clock.now += 1
    await log.estimate()
    for number in range(20):
        about = decision_in(scope, f"after-{number}", drawn.clock.now)
        log.keep(about)
        log.count(scope, hit=True)
        await log.flush()
        await log.label(Label(about.id, "judge", number > 0, drawn.clock.now))
    (stands,) = (await log.estimate()).scopes
    assert (stands.reached, stands.hits, stands.wrong.rate) == (20, 20, pytest.approx(0.05))
    assert log.level(scope) == 1


async def test_a_scope_that_is_off_takes_its_step_back_beside_many_busier_ones(drawn):
    log = drawn.evidence.log
    await drawn.kept.take(Stance("quiet", OFF, drawn.clock.now))
    drawn.clock.now += evidence_log.WINDOW
    for number in range(2 * evidence_log.SCOPES):
        log.count(f"busy-{number}", hit=True)
    log.count("quiet", hit=False)
    await log.estimate()
    assert log.level("quiet") == OFF - 1
