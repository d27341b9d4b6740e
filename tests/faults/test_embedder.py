"""F13: the embedding model fails, is slow, or makes nonsense. Other answers come as ever, and no nonsense is kept."""

import time

import numpy as np
import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.embedders.local import LocalLimits
from sentinel_gateway.pipeline.handle import Cached
from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex
from tests.contract.embedders.conftest import FAKE, FakeModel, Told, open_fake, until
from tests.fakes import completion
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

ASKED = "What is the capital of France?"
REWORDED = "What's the capital of France?"
FAULTS = ["slow", "nan", "inf", "zero", "dimension", "count", "raises"]
DEADLINE = 0.5
FAILURES = 3
PAUSE = 0.5


class Failing:
    """A path whose embedder is the real one around a model that fails, and whose index is the real one."""

    def __init__(self) -> None:
        self.model, self.told = FakeModel(), Told()

    async def __aenter__(self):
        limits = LocalLimits(deadline=DEADLINE, failures=FAILURES, pause=PAUSE)
        self.embedder = await open_fake(self.model, self.told, limits=limits)
        self.index = MemoryIndex(model="words", dimension=FAKE.dimension, limits=IndexLimits(), clock=time.monotonic)
        self.path = Path(semantic=self.index, embedder=self.embedder)
        return self

    async def __aexit__(self, *_):
        self.model.released.set()
        await self.embedder.close()
        await self.index.close()

    async def ask(self, text: str) -> bool:
        """Was it answered from the cache? What is as similar as these texts are may serve."""
        self.path.first.replies.append(completion("Paris."))
        reply, journey = await self.path.ask(question(text), self.path.journey(similarity_threshold=0.75))
        if not isinstance(reply, Cached):
            assert journey.outcome == "miss"
            return False
        self.path.first.replies.pop()
        return True


@pytest.mark.parametrize("fault", FAULTS)
async def test_everything_but_reworded_questions_is_answered_as_ever(fault):
    async with Failing() as failing:
        failing.model.fault = fault
        for number in range(2 * FAILURES):
            text = f"{ASKED} {'please ' * number}"
            assert not await failing.ask(text)
            assert await failing.ask(text), "the same in the same words"
        assert failing.model.asked, "it was asked"
        assert failing.told.names[:1] == ["embedder_down"]
        assert not failing.embedder.works
        _, vectors = failing.index.size()
        assert vectors == 0, "nothing of it was kept"
        began = time.monotonic()
        assert not await failing.ask(REWORDED)
        assert time.monotonic() - began < DEADLINE, "it is left alone"

        failing.model.fault = None
        failing.model.released.set()
        await until(lambda: time.monotonic() > began + PAUSE)
        await failing.ask("What is the capital of France, then?")
        await failing.ask("What is the capital of France, now?")
        assert failing.embedder.works
        assert failing.told.names == ["embedder_down", "embedder_up"]
        assert failing.index.size()[1] > 0
        kept = [vector async for page in failing.index.questions(Selector(), time.time()) for _, vector in page]
        assert all(np.isfinite(vector).all() for vector in kept if vector is not None)
        assert await failing.ask("What is the capital of France"), "reworded questions are answered again"
