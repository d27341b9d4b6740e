"""How the pipeline answers a request: from the cache, by a provider at once or bit by bit, or as it did before."""

import msgspec

from sentinel_gateway.core.caching import Hit
from sentinel_gateway.core.idempotency import Answered
from sentinel_gateway.pipeline.flight import Flight, Reader
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import Completion


class Cached(msgspec.Struct, frozen=True):
    """Answered from the cache."""

    plan: Plan
    hit: Hit


class Whole(msgspec.Struct, frozen=True):
    """Answered by a provider, at once."""

    plan: Plan
    completion: Completion


class Live(msgspec.Struct, frozen=True):
    """Being answered by a provider. Whoever holds this must call `Pipeline.close` once, in the end."""

    plan: Plan
    flight: Flight

    def reader(self) -> Reader:
        """The stream as this caller asked for it."""
        return Reader(self.flight, usage=self.plan.request.include_usage)

    def paid_by(self, journey: Journey) -> Journey:
        """The caller's journey, told what the stream has come to so far."""
        self.flight.tell(journey)
        return journey


class Repeated(msgspec.Struct, frozen=True):
    """Answered as the first request with this idempotency key was; `first` is what is kept of that."""

    plan: Plan
    completion: Completion
    first: Answered


Reply = Cached | Whole | Live | Repeated
