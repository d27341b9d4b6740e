"""What came of a simulation: what callers were told, what providers saw, and what is wrong with that."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

from sentinel_gateway.core.circuit import PROBE_SECONDS
from sentinel_gateway.core.limits import Kind
from sentinel_gateway.core.retrying import NEVER
from sentinel_gateway.core.standing import RESERVE
from tests.fakes import FakeEvents
from tests.simulation.clients import CROWD, ESTIMATE
from tests.simulation.money import ATTEMPTS, INPUT, Books

FIRST_BYTE: Final = 20.0
LATEST: Final = ATTEMPTS * FIRST_BYTE + 60.0 + 1.0
"""Each attempt takes no longer than its first byte may, and the last one begins within the patience."""
SAYING: Final = ATTEMPTS * 6.0
"""What streams that are withheld take beyond that: their pieces come at most a second apart."""


@dataclass
class Seen:
    """One call as a provider saw it."""

    sentinel_id: str
    target: str
    started: float


@dataclass
class Told:
    """How one caller's request ended: `answer`, the `error`'s name, or `left`."""

    asked: str
    ending: str = ""
    text: str = ""
    heard: str = ""
    """What of a stream had come when it ended, in whatever it did."""
    opened_after: float = 0.0
    buffered: bool = False
    tokens: int = 0
    """Of its request, as they were recorded; of one that shared another's call none."""
    cost: int = 0
    """The same in nano-USD."""
    shared: bool = False
    number: str = ""
    model: str = ""
    counted: bool = True
    """Is its caller limited in tokens?"""


@dataclass
class Outcome:
    """One run: what callers were told, what providers saw, what was told of it, and what is left."""

    told: list[Told] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    events: FakeEvents = field(default_factory=FakeEvents)
    turns: list[tuple[float, str, bool]] = field(default_factory=list)
    """When which circuit opened, or closed."""
    busy: int = 0
    net: Counter[Kind] = field(default_factory=Counter)
    """What was taken of limits and not given back."""
    crowd: int = 0
    """The most that were in flight for somebody who may have `CROWD`."""
    books: Books = field(default_factory=Books)
    held: int = 0
    overrun: int = 0
    """What is still held of budgets, and the most that was ever beyond one, in nano-USD."""
    healed: list[str] = field(default_factory=list)
    """What came of requests to each target, once all were well again."""
    stuck: list[str] = field(default_factory=list)
    """Targets whose circuits were not closed after that."""

    def digest(self) -> str:
        """The same for the same run."""
        parts = [self.told, self.seen, [(a.target, a.ending, a.seconds) for a in self.events.attempts], self.turns]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def faults(outcome: Outcome) -> list[str]:
    """What must not be, whatever the weather."""
    return [
        *_told_faults(outcome),
        *_attempt_faults(outcome),
        *_circuit_faults(outcome),
        *_limit_faults(outcome),
        *_money_faults(outcome),
    ]


def _told_faults(outcome: Outcome) -> list[str]:
    found = [f"{told.asked} never ended" for told in outcome.told if not told.ending]
    found += [
        f"{told.asked} waited {told.opened_after:.1f} s"
        for told in outcome.told
        if told.opened_after > LATEST + told.buffered * SAYING
    ]
    found += [
        f"{told.asked} heard {told.heard!r} of a stream that broke off"
        for told in outcome.told
        if told.buffered and told.heard and told.ending not in {"answer", "left"}
    ]
    found += [
        f"{told.asked} was told {told.text!r}"
        for told in outcome.told
        if told.ending == "answer" and told.text.replace("-", "") != told.asked.replace("-", "")
    ]
    if set(outcome.healed) - {"answer", "UpstreamRefused"}:
        found.append(f"a provider that is well is not asked: {outcome.healed}")
    if outcome.stuck or outcome.busy:
        found.append(f"{outcome.stuck} are thought to fail, {outcome.busy} calls to be under way")
    return found


