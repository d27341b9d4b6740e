"""What runs: three gateways behind nginx, a Redis Cluster of three, PostgreSQL and a provider, each on a machine of its own.

nginx runs deploy/nginx/sentinel.conf as it is shipped, but for its certificate and for what one address may ask.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.chaos import ChaosUpstream
from tests.deploy.fronts import NAME, Front, nginx_site
from tests.faults.conftest import ADMIN, SECRET, Node
from tests.gateway import MODELS
from tests.scale_out.network import Network
from tests.server.nginx import MAIN, nginx_with
from tests.servers import POSTGRES, REDIS8, PostgresServer, RedisCluster

NODES = 3
PORT = 8080
INPUT, OUTPUT = 100, 1_000
"""Nano-USD a token."""
CONFIG = """
providers:
  quick: {{dialect: openai, base_url: '{quick}', api_key: key-of-quick, models: [{models}]}}
  slow: {{dialect: openai, base_url: '{slow}', api_key: key-of-slow, models: [{models}]}}
prices: {{models: {{"quick/*": {{input: "0.1", output: "1"}}, "slow/*": {{input: "0.1", output: "1"}}}}}}
"""
CROWD = {"rate=10r/s;": "rate=10000r/s;", "burst=40 nodelay": "burst=60000 nodelay", "connections 100;": "connections 60000;"}


class Patient(Node):
    """What starts beside two hundred streams takes its time."""

    patience = 120.0


@dataclass
class Fleet:
    """All of it, running. What may take long is done in a thread: provider and clients live on this loop."""

    home: Path
    front: Front
    upstream: ChaosUpstream
    redis: RedisCluster
    postgres: PostgresServer
    environs: list[dict[str, str]]
    machines: list[tuple[str, ...]]
    nodes: dict[int, Node]

    async def start(self, number: int) -> float:
        """Start a node, again with its own folder; the seconds until it was ready."""
        began = time.monotonic()
        home = self.home / f"node-{number}"
        self.nodes[number] = await asyncio.to_thread(Patient, home, self.environs[number], self.machines[number])
        return time.monotonic() - began

    async def stop(self, number: int) -> float:
        """SIGTERM, and wait for its end; the seconds that it took."""
        began = time.monotonic()
        node = self.nodes[number]
        node.process.terminate()
        status = await asyncio.to_thread(node.process.wait)
        assert status == 0, f"node {number} ended with {status}"
        return time.monotonic() - began

    def kill(self, number: int) -> float:
        """kill -9; the moment (`time.monotonic()`)."""
        self.nodes[number].process.kill()
        self.nodes[number].process.wait()
        return time.monotonic()

    async def services(self, name: str) -> list[str]:
        """What each node says of a service that it uses, such as `redis`."""
        asked = {"host": NAME, "authorization": f"Bearer {ADMIN}"}
        told = [await asyncio.to_thread(partial(node.request, "GET", "/health", None, **asked)) for node in self.nodes.values()]
        return [answer.json["services"][name]["status"] for answer in told]

    async def create_key(self, name: str, *options: str) -> str:
        """By the command line, on the first node's machine."""
        command = [
            *self.machines[0],
            sys.executable,
            "-m",
            "sentinel_gateway",
            "keys",
            "create",
            "--name",
            name,
            "--json",
            *options,
        ]
        environ = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ} | self.environs[0]
        made = await asyncio.to_thread(
            subprocess.run, command, env=environ, cwd=self.home / "node-0", capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        key: str = json.loads(made.stdout)["key"]
        return key


@asynccontextmanager
async def running(network: Network, home: Path, *, thinking: int, chunk: int, tokens: int) -> AsyncIterator[Fleet]:
    """All but the nodes, which need a key first.

    The provider `quick` thinks for so many milliseconds, `slow` says so many `tokens`, one each `chunk` milliseconds.
    """
    here, front = network.machine(1), network.machine(2)
    machines = [network.machine(11 + number) for number in range(NODES)]
    with ExitStack() as servers:
        folder = home / "redis"
        folder.mkdir()
        cluster = RedisCluster(REDIS8, folder, [network.machine(21 + number) for number in range(3)], patience=2.0)
        redis = await asyncio.to_thread(servers.enter_context, cluster)
        assert POSTGRES is not None
        postgres = await asyncio.to_thread(servers.enter_context, PostgresServer(POSTGRES, here.address))
        async with ChaosUpstream(host=here.address, keep_calls=1_000_000) as upstream:
            before = Front(8443, 8081, front.address)
            folder = home / "nginx"
            folder.mkdir()
            site = MAIN.format(site=nginx_site(before, [f"{machine.address}:{PORT}" for machine in machines], CROWD))
            servers.enter_context(nginx_with(folder, site, before.port, front))
            quick, slow = upstream.url_with(f"latency_ms={thinking}"), upstream.url_with(f"chunk_ms={chunk};tokens={tokens}")
            config = CONFIG.format(quick=quick, slow=slow, models=", ".join(MODELS))
            database = postgres.fresh()
            environs = [
                _environ(home / f"node-{number}", config)
                | {"HOST": machine.address, "REDIS_URL": redis.url, "SENTINEL_DATABASE_URL": database}
                for number, machine in enumerate(machines)
            ]
            fleet = Fleet(home, before, upstream, redis, postgres, environs, [machine.within for machine in machines], {})
            try:
                yield fleet
            finally:
                for node in fleet.nodes.values():
                    await asyncio.to_thread(node.stop)


def _environ(home: Path, config: str) -> dict[str, str]:
    home.mkdir()
    file = home / "sentinel.yaml"
    file.touch(mode=0o600)
    file.write_text(config)
    return {
        "HOME": str(home),
        "PORT": str(PORT),
        "SERVICE_NAME": home.name,
        "SENTINEL_DATA_DIR": str(home / "data"),
        "SENTINEL_SECRET": SECRET,
        "SENTINEL_ADMIN_KEY": ADMIN,
        "SENTINEL_REPLICAS": str(NODES),
        "SENTINEL_SERVER__ALLOWED_HOSTS": NAME,
        "SENTINEL_SERVER__DRAIN_TIMEOUT": "60",
        "SENTINEL_CACHE__SEMANTIC__ENABLED": "false",
    }
