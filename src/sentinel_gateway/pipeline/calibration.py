"""How sure the gateway is of stored answers: a learner for each realm, kept across restarts, refitted beside the path.

On the path only what a hit needs is computed: the numbers of one candidate, its confidence, and what that has to reach. Labels
are taken as they come; weights are made anew in a thread, and what was learned is kept after that. A realm that is not in memory
is brought back when it is asked for. Until then nothing serves there: what was learned may be that nothing should.
"""

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import msgspec

from sentinel_gateway.core.budget import ErrorBudget
from sentinel_gateway.core.caching import Wish
from sentinel_gateway.core.calibration import PACE, Calibrator
from sentinel_gateway.core.confidence.learner import Learner, Prior, State, refit
from sentinel_gateway.core.evidence import Calibrated, Fresh, Weighed, parts_of
from sentinel_gateway.core.guards import Guard
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock, Events, LearnerStore

REALMS: Final = 32
"""Learners in memory: some ten megabytes each, where much was asked."""
PATIENCE: Final = 0.25
"""Seconds that a request waits for what was learned; most of it is there at once, and a learner that has gone in some 50 ms."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode


class Ward:
    """One realm's learner, and whether there is more than what was kept of it."""

    def __init__(self, learner: Learner) -> None:
        self.calibrator = Calibrator(learner)
        self.changed = False
        self.arriving = True
        """Is what was kept of it still to be brought back?"""
        self.bringing: asyncio.Task[None] | None = None
        """What brings it."""

    def __repr__(self) -> str:
        return f"<Ward {self.learner!r}>"

    @property
    def learner(self) -> Learner:
        return self.calibrator.learner


class Calibration:
    """The learners. To be closed."""

    def __init__(self, store: LearnerStore, clock: Clock, events: Events) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._prior = Prior()
        self._wards: OrderedDict[str, Ward] = OrderedDict()
        """The one asked for last comes last."""
        self._leaving: dict[str, Ward] = {}
        """Those that have gone and are still to be kept: who asks for one of them has it back as it is."""
        self._due: dict[str, None] = {}
        self._refitting: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()
        self._warned = False

    def __repr__(self) -> str:
        return f"<Calibration of {len(self._wards)} realms, {len(self._due)} to refit>"

    def use(self, similarity: float) -> None:
        """Before there are labels, what is as similar as this may serve."""
        self._prior = Prior(similarity=similarity)
        for ward in self._wards.values():
            ward.calibrator.presume(self._prior)

    async def open(self) -> None:
        """Bring back what was learned last, if the store can tell."""
        try:
            realms = await self._store.latest(REALMS)
        except StoreDown:
            return
        for realm in reversed(realms):
            self._ward(realm)
        await self._settled()

    # --- on the path ---

    async def ready(self, realm: str) -> None:
        """Returns once it is known what was learned there, or that this takes too long."""
        ward = self._ward(realm)
        if ward.arriving and ward.bringing is not None:
            await asyncio.wait([ward.bringing], timeout=PATIENCE)

    def bar(self, realm: str, wish: Wish, thresholds: Thresholds, budget: ErrorBudget) -> Bar:
        """What an answer has to reach. Few labels loosen nothing, but they may tighten."""
        if wish.similarity_threshold is not None:
            return Bar(thresholds.of(wish))
        ward = self._ward(realm)
        return Bar(thresholds.usual, math.inf, budget) if ward.arriving else ward.calibrator.bar(thresholds, budget)

    def weigh(
        self,
        realm: str,
        text: str,
        near: Neighbour,
        neighbours: Sequence[Neighbour],
        *,
        objecting: frozenset[Guard] | None = frozenset(),
    ) -> Weighed:
        """How sure it is that the answer of `near`, one of the `neighbours` of `text`, is right (`Calibrator.weigh`)."""
        return self._ward(realm).calibrator.weigh(text, near, neighbours, objecting=objecting)

    # --- beside the path ---

    def learn(
        self,
        realm: str,
        entry: str,
        weighed: Weighed | None,
        *,
        right: bool | None,
        weight: float,
        fresh: Fresh | None = None,
    ) -> None:
        """Take a label of the answer kept as `entry` (`Calibrator.learn`)."""
        ward = self._ward(realm)
        if ward.arriving:
            return
        ward.calibrator.learn(entry, weighed, right=right, weight=weight, at=self._clock(), fresh=fresh)
        ward.changed = True
        if ward.learner.due:
            self._refit(realm)

    def standings(self, budget: float) -> list[Calibrated]:
        """Of all realms in memory, by the budget of the deployment, the one asked for last first."""
        return [
            Calibrated(realm, ward.learner.fit.labels, ward.learner.calibrated, ward.calibrator.threshold(budget))
            for realm, ward in reversed(self._wards.items())
        ]

    async def close(self) -> None:
        """Keep what was learned, if that can be."""
        if self._refitting is not None:
            self._refitting.cancel()
            await asyncio.gather(self._refitting, return_exceptions=True)
        await self._settled()
        for realm, ward in list(self._wards.items()):
            await self._keep(realm, ward)

    def _ward(self, realm: str) -> Ward:
        ward = self._wards.get(realm)
        if ward is not None:
            self._wards.move_to_end(realm)
            return ward
        ward = self._leaving.pop(realm, None)
        if ward is None:
            ward = Ward(Learner(self._prior, PACE))
            ward.bringing = self._later(self._bring_back(realm, ward))
        self._wards[realm] = ward
        if len(self._wards) > REALMS:
            self._let_go()
        return ward

    def _let_go(self) -> None:
        """Of whoever has most realms the one asked for longest ago: who makes up namespaces pushes out their own."""
        crowds = Counter(parts_of(realm)[0] for realm in self._wards)
        (largest, _), *_ = crowds.most_common(1)
        realm = next(realm for realm in self._wards if parts_of(realm)[0] == largest)
        ward = self._leaving[realm] = self._wards.pop(realm)
        self._later(self._keep_last(realm, ward))

    async def _keep_last(self, realm: str, ward: Ward) -> None:
        await self._keep(realm, ward)
        if self._leaving.get(realm) is ward:
            del self._leaving[realm]

    async def _bring_back(self, realm: str, ward: Ward) -> None:
        try:
            kept = await self._store.find(realm)
        except StoreDown:
            if self._wards.get(realm) is ward:
                del self._wards[realm]  # who asks next tries again
            return
        if kept is not None and (state := await asyncio.to_thread(_read, kept)) is not None:
            ward.calibrator = Calibrator(Learner.restore(state, self._prior, PACE))
        ward.arriving = False

    def _refit(self, realm: str) -> None:
        self._due[realm] = None
        if self._refitting is None:
            self._refitting = asyncio.create_task(self._refit_all())

    async def _refit_all(self) -> None:
        try:
            while self._due:
                realm, _ = self._due.popitem()
                if (ward := self._wards.get(realm)) is not None:
                    ward.calibrator.adopt(await asyncio.to_thread(refit, ward.learner.work()))
                    await self._keep(realm, ward)
        finally:
            self._refitting = None

    async def _keep(self, realm: str, ward: Ward) -> None:
        """In the store, if it differs from what is there and is worth the room; an error waits for the next time."""
        if not ward.changed or not ward.learner.worth_keeping:
            return
        ward.changed, is_kept = False, False
        try:
            state = await asyncio.to_thread(_written, ward.learner)
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
        await asyncio.gather(*self._errands)


def _written(learner: Learner) -> bytes:
    return _encode(learner.state())


def _read(kept: bytes) -> State | None:
    try:
        return _decode(kept)
    except msgspec.DecodeError:
        return None  # of another version
