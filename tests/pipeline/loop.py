"""A made-up world on the real path: questions are directions, answers are numbers, and some answers lie near to each other."""

import asyncio
import random

import numpy as np

from sentinel_gateway.core.budget import ErrorBudgets
from sentinel_gateway.core.confidence.curve import Point
from sentinel_gateway.core.confidence.learner import Fit, Prior, State
from sentinel_gateway.core.confidence.rarity import Counts
from sentinel_gateway.core.evidence import Standings, realm
from sentinel_gateway.core.matching import Thresholds
from sentinel_gateway.pipeline.evidence import Habits
from sentinel_gateway.pipeline.handle import Cached
from sentinel_gateway.pipeline.learned import written
from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex
from tests.fakes import FakeClock, completion
from tests.pipeline.conftest import Path, question

DIMENSION = 32
HERE = realm("", "")
GAP = 2.0
"""Seconds between two requests."""


def credulous() -> bytes:
    """What is kept of a learner that takes all answers for right, and thinks it has proof."""
    fit = Fit(Prior().weights, (Point(0.0, 0.0, 0.0),), labels=1_000)
    return written(State(fit, (), {}, {}, {}, Counts()))


class World:
    """Questions around answers that come in pairs of neighbours: `apart` says how far the two of a pair are from each other."""

    def __init__(self, seed: int, *, pairs: int = 40, apart: float = 0.25, spread: float = 0.2) -> None:
        self._chance = np.random.default_rng(seed)
        centres = self._unit(self._chance.standard_normal((pairs, DIMENSION)))
        self._centres = np.concatenate([centres, self._unit(centres + apart * self._noise(pairs))])
        self._spread = spread
        self._vectors: dict[str, np.ndarray] = {}
        self.answers: dict[str, int] = {}

    def question(self) -> str:
        """One that was never asked before. The words of two questions never object to each other."""
        number = len(self.answers)
        text = "please" + "!" * (number % 50) + " " * (number // 50)
        answer = self.answers[text] = int(self._chance.integers(len(self._centres)))
        self._vectors[text] = self._unit(self._centres[answer] + self._spread * self._noise(1)[0]).astype(np.float32)
        return text

    def vector(self, text: str) -> np.ndarray:
        """Of a question; all answers have the same, so that only their texts tell them apart."""
        found = self._vectors.get(text)
        return np.full(DIMENSION, DIMENSION**-0.5, np.float32) if found is None else found

    def _noise(self, count: int) -> np.ndarray:
        return self._chance.standard_normal((count, DIMENSION)) / DIMENSION**0.5

    @staticmethod
    def _unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class Loop:
    """The path in such a world. `asked`, `hits` and `wrong` count requests, and those that a stored answer was to serve."""

    def __init__(self, seed: int, *, exploration: float, budget: float = 0.01, most_wrong: float = 0.01, **world) -> None:
        self.world = World(seed, **world)
        self.index = MemoryIndex(model="directions", dimension=DIMENSION, limits=IndexLimits(), clock=FakeClock())
        self.path = path = Path(semantic=self.index, judged=True)
        path.embedder.vector = self.world.vector
        path.semantic.thresholds = Thresholds(0.95, 0.7, ErrorBudgets(budget))
        habits = Habits(exploration=exploration, budget=1.0, threshold=0.95, least=0.7, most_wrong=most_wrong)
        path.evidence.use(habits, path.pipeline._dispatch, lambda: None)  # noqa: SLF001 - the wiring has it
        self._chance = random.Random(seed)
        self.asked = self.hits = self.wrong = 0

    async def stock(self, count: int) -> None:
        """So many answers are there, and nothing was compared yet."""
        for _ in range(count):
            await self._ask(read=False)

    async def run(self, count: int, *, look: int = 50) -> Standings:
        """So many requests; how things stand is looked at after each `look`."""
        standings = self.path.evidence.log.standings
        for number in range(1, count + 1):
            reply, journey, answer = await self._ask()
            self.asked += 1
            found = reply.hit if isinstance(reply, Cached) else None if journey.trial is None else journey.trial.hit
            if found is not None:
                self.hits += 1
                self.wrong += self.world.answers[found.entry.text] != answer
            if number % look == 0:
                standings = await self.path.evidence.log.estimate()
        return standings

    @property
    def compared(self) -> int:
        """Hits that were explored."""
        return self.path.evidence.compared.total()

    async def _ask(self, **wish):
        text = self.world.question()
        answer = self.world.answers[text]
        self.path.clock.now += GAP
        self.path.chance = self._chance.random()
        self.path.first.replies.clear()
        self.path.first.replies.append(completion(f"{answer}."))
        journey = self.path.journey(**wish)
        journey.sentinel_id = f"s-{len(self.world.answers)}"
        reply, _ = await self.path.ask(question(text), journey)
        await self._at_rest()
        return reply, journey, answer

    async def _at_rest(self) -> None:
        while self._busy:  # noqa: ASYNC110 - a thousand times a second
            await asyncio.sleep(0)

    @property
    def _busy(self) -> bool:
        evidence = self.path.evidence
        return evidence._comparing is not None or evidence.calibration._refitting is not None  # noqa: SLF001 - nothing tells

    async def close(self) -> None:
        await self.path.evidence.close()
        await self.path.semantic.close()
        await self.index.close()
