"""Each way to say where Redis is leads there: a socket, TLS with a password, Redis Sentinel also after a change of masters."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._redis import open_link
from tests.contract.stores.conftest import UNHURRIED
from tests.servers import REDIS7, REDIS8, RedisServer, free_port

pytestmark = pytest.mark.anyio

MASTER = "mymaster"
CHANGE = 20.0
"""Seconds in which Sentinel makes a replica the master, and the link has followed."""


@pytest.fixture
async def connect(told, anyio_backend):
    links = []

    def connect(url):
        links.append(open_link(url, name="test", clock=time.monotonic, events=told, limits=UNHURRIED))
        return links[-1]

    yield connect
    for link in links:
        await link.close()


@contextmanager
def sentinel(home: Path, master: int) -> Iterator[int]:
    """Redis Sentinel, alone, watching a master on this machine; its port. It keeps its own file, which it must find there."""
    port = free_port()
    config = home / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {home}\nsentinel monitor {MASTER} 127.0.0.1 {master} 1\n"
        f"sentinel down-after-milliseconds {MASTER} 300\nsentinel failover-timeout {MASTER} 3000\n"
    )
    with subprocess.Popen([REDIS8, config, "--sentinel"], stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


async def test_a_socket(connect, tmp_path):
    path = tmp_path / "redis sock"
    with RedisServer(REDIS8, tmp_path, "--unixsocket", str(path)) as server:
        link = connect(f"unix://{str(path).replace(' ', '%20')}?db=2")
        await link.call(lambda client: client.set("a", "b"))
        with server.client(db=2) as client:
            assert client.get("a") == b"b"


async def test_tls_with_a_password_and_a_database(connect, tmp_path, absent):
    """Debian's: the other one was built without TLS."""
    binary = REDIS7 or absent("redis-server: make test-deps installs it")
    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, made, check=True, capture_output=True)
    tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no"]
    with RedisServer(binary, tmp_path, *tls, "--requirepass", "p@ss") as server:
        address = f"rediss://:p%40ss@localhost:{port}/3"
        link = connect(f"{address}?ssl_ca_certs={certificate}")
        await link.call(lambda client: client.set("a", "b"))
        with server.client(db=3, password="p@ss") as client:
            assert client.get("a") == b"b"
        with pytest.raises(StoreDown):  # nobody vouches for this certificate
            await connect(address).call(lambda client: client.get("a"))
        by_number = f"{address.replace('localhost', '127.0.0.1')}?ssl_ca_certs={certificate}"
        with pytest.raises(StoreDown):  # nor for this name of it
            await connect(by_number).call(lambda client: client.get("a"))
        assert await connect(f"{by_number}&ssl_check_hostname=false").call(lambda client: client.get("a")) == b"b"


async def test_sentinel_names_the_master_also_after_a_change(connect, tmp_path):
    homes = {name: tmp_path / name for name in ("master", "replica", "sentinel")}
    for home in homes.values():
        home.mkdir()
    with RedisServer(REDIS8, homes["master"]) as master:
        replicating = ("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
        with RedisServer(REDIS8, homes["replica"], *replicating) as replica, sentinel(homes["sentinel"], master.port) as port:
            link = connect(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{port}/{MASTER}/1")
            await comes_to_write(link, "a")  # Sentinel has to begin
            with master.client(db=1) as client:
                assert client.get("a") == b"value"
                with anyio.fail_after(CHANGE):
                    while not await asyncio.to_thread(client.wait, 1, 200):
                        pass
            master.stop()
            await comes_to_write(link, "c")
            with replica.client(db=1) as client:
                assert (client.get("a"), client.get("c")) == (b"value", b"value")


async def comes_to_write(link, key) -> None:
    with anyio.fail_after(CHANGE):
        while True:
            try:
                await link.call(lambda client: client.set(key, "value"))
            except StoreDown:
                await anyio.sleep(0.1)
            else:
                return
