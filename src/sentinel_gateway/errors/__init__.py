"""Every error Sentinel answers with, drawn once.

    SentinelError
    ├── ConfigurationError          the settings are wrong (start, check, reload)
    ├── StoreDown                   a cache tier did not answer in time (never shown: it becomes a miss)
    ├── EmbedderDown                no vector could be made in time (never shown: it becomes a miss)
    ├── ChannelDown                 a channel did not take an alert (never shown: it is tried again)
    ├── CounterBusy                 too many texts wait for the token counter (becomes `Overloaded`)
    └── RequestError                answered to the caller, in the caller's dialect
        ├── CallerError         the fault is the request's (`invalid_request_error`)
        │   ├── BadRequest          400 the request can't be understood
        │   │   ├── InvalidBody         not JSON, not UTF-8, too deep, duplicate keys
        │   │   ├── InvalidField        one field is wrong: `param` is its dotted path
        │   │   ├── InvalidHeader       one header is wrong: `param` is its name
        │   │   ├── Unprocessable   422 fields of a query are wrong: every one of them, with its place
        │   │   ├── HeadTooLarge    431 the request line and the headers are too long, or too many
        │   │   └── ReloadRejected      the new configuration is wrong; the old one stays in force
        │   ├── ConfigurationMoved  409 what was to be put in force is not what was looked at any more
        │   ├── InvalidKey          401 no key, or a wrong one
        │   ├── TooManyBadKeys      429 an address that sent many wrong keys, and now one more
        │   ├── InsufficientScope   403 the key is good, but not for this
        │   ├── ModelNotAllowed     403 the key is good, but not for this model
        │   ├── PageRefused         403 a web page of another origin
        │   ├── ModelNotFound       404 no provider serves this model
        │   ├── RouteNotFound       404
        │   ├── KeyNotFound, AnswerNotFound 404 no such client key, no such answer, or somebody else's
        │   ├── AlertNotFound       404 no such rule, or channel, of alerts
        │   ├── ExperimentNotFound  404 an experiment that is not configured, and of which nothing is known
        │   ├── ProviderNotFound    404 a provider that is not configured, and was never called
        │   ├── CannotPin           409 no store would keep it for good, or too much is pinned already
        │   ├── KeyEnded            409 the client key is revoked, expired or rotated
        │   ├── MethodNotAllowed    405
        │   ├── RequestUnderway     409 the first request with this idempotency key has not been answered yet
        │   ├── RequestInterrupted  409 what came of the first request with this idempotency key is not known: no retry mends it
        │   ├── BodyTooLarge        413
        │   ├── HostRefused         421 a name that this gateway does not answer to
        │   └── KeyReused           422 the idempotency key belongs to another request
        ├── RequestTimeout      408 the sender was too slow
        ├── RateLimited         429 a limit of ours, the caller's, is spent: requests, tokens, or requests in flight
        ├── BudgetSpent         429 a budget of the caller's is spent, or what is left of it does not do for this request
        │   └── BudgetHeld          what is left is held for requests in flight: a retry may help
        ├── LoopDetected        508 the request came back to us
        ├── NotCached           504 `only-if-cached` and nothing stored
        ├── InternalError       500 a fault of ours
        ├── ProgramFailed       500 a program of the operator's can't be loaded, or failed
        ├── NotInstalled        501 this takes an extra that the operator has not installed
        ├── Unavailable         503 what this takes is not to be had now
        │   ├── Overloaded          too many requests in flight
        │   │   └── Strained        more work than can be done in good time
        │   ├── KeysUnavailable     whether a key is good can't be told now, or the change can't be kept
        │   ├── IdempotencyUnavailable it can't be known whether this idempotency key was used before
        │   ├── EvidenceUnavailable what is known of answers can't be read or added to now
        │   ├── HistoryUnavailable  the ledger can't be read now, or not that much of it
        │   ├── AlertsUnavailable   alerts can't be read or changed now
        │   ├── StoreUnavailable    a tier can't be looked through, or changed, now
        │   └── ClearFailed         a tier could not be cleared: the entries may still be there
        ├── ClientLeft          499 the caller hung up: recorded, never sent
        └── UpstreamError       502 the provider failed us
            ├── UpstreamUnreachable 502 no connection
            ├── UpstreamUnauthorized 502 the provider refused *our* key
            ├── UpstreamBroken      502 5xx, a body that isn't an answer, a stream cut short
            │   ├── LeftAlone       503 its circuit is open, so a prediction asked nobody
            │   └── UpstreamOverloaded  it says that it has too much to do
            ├── AnswerUnfit         502 a program can't read what the model has answered
            ├── UpstreamTimeout     504 connect, first byte, idle or total time ran out
            ├── UpstreamLimited     429 the provider's rate limit
            └── UpstreamRefused     4xx the provider says that the request itself is wrong
                └── UpstreamLooped  508 the provider leads back to a gateway that the request has come through

What belongs to an error stands on its class: `status`, `type` and `code` (OpenAI's vocabulary), `retry` (may the same request
succeed a moment later? as `x-should-retry`), `next_target` (may another target serve it?), `untouched` (has the provider
certainly not begun with it?). No message holds a key or a prompt.
"""

