"""Questions with their vectors, and which are near to which: made once with the embedder that is built in, kept in a folder."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sentinel_gateway.embedders.minilm import CARD, FOLDER, MiniLM

Vectors = NDArray[np.float32]
NEAREST: Final = 256
"""So many of all texts are ranked for each one; who of them is stored is found in that order."""
ROWS: Final = 512
"""Of a product of matrices at a time."""


class Corpus:
    """Distinct texts, a vector each, and for each the numbers of those that are nearest, in order."""

    def __init__(self, texts: Sequence[str], vectors: Vectors, near: NDArray[np.int32]) -> None:
        self.texts = texts
        self.number = {text: number for number, text in enumerate(texts)}
        self.vectors = vectors
        self.near = near

    @classmethod
    def of(cls, texts: Iterable[str], cache: Path, *, rank: bool = True) -> Self:
        """Of these texts, each once; what `cache` holds of them is not made again. `rank`: will anybody look for the nearest?"""
        distinct = list(dict.fromkeys(texts))
        name = hashlib.sha256("\0".join([CARD.name, *distinct]).encode()).hexdigest()[:16]
        vectors = _kept(cache / f"{name}-vectors.npy", lambda: embed(distinct))
        near = _kept(cache / f"{name}-near.npy", lambda: ranked(vectors)) if rank else np.empty((len(distinct), 0), np.int32)
        return cls(distinct, vectors, near)

    def __repr__(self) -> str:
        return f"<Corpus of {len(self.texts)} texts>"


class Shelf:
    """What is stored in one scope: texts of a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._held = np.zeros(len(corpus.texts), bool)
        self._numbers: list[int] = []

    def __contains__(self, text: int) -> bool:
        return bool(self._held[text])

    def __len__(self) -> int:
        return len(self._numbers)

    def put(self, text: int) -> None:
        """Store a text that is not here yet."""
        self._held[text] = True
        self._numbers.append(text)

    def nearest(self, text: int, count: int) -> list[tuple[int, float]]:
        """At most so many stored texts with their cosines, the nearest first."""
        vectors = self._corpus.vectors
        order = self._corpus.near[text]
        found: NDArray[Any] = order[self._held[order]][:count]
        if len(found) < min(count, len(self._numbers)):
            stored = np.array(self._numbers)
            cosines = vectors[stored] @ vectors[text]
            found = stored[np.argsort(-cosines, kind="stable")[:count]]
        return list(zip(found.tolist(), (vectors[found] @ vectors[text]).tolist(), strict=True))


def embed(texts: Sequence[str]) -> Vectors:
    """A row each, of unit length, or of zeros for a text that the model can't read whole; about 4 ms a short text."""
    model = MiniLM(FOLDER)
    vectors = np.zeros((len(texts), CARD.dimension), np.float32)
    for number, text in enumerate(texts):
        (vector,) = model.vectors([text])
        if vector is not None:
            vectors[number] = vector
    return vectors


def ranked(vectors: Vectors) -> NDArray[np.int32]:
    """For each row the numbers of the others that are nearest, in order."""
    count = min(NEAREST, len(vectors) - 1)
    order = np.empty((len(vectors), count), np.int32)
    for start in range(0, len(vectors), ROWS):
        cosines = vectors[start : start + ROWS] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -2.0
        best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        within = np.argsort(-np.take_along_axis(cosines, best, axis=1), axis=1, kind="stable")
        order[start : start + ROWS] = np.take_along_axis(best, within, axis=1)
    return order


def _kept(path: Path, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.npy")  # others may be making the same
        np.save(part, make())
        part.replace(path)
    kept: NDArray[Any] = np.load(path)
    return kept
