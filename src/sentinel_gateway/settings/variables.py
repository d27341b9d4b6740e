"""Every environment variable by its name: which setting it is, and what to say about it. Data, and how two of them are read.

A setting without a name here is reached as `SENTINEL_A__B`, which is `a.b`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from sentinel_gateway.settings.presets import PRESETS, Preset

PREFIX: Final = "SENTINEL_"
CONFIG: Final = "SENTINEL_CONFIG"
"""Names the YAML file; the only variable that is no setting."""
FILE: Final = "_FILE"
"""NAME_FILE names a file that holds the value of NAME."""

OLLAMA_PORT: Final = 11434
AZURE_PATH: Final = "/openai/v1"


def as_written(text: str) -> str | None:
    return text


def read_debug(text: str) -> str | None:
    """DEBUG, a switch, as a level; None where it is off."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return "debug"
    if text.lower() in {"0", "false", "no", "off"}:
        return None
    raise ValueError("must be true or false")


def read_ollama_host(text: str) -> str | None:
    """OLLAMA_HOST as Ollama reads it (a host, a host and port, or a URL), as a base URL."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        port = url.port or (OLLAMA_PORT if "://" not in text else None)
    except ValueError:
        raise ValueError("must be a host, host:port or a URL") from None
    host = url.hostname or ""
    reachable = "127.0.0.1" if host in {"", "0.0.0.0", "::"} else host  # noqa: S104 - the server's wildcard, replaced
    bracketed = f"[{reachable}]" if ":" in reachable else reachable
    return f"{url.scheme}://{bracketed}{f':{port}' if port else ''}{url.path.rstrip('/').removesuffix('/v1')}/v1"


def read_azure_endpoint(text: str) -> str | None:
    """AZURE_OPENAI_ENDPOINT, the resource, as the base URL of its v1 API."""
    endpoint = text.rstrip("/")
    return endpoint if endpoint.endswith(AZURE_PATH) else endpoint + AZURE_PATH


@dataclass(frozen=True, slots=True)
class Variable:
    """`location` is the setting. `help` and `sample`, what a value looks like, are the setting's own where they are empty.

    `read` makes the setting's text of the variable's, or None if it sets nothing. `aside`: it switches no provider on.
    """

    name: str
    location: tuple[str, ...]
    help: str = ""
    sample: str = ""
    read: Callable[[str], str | None] = as_written
    aside: bool = False
    may_be_empty: bool = False


_GENERAL: Final = (
    Variable("HOST", ("server", "host")),
    Variable("PORT", ("server", "port")),
    Variable("SERVICE_NAME", ("service", "name")),
    Variable("SERVICE_VERSION", ("service", "version"), sample="1.0.0"),
    Variable("LOG_LEVEL", ("logging", "level")),
    Variable("LOG_FORMAT", ("logging", "format")),
    Variable("LOG_PATH", ("logging", "path"), sample="logs/requests.log"),
    Variable("SENTRY_DSN", ("logging", "sentry_dsn"), sample="https://KEY@sentry.example.com/1"),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", ("tracing", "endpoint"), sample="http://localhost:4318"),
    Variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ("tracing", "traces_endpoint"), sample="http://localhost:4318/v1/traces"),
    Variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", ("tracing", "metrics_endpoint"), sample="http://localhost:4318/v1/metrics"),
    Variable("DEBUG", ("logging", "level"), "true is LOG_LEVEL=debug, where LOG_LEVEL is not set.", "false", read=read_debug),
    Variable("MEMORY_CACHE_SIZE", ("cache", "memory", "entries")),
    Variable("SENTINEL_MEMORY_CACHE_BYTES", ("cache", "memory", "bytes")),
    Variable("MEMORY_CACHE_TTL_SECS", ("cache", "memory", "ttl")),
    Variable("SENTINEL_DISK_CACHE_BYTES", ("cache", "disk", "bytes")),
    Variable("REDIS_CACHE_TTL_SECS", ("cache", "ttl"), sample="3600"),
    Variable("REDIS_URL", ("redis", "url"), sample="redis://localhost:6379"),
    Variable("REDIS_HOST", ("redis", "host"), sample="localhost"),
    Variable("REDIS_PORT", ("redis", "port")),
    Variable("REDIS_PASSWORD", ("redis", "password")),
    Variable("REDIS_DB", ("redis", "db")),
    Variable("REDIS_MAX_CONNECTIONS", ("redis", "max_connections")),
    Variable("QDRANT_URL", ("qdrant", "url"), sample="http://localhost:6333"),
    Variable("QDRANT_API_KEY", ("qdrant", "api_key")),
    Variable("CIRCUIT_BREAKER_FAILURE_THRESHOLD", ("routing", "breaker", "failures")),
    Variable("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", ("routing", "breaker", "successes")),
    Variable("CIRCUIT_BREAKER_TIMEOUT_SECS", ("routing", "breaker", "pause")),
    Variable("SENTINEL_METRICS_PREFIX", ("monitoring", "prefix"), sample="team-a:"),
    Variable("SENTINEL_REPLICAS", ("replicas",)),
    Variable("SENTINEL_DATA_DIR", ("data_dir",)),
    Variable("SENTINEL_DATABASE_URL", ("database_url",), sample="postgresql://sentinel@localhost/sentinel"),
    Variable("SENTINEL_ADMIN_KEY", ("admin_key",), may_be_empty=True),
    Variable("SENTINEL_SECRET", ("secret",), may_be_empty=True),
)


_AWS: Final = (
    ("AWS_REGION", "region", "Region of bedrock; its key, or an entry in the file, switches it on.", "us-east-1"),
    ("AWS_DEFAULT_REGION", "region", "Region of bedrock; its key, or an entry in the file, switches it on.", "us-east-1"),
    ("AWS_ACCESS_KEY_ID", "access_key_id", "Who signs requests to bedrock, where it has no key.", ""),
    ("AWS_SECRET_ACCESS_KEY", "secret_access_key", "With what they are signed.", ""),
    ("AWS_SESSION_TOKEN", "session_token", "What belongs to credentials that end.", ""),
)
"""Many programs read these: they say nothing about whether Bedrock is to be used."""


def _of_preset(preset: Preset) -> Iterator[Variable]:
    key, base = ("providers", preset.name, "api_key"), ("providers", preset.name, "base_url")
    help_ = f"Key of {preset.name}; switches it on." if preset.needs_key else f"Key of {preset.name}, if it wants one."
    for name in (preset.key_env, *preset.other_keys):
        yield Variable(name, key, help_, aside=not preset.needs_key)
    help_ = f"Where {preset.name} is." if preset.needs_key else f"Where {preset.name} is; switches it on."
    yield Variable(preset.base_url_env, base, help_, preset.base_url or "", aside=preset.needs_key)
    if preset.name == "ollama":
        yield Variable("OLLAMA_HOST", base, help_, "127.0.0.1:11434", read=read_ollama_host)
    if preset.name == "azure":
        yield Variable(
            "AZURE_OPENAI_ENDPOINT", base, help_, "https://NAME.openai.azure.com", read=read_azure_endpoint, aside=True
        )
        version = ("providers", "azure", "query", "api-version")
        yield Variable(
            "OPENAI_API_VERSION", version, "API version to send to azure; its v1 API needs none.", "preview", aside=True
        )
    if preset.regional:
        for name, setting, help_, sample in _AWS:
            yield Variable(name, ("providers", preset.name, setting), help_, sample, aside=True)


VARIABLES: Final[tuple[Variable, ...]] = (
    *_GENERAL,
    *(variable for preset in PRESETS.values() for variable in _of_preset(preset)),
)
"""Where several name the same setting, the first that is set wins."""

LATER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "REDIS_DECODE_RESPONSES": "no use for it",
    }
)
"""Variables without effect, and what is lacking: they get a note, not a fault."""
