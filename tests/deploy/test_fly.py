"""fly.toml: what it says agrees with the gateway, and a machine of that size is enough for one."""

import tomllib
from pathlib import Path

import pytest

from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.model import Server
from tests.process.conftest import serve

__all__ = ["serve"]

FILE = tomllib.loads((Path(__file__).parents[2] / "fly.toml").read_text())
SERVICE = FILE["http_service"]
MIB = 2**20
ROOM = 0.8
"""The share of a machine's memory that the gateway may take; the rest is the system's."""
QUESTION = 2.5 * 1024
"""Bytes of memory for a question of two hundred words, with its vector (decision 011: 1.4 KB for a short one)."""
KNOWN = {"app", "primary_region", "kill_signal", "kill_timeout", "env", "mounts", "http_service", "vm"}
"""What Fly's reference lists of what stands here: there is no schema to check by, and `fly` was never run."""


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def test_it_has_what_seed_003_asks_for():
    assert FILE.keys() == KNOWN
    assert SERVICE["force_https"] is True
    assert SERVICE["auto_stop_machines"] == "stop"
    assert SERVICE["auto_start_machines"] is True
    assert SERVICE["min_machines_running"] == 0
    assert [machine["cpu_kind"] for machine in FILE["vm"]] == ["shared"]


def test_its_variables_are_a_configuration(tmp_path):
    settings = load(FILE["env"] | {"HOME": str(tmp_path)}, cwd=tmp_path).settings
    assert (settings.server.host, settings.server.port) == ("0.0.0.0", SERVICE["internal_port"])
    assert str(settings.data_dir) == FILE["mounts"][0]["destination"], "keys would not outlive a deploy"
    name = f"{FILE['app']}.fly.dev"
    assert settings.server.allowed_hosts == (name,)
    (check,) = SERVICE["checks"]
    assert check["path"] == "/ready"
    assert check["headers"]["Host"] == name, "the check would be refused for its Host"


def test_a_stop_lets_streams_end():
    server = Server()
    assert FILE["kill_signal"] == "SIGTERM"
    assert seconds(FILE["kill_timeout"]) > server.drain_notice + server.drain_timeout
    assert SERVICE["concurrency"]["hard_limit"] <= server.max_in_flight


@pytest.mark.parametrize("semantic", ["true", "false"])
def test_fly_memory_fits_rss(serve, semantic, tmp_path):
    program = serve(SENTINEL_CACHE__SEMANTIC__ENABLED=semantic)
    for number in range(200):
        assert program.ask(f"Question {number}, of which there are many?").status == 200
    cache = load(FILE["env"] | {"HOME": str(tmp_path)}, cwd=tmp_path).settings.cache
    used, machine = program.resident(), FILE["vm"][0]["memory_mb"] * MIB
    full = used + cache.memory.bytes + (cache.semantic.entries * QUESTION if semantic == "true" else 0)
    print(f"{used / MIB:.0f} MiB, {full / MIB:.0f} with full caches, of {machine / MIB:.0f}")
    assert full < ROOM * machine
