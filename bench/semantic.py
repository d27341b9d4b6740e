"""The stages of the semantic tier, measured in this process: `python -m bench.semantic`.

CPU is that of the whole process, or of the event loop's thread where it says so; wall clocks of shared machines are noisy. The
questions are made from templates. Those beyond the first `EMBEDDED` are moved vectors of those, as far as rewordings lie apart.
"""

import gc
import itertools
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import uvloop

from bench.load import Quantiles
from sentinel_gateway.core.caching import Head
from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.core.matching import Neighbour, first_fit
from sentinel_gateway.embedders.local import LocalLimits
from sentinel_gateway.embedders.minilm import CARD, open_minilm
from sentinel_gateway.pipeline.aside import OneThread
from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

EMBEDDED: Final = 1_000
SIZES: Final = (200, 1_000, 10_000, 100_000)
ROUNDS: Final = 300
NEAR: Final = 0.7
"""The least similarity at which a neighbour is of any use."""
SIMILAR: Final = 0.96
SAME: Final = 1e-3
LONG: Final = "the model was asked for a good recipe of bread " * 12
"""Some 128 tokens."""
WEIGHED: Final = 8_192
NOW: Final = 1_800_000_000.0
ATTACHED_AT_ONCE: Final = 8
WORDS: Final = Rarity()


class Cost(msgspec.Struct, frozen=True):
    """Milliseconds of a call: by the clock, CPU of the process, and CPU of the event loop's thread."""

    wall: Quantiles
    cpu: float
    loop_cpu: float


class Search(msgspec.Struct, frozen=True):
    """A scope of `questions`. `recall` is the share of the true nearest that were found, of those that are near at all."""

    questions: int
    cost: Cost
    recall: float


class Semantic(msgspec.Struct, frozen=True):
    """All that was measured; times in milliseconds, memory in bytes.

    `memory` is what the embedder adds to a process that has loaded its libraries. A question's memory is all that the
    index keeps of it, its key and a text of 55 characters among it.
    """

    load: float
    memory: int
    embed_short: Cost
    embed_long: Cost
    embed_nine: Cost
    embed_known: Cost
    guards: Cost
    """Two short questions that may share an answer, held against each other on a thread: by guards, and for their words."""
    bytes_per_question: float
    searches: list[Search]


def questions() -> Iterator[str]:
    """Short ones of a shop's customers, no two the same."""
    asks = ("Where can I buy", "How much is", "Do you still have", "When do you deliver", "Can I give back", "What goes with")
    things = ("a blue vase", "garden shears", "a rain coat", "the oak table", "seeds for clover", "a watering can", "two lamps")
    places = ("in Lyon", "near the harbour", "at the market hall", "online", "for my mother", "on a Sunday", "without a receipt")
    ends = ("?", " this week?", " and who would know?", " if it is not too late?", " please?")
    for number in itertools.count():
        for ask, thing, place, end in itertools.product(asks, things, places, ends):
            yield f"{ask} {thing} {place}{end}" if number == 0 else f"{ask} {thing} number {number} {place}{end}"


async def measure(call: Callable[[int], Awaitable[object]], rounds: int = ROUNDS) -> Cost:
    """What a call costs; the first is not counted."""
    await call(0)
    walls = []
    cpu, loop_cpu = time.process_time(), time.thread_time()
    for number in range(1, rounds + 1):
        start = time.perf_counter()
        await call(number)
        walls.append((time.perf_counter() - start) * 1e3)
    per_call = 1e3 / rounds
    return Cost(Quantiles.of(walls), (time.process_time() - cpu) * per_call, (time.thread_time() - loop_cpu) * per_call)


