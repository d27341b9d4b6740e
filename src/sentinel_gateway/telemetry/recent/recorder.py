"""Hears of every call of a provider and has it recorded, many at once, beside all requests: none of them ever waits.

What is heard goes into a bounded queue. A task empties it while there is something, and is gone when there is not. What finds no
room, or no Redis, is lost and counted; that is told once, when it begins, and once when it is over.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from sentinel_gateway.core.record import Attempt
from sentinel_gateway.ports import Events
from sentinel_gateway.ports.recent import RecentMetrics, RequestMetrics
from sentinel_gateway.telemetry.events import FAILED
from sentinel_gateway.telemetry.recent.shapes import KEPT
from sentinel_gateway.telemetry.tallies import OTHER

QUEUE: Final = 8192
BATCH: Final = 256
"""Some 2 ms of the event loop."""
LINGER: Final = 0.1
"""Seconds in which more may come to what is written at once."""
MOST_MODELS: Final = 1024
"""Of all providers within two hours, as far as they are told apart: where a provider takes any name, callers make names up."""


class Recorder:
    """`Events` for the path, which passes all of it on. Belongs to the event loop's thread. `dropped` counts what was lost."""

    def __init__(self, events: Events, recent: RecentMetrics) -> None:
        self._events = events
        self.finished = events.finished
        self.note = events.note
        self._recent = recent
        self._queue: deque[Attempt] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._at_once = asyncio.Event()
        self._models: dict[str, float] = {}
        self._losing = False
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<Recorder {len(self._queue)} queued, {self.dropped} dropped>"

    def attempted(self, attempt: Attempt) -> None:
        """Take it for recording."""
        self._events.attempted(attempt)
        if len(self._queue) >= QUEUE:
            self._lost(1, "the queue is full")
            return
        self._queue.append(attempt)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def close(self) -> None:
        """Write what is left, as far as it can be."""
        self._at_once.set()
        if self._writing is not None:
            await self._writing

    async def _write_all(self) -> None:
        try:
            while self._queue:
                if len(self._queue) < BATCH and not self._at_once.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LINGER):
                            await self._at_once.wait()
                batch = [self._metrics(self._queue.popleft()) for _ in range(min(BATCH, len(self._queue)))]
                if await self._recent.record_requests(batch):
                    self._written()
                else:
                    self._lost(len(batch), "it could not be written")
                await asyncio.sleep(0)
        finally:
            self._writing = None

    def _metrics(self, attempt: Attempt) -> RequestMetrics:
        provider, _, model = attempt.target.partition("/")
        ended = attempt.at + attempt.seconds
        answered = attempt.ending == "answered"
        streaming = attempt.seconds - attempt.first_token_seconds if attempt.first_token_seconds else 0.0
        return RequestMetrics(
            provider=provider,
            model=self._known(attempt.target, model, ended) if answered else model,
            latency_ms=attempt.seconds * 1000.0,
            success=answered if answered or attempt.ending in FAILED else None,
            cost=attempt.cost,
            tokens_input=attempt.prompt_tokens,
            tokens_output=attempt.completion_tokens,
            error_message=attempt.message or attempt.error,
            timestamp=ended,
            id=f"{attempt.sentinel_id[-12:]}.{attempt.number}",
            first_token_ms=attempt.first_token_seconds * 1000.0,
            tokens_per_second=attempt.completion_tokens / streaming if streaming > 0.0 else 0.0,
        )

    def _known(self, target: str, model: str, now: float) -> str:
        if target not in self._models and len(self._models) >= MOST_MODELS:
            self._models = {name: seen for name, seen in self._models.items() if seen > now - KEPT}
            if len(self._models) >= MOST_MODELS:
                return OTHER
        self._models[target] = now
        return model

    def _lost(self, count: int, reason: str) -> None:
        self.dropped += count
        if not self._losing:
            self._losing = True
            self._events.note("monitoring_dropped", reason=reason)

    def _written(self) -> None:
        if self._losing:
            self._losing = False
            self._events.note("monitoring_resumed", lost=float(self.dropped))
