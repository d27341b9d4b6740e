"""A real nginx before the server: its own configuration, folder and port, one process, gone when the test ends.

It tells in a log how many requests it understood, which is what smuggling is about.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

DEADLINE = 10.0
"""Seconds after which a test fails instead of waiting on."""

CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 20000; }}
http {{
    log_format seen escape=json '{{"status": $status, "target": "$request_uri", "upstream": "$upstream_status"}}';
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


class Line(msgspec.Struct, frozen=True):
    """One request as nginx understood it; `upstream` has the status of each attempt, and is empty if nobody was asked."""

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

    def lines(self) -> list[Line]:
        """What it has logged so far."""
        return [_decode(line) for line in self.log.read_bytes().splitlines()]


def is_installed() -> bool:
    return shutil.which("nginx") is not None


@contextmanager
def running_nginx(folder: Path, upstream: int, *, server: str = "", location: str = "") -> Iterator[Nginx]:
    """Start nginx before the port `upstream`. `server` and `location` are more lines of its configuration."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(port=port, upstream=upstream, server=server, location=location))
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(config), "-e", "stderr"], stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(port, process)
        yield Nginx(port, folder / "seen.log")
        assert process.poll() is None, "nginx ended by itself"
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=DEADLINE)
    assert complaints == ""


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end, "nginx never listened"
            time.sleep(0.01)
        else:
            return
