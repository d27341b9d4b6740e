"""What Prometheus reads about alerts: of the node that looks, and of what a node has delivered."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import Metric

from sentinel_gateway.core.alerting.board import Board
from sentinel_gateway.telemetry import catalogue

if TYPE_CHECKING:
    from sentinel_gateway.telemetry.catalogue import Labels


def alert_families(board: Board | None, delivered: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """The metrics, made anew each time somebody reads them; none of a node on which nobody looks."""
    if board is not None:
        firing: Counter[Labels] = Counter((alert.rule, alert.severity) for alert in board.firing())
        yield catalogue.ALERTS_FIRING.of(firing.items())
    if delivered:
        yield catalogue.ALERT_MESSAGES.of(delivered.items())
