"""What each guard keeps back, right and wrong: `python -m bench.guards --data DIR`.

Of streams with known answers: the nearest stored questions to which one guard alone objects, and what the gateway would serve at
an error budget of 1 % if that guard were not there. Of pairs that must not share an answer: those that it alone stops. Sets and
vectors are those of `bench.evaluation`; about five minutes, the same every time.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import evaluation, pairs
from sentinel_gateway import rules
from sentinel_gateway.core.guards import OBJECTIONS, SOFT, Guard, vetoes
from sentinel_gateway.evaluation.corpus import Corpus
from sentinel_gateway.evaluation.policies import Guards
from sentinel_gateway.evaluation.replay import Asked, Decision, Request, alone, comparable, replay
from sentinel_gateway.evaluation.tally import Tally
from sentinel_gateway.evaluation.traps import Pair
from sentinel_gateway.settings.model import Settings

STREAMS: Final = ("S1", "S2")
NAMES: Final = tuple(name for name, _ in OBJECTIONS)
TRIALS: Final = ("generated", "CheckList", pairs.TRAPS)


class Opinions:
    """Every guard's objections to pairs of texts, remembered: all runs ask about the same."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._known: dict[tuple[int, int, bool], frozenset[Guard]] = {}

    def of(self, a: int, b: int, *, weighed: bool) -> frozenset[Guard]:
        """Those that veto."""
        asked = (a, b, weighed)
        if asked not in self._known:
            self._known[asked] = frozenset(vetoes(self._texts[a], self._texts[b], weighed=weighed))
        return self._known[asked]


class Without(Guards):
    """The guards but for one, or all of them."""

    def __init__(self, opinions: Opinions, left_out: Guard | None) -> None:
        super().__init__([])
        self._opinions = opinions
        self._left_out = {left_out}

    def vetoed(self, a: int, b: int, *, weighed: bool = False) -> bool:
        """Does any object?"""
        return not self._opinions.of(a, b, weighed=weighed) <= self._left_out


class Alone:
    """Serves nothing, so that everything is stored; notes to which nearest questions one guard alone objects."""

    def __init__(self, opinions: Opinions, answers: Mapping[int, str | None]) -> None:
        self._opinions = opinions
        self._answers = answers
        self.stopped: Counter[tuple[Guard, bool]] = Counter()
        """By guard and truth."""

    def decide(self, asked: Asked, chance: random.Random) -> Decision:  # noqa: ARG002 - nothing is left to chance
        near = asked.candidates[0]
        objecting = self._opinions.of(asked.text, near.text, weighed=True)
        if near.similarity >= rules.thresholds(Settings()).least and len(objecting) == 1:
            answer = self._answers[asked.text]
            self.stopped[next(iter(objecting)), answer is not None and answer == self._answers[near.text]] += 1
        return Decision()

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:  # noqa: ARG002
        """Nothing."""
        return True


class Streamed(NamedTuple):
    """Of a stream: what stopped alone, and what was served with all guards (None) and without each."""

    requests: int
    stopped: Counter[tuple[Guard, bool]]
    served: dict[Guard | None, Tally]


def streamed(corpus: Corpus, drawn: Sequence[Request], left_out: Sequence[Guard | None]) -> Streamed:
    """Replay it once for each guard that is left out."""
    stream = comparable(corpus, drawn, rules.bound_rules(Settings()))
    opinions = Opinions(corpus.texts)
    watching = Alone(opinions, {request.text: request.answer for request in stream})
    replay(corpus, stream, watching, seed=0)
    served: dict[Guard | None, Tally] = {}
    for guard in left_out:
        policy = evaluation.sentinel(corpus.texts, Without(opinions, guard), evaluation.BUDGET)
        served[guard] = replay(corpus, stream, policy, seed=0)
        evaluation.say(f"without {guard}", f"{served[guard].hit_rate:.1%} hits")
    return Streamed(len(stream), watching.stopped, served)


def stopped(some: Sequence[Pair], cache: Path) -> Counter[Guard]:
    """Of the pairs that must not share an answer and are near enough, how many each guard stops that no other does."""
    corpus = Corpus.of([text for pair in some for text in (pair.stored, pair.asked)], cache, rank=False)
    opinions, left = Opinions(corpus.texts), alone(corpus, rules.bound_rules(Settings()))
    least, found = rules.thresholds(Settings()).least, Counter[Guard]()
    for pair in some:
        a, b = corpus.number[pair.stored], corpus.number[pair.asked]
        if not pair.same and left.isdisjoint((a, b)) and float(corpus.vectors[a] @ corpus.vectors[b]) >= least:
            objecting = opinions.of(b, a, weighed=True)
            found.update(objecting if len(objecting) == 1 else ())
    return found


def table(found: Mapping[str, Streamed], tried: Mapping[str, Counter[Guard]]) -> Iterator[str]:
    """A line for each guard."""
    heads = [f"{name}: alone before right / wrong | {name} without it: hits @ error" for name in found]
    yield f"| guard | {' | '.join((*heads, *(f'{name}: it alone stops' for name in tried)))} |"
    yield "| --- |" + (2 * len(found) + len(tried)) * " --- |"
    for guard in (None, *NAMES):
        cells = []
        for told in found.values():
            alone_before = "" if guard is None else f"{told.stopped[guard, True]} / {told.stopped[guard, False]}"
            tally = told.served.get(guard)
            cells += [alone_before, "" if tally is None else f"{100 * tally.hit_rate:.1f} % @ {100 * tally.error:.2f} %"]
        cells += ["" if guard is None else f"{counted[guard]}" for counted in tried.values()]
        name = "(all guards)" if guard is None else f"`{guard}`" + (" (doubts in rewordings)" if guard in SOFT else "")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the public sets, a folder each")
    parser.add_argument("--cache", type=Path, default=Path("data/evaluation"), help="where vectors are kept")
    parser.add_argument("--streams", nargs="*", default=STREAMS, choices=STREAMS, help="streams to replay")
    parser.add_argument("--seed", type=int, default=0, help="order of the streams")
    options = parser.parse_args()
    found = {}
    for part in options.streams:
        (scene,) = evaluation.scenes(part, options.data, options.cache)
        found[scene.name] = streamed(scene.corpus, scene.draw(options.seed), [None, *NAMES])
    sets = pairs.sets(options.data)
    print("\n".join(table(found, {name: stopped(sets[name], options.cache) for name in TRIALS})))


if __name__ == "__main__":
    main()
