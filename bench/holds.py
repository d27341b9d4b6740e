"""How long a request holds the event loop, stage by stage: `python -m bench.holds`.

A gateway of its own in this process, on asyncio's own loop, each of whose callbacks is timed by the processor's clock of the
loop's thread: what else the machine does is not counted. A stage is told by where it begins: the protocol, or the place at which
a coroutine goes on. The client is a thread. Questions are made from templates, the answers are those of `demo`.
"""

import asyncio
import http.client
import itertools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from types import CoroutineType
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace

from bench.load import Quantiles
from bench.semantic import questions
from sentinel_gateway.app import open_process
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.embedders.minilm import CARD
from sentinel_gateway.process import Process
from sentinel_gateway.serving import gateway_server, spare_the_collector
from sentinel_gateway.settings.load import load

STORED: Final = (200, 1_000, 10_000, 100_000)
"""Questions in the scope: the fewest are searched on the loop, the others in a thread."""
ASKED_ABOUT: Final = 1_000
"""So many of them are stored as they come; all beyond have vectors that are near to nothing, and are searched like any other."""
ROUNDS: Final = 200
WARM_UP: Final = 20
BEHIND: Final = 0.001
"""Seconds in which what is done behind the answer is done."""
AT_ONCE: Final = 1_000
RARE: Final = 0.1
"""Stages of fewer requests are not printed."""
OWN: Final = ("measure", "_chain_future")
"""Stages of this program itself."""
PATH: Final = "/v1/chat/completions"


class Stage(msgspec.Struct, frozen=True):
    """Milliseconds of one hold of the loop that begins `at` this place, and how many of those there are to a request."""

    at: str
    hold: Quantiles
    times: float


class Holds(msgspec.Struct, frozen=True):
    """What requests of a kind take of the loop, in milliseconds: each in all, the longest hold of each, and every stage."""

    kind: str
    """As `x-cache` tells it."""
    stored: int
    requests: int
    whole: Quantiles
    longest: Quantiles
    stages: list[Stage]


class Meter:
    """Times every callback of a loop while it is on."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []

    @contextmanager
    def on(self) -> Iterator[None]:
        run: Callable[[asyncio.Handle], None] = asyncio.Handle._run  # noqa: SLF001 - there is no other place

        def timed(handle: asyncio.Handle) -> None:
            stage = _stage(handle)
            start = time.thread_time()
            run(handle)
            self.seen.append((stage, (time.thread_time() - start) * 1e3))

        asyncio.Handle._run = timed  # type: ignore[method-assign,assignment]  # noqa: SLF001
        try:
            yield
        finally:
            asyncio.Handle._run = run  # type: ignore[method-assign,assignment]  # noqa: SLF001


def _stage(handle: asyncio.Handle) -> str:
    callback: Any = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return _innermost(owner.get_coro())
    protocol = getattr(owner, "_protocol", None)
    named = callback if protocol is None else type(protocol)
    return str(getattr(named, "__qualname__", named))


def _innermost(coroutine: Any) -> str:
    """Where it goes on: the deepest of our own coroutines."""
    name = coroutine.__qualname__
    while isinstance(coroutine := getattr(coroutine, "cr_await", None), CoroutineType):
        if "sentinel_gateway" in coroutine.cr_code.co_filename:
            name = coroutine.__qualname__
    return str(name)


class Client:
    """One connection, to be used on a thread."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, text: str, **headers: str) -> str:
        """Where the answer came from, by `x-cache`."""
        body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]})
        self._connection.request("POST", PATH, body, {"content-type": "application/json"} | headers)
        answer = self._connection.getresponse()
        answer.read()
        return str(answer.headers["x-cache"])

    def store(self, texts: Sequence[str]) -> None:
        """Have them answered in no other words."""
        for text in texts:
            self.ask(text, **{"x-similarity-threshold": "1"})

    def close(self) -> None:
        self._connection.close()


