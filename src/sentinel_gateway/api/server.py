"""The HTTP server as a whole: listening, signals, draining. What happens on one connection stands in `connection.py`."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final, cast

import msgspec
import uvicorn

from sentinel_gateway.api.asgi import Again, App
from sentinel_gateway.api.bounds import ServerLimits
from sentinel_gateway.api.connection import GatewayProtocol
from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.ports import ConnectionWatch

BACKLOG: Final = 2048
UNSENT_BYTES: Final = 16 * 1024
"""That the kernel takes of an answer before it can be sent. It would take megabytes, and a provider would not be made to wait for
who does not read."""
ACCEPTED_AT_ONCE: Final = 16
"""Connections in a turn of the loop: whoever comes to a busy one would else wait for as many turns as others come before."""
GLANCE: Final = 0.01
"""Seconds between two looks whether all have left, at the end."""
LATEST: Final = 1.0
"""Seconds in which a request ends whose connection was cut."""


class Drain(msgspec.Struct, frozen=True):
    """Seconds. After the first signal, connections are still accepted for `notice`: balancers get the time to look elsewhere.

    Then the requests under way may take `timeout` to finish.
    """

    notice: float = 0.5
    timeout: float = 30.0


class Hooks(msgspec.Struct, frozen=True):
    """Whom the server tells: of connections, that it is about to leave, that it was asked to reload."""

    connections: ConnectionWatch
    drain: Callable[[], None]
    reload: Callable[[], None]
    listening: Callable[[int], None] | None = None
    """Told the port once it is open."""
    again: Again | None = None
    """Asked before a request is read whether its bytes can be answered as they are: as they were before, or refused."""


class GatewayServer(uvicorn.Server):
    """Serves until the first SIGTERM or SIGINT, then drains; the second ends it at once. SIGHUP asks for a reload.

    Raises `ConfigurationError` if it can't listen where it was told to. It runs no lifespan: what the app needs is opened
    before `serve()` and closed after it.
    """

    def __init__(self, config: uvicorn.Config, *, limits: ServerLimits, drain: Drain, hooks: Hooks) -> None:
        super().__init__(config)
        self._limits = limits
        self._drain = drain
        self._hooks = hooks
        self._leaving = False
        self._ending = asyncio.Event()

    def __repr__(self) -> str:
        state = "leaving" if self._leaving else "serving" if self.started else "not started"
        return f"<GatewayServer {self.config.host}:{self.config.port} {state}, {len(self.server_state.connections)} connections>"

    @property
    def port(self) -> int:
        """The port that is listened on: the one chosen by the system if 0 was asked for."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Listen; no sockets are taken over."""
        config = self.config
        try:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(self._accept, config.host, config.port, backlog=config.backlog)
            for listening in server.sockets:
                _hold_little(listening)
            again = [listening for listening in server.sockets for _ in range(ACCEPTED_AT_ONCE - 1)]
            self.servers = [server, *[await self._listen_again(listening) for listening in again]]
        except OSError as exc:
            raise ConfigurationError([cannot_listen(config.host, config.port, exc)]) from exc
        self.started = True
        if self._hooks.listening is not None:
            self._hooks.listening(self.port)

    async def _listen_again(self, listening: socket.socket) -> asyncio.Server:
        """On the same socket: libuv accepts one connection in a turn for each time that it listens."""
        again = socket.socket(fileno=os.dup(listening.fileno()))
        return await asyncio.get_running_loop().create_server(self._accept, sock=again, backlog=self.config.backlog)

    def _accept(self) -> GatewayProtocol:
        hooks = self._hooks
        connection = GatewayProtocol(
            self.config.loaded_app, self.server_state, limits=self._limits, watch=hooks.connections, again=hooks.again
        )
        if self._leaving:
            connection.shutdown()
        return connection

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals wake the loop instead of interrupting it, and are not raised again: a drained process ends with status 0."""
        handlers = {signal.SIGTERM: self._leave, signal.SIGINT: self._leave, signal.SIGHUP: self._hooks.reload}
        if threading.current_thread() is not threading.main_thread():
            handlers = {}
        loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
            if handlers:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # by default, a container's first process hears none
                signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is being written at the end is not lost to a late reload

    def _leave(self) -> None:
        if self._leaving:
            self.force_exit = True
            self._cut_all()
            self.end()
        else:
            self._leaving = True
            self._hooks.drain()
            for connection in self._connections():
                connection.shutdown()
            asyncio.get_running_loop().call_later(self._drain.notice, self.end)

    def end(self) -> None:
        """Accept nobody any more, and end once those who are here have left."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        """Set the date of answers each second, until it is to end. uvicorn looks ten times as often, and ends a moment later."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Close idle connections, let the others finish, cut what has not finished in time. uvicorn takes two moments more."""
        cut = asyncio.get_running_loop().call_later(self._drain.timeout, self._cut_all)
        try:
            await self._accept_waiting()
            for server in self.servers:
                server.close()
            for connection in self._connections():
                connection.shutdown()
            async with asyncio.timeout(self._drain.timeout + LATEST):
                await self._all_have_left()
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        finally:
            cut.cancel()
        if tasks := set(self.server_state.tasks):  # who was cut hears of it now, and settles what it has spent
            await asyncio.wait(tasks, timeout=LATEST)

    async def _all_have_left(self) -> None:
        state = self.server_state
        while (state.connections or state.tasks) and not self.force_exit:  # noqa: ASYNC110 - both are plain sets
            await asyncio.sleep(GLANCE)

    async def _accept_waiting(self) -> None:
        """Accept who has connected: a socket that is closed resets them, though they may have sent a request already."""
        loop = asyncio.get_running_loop()
        for listening in [listening for server in self.servers for listening in server.sockets]:
            # Nobody waits any more; or there is no descriptor for them, for which no answer under way is cut.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(listening.fileno())) as ours:
                ours.settimeout(0)
                while True:
                    waiting, _ = ours.accept()
                    await loop.connect_accepted_socket(self._accept, waiting)

    def _connections(self) -> list[GatewayProtocol]:
        return cast("list[GatewayProtocol]", list(self.server_state.connections))

    def _cut_all(self) -> None:
        for connection in self._connections():
            connection.transport.abort()


def _hold_little(listening: socket.socket) -> None:
    """For all connections that come by it."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):  # whatever is listened on instead of TCP
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def cannot_listen(host: str, port: int, exc: OSError) -> tuple[str, str]:
    """The setting at fault, and a sentence that names the remedy."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    match exc.errno:
        case errno.EADDRINUSE:
            why = f"Another program already listens on {where}: stop it, or choose another port (server.port, PORT)."
            return "server.port", why
        case errno.EACCES:
            return "server.port", f"This user may not listen on {where}: choose a port above 1023 (server.port, PORT)."
        case _:
            return "server.host", f"Can't listen on {where}: choose an address of this machine (server.host, HOST)."


def build_server(app: App, *, host: str, port: int, limits: ServerLimits, drain: Drain, hooks: Hooks) -> GatewayServer:
    """The server of `app`, not yet started. Port 0 lets the system choose."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
    )
    return GatewayServer(config, limits=limits, drain=drain, hooks=hooks)
