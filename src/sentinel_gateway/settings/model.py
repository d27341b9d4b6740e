"""The settings as frozen values, one type a room: what may be written, its defaults, and what each value must be on its own.

What several values must be together stands in `checks.py`; `targets.py` has the rooms of `models` and `routing`, `room.py` what
all are made of. Sizes are bytes, times are seconds. A validator's sentence goes
to the operator as it is, behind the place where the value stands: it says what would be right and never repeats a secret.
"""

from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, model_validator

from sentinel_gateway import __version__
from sentinel_gateway.settings.admin import Administration
from sentinel_gateway.settings.alerts import AlertName, Alerts, is_alert_secret
from sentinel_gateway.settings.batch import Batch
from sentinel_gateway.settings.cache import Cache
from sentinel_gateway.settings.database_url import check_database
from sentinel_gateway.settings.experiments import ExperimentName, ExperimentSettings
from sentinel_gateway.settings.metrics import Metrics
from sentinel_gateway.settings.monitoring import Monitoring
from sentinel_gateway.settings.network import check_base_url, check_qdrant, is_loopback
from sentinel_gateway.settings.presets import PRESETS, Dialect
from sentinel_gateway.settings.prices import Prices
from sentinel_gateway.settings.programs import ProgramSettings, check_program
from sentinel_gateway.settings.redis_url import check_redis
from sentinel_gateway.settings.reports import MOST_REPORTS, ReportSettings
from sentinel_gateway.settings.room import GIB, MIB, Count, Key, Lifetime, Room, Seconds, Size, Texts
from sentinel_gateway.settings.targets import Budget, Limits, ModelSettings, Routing
from sentinel_gateway.settings.tracing import Tracing
from sentinel_gateway.settings.values import (
    check_admin_key,
    check_alias,
    check_dsn,
    check_headers,
    check_host,
    check_host_name,
    check_origin,
    check_plain,
    check_provider,
    check_secret,
    lower_case,
    read_level,
    split_list,
)

Location = tuple[str | int, ...]
"""Where a value stands: ("providers", "groq", "timeouts", "connect")."""

_KEY_WORDS: Final = ("auth", "cookie", "key", "secret", "token")
_NAMED: Final = {("headers",), ("query",)}
"""Of providers: what is sent under names that the operator gives."""
_SECRETS_OF_PROVIDERS: Final = _NAMED | {("api_key",), ("access_key_id",), ("secret_access_key",), ("session_token",)}


def is_secret(location: Location) -> bool:
    """May the value at this place never be shown?"""
    if location[:1] == ("providers",):
        return location[2:3] in _SECRETS_OF_PROVIDERS
    return is_alert_secret(location) or location in {
        ("admin_key",),
        ("secret",),
        ("database_url",),
        ("redis", "url"),
        ("redis", "password"),
        ("qdrant", "api_key"),
        ("logging", "sentry_dsn"),
    }


def is_key(location: Location) -> bool:
    """Is the value at this place a key, by its place or by the name it is sent under? A webhook's is its secret, not its URL."""
    hidden = is_secret(location) and location[-1] != "webhook"
    named = location[:1] == ("providers",) and location[2:3] in _NAMED
    return hidden and (not named or any(word in str(location[-1]).lower() for word in _KEY_WORDS))


class Cors(Room):
    origins: Annotated[tuple[Annotated[str, AfterValidator(check_origin)], ...], BeforeValidator(split_list)] = Field(
        default=(), description="Origins whose pages may call from a browser, such as https://app.example.com; none: CORS is off."
    )
    credentials: bool = Field(default=False, description="May those pages send cookies and client certificates?")

    @model_validator(mode="after")
    def _check(self) -> "Cors":
        if self.credentials and "*" in self.origins:
            raise ValueError(
                "origins '*' with credentials lets every page act for its visitor: name the origins, or drop credentials"
            )
        return self


