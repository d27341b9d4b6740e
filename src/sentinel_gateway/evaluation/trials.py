"""Runs the gateway's rule, and those it is compared with, over labelled questions.

Pairs are asked of the gateway's own `Explainer`, each by itself. A stream is replayed: by the rule as it is set, and by the
learner at each rate (`policies`), which hears the truth about what it did not serve.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from sentinel_gateway import rules
from sentinel_gateway.evaluation.corpus import Corpus, Vectors, ranked
from sentinel_gateway.evaluation.curve import NEVER
from sentinel_gateway.evaluation.labelled import Pair, Query
from sentinel_gateway.evaluation.measured import RATES, Latency, Rule, Share, Trial, rule
from sentinel_gateway.evaluation.offline import Offline
from sentinel_gateway.evaluation.policies import Fixed, Guards, Sentinel, Terms
from sentinel_gateway.evaluation.replay import Asked, Decision, Policy, Request, comparable, replay
from sentinel_gateway.evaluation.tally import Tally
from sentinel_gateway.pipeline.explaining import Explainer
from sentinel_gateway.settings.model import Settings

Tick = Callable[[str, float], None]
"""Told at every step what is being done, and how far it is, 0 to 1."""
OURS: Final = "Sentinel"
LEARNED: Final = "Sentinel's learner"


class Outcome(NamedTuple):
    """What came of all rules, and the steps that were timed.

    Of a stream, how many questions had been asked to the letter before, and how many the gateway compares with no other.
    """

    rules: list[Rule]
    latency: list[Latency]
    exact: int = 0
    alone: int = 0


async def try_pairs(pairs: Sequence[Pair], offline: Offline, baselines: Sequence[float], tick: Tick) -> Outcome:
    """Every pair in a cache of its own: would the answer to the one serve the other?"""
    explainer = Explainer(offline.semantic, rules.bound_rules(offline.settings), rules.groups(offline.settings))
    ours: list[Trial] = []
    cosines: list[tuple[Pair, float]] = []
    embedding, judging = [], []
    for number, pair in enumerate(pairs):
        started = time.perf_counter()
        one, other = await offline.embedder.embed([pair.stored, pair.asked])
        embedded = time.perf_counter()
        found = await explainer.compare(pair.stored, pair.asked)
        judging.append(time.perf_counter() - embedded)
        embedding.append(embedded - started)
        fits = found.confidence is not None and not any(found.guards.values())
        score = found.confidence if fits and found.confidence is not None else NEVER
        ours.append(Trial(pair.category, score, pair.same, found.reason is None))
        cosines.append((pair, NEVER if one is None or other is None else float(one @ other)))
        tick("comparing pairs", number / len(pairs))
    found_rules = [rule(OURS, _setting(offline), ours)]
    for least in baselines:
        trials = [Trial(pair.category, cosine, pair.same, cosine >= least) for pair, cosine in cosines]
        found_rules.append(rule(f"cosine {least:g}", f"similarity {least:g}", trials))
    latency = [Latency.of("embed both questions", embedding), Latency.of("guards and decision", judging)]
    return Outcome(found_rules, latency)


async def try_stream(queries: Sequence[Query], offline: Offline, baselines: Sequence[float], tick: Tick) -> Outcome:
    """The questions in their order, each answered from those before it or by a provider that knows the truth."""
    texts = list(dict.fromkeys(query.text for query in queries))
    vectors, embedding = await _embed(texts, offline, tick)
    corpus = Corpus(texts, vectors, ranked(vectors))
    budget = offline.settings.cache.max_wrong_hit_rate
    runs = _Runs(corpus, queries, offline.settings, tick, count=len({*RATES, budget}) + 2 + 2 * len(baselines))
    guards = Guards(texts)
    ours, watched, exact = runs.fixed(OURS, _setting(offline), offline.semantic.thresholds.usual, guards)
    learned = runs.learned(guards, budget=budget)
    others = [runs.fixed(f"cosine {least:g}", f"similarity {least:g}", least, None)[0] for least in baselines]
    latency = [Latency.of("embed a question", embedding), Latency.of("guards and decision", watched.seconds)]
    return Outcome([ours, learned, *others], latency, exact, runs.alone)


def _setting(offline: Offline) -> str:
    return f"similarity {offline.semantic.thresholds.usual:g}, guards"


async def _embed(texts: Sequence[str], offline: Offline, tick: Tick) -> tuple[Vectors, list[float]]:
    """A row each, of zeros where the model can't read the text; and the seconds that each took."""
    vectors = np.zeros((len(texts), offline.embedder.dimension), np.float32)
    seconds = []
    for number, text in enumerate(texts):
        started = time.perf_counter()
        (vector,) = await offline.embedder.embed([text])
        seconds.append(time.perf_counter() - started)
        if vector is not None:
            vectors[number] = vector
        tick("embedding", number / len(texts))
    return vectors, seconds


