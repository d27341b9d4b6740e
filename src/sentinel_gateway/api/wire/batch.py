"""The body of `/v1/query/batch`, one body of `/v1/query` for each query in it, and the lines of its answer. Pure.

What is wrong with a single query is told as that query's answer; what is wrong with the batch is told of all of it.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sentinel_gateway.api.wire.query import QueryBody, object_in, typed
from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.record import Outcome, Record
from sentinel_gateway.errors import Unprocessable

EXAMPLE: Final = '{"queries": ["What is machine learning?", "What is deep learning?"]}'
SHARED: Final = tuple(name for name in QueryBody.model_fields if name != "prompt")
"""What may stand beside the queries, for all that don't say it themselves."""
ID_LENGTH: Final = 128
PROMPT: Final = {"prompt": "any"}
"""What makes a query of the members beside the queries, so that they are judged as its own would be."""
Fault = tuple[tuple[str, ...], str]

_encode = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, frozen=True):
    """One query: the body of a request to `/v1/query`, and what its caller calls it."""

    body: bytes
    id: str | None = None


class Batch(msgspec.Struct, frozen=True):
    """`stream`: whether each answer is to come once it is there; None leaves that to `Accept`."""

    queries: list[Asked]
    stream: bool | None


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one query. `answer` is what `/v1/query` answers, `problem` its problem document; one of them is there.

    `duplicate_of` is the index of the earlier query that is the same; `retry_after` is in seconds.
    """

    index: int
    id: str | None = None
    request_id: str
    status: int
    duplicate_of: int | None = None
    retry_after: float | None = None
    answer: msgspec.Raw | None = None
    problem: msgspec.Raw | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all. Hits, misses and `repeated` (under an idempotency key) add up to `answered`; times in milliseconds."""

    queries: int
    answered: int
    failed: int
    exact_hits: int
    semantic_hits: int
    misses: int
    repeated: int
    duplicates: int
    upstream_calls: int
    cost_usd: float
    saved_usd: float
    latency_ms: float


class Tally:
    """Counts what came of queries, by their records."""

    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        """Of those that were answered."""
        self._failed = self._duplicates = self._calls = 0
        self._cost = self._saved = 0

    def __repr__(self) -> str:
        return f"<Tally of {self._outcomes.total()} answered, {self._failed} failed>"

    def add(self, record: Record, *, duplicate: bool) -> None:
        """Count one more."""
        if record.error:
            self._failed += 1
        else:
            self._outcomes[record.outcome] += 1
            self._saved += record.saved
        self._duplicates += duplicate
        self._calls += record.attempts
        self._cost += record.cost

    def summary(self, seconds: float) -> Summary:
        """What came of all that were added; it took so long."""
        outcomes, answered = self._outcomes, self._outcomes.total()
        decided = outcomes["exact"] + outcomes["semantic"] + outcomes["none"]
        return Summary(
            queries=answered + self._failed,
            answered=answered,
            failed=self._failed,
            exact_hits=outcomes["exact"],
            semantic_hits=outcomes["semantic"],
            misses=answered - decided,
            repeated=outcomes["none"],
            duplicates=self._duplicates,
            upstream_calls=self._calls,
            cost_usd=self._cost / NANO_PER_USD,
            saved_usd=self._saved / NANO_PER_USD,
            latency_ms=round(1000 * seconds, 3),
        )


def read_batch(raw: bytes, *, max_depth: int, most: int) -> Batch:
    """The queries of a body; raises `Unprocessable` with every fault of what is not a single query's own."""
    fields = object_in(raw, max_depth=max_depth, example=EXAMPLE)
    shared = {name: fields[name] for name in SHARED if name in fields}
    queries, stream = fields.get("queries"), fields.get("stream")
    faults = [*_faults_of(queries, most)]
    if not isinstance(stream, bool | None):
        faults.append((("body", "stream"), "Input should be a valid boolean"))
    try:
        typed(PROMPT | shared)
    except Unprocessable as exc:
        faults += exc.faults
    if faults or not isinstance(queries, list):
        raise Unprocessable(*faults)
    return Batch([_asked(query, shared) for query in queries], stream)


def _faults_of(queries: Any, most: int) -> Iterator[Fault]:
    place = ("body", "queries")
    if not isinstance(queries, list):
        yield place, f"Field required: a list of queries, such as {EXAMPLE}"
    elif not queries:
        yield place, "List should have at least 1 item after validation, not 0"
    elif len(queries) > most:
        yield place, f"List should have at most {most} items after validation, not {len(queries)}: send several batches"
    else:
        for number, query in enumerate(queries):
            if isinstance(query, dict) and not _is_id(query.get("id")):
                yield (*place, str(number), "id"), f"Input should be text of 1 to {ID_LENGTH} characters"


def _is_id(said: Any) -> bool:
    return said is None or (isinstance(said, str) and 1 <= len(said) <= ID_LENGTH)


def _asked(query: Any, shared: Fields) -> Asked:
    """What is neither text nor object is sent as it is, and refused as such."""
    if isinstance(query, str):
        return Asked(_encode({**shared, "prompt": query}))
    if not isinstance(query, dict):
        return Asked(_encode(query))
    own = {name: value for name, value in query.items() if name != "id"}
    return Asked(_encode({**shared, **own}), query.get("id"))


def result_line(result: Result) -> bytes:
    """A result as JSON."""
    return _encode(result)


def summary_line(summary: Summary) -> bytes:
    """The end of a stream of results, as JSON."""
    return _encode({"summary": summary})


def whole_body(results: list[bytes], summary: Summary) -> bytes:
    """All results, in order, and the summary."""
    return b'{"results":[%b],"summary":%b}' % (b",".join(results), _encode(summary))
