"""What Prometheus reads about the answers to reworded questions. Of scopes it gets the busiest, by how their digests begin."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import Metric

from sentinel_gateway.core.confidence.interval import Estimate
from sentinel_gateway.core.evidence import Calibrated, Standings, realm_id
from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.catalogue import Labels

VERDICTS: Final[Mapping[bool | None, str]] = {True: "right", False: "wrong", None: "unresolved"}
SHOWN: Final = 16
"""Digits of a scope."""


class EvidenceFigures(msgspec.Struct, frozen=True):
    """Feedback and comparisons since the start, by their verdicts; how things stand, and what was learned by namespace.

    `told`: the sum of the confidences with which answers were served, and how many.
    """

    heard: Mapping[bool, int]
    compared: Mapping[bool | None, int]
    standings: Standings
    learned: Sequence[Calibrated] = ()
    told: tuple[float, int] = (0.0, 0)


def evidence_families(figures: EvidenceFigures) -> Iterator[Metric]:
    """The metrics, made anew each time somebody reads them."""
    yield catalogue.FEEDBACK.of(((VERDICTS[correct],), count) for correct, count in figures.heard.items())
    yield catalogue.COMPARISONS.of(((VERDICTS[verdict],), count) for verdict, count in figures.compared.items())
    standings = [figures.standings.overall, *figures.standings.scopes]
    yield catalogue.WRONG.of(_bounds((one.scope, one.wrong) for one in standings))
    yield catalogue.WRONG_HITS.of(_bounds((one.scope, one.wrong_hits) for one in standings))
    yield catalogue.EVIDENCE.of(((one.scope[:SHOWN],), one.wrong.observations) for one in standings)
    yield catalogue.CONFIDENCE.summed([((), *figures.told)])
    learned = [(realm_id(one.realm), one) for one in figures.learned]
    yield catalogue.LEARNED.of(((name,), one.labels) for name, one in learned)
    yield catalogue.LEAST_CONFIDENCE.of(((name,), one.threshold) for name, one in learned if one.threshold is not None)


def _bounds(estimates: Iterable[tuple[str, Estimate]]) -> Iterator[tuple[Labels, float]]:
    for scope, one in estimates:
        for bound, rate in (("estimate", one.rate), ("low", one.low), ("high", one.high)):
            yield (scope[:SHOWN], bound), rate
