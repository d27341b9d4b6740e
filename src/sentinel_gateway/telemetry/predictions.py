"""Seed 001's `dspy_*` metrics. They move with predictions only, whatever else the gateway answers."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Metric

from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import ClientLeft, InternalError, RequestError
from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.catalogue import PREDICTION_BUCKETS, Bars, Labels
from sentinel_gateway.telemetry.costs import face
from sentinel_gateway.telemetry.models import Models
from sentinel_gateway.telemetry.tallies import HITS, OTHER

MOST: Final = 16
"""Pairs of a model and a program that are told apart."""
NOT_FOUND: Final = "none"


class Predictions:
    """What was predicted so far, and how many are under way. Belongs to the event loop's thread."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._active = 0
        self._uses: set[Labels] = set()
        self._seconds: dict[Labels, float] = {}
        self._durations: dict[Labels, list[int]] = {}
        self._statuses: Counter[Labels] = Counter()
        self._costs: Counter[Labels] = Counter()
        """In nano-USD."""
        self._tokens: Counter[Labels] = Counter()
        self._cache: Counter[Labels] = Counter()
        self._errors: Counter[Labels] = Counter()

    def __repr__(self) -> str:
        return f"<Predictions {self._active} under way>"

    @contextmanager
    def track(self, record: Record, clock: Callable[[], float]) -> Iterator[None]:
        """Count one prediction, by what `record` says at the end of the block. The last word of its route names the program."""
        self._active += 1
        error: str = InternalError.code
        try:
            yield
            error = ""
        except RequestError as refused:
            error = type(refused).code or type(refused).type  # never an instance's, which may be a provider's own word
            raise
        except asyncio.CancelledError:
            error = ClientLeft.code
            raise
        finally:
            self._active -= 1
            self._add(record, face(record.route), clock() - record.at, error)

    def _add(self, record: Record, variant: str, seconds: float, error: str) -> None:
        use = self._use(self._models.label(record.model), variant)
        self._statuses[*use, "error" if error else "success"] += 1
        self._seconds[use] = self._seconds.get(use, 0.0) + seconds
        self._durations.setdefault(use, [0] * (len(PREDICTION_BUCKETS) + 1))[bisect_left(PREDICTION_BUCKETS, seconds)] += 1
        hit = record.outcome in HITS
        if not hit:  # also of one that failed: what its program had asked by then is paid
            self._costs[use] += record.cost
            self._tokens[use[0], "input"] += record.prompt_tokens
            self._tokens[use[0], "output"] += record.completion_tokens
        if error:
            self._errors[error,] += 1
            return
        self._cache["hit" if hit else "miss", (record.tier if hit else "") or NOT_FOUND] += 1

    def _use(self, model: str, variant: str) -> Labels:
        use = (model, variant)
        if use not in self._uses and len(self._uses) >= MOST:
            return (OTHER, OTHER)
        self._uses.add(use)
        return use

    def families(self) -> Iterator[Metric]:
        """As metrics."""
        yield catalogue.PREDICTIONS.of(self._statuses.items())
        yield catalogue.PREDICTION_SECONDS.drawn(Bars(use, counts, self._seconds[use]) for use, counts in self._durations.items())
        yield catalogue.PREDICTION_CACHE.of(self._cache.items())
        yield catalogue.PREDICTION_COST.of((use, cost / NANO_PER_USD) for use, cost in self._costs.items())
        yield catalogue.PREDICTION_TOKENS.of(self._tokens.items())
        yield catalogue.ACTIVE_PREDICTIONS.one(self._active)
        yield catalogue.PREDICTION_ERRORS.of(self._errors.items())
