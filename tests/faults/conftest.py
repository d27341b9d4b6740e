"""Gateways as programs of their own, a provider, a Redis, and a proxy between: all of it may be broken by a test."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.chaos import ChaosUpstream
from tests.faults.proxy import FaultProxy
from tests.gateway import one_provider
from tests.process.conftest import DEADLINE, Program
from tests.servers import PATIENT, REDIS8, RedisServer

SECRET = "436ad5a5a906182cece6dc3a9b346d66b16eed21eb712d58cffa50b85950fc03"
ADMIN = "an-admin-key-of-the-tests-that-is-long-enough"


class Node(Program):
    """A gateway. What may take long is done in a thread: the proxy and the provider live on the test's own loop."""

    def __init__(self, home: Path, environ: Mapping[str, str], within: Sequence[str] = ()) -> None:
        self._events: list[dict[str, Any]] = []
        self._read = 0
        super().__init__(home, environ, within=within)

    def events(self, beginning: str) -> list[dict[str, Any]]:
        """What it has logged so far of these names, requests not included; the log is read once, for it grows quickly."""
        with self.lines.open("rb") as log:
            log.seek(self._read)
            whole, _, _ = log.read().rpartition(b"\n")
        self._read += len(whole) + bool(whole)
        self._events += [json.loads(line) for line in whole.splitlines() if b'"event":"request"' not in line]
        return [event for event in self._events if event["event"].startswith(beginning)]

    async def told(self, name: str, times: int = 1) -> None:
        """Wait until it has logged this so often."""
        async with asyncio.timeout(DEADLINE):
            while len(self.events(name)) < times:  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.02)

    async def asks(self, question: str, **headers: str) -> Any:
        return await asyncio.to_thread(partial(self.ask, question, "mock-model", **headers))

    async def gets(self, path: str) -> Any:
        return await asyncio.to_thread(self.request, "GET", path, None, authorization=f"Bearer {ADMIN}")

    async def services(self) -> dict[str, str]:
        """What `/health` says of each."""
        return {name: told["status"] for name, told in (await self.gets("/health")).json["services"].items()}

    @property
    def complaints(self) -> list[str]:
        """What it should not have said."""
        told = [*self.errors.read_text().splitlines(), *self.lines.read_text().splitlines()]
        return [line for line in told if "Traceback" in line or "never retrieved" in line or "internal_error" in line]


@pytest.fixture
async def upstream(anyio_backend) -> AsyncIterator[ChaosUpstream]:
    """The provider `mock`, and the oracle: it knows what was asked."""
    async with ChaosUpstream(keep_calls=50_000) as upstream:
        yield upstream


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test alone."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(REDIS8, folder, "--enable-debug-command", "local") as server:
        yield server


@pytest.fixture
async def proxy(redis) -> AsyncIterator[FaultProxy]:
    """What nodes take for the Redis."""
    async with FaultProxy(redis.port) as proxy:
        yield proxy


@pytest.fixture
async def start(tmp_path: Path, upstream) -> AsyncIterator[Any]:
    """start("one", PORT="1") starts a gateway with a folder of its own; asked again by its name, with the same folder.

    All have the provider `mock`, one secret, and no place in memory for more than one answer, so that every other one is looked
    up. In the end all are stopped, and none may have had a fault of its own.
    """
    nodes: list[Node] = []

    async def start(name: str = "one", **environ: str) -> Node:
        home = tmp_path / name
        home.mkdir(exist_ok=True)
        config = home / "sentinel.yaml"
        config.touch(mode=0o600)
        config.write_text(one_provider(upstream.base_url))
        own = {
            "SENTINEL_SECRET": SECRET,
            "SENTINEL_ADMIN_KEY": ADMIN,
            "SENTINEL_CACHE__SEMANTIC__ENABLED": "false",
            "SENTINEL_CACHE__SEMANTIC__EXPLORATION": "0",
            "SENTINEL_SERVER__DRAIN_NOTICE": "0",
            "MEMORY_CACHE_SIZE": "1",
        }
        nodes.append(await asyncio.to_thread(Node, home, own | environ))
        return nodes[-1]

    yield start
    for node in nodes:
        await asyncio.to_thread(node.stop)
    assert [line for node in nodes for line in node.complaints] == []


@pytest.fixture
async def nodes(start, redis):
    """await nodes(**environ) is two of them that share a Redis, with room in memory."""

    async def both(**environ: str) -> tuple[Node, Node]:
        shared = {"REDIS_URL": redis.url, "SENTINEL_REPLICAS": "2", "MEMORY_CACHE_SIZE": "1000"} | PATIENT | environ
        one, two = await asyncio.gather(start("one", **shared), start("two", **shared))
        return one, two

    return both
