"""How a target stands with us: its circuit, the pause it asked for, whether it refused our key, how fast and how busy it is.

Most targets have no standing: nothing is remembered of one that is alone in its route until it fails, so that asking it costs
nothing. `now` is in seconds of any clock that only goes forward.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

from sentinel_gateway.core.circuit import Circuit, CircuitRules, State
from sentinel_gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)

RESERVE: Final = 10.0
"""Retries that a target has to begin with, and at most."""
REFUSED_SECONDS: Final = 60.0
"""A key that was refused is not tried for so long, where another target can be asked."""
COOL_SECONDS: Final = 1.0
"""A provider's 429 without `Retry-After`."""
FORGOTTEN_SECONDS: Final = 60.0
"""A target that was slow is tried again after so long: it may be the fastest by now."""
NEWEST: Final = 0.3
"""Weight of the newest time in the moving average."""
BEGINNINGS: Final = 200
"""Beginnings of answers that are remembered, of targets beside which others are asked."""
ENOUGH: Final = 20
"""Of them, before anything is said of them."""
IN_TIME: Final = 0.95
MOST: Final = 1024
"""Targets of which anything is remembered."""

FAILING: Final = (UpstreamBroken, UpstreamTimeout, UpstreamUnreachable)
"""Errors that say that a target is failing, not that something is wrong with the request, our key or our pace."""


class StandingRules(msgspec.Struct, frozen=True):
    """`retry_budget`: share of a target's requests that may be asked of it again; `cool_down`: seconds of the longest pause."""

    circuit: CircuitRules = CircuitRules()
    retry_budget: float = 0.1
    cool_down: float = 30.0


class Standing:
    """One target's."""

    __slots__ = ("_asked_at", "_beginnings", "_paces", "_retries", "_rules", "busy", "circuit", "cooled_until", "refused_until")

    def __init__(self, rules: StandingRules) -> None:
        self._rules = rules
        self.circuit = Circuit(rules.circuit)
        self.cooled_until = 0.0
        self.refused_until = 0.0
        self.busy = 0
        """Requests that it is working on."""
        self._retries = RESERVE if rules.retry_budget else 0.0
        self._paces: dict[bool, float] = {}
        self._asked_at: dict[bool, float] = {}
        self._beginnings: dict[bool, deque[float]] = {}

    def __repr__(self) -> str:
        return f"<Standing {self.circuit!r}, {self.busy} under way>"

    def use(self, rules: StandingRules) -> None:
        """Go by these rules from now on; a key that was refused may be another one by now."""
        self._rules = rules
        self.circuit.rules = rules.circuit
        self.refused_until = 0.0
        if not rules.retry_budget:
            self._retries = 0.0

    # --- before ---

    def is_open_to(self, now: float) -> bool:
        """May it be asked like any other?"""
        return now >= self.cooled_until and now >= self.refused_until and self.circuit.admits(now, last=False)

    @property
    def may_retry(self) -> bool:
        """Is anything left of its retry budget?"""
        return self._retries >= 1.0

    def enter(self, now: float, *, stream: bool, again: bool) -> int:
        """It is being asked, `again` if by the same request: the generation to report with. One `leave` belongs to each."""
        self.busy += 1
        self._asked_at[stream] = now
        if again:
            self._retries -= 1.0
        elif self._retries < RESERVE:
            self._retries = min(self._retries + self._rules.retry_budget, RESERVE)
        return self.circuit.enter(now)

    # --- after ---

    def succeeded(self, generation: int, *, stream: bool, seconds: float) -> bool:
        """It answered, in so many seconds to the first token (a whole answer: to its end); True if this closed the circuit."""
        known = self._paces.get(stream)
        self._paces[stream] = seconds if known is None else known + NEWEST * (seconds - known)
        return self.circuit.succeeded(generation)

    def failed(self, generation: int, error: UpstreamError, now: float) -> bool:
        """It did not; True if this opened the circuit."""
        if isinstance(error, UpstreamLimited):
            asked = COOL_SECONDS if error.retry_after is None else error.retry_after
            self.cooled_until = max(self.cooled_until, now + min(asked, self._rules.cool_down))
        elif isinstance(error, UpstreamUnauthorized):
            self.refused_until = now + REFUSED_SECONDS
        return isinstance(error, FAILING) and self.circuit.failed(generation, now)

    def began(self, seconds: float, *, stream: bool) -> None:
        """It took so long to begin an answer, or at least so long until it was not waited for any more."""
        self._beginnings.setdefault(stream, deque(maxlen=BEGINNINGS)).append(seconds)

    def late(self, *, stream: bool) -> float | None:
        """Seconds within which it began `IN_TIME` of its answers lately; None where too few are known."""
        known = sorted(self._beginnings.get(stream, ()))
        return known[math.ceil(IN_TIME * len(known)) - 1] if len(known) >= ENOUGH else None

    def leave(self) -> None:
        """It is not being asked any more, however that ended."""
        self.busy -= 1

    def pace(self, now: float, *, stream: bool) -> float:
        """Seconds that it takes, as a moving average; 0 where that is not known, or was not looked at for long."""
        return self._paces.get(stream, 0.0) if now < self._asked_at.get(stream, 0.0) + FORGOTTEN_SECONDS else 0.0


class Standings:
    """Those of all targets of which anything is known, by `provider/model`; the one known for longest is forgotten first."""

    def __init__(self, rules: StandingRules) -> None:
        self._rules = rules
        self._by_name: dict[str, Standing] = {}
        self._kept: frozenset[str] = frozenset()
        self.find: Callable[[str], Standing | None] = self._by_name.get
        """What is known of a target; None if nothing is."""

    def __repr__(self) -> str:
        return f"<Standings of {len(self._by_name)} targets>"

    def use(self, rules: StandingRules, compared: Iterable[str]) -> None:
        """Go by these rules from now on, and remember those that are `compared` with others from their first request."""
        self._rules = rules
        for standing in self._by_name.values():
            standing.use(rules)
        names = tuple(compared)
        self._kept = frozenset(names)
        for name in names:  # in the order of the configuration, so that they are shown in it
            self.of(name)

    def of(self, name: str) -> Standing:
        """What is known of a target, from now on something."""
        standing = self._by_name.get(name)
        if standing is None:
            if len(self._by_name) >= MOST + len(self._kept):
                del self._by_name[next(known for known in self._by_name if known not in self._kept)]
            standing = self._by_name[name] = Standing(self._rules)
        return standing

    def all(self) -> Collection[tuple[str, Standing]]:
        """What is known of each target."""
        return self._by_name.items()

    def states(self, now: float) -> dict[str, State]:
        """The circuits by target: of those that are compared, and of all that are not closed."""
        states = {name: standing.circuit.state(now) for name, standing in self._by_name.items()}
        return {name: state for name, state in states.items() if name in self._kept or state != "closed"}
