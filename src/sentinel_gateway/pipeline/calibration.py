"""How sure the gateway is of stored answers: a learner for each realm, kept across restarts, refitted beside the path.

On the path only what a hit needs is computed: the numbers of one candidate, its confidence, and what that has to reach. Labels
are taken as they come; weights are made anew in a thread, and what was learned is kept after that. A realm that is not in memory
is brought back when it is asked for, its fit first. Until that is here nothing serves: what was learned may be that nothing
should. From then on the fit decides, and the operator's similarity with it, until the rest is here, too (`wards.py`).
"""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, Final

from sentinel_gateway.core.budget import ErrorBudget
from sentinel_gateway.core.caching import Wish
from sentinel_gateway.core.calibration import PACE, Calibrator
from sentinel_gateway.core.confidence.features import worded
from sentinel_gateway.core.confidence.learner import Learner, refit
from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.core.evidence import Calibrated, Lesson, Weighed, parts_of
from sentinel_gateway.core.guards import Guard
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds
from sentinel_gateway.core.replaying import Played, played, together
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.pipeline.aside import AT_ONCE, Aside
from sentinel_gateway.pipeline.learned import breathe, fitted, read, written
from sentinel_gateway.pipeline.wards import Ward, Wards
from sentinel_gateway.ports import Clock, Events, LearnerStore

AT_START: Final = 32
"""Realms that are brought back before the first request, and that are told of."""
PATIENCE: Final = 0.25
"""Seconds that a request waits for what was learned; most of it is there at once, and a learner that has gone in some 50 ms."""
UNPACKED: Final = 3
"""So many times what is kept of a learner is what it takes in memory, about."""


class Calibration:
    """The learners. `key` is that of the checksums of words; what takes long is asked `aside`. To be closed."""

    def __init__(self, store: LearnerStore, clock: Clock, events: Events, *, key: bytes = b"", aside: Aside = AT_ONCE) -> None:
        self.aside = aside
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
        try:
            realms = await self._store.latest(AT_START)
        except StoreDown:
            return
        for realm in reversed(realms):
            self._ward(realm)
        await self._settled()

    # --- on the path ---

    async def ready(self, realm: str) -> None:
        """Returns once it is known what was learned there, or that this takes too long."""
        ward = self._ward(realm)
        if ward.bringing is not None:
            await asyncio.wait([ward.bringing], timeout=PATIENCE)

    def bar(self, realm: str, wish: Wish, thresholds: Thresholds, budget: ErrorBudget) -> Bar:
        """What an answer has to reach. Few labels loosen nothing, but they may tighten."""
        if wish.similarity_threshold is not None:
            return Bar(thresholds.of(wish))
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
        ward = self._ward(realm)
        if ward.is_whole:
            ward.calibrator.learn(lesson, self._clock())
            self._taught(realm, ward)

    def correct(self, realm: str, lesson: Lesson, *, drawn: bool) -> bool:
        """Put this in place of what was said of the same decision; False if nothing was, or that is too long ago.

        `drawn`: chance has drawn it, so that the word also stands where nobody could tell.
        """
        ward = self._ward(realm)
        if not ward.is_whole or not ward.calibrator.correct(lesson, drawn=drawn):
            return False
        self._taught(realm, ward)
        return True

    def forget(self, realm: str, lesson: Lesson) -> None:
        """Take back what was said of the same decision, which is to be learned anew."""
        ward = self._ward(realm)
        if ward.is_whole:
            ward.calibrator.forget(lesson)

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
        await self._keep(realm, ward)
        if self._leaving.get(realm) is ward:
            del self._leaving[realm]

    async def _bring_back(self, realm: str, ward: Ward) -> None:
        try:
            kept = await self._store.find(realm)
            if kept is None or (fit := fitted(kept)) is None:
                ward.extent = "whole"  # nothing was, or another version did
                return
            if ward.extent == "nothing":
                ward.calibrator = Calibrator(self._new())
                ward.calibrator.adopt(fit)
                ward.extent = "fit"
            ward.size = UNPACKED * len(kept)
            if self._wards.has_room(realm, ward, self._clock()):
                ward.extent = "coming"
                await self._bring_rest(ward, kept)
        except StoreDown:
            if ward.extent == "nothing":
                self._wards.drop(realm, ward)  # who asks next tries again
        finally:
            ward.bringing = None

    async def _bring_rest(self, ward: Ward, kept: bytes) -> None:
        learner = await asyncio.to_thread(self._restored, kept)
        if learner is not None:
            ward.calibrator = Calibrator(learner)
        ward.weigh()
        ward.extent = "whole"
        self._make_room()

    def _new(self) -> Learner:
        return Learner(pace=PACE, key=self._key)

    def _restored(self, kept: bytes) -> Learner | None:
        """On a thread."""
        state = read(kept)
        return None if state is None else Learner.restore(state, pace=PACE, key=self._key)

    def _taught(self, realm: str, ward: Ward) -> None:
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
                if (ward := self._wards.get(realm)) is not None:
                    ward.calibrator.adopt(await asyncio.to_thread(refit, ward.learner.work(), breathe))
                    await self._keep(realm, ward)
        finally:
            self._refitting = None

    async def _keep(self, realm: str, ward: Ward) -> None:
        """In the store, if it differs from what is there and is worth the room; an error waits for the next time."""
        if not ward.changed or not ward.learner.worth_keeping:
            return
        ward.changed, is_kept = False, False
        try:
            state = await asyncio.to_thread(written, ward.learner.state())
            await self._store.keep(realm, state, self._clock())
            is_kept = True
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
