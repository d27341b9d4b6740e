"""What a single value must be, and how it may be written. A sentence of a ValueError goes to the operator as it is."""

import json
import re
from typing import Any, Final

from pydantic import SecretStr

MIN_ADMIN_KEY: Final = 16
MIN_ADMIN_KEY_DISTINCT: Final = 6
"""Different characters: of 25,000 keys of sixteen hex digits, one has fewer."""
MIN_SECRET: Final = 32
MIN_SECRET_DISTINCT: Final = 8
"""Different characters: 32 random bytes written in hex practically never have fewer."""
_HABITUAL: Final = (
    "changeme",
    "change-me",
    "change_me",
    "default",
    "development",
    "example",
    "password",
    "placeholder",
    "secret",
)
"""Words of examples, ours among them: `.env.development`."""
LONGEST_NAME: Final = 1024
_PROVIDER: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_HEADER: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_HOST_NAME: Final = re.compile(r"\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ORIGIN: Final = re.compile(r"https?://[^/\s?#@]+")
_DSN: Final = re.compile(r"https?://[^@\s/?#]+@[^@\s/?#]+(/[^@\s/?#]+)*/[0-9]+")
_OURS: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "te", "transfer-encoding", "via"}
)
"""Headers that the provider's adapter writes itself."""


def split_list(value: Any) -> Any:
    """A list, also as text: JSON or separated by commas, because a variable can hold nothing else."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError('must be a JSON list such as ["a", "b"], or names separated by commas') from None
    return [part.strip() for part in value.split(",") if part.strip()]


def check_host(host: str) -> str:
    """An address to bind, without brackets."""
    if not host or host == "*":
        raise ValueError(f"got '{host}', but an address is needed: 127.0.0.1, or 0.0.0.0 for all that this machine has")
    return host.removeprefix("[").removesuffix("]")


def check_host_name(name: str) -> str:
    """A name that the gateway answers to."""
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(f"got '{name}', but a host's name stands without scheme and port, such as ai.example.com, or '*'")
    return name.lower()


def check_origin(origin: str) -> str:
    """Where a web page comes from."""
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError(f"got '{origin}', but an origin is scheme, host and port, such as https://app.example.com, or '*'")
    return origin


def check_provider(name: str) -> str:
    """A provider's name."""
    if not _PROVIDER.fullmatch(name):
        raise ValueError("a provider's name has lower-case letters, digits, '_' and '-', and starts with a letter or digit")
    return name


def check_alias(name: str) -> str:
    """A public model name."""
    if not _ALIAS.fullmatch(name):
        raise ValueError("a model's name has up to 128 letters, digits and . _ : / @ + -, and starts with a letter or digit")
    return name


def check_plain(name: str) -> str:
    """A tenant's name, or a cache group's."""
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise ValueError(f"the name of a tenant has 1 to {LONGEST_NAME} printable characters, and no space at its ends")
    return name


def check_namespace(name: str) -> str:
    """As callers name one in `x-cache-namespace`."""
    if not _NAMESPACE.fullmatch(name):
        raise ValueError("the name of a namespace has 1 to 128 letters, digits or any of _ . : / -")
    return name


def check_key(key: SecretStr) -> SecretStr:
    """A key of a provider's."""
    text = key.get_secret_value()
    if any(not "!" <= c <= "~" for c in text):
        raise ValueError("holds white space or a character outside ASCII, which no key has: was it copied whole?")
    return key


def check_admin_key(key: SecretStr) -> SecretStr:
    """The operator's own key."""
    if len(key.get_secret_value()) < MIN_ADMIN_KEY:
        raise ValueError(f"needs at least {MIN_ADMIN_KEY} characters; leave it out and one is made at the first start")
    return check_key(key)


def is_guessable(text: str, *, distinct: int) -> bool:
    """Has it fewer different characters than that, or a word of examples in it?"""
    return len(set(text)) < distinct or any(word in text.lower() for word in _HABITUAL)


def check_secret(secret: SecretStr) -> SecretStr:
    """What keys are hashed with."""
    text = secret.get_secret_value()
    fix = "make one with 'openssl rand -hex 32', or leave it out and one is made at the first start"
    if len(text) < MIN_SECRET:
        raise ValueError(f"needs at least {MIN_SECRET} characters: {fix}")
    if is_guessable(text, distinct=MIN_SECRET_DISTINCT):
        raise ValueError(f"was never drawn by chance: {fix}")
    return check_key(secret)


def check_dsn(dsn: SecretStr) -> SecretStr:
    """Where Sentry takes reports, as it writes that itself."""
    if _DSN.fullmatch(dsn.get_secret_value()) is None:
        raise ValueError("is no DSN: Sentry shows it in the project's settings, as https://KEY@HOST/PROJECT")
    return dsn


def check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Headers for a provider, by lower-case names."""
    lower = {name.lower(): value for name, value in headers.items()}
    for name, value in lower.items():
        if not _HEADER.fullmatch(name) or name in _OURS:
            raise ValueError(f"'{name}' can't be set: it is no header's name, or one that Sentinel writes itself")
        if any(not " " <= c <= "~" for c in value.get_secret_value()):
            raise ValueError(f"the value of '{name}' holds a control character or one outside ASCII")
    return lower


def lower_case(value: Any) -> Any:
    """Text in lower case."""
    return value.lower() if isinstance(value, str) else value


def read_level(value: Any) -> Any:
    """A level of the log by any of its names."""
    return "warn" if lower_case(value) == "warning" else lower_case(value)
