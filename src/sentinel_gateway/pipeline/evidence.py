"""What comes of answers to reworded questions: some are compared with a provider's, and what is said of them is acted on.

A hit that is drawn is *explored*: the provider is asked instead, the caller gets its answer, and beside the path a judge compares
it with the stored one. In *shadow* mode all hits are. Or it is served and *audited*: the provider is asked beside the path. Where
the provider fails, who was to be explored is served after all. What a *miss* brings is *studied* beside the path: held against
the stored answers that stood near. All of it teaches the learners (`calibration.py`). Nothing else here holds up a request, and a
store that is away costs evidence, never an answer. How the rows are written stands in `evidence_log.py`.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_gateway.core.access import ANYBODY
from sentinel_gateway.core.caching import Entry, Hit, NotStorable, Selector, Step, Store
from sentinel_gateway.core.chat import Answer, Usage
from sentinel_gateway.core.confidence.sampling import Sampling
from sentinel_gateway.core.evidence import Decision, Fresh, Kind, Label, Lesson, Study, Trial, reached, sampled
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.judging import Case
from sentinel_gateway.core.matching import BELOW_THRESHOLD, first_fit
from sentinel_gateway.core.routing import Directory
from sentinel_gateway.core.tightening import OFF, least_similarity
from sentinel_gateway.errors import RequestError, StoreDown, UpstreamError
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.evidence_log import EvidenceLog
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.judging import Judge, ModelJudge
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.spending import Spending
from sentinel_gateway.pipeline.studying import case_of, compared, whole
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Clock, Completion, Embedder

if TYPE_CHECKING:  # numpy is loaded only where the semantic tier is on
    from sentinel_gateway.pipeline.calibration import Calibration

EXPLORED: Final = "explored"
WAITING: Final = 100
"""Comparisons that wait at most; further ones are left out."""
Ask = Callable[[], Awaitable[Case | None]]
"""What is to be judged; None if it can't be."""
Held = Callable[[str], Awaitable[Fresh]]
"""A fresh answer, held against the stored ones around it."""
STUDIES: Final = 1.0
"""Misses a second whose fresh answers are held against what stood near: six texts to embed, some 50 ms of one core."""


class Habits(msgspec.Struct, frozen=True):
    """How many hits are compared, as chances; `shadow`: all are, and none is served. Answers of `simulated` providers never are.

    `judge` is the model that compares answers, if one does; `budget` the share of the day's cost that all of it may have. From
    the similarity `threshold` on answers serve, while no more than `most_wrong` are known to be wrong (`core.tightening`), and
    below `least` they never come into question.
    """

    exploration: float = 0.0
    audit: float = 0.0
    shadow: bool = False
    simulated: frozenset[str] = frozenset()
    judge: str | None = None
    budget: float = 0.0
    threshold: float = 0.0
    most_wrong: float = 1.0
    least: float = 0.0


class Kept(msgspec.Struct, frozen=True):
    """What happened, row by row, and what was learned from it."""

    log: EvidenceLog
    calibration: "Calibration"


class Means(msgspec.Struct, frozen=True):
    """Who judges, and the way to the providers."""

    judge: Judge
    ask: Callable[[Plan, Journey], Awaitable[Completion]]


