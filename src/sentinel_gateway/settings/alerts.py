"""The room `alerts`: what is told, to whom, and how often. Rules and channels go by names of the operator's."""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from sentinel_gateway.settings.network import DEFAULT_PORTS
from sentinel_gateway.settings.room import DAY, Count, Lifetime, Room, Texts

Metric = Literal[
    "total_cost",
    "cost_per_request",
    "total_requests",
    "error_rate",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "first_token_avg_ms",
    "request_error_rate",
    "hit_rate",
    "provider_health",
    "circuit_open",
    "budget_used",
    "wrong_hit_rate",
]
KINDS: Final = {
    "threshold": frozenset(get_args(Metric)),
    "change": frozenset(get_args(Metric)) - {"provider_health", "circuit_open", "budget_used", "wrong_hit_rate"},
    "burn_rate": frozenset({"error_rate", "request_error_rate"}),
    "forecast": frozenset({"total_cost", "budget_used"}),
}
"""What there is each kind of rule of."""
MARK: Final = "whsec_"
LEAST_SECRET, MOST_SECRET = 24, 64
"""Bytes of a webhook's secret, by the Standard Webhooks specification."""
SLOWEST_BURN: Final = 6.0
"""How many times faster than allowed failures come at least before burn_rate tells of them."""
MOST_RULES: Final = 200
LONGEST_WINDOW: Final = 7 * DAY
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SERVICE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def check_name(name: str) -> str:
    """Of a rule or a channel."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name here has up to 64 lower-case letters, digits, '_' and '-', and starts with a letter or digit")
    return name


def check_webhook(url: SecretStr) -> SecretStr:
    """Its path may hold what only the two sides know, so it is never shown."""
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: write something like https://hooks.example.com/sentinel") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0 or any(not "!" <= c <= "~" for c in text):
        raise ValueError("must be an http or https URL with a host, such as https://hooks.example.com/sentinel")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("must hold no credentials and no '#': its signature says who sent it")
    return url


def check_signing_secret(secret: SecretStr) -> SecretStr:
    """What a webhook is signed with."""
    text = secret.get_secret_value()
    fix = f"make one: echo {MARK}$(openssl rand -base64 32)"
    try:
        size = len(base64.b64decode(text.removeprefix(MARK), validate=True))
    except binascii.Error:
        size = 0
    if not text.startswith(MARK) or not LEAST_SECRET <= size <= MOST_SECRET:
        raise ValueError(f"must be {MARK} and the base64 of {LEAST_SECRET} to {MOST_SECRET} random bytes; {fix}")
    return secret


def check_service(url: SecretStr) -> SecretStr:
    """A URL of Apprise's; whether it knows the service is seen when it is opened."""
    if not _SERVICE.fullmatch(url.get_secret_value()):
        raise ValueError("must be a URL of Apprise's, such as slack://... or mailto://...: https://appriseit.com/services/")
    return url


class AlertChannel(Room):
    """Where somebody is told: a webhook of your own, or a service."""

    webhook: Annotated[SecretStr, AfterValidator(check_webhook)] | None = Field(
        default=None, description="URL that takes signed messages, by the Standard Webhooks specification."
    )
    secret: Annotated[SecretStr, AfterValidator(check_signing_secret)] | None = Field(
        default=None, description="What they are signed with: whsec_ and base64. Write ${NAME}, and keep it in the environment."
    )
    apprise: Annotated[SecretStr, AfterValidator(check_service)] | None = Field(
        default=None, description="In place of a webhook: a service's URL as Apprise has it, such as slack://..., as ${NAME}."
    )

    def faults(self) -> Iterator[str]:
        """What does not go together."""
        if (self.webhook is None) == (self.apprise is None):
            yield "needs either webhook, with its secret, or apprise"
        elif self.webhook is not None and self.secret is None:
            yield f"needs a secret, by which its receiver knows us; make one: echo {MARK}$(openssl rand -base64 32)"
        elif self.apprise is not None and self.secret is not None:
            yield "has a secret, which belongs to a webhook: leave it out"