async def measure(client: Client, texts: Sequence[str], *, stored: int) -> list[Holds]:
    """What each of these requests takes, one after the other, by what came of it."""
    kinds: dict[str, list[list[tuple[str, float]]]] = defaultdict(list)
    for number, text in enumerate(texts):
        meter = Meter()
        with meter.on():
            kind = await asyncio.to_thread(client.ask, text)
            await asyncio.sleep(BEHIND)
        if number >= WARM_UP:
            kinds[kind].append([(stage, held) for stage, held in meter.seen if not stage.startswith(OWN)])
    return [_holds(kind, stored, seen) for kind, seen in kinds.items()]


def _holds(kind: str, stored: int, seen: list[list[tuple[str, float]]]) -> Holds:
    stages: dict[str, list[float]] = defaultdict(list)
    for stage, held in itertools.chain(*seen):
        stages[stage].append(held)
    told = [Stage(at, Quantiles.of(held), len(held) / len(seen)) for at, held in stages.items()]
    told.sort(key=lambda stage: -stage.hold.p50 * stage.times)
    each = [[held for _, held in request] for request in seen]
    return Holds(kind, stored, len(seen), Quantiles.of([*map(sum, each)]), Quantiles.of([*map(max, each)]), told)


async def measure_all(folder: Path, *, stored: Sequence[int] = STORED, rounds: int = ROUNDS) -> list[Holds]:
    """Exact hits, semantic hits, and misses that were compared, in scopes of so many questions."""
    environ = {
        "SENTINEL_DATA_DIR": str(folder),
        "LOG_LEVEL": "error",
        "PORT": "0",
        "SENTINEL_CACHE__SEMANTIC__EXPLORATION": "0",
    }
    reading = partial(load, environ, cwd=folder)
    loaded, asked = reading(), list[str]()
    found: list[Holds] = []
    fresh = (text for text in questions() if "week" not in text)  # that would be bound to its moment
    async with open_process(reading, loaded) as process:
        server = gateway_server(process, loaded.settings)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
        spare_the_collector()
        client = Client(server.port)
        try:
            for size in stored:
                more = list(itertools.islice(fresh, min(size, ASKED_ABOUT) - len(asked)))
                asked += more
                await asyncio.to_thread(client.store, more)
                await _fill(process, size)
                some = asked[-rounds - WARM_UP :]
                for texts in ([f"Please tell me: {text}" for text in some], some):
                    found += await measure(client, texts, stored=size)
        finally:
            client.close()
            server.should_exit = True
            await serving
    return found


async def _fill(process: Process, size: int) -> None:
    """Strangers beside what is stored, until there are `size`."""
    if process.semantic is None:
        raise ValueError("there is no semantic tier")
    index = process.semantic.index
    async with aclosing(index.questions(Selector(), time.time())) as pages:
        one = (await anext(pages))[0][0]
    held = (await index.view(one.scope, waiting=0)).vectors
    chance = np.random.default_rng(size)
    for start in range(held, size, AT_ONCE):
        count = min(AT_ONCE, size - start)
        vectors = chance.standard_normal((count, CARD.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        heads = [replace(one, key=f"{start + row:064x}") for row in range(count)]
        for head in heads:
            index.add(head)
        await index.attach(list(zip(heads, vectors, strict=True)))


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        for holds in asyncio.run(measure_all(Path(folder))):
            of = f"{holds.requests} x {holds.kind}, {holds.stored} stored"
            print(f"{of}: in all {_shown(holds.whole)}; longest {_shown(holds.longest)}")
            for stage in holds.stages:
                if stage.times >= RARE:
                    print(f"  {stage.times:5.2f} x {_shown(stage.hold)}  {stage.at}")


def _shown(held: Quantiles) -> str:
    return f"p50 {held.p50:.3f} p99 {held.p99:.3f} ms"


if __name__ == "__main__":
    main()
