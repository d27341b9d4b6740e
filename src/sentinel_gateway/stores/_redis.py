"""The way to Redis, for whoever keeps something there: a call has 50 ms, and a server that is frozen, slow or gone is left alone.

Nothing that a request waits for tries twice, or finds out whether Redis is back: one task in the background does that.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

import msgspec
from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ClusterDownError, RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports import Clock, Events
from sentinel_gateway.stores._redis_client import Client, Deadline, call_deadline, make_client, shown

__all__ = ["Client", "RedisLimits", "RedisLink", "end", "has_answered", "open_link"]

REMEMBERED: Final = 100
FEWEST: Final = 20
SLOW_SHARE: Final = 0.05
"""More than a twentieth of the last 100 calls being slow, once there are 20, is as bad as not answering: the 95th percentile."""

PINGS: Final = 5
LOOK_SECONDS: Final = 2.0
SLOW: Final = "slow"
"""As a reason in the log."""
TURNS: Final = 4
"""Turns of the event loop that an answer needs to be noticed: a loop that is busy is not a server that is slow."""

TIMEOUTS: Final = (TimeoutError, RedisTimeout)

SWALLOWED_SECONDS: Final = 0.1
"""A cancellation that has had no effect for so long has been lost."""

T = TypeVar("T")


class StoodStill(OSError):
    """Our own event loop did: the time for an answer was over before anybody could look whether it had come."""


STOOD_STILL: Final = StoodStill.__name__


class RedisLimits(msgspec.Struct, frozen=True):
    """Times in seconds."""

    connections: int = 10
    """Calls at once, which is seed 004's default."""
    place: float = 0.02
    """How long a call waits for others to end."""
    call: float = 0.05
    connect: float = 0.1
    slow: float = 0.02
    patient: float = 2.0
    """For each answer that no request waits for."""
    failures: int = 5
    """So many in a row, and it is left alone."""
    pause: float = 1.0
    """Between two looks whether it answers again."""


USUAL: Final = RedisLimits()


def open_link(url: str, *, name: str, clock: Clock, events: Events, limits: RedisLimits = USUAL) -> "RedisLink":
    """A link for one purpose, which its name tells in the log. Connects to nothing yet."""
    return RedisLink(url, name=name, clock=clock, events=events, limits=limits)