class Server(Room):
    host: Annotated[str, AfterValidator(check_host)] = Field(
        default="127.0.0.1", description="Address to listen on; one beyond this machine needs a client key first."
    )
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 takes any free one.")
    max_in_flight: Count = Field(default=1024, description="Requests worked on at once.")
    queue: int = Field(
        default=256, ge=0, le=1_000_000, description="Requests that may wait for a place; more are refused with 503."
    )
    queue_wait: Seconds = Field(default=1.0, description="Seconds a request waits for a place.")
    max_body_bytes: Size = Field(default=ByteSize(4 * MIB), description="Largest request body.")
    max_depth: int = Field(default=64, ge=1, le=512, description="Deepest nesting of a JSON body.")
    header_timeout: Seconds = Field(default=10.0, description="Seconds a sender has for the head of a request.")
    body_timeout: Seconds = Field(default=30.0, description="Seconds a sender has for the body.")
    write_timeout: Seconds = Field(default=30.0, description="Seconds a receiver may take none of the answer.")
    keep_alive: Seconds = Field(default=75.0, description="Seconds an idle connection is kept.")
    max_connections: Count = Field(default=10_000, description="Open connections, idle ones too.")
    drain_notice: Lifetime = Field(default=0.5, description="Seconds between 'not ready' and the end of listening at a stop.")
    drain_timeout: Lifetime = Field(default=30.0, description="Seconds that requests have to finish at a stop.")
    heartbeat: Seconds = Field(
        default=15.0, description="Seconds of silence after which a stream sends a comment, so that proxies keep it."
    )
    allowed_hosts: Annotated[tuple[Annotated[str, AfterValidator(check_host_name)], ...], BeforeValidator(split_list)] = Field(
        default=(), description="Names that a Host header may have, beside those of this machine; '*' is any name."
    )
    region_header: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")] | None = Field(
        default=None,
        description="For latency by region: the header in which your proxy alone says where a caller is (cf-ipcountry).",
    )
    cors: Cors = Field(default=Cors(), description="Calls from web pages of other origins.")


class Timeouts(Room):
    connect: Seconds = Field(default=5.0, description="Seconds to open a connection.")
    first_byte: Seconds = Field(
        default=60.0, description="Seconds to the first byte; without streaming that is the whole answer."
    )
    idle: Seconds = Field(default=60.0, description="Seconds between two pieces of a stream.")
    total: Seconds = Field(default=600.0, description="Seconds a call may take in all.")


class ProviderSettings(Room):
    """One provider. Once loaded, an enabled one is complete: dialect, base URL, and the key among its headers (`checks.py`)."""

    preset: str | None = Field(default=None, description="A provider that Sentinel knows; needless where the name says it.")
    dialect: Dialect | None = Field(default=None, description="What it speaks, if it has no preset or that has several.")
    base_url: Annotated[str, AfterValidator(check_base_url)] = Field(default="", description="Where it is; a preset has its own.")
    api_key: Key | None = Field(default=None, description="Its key: write ${NAME} and keep the key in the environment.")
    headers: Annotated[dict[str, SecretStr], AfterValidator(check_headers)] = Field(
        default={}, description="Headers to send with every call."
    )
    query: dict[str, SecretStr] = Field(default={}, description="Query parameters to send with every call.")
    models: Texts = Field(
        default=(), description="Model names that it serves; given, they stand in for the price library's and its own list."
    )
    region: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,31}$")] | None = Field(
        default=None, description="Where requests to Bedrock are made, such as us-east-1."
    )
    access_key_id: Key | None = Field(default=None, description="Who signs requests to Bedrock, where there is no api_key.")
    secret_access_key: Key | None = Field(default=None, description="With what they are signed.")
    session_token: Key | None = Field(default=None, description="What belongs to credentials that end.")
    timeouts: Timeouts = Field(default=Timeouts(), description="How long calls may take.")
    enabled: bool = Field(default=True, description="False switches it off.")

    @property
    def key_name(self) -> str:
        """Where its key is set, for messages."""
        preset = PRESETS.get(self.preset or "")
        return "AWS_ACCESS_KEY_ID" if self.signs else preset.key_env if preset else "api_key"

    @property
    def signs(self) -> bool:
        """Are its requests signed? A key goes before."""
        return bool(not self.api_key and self.access_key_id and self.secret_access_key)


