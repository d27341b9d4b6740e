"""How every connection to PostgreSQL is made, whoever makes it: what is relied on, whatever the address says beside it."""

from typing import Any, Final

ENCODING: Final = "UTF8"
WRONG_ENCODING: Final = f"can't hold every name: make it with ENCODING '{ENCODING}'"


def connecting(options: str | None, *, connect: int, statement: int, lock: int | None = None) -> dict[str, Any]:
    """Parameters, as libpq and psycopg name them. `options` of the address are joined by ours; the others are most seconds."""
    ours = f"-c statement_timeout={statement}s" + (f" -c lock_timeout={lock}s" if lock is not None else "")
    return {
        "connect_timeout": connect,
        "prepare_threshold": None,  # what stands between may give each transaction another server
        "tcp_user_timeout": 1000 * statement,
        "client_encoding": "utf8",
        "options": ours if options is None else f"{options} {ours}",
    }


def holds_every_name(encoding: str | None) -> bool:
    """Is a database of this encoding one whose text can be any? None: it was not told."""
    return encoding in (None, ENCODING)
