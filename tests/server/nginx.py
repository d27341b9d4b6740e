"""A real nginx before the server: its own configuration, folder and port, one process, gone when the test ends.

It tells in a log how many requests it understood, which is what smuggling is about.
"""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.servers import HERE, Machine, free_port

DEADLINE = 30.0
"""Seconds after which a test fails instead of waiting on."""

CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 20000; }}
http {{
    log_format seen escape=json
        '{{"port": $remote_port, "status": $status, "target": "$request_uri", "upstream": "$upstream_status"}}';
    access_log seen.log seen;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    upstream gateway {{ server 127.0.0.1:{upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        {server}
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            {location}
        }}
    }}
}}
"""

MAIN = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    {site}
}}
"""
PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


class Line(msgspec.Struct, frozen=True):
    """One request as nginx understood it; `upstream` has the status of each attempt, and is empty if nobody was asked."""

    port: int
    """Of the client."""
    status: int
    target: str
    upstream: str

    @property
    def served(self) -> bool:
        """The gateway answered it as a request that it had understood."""
        return "200" in self.upstream


_decode = msgspec.json.Decoder(Line).decode


@dataclass
class Nginx:
    port: int
    log: Path

    @property
    def told(self) -> int:
        """Bytes that it has logged so far."""
        return self.log.stat().st_size

    def lines(self, since: int = 0) -> list[Line]:
        """What it has logged after so many bytes."""
        return [_decode(line) for line in self.log.read_bytes()[since:].splitlines()]


def is_installed() -> bool:
    return shutil.which("nginx") is not None


@contextmanager
def running_nginx(folder: Path, upstream: int, *, server: str = "", location: str = "") -> Iterator[Nginx]:
    """Start nginx before the port `upstream`. `server` and `location` are more lines of its configuration."""
    port = free_port()
    with nginx_with(folder, CONFIG.format(port=port, upstream=upstream, server=server, location=location), port) as running:
        yield running


@contextmanager
def nginx_of_the_page(folder: Path, *nodes: int) -> Iterator[Nginx]:
    """Start nginx as docs/scaling.md has it, before nodes on these ports of this machine."""
    [site] = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    port = free_port()
    addresses = re.findall(r"server ([\d.:]+)", site)
    for address, node in zip(addresses, nodes, strict=True):
        site = site.replace(address, f"127.0.0.1:{node}")
    with nginx_with(folder, MAIN.format(site=site.replace("listen 80;", f"listen 127.0.0.1:{port};")), port) as running:
        yield running


@contextmanager
def nginx_with(folder: Path, text: str, port: int, machine: Machine = HERE) -> Iterator[Nginx]:
    """Start nginx with a whole configuration, which has it listen on `port` of the machine."""
    config = folder / "nginx.conf"
    config.write_text(text)
    command = [*machine.within, "nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(port, process, machine.address)
        yield Nginx(port, folder / "seen.log")
        assert process.poll() is None, "nginx ended by itself"
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=DEADLINE)
    assert complaints == ""


def wait_for(port: int, process: subprocess.Popen[Any], host: str = HERE.address) -> None:
    """Until it listens."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection((host, port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, process.stderr.read() if process.stderr else "it ended"
            assert time.monotonic() < end, "it never listened"
            time.sleep(0.01)
        else:
            return
