"""What the address of a database must be. The sentences never repeat it: it may hold a password."""

from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

SCHEMES: Final = ("postgresql", "postgres")
_FORM: Final = "write postgresql://user:password@host:5432/name, or leave it out for SQLite in the data folder"


def check_database(url: SecretStr) -> SecretStr:
    """The address as SQLAlchemy and PostgreSQL's own tools read it."""
    text = url.get_secret_value()
    try:
        at = urlsplit(text)
        port = at.port
    except ValueError:  # whose own words may hold the password
        raise ValueError(f"is no address: {_FORM}") from None
    if at.scheme not in SCHEMES:
        raise ValueError(f"is no address of a PostgreSQL: {_FORM}")
    if port == 0 or not at.path.strip("/") or "/" in at.path[1:]:
        raise ValueError(f"names no database, or a port that is none: {_FORM}")
    return SecretStr(f"postgresql{text[len(at.scheme) :]}")
