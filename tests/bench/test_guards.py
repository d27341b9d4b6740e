"""What each guard keeps back is counted by guard and truth, and without it more is served."""

import numpy as np

from bench import guards
from sentinel_gateway.evaluation.corpus import Corpus, ranked
from sentinel_gateway.evaluation.replay import Request
from sentinel_gateway.evaluation.traps import Pair

TEXTS = ["Is 5 km far?", "Is 6 km far?", "Is 5 km far, please?", "Do I sell my car?", "Do I buy my car?", "Is 7 km far?"]
ANSWERS = ["a", "a", "a", "b", "c", "d"]


def test_what_stops_alone_is_told_by_truth_and_what_is_served_without_it():
    vectors = np.tile(np.array([1.0, 0.0], np.float32), (len(TEXTS), 1))
    corpus = Corpus(TEXTS, vectors, ranked(vectors))
    told = guards.streamed(corpus, [Request(number, answer) for number, answer in enumerate(ANSWERS)], [None, "numbers"])
    assert told.requests == len(TEXTS)
    assert told.stopped["numbers", True] == 1, "6 km has the answer of 5 km here"
    assert told.stopped["numbers", False] == 1
    assert (told.served[None].hits, told.served["numbers"].hits) == (1, 3)
    assert (told.served[None].wrong, told.served["numbers"].wrong) == (0, 1)


def test_pairs_that_must_not_are_counted_for_the_guard_that_alone_stops_them(tmp_path):
    some = [
        Pair("number", "Is 5 km far?", "Is 6 km far?", same=False),
        Pair("number", "Is 5 km far?", "Is five km far?", same=True),
        Pair("both", "Is 5 km far?", "Is 6 km not far?", same=False),
    ]
    found = guards.stopped(some, tmp_path)
    assert found == {"numbers": 1}
    told = guards.Streamed(2, found + guards.Counter({("numbers", True): 3}), {})
    lines = list(guards.table({"S1": told}, {"made": found}))
    assert len(lines) == 3 + len(guards.NAMES)
    assert next(line for line in lines if "`numbers`" in line) == "| `numbers` | 3 / 0 |  | 1 |"
