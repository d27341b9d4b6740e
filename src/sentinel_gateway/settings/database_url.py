"""What the address of a database must be. The sentences never repeat it: it may hold a password."""

import re
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

SCHEMES: Final = ("postgresql", "postgres")
_FORM: Final = "write postgresql://user:password@host:5432/name, or leave it out for SQLite in the data folder"
_BARE_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_ESCAPES: Final = "in a user's name or a password write % as %25, @ as %40, / as %2F, ? as %3F and # as %23"


def check_database(url: SecretStr) -> SecretStr:
    """The address as SQLAlchemy and PostgreSQL's own tools read it."""
    text = url.get_secret_value()
    try:
        at = urlsplit(text)
        port = at.port
    except ValueError:  # whose own words may hold the password
        raise ValueError(f"is no address: {_FORM}; {_ESCAPES}") from None
    if at.scheme not in SCHEMES:
        raise ValueError(f"is no address of a PostgreSQL: {_FORM}")
    if _BARE_PERCENT.search(text) or at.netloc.count("@") > 1 or "@" in at.path:
        raise ValueError(f"holds a % or an @ that stands for itself: {_ESCAPES}")
    if port == 0 or at.netloc.endswith(":") or not at.path.strip("/") or "/" in at.path[1:]:
        raise ValueError(f"names no database, or a port that is none: {_FORM}")
    address = f"postgresql{text[len(at.scheme) :]}"
    _check_as_libpq(address)
    return SecretStr(address)


def _check_as_libpq(address: str) -> None:
    """What PostgreSQL's own library makes of it, where that is installed; where it is not, the start says so."""
    try:
        from psycopg import ProgrammingError  # noqa: PLC0415 - who has no PostgreSQL may lack the package
        from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 - as above
    except ImportError:
        return
    try:
        conninfo_to_dict(address)
    except ProgrammingError:  # whose own words may hold the password
        raise ValueError(f"is not as PostgreSQL reads it, or has a parameter behind '?' that it doesn't know: {_FORM}") from None
