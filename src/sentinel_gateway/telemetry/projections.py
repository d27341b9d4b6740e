"""What Prometheus reads about requests, made of the tallies of all kinds of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import Metric
from prometheus_client.samples import Exemplar

from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.catalogue import LATENCY_BUCKETS, OWN_BUCKETS, Bars, Labels
from sentinel_gateway.telemetry.percentiles import NOTHING, Counts, coarse, percentile
from sentinel_gateway.telemetry.tallies import NO_OUTCOME, Latest, Tallies, Tally, exemplar

NO_TIER: Final = "none"
FAILED: Final = "failed"
"""What a request that failed counts as, whatever the cache did: it is in no hit rate, as in `Totals`."""
NO_HIT: Final[Labels] = ("exact", "memory")
"""Told of before the first one: of hits without a series the rate is nothing, not 0, and no alert sees it fall."""


def request_families(tallies: Tallies, percentiles: Sequence[float]) -> Iterator[Metric]:
    """The metrics, made anew each time somebody reads them. `percentiles` from 0 to 100."""
    requests: Counter[Labels] = Counter()
    inference: Counter[Labels] = Counter()
    cache: Counter[Labels] = Counter({NO_HIT: 0})
    tokens: Counter[Labels] = Counter()
    stored = not_cached = 0
    for tally in tallies.all():
        kind, count, source = tally.kind, tally.requests, "cache" if tally.hit else "provider"
        requests[kind.route, kind.method, str(kind.status)] += count
        stored += tally.stored
        not_cached += tally.not_cached
        if kind.outcome != NO_OUTCOME:
            inference[kind.route, kind.outcome, str(kind.stream).lower()] += count
            cache[(FAILED, NO_TIER) if kind.failed else (kind.outcome, kind.tier or NO_TIER)] += count
            tokens["prompt", source] += tally.prompt_tokens
            tokens["completion", source] += tally.completion_tokens
    yield catalogue.REQUESTS.of(requests.items())
    yield _latency(tallies)
    yield catalogue.INFERENCE.of(inference.items())
    yield catalogue.CACHE.of(cache.items())
    yield catalogue.NOT_CACHED.one(not_cached)
    yield catalogue.STORED.one(stored)
    yield catalogue.TOKENS.of(tokens.items())
    yield _own(tallies)
    yield _quantiles(tallies, percentiles)


def _latency(tallies: Tallies) -> Metric:
    routes: dict[str, list[Tally]] = {}
    for tally in tallies.all():
        routes.setdefault(tally.kind.route, []).append(tally)
    return catalogue.LATENCY.drawn(
        Bars(
            (route,),
            coarse(_whole(tally.counts for tally in held), LATENCY_BUCKETS),
            sum(tally.seconds for tally in held),
            _exemplars(held),
        )
        for route, held in routes.items()
    )


def _whole(tallies: Iterable[Counts]) -> Counts:
    return [sum(counts) for counts in zip(NOTHING, *tallies, strict=True)]


def _exemplars(tallies: Sequence[Tally]) -> list[Exemplar | None]:
    return [
        exemplar(max(filter(None, latest), key=_began, default=None)) for latest in zip(*(t.latest for t in tallies), strict=True)
    ]


def _began(latest: Latest) -> float:
    return latest[2]


def _own(tallies: Tallies) -> Metric:
    outcomes: dict[str, list[Tally]] = {}
    for tally in tallies.all():
        if tally.kind.outcome != NO_OUTCOME:
            outcomes.setdefault(tally.kind.outcome, []).append(tally)
    return catalogue.OWN.drawn(
        Bars(
            (outcome,),
            coarse(_whole(tally.own or tally.counts for tally in held), OWN_BUCKETS),
            sum(tally.seconds - tally.waited for tally in held),
        )
        for outcome, held in outcomes.items()
    )


def _quantiles(tallies: Tallies, percentiles: Sequence[float]) -> Metric:
    family = catalogue.QUANTILES.summed(())
    for use, recent, count, seconds in tallies.recent():
        family.add_metric(use, count_value=count, sum_value=seconds)
        labels = dict(zip(catalogue.QUANTILES.labels, use, strict=True))
        for per_cent in percentiles:
            share = per_cent / 100
            family.add_sample(
                catalogue.QUANTILES.name, labels | {"quantile": f"{share:.10g}"}, float(f"{percentile(recent, share):.4g}")
            )
    return family
