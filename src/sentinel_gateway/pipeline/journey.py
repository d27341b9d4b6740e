"""One request under way: the record that is being made of it, and what only the path needs."""

from collections.abc import Callable, Mapping

from sentinel_gateway.core.access import ANONYMOUS, ANYBODY, Caller
from sentinel_gateway.core.bound import Restriction
from sentinel_gateway.core.budget import NONE
from sentinel_gateway.core.caching import Miss, NotStorable, Store, Wish
from sentinel_gateway.core.evidence import Study, Trial, Weighed, realm
from sentinel_gateway.core.experiments import Place
from sentinel_gateway.core.explanation import Explanation
from sentinel_gateway.core.identity import Question, Unfit
from sentinel_gateway.core.matching import Bar, Neighbour
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.pipeline.budgeting import Capped
from sentinel_gateway.pipeline.limiting import Grant


class Journey(Record, kw_only=True):
    """What one request has met so far; the steps write it down as they go. Times are `ports.Clock` seconds; 0.0 = not reached."""

    caller: Caller = ANYBODY
    tenant: str = ANONYMOUS
    """Whose answers it shares: the caller's tenant, or its cache group."""
    writer: str = ANONYMOUS
    """The id of the caller's key."""
    grant: Grant | None = None
    """Its share of the caller's limits."""
    capped: Capped | None = None
    """What a provider is asked instead, so that the caller's budget does for it."""
    idempotency_key: str = ""
    """Under which it is done once; empty if it may be done again."""
    wish: Wish = Wish()
    through: str = ""
    """The gateways that it has come through, as `Via` tells them."""
    version: str = ""
    """Of Anthropic's API, in which its caller asks, if not in the usual one."""
    betas: str = ""
    """What its caller switches on at a provider, by a header of Anthropic's."""
    question: Question | Unfit | None = None
    """What is compared by meaning; None before that is known, and where there is no semantic tier."""
    neighbours: tuple[Neighbour, ...] = ()
    """Stored questions that stood near it, the most similar first."""
    place: Place | None = None
    """In an experiment, if it is part of one."""
    stricter: Mapping[str, float] = NONE
    """Error budgets below the deployment's that hold for it, by their names."""
    bar: Bar | None = None
    """What they had to reach."""
    weighed: Weighed | None = None
    """How sure it is that the stored answer which came into question is right; None where nobody asked."""
    considered: str = ""
    """The id of the stored answer that came into question, whether or not it was sure enough."""
    trial: Trial | None = None
    """The hit that is explored instead of being served."""
    study: Study | None = None
    """What the provider's answer will be held against, after a miss that was drawn for it."""
    restriction: Restriction | None = None
    """What a question that is bound to its moment or its asker is held to; None for most."""
    explanation: Explanation | None = None
    """What stood near the question, if the caller wants to be told and anything was compared."""
    miss: Miss | None = None
    kept: Store | NotStorable | None = None
    paid: Attempt | None = None
    """The call of a provider that was counted last: what the answer itself has cost."""
    lost: int = 0
    """Tokens of streams that were withheld and broke off (`recovery.py`): what was spent beside the answer."""
    epoch: int = 0
    waited: float = 0.0
    """Seconds in which another node was to bring the answer, before a provider was asked."""
    upstream_started: float = 0.0
    upstream_ended: float = 0.0
    first_byte: float = 0.0
    goes_on: bool = False
    """Work is done for it that its end does not end."""
    told: Callable[["Journey"], None] | None = None
    """Whoever remembers it, and is told when it has ended."""
    report: Callable[["Journey"], None] | None = None
    """Where it has ended and work goes on: who is told of it after that."""

    def __repr__(self) -> str:
        return f"<Journey {self.sentinel_id} {self.route} {self.outcome} status={self.status}>"

    @property
    def realm(self) -> str:
        """Whose questions are learned from together with this one."""
        return realm(self.tenant, self.wish.namespace)

    @property
    def is_shadowed(self) -> bool:
        """Is nothing to be served to it in other words, and what would be compared?"""
        return self.place is not None and self.place.arm.shadow

    def end(self, now: float) -> None:
        """The request has ended: the record is complete, and changes no more."""
        self.seconds = now - self.at
        self.stored = isinstance(self.kept, Store)
        self.account, self.key = self.caller.tenant or "", self.caller.actor
        if self.upstream_started:
            self.upstream_seconds = max(0.0, self.upstream_ended - self.upstream_started)
        if self.first_byte:
            self.first_byte_seconds = self.first_byte - self.at
        if self.told is not None:
            self.told(self)