class RedisLink:
    """Calls to one Redis, or to a cluster.

    Changes of state are told once: redis_down, redis_up. A few failures that a look at the server does not confirm are none:
    it was our own event loop that stood still.
    """

    def __init__(self, url: str, *, name: str, clock: Clock, events: Events, limits: RedisLimits) -> None:
        self._url = url
        self._name = name
        self._clock = clock
        self._events = events
        self._limits = limits
        self._client = make_client(url, connect=limits.connect, patience=limits.call, deadline=True)
        self._patient: Client | None = None
        # After any failure a cluster has to be discovered anew, which is too much work for a request to wait for.
        self._failures = 1 if isinstance(self._client, RedisCluster) else limits.failures
        self._places = asyncio.Semaphore(limits.connections)
        self._pulse = _Pulse(self._failures)
        self._is_new = True
        """Nothing is known yet: the first call starts the first look."""
        self._known = asyncio.Event()
        """Set while it is known whether it answers; not while it is looked at for the first time after a failure."""
        self._wake = asyncio.Event()
        self._healer: asyncio.Task[None] | None = None
        self._fault: str | None = None
        """Why the last look found that it can't be used; None while it can, for all that is known."""
        self._closed = False
        self._joined = [self]
        self._heard = 0.0
        """When it last answered a call."""

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self.works else "left alone"
        return f"<RedisLink {self._name} to {self.address}, {state}>"

    @property
    def address(self) -> str:
        """Where it leads, without user, password and options."""
        return shown(self._url)

    @property
    def works(self) -> bool:
        """False while it is left alone, and while it is looked at because of a failure."""
        return self._healer is None and not self._closed

    @property
    def is_down(self) -> bool:
        """It was looked at, and does not answer; or the link is closed."""
        return self._fault is not None or self._closed

    def join(self, links: list["RedisLink"]) -> None:
        """Add it to these, all to one Redis.

        Where Redis has let one of them wait in vain, and has answered none meanwhile, a request does not wait for the others.
        """
        links.append(self)
        self._joined = links

    async def call(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """What `work` makes of the client: one command, or one pipeline.

        Raises `StoreDown`, which names the class of what went wrong, and does so at once while Redis is left alone. An answer
        may take 50 ms, and so much as 100 ms more if there is no connection yet. A call that is cancelled or takes too long
        loses its connection: nobody else ever reads the answer to it. What Redis itself refuses (READONLY, OOM) is `StoreDown`
        as well, but no outage.
        """
        await self._enter()
        begun = self._clock()
        try:
            found, seconds = await self._in_time(work)
            if seconds > self._limits.slow:
                seconds -= TURNS * await self._turn()
        except Exception as exc:  # noqa: BLE001 - broad: what a server that has gone mad sends may raise anything in the client
            self._failed(exc, self._clock() - begun)
            raise StoreDown(type(exc).__name__) from None
        finally:
            self._places.release()
        self._answered(seconds)
        return found

    async def call_patiently(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """As `call`, for what no request waits for: any number of commands, of which each answer may take 2 s.

        It has a connection of its own. How quick they are says nothing, and whoever does not answer in so long is left alone.
        While that is found out, it waits.
        """
        if self._healer is not None:
            await self._known.wait()
        if not self.works:
            raise self._refusal()
        if self._patient is None:
            self._patient = make_client(self._url, connect=self._limits.connect, patience=self._limits.patient)
        try:
            return await work(self._patient)
        except Exception as exc:  # noqa: BLE001 - as in call
            if not has_answered(exc):
                self._leave_alone(type(exc).__name__)
            raise StoreDown(type(exc).__name__) from None

    async def check(self) -> None:
        """Look whether it answers, whatever was known before. It works when this returns; `StoreDown` if it does not answer."""
        if self._closed:
            raise StoreDown("closed")
        if (fault := await self._look()) is not None:
            self._leave_alone(fault)
            raise StoreDown(fault)
        self._is_new = False
        if self._healer is not None:
            self._wake.set()
            await asyncio.wait({self._healer}, timeout=LOOK_SECONDS)

    @asynccontextmanager
    async def blocking(self, seconds: float) -> AsyncIterator[Client]:
        """A client of its own for commands that wait (XREAD BLOCK), with so long for each answer; closed at the end.

        What goes wrong with Redis inside of the context becomes `StoreDown`, and says nothing about the link.
        """
        client = make_client(self._url, connect=self._limits.connect, patience=seconds)
        try:
            yield client
        except (RedisError, RedisClusterException, OSError) as exc:
            raise StoreDown(type(exc).__name__) from None
        finally:
            await _close(client)

    async def close(self) -> None:
        """Let go of all connections, once the calls under way have ended. Later ones are `StoreDown`."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        if self._healer is not None:
            await asyncio.wait({self._healer})  # not cancelled: a cluster that is half discovered can't be closed
        for _ in range(self._limits.connections):
            await self._places.acquire()
        for client in (self._client, self._patient):
            if client is not None:
                await _close(client)

    async def _in_time(self, work: Callable[[Client], Awaitable[T]]) -> tuple[T, float]:
        """What `work` makes of the client, and how many seconds that took once there was a connection.

        `StoodStill` if it is not known whether it was late: we were.
        """
        limits, timeout = self._limits, asyncio.timeout(None)
        deadline = Deadline(timeout, connect=limits.connect, answer=limits.call, late=limits.slow)
        outside = call_deadline.set(deadline)
        try:
            async with timeout:
                found = await work(self._client)
        except TIMEOUTS:  # redis-py's is of connecting, for which it has a clock of its own
            if deadline.stood_still:
                raise StoodStill from None
            raise
        finally:
            call_deadline.reset(outside)
            seconds = deadline.end()
        return found, 0.0 if deadline.stood_still else seconds

    async def _enter(self) -> None:
        """Take a place. Many callers at once are no fault of the server, so waiting too long for one counts for nothing."""
        if asyncio.current_task() is None:  # a request has no task before it first waits, and timeouts need one
            await asyncio.sleep(0)
        if self._is_new:
            self._leave_alone("unreachable")
            if not self._others_are_down():  # callers that come first wait together
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._limits.connect + self._limits.call):
                        await self._known.wait()
        if not self.works:
            raise self._refusal()
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._limits.place):
                await self._places.acquire()
        except TimeoutError:
            raise StoreDown("busy") from None
        if self._healer is not None:  # since it began to wait
            self._places.release()
            raise self._refusal()

    def _refusal(self) -> StoreDown:
        return StoreDown("closed" if self._closed else "left alone until it answers again")

    def _answered(self, seconds: float) -> None:
        self._heard = self._clock()
        if not self._pulse.answered(slow=seconds > self._limits.slow):
            self._leave_alone(SLOW)

    def _failed(self, error: Exception, seconds: float = 0.0) -> None:
        if has_answered(error):
            self._answered(seconds)
            return
        mad = not isinstance(error, RedisError | RedisClusterException | OSError | RuntimeError)  # uvloop's, on a closed socket
        if not self._pulse.failed() or mad:
            self._leave_alone(type(error).__name__, drop=mad)
        begun = self._clock() - seconds
        if isinstance(error, TIMEOUTS) and all(link._heard < begun for link in self._joined):  # noqa: SLF001 - one of us
            for link in self._joined:
                link._leave_alone(type(error).__name__)  # noqa: SLF001 - as above

    def _leave_alone(self, reason: str, *, drop: bool = False) -> None:
        if self._healer is None and not self._closed:
            self._known.clear()
            self._healer = asyncio.create_task(self._heal(reason, drop=drop))

    async def _heal(self, reason: str, *, drop: bool) -> None:
        """Look until it answers. With `drop`, connections that may hold what nobody has read are let go before."""
        while (fault := await self._look(drop=drop)) is not None and not self._closed:
            if fault == STOOD_STILL:
                continue
            if self._fault is None and (fault == SLOW or not self._others_are_down()):
                self._note("redis_down", reason=f"{reason}, {fault}")
            self._fault = fault
            self._is_new = False
            self._known.set()
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.pause):
                    await self._wake.wait()
        self._healer = None
        self._pulse = _Pulse(self._failures)
        self._is_new = False
        was_down, self._fault = self._fault is not None, None
        self._known.set()
        for link in self._joined:
            link._wake.set()  # noqa: SLF001 - one of us
        if was_down and not any(link.is_down for link in self._joined):
            self._note("redis_up")

    def _others_are_down(self) -> bool:
        return any(link._fault not in {None, SLOW} for link in self._joined if link is not self)  # noqa: SLF001 - one of us

    async def _look(self, *, drop: bool = False) -> str | None:
        """Why it can't be used now, or None. A cluster is discovered first, which takes longer than a call may."""
        limit = asyncio.timeout(LOOK_SECONDS)
        try:
            async with limit:
                if drop:
                    await _close(self._client)
                if isinstance(self._client, RedisCluster):
                    await _ping(self._client)
                await self._in_time(_ping)
                slow = 0
                for _ in range(PINGS):
                    turn, begun = await self._turn(), self._clock()
                    await self._in_time(_ping)
                    slow += self._clock() - begun > self._limits.slow + TURNS * turn
        except Exception as exc:  # noqa: BLE001 - as in call
            late = limit.expired() and asyncio.get_running_loop().time() > (limit.when() or 0.0) + self._limits.slow
            return STOOD_STILL if late else type(exc).__name__
        return SLOW if slow > PINGS / 2 else None

    def _note(self, event: str, **fields: str) -> None:
        self._events.note(event, link=self._name, at=self.address, **fields)

    async def _turn(self) -> float:
        """Seconds that the event loop takes for one turn now."""
        begun = self._clock()
        await asyncio.sleep(0)
        return self._clock() - begun


class _Pulse:
    """How the last calls went. Both methods say whether it may go on so."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failures = 0
        self._slow: deque[bool] = deque(maxlen=REMEMBERED)

    def answered(self, *, slow: bool) -> bool:
        self._failures = 0
        self._slow.append(slow)
        return not slow or self._is_quick()

    def failed(self) -> bool:
        self._failures += 1
        self._slow.append(True)
        return self._failures < self._limit and self._is_quick()

    def _is_quick(self) -> bool:
        return len(self._slow) < FEWEST or sum(self._slow) <= SLOW_SHARE * len(self._slow)


def has_answered(error: Exception) -> bool:
    """Is it Redis itself that refuses, in a word of its own?"""
    return isinstance(error, ResponseError) and not isinstance(error, ClusterDownError)


async def _ping(client: Client) -> None:
    """Of a cluster, ask every primary, and whether it thinks that the cluster serves."""
    if not isinstance(client, RedisCluster):
        await client.ping()
        return
    told: Any = await client.cluster_info(target_nodes=RedisCluster.PRIMARIES)  # by the primary's name
    for info in told.values():
        if info["cluster_state"] != "ok":
            raise ClusterDownError("CLUSTERDOWN")


async def _close(client: Client) -> None:
    if isinstance(client, RedisCluster):  # which itself closes nothing while it is about to be discovered anew
        for nodes in ("nodes_cache", "startup_nodes"):
            with suppress(RedisError, OSError):
                await client.nodes_manager.aclose(nodes)
    elif isinstance(client.connection_pool, SentinelConnectionPool):  # nor does it know whose its sentinels are
        with suppress(RedisError, OSError):
            await client.connection_pool.sentinel_manager.aclose()
    with suppress(RedisError, OSError):  # it goes either way
        await client.aclose()


async def end(*tasks: "asyncio.Task[None]") -> None:
    """Cancel until they have ended: a cluster's client that looks for its nodes may swallow a cancellation."""
    while running := {task for task in tasks if not task.done()}:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=SWALLOWED_SECONDS)
