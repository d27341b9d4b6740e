"""Variables: the seeds' names, SENTINEL_A__B, NAME_FILE, .env, and what is said about those that do nothing."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.environment import Environment
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.variables import LATER, VARIABLES

READ = {
    # name: (value, where it shows, what shows)
    "HOST": ("::1", "server.host", "::1"),
    "PORT": ("9000", "server.port", 9000),
    "SERVICE_NAME": ("gw", "service.name", "gw"),
    "SERVICE_VERSION": ("1.0", "service.version", "1.0"),
    "LOG_LEVEL": ("TRACE", "logging.level", "trace"),
    "LOG_FORMAT": ("Text", "logging.format", "text"),
    "LOG_PATH": ("/var/log/requests.log", "logging.path", Path("/var/log/requests.log")),
    "SENTRY_DSN": ("https://abc@o1.example.com/7", "logging.sentry_dsn", SecretStr("https://abc@o1.example.com/7")),
    "DEBUG": ("true", "logging.level", "debug"),
    "MEMORY_CACHE_SIZE": ("5", "cache.memory.entries", 5),
    "MEMORY_CACHE_TTL_SECS": ("6", "cache.memory.ttl", 6.0),
    "REDIS_CACHE_TTL_SECS": ("7", "cache.ttl", 7.0),
    "OPENAI_API_KEY": ("sk-1", "providers.openai.base_url", "https://api.openai.com/v1"),
    "REDIS_URL": ("redis://:pw@here:1/2", "redis.address", "redis://:pw@here:1/2"),
    "REDIS_HOST": ("here", "redis.address", "redis://here:6379/0"),
    "REDIS_PORT": ("7", "redis.port", 7),
    "REDIS_PASSWORD": ("pw", "redis.password", SecretStr("pw")),
    "REDIS_DB": ("7", "redis.db", 7),
    "REDIS_MAX_CONNECTIONS": ("7", "redis.max_connections", 7),
    "QDRANT_URL": ("http://here:6333/", "qdrant.url", "http://here:6333"),
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": ("9", "routing.breaker.failures", 9),
    "CIRCUIT_BREAKER_SUCCESS_THRESHOLD": ("3", "routing.breaker.successes", 3),
    "CIRCUIT_BREAKER_TIMEOUT_SECS": ("7.5", "routing.breaker.pause", 7.5),
    "GROQ_API_KEY": ("gsk_1", "providers.groq.base_url", "https://api.groq.com/openai/v1"),
}
"""Every variable that a seed names and that this version reads."""

SEEDS = READ.keys() | {
    "REDIS_DECODE_RESPONSES",
}
"""Every variable that a seed names."""


def at(settings, path):
    value = settings
    for name in path.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    return value


@pytest.mark.parametrize("name", sorted(SEEDS))
def test_every_seed_env_name_is_read(configure, name):
    if name in READ:
        value, path, shown = READ[name]
        assert at(configure(env={name: value}).settings, path) == shown
    else:
        loaded = configure(env={name: "1"})
        assert loaded.settings == configure().settings
        [note] = loaded.notes
        assert note == f"{name} is set, but this version has {LATER[name]}: it has no effect"


def test_only_seed_names_get_a_note_and_an_empty_one_none(configure):
    assert set(LATER) == SEEDS - READ.keys()
    assert configure(env=dict.fromkeys(LATER, "")).notes == ()


@pytest.mark.parametrize("level", ["trace", "DEBUG", "Info", "warn", "WARNING", "error"])
def test_log_level_in_any_case(configure, level):
    assert configure(env={"LOG_LEVEL": level}).settings.logging.level == level.lower().removesuffix("ing")


@pytest.mark.parametrize(("value", "level"), [("1", "debug"), ("TRUE", "debug"), ("off", "info"), ("0", "info"), ("", "info")])
def test_debug_is_a_switch(configure, value, level):
    assert configure(env={"DEBUG": value}).settings.logging.level == level


def test_debug_yields_to_log_level(configure, faults):
    assert configure(env={"DEBUG": "true", "LOG_LEVEL": "error"}).settings.logging.level == "error"
    assert faults(env={"DEBUG": "express:*"}) == [("env DEBUG", "must be true or false")]


def test_own_names(configure, tmp_path):
    settings = configure(
        env={
            "SENTINEL_MEMORY_CACHE_BYTES": "1MiB",
            "SENTINEL_DISK_CACHE_BYTES": "2000",
            "SENTINEL_DATA_DIR": "d",
            "SENTINEL_ADMIN_KEY": "k" * 16,
        }
    ).settings
    assert (settings.cache.memory.bytes, settings.cache.disk.bytes) == (1024 * 1024, 2000)
    assert settings.data_dir == tmp_path / "d"
    assert settings.admin_key.get_secret_value() == "k" * 16


def test_sentinel_a__b_sets_a_b(configure):
    settings = configure(
        env={
            "SENTINEL_SERVER__KEEP_ALIVE": "5.5",
            "SENTINEL_SERVER__CORS__ORIGINS": "https://a.example, https://b.example",
            "SENTINEL_SERVER__CORS__CREDENTIALS": "yes",
            "SENTINEL_PROVIDERS__MY_LOCAL__DIALECT": "openai",
            "SENTINEL_PROVIDERS__MY_LOCAL__BASE_URL": "http://127.0.0.1:9001/v1/",
            "SENTINEL_PROVIDERS__MY_LOCAL__TIMEOUTS__CONNECT": "1",
            "SENTINEL_PROVIDERS__MY_LOCAL__MODELS": '["a", "b,c"]',
            "SENTINEL_PROVIDERS__DEMO__ENABLED": "false",
            "SENTINEL_MODELS__FAST": "my_local/a,my_local/b",
            "SENTINEL_MODELS__SLOW__TARGETS": "my_local/a",
            "SENTINEL_MODELS__SLOW__TTL": "9",
        }
    ).settings
    assert settings.server.keep_alive == 5.5
    assert settings.server.cors.origins == ("https://a.example", "https://b.example")
    assert settings.server.cors.credentials
    local = settings.providers["my_local"]
    assert (local.base_url, local.timeouts.connect, local.models) == ("http://127.0.0.1:9001/v1", 1, ("a", "b,c"))
    assert not settings.demo
    assert settings.models["fast"].names == ("my_local/a", "my_local/b")
    assert (settings.models["slow"].names, settings.models["slow"].ttl) == (("my_local/a",), 9)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("SENTINEL_SERVR__PORT", "did you mean SENTINEL_SERVER__PORT?"),
        ("SENTINEL_SERVER_MAX_IN_FLIGHT", "did you mean SENTINEL_SERVER__MAX_IN_FLIGHT?"),
        ("SENTINEL_PORT", "did you mean PORT?"),
        ("SENTINEL_DATADIR", "did you mean SENTINEL_DATA_DIR?"),
        ("SENTINEL_CONFIG_FILE", "did you mean SENTINEL_CONFIG?"),
        ("SENTINEL_ZZZ", "a.b is set by SENTINEL_A__B"),
        ("SENTINEL_SERVER__PORT__X", "is no variable of Sentinel"),
        ("SENTINEL_PROVIDERS__GROQ__APIKEY", "is no variable of Sentinel"),
    ],
)
def test_unknown_variables_of_ours(faults, name, remedy):
    [(place, sentence)] = faults(env={name: "1"})
    assert place == f"env {name}"
    assert remedy in sentence
    [(place, _)] = faults(dotenv=f"\n{name}=1")
    assert place == f".env:2 {name}"


def test_what_kubernetes_sets_for_a_service_is_ignored(configure):
    """With a service called `sentinel` in the namespace every pod gets these."""
    host, port = "10.3.0.7", "tcp://10.3.0.7:8080"
    loaded = configure(
        env={
            "SENTINEL_SERVICE_HOST": host,
            "SENTINEL_SERVICE_PORT": "8080",
            "SENTINEL_SERVICE_PORT_HTTP": "8080",
            "SENTINEL_PORT": port,
            "SENTINEL_PORT_8080_TCP": port,
            "SENTINEL_PORT_8080_TCP_PROTO": "tcp",
            "SENTINEL_PORT_8080_TCP_PORT": "8080",
            "SENTINEL_PORT_8080_TCP_ADDR": host,
            "SENTINEL_GATEWAY_SERVICE_HOST": host,
            "SENTINEL_GATEWAY_PORT": port,
        }
    )
    assert loaded.settings == configure().settings


def test_an_empty_variable_is_not_set(configure):
    loaded = configure(
        env={variable.name: "" for variable in VARIABLES if variable.name not in {"SENTINEL_ADMIN_KEY", "SENTINEL_SECRET"}}
        | {"SENTINEL_SERVER__QUEUE": ""}
    )
    assert loaded.settings == configure().settings


def test_an_empty_admin_key_is_refused(faults):
    [(place, sentence)] = faults(env={"SENTINEL_ADMIN_KEY": ""})
    assert place == "env SENTINEL_ADMIN_KEY"
    assert "needs at least 16 characters" in sentence


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("", "needs at least 32 characters: make one with 'openssl rand -hex 32'"),
        ("0123456789abcdef0123456789abcde", "needs at least 32 characters"),
        ("a" * 64, "was never drawn by chance"),
        ("changeme-changeme-changeme-changeme", "was never drawn by chance"),
        ("My-Default-Key-0123456789-abcdefghijk", "was never drawn by chance"),
        ("your-secret-here-0123456789-abcdefgh", "was never drawn by chance"),
        ("0123456789abcdef 0123456789abcdef", "holds white space"),
    ],
)
def test_a_secret_that_anybody_could_guess_is_refused(faults, secret, fault):
    [(place, sentence)] = faults(env={"SENTINEL_SECRET": secret})
    assert place == "env SENTINEL_SECRET"
    assert sentence.startswith(fault)
    assert not secret or secret not in sentence


def test_a_secret_that_was_drawn_is_taken(configure):
    assert configure().settings.secret is None
    assert configure(env={"SENTINEL_SECRET": "5f" + "0123456789abcdef" * 2}).settings.secret.get_secret_value().startswith("5f")


def test_a_variable_from_a_file(configure, tmp_path):
    (tmp_path / "key").write_text("gsk_from_file\n")
    (tmp_path / "port").write_text("9001")
    settings = configure(
        "service: {name: 'x${TOKEN}'}",
        env={"GROQ_API_KEY_FILE": "key", "SENTINEL_SERVER__PORT_FILE": str(tmp_path / "port"), "TOKEN_FILE": "port"},
    ).settings
    assert settings.providers["groq"].api_key.get_secret_value() == "gsk_from_file"
    assert settings.server.port == 9001
    assert settings.service.name == "x9001"


def test_files_that_cannot_be_read(faults, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "empty").write_text("\n")
    assert faults(env={"GROQ_API_KEY_FILE": "nowhere"}) == [
        ("env GROQ_API_KEY_FILE", "names a file that can't be read: No such file or directory")
    ]
    assert faults(env={"GROQ_API_KEY_FILE": "binary"}) == [("env GROQ_API_KEY_FILE", "names a file that is not UTF-8 text")]
    assert faults(env={"GROQ_API_KEY_FILE": "empty", "GROQ_API_KEY": "x"}) == [
        ("env GROQ_API_KEY", "GROQ_API_KEY_FILE is set as well: keep one of them")
    ]
    [(place, _)] = faults(env={"SENTINEL_ADMIN_KEY_FILE": "empty"})
    assert place == "env SENTINEL_ADMIN_KEY_FILE"


def test_a_path_with_a_null_byte(faults):
    assert faults(dotenv="GROQ_API_KEY_FILE=a\0b\n") == [(".env:1 GROQ_API_KEY_FILE", "names no file: a path has no null byte")]


def test_a_value_from_a_file_is_never_shown(faults, tmp_path):
    (tmp_path / "secret").write_text("canary")
    assert faults(env={"PORT_FILE": "secret"}) == [("env PORT_FILE", "got text, but it must be a whole number")]


def test_dotenv(configure, tmp_path):
    loaded = configure(
        dotenv="""\
        # a comment
        export PORT=9001
        SERVICE_NAME="a b"   # said of it
        SERVICE_VERSION='${HOME}'
        GROQ_API_KEY=k
        EMPTY
        """
    )
    assert loaded.files == (".env",)
    assert loaded.settings.server.port == 9001
    assert loaded.settings.service.name == "a b"
    assert loaded.settings.service.version == "${HOME}"
    assert list(loaded.settings.providers) == ["groq"]


def test_dotenv_that_is_broken(faults, tmp_path):
    assert faults(dotenv="PORT=1\n\n=x\n") == [(".env:3", "is no variable: write NAME=value")]
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        load({"HOME": "/h"}, cwd=tmp_path)
    assert caught.value.faults == [(".env", "can't be read: Is a directory")]
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigurationError) as caught:
        load({"HOME": "/h"}, cwd=tmp_path)
    assert caught.value.faults == [(".env", "is not UTF-8 text")]


def test_dotenv_with_keys_that_everybody_can_read(configure):
    [note] = configure(dotenv="GROQ_API_KEY=k\n", mode=0o644).notes
    assert note == "every user of this machine can read .env, which holds GROQ_API_KEY: chmod 600 .env"
    assert configure(dotenv="GROQ_API_KEY=k\n", mode=0o600).notes == ()
    assert configure(dotenv="PORT=1\n", mode=0o644).notes == ()


def test_the_first_name_of_a_setting_wins(configure):
    keys = {"GEMINI_API_KEY": "first", "GOOGLE_API_KEY": "second"}
    assert configure(env=keys).settings.providers["gemini"].api_key.get_secret_value() == "first"
    assert configure(env={"GOOGLE_API_KEY": "second"}).settings.providers["gemini"].api_key.get_secret_value() == "second"
    assert configure(env={"PORT": "1", "SENTINEL_SERVER__PORT": "2"}).settings.server.port == 2


def test_what_is_read_tells_its_state_and_no_value(tmp_path):
    (tmp_path / ".env").write_text("A=canary\nB=canary\n")
    assert repr(Environment({"K": "canary"}, tmp_path)) == "<Environment <Source env, 1 variables> <Source .env, 2 variables>>"