class Tokens(Room):
    media: Count = Field(
        default=1445,  # OpenAI's count of the largest image in high detail
        description="Tokens that an image, a recording or a file is taken for before the provider has counted.",
    )
    output: Count = Field(
        default=4096,  # what nearly every model takes; more is an error of some
        description="Most tokens of an answer that a budget pays for, where neither the request nor the model says it.",
    )


class Tenant(Room):
    limits: Limits = Field(default=Limits(), description="What all its keys may use together.")
    budget: Budget = Field(default=Budget(), description="What all its keys may spend together.")
    cache_group: Annotated[str, AfterValidator(check_plain)] | None = Field(
        default=None, description="Tenants of the same group answer each other's requests from one cache; unset: none shares."
    )


class Redis(Room):
    """Where several nodes meet. It is used if `address` is not None."""

    url: Annotated[SecretStr, AfterValidator(check_redis)] | None = Field(
        default=None,
        description="Where Redis is: redis://:password@host:6379/0, rediss://..., unix:///socket, redis+sentinel://host/master, "
        "redis+cluster://host. Unset: redis.host, or no Redis.",
    )
    host: Annotated[str, AfterValidator(check_host_name)] | None = Field(
        default=None, description="Its host, where redis.url is not set."
    )
    port: int = Field(default=6379, ge=1, le=65_535, description="Its port, beside redis.host.")
    password: SecretStr | None = Field(default=None, description="Its password, beside redis.host.")
    timeout: Seconds = Field(
        default=0.05,
        description="Seconds that a request waits for an answer of Redis; more than one answer in twenty that "
        "takes over two fifths of it, and Redis is left alone for a while.",
    )
    db: int = Field(default=0, ge=0, le=1_000_000, description="Its database, beside redis.host.")
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=10,
        description="Most connections to it for each purpose; more requests than that wait for 20 ms, then do without.",
    )

    @property
    def address(self) -> str | None:
        """The one URL of both ways to say it; None where there is no Redis."""
        if self.url is not None:
            return self.url.get_secret_value()
        if self.host is None:
            return None
        password = quote(self.password.get_secret_value(), safe="") if self.password else ""
        return f"redis://{f':{password}@' if password else ''}{self.host}:{self.port}/{self.db}"


class Qdrant(Room):
    url: Annotated[str, AfterValidator(check_qdrant)] | None = Field(
        default=None,
        description="Where Qdrant is, such as http://127.0.0.1:6333; unset: questions are kept in Redis or in memory.",
    )
    api_key: Key | None = Field(default=None, description="Its key, if it wants one.")


class Keys(Room):
    required: bool | None = Field(
        default=None,
        description="Whether callers need a client key. Unset: as soon as one was made, and always beyond this machine.",
    )


class Logging(Room):
    level: Annotated[Literal["trace", "debug", "info", "warn", "error"], BeforeValidator(read_level)] = Field(
        default="info", description="Least important line to write: trace, debug, info, warn or error."
    )
    format: Annotated[Literal["json", "text"], BeforeValidator(lower_case)] = Field(
        default="json", description="json, or text for people."
    )
    path: Path | None = Field(
        default=None, description="File of the request log: a line of fixed width for each request of a model. Unset: none."
    )
    sentry_dsn: Annotated[SecretStr, AfterValidator(check_dsn)] | None = Field(
        default=None, description="Where Sentry is told of faults of Sentinel's own; never of requests. Unset: it isn't."
    )


class Service(Room):
    name: str = Field(
        default="sentinel",
        min_length=1,
        max_length=100,
        description="Name of this service in /health, and part of what it is called in Via.",
    )
    version: str = Field(default=__version__, min_length=1, max_length=100, description="Version of this service in /health.")


class Ledger(Room):
    enabled: bool = Field(default=True, description="Write down every request and every call of a provider, and what it cost.")
    retention: Annotated[float, Field(ge=0, le=36_500)] = Field(
        default=90.0, description="Days that its rows are kept one by one; sums by day stay. 0: for ever."
    )
    sync: Lifetime = Field(
        default=1.0, description="Seconds within which rows are on the disk, should the power go; 0 leaves that to the system."
    )
    journal_bytes: Size = Field(
        default=ByteSize(GIB), description="Most disk space for rows that the database does not take yet."
    )
    spill_bytes: Size = Field(default=ByteSize(16 * MIB), description="Most memory for rows that the disk does not take yet.")
    when_full: Literal["refuse", "serve"] = Field(
        default="refuse", description="What becomes of requests when neither has room: 503, or served and only counted as lost."
    )