class _Runs:
    """One stream, and the rules that go over it; `count` of them in all."""

    def __init__(self, corpus: Corpus, queries: Sequence[Query], settings: Settings, tick: Tick, *, count: int) -> None:
        self._corpus = corpus
        self._settings = settings
        stream = [Request(corpus.number[query.text], query.answer) for query in queries]
        self._stream = comparable(corpus, stream, rules.bound_rules(settings))
        self.alone = len(stream) - len(self._stream)
        self._categories = {corpus.number[query.text]: query.category for query in queries}
        self._answers = {request.text: request.answer for request in self._stream}
        self._tick = tick
        self._count = count
        self._done = 0

    def fixed(self, name: str, setting: str, least: float, guards: Guards | None) -> tuple[Rule, "_Watched", int]:
        """A fixed threshold, and its curve as if every question were stored. With what was timed, and the exact hits."""
        tally, watched = self._run(Fixed(least, guards=guards))
        found = rule(name, setting, self._trials(tally, watched), ranked=self._trials(*self._run(_Shadow(guards))))
        return found, watched, tally.exact

    def learned(self, guards: Guards, *, budget: float) -> Rule:
        """The learner, as it is set and held to each rate."""
        rates = {*RATES, budget}
        terms = {rate: Terms.of(self._settings, budget=rate) for rate in rates}
        runs = {rate: self._trials(*self._run(Sentinel(self._corpus.texts, guards, terms[rate]))) for rate in rates}
        held = {rate: Share.of(trials) for rate, trials in runs.items()}
        return rule(LEARNED, f"wrong-hit rate {budget:g}, guards", runs[budget], held=held)

    def _run(self, policy: Policy) -> tuple[Tally, "_Watched"]:
        watched = _Watched(policy, self._note)
        tally = replay(self._corpus, self._stream, watched, seed=0)
        self._done += 1
        return tally, watched

    def _note(self, decisions: int) -> None:
        self._tick("replaying", min(1.0, (self._done + decisions / len(self._stream)) / self._count))

    def _trials(self, tally: Tally, watched: "_Watched") -> list[Trial]:
        told = iter(tally.told)
        trials = []
        for (text, nearest, chosen), (served, _) in zip(watched.seen, tally.decided, strict=True):
            score, right = next(told) if chosen else (NEVER, self._same(text, nearest))
            trials.append(Trial(self._categories[text], score, right, served))
        return trials

    def _same(self, text: int, other: int) -> bool:
        answer = self._answers[text]
        return answer is not None and self._answers[other] == answer


class _Watched:
    """A policy, and what it was asked: the text, the nearest to it, and whether it chose any; the seconds of each decision.

    `note` is told how many there have been.
    """

    def __init__(self, policy: Policy, note: Callable[[int], None]) -> None:
        self._policy = policy
        self._note = note
        self.seen: list[tuple[int, int, bool]] = []
        self.seconds: list[float] = []

    def decide(self, asked: Asked, chance: random.Random) -> Decision:
        started = time.perf_counter()
        decision = self._policy.decide(asked, chance)
        self.seconds.append(time.perf_counter() - started)
        self.seen.append((asked.text, asked.candidates[0].text, decision.candidate is not None))
        self._note(len(self.seen))
        return decision

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:
        return self._policy.learn(asked, decision, heard)


class _Shadow:
    """Names the nearest that the guards let pass, and serves nothing: so everything is stored."""

    def __init__(self, guards: Guards | None) -> None:
        self._guards = guards

    def decide(self, asked: Asked, chance: random.Random) -> Decision:  # noqa: ARG002 - nothing is left to chance
        for near in asked.candidates:
            if self._guards is None or not self._guards.vetoed(asked.text, near.text):
                return Decision(near, confidence=near.similarity)
        return Decision()

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:  # noqa: ARG002
        """Nothing; every fresh answer is stored."""
        return True
