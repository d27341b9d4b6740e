"""What goes into the ledger: rows made of what the path tells. Who did not get in, or was not understood, leaves none."""

from typing import Final

from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.ports import Events
from sentinel_gateway.ports.ledger import Enrolled, Handled, Intent, Ledger, Settled, Spent

MICROS: Final = 1_000_000
MOST_TOKENS: Final = 2**40
MOST_MONEY: Final = 2**50
"""Nano-USD, about a million USD: what a mad provider tells of one call must not make a sum of many too large for a database."""
DERIVED: Final = "req_"
"""So begins the id of a request whose caller gave none; what follows is ours."""


class Booked:
    """The port `Events` for what callers ask: each request goes into the ledger as well."""

    def __init__(self, events: Events, ledger: Ledger) -> None:
        self._ledger = ledger
        self._events = events
        self.attempted = events.attempted
        self.note = events.note

    def __repr__(self) -> str:
        return f"<Booked {self._ledger!r}>"

    def finished(self, record: Record) -> None:
        self._events.finished(record)
        if record.model:
            self._ledger.handled(_handled(record))
            if record.experiment:
                self._ledger.handled(_enrolled(record))


def intent(attempt: Attempt, *, reserved: int) -> Intent:
    """A call that is about to be made. `reserved` nano-USD are held of budgets for its request."""
    provider, _, target = attempt.target.partition("/")
    return Intent(
        attempt.sentinel_id,
        attempt.number,
        int(attempt.at * MICROS),
        attempt.account,
        attempt.key,
        attempt.route,
        attempt.model,
        provider,
        target,
        attempt.stream,
        reserved,
    )


def settled(attempt: Attempt, asked: Intent, usage: Usage) -> Settled:
    """That call, ended; `usage` is what it was billed by."""
    cached = written = thought = 0
    if usage.has_details:
        cached, written = min(usage.cached_tokens, MOST_TOKENS), min(usage.cache_write_tokens, MOST_TOKENS)
        thought = min(usage.reasoning_tokens, MOST_TOKENS)
    spent = Spent(
        min(attempt.prompt_tokens, MOST_TOKENS),
        cached,
        written,
        min(attempt.completion_tokens, MOST_TOKENS),
        thought,
        min(attempt.cost, MOST_MONEY),
        attempt.priced_as_of,
        attempt.basis,
    )
    duration, first_token = int(attempt.seconds * MICROS), int(attempt.first_token_seconds * MICROS)
    return Settled(asked, attempt.ending, spent, attempt.error, duration, first_token)


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
