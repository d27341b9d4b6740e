"""What is told of one request: the line of the log, the row of the metrics, later the ledger's entry."""

from typing import Final, Literal

import msgspec
from msgspec.structs import astuple

from sentinel_gateway.core.pricing import Basis
from sentinel_gateway.core.tracing import Trace

Outcome = Literal["exact", "semantic", "miss", "coalesced", "bypass", "none"]
"""How the cache took part. `coalesced` is a miss that shared another's upstream call; `none` never asked it (other routes)."""


Ending = Literal["answered", "refused", "unauthorized", "limited", "timeout", "unreachable", "broken", "left", "lost"]
"""How an attempt ended. `left`: nobody waited for it any more; `lost`: another that was made beside it began to answer first."""


class Attempt(msgspec.Struct):
    """One call of a provider. Times in seconds; `at` is when it began, in Unix time. Holds no prompt, answer, header or key."""

    sentinel_id: str
    target: str
    number: int
    """Of all attempts for the request, from 1."""
    at: float
    stream: bool
    hedge: bool = False
    """It was made beside another that had not begun to answer."""
    ending: Ending = "left"
    error: str = ""
    """What the error is called (`errors/`), if it ended in one."""
    message: str = ""
    """What it says. Of one that was `refused` these are the provider's words, cleaned: not for the log."""
    seconds: float = 0.0
    first_token_seconds: float = 0.0
    """To a stream's first chunk; 0.0 if none came."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    """In nano-USD."""
    basis: Basis = "price"
    priced_as_of: str = ""
    """The day of the price that it goes by, as 2026-01-31; empty if nobody says."""
    account: str = ""
    """The tenant who pays for it; empty for the operator, and where no key is needed."""
    key: str = ""
    """The id of the key that does."""
    model: str = ""
    """The public name that was asked for."""
    route: str = ""
    """Of the request that it was made for."""
    trace: Trace | None = None
    """Of that request, where traces are on."""


class Record(msgspec.Struct):
    """One request. Times in seconds; `at` is when it began, in Unix time. Holds no prompt, answer, header or key."""

    at: float
    request_id: str
    sentinel_id: str
    route: str
    method: str
    status: int = 0
    seconds: float = 0.0
    outcome: Outcome = "none"
    tier: str = ""
    model: str = ""
    """The public name as routed, for labels a closed set: unknown names are `other`."""
    target: str = ""
    attempts: int = 0
    """Calls of providers that were made for it."""
    stream: bool = False
    stored: bool = False
    upstream_seconds: float = 0.0
    first_byte_seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    """What providers took for it, in nano-USD, as far as that was known at its end."""
    saved: int = 0
    """What the stored answer had cost, in nano-USD."""
    basis: Basis = "price"
    """What the two go by."""
    similarity: float = 0.0
    """Of the question that a semantic hit was the answer to, or else of the nearest one that was compared."""
    error: str = ""
    """The error's code, if it ended in one."""
    client: str = ""
    account: str = ""
    """The tenant of who asked; empty for the operator, and where no key is needed."""
    key: str = ""
    """The id of the key that asked, `admin-key` or `anybody`."""
    region: str = ""
    """Where it came from, where a proxy is trusted to say that; as it was said."""
    experiment: str = ""
    """Which it is part of, and in which arm: `cheaper=small`; empty for most."""
    unit: int = 0
    """The number of who is in that arm, as a whole."""
    trace_id: str = ""
    """Of its trace, in what is `bare`, and so is the next one; empty where traces are off."""
    span_id: str = ""
    sampled: bool = False
    """That trace is sent somewhere, so that it can be looked up; in what is `bare`."""
    trace: Trace | None = None
    """Where traces are on, while it lasts."""


TOLD: Final = len(Record.__struct_fields__)
"""So many fields come first in what is more than a record."""


def bare(record: Record) -> Record:
    """The record of a request that has ended, with nothing of the request itself: what may wait until it is written."""
    trace = record.trace
    if trace is None and record.__class__ is Record:
        return record
    alone = Record(*astuple(record)[:TOLD])
    if trace is not None:
        alone.trace, alone.trace_id, alone.span_id, alone.sampled = None, trace.trace_id, trace.span_id, trace.sampled
    return alone
