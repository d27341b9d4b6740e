"""The fast path: bytes that memory has answered are answered again without being read as HTTP.

A busy cache is asked the same thing in the same bytes: by one program, with one key. Once the whole path has answered such bytes
from memory, all that reading them can tell is known. What may have changed since is asked each time, where the whole path asks
it: the table of keys, the routes, the room, memory, the limits. Nothing is refused here, and nothing is taken unless the answer
is sure: whatever isn't a hit goes the whole path, as if this were not there.

Kept are whole requests, keys included, by their bytes, as the process has them anyway while they are asked; never on a disk.
"""

from sys import getsizeof
from typing import Final

import msgspec
from cachebox import LRUCache
from msgspec.structs import replace

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.api.compression import COMPRESS_FROM
from sentinel_gateway.api.exchange import Exchange, draw_id, id_headers, request_id, whole_head
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.wire.budget_headers import budget_headers
from sentinel_gateway.api.wire.cache_headers import hit_headers
from sentinel_gateway.api.wire.cost_headers import saved_headers
from sentinel_gateway.api.wire.limit_headers import limit_headers
from sentinel_gateway.core.access import ANYBODY, Caller
from sentinel_gateway.core.caching import Entry, Wish
from sentinel_gateway.core.limits import Verdict
from sentinel_gateway.core.record import Record
from sentinel_gateway.core.streaming import whole_body
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.limiting import UNLIMITED, Limiter, Toll, end_user
from sentinel_gateway.pipeline.reply import Cached
from sentinel_gateway.ports import Clock, Events

KNOWN_BYTES: Final = 8 * 1024 * 1024
OVERHEAD: Final = 2048
"""Bytes that a known request takes beside its own, and those of its id."""
ENVELOPE: Final = 128
"""Bytes that an answer is longer than what is stored of it, at most."""
HIT_ONCE: Final = 4096
"""Requests, by their hashes, that are waited for to come again."""
NO_LINES: Final = Lines(b"")


class Known(msgspec.Struct):
    """What reading a request has told: of its plan no more than is asked for, since a parsed body may take many times its bytes.

    `record` is what all its records have in common. `asked_id` is the id that its caller gave it; `compressed`: a long answer
    would be. `limits` are the headers of how its limits and budgets stood at the last `verdict`: who asks no faster than they
    refill is told the same each time. `budgets` are those of the budgets alone, of which hits take nothing.
    """

    key: str
    generation: int
    toll: Toll
    wish: Wish
    caller: Caller
    record: Record
    asked_id: bytes | None
    compressed: bool
    verdict: Verdict = UNLIMITED
    limits: Lines = NO_LINES
    budgets: Lines = NO_LINES


class FastPath:
    """The requests known so far. One instance serves one wiring, and what it knows ends with it."""

    def __init__(self, pipeline: Pipeline, limiter: Limiter, guard: Guard, *, clock: Clock, events: Events) -> None:
        self._pipeline = pipeline
        self._limiter = limiter
        self._guard = guard
        self._clock = clock
        self._events = events
        self._hit_once: LRUCache[int, None] = LRUCache(HIT_ONCE)
        self._known: LRUCache[bytes, Known] = LRUCache(KNOWN_BYTES, getsizeof=_weight)

    def __repr__(self) -> str:
        return f"<FastPath {len(self._known)} requests, {self._known.current_size()} bytes>"

    def learn(self, exchange: Exchange, reply: Cached) -> None:
        """The whole path has answered this request from memory. What has hit once only isn't worth the room."""
        direct, journey, plan = exchange.direct, exchange.journey, reply.plan
        segment = None if direct is None else direct.segment
        if segment is None or not _is_plain(exchange, reply):
            return
        spelling = hash(segment)
        if spelling not in self._hit_once:
            self._hit_once[spelling] = None
            return
        self._known[segment] = Known(
            key=plan.key,
            generation=plan.generation,
            toll=self._limiter.toll(journey.caller.party, model=plan.request.model, user=end_user(plan)),
            wish=journey.wish,
            caller=journey.caller,
            record=_blank(exchange),
            asked_id=exchange.headers.get(b"x-request-id"),
            compressed=exchange.sender.compresses(COMPRESS_FROM),
        )

    def answer(self, segment: bytes, client: str) -> bytes | None:
        """The answer to a segment from this address, but for the status and the server's own headers; None: not from here."""
        known: Known | None = self._known.get(segment)
        if known is None:
            return None
        caller, now = known.caller, self._clock()
        if not self._guard.still_admits(caller, now):
            return None
        hit = self._pipeline.look_again(known.key, known.generation, known.wish)
        if hit is None or (known.compressed and _may_be_long(hit.entry)):
            return None
        verdict = self._limiter.take_now(known.toll, now)
        if verdict is None:
            return None
        entry, sentinel_id = hit.entry, draw_id()
        body = whole_body(entry.body, answer_id=f"chatcmpl-{sentinel_id}", created=int(now))
        record = replace(
            known.record,
            at=now,
            request_id=request_id(known.asked_id, sentinel_id),
            sentinel_id=sentinel_id,
            tier=hit.tier,
            target=entry.model,
            prompt_tokens=entry.prompt_tokens,
            completion_tokens=entry.completion_tokens,
            saved=entry.cost,
            basis=entry.basis,
            client=client,
        )
        ids = id_headers(record)
        if verdict is not UNLIMITED:
            if known.verdict != verdict:
                if known.verdict.accounts != verdict.accounts:
                    known.budgets = budget_headers(verdict.accounts)
                known.verdict, known.limits = verdict, limit_headers(*verdict.standings()) + known.budgets
            ids += known.limits
        head = whole_head(hit_headers(hit, now) + saved_headers(entry), ids, len(body))
        record.seconds = self._clock() - now
        self._events.finished(record)
        return b"%b\r\n%b" % (head.raw, body)


def _blank(exchange: Exchange) -> Record:
    """The record of such an answer, but for who is answered by what, and when."""
    journey = exchange.journey
    caller = journey.caller
    return Record(
        at=0.0,
        request_id="",
        sentinel_id="",
        route=journey.route,
        method=journey.method,
        status=200,
        outcome="exact",
        model=journey.model,
        account=caller.tenant or "",
        key=caller.actor,
    )


def _is_plain(exchange: Exchange, reply: Cached) -> bool:
    """Is this the plain case: a whole answer from memory, to a program, of which only what is looked at above can change?"""
    journey = exchange.journey
    return (
        reply.hit.tier == "memory"
        and reply.hit.similarity is None
        and not reply.plan.request.stream
        and not journey.idempotency_key
        and not journey.wish.explain
        and not journey.experiment
        and (journey.caller is ANYBODY or journey.caller.key is not None)
        and b"origin" not in exchange.headers
        and (journey.trace is None or b"traceparent" not in exchange.headers)  # whose trace is to go on
        and not (_may_be_long(reply.hit.entry) and exchange.sender.compresses(COMPRESS_FROM))
    )


def _may_be_long(entry: Entry) -> bool:
    """May its answer be one that is compressed? A few that are just too short for that count as long."""
    return len(entry.body) + ENVELOPE >= COMPRESS_FROM


def _weight(segment: bytes, known: Known) -> int:
    return len(segment) + getsizeof(known.asked_id) + OVERHEAD
