"""Where the server can't listen, one sentence says so and what to do."""

import asyncio
import errno
import socket

import pytest

from sentinel_gateway.api.connection import ServerLimits
from sentinel_gateway.api.server import Drain, GatewayServer, Hooks, build_server, cannot_listen
from sentinel_gateway.errors import ConfigurationError
from tests.server.conftest import App, Gauge, Running, until


def server_on(host: str, port: int) -> GatewayServer:
    hooks = Hooks(Gauge(), drain=list, reload=list)
    return build_server(App(), host=host, port=port, limits=ServerLimits(), drain=Drain(), hooks=hooks)


@pytest.mark.anyio
async def test_a_busy_port_is_named_with_the_remedy():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            await server_on("127.0.0.1", port).serve()
    assert caught.value.faults == [
        (
            "server.port",
            f"Another program already listens on 127.0.0.1:{port}: stop it, or choose another port (server.port, PORT).",
        )
    ]


@pytest.mark.anyio
async def test_an_address_of_another_machine_is_named_with_the_remedy():
    with pytest.raises(ConfigurationError) as caught:
        await server_on("192.0.2.1", 0).serve()
    [(place, sentence)] = caught.value.faults
    assert place == "server.host"
    assert sentence.startswith("Can't listen on 192.0.2.1:0: ")


def test_a_port_of_the_system_is_named_with_the_remedy():
    place, sentence = cannot_listen("::1", 80, PermissionError(errno.EACCES, "Permission denied"))
    assert (place, sentence) == (
        "server.port",
        "This user may not listen on [::1]:80: choose a port above 1023 (server.port, PORT).",
    )


@pytest.mark.anyio
async def test_a_server_tells_its_state_and_its_port():
    server = server_on("127.0.0.1", 0)
    assert repr(server) == "<GatewayServer 127.0.0.1:0 not started, 0 connections>"
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it no other way
        await asyncio.sleep(0.005)
    assert server.port > 0
    assert repr(server) == "<GatewayServer 127.0.0.1:0 serving, 0 connections>"
    server.should_exit = True
    await serving


def test_stopping_closes_idle_connections_and_counts_them(start):
    server: Running = start(ServerLimits())
    with server.connect() as wire:
        until(lambda: server.gauge.open == 1)
        server.stop()
        assert wire.rest() == b""
    assert (server.gauge.open, server.gauge.total) == (0, 1)
