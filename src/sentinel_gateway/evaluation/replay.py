"""One rule over one stream: look up, answer from the cache or from the provider, hear the judge."""

import random
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from sentinel_gateway.core.bound import BoundRules, restriction
from sentinel_gateway.core.identity import unfit_text
from sentinel_gateway.evaluation.corpus import Corpus, Shelf
from sentinel_gateway.evaluation.tally import Tally

CANDIDATES: Final = 5
"""Neighbours that a rule may choose from, as in the gateway."""


class Request(NamedTuple):
    """`text` by its number in the corpus. Only within a scope may anything be shared, and only within a realm learned from.

    `answer`: the true one; None if no other question has it.
    """

    text: int
    answer: str | None
    scope: str = ""
    realm: str = ""


class Candidate(NamedTuple):
    """A stored question and its cosine to the one asked."""

    text: int
    similarity: float


class Asked(NamedTuple):
    """A request that reached the decision, with its neighbours, the nearest first."""

    text: int
    scope: str
    candidates: Sequence[Candidate]
    realm: str = ""


class Decision(NamedTuple):
    """`serve`: answer from the candidate.

    Else the provider is asked, and the judge is, about the candidate's answer and those of `compared`.
    """

    candidate: Candidate | None = None
    serve: bool = False
    confidence: float = 0.0
    compared: Sequence[Candidate] = ()


class Policy(Protocol):
    """A rule that decides, and may learn."""

    def decide(self, asked: Asked, chance: random.Random) -> Decision: ...

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:
        """What the judge said of the answers to other texts, by their numbers. Is the fresh answer to be stored?"""
        ...


class Judge(NamedTuple):
    """Knows the truth, but errs in a share of its verdicts, whichever way they go, and has none in another share."""

    errs: float = 0.0
    silent: float = 0.0

    def compare(self, truths: Mapping[int, bool], chance: random.Random) -> dict[int, bool]:
        """What it says of these answers."""
        told = {text: same != (chance.random() < self.errs) for text, same in truths.items()}
        return {text: same for text, same in told.items() if chance.random() >= self.silent} if self.silent else told


def alone(corpus: Corpus, bounds: BoundRules) -> frozenset[int]:
    """Texts that the gateway compares with no other: bound to a moment or a person, too long, foreign, or not to be read."""
    return frozenset(
        number
        for number, text in enumerate(corpus.texts)
        if unfit_text(text) is not None or restriction(text, bounds) is not None or not corpus.vectors[number].any()
    )


def comparable(corpus: Corpus, stream: Sequence[Request], bounds: BoundRules) -> list[Request]:
    """Without those: only the very same request is answered by them, so they are in no rate, and stand near nothing."""
    left = alone(corpus, bounds)
    return [request for request in stream if request.text not in left]


KNOWS: Final = Judge()


def replay(corpus: Corpus, stream: Sequence[Request], policy: Policy, *, judge: Judge = KNOWS, seed: int) -> Tally:
    """Run it."""
    chance = random.Random(f"{seed} {judge.errs}")
    shelves: dict[str, Shelf] = {}
    answers = {(request.scope, request.text): request.answer for request in stream}
    tally = Tally()
    for request in stream:
        shelf = shelves.get(request.scope) or shelves.setdefault(request.scope, Shelf(corpus))
        if request.text in shelf:
            tally.exact += 1
            continue
        near = [Candidate(*found) for found in shelf.nearest(request.text, CANDIDATES)]
        asked = Asked(request.text, request.scope, near, request.realm)
        keep = True
        if asked.candidates:
            decision = policy.decide(asked, chance)
            truths = {near.text: _same(request, answers[request.scope, near.text]) for near in asked.candidates}
            right = decision.candidate is not None and truths[decision.candidate.text]
            tally.note(served=decision.serve, right=right, confidence=decision.confidence if decision.candidate else None)
            if decision.serve:
                continue
            judged = dict.fromkeys(near.text for near in (decision.candidate, *decision.compared) if near is not None)
            tally.judged += len(judged)
            keep = policy.learn(asked, decision, judge.compare({text: truths[text] for text in judged}, chance))
        if keep:
            shelf.put(request.text)
    return tally


def ideal(stream: Sequence[Request]) -> Tally:
    """A cache that knows the truth: it serves whenever an answer is there."""
    seen: set[tuple[str, str]] = set()
    scopes: set[str] = set()
    tally = Tally()
    for request in stream:
        known = request.answer is not None and (request.scope, request.answer) in seen
        if request.scope in scopes:
            tally.note(served=known, right=True, confidence=None)
        scopes.add(request.scope)
        if request.answer is not None:
            seen.add((request.scope, request.answer))
    return tally


def _same(request: Request, answer: str | None) -> bool:
    return request.answer is not None and answer == request.answer
