"""A Redis address as a client of redis-py: one server, Redis Sentinel, or a cluster. It connects when it is first used."""

import asyncio
import re
from contextvars import ContextVar
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import (
    URL_QUERY_ARGUMENT_PARSERS,
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff

Client: TypeAlias = "Redis | RedisCluster"

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
CHANCES: Final = 3
RESP: Final = 2
"""The protocol's version: its answers have the same shapes on every server, and connecting takes no question more."""
_SERVERS: Final = re.compile(r"(?<=://)((?:[^/?#]*@)?)([^/?#]*)")
"""Who, and the servers. They are cut out before `urlsplit` sees them: some versions of it take no brackets but at the start."""


class Deadline:
    """Of the call under way: `connect` seconds to connect, if it must, and `answer` seconds for the answer from then on.

    An answer that is here can't be seen while our own event loop stands still. So a deadline that is `late` seconds late itself
    gives another chance, a few times.
    """

    __slots__ = ("_answer", "_connect", "_due", "_late", "_loop", "_seconds", "_timeout", "_timer", "stood_still")

    def __init__(self, timeout: asyncio.Timeout, *, connect: float, answer: float, late: float) -> None:
        self._timeout = timeout
        self._connect = connect
        self._answer = answer
        self._late = late
        self._loop = asyncio.get_running_loop()
        self.stood_still = 0
        """How often our own event loop did."""
        self._start(answer)

    def connecting(self) -> None:
        self._timer.cancel()
        self._start(self._connect)

    def connected(self) -> None:
        self._timer.cancel()
        self._start(self._answer)

    def end(self) -> float:
        """It is not needed any more; seconds since the connection was there."""
        self._timer.cancel()
        return self._loop.time() - (self._due - self._seconds)

    def _start(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._over)

    def _over(self) -> None:
        now = self._loop.time()
        if now - self._due > self._late and self.stood_still < CHANCES:
            self.stood_still += 1
            self._start(self._seconds)
        else:
            self._timeout.reschedule(now)


call_deadline: ContextVar[Deadline | None] = ContextVar("call_deadline", default=None)


def make_client(url: str, *, connect: float, patience: float, deadline: bool = False) -> Client:
    """A client that tries nothing twice, has `connect` seconds to connect and waits `patience` seconds for each answer.

    With `deadline`, its calls are made under a `call_deadline`, which costs less than one for each answer.

    redis://, rediss:// and unix:// are one server; with +sentinel (the path is the master's name) or +cluster behind the scheme
    there are several, separated by commas. `?db=`, `?ssl_...=` as redis-py names them, and `?sentinel_password=` may follow.
    """
    at = urlsplit(_SERVERS.sub(r"\1", url, count=1))
    servers = _servers(url)
    secure = at.scheme.startswith("rediss")
    options = _options(at) | {"socket_connect_timeout": connect, "socket_timeout": None if deadline else patience}
    if at.scheme.endswith("+cluster"):
        nodes = [ClusterNode(host, port) for host, port in _hosts(servers, PORT)]
        # It makes its connections itself, which know no deadline that waits until they are open.
        return RedisCluster(startup_nodes=nodes, ssl=secure, **options | {"socket_timeout": patience})
    if at.scheme.endswith("+sentinel"):
        return _of_sentinel(at, _hosts(servers, SENTINEL_PORT), options)
    if at.scheme == "unix":
        return Redis.from_pool(ConnectionPool(_Unix, path=unquote(at.path), **options))
    ((host, port),) = _hosts(servers, PORT)
    if database := at.path.strip("/"):
        options["db"] = int(database)
    return Redis.from_pool(ConnectionPool(_Secure if secure else _Plain, host=host, port=port, **options))


def shown(url: str) -> str:
    """The address without user, password and options, for the log."""
    at = urlsplit(_SERVERS.sub("", url, count=1))
    return f"{at.scheme}://{_servers(url)}{at.path}"


class _Timed(AbstractConnection):
    """Connecting has a time of its own, and the call has all of its time afterwards."""

    async def connect(self) -> None:
        if self.is_connected:
            return
        deadline = call_deadline.get()
        if deadline is None:
            await super().connect()  # type: ignore[no-untyped-call]
            return
        deadline.connecting()
        await super().connect()  # type: ignore[no-untyped-call]
        deadline.connected()

    async def can_read(self) -> bool:
        """Is it unfit for a command? One that was reset while nobody used it is, and the library does not notice."""
        return (self._reader is not None and self._reader.exception() is not None) or await super().can_read()


class _Plain(_Timed, Connection): ...


class _Secure(_Timed, SSLConnection): ...


class _Unix(_Timed, UnixDomainSocketConnection): ...


class _OfSentinel(_Timed, SentinelManagedConnection): ...


class _SecureOfSentinel(_Timed, SentinelManagedSSLConnection): ...


def _of_sentinel(at: SplitResult, sentinels: list[tuple[str, int]], options: dict[str, Any]) -> Redis:
    secure = at.scheme.startswith("rediss")
    own = {name: value for name, value in options.items() if name.startswith(("socket_", "ssl"))} | {
        "retry": options["retry"],
        "protocol": RESP,
        "ssl": secure,
        "password": options.pop("sentinel_password", None),
    }
    master, _, database = at.path.strip("/").partition("/")
    if database:
        options["db"] = int(database)
    options["connection_class"] = _SecureOfSentinel if secure else _OfSentinel
    sentinel = Sentinel(sentinels, sentinel_kwargs=own, **options)  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(master)
    return client


def _options(at: SplitResult) -> dict[str, Any]:
    options = {name: URL_QUERY_ARGUMENT_PARSERS.get(name, str)(value) for name, value in parse_qsl(at.query)}
    if at.username:
        options["username"] = unquote(at.username)
    if at.password:
        options["password"] = unquote(at.password)
    return options | {
        "retry": Retry(NoBackoff(), 0),
        "protocol": RESP,
        "driver_info": None,  # a client's name costs a question for each connection, and a right that it may not have
    }


def _servers(url: str) -> str:
    found = _SERVERS.search(url)
    return found[2] if found else ""


def _hosts(servers: str, port: int) -> list[tuple[str, int]]:
    found = []
    for part in servers.split(","):
        one = urlsplit(f"//{part}")
        found.append((one.hostname or "localhost", one.port or port))
    return found
