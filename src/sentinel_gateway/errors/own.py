"""Errors of the gateway's own: its limits, its deadlines, its faults."""

from sentinel_gateway.errors.base import RequestError


class RequestTimeout(RequestError):
    status = 408
    type = "timeout_error"
    code = "request_timeout"
    retry = True


class RateLimited(RequestError):
    status = 429
    code = "rate_limit_exceeded"
    retry = True


class RequestsLimited(RateLimited):
    type = "requests"


class TokensLimited(RateLimited):
    type = "tokens"


class NeverFits(TokensLimited):
    retry = False


class ConcurrencyLimited(RateLimited):
    type = "concurrency"


class BudgetSpent(RequestError):
    """No time soon will do: what there is no more of is money."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class BudgetHeld(BudgetSpent):
    """What is left is held for requests in flight, and most of them will come to less."""

    retry = True


class LoopDetected(RequestError):
    status = 508
    code = "loop_detected"


class NotCached(RequestError):
    status = 504
    code = "cache_miss"


class InternalError(RequestError):
    code = "internal_error"


class ProgramFailed(RequestError):
    """It can't be loaded, or raised what it should not have: its maker's fault, not the caller's."""

    code = "program_failed"


class NotInstalled(RequestError):
    status = 501
    code = "not_installed"


class Unavailable(RequestError):
    status = 503
    type = "service_unavailable_error"
    retry = True


class Overloaded(Unavailable):
    code = "server_is_overloaded"


class Strained(Overloaded):
    """There is too much to do, however many places there are: it passes, whoever gives a place back."""


class KeysUnavailable(Unavailable):
    code = "keys_unavailable"


class IdempotencyUnavailable(Unavailable):
    code = "idempotency_unavailable"


class EvidenceUnavailable(Unavailable):
    code = "evidence_unavailable"


class HistoryUnavailable(Unavailable):
    code = "history_unavailable"


class AlertsUnavailable(Unavailable):
    code = "alerts_unavailable"


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class ClearFailed(Unavailable):
    code = "cache_clear_failed"


class ClientLeft(RequestError):
    status = 499
    code = "client_left"