async def measure_all(sizes: tuple[int, ...] = SIZES, rounds: int = ROUNDS) -> Semantic:
    """Every stage, one after the other; a quarter of a minute, and a minute more for 100,000 questions."""
    before = resident()
    start = time.perf_counter()
    embedder = await open_minilm(limits=LocalLimits(deadline=30.0), on_event=_tell)
    load = (time.perf_counter() - start) * 1e3
    fresh = questions()
    short = await measure(lambda _: embedder.embed([next(fresh)]), rounds)
    nine = await measure(lambda _: embedder.embed([next(fresh) for _ in range(9)]), rounds // 10 + 1)
    long = await measure(lambda number: embedder.embed([f"{number} {LONG}"]), rounds // 10 + 1)
    known = await measure(lambda _: embedder.embed(["the same"]), rounds)
    aside = OneThread("bench-matching")
    guards = await measure(lambda _: _match(aside, next(fresh)), rounds)
    aside.close()
    memory = resident() - before
    made = [(await embedder.embed([text]))[0] for text in itertools.islice(fresh, min(EMBEDDED, max(sizes)))]
    await embedder.close()
    seeds = np.array([vector for vector in made if vector is not None])
    searches = [await _search(seeds, size, rounds) for size in sizes]
    return Semantic(load, memory, short, long, nine, known, guards, await _weigh(seeds), searches)


async def _match(aside: OneThread, text: str) -> None:
    """As the path does it: guards, and the numbers of words."""
    near = [Neighbour(_head(0, text), SIMILAR)]
    verdict = await aside(partial(first_fit, f"Please tell me: {text}", near, threshold=NEAR, rarity=WORDS))
    if verdict.words is None:
        raise ValueError(f"a guard objects to {text}")


async def _search(seeds: "NDArray[np.float32]", size: int, rounds: int) -> Search:
    chance = np.random.default_rng(size)
    vectors = _moved(seeds, np.arange(size) % len(seeds), chance)
    index = _index()
    await _fill(index, vectors)
    asked = _moved(seeds, chance.integers(0, min(size, len(seeds)), rounds + 1), chance)
    cost = await measure(lambda number: index.nearest("scope", asked[number], limit=3), rounds)
    found = near = 0
    for vector in asked:
        best = float((vectors @ vector).max())
        near += best >= NEAR
        found += best >= NEAR and (await index.nearest("scope", vector, limit=1))[0].similarity > best - SAME
    await index.close()
    return Search(size, cost, found / near)


async def _weigh(seeds: "NDArray[np.float32]") -> float:
    vectors = np.resize(seeds, (WEIGHED, seeds.shape[1]))
    index = _index()
    tracemalloc.start()
    await _fill(index, vectors)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await index.close()
    return held / WEIGHED


def _index() -> MemoryIndex:
    limits = IndexLimits(questions=max(SIZES), deadline=10.0)
    return MemoryIndex(model=CARD.name, dimension=CARD.dimension, limits=limits, clock=lambda: NOW)


async def _fill(index: MemoryIndex, vectors: "NDArray[np.float32]") -> None:
    for start in range(0, len(vectors), ATTACHED_AT_ONCE):
        part = [(_head(start + row), vector) for row, vector in enumerate(vectors[start : start + ATTACHED_AT_ONCE])]
        for head, _ in part:
            index.add(head)
        await index.attach(part)


def _moved(seeds: "NDArray[np.float32]", which: "NDArray[np.intp]", chance: np.random.Generator) -> "NDArray[np.float32]":
    """Vectors at a cosine of .90 to .99 to those of the seeds."""
    away = chance.uniform(0.005, 0.025, (len(which), 1))
    vectors = seeds[which] + away * chance.standard_normal((len(which), seeds.shape[1]))
    unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _head(number: int, text: str = "") -> Head:
    text = text or f"What does article {number} cost, and when can I have it?"
    return Head(key=f"{number:064x}", model="openai/mock", created=NOW, expires=NOW + 86_400, scope="scope", text=text)


def resident() -> int:
    """Bytes of memory that this process has, by the kernel's count."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _tell(event: str, **fields: str) -> None:
    print(event, fields)


def main() -> None:
    """Measure and print."""
    print(json.dumps(msgspec.to_builtins(uvloop.run(measure_all())), indent=1))


if __name__ == "__main__":
    main()