from sentinel_gateway.errors.base import (
    CallerError,
    ChannelDown,
    ConfigurationError,
    CounterBusy,
    EmbedderDown,
    RequestError,
    SentinelError,
    StoreDown,
    let_go,
    place_of,
)
from sentinel_gateway.errors.caller import (
    AlertNotFound,
    AnswerNotFound,
    BadRequest,
    BodyTooLarge,
    CannotPin,
    ConfigurationMoved,
    ExperimentNotFound,
    HeadTooLarge,
    HostRefused,
    InsufficientScope,
    InvalidBody,
    InvalidField,
    InvalidHeader,
    InvalidKey,
    KeyEnded,
    KeyNotFound,
    KeyReused,
    MethodNotAllowed,
    ModelNotAllowed,
    ModelNotFound,
    PageRefused,
    ProviderNotFound,
    ReloadRejected,
    RequestInterrupted,
    RequestUnderway,
    RouteNotFound,
    TooManyBadKeys,
    Unprocessable,
)
from sentinel_gateway.errors.own import (
    AlertsUnavailable,
    BudgetHeld,
    BudgetSpent,
    ClearFailed,
    ClientLeft,
    ConcurrencyLimited,
    EvidenceUnavailable,
    HistoryUnavailable,
    IdempotencyUnavailable,
    InternalError,
    KeysUnavailable,
    LoopDetected,
    NeverFits,
    NotCached,
    NotInstalled,
    Overloaded,
    ProgramFailed,
    RateLimited,
    RequestsLimited,
    RequestTimeout,
    StoreUnavailable,
    Strained,
    TokensLimited,
    Unavailable,
)
from sentinel_gateway.errors.upstream import (
    AnswerUnfit,
    Failure,
    LeftAlone,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamLooped,
    UpstreamOverloaded,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)

__all__ = [
    "AlertNotFound",
    "AlertsUnavailable",
    "AnswerNotFound",
    "AnswerUnfit",
    "BadRequest",
    "BodyTooLarge",
    "BudgetHeld",
    "BudgetSpent",
    "CallerError",
    "CannotPin",
    "ChannelDown",
    "ClearFailed",
    "ClientLeft",
    "ConcurrencyLimited",
    "ConfigurationError",
    "ConfigurationMoved",
    "CounterBusy",
    "EmbedderDown",
    "EvidenceUnavailable",
    "ExperimentNotFound",
    "Failure",
    "HeadTooLarge",
    "HistoryUnavailable",
    "HostRefused",
    "IdempotencyUnavailable",
    "InsufficientScope",
    "InternalError",
    "InvalidBody",
    "InvalidField",
    "InvalidHeader",
    "InvalidKey",
    "KeyEnded",
    "KeyNotFound",
    "KeyReused",
    "KeysUnavailable",
    "LeftAlone",
    "LoopDetected",
    "MethodNotAllowed",
    "ModelNotAllowed",
    "ModelNotFound",
    "NeverFits",
    "NotCached",
    "NotInstalled",
    "Overloaded",
    "PageRefused",
    "ProgramFailed",
    "ProviderNotFound",
    "RateLimited",
    "ReloadRejected",
    "RequestError",
    "RequestInterrupted",
    "RequestTimeout",
    "RequestUnderway",
    "RequestsLimited",
    "RouteNotFound",
    "SentinelError",
    "StoreDown",
    "StoreUnavailable",
    "Strained",
    "TokensLimited",
    "TooManyBadKeys",
    "Unavailable",
    "Unprocessable",
    "UpstreamBroken",
    "UpstreamError",
    "UpstreamLimited",
    "UpstreamLooped",
    "UpstreamOverloaded",
    "UpstreamRefused",
    "UpstreamTimeout",
    "UpstreamUnauthorized",
    "UpstreamUnreachable",
    "let_go",
    "place_of",
]
