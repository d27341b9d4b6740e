"""Where the server can't listen, one sentence says so and what to do."""

import asyncio
import contextlib
import errno
import signal
import socket
import threading

import pytest

from sentinel_gateway.api.bounds import ServerLimits
from sentinel_gateway.api.server import Drain, GatewayServer, Hooks, build_server, cannot_listen
from sentinel_gateway.errors import ConfigurationError
from tests.server.conftest import DEADLINE, App, Gauge, Running, until

CROWD = 64


def server_on(host: str, port: int, *, app=None, drain=None) -> GatewayServer:
    hooks = Hooks(Gauge(), drain=list, reload=list)
    return build_server(app or App(), host=host, port=port, limits=ServerLimits(), drain=drain or Drain(), hooks=hooks)


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
    server.end()
    await serving


async def asked(server) -> tuple[asyncio.Task[None], asyncio.StreamReader, asyncio.StreamWriter]:
    """It serves, and has begun with a request for /asked on a connection of ours."""
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it no other way
        await asyncio.sleep(0.005)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /asked HTTP/1.1\r\nHost: a\r\n\r\n")
    while not server.server_state.tasks:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.005)
    return serving, reader, writer


@pytest.mark.anyio
async def test_a_request_that_goes_on_though_its_connection_was_cut_is_ended():
    ended = []

    async def deaf(scope, receive, send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(scope["path"])
            raise

    server = server_on("127.0.0.1", 0, app=deaf, drain=Drain(timeout=0.0))
    serving, reader, writer = await asked(server)
    server.end()
    await serving
    assert ended == ["/asked"]
    assert await reader.read() == b""
    writer.close()


@pytest.mark.anyio
async def test_who_is_cut_by_the_second_signal_settles_what_it_spent_before_the_rest_is_closed():
    settled = []

    async def settling(scope, receive, send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(0.01)
        settled.append(scope["path"])

    server = server_on("127.0.0.1", 0, app=settling)
    serving, reader, writer = await asked(server)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0.01)
    signal.raise_signal(signal.SIGTERM)
    with contextlib.suppress(KeyboardInterrupt):
        await serving
    assert settled == ["/asked"]
    assert await reader.read() == b""
    writer.close()


@pytest.mark.anyio
async def test_who_heard_signals_before_hears_them_again_while_the_rest_is_closed():
    """The first process of a container would be deaf to the second signal: the kernel keeps from it what it does not ask for."""

    def hear(number: int, _: object) -> None: ...

    before = signal.signal(signal.SIGTERM, hear)
    try:
        server = server_on("127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it no other way
            await asyncio.sleep(0.005)
        signal.raise_signal(signal.SIGTERM)
        await serving
        assert signal.getsignal(signal.SIGTERM) is hear
    finally:
        signal.signal(signal.SIGTERM, before)


def test_stopping_closes_idle_connections_and_counts_them(start):
    server: Running = start(ServerLimits())
    with server.connect() as wire:
        until(lambda: server.gauge.open == 1)
        server.stop()
        assert wire.rest() == b""
    assert (server.gauge.open, server.gauge.total) == (0, 1)


def test_who_comes_to_a_busy_loop_waits_for_few_of_its_turns(patient: Running):
    """A crowd has connected while a turn lasted: in how many more is it accepted?"""
    busy, before, turns = threading.Event(), patient.gauge.total, 0

    def count() -> None:
        nonlocal turns
        turns += 1
        if patient.gauge.total < before + CROWD:
            patient.loop.call_soon(count)

    patient.do(lambda: busy.wait(DEADLINE))
    patient.do(count)
    crowd = [patient.connect() for _ in range(CROWD)]
    busy.set()
    until(lambda: patient.gauge.total == before + CROWD)
    for one in crowd:
        one.socket.close()
    assert turns < CROWD / 4
