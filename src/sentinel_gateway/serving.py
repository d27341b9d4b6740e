"""Running a process behind a listening socket: start, greet, serve, drain, end."""

import gc
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import msgspec
import uvloop

from sentinel_gateway import __version__
from sentinel_gateway.api.bounds import ServerLimits
from sentinel_gateway.api.server import Drain, GatewayServer, Hooks, build_server
from sentinel_gateway.app import open_process
from sentinel_gateway.process import Process
from sentinel_gateway.settings.load import Load, Loaded
from sentinel_gateway.settings.model import Settings

MAX_DIGITS: Final = 640
"""Of a whole number in JSON, the least that Python allows to set: reading one takes the square of its length."""
COLLECT_AFTER: Final = (600_000, 1, 100)
"""Net new objects before a collection, and how many of those before a deeper one.

A collection holds the loop for a quarter of a microsecond or more for each object newer than the last one. A connection has 27, a
request 160 while it is under way, and libraries that are loaded when they are needed 80,000: as many connections and places as
there are by default rise and fall by fewer than the first number. What is over leaves no cycle, be it answered, failed or left:
what a collection finds is a library's.
"""
QUESTION: Final = "What is the capital of France?"
REWORDED: Final = "Please tell me: what is the capital of France?"
"""To 0.957 the same question."""


def serve(load: Load) -> int:
    """Run the gateway until it is told to stop; the program's exit status. Raises `ConfigurationError` before anything runs."""
    sys.set_int_max_str_digits(MAX_DIGITS)
    os.putenv("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded: its threads would wait for each other
    loaded = load()
    uvloop.run(_serve(load, loaded))
    return 0


async def _serve(load: Load, loaded: Loaded) -> None:
    settings = loaded.settings
    async with open_process(load, loaded) as process:
        spare_the_collector()
        process.strain.start()
        await gateway_server(process, settings, partial(_greet, process, loaded)).serve()


def gateway_server(process: Process, settings: Settings, listening: Callable[[int], None] | None = None) -> GatewayServer:
    """The server of a process, not yet started. `listening` is told the port once it is open."""
    server = settings.server
    return build_server(
        process.answer,
        host=server.host,
        port=server.port,
        limits=ServerLimits(
            header_timeout=server.header_timeout,
            body_timeout=server.body_timeout,
            write_timeout=server.write_timeout,
            keep_alive=server.keep_alive,
            max_connections=server.max_connections,
        ),
        drain=Drain(server.drain_notice, server.drain_timeout),
        hooks=Hooks(process.events, process.drain, process.reload_soon, listening, process.answer_again),
    )


def spare_the_collector() -> None:
    """What was made at start stays to the end: don't look through it for garbage, and from now on look less often than usual."""
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    gc.enable()


def _greet(process: Process, loaded: Loaded, port: int) -> None:
    """Tell the operator where it listens, and what to try."""
    host = loaded.settings.server.host
    base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    compares = process.embedder is not None and process.embedder.works
    example = Example(base_url, "demo" if loaded.settings.demo else "PROVIDER/MODEL", with_key=process.asks_for_keys)
    print(greeting(example, process.admin.fresh, loaded.notes, semantic=compares), file=sys.stderr, flush=True)


class Example(msgspec.Struct, frozen=True):
    """A request to try: where, of which model, and whether it needs a client key."""

    base_url: str
    model: str
    with_key: bool

    def curl(self, text: str) -> str:
        """As a line for a shell."""
        key = """ \\\n    -H "Authorization: Bearer $SENTINEL_KEY\"""" if self.with_key else ""
        return f"""  curl -i {self.base_url}/v1/chat/completions -H 'Content-Type: application/json'{key} \\
    -d '{{"model": "{self.model}", "messages": [{{"role": "user", "content": "{text}"}}]}}'"""


def greeting(example: Example, fresh_admin_key: str | None, notes: Iterable[str], *, semantic: bool) -> str:
    """What a newcomer sees first."""
    lines = [f"Sentinel {__version__} answers on {example.base_url} (OpenAI base URL: {example.base_url}/v1)"]
    lines += [f"note: {note}" for note in notes]
    if fresh_admin_key is not None:
        lines.append(f"Admin key, shown only this once: {fresh_admin_key}")
    if example.with_key:
        lines += ["", "Callers need a client key: 'sentinel keys create --name NAME' makes one. With it in SENTINEL_KEY:"]
    lines += ["", "Send this twice: the first answer says 'x-cache: miss', the second 'x-cache: exact'."]
    lines.append(example.curl(QUESTION))
    if semantic:
        lines += ["In other words, it says 'x-cache: semantic':", example.curl(REWORDED)]
    return "\n".join([*lines, ""])
