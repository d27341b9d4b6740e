"""How the last requests were decided that no exact tier had an answer for: for whoever asks about one of them.

What is kept is what the path has in its hands anyway; what every rule says of the candidates is found out when somebody asks. Of
this node alone, in memory, some 8 KB each at most. Questions are among it, since the rules are about them; whether
they are told is for the configuration to say.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from sentinel_gateway.core.bound import Restriction
from sentinel_gateway.core.caching import Miss, NotStorable, Step, Store
from sentinel_gateway.core.explanation import candidate
from sentinel_gateway.core.guards import Guard, doubts
from sentinel_gateway.core.identity import Question, Unfit
from sentinel_gateway.core.matching import Bar, Neighbour
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Grant
from sentinel_gateway.pipeline.plan import Plan

MOST: Final = 500


class Candidate(msgspec.Struct, frozen=True):
    """A stored question that stood near. `objections` are all reasons why its answer may not serve, by the closed list of them.

    `weighed` false: no rule objects, but how sure it is was never asked, since another came into question. `doubts` are guards
    that object to what labels say is mostly right: how sure it is decides instead of them.
    """

    entry: str
    similarity: float
    objections: tuple[str, ...]
    weighed: bool
    doubts: tuple[Guard, ...]
    text: str


class Remembered(msgspec.Struct, eq=False):
    """One of them. `key` is that of the exact tiers; `tenant` is the one whose key asked, None the operator.

    `space`: the tenant as entries have it. `epoch`: that of the tiers when it was looked for (`Tiers.cleared_since`).
    """

    id: str
    tenant: str | None
    key: str
    token_limit: int | None
    question: Question | Unfit | None
    restriction: Restriction | None
    neighbours: tuple[Neighbour, ...]
    bar: Bar | None
    confidence: float | None
    """Of the stored answer that came into question, if that was asked."""
    considered: str
    """The id of that answer; empty if none came into question."""
    explored: bool
    """It was compared with a provider's answer instead of being served."""
    grant: Grant | None
    space: str
    epoch: int
    steps: tuple[Step, ...]
    """Of the tiers that did not answer, the farthest first."""
    kept: Store | NotStorable | None = None
    waited: float = 0.0

    def end(self, journey: Journey) -> None:
        """What only the end knows."""
        self.kept, self.waited = journey.kept, journey.waited
        if journey.miss is not None:
            self.steps = journey.miss.steps

    def candidates(self) -> Iterator[Candidate]:
        """What stood near, the nearest first. Some milliseconds: not for the event loop."""
        asked, bar = self.question, self.bar
        if not isinstance(asked, Question) or bar is None:
            return
        for near in self.neighbours:
            is_considered = near.head.key == self.considered
            told = self.confidence if is_considered else None
            if told is None and bar.confidence == math.inf:
                told = 0.0  # however sure it were, nothing serves
            judged = candidate(asked.text, near, bar, token_limit=self.token_limit, confidence=told)
            vetoed = {objection.removeprefix("guard-") for objection in judged.objections}
            doubted = tuple(sorted(doubts(asked.text, near.head.text) - vetoed))
            weighed = bar.confidence is None or is_considered or bool(judged.objections)
            yield Candidate(near.head.key, near.similarity, judged.objections, weighed, doubted, near.head.text)


class Recollection:
    """The last of them. Of the event loop's thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Remembered] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Recollection {len(self._found)} requests>"

    def note(self, plan: Plan, journey: Journey, miss: Miss) -> None:
        """Take one that is about to be answered with a semantic hit or asked of a provider, after the exact tiers' `miss`."""
        one = self._found[journey.sentinel_id] = Remembered(
            journey.sentinel_id,
            journey.caller.tenant,
            plan.key,
            plan.request.token_limit,
            journey.question,
            journey.restriction,
            journey.neighbours,
            journey.bar,
            None if journey.weighed is None else journey.weighed.confidence,
            journey.considered,
            journey.trial is not None,
            journey.grant,
            journey.caller.space,
            journey.epoch,
            miss.steps,
        )
        journey.told = one.end
        if len(self._found) > MOST:
            self._found.popitem(last=False)

    def find(self, id_: str) -> Remembered | None:
        """By our own id of the request."""
        return self._found.get(id_)
