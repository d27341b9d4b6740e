"""How sure the gateway is of stored answers: a learner for each realm, kept across restarts, refitted beside the path.

On the path only what a hit needs is computed: the numbers of one candidate, its confidence, and what that has to reach. Labels
are taken as they come; weights are made anew in a thread, and what was learned is kept after that. A realm that is not in memory
is brought back when it is asked for, its fit first. Until that is here nothing serves: what was learned may be that nothing
should. From then on the fit decides, and the operator's similarity with it, until the rest is here, too (`wards.py`).
"""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from sentinel_gateway.core.budget import ErrorBudget
from sentinel_gateway.core.caching import Wish
from sentinel_gateway.core.calibration import PACE, Calibrator, Taught
from sentinel_gateway.core.confidence.features import worded
from sentinel_gateway.core.confidence.learner import Learner, refit
from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.core.evidence import Calibrated, Lesson, Weighed, parts_of
from sentinel_gateway.core.guards import Guard
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds
from sentinel_gateway.core.replaying import Played, played, together
from sentinel_gateway.errors import StoreDown, place_of
from sentinel_gateway.pipeline.aside import AT_ONCE, Aside
from sentinel_gateway.pipeline.exchange import Exchange
from sentinel_gateway.pipeline.learned import BEGINNING, breathe, fitted, read, written
from sentinel_gateway.pipeline.wards import Ward, Wards
from sentinel_gateway.ports import Clock, Events, LearnerStore

AT_START: Final = 32
"""Realms that are brought back before the first request, and that are told of."""
PATIENCE: Final = 0.25
"""Seconds that a request waits for what was learned; most of it is there at once, and a learner that has gone in some 50 ms."""
UNPACKED: Final = 3
"""So many times what is kept of a learner is what it takes in memory, about."""


