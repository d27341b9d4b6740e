"""Whom one request asks, in which order, how often, and when it gives up. The only place that retries.

Until the first word of an answer the next target is asked at once; the same target only after a pause, if its retry budget
allows it. What is retried stands on the class of the error (`errors/`): `next_target` and `retry`. A target whose circuit is
open, that asked for a pause or that refused our key is passed over while another can be asked. If none can, the request waits for
the first that will be, within its patience: a 429 with nowhere else to go costs time, not an answer.

Counting attempts alone makes a storm of every outage: three attempts a request are three times the load just when a provider has
least to give. So the same target is asked again for one request in ten; what goes to another target is no retry to either.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sentinel_gateway.core.routing import Conduct, Target
from sentinel_gateway.core.standing import Standings
from sentinel_gateway.errors import UpstreamBroken, UpstreamError, UpstreamLimited, UpstreamRefused

NO_SUCH_MODEL: Final = frozenset({404, 410})
NEVER: Final = float("inf")
IN_TIME: Final = 0.99
"""Of the time that a request has: who could only be asked later than that is not asked, for the answer would be too late."""


class RetryRules(msgspec.Struct, frozen=True):
    """`attempts` at all targets together; `patience`: seconds after which a request asks no target twice and waits for none."""

    attempts: int = 3
    patience: float = 60.0


class Pause(msgspec.Struct, frozen=True):
    """Nobody can be asked for so many seconds."""

    seconds: float


class Course(msgspec.Struct, eq=False):
    """The attempts of one request. `chance` gives 0..1; `conduct` is its route's, where that is other than usual."""

    targets: Sequence[Target]
    standings: Standings
    rules: RetryRules
    started: float
    chance: Callable[[], float]
    conduct: Conduct | None = None
    made: int = 0
    due: dict[Target, float] = {}
    """When those that were asked, or are waited for, may be."""
    errors: dict[Target, UpstreamError] = {}
    """Of those that were asked. Who is asked once more is in it."""
    is_over: bool = False
    """Nobody is asked any more, whatever comes of who is being asked."""

    def __repr__(self) -> str:
        return f"<Course of {self.made} attempts at {len(self.targets)} targets>"

    def next(self, now: float, *, beside: Target | None = None) -> Target | Pause | None:
        """Whom to ask now; None if there is nobody left to ask, or no time. `beside`: while that one is being asked."""
        if self._has_ended(now):
            return None
        for target in self.targets:
            if target not in self.errors and target is not beside:
                standing = self.standings.find(target.name)
                if standing is None or standing.is_open_to(now):
                    self.made += 1
                    return target
        return self._next_best(now) if beside is None else None

    def has_another(self, now: float, beside: Target) -> bool:
        """May another be asked while `beside` is, now or later?"""
        return not self._has_ended(now) and any(target not in self.errors and target is not beside for target in self.targets)

    @property
    def _end(self) -> float:
        """From when on nobody is asked any more."""
        total = None if self.conduct is None else self.conduct.total
        return NEVER if total is None else self.started + IN_TIME * total

    def _has_ended(self, now: float) -> bool:
        return self.is_over or self.made >= self.rules.attempts or (self.conduct is not None and now >= self._end)

    def _next_best(self, now: float) -> Target | Pause | None:
        """The one that can be asked soonest, of those that are to be waited for."""
        at, index = min((self._ready(target, now), index) for index, target in enumerate(self.targets))
        if at > min(self.started + self.rules.patience, self._end):
            return None
        if at > now:
            return Pause(at - now)
        self.made += 1
        return self.targets[index]

    def _ready(self, target: Target, now: float) -> float:
        """When it can be asked; never, if a retry mends nothing, if none is left, or if another probes its circuit."""
        error = self.errors.get(target)
        if error is not None and not error.retry:
            return NEVER
        standing = self.standings.of(target.name)
        if not standing.circuit.admits(now, last=True) or (error is not None and not standing.may_retry):
            return NEVER
        ready = max(now, self.due.get(target, 0.0))
        if standing.cooled_until <= ready:
            return ready
        # Whoever waits for it comes back at another moment than all others.
        self.due[target] = standing.cooled_until + self.chance()
        return self.due[target]

    def failed(self, target: Target, error: UpstreamError, now: float) -> None:
        """It was asked, and that came of it."""
        self.errors[target] = error
        self.due[target] = now + (error.retry_after or 0.0) + self.chance() * 2 ** (self.made - 1)
        goes_on = error.next_target or _unknown_there(error)
        careful = self.conduct is not None and target in self.conduct.careful
        if not goes_on or (careful and not error.untouched):
            self.is_over = True  # for good: one that was asked beside it may fail later

    def passed_over(self, target: Target, error: UpstreamRefused) -> None:
        """It can't be asked this at all: that was no attempt, and no error of a provider's."""
        self.made -= 1
        self.errors[target] = error

    def why(self, now: float) -> UpstreamError:
        """Why nobody was asked. Where one could have been, that is told: what the others have no word for mends nothing."""
        target = next((target for target in self.targets if target not in self.errors), None)
        if target is None:
            return self.errors[self.targets[-1]]
        standing = self.standings.of(target.name)
        if standing.cooled_until > now:
            wait = standing.cooled_until - now
            return UpstreamLimited(f"{target.provider}'s rate limit is reached.", retry_after=wait)
        return UpstreamBroken(f"{target.provider} has failed again and again: it is asked once a second until it answers.")


def _unknown_there(error: UpstreamError) -> bool:
    """The provider does not know the model, or any more: that is wrong with its target, not with the request."""
    return isinstance(error, UpstreamRefused) and error.upstream_status in NO_SUCH_MODEL
