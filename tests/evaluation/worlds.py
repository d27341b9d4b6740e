"""Small made-up worlds: answers are directions, and questions lie around them."""

import numpy as np

from sentinel_gateway.evaluation.corpus import Corpus, ranked
from sentinel_gateway.evaluation.replay import Request


def world(answers: int, each: int, *, spread: float = 0.5, seed: int = 0) -> tuple[Corpus, list[Request]]:
    """So many answers with so many questions each, in any order. The words of two questions never object to each other."""
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((answers, 32))
    vectors = np.repeat(centres, each, axis=0) + spread * chance.standard_normal((answers * each, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors.astype(np.float32)
    texts = ["please" + "!" * (number % 50) + " " * (number // 50) for number in range(len(unit))]
    stream = [Request(number, str(number // each)) for number in range(len(unit))]
    return Corpus(texts, unit, ranked(unit)), [stream[place] for place in chance.permutation(len(stream)).tolist()]