def _attempt_faults(outcome: Outcome) -> list[str]:
    attempts = outcome.events.attempts
    found, by_request = [], defaultdict(list)
    buffered = {told.number for told in outcome.told if told.buffered}
    careful = {told.number for told in outcome.told if told.model == "careful"}
    for attempt in sorted(attempts, key=lambda attempt: attempt.number):
        by_request[attempt.sentinel_id].append(attempt)
    if Counter(a.target for a in attempts) != Counter(seen.target for seen in outcome.seen):
        found.append(f"{len(attempts)} attempts were told of, {len(outcome.seen)} were made")
    for request, made in by_request.items():
        numbers = [attempt.number for attempt in made]
        if numbers != list(range(1, len(made) + 1)) or len(made) > ATTEMPTS:
            found.append(f"request {request} has the attempts {numbers}")
        heard = min((one.at + one.first_token_seconds for one in made if one.first_token_seconds), default=NEVER)
        if request not in buffered and any(attempt.at > heard for attempt in made):
            found.append(f"request {request} was asked again after its first word")
        if request in careful and any(one.target == "a/m" and one.ending in {"broken", "timeout"} for one in made[:-1]):
            found.append(f"request {request} was asked again, though it may have been begun with")
    for target in {seen.target for seen in outcome.seen}:
        asked = [seen for seen in outcome.seen if seen.target == target]
        again = len(asked) - len({seen.sentinel_id for seen in asked})
        if again > RESERVE + 0.1 * len(asked):
            found.append(f"{target} was asked {again} times again, of {len(asked)}")
    return found


def _limit_faults(outcome: Outcome) -> list[str]:
    """What was taken is what attempts have cost. Who leaves before any word leaves behind what was reserved.

    That may have been the most that the input can be; of a stream that is cut it is taken as well, and an estimate is told.
    What such an attempt is told to have cost is an estimate, and no limit is held to it; nor to what the operator hedges.
    """
    found, net = [], outcome.net
    spent: Counter[str] = Counter()
    for attempt in outcome.events.attempts:
        if attempt.ending != "lost" and (attempt.ending != "left" or attempt.completion_tokens):
            spent[attempt.sentinel_id] += attempt.prompt_tokens + attempt.completion_tokens
    found += [
        f"{told.asked} is recorded with {told.tokens} tokens, and cost {spent[told.number]}"
        for told in outcome.told
        if told.ending == "answer" and not told.shared and told.tokens != spent[told.number]
    ]
    counted = {told.number for told in outcome.told if told.counted}
    cut = sum(
        one.ending != "answered" and one.completion_tokens > 0 for one in outcome.events.attempts if one.sentinel_id in counted
    )
    behind = net["tokens"] - sum(spent[told.number] for told in outcome.told if told.counted)
    left = sum(told.ending == "left" for told in outcome.told if told.counted)
    if not 0 <= behind <= INPUT * left + (INPUT - ESTIMATE) * cut:
        found.append(f"{net['tokens']} tokens were taken, {behind} more than were spent, and {left} have left")
    if net["concurrency"] or outcome.crowd > CROWD:
        found.append(f"{net['concurrency']} places are still taken, and {outcome.crowd} were at once")
    return found


def _money_faults(outcome: Outcome) -> list[str]:
    """The ledger has each call once, as it was; nobody spends more than they may, or holds anything in the end."""
    books = outcome.books
    found = books.faults(((seen.sentinel_id, seen.target) for seen in outcome.seen), outcome.events.attempts)
    found += [
        f"{told.asked} is told to have cost {told.cost}, and cost {books.cost(told.number)}"
        for told in outcome.told
        if told.ending == "answer" and not told.shared and told.cost != books.cost(told.number)
    ]
    if outcome.overrun > 0 or outcome.held:
        found.append(f"a budget was overrun by {outcome.overrun}, and {outcome.held} are still held")
    return found


def _circuit_faults(outcome: Outcome) -> list[str]:
    """While a circuit is open its target is asked once a second at most; but one that was left makes room for the next."""
    found = []
    left = {attempt.sentinel_id for attempt in outcome.events.attempts if attempt.ending == "left"}
    for target in {target for _, target, _ in outcome.turns}:
        opened, last = None, 0.0
        starts = [(seen.started, None) for seen in outcome.seen if seen.target == target and seen.sentinel_id not in left]
        turns = [(at, opens) for at, name, opens in outcome.turns if name == target]
        for at, opens in sorted([*starts, *turns], key=lambda one: one[0]):
            if opens is not None:
                opened, last = (at if opens else None), at
            elif opened is not None and at > opened:
                if at - last < PROBE_SECONDS - 1e-6:
                    found.append(f"{target} was asked {at - last:.3f} s after it was last")
                last = at
    return found
