"""Every error Sentinel answers with, drawn once.

    SentinelError
    ├── ConfigurationError          the settings are wrong (start, check, reload)
    ├── StoreDown                   a cache tier did not answer in time (never shown: it becomes a miss)
    ├── EmbedderDown                no vector could be made in time (never shown: it becomes a miss)
    └── RequestError                answered to the caller, in the caller's dialect
        ├── CallerError         the fault is the request's (`invalid_request_error`)
        │   ├── BadRequest          400 the request can't be understood
        │   │   ├── InvalidBody         not JSON, not UTF-8, too deep, duplicate keys
        │   │   ├── InvalidField        one field is wrong: `param` is its dotted path
        │   │   ├── InvalidHeader       one header is wrong: `param` is its name
        │   │   ├── Unprocessable   422 fields of a query are wrong: every one of them, with its place
        │   │   ├── HeadTooLarge    431 the request line and the headers are too long, or too many
        │   │   └── ReloadRejected      the new configuration is wrong; the old one stays in force
        │   ├── InvalidKey          401 no key, or a wrong one
        │   ├── TooManyBadKeys      429 an address that sent many wrong keys, and now one more
        │   ├── InsufficientScope   403 the key is good, but not for this
        │   ├── ModelNotAllowed     403 the key is good, but not for this model
        │   ├── PageRefused         403 a web page of another origin
        │   ├── ModelNotFound       404 no provider serves this model
        │   ├── RouteNotFound       404
        │   ├── KeyNotFound, AnswerNotFound 404 no such client key, no such answer, or somebody else's
        │   ├── KeyEnded            409 the client key is revoked, expired or rotated
        │   ├── MethodNotAllowed    405
        │   ├── RequestUnderway     409 the first request with this idempotency key has not been answered yet
        │   ├── RequestInterrupted  409 what came of the first request with this idempotency key is not known: no retry mends it
        │   ├── BodyTooLarge        413
        │   ├── HostRefused         421 a name that this gateway does not answer to
        │   └── KeyReused           422 the idempotency key belongs to another request
        ├── RequestTimeout      408 the sender was too slow
        ├── RateLimited         429 a limit of ours, the caller's, is spent: requests, tokens, or requests in flight
        ├── LoopDetected        508 the request came back to us
        ├── NotCached           504 `only-if-cached` and nothing stored
        ├── InternalError       500 a fault of ours
        ├── Unavailable         503 what this takes is not to be had now
        │   ├── Overloaded          too many requests in flight
        │   ├── KeysUnavailable     whether a key is good can't be told now, or the change can't be kept
        │   ├── IdempotencyUnavailable it can't be known whether this idempotency key was used before
        │   ├── EvidenceUnavailable what is known of answers can't be read or added to now
        │   └── ClearFailed         a tier could not be cleared: the entries may still be there
        ├── ClientLeft          499 the caller hung up: recorded, never sent
        └── UpstreamError       502 the provider failed us
            ├── UpstreamUnreachable 502 no connection
            ├── UpstreamUnauthorized 502 the provider refused *our* key
            ├── UpstreamBroken      502 5xx, a body that isn't an answer, a stream cut short
            ├── UpstreamTimeout     504 connect, first byte, idle or total time ran out
            ├── UpstreamLimited     429 the provider's rate limit
            └── UpstreamRefused     4xx the provider says that the request itself is wrong

What belongs to an error stands on its class: `status`, `type` and `code` (OpenAI's vocabulary), `retry` (may the same request
succeed a moment later? as `x-should-retry`), `next_target` (may another target serve it?). No message holds a key or a prompt.
"""

import re
from typing import ClassVar, Final, Literal

Failure = Literal["upstream_error", "io_error", "tls_error", "json_error"]
"""What failed: the provider itself, the connection to it, the trust in it, or the JSON that it sent (seed 002's names)."""

SANE_CODE: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""A provider's code is passed on only if it looks like one: it reaches logs."""


class SentinelError(Exception):
    """Root of the tree."""


class ConfigurationError(SentinelError):
    """All faults of a configuration together.

    `faults` are (place, sentence) pairs: where it stands (`sentinel.yaml:7 server.port`, `env PORT`) and what would be right.
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{place}: {sentence}" for place, sentence in faults))


class StoreDown(SentinelError):
    """A store did not answer in time or failed; the caller treats it as a miss."""


class EmbedderDown(SentinelError):
    """No vector in time: the model is absent, failed, or has too much to do. The semantic tier is then passed over."""


class RequestError(SentinelError):
    """Answered to the caller. `param` is the dotted path of the field, or the header's name; `retry_after` is in seconds."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    code: ClassVar[str | None] = None
    retry: ClassVar[bool] = False
    next_target: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def http_status(self) -> int:
        """The status to answer with; the class's, unless an instance knows better."""
        return self.status

    @property
    def shown_code(self) -> str | None:
        """The code to answer with; the class's, unless an instance knows better."""
        return self.code

    @property
    def kind(self) -> str:
        """What metrics and the log call it: the code, unless an instance knows better."""
        return self.shown_code or self.type


