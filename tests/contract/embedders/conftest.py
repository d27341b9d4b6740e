"""The embedders under test, a model that fails on demand, and what was told of them."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from zlib import crc32

import anyio
import msgspec
import numpy as np
import pytest

from sentinel_gateway.embedders.local import Card, LocalEmbedder, LocalLimits
from sentinel_gateway.embedders.minilm import CARD, FOLDER, MiniLM
from sentinel_gateway.ports import Embedder

FAKE = Card(name="words", dimension=64, max_chars=200)
PATIENT = LocalLimits(deadline=20.0)
"""For tests that are about something else than deadlines, on machines that are busy."""

Fault = Literal["slow", "nan", "inf", "zero", "dimension", "count", "raises"]


class FakeModel:
    """Texts that share words are near to each other. `asked` are the batches; those of more than 20 words are too long.

    With the fault "slow" it waits for `released`; `begun` counts the batches that it has begun.
    """

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.asked: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.released = threading.Event()

    def vectors(self, texts: Sequence[str]) -> list:
        self.asked.append(list(texts))
        self.begun.release()
        if self.fault == "slow":
            assert self.released.wait(30)
        if self.fault == "raises":
            raise RuntimeError("out of luck")
        vectors = [None if len(text.split()) > 20 else self._vector(text) for text in texts]
        return vectors[1:] if self.fault == "count" else vectors

    def _vector(self, text: str) -> np.ndarray:
        words = text.split() or [text]
        vector = sum(np.random.default_rng(crc32(repr(word).encode())).standard_normal(FAKE.dimension) for word in words)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        match self.fault:
            case "nan" | "inf":
                vector[7] = float(self.fault)
            case "zero":
                vector[:] = 0
            case "dimension":
                vector = vector[:-1].copy()
        return vector


class Told:
    """The events of an embedder, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str]]] = []

    def __call__(self, event: str, **fields: str) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that happens by itself."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread
            await anyio.sleep(0.005)


async def open_fake(model: FakeModel, told: Callable[..., None], *, limits: LocalLimits = PATIENT) -> LocalEmbedder:
    return await LocalEmbedder.open(FAKE, lambda: model, limits=limits, on_event=told)


@pytest.fixture(scope="session")
def minilm() -> MiniLM:
    """Loaded once for all tests."""
    return MiniLM(FOLDER)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def model() -> Iterator[FakeModel]:
    model = FakeModel()
    yield model
    model.released.set()


@pytest.fixture
async def opened(model, told, anyio_backend) -> AsyncIterator[Callable]:
    """To be called with limits: an embedder around the fake model, closed at the end."""
    embedders = []

    async def open_one(**limits) -> LocalEmbedder:
        embedders.append(await open_fake(model, told, limits=msgspec.structs.replace(PATIENT, **limits)))
        return embedders[-1]

    yield open_one
    model.released.set()
    for embedder in embedders:
        await embedder.close()


ADAPTERS = ("minilm", "fake")


@pytest.fixture(params=ADAPTERS)
async def embedder(request, minilm, model, told, anyio_backend) -> AsyncIterator[Embedder]:
    if request.param == "minilm":
        embedder = await LocalEmbedder.open(CARD, lambda: minilm, limits=PATIENT, on_event=told)
    else:
        embedder = await open_fake(model, told)
    yield embedder
    await embedder.close()


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with the model's files, to be damaged."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in FOLDER.iterdir():
        (folder / path.name).symlink_to(path)
    return folder