class AlertRule(Room):
    """When somebody is told. Which fields there are depends on its kind."""

    enabled: bool = Field(default=True, description="False switches it off, be it yours or one of the default rules.")
    kind: Literal["threshold", "change", "burn_rate", "forecast", "anomaly"] = Field(
        default="threshold", description="What is looked at: the metric itself, how many times it is what it was, ..."
    )
    metric: Metric | None = Field(default=None, description="Of what.")
    above: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Tell when it is more.")
    below: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Tell when it is less.")
    allowed: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Of burn_rate: the share of failures that is allowed, such as 0.01."
    )
    window: Annotated[int, Field(ge=60, le=LONGEST_WINDOW)] = Field(default=300, description="Over so many seconds.")
    against: Annotated[int, Field(ge=60, le=LONGEST_WINDOW)] | None = Field(
        default=None, description="Of change: beside what it was so many seconds before. Unset: the window before."
    )
    floor: Annotated[float, Field(ge=0)] = Field(default=0.0, description="Of change: it is or was at least so much.")
    by: Literal["all", "provider", "model"] = Field(default="all", description="All together, or each by itself.")
    provider: str = Field(default="", max_length=100, description="Of this provider only.")
    model: str = Field(default="", max_length=1024, description="Of this model only, by its provider's name for it.")
    anomalies: Literal["warning", "critical"] = Field(default="critical", description="Of anomaly: the least severe.")
    least: Count = Field(default=20, description="Calls or requests that there must be in the window.")
    after: Lifetime = Field(default=0.0, description="Seconds that it must last.")
    severity: Literal["page", "ticket"] = Field(default="ticket", description="page is for now, ticket for today.")
    channels: Texts = Field(default=(), description="Who is told. Unset: all channels.")
    description: str = Field(default="", max_length=500, description="What to do then, for people.")

    def faults(self) -> Iterator[str]:
        """What does not go together."""
        if not self.enabled:
            return
        needless = {"anomaly": ("metric", "above", "below", "allowed"), "burn_rate": ("above", "below")}
        for name in needless.get(self.kind, ("allowed",)):
            if getattr(self, name) is not None:
                yield f"has '{name}', which a rule of kind {self.kind} does not go by: leave it out"
        if self.kind == "anomaly":
            return
        if self.metric is None:
            yield "needs a metric, such as error_rate"
        elif self.metric not in KINDS[self.kind]:
            yield f"is of kind {self.kind}, which there is of {', '.join(sorted(KINDS[self.kind]))} only"
        elif self.kind == "burn_rate":
            yield from self._slow_burns()
        elif self.metric != "circuit_open" and (self.above is None) == (self.below is None):
            yield "needs either above or below"

    def _slow_burns(self) -> Iterator[str]:
        if self.allowed is None:
            yield "needs 'allowed', the share of failures that is allowed, such as 0.01"
        elif self.allowed * SLOWEST_BURN >= 1:
            never = f"so that they can't come {SLOWEST_BURN:g} times faster, and nothing would ever be told"
            yield f"allows a share of failures of {self.allowed:g}, {never}: allow less, or use a threshold"


AlertName = Annotated[str, AfterValidator(check_name)]


class Alerts(Room):
    """What is told, to whom, and how often."""

    enabled: bool | None = Field(
        default=None, description="Look whether something is to be told. Unset: as soon as there is a channel or a rule."
    )
    defaults: bool = Field(
        default=True, description="Have the default rules beside yours; a rule of yours by the same name wins."
    )
    every: Annotated[float, Field(ge=1, le=3600)] = Field(default=30.0, description="Seconds from one look to the next.")
    group: Lifetime = Field(
        default=60.0, description="Least seconds between two messages to a channel; each tells all that is new."
    )
    cool_down: Lifetime = Field(default=900.0, description="Seconds after a recovery in which the same alert is not told again.")
    repeat: Lifetime = Field(default=14_400.0, description="Seconds between reminders of what lasts; 0: none.")
    retention: Annotated[float, Field(ge=0, le=36_500)] = Field(
        default=90.0, description="Days that the history is kept. 0: for ever."
    )
    channels: dict[AlertName, AlertChannel] = Field(default={}, description="Who is told, by names of your own.")
    rules: Annotated[dict[AlertName, AlertRule], Field(max_length=MOST_RULES)] = Field(
        default={}, description="When, by names of your own."
    )

    @property
    def on(self) -> bool:
        """Does anybody look?"""
        return bool(self.channels or self.rules) if self.enabled is None else self.enabled

    def faults(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What does not go together, each with its place below this room."""
        for name, channel in self.channels.items():
            yield from ((("channels", name), sentence) for sentence in channel.faults())
        for name, rule in self.rules.items():
            yield from ((("rules", name), sentence) for sentence in rule.faults())

    def unknown_channels(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Names of channels that there are none of, each with its place below this room."""
        for name, rule in self.rules.items():
            for number, channel in enumerate(rule.channels):
                if channel not in self.channels:
                    yield ("rules", name, "channels", number), channel


def is_alert_secret(location: tuple[str | int, ...]) -> bool:
    """May the value at this place of the settings never be shown?"""
    return location[:2] == ("alerts", "channels") and location[3:] in {("webhook",), ("secret",), ("apprise",)}
