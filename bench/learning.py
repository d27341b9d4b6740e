"""How long the event loop waits for the interpreter while a full learner is refitted, kept, brought back.

`python -m bench.learning`. A thread that works in the interpreter holds up all others. Each turn of a loop that does nothing else
is timed; what either thread waited for a core, by the kernel's count, is taken off. On a busy machine that is too much or too
little by some milliseconds, and the figures, which are those of the best round, mean nothing.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from bench.load import Quantiles
from sentinel_gateway.core.calibration import PACE
from sentinel_gateway.core.confidence.features import NAMES
from sentinel_gateway.core.confidence.learner import Learner, Observation, Prior, State, refit
from sentinel_gateway.pipeline.learned import breathe, read, written

ROUNDS: Final = 5
SETTLED: Final = 0.01
"""Seconds on the thread before and after the job, so that its beginning and its end are seen."""
SEEN: Final = 5e-5
"""Seconds of a wait that is counted."""

RIGHT: Final = 0.9
ALIKE: Final = 0.5
"""Shares of answers that are right, and of neighbours that say the same."""

T = TypeVar("T")


class Waits(msgspec.Struct, frozen=True):
    """Milliseconds, of the round with the shortest longest wait: the job by the clock, and all waits for it."""

    job: str
    took: float
    waits: Quantiles


class Delay:
    """What a thread has waited for a core, in seconds. Made on that thread."""

    def __init__(self) -> None:
        self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def __call__(self) -> float:
        return int(os.pread(self._file, 100, 0).split()[1]) * 1e-9

    def close(self) -> None:
        os.close(self._file)


async def waits(job: Callable[[], T]) -> tuple[T, float, list[float]]:
    """What a job on a thread brings, the seconds it took, and those for which the loop waited for it, one after the other."""
    own, others = Delay(), list[Delay]()
    seen: list[float] = []

    def on_thread() -> tuple[T, float]:
        others.append(Delay())
        time.sleep(SETTLED)
        start = time.perf_counter()
        found, took = job(), time.perf_counter() - start
        time.sleep(SETTLED)
        return found, took

    working = asyncio.create_task(asyncio.to_thread(on_thread))
    while not others:  # noqa: ASYNC110 - set by the thread
        await asyncio.sleep(0)
    last = _spent(own, others[0])
    while not working.done():
        await asyncio.sleep(0)
        now = _spent(own, others[0])
        seen.append(now - last)
        last = now
    for delay in (own, others[0]):
        delay.close()
    found, took = await working
    return found, took, [wait for wait in seen if wait > SEEN]


def _spent(own: Delay, other: Delay) -> float:
    """Seconds by the clock, less those that the loop worked, and those that either thread waited for a core."""
    return time.perf_counter() - time.thread_time() - own() - other()


def full(seed: int = 1) -> Learner:
    """A learner of as many requests, entries and words as one keeps."""
    chance, learner = random.Random(seed), Learner(Prior(), PACE)
    for number in range(PACE.window):
        entry, asked, *others = (f"{chance.randrange(PACE.entries):016x}" for _ in range(6))
        seen = Observation(
            entry=entry,
            features=tuple(chance.random() for _ in NAMES),
            confidence_then=chance.random(),
            right=chance.random() < RIGHT,
            at=float(number),
            asked=asked,
            around=0.8,
            compared={other: chance.random() < ALIKE for other in others},
        )
        learner.learn(seen)
        learner.rarity.count(f"word{chance.randrange(PACE.words)}" for _ in range(8))
    return learner


def _restored(kept: bytes) -> Learner:
    state = read(kept)
    if state is None:
        raise ValueError("what was kept can't be read")
    return Learner.restore(state, Prior(), PACE)


async def measure_all(rounds: int = ROUNDS) -> list[Waits]:
    """Refit, keep, bring back."""
    learner = full()
    state: State = learner.state()
    jobs: dict[str, Callable[[], object]] = {
        "refit": partial(refit, learner.work(), breathe),
        "keep": partial(written, state),
        "bring back": partial(_restored, written(state)),
    }
    found = []
    for name, job in jobs.items():
        each = [await waits(job) for _ in range(rounds)]
        _, took, seen = min(each, key=lambda one: max(one[2], default=0.0))
        found.append(Waits(name, took * 1e3, Quantiles.of([wait * 1e3 for wait in seen])))
    return found


def main() -> None:
    """Measure and print."""
    for told in asyncio.run(measure_all()):
        waits_ = told.waits
        print(f"{told.job}: {told.took:.0f} ms, waits p50 {waits_.p50:.3f} p99 {waits_.p99:.3f} longest {waits_.max:.3f} ms")


if __name__ == "__main__":
    main()