class Evidence:
    """Decides which hits are compared, has them compared, hears feedback. `chance` gives 0..1. To be closed."""

    def __init__(
        self,
        kept: Kept,
        tiers: Tiers,
        embedder: Embedder,
        spending: Spending,
        *,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.log = kept.log
        self.calibration = kept.calibration
        self.spending = spending
        self.habits = Habits()
        self.means: Means | None = None
        self._tiers = tiers
        self._embedder = embedder
        self._clock = clock
        self._chance = chance
        self._sampling = Sampling(STUDIES)
        self._waiting: deque[Callable[[], Awaitable[None]]] = deque()
        self._comparing: asyncio.Task[None] | None = None
        self.heard: Counter[bool] = Counter({True: 0, False: 0})
        """Feedback since the start: how many answers were said to be right, and how many wrong."""
        self.compared: Counter[bool | None] = Counter({True: 0, False: 0, None: 0})
        """The same by comparison; None: it could not be told."""
        self.told = 0.0, 0
        """The confidences with which answers were served since the start: their sum, and how many."""

    def __repr__(self) -> str:
        return f"<Evidence {len(self._waiting)} to compare, {self.log!r}>"

    async def open(self) -> None:
        """Know how things stood, what the day has cost, and what was learned."""
        await self.log.open()
        await self.log.restore(self.spending.book)
        await self.calibration.open()

    def use(self, habits: Habits, dispatch: Dispatch, directory: Callable[[], Directory]) -> None:
        """Go by another configuration from now on, with its providers."""
        model = habits.judge
        ask = None if model is None else ModelJudge(model, directory, dispatch, self.spending, self._clock)
        self.habits, self.means = habits, Means(Judge(self._embedder, ask, self.calibration.aside), dispatch.complete)
        self.spending.limit(habits.budget)
        self.log.most_wrong = habits.most_wrong

    # --- on the path ---

    def weigh(self, found: Hit | Step, question: Question, plan: Plan, journey: Journey) -> Hit | Step:
        """What becomes of what the semantic tier has found: an answer that would serve may be explored instead."""
        own = journey.wish.similarity_threshold is not None
        if isinstance(found, Step):
            return found if own else self._missed(found, question, plan, journey)
        if self.habits.shadow or journey.is_shadowed:
            drawn = 0.0 if self._is_simulated(found.entry.model) else 1.0
            journey.trial = None if own else self._trial(found, question, plan, journey, drawn=drawn)
            return Step("vector", "miss", EXPLORED)
        level = self.log.level(question.scope, journey.stricter)
        if own and level < OFF:  # in no rate: its caller has chosen how much to risk, where anything serves at all
            self.log.keep(_decision(found, journey, self._clock()))
            return found
        if level and (found.similarity or 0.0) < least_similarity(self.habits.threshold, level):
            below = Step("vector", "miss", BELOW_THRESHOLD)
            return below if own else self._missed(below, question, plan, journey)
        exploration = 0.0 if journey.wish.only_if_cached else self.habits.exploration
        drawn = 0.0 if self._is_simulated(found.entry.model) else sampled(exploration, self.habits.audit)
        luck = self._chance()
        if luck >= drawn:
            decision = self._served(found, journey, drawn=0.0)
            if not drawn and not self._is_simulated(found.entry.model):
                self._teach(decision, correct=None, weight=1.0)  # no hit here is ever drawn: each counts as one nobody can tell
        elif not self._affordable(found):  # it stays open, as if nobody could tell
            self._teach(self._served(found, journey, drawn=0.0), correct=None, weight=1.0 / drawn)
        elif luck < exploration:
            journey.trial = self._trial(found, question, plan, journey, drawn=drawn)
            return Step("vector", "miss", EXPLORED)
        else:
            self._audit(found, question, plan, journey, drawn=drawn)
        return found

    def answered(self, journey: Journey, answer: Answer | NotStorable, usage: Usage | None) -> None:
        """A provider has answered, perhaps what is explored."""
        trial, study = journey.trial, journey.study
        if usage is not None:
            extra = trial is not None and trial.spared  # shadow mode saves nothing anyway
            self.spending.note(journey.target, usage, extra=extra)
        if trial is not None:
            self.log.keep(trial.decision)
            self.log.count(trial.decision.scope, journey.stricter, hit=True)
            if trial.decision.drawn and isinstance(answer, Answer):
                ask = partial(self._case, trial.study.question.text, answer, trial.hit.entry)
                self._compare(trial.decision, ask, partial(self._held, trial.study, journey))
        elif study is not None and isinstance(answer, Answer) and not self._is_simulated(journey.target):
            self._study(study, journey, whole(answer))

    def _missed(self, step: Step, question: Question, plan: Plan, journey: Journey) -> Step:
        if reached(step):
            self.log.count(question.scope, journey.stricter, hit=False)
            chance = self._sampling.chance(self._clock())
            if self._chance() < chance:
                journey.study = _study_of(question, plan, journey, weight=1.0 / chance)
        return step

    def spared(self, journey: Journey) -> Hit | None:
        """What serves now that no provider has answered; None if nothing may."""
        trial = journey.trial
        if trial is None or not trial.spared:
            return None
        journey.trial = None
        self._served(trial.hit, journey, drawn=0.0)
        return trial.hit

    def _served(self, hit: Hit, journey: Journey, *, drawn: float) -> Decision:
        decision = _decision(hit, journey, self._clock(), drawn=drawn)
        self.log.keep(decision)
        self.log.count(decision.scope, journey.stricter, hit=True)
        self.told = self.told[0] + (hit.confidence or 0.0), self.told[1] + 1
        return decision

    def _trial(self, hit: Hit, question: Question, plan: Plan, journey: Journey, *, drawn: float) -> Trial:
        decision = _decision(hit, journey, self._clock(), kind="explored", drawn=drawn)
        return Trial(hit, _study_of(question, plan, journey), decision, spared=not (self.habits.shadow or journey.is_shadowed))

    def _is_simulated(self, target: str) -> bool:
        return target.partition("/")[0] in self.habits.simulated

    def _affordable(self, hit: Hit) -> bool:
        entry = hit.entry
        return self.spending.allows(entry.model, entry.prompt_tokens, entry.completion_tokens)

    def _audit(self, hit: Hit, question: Question, plan: Plan, journey: Journey, *, drawn: float) -> None:
        decision = self._served(hit, journey, drawn=drawn)
        own = msgspec.structs.replace(journey, grant=None, report=None, caller=ANYBODY)  # the operator's call, who pays for it
        means = self.means

        async def ask() -> Case | None:
            if means is None:
                return None
            answer = (await means.ask(plan, own)).answer
            if answer.usage is not None:
                self.spending.note(own.target, answer.usage, extra=True)
            return await self._case(question.text, answer, hit.entry)

        self._compare(decision, ask)

    # --- beside the path ---

    def _compare(self, decision: Decision, ask: Ask, held: Held | None = None) -> None:
        if len(self._waiting) < WAITING:
            self._later(partial(self._judge, decision, ask, held))

    def _study(self, study: Study, journey: Journey, fresh: str | None) -> None:
        """It waits only while there is room for what costs money."""
        if fresh is not None and len(self._waiting) < WAITING // 2:
            self._later(partial(self._learn_from, study, journey, fresh))

    def _later(self, job: Callable[[], Awaitable[None]]) -> None:
        self._waiting.append(job)
        if self._comparing is None:
            self._comparing = asyncio.create_task(self._do_all())

    async def _do_all(self) -> None:
        try:
            while self._waiting:
                with self.log.faults():  # what trips over one text keeps none of those waiting behind it
                    await self._waiting.popleft()()
        finally:
            self._comparing = None

    async def _judge(self, decision: Decision, ask: Ask, held: Held | None) -> None:
        self.compared[await self._judged(decision, ask, held)] += 1
        await self.log.spend(self.spending.book)

    async def _judged(self, decision: Decision, ask: Ask, held: Held | None) -> bool | None:
        """What came of it; whatever fails leaves it open."""
        try:
            case = await ask()
            correct = None if case is None or self.means is None else await self.means.judge.compare(case)
            fresh = None if case is None or held is None else await held(case.fresh)
            before = {label.source: label.correct for label in await self.log.labels(decision.id)}
            word = before.get("operator", before.get("feedback"))  # who has spoken meanwhile is heard as who speaks later
            if "operator" not in before and correct is False and word:
                word = None
            if correct is not None:
                await self._label(Label(decision.id, "judge", correct, self._clock()), decision, evict=word is None)
        except (UpstreamError, StoreDown, RequestError):  # the last after a reload: no target takes that any more
            return None
        if before:
            self.calibration.forget(decision.realm, _lesson(decision))
        self._teach(decision, correct=correct, weight=1.0 / decision.drawn, fresh=fresh)
        if word is not None:
            self._amend(decision, correct=word, again=False, drawn="operator" in before)
        return correct

    async def _learn_from(self, study: Study, journey: Journey, fresh: str) -> None:
        """What would have been the candidate, had anything served, and whether it would have been right."""
        held = await self._held(study, journey, fresh)
        realm, text = study.realm, study.question.text
        rarity = self.calibration.rarity(realm)
        rule = partial(first_fit, text, study.neighbours, threshold=self.habits.least, rarity=rarity, weighed=True)
        verdict = await self.calibration.aside(rule)
        if verdict.words is None:  # none came into question
            self.calibration.learn(realm, Lesson(weight=study.weight, fresh=held))
            return
        near = study.neighbours[len(verdict.reasons) - 1]
        key, weighed = near.head.key, self.calibration.weighed(realm, near, study.neighbours, verdict.words)
        lesson = Lesson(entry=key, weighed=weighed, right=held.compared.get(key), weight=study.weight, fresh=held)
        self.calibration.learn(realm, lesson)

    async def _case(self, question: str, fresh: Answer, stored: Entry) -> Case | None:
        """Aside, for to read a long answer takes milliseconds."""
        return await self.calibration.aside(partial(case_of, question, fresh, stored))

    async def _held(self, study: Study, journey: Journey, fresh: str) -> Fresh:
        """The fresh answer against those that stood near, as far as that costs no money."""
        told: dict[str, bool] = {}
        if self.means is not None:
            aside = self.calibration.aside
            told = await compared(study, fresh, self.means.judge, self._tiers, self.habits.least, aside=aside)
        return Fresh(study, told, kept=isinstance(journey.kept, Store))

    def _teach(self, decision: Decision, *, correct: bool | None, weight: float, fresh: Fresh | None = None) -> None:
        """What was said of a decision that was weighed: where its caller had set a threshold, nothing is drawn or counted."""
        lesson = msgspec.structs.replace(_lesson(decision), right=correct, weight=weight, fresh=fresh)
        self.calibration.learn(decision.realm, lesson)

    def _amend(self, decision: Decision, *, correct: bool, again: bool, drawn: bool = False) -> None:
        """In place of what was said of it before; beside it, if that can't be and it is not said `again`."""
        if decision.weighed is not None:
            lesson = msgspec.structs.replace(_lesson(decision), right=correct)
            self.calibration.amend(decision.realm, lesson, drawn=drawn, again=again)

    async def _label(self, label: Label, decision: Decision, *, evict: bool = True) -> bool:
        """Keep it; a wrong answer that was given leaves all tiers of all nodes first. False if that has been said before."""
        if (
            evict and not label.correct and decision.kind == "served"
        ):  # before it is written: who is told to try again has both done
            await self._tiers.clear(Selector(tenant=decision.owner, keys=frozenset({decision.entry})))
        await self.log.flush()
        return await self.log.label(label)

    # --- what others say ---

    async def hear(self, id: str, *, tenant: str, correct: bool) -> Decision | None:  # noqa: A002 - its name
        """Feedback on an answer that this tenant was given; None if there is no such. A wrong one leaves all tiers of all nodes.

        `id` is our own id of the request, or the caller's. Raises `StoreDown`: then it is to be said again.
        """
        decision = await self.log.find(id, tenant=tenant)
        if decision is None or decision.kind != "served":
            return None
        known = {label.source: label.correct for label in await self.log.labels(decision.id)}
        if known.get("feedback") is not correct and await self._label(
            Label(decision.id, "feedback", correct, self._clock()), decision
        ):
            self.heard[correct] += 1
            absolved = correct and known.get("judge") is False  # who was given an answer may complain of it, and not absolve it
            if "operator" not in known and not absolved:
                self._amend(decision, correct=correct, again="feedback" in known)
        return decision

    async def rule(self, id: str, *, correct: bool) -> Decision | None:  # noqa: A002 - its name
        """The operator's word on a decision, by our id of the request; None if there is no such. Raises `StoreDown`, as above."""
        decision = await self.log.get(id)
        if decision is None:
            return None
        before = {label.source for label in await self.log.labels(decision.id)}
        await self._label(Label(decision.id, "operator", correct, self._clock()), decision)
        self._amend(decision, correct=correct, again="operator" in before, drawn=decision.drawn > 0.0)
        return decision

    async def close(self) -> None:
        """Leave out what is still to be compared, write what is known."""
        if self._comparing is not None:
            self._comparing.cancel()
            await asyncio.gather(self._comparing, return_exceptions=True)
        try:
            await self.calibration.close()
        finally:
            await self.log.spend(self.spending.book)
            await self.log.close()


def _decision(hit: Hit, journey: Journey, now: float, *, kind: Kind = "served", drawn: float = 0.0) -> Decision:
    entry = hit.entry
    return Decision(
        id=journey.sentinel_id,
        request_id=journey.request_id,
        tenant=journey.caller.space,
        at=now,
        scope=entry.scope,
        entry=entry.key,
        owner=entry.tenant,
        similarity=hit.similarity or 0.0,
        kind=kind,
        drawn=drawn,
        realm=journey.realm,
        budgets=tuple(journey.stricter),
        weighed=journey.weighed,
    )


def _lesson(decision: Decision) -> Lesson:
    """What it is about; who says it and for how many is left open."""
    return Lesson(entry=decision.entry, weighed=decision.weighed, weight=0.0, decision=decision.id)


def _study_of(question: Question, plan: Plan, journey: Journey, *, weight: float = 1.0) -> Study:
    return Study(question, plan.key, journey.realm, journey.neighbours, weight)
