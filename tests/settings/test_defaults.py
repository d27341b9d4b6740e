"""No configuration at all is a working gateway."""

from pathlib import Path

import pytest
from pydantic import ValidationError

import sentinel_gateway
from sentinel_gateway.settings.model import Limits, Settings

MIB = 1024 * 1024


def test_nothing_configured(configure):
    loaded = configure()
    assert loaded.notes == ()
    assert loaded.files == ()
    settings = loaded.settings
    assert settings == Settings(data_dir=Path("/home/me/.local/share/sentinel"))
    assert settings.demo
    assert settings.providers == {}
    assert settings.models == {}
    assert settings.tenants == {}
    assert settings.limits == Limits()
    assert settings.admin_key is None


def test_defaults_table_of_001(configure):
    settings = configure().settings
    assert settings.server.port == 8080
    assert settings.logging.level == "info"
    assert settings.logging.format == "json"
    assert settings.cache.memory.entries == 10_000
    assert settings.cache.memory.ttl == 300
    # Three differ by decision: loopback, our own name, and lifetimes by temperature unless one is set.
    assert settings.server.host == "127.0.0.1"
    assert (settings.service.name, settings.service.version) == ("sentinel", sentinel_gateway.__version__)
    assert settings.cache.ttl is None


def test_limits_and_deadlines(configure):
    settings = configure("providers: {vllm: {}}").settings
    server = settings.server
    assert (server.max_in_flight, server.queue, server.queue_wait, server.max_connections) == (1024, 256, 1, 10_000)
    assert (server.max_body_bytes, server.max_depth) == (4 * MIB, 64)
    assert (server.header_timeout, server.body_timeout, server.write_timeout, server.keep_alive) == (10, 30, 30, 75)
    assert (server.drain_notice, server.drain_timeout, server.heartbeat) == (0.5, 30, 15)
    assert (server.cors.origins, server.cors.credentials, server.allowed_hosts) == ((), False, ())
    timeouts = settings.providers["vllm"].timeouts
    assert (timeouts.connect, timeouts.first_byte, timeouts.idle, timeouts.total) == (5, 60, 60, 600)
    cache = settings.cache
    assert (cache.memory.bytes, cache.disk.enabled, cache.disk.bytes, cache.max_answer_bytes) == (
        256 * MIB,
        True,
        1024 * MIB,
        MIB,
    )


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({}, "/home/me/.local/share/sentinel"),
        ({"XDG_DATA_HOME": "/data"}, "/data/sentinel"),
        ({"XDG_DATA_HOME": "relative"}, "/home/me/.local/share/sentinel"),
        ({"SENTINEL_DATA_DIR": "/srv/state", "XDG_DATA_HOME": "/data"}, "/srv/state"),
        ({"SENTINEL_DATA_DIR": "~/state"}, "/home/me/state"),
        ({"HOME": "", "XDG_DATA_HOME": "/data"}, "/data/sentinel"),
    ],
)
def test_where_state_lives(configure, env, folder):
    assert configure(env=env).settings.data_dir == Path(folder)


def test_a_relative_folder_is_one_of_the_working_folder(configure, tmp_path):
    assert configure(env={"SENTINEL_DATA_DIR": "data"}).settings.data_dir == tmp_path / "data"
    assert configure("data_dir: state").settings.data_dir == tmp_path / "state"


def test_settings_are_frozen(configure):
    settings = configure().settings
    for value, name in ((settings, "server"), (settings.server, "port"), (settings.cache.memory, "ttl")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, name, 1)
