"""The HTTP server as a whole: listening, signals, draining. What happens on one connection stands in `connection.py`."""

import asyncio
import contextlib
import errno
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import uvicorn

from sentinel_gateway.api.asgi import Again, App
from sentinel_gateway.api.connection import GatewayProtocol, ServerLimits
from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.ports import ConnectionWatch

BACKLOG: Final = 2048


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
    """Asked before a request is read whether its bytes can be answered as they were before."""


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
        except OSError as exc:
            raise ConfigurationError([cannot_listen(config.host, config.port, exc)]) from exc
        self.servers = [server]
        self.started = True
        if self._hooks.listening is not None:
            self._hooks.listening(self.port)

    def _accept(self) -> GatewayProtocol:
        hooks = self._hooks
        return GatewayProtocol(
            self.config.loaded_app, self.server_state, limits=self._limits, watch=hooks.connections, again=hooks.again
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals wake the loop instead of interrupting it, and are not raised again: a drained process ends with status 0."""
        handlers = {signal.SIGTERM: self._leave, signal.SIGINT: self._leave, signal.SIGHUP: self._hooks.reload}
        if threading.current_thread() is not threading.main_thread():
            handlers = {}
        loop = asyncio.get_running_loop()
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
            if handlers:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is being written at the end is not lost to a late reload

    def _leave(self) -> None:
        if self._leaving:
            self.should_exit = self.force_exit = True
            self._cut_all()
        else:
            self._leaving = True
            self._hooks.drain()
            asyncio.get_running_loop().call_later(self._drain.notice, self._stop_serving)

    def _stop_serving(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections, let the others finish, cut what has not finished in time."""
        cut = asyncio.get_running_loop().call_later(self._drain.timeout, self._cut_all)
        try:
            await super().shutdown(sockets)
        finally:
            cut.cancel()

    def _cut_all(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


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
        timeout_graceful_shutdown=math.ceil(drain.timeout) + 1,
    )
    return GatewayServer(config, limits=limits, drain=drain, hooks=hooks)
