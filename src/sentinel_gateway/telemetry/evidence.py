"""What Prometheus reads about the answers to reworded questions. Of scopes it gets the busiest, by how their digests begin."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

from sentinel_gateway.core.evidence import Calibrated, Standing, Standings, realm_id

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
    feedback = CounterMetricFamily("sentinel_semantic_feedback_total", "Feedback on semantic hits.", labels=("verdict",))
    for correct, count in figures.heard.items():
        feedback.add_metric((VERDICTS[correct],), count)
    yield feedback
    compared = CounterMetricFamily(
        "sentinel_semantic_comparisons_total", "Stored answers compared with a provider's.", labels=("verdict",)
    )
    for verdict, count in figures.compared.items():
        compared.add_metric((VERDICTS[verdict],), count)
    yield compared
    yield from _rates([figures.standings.overall, *figures.standings.scopes])
    whole, served = figures.told
    told = SummaryMetricFamily("sentinel_semantic_confidence", "Confidence with which semantic hits were served.")
    told.add_metric((), count_value=served, sum_value=whole)
    yield told
    yield from _learned(figures.learned)


def _learned(realms: Sequence[Calibrated]) -> Iterator[Metric]:
    labels = GaugeMetricFamily(
        "sentinel_semantic_learned_labels", "Labels that a namespace has learned from.", labels=("namespace",)
    )
    least = GaugeMetricFamily(
        "sentinel_semantic_confidence_threshold", "Least confidence that serves; +Inf: none does.", labels=("namespace",)
    )
    for realm in realms:
        labels.add_metric((realm_id(realm.realm),), realm.labels)
        if realm.threshold is not None:
            least.add_metric((realm_id(realm.realm),), realm.threshold)
    yield from (labels, least)


def _rates(standings: list[Standing]) -> Iterator[Metric]:
    wrong = GaugeMetricFamily(
        "sentinel_semantic_wrong_rate",
        "Wrong semantic hits by requests that reached the decision, estimated, with its 95 % interval.",
        labels=("scope", "bound"),
    )
    wrong_hits = GaugeMetricFamily("sentinel_semantic_wrong_hit_rate", "The same by semantic hits.", labels=("scope", "bound"))
    labels = GaugeMetricFamily("sentinel_semantic_evidence_labels", "Labels that the estimates are made of.", labels=("scope",))
    for standing in standings:
        scope = standing.scope[:SHOWN]
        labels.add_metric((scope,), standing.wrong.observations)
        for family, estimate in ((wrong, standing.wrong), (wrong_hits, standing.wrong_hits)):
            family.add_metric((scope, "estimate"), estimate.rate)
            family.add_metric((scope, "low"), estimate.low)
            family.add_metric((scope, "high"), estimate.high)
    yield from (wrong, wrong_hits, labels)
