"""What goes into the ledger of calls of providers: a row before each, and one after it."""

from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.record import Attempt
from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.ports.ledger import MOST_MONEY, MOST_TOKENS, Intent, Settled, Spent


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