class Calibration:
    """The learners. `key` is that of the checksums of words; what takes long is asked `aside`. To be closed.

    `exchange`: the way to other nodes, which learn from the same lessons and keep what follows in the same store.
    """

    def __init__(
        self,
        store: LearnerStore,
        clock: Clock,
        events: Events,
        *,
        key: bytes = b"",
        aside: Aside = AT_ONCE,
        exchange: Exchange | None = None,
    ) -> None:
        self.aside = aside
        self._exchange = exchange
        self._store = store
        self._clock = clock
        self._events = events
        self._key = key
        self._wards = Wards()
        self._leaving: dict[str, Ward] = {}
        """Those that have gone and are still to be kept: who asks for one of them has it back as it is."""
        self._due: dict[str, None] = {}
        self._refitting: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._warned = False

    def __repr__(self) -> str:
        return f"<Calibration of {len(self._wards)} realms, {len(self._due)} to refit>"

    async def open(self) -> None:
        """Bring back what was learned last, if the store can tell."""
        if self._exchange is not None:
            await self._exchange.open(self)
        try:
            realms = await self._store.latest(AT_START)
        except StoreDown:
            return
        for realm in realms:  # one by one: who asks meanwhile waits for one of them, not for all
            ward = self._ward(realm)
            await self._settled()
            if ward.extent == "nothing":  # the store is away
                return
        for realm in reversed(realms):
            self._wards.use(realm, self._clock())

    # --- on the path ---

    async def ready(self, realm: str) -> None:
        """Returns once it is known what was learned there, or that this takes too long."""
        ward = self._ward(realm)
        if ward.bringing is not None:
            await asyncio.wait([ward.bringing], timeout=PATIENCE)

    def bar(self, realm: str, wish: Wish, thresholds: Thresholds, budget: ErrorBudget) -> Bar:
        """What an answer has to reach: by what was learned within the budget, or by the threshold that the caller has set.

        What the budget has closed stays closed for who sets a threshold, too.
        """
        bar = self._learned(realm, thresholds, budget)
        if wish.similarity_threshold is None:
            return bar
        return Bar(math.inf, math.inf, budget) if bar.confidence == math.inf else Bar(thresholds.of(wish))

    def _learned(self, realm: str, thresholds: Thresholds, budget: ErrorBudget) -> Bar:
        """Few labels loosen nothing, but they may tighten."""
        ward = self._ward(realm)
        if ward.extent == "nothing":
            return Bar(thresholds.usual, math.inf, budget)
        bar = ward.calibrator.bar(thresholds, budget)
        return bar if ward.is_whole else Bar(thresholds.usual, bar.confidence, budget)

    def rarity(self, realm: str) -> Rarity:
        """How much words tell there."""
        return self._ward(realm).learner.rarity

    def weighed(self, realm: str, near: Neighbour, neighbours: Sequence[Neighbour], words: tuple[float, ...]) -> Weighed:
        """How sure it is that the answer of `near` is right, by the numbers that the words tell (`Calibrator.weighed`)."""
        return self._ward(realm).calibrator.weighed(near, neighbours, words)

    async def weigh(
        self,
        realm: str,
        text: str,
        near: Neighbour,
        neighbours: Sequence[Neighbour],
        *,
        objecting: frozenset[Guard] | None = frozenset(),
    ) -> Weighed:
        """How sure it is that the answer of `near`, one of the `neighbours` of `text`, is right (`Calibrator.weigh`)."""
        words = await self.aside(partial(worded, text, near.head.text, self.rarity(realm), objecting=objecting))
        return self.weighed(realm, near, neighbours, words)

    # --- beside the path ---

    def learn(self, realm: str, lesson: Lesson) -> None:
        """Take a label."""
        self._teach(realm, self._ward(realm).calibrator.taught(lesson, self._clock()))

    def amend(self, realm: str, lesson: Lesson, *, drawn: bool, again: bool) -> None:
        """Put this in place of what was said of the same decision; beside it, if that can't be and it is not said `again`.

        `drawn`: chance has drawn it, so that the word also stands where nobody could tell.
        """
        taught = self._ward(realm).calibrator.taught(lesson, self._clock())
        self._teach(realm, msgspec.structs.replace(taught, kind="amend", drawn=drawn, again=again))

    def forget(self, realm: str, lesson: Lesson) -> None:
        """Take back what was said of the same decision, which is to be learned anew."""
        taught = self._ward(realm).calibrator.taught(lesson, self._clock())
        self._teach(realm, msgspec.structs.replace(taught, kind="forget"))

    # --- from all nodes, where there are several ---

    def hear(self, realm: str, number: int, taught: Taught) -> None:
        """A lesson of some node, perhaps our own. Where its realm is not here in whole, it is heard when that is brought back."""
        ward = self._wards.get(realm)
        if ward is not None and ward.is_whole and number > ward.lesson:
            ward.lesson = number
            self._take(realm, ward, taught)

    def renew(self, realm: str) -> None:
        """Another node has refitted it: decide by that."""
        ward = self._wards.get(realm)
        if ward is not None and ward.extent != "nothing":
            self._later(self._read_fit(realm, ward))

    def lose(self) -> None:
        """Nothing that is here can be trusted any more: who asks has it brought back."""
        for realm, ward in self._wards:
            self._wards.drop(realm, ward)

    def standings(self, budget: float) -> list[Calibrated]:
        """Of the realms that were asked for last, by the budget of the deployment, the last one first."""
        return [
            Calibrated(realm, ward.learner.fit.labels, ward.learner.calibrated, ward.calibrator.threshold(budget))
            for realm, ward in [*self._wards][:AT_START]
        ]

    async def tried(self, policies: Sequence[Thresholds], since: float) -> tuple[list[Played], dict[str, list[Played]]]:
        """What each policy would have served since then, by what was learned: in all, and in each realm asked for last.

        It stands beside what got stricter by itself: that is left out. Models and keys with budgets of their own are, too.
        """
        found: dict[str, list[Played]] = {}
        for realm, ward in [*self._wards][:AT_START]:
            if ward.is_whole:
                _, namespace = parts_of(realm)
                budgets = [policy.budgets.of(model="", namespace=namespace, key=None) for policy in policies]
                bars = [ward.calibrator.bar(policy, budget) for policy, budget in zip(policies, budgets, strict=True)]
                work, weights = ward.learner.recorded, ward.learner.fit.weights
                found[realm] = await asyncio.to_thread(played, work, weights, bars, since, breathe)
        return [together([parts[place] for parts in found.values()]) for place in range(len(policies))], found

    async def close(self) -> None:
        """Keep what was learned, if that can be."""
        if self._refitting is not None:
            self._refitting.cancel()
            await asyncio.gather(self._refitting, return_exceptions=True)
        await self._settled()
        try:
            if self._exchange is not None:
                await self._exchange.close()
            else:
                for realm, ward in self._wards:
                    await self._keep(realm, ward)
        finally:
            self.aside.close()

    def _ward(self, realm: str) -> Ward:
        now = self._clock()
        ward = self._wards.use(realm, now)
        if ward is None:
            ward = self._leaving.pop(realm, None) or Ward(self._new())
            self._wards.add(realm, ward, now)
            self._make_room()
        if not ward.is_whole and ward.bringing is None and (ward.extent == "nothing" or self._wards.has_room(realm, ward, now)):
            ward.bringing = self._later(self._bring_back(realm, ward))
        return ward

    def _make_room(self) -> None:
        for realm, ward in self._wards.surplus(self._clock()):
            self._leaving[realm] = ward
            self._later(self._keep_last(realm, ward))

    async def _keep_last(self, realm: str, ward: Ward) -> None:
        if self._exchange is None:
            await self._keep(realm, ward)
        if self._leaving.get(realm) is ward:
            del self._leaving[realm]

    async def _bring_back(self, realm: str, ward: Ward) -> None:
        try:
            kept = await self._store.find(realm)
            if kept is None or (fit := fitted(kept)) is None:  # nothing was, or another version did
                await self._complete(realm, ward)
                return
            if ward.extent == "nothing":
                ward.calibrator = Calibrator(self._new())
                ward.calibrator.adopt(fit)
                ward.extent = "fit"
            ward.size = UNPACKED * len(kept)
            if self._wards.has_room(realm, ward, self._clock()):
                ward.extent = "coming"
                await self._bring_rest(realm, ward, kept)
        except StoreDown:
            if ward.extent == "nothing":
                self._wards.drop(realm, ward)  # who asks next tries again
            elif ward.extent == "coming":
                ward.extent = "fit"
        finally:
            ward.bringing = None

    async def _bring_rest(self, realm: str, ward: Ward, kept: bytes) -> None:
        try:
            learner, ward.lesson = await asyncio.to_thread(self._restored, kept)
            ward.calibrator = Calibrator(learner)
        except Exception as exc:  # noqa: BLE001 - broad: its fit decides, and it learns anew; else each request tried again
            self._events.note("evidence_failed", error=type(exc).__name__, at=place_of(exc))
        await self._complete(realm, ward)

    async def _complete(self, realm: str, ward: Ward) -> None:
        """It is whole once it was taught what nodes have told since it was kept."""
        if self._exchange is not None:
            ward.lesson = await self._exchange.catch_up(realm, ward.lesson, _Latecomer(ward))
        ward.weigh()
        ward.extent = "whole"
        self._make_room()
        if self._exchange is not None:
            await self._read_fit(realm, ward)  # it may have been refitted meanwhile

    async def _read_fit(self, realm: str, ward: Ward) -> None:
        with suppress(StoreDown):
            begins = await self._store.begins(realm, BEGINNING)
            if begins is not None and (fit := fitted(begins)) is not None:
                ward.learner.work()  # what was learned until then is in it
                ward.calibrator.adopt(fit)

    def _new(self) -> Learner:
        return Learner(pace=PACE, key=self._key)

    def _restored(self, kept: bytes) -> tuple[Learner, int]:
        """And its last lesson. On a thread."""
        state = read(kept)
        if state is None:
            raise ValueError("what was learned is damaged behind its fit")
        return Learner.restore(state, pace=PACE, key=self._key), state.lesson

    def _teach(self, realm: str, taught: Taught) -> None:
        """Where there are other nodes, it is heard with what they tell."""
        ward = self._ward(realm)
        if self._exchange is not None:
            self._exchange.tell(realm, taught)
        elif ward.is_whole:
            self._take(realm, ward, taught)

    def _take(self, realm: str, ward: Ward, taught: Taught) -> None:
        ward.calibrator.take(taught)
        ward.changed = True
        if ward.weigh():
            self._make_room()
        if ward.learner.due:
            self._due[realm] = None
            if self._refitting is None:
                self._refitting = asyncio.create_task(self._refit_all())

    async def _refit_all(self) -> None:
        try:
            while self._due:
                realm, _ = self._due.popitem()
                if (ward := self._wards.get(realm)) is not None and await self._is_ours(realm):
                    ward.calibrator.adopt(await asyncio.to_thread(refit, ward.learner.work(), breathe))
                    if self._exchange is None or self._wards.get(realm) is ward:  # else what it was made of may be worth nothing
                        await self._keep(realm, ward)
        finally:
            self._refitting = None

    async def _is_ours(self, realm: str) -> bool:
        """Is it for this node to refit it?"""
        return self._exchange is None or await self._exchange.claim(realm)

    async def _keep(self, realm: str, ward: Ward) -> None:
        """In the store, if it differs from what is there and is worth the room; an error waits for the next time."""
        if not ward.changed or not ward.learner.worth_keeping:
            return
        ward.changed, is_kept = False, False
        try:
            lesson, at = ward.lesson, self._clock()
            state = msgspec.structs.replace(ward.learner.state(), lesson=lesson)
            is_kept = await self._store.keep(realm, await asyncio.to_thread(written, state), at, lesson)
            if not is_kept:
                self._wards.drop(realm, ward)  # others know more by now: who asks next has it brought back
            elif self._exchange is not None:
                await self._exchange.kept(realm, lesson, at)
        except StoreDown as exc:
            if not self._warned:
                self._events.note("learning_waits", reason=str(exc))
            self._warned = True
        else:
            self._warned = False
        finally:
            ward.changed = ward.changed or not is_kept  # also where it was cancelled

    def _later(self, errand: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        return task

    async def _settled(self) -> None:
        """One that fails is its own affair."""
        await asyncio.gather(*self._errands, return_exceptions=True)


class _Latecomer:
    """A learner that is being brought back, and is taught what it has missed."""

    def __init__(self, ward: Ward) -> None:
        self._ward = ward

    def hear(self, _: str, number: int, taught: Taught) -> None:
        self._ward.lesson = number
        self._ward.calibrator.take(taught)