class CallerError(RequestError):
    """The fault is the request's, not the gateway's nor a provider's."""

    type = "invalid_request_error"


class BadRequest(CallerError):
    status = 400


class InvalidBody(BadRequest):
    code = "invalid_body"


class InvalidField(BadRequest):
    code = "invalid_value"


class InvalidHeader(BadRequest):
    code = "invalid_header"


class Unprocessable(BadRequest):
    """`faults` are (place, sentence) pairs, a place as FastAPI writes it: ("body", "prompt"). The message tells the first."""

    status = 422
    code = "invalid_value"

    def __init__(self, *faults: tuple[tuple[str, ...], str]) -> None:
        (place, sentence), *others = faults
        more = f" ({len(others)} more in 'errors'.)" if others else ""
        param = ".".join(place[1:]) or None
        super().__init__(f"Invalid value for '{param or place[0]}': {sentence.rstrip('.')}.{more}", param=param)
        self.faults = faults


class HeadTooLarge(BadRequest):
    status = 431
    code = "request_header_fields_too_large"


class ReloadRejected(BadRequest):
    code = "invalid_configuration"


class InvalidKey(CallerError):
    status = 401
    code = "invalid_api_key"


class TooManyBadKeys(CallerError):
    status = 429
    code = "too_many_invalid_keys"


class InsufficientScope(CallerError):
    status = 403
    code = "insufficient_scope"


class ModelNotAllowed(CallerError):
    status = 403
    code = "model_not_allowed"


class PageRefused(CallerError):
    status = 403
    code = "origin_not_allowed"


class ModelNotFound(CallerError):
    """`name` is the model that was asked for. The message may name others."""

    status = 404
    code = "model_not_found"

    def __init__(self, message: str, *, name: str, param: str | None = "model") -> None:
        super().__init__(message, param=param)
        self.name = name


class RouteNotFound(CallerError):
    status = 404
    code = "unknown_url"


class KeyNotFound(CallerError):
    status = 404
    code = "key_not_found"


class AnswerNotFound(CallerError):
    status = 404
    code = "answer_not_found"


class KeyEnded(CallerError):
    status = 409
    code = "key_ended"


class MethodNotAllowed(CallerError):
    """`allowed` are the methods that the same path does serve, as `Allow` names them."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.allowed = allowed


class RequestTimeout(RequestError):
    status = 408
    type = "timeout_error"
    code = "request_timeout"
    retry = True


class RequestUnderway(CallerError):
    status = 409
    code = "idempotency_request_in_progress"
    retry = True


class RequestInterrupted(CallerError):
    status = 409
    code = "idempotency_request_interrupted"


class BodyTooLarge(CallerError):
    status = 413
    code = "request_too_large"


class HostRefused(CallerError):
    status = 421
    code = "host_not_allowed"


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


class KeyReused(CallerError):
    status = 422
    code = "idempotency_key_reused"


class LoopDetected(RequestError):
    status = 508
    code = "loop_detected"


class NotCached(RequestError):
    status = 504
    code = "cache_miss"


class InternalError(RequestError):
    code = "internal_error"


class Unavailable(RequestError):
    status = 503
    type = "service_unavailable_error"
    retry = True


class Overloaded(Unavailable):
    code = "server_is_overloaded"


class KeysUnavailable(Unavailable):
    code = "keys_unavailable"


class IdempotencyUnavailable(Unavailable):
    code = "idempotency_unavailable"


class EvidenceUnavailable(Unavailable):
    code = "evidence_unavailable"


class ClearFailed(Unavailable):
    code = "cache_clear_failed"


class ClientLeft(RequestError):
    status = 499
    code = "client_left"


class UpstreamError(RequestError):
    """`failure` tells operators more than the code tells callers."""

    status = 502
    code = "upstream_error"
    next_target = True

    def __init__(
        self, message: str, *, failure: Failure | None = None, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self._failure = failure

    @property
    def kind(self) -> str:
        return self._failure or super().kind


class UpstreamUnreachable(UpstreamError):
    retry = True

    def __init__(self, message: str, *, failure: Failure = "io_error") -> None:
        super().__init__(message, failure=failure)


class UpstreamUnauthorized(UpstreamError):
    """The caller's key is fine, ours is not: never a 401, and no retry mends it."""

    code = "upstream_unauthorized"


class UpstreamBroken(UpstreamError):
    retry = True


class UpstreamTimeout(UpstreamError):
    status = 504
    type = "timeout_error"
    code = "upstream_timeout"
    retry = True


class UpstreamLimited(UpstreamError):
    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    retry = True


class UpstreamRefused(UpstreamError):
    """The provider's own 4xx, passed on with its status, code and message."""

    status = 400
    type = "invalid_request_error"
    code = "upstream_refused"
    next_target = False

    def __init__(self, message: str, *, upstream_status: int, upstream_code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.upstream_status = upstream_status
        self.upstream_code = upstream_code

    @property
    def http_status(self) -> int:
        return self.upstream_status

    @property
    def shown_code(self) -> str | None:
        return self.upstream_code if self.upstream_code and SANE_CODE.fullmatch(self.upstream_code) else self.code
