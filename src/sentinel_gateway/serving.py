"""Running a process behind a listening socket: start, greet, serve, drain, end."""

import asyncio
import sys
from collections.abc import Iterable

import uvloop

from sentinel_gateway import __version__
from sentinel_gateway.api.connection import ServerLimits
from sentinel_gateway.api.server import Drain, GatewayServer, Hooks, build_server
from sentinel_gateway.app import Load, Process, open_process
from sentinel_gateway.settings.load import Loaded
from sentinel_gateway.settings.model import Settings


def serve(load: Load) -> int:
    """Run the gateway until it is told to stop; the program's exit status. Raises `ConfigurationError` before anything runs."""
    loaded = load()
    uvloop.run(_serve(load, loaded))
    return 0


async def _serve(load: Load, loaded: Loaded) -> None:
    settings = loaded.settings
    async with open_process(load, settings) as process:
        server = gateway_server(process, settings)
        announcing = asyncio.create_task(_announce(server, process, loaded))
        try:
            await server.serve()
        finally:
            announcing.cancel()


def gateway_server(process: Process, settings: Settings) -> GatewayServer:
    """The server of a process, not yet started."""
    server = settings.server
    return build_server(
        process,
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
        hooks=Hooks(process.metrics, process.drain, process.reload_soon),
    )


async def _announce(server: GatewayServer, process: Process, loaded: Loaded) -> None:
    """Tell the operator where it listens, and what to try, once it does."""
    while not server.started:
        await asyncio.sleep(0.005)
    host = f"[{server.config.host}]" if ":" in server.config.host else server.config.host
    print(greeting(f"http://{host}:{server.port}", process.admin.fresh, loaded.notes), file=sys.stderr, flush=True)


def greeting(base_url: str, fresh_admin_key: str | None, notes: Iterable[str]) -> str:
    """What a newcomer sees first."""
    ask = f"""curl -i {base_url}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "demo", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'"""
    lines = [f"Sentinel {__version__} answers on {base_url} (OpenAI base URL: {base_url}/v1)"]
    lines += [f"note: {note}" for note in notes]
    if fresh_admin_key is not None:
        lines.append(f"Admin key, shown only this once: {fresh_admin_key}")
    lines += ["", "Send this twice: the first answer says 'x-cache: miss', the second 'x-cache: exact'.", f"  {ask}", ""]
    return "\n".join(lines)
