"""Rows of requests that have ended, made of their records."""

from collections.abc import Iterable
from typing import Final

from sentinel_gateway.core.record import Record
from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.ports.ledger import MOST_MONEY, MOST_TOKENS, Enrolled, Handled

DERIVED: Final = "req_"
"""So begins the id of a request whose caller gave none; what follows is ours."""


def rows_of(records: Iterable[Record]) -> list[Handled | Enrolled]:
    """One for each, in their order, and behind it another for one that is part of an experiment."""
    rows: list[Handled | Enrolled] = []
    for record in records:
        rows.append(_handled(record))
        if record.experiment:
            rows.append(_enrolled(record))
    return rows


def _handled(record: Record) -> Handled:
    provider, _, target = record.target.partition("/")
    derived = record.request_id[len(DERIVED) :] == record.sentinel_id
    return Handled(
        record.sentinel_id,
        int(record.at * MICROS),
        record.account,
        record.key,
        record.route,
        record.status,
        record.outcome,
        record.tier,
        record.model,
        provider,
        target,
        record.attempts,
        record.stream,
        min(record.prompt_tokens, MOST_TOKENS),
        min(record.completion_tokens, MOST_TOKENS),
        min(record.saved, MOST_MONEY),
        record.similarity,
        int(record.seconds * MICROS),
        int(record.upstream_seconds * MICROS),
        int(record.first_byte_seconds * MICROS),
        record.error,
        "" if derived else record.request_id,
    )


def _enrolled(record: Record) -> Enrolled:
    experiment, _, arm = record.experiment.partition("=")
    return Enrolled(
        record.sentinel_id,
        int(record.at * MICROS),
        experiment,
        arm,
        record.unit,
        record.status,
        record.outcome,
        min(record.cost, MOST_MONEY),
        min(record.saved, MOST_MONEY),
        int(record.seconds * MICROS),
        int(record.first_byte_seconds * MICROS),
    )
