"""One rule over one stream: look up, answer from the cache or from the provider, hear the judge."""

import random
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from sentinel_gateway.evaluation.corpus import Corpus, Shelf
from sentinel_gateway.evaluation.tally import Tally

CANDIDATES: Final = 5
"""Neighbours that a rule may choose from, as in the gateway."""


class Request(NamedTuple):
    """`text` by its number in the corpus. Only within a scope may anything be shared.

    `answer`: the true one; None if no other question has it.
    """

    text: int
    answer: str | None
    scope: str = ""


class Candidate(NamedTuple):
    """A stored question and its cosine to the one asked; `around`: the mean of those of its own neighbours."""

    text: int
    similarity: float
    around: float


class Asked(NamedTuple):
    """A request that reached the decision, with its neighbours, the nearest first. `around`: the mean of their cosines."""

    text: int
    scope: str
    candidates: Sequence[Candidate]
    around: float


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


def replay(corpus: Corpus, stream: Sequence[Request], policy: Policy, *, noise: float, seed: int) -> Tally:
    """Run it. The judge errs in a share `noise` of its verdicts, whichever way they go."""
    chance = random.Random(f"{seed} {noise}")
    shelves: dict[str, Shelf] = {}
    answers = {(request.scope, request.text): request.answer for request in stream}
    tally = Tally()
    for request in stream:
        shelf = shelves.get(request.scope) or shelves.setdefault(request.scope, Shelf(corpus))
        if request.text in shelf:
            tally.exact += 1
            continue
        asked = _asked(request, shelf)
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
            keep = policy.learn(asked, decision, {text: truths[text] != (chance.random() < noise) for text in judged})
        if keep:
            shelf.put(request.text, asked.around)
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


def _asked(request: Request, shelf: Shelf) -> Asked:
    near = [Candidate(text, cosine, shelf.around[text]) for text, cosine in shelf.nearest(request.text, CANDIDATES)]
    around = sum(found.similarity for found in near) / len(near) if near else 0.0
    return Asked(request.text, request.scope, near, around)
