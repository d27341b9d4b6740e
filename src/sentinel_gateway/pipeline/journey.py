"""What one request has met so far. The steps write it down as they go; the inward face makes the record of it, once."""

from sentinel_gateway.core.caching import Miss, NotStorable, Store, Tier, Wish
from sentinel_gateway.core.record import Outcome, Record

ANONYMOUS = ""
"""The tenant of a gateway without keys."""


class Journey:
    """One request under way. Times are `ports.Clock` seconds; 0.0 = not reached."""

    __slots__ = (
        "answered_by",
        "client",
        "completion_tokens",
        "epoch",
        "error",
        "first_byte",
        "hit_tier",
        "kept",
        "method",
        "miss",
        "model",
        "outcome",
        "prompt_tokens",
        "request_id",
        "route",
        "sentinel_id",
        "started",
        "status",
        "stream",
        "tenant",
        "upstream_ended",
        "upstream_started",
        "wish",
        "writer",
    )

    def __init__(self, *, route: str, method: str, request_id: str, sentinel_id: str, started: float, client: str) -> None:
        self.route = route
        self.method = method
        self.request_id = request_id
        self.sentinel_id = sentinel_id
        self.started = started
        self.client = client
        self.tenant = ANONYMOUS
        self.writer = ANONYMOUS
        self.wish = Wish()
        self.status = 0
        self.outcome: Outcome = "none"
        self.hit_tier: Tier | None = None
        self.miss: Miss | None = None
        self.kept: Store | NotStorable | None = None
        self.model = ""
        self.answered_by = ""
        self.stream = False
        self.epoch = 0
        self.upstream_started = 0.0
        self.upstream_ended = 0.0
        self.first_byte = 0.0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.error = ""

    def __repr__(self) -> str:
        return f"<Journey {self.sentinel_id} {self.route} {self.outcome} status={self.status}>"

    def record(self, now: float) -> Record:
        """This journey, ended now."""
        return Record(
            at=self.started,
            request_id=self.request_id,
            sentinel_id=self.sentinel_id,
            route=self.route,
            method=self.method,
            status=self.status,
            seconds=now - self.started,
            outcome=self.outcome,
            tier=self.hit_tier or "",
            model=self.model,
            target=self.answered_by,
            stream=self.stream,
            stored=isinstance(self.kept, Store),
            upstream_seconds=max(0.0, self.upstream_ended - self.upstream_started),
            first_byte_seconds=max(0.0, self.first_byte - self.started),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            error=self.error,
            client=self.client,
        )