ProviderName = Annotated[str, AfterValidator(check_provider)]
ModelName = Annotated[str, AfterValidator(check_alias)]
TenantName = Annotated[str, AfterValidator(check_plain)]
ProgramName = Annotated[str, AfterValidator(check_program)]


class Settings(Room):
    """Everything, as the composition root gets it."""

    server: Server = Field(default=Server(), description="Listening, limits, deadlines.")
    providers: dict[ProviderName, ProviderSettings] = Field(default={}, description="Upstreams by name.")
    models: dict[ModelName, ModelSettings] = Field(default={}, description="Public model names and what serves them.")
    routing: Routing = Field(default=Routing(), description="Who answers what.")
    cache: Cache = Field(default=Cache(), description="What is kept, where and how long.")
    keys: Keys = Field(default=Keys(), description="Client keys.")
    batch: Batch = Field(default=Batch(), description="Many queries in one request.")
    limits: Limits = Field(default=Limits(), description="What each key may use that has no limits of its own.")
    budget: Budget = Field(default=Budget(), description="What each key may spend that has no budget of its own.")
    tokens: Tokens = Field(default=Tokens(), description="How tokens are estimated.")
    prices: Prices = Field(default=Prices(), description="What models take.")
    experiments: dict[ExperimentName, ExperimentSettings] = Field(
        default={}, description="What is tried on some requests, by name; a request is in the first that takes it."
    )
    tenants: dict[TenantName, Tenant] = Field(default={}, description="Tenants by name: who shares limits, and perhaps a cache.")
    programs: dict[ProgramName, ProgramSettings] = Field(default={}, description="What /v1/predict runs beside its own, by name.")
    redis: Redis = Field(default=Redis(), description="What several nodes share.")
    qdrant: Qdrant = Field(default=Qdrant(), description="Questions of several nodes.")
    ledger: Ledger = Field(default=Ledger(), description="Who asked for what, and what it cost.")
    monitoring: Monitoring = Field(default=Monitoring(), description="What providers did lately.")
    alerts: Alerts = Field(default=Alerts(), description="What is told, to whom, and how often.")
    reports: Annotated[dict[AlertName, ReportSettings], Field(max_length=MOST_REPORTS)] = Field(
        default={}, description="What is told by itself, each day or week, by names of your own."
    )
    database_url: Annotated[SecretStr, AfterValidator(check_database)] | None = Field(
        default=None,
        description="PostgreSQL for ledger, keys and audit log: postgresql://user:password@host/name. Unset: the data folder.",
    )
    replicas: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1, description="How many nodes there are; more than one need Redis, and the same secret."
    )
    tracing: Tracing = Field(default=Tracing(), description="OpenTelemetry.")
    logging: Logging = Field(default=Logging(), description="What is written, and how.")
    metrics: Metrics = Field(default=Metrics(), description="What Prometheus reads.")
    service: Service = Field(default=Service(), description="Who this is.")
    data_dir: Path = Field(default=Path("~/.local/share/sentinel"), description="Folder of all state on disk.")
    admin: Administration = Field(default=Administration(), description="What administrators are shown.")
    admin_key: Annotated[SecretStr, AfterValidator(check_admin_key)] | None = Field(
        default=None, description="Key to /admin; unset: one is made at the first start and shown once."
    )
    secret: Annotated[SecretStr, AfterValidator(check_secret)] | None = Field(
        default=None, description="What client keys are hashed with, 32 random bytes or more; unset: made at the first start."
    )

    @property
    def demo(self) -> bool:
        """Is the built-in demo provider on? Beyond this machine only if asked for."""
        demo = self.providers.get("demo")
        return is_loopback(self.server.host) if demo is None else demo.enabled
