"""Is a PostgreSQL as the gateway needs it? For `sentinel doctor`: it changes nothing, and makes no table."""

import time
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from sentinel_gateway.core.postgres import WRONG_ENCODING, connecting, holds_every_name
from sentinel_gateway.ledger.migrations import HEAD

CONNECT_SECONDS: Final = 3
STATEMENT_SECONDS: Final = 4
FLOOR: Final = 13
_SERVER: Final = b"SELECT current_setting('server_version_num')::int / 10000, to_regclass('alembic_version') IS NOT NULL"
_MAY_CHANGE: Final = b"SELECT current_setting('transaction_read_only') = 'off'"
_MAY_MAKE: Final = b"SELECT has_schema_privilege(current_schema(), 'CREATE')"
_MAY_WRITE: Final = b"SELECT has_table_privilege('alembic_version', 'UPDATE')"
_SCHEMA: Final = b"SELECT version_num FROM alembic_version"
_TIME: Final = b"SELECT extract(epoch FROM clock_timestamp())::float8"


class Look(NamedTuple):
    """What is so, or what to do if it is not `ok`; and when it was at the server between two moments here, in Unix seconds."""

    ok: bool
    detail: str
    moments: tuple[float, float, float] | None = None


def look(url: str) -> Look:
    """The server, its version, its tables, and its clock."""
    try:
        said = conninfo_to_dict(url).get("options")
        how = connecting(said if said is None else str(said), connect=CONNECT_SECONDS, statement=STATEMENT_SECONDS)
        with psycopg.connect(url, **how) as connection:
            ok, detail = _tables(connection)
            before = time.time()
            (theirs,) = _row(connection, _TIME)
            return Look(ok, detail, (before, theirs, time.time()))
    except psycopg.Error as exc:
        return Look(ok=False, detail=f"does not answer as it should ({_why(exc)}): mend it, or SENTINEL_DATABASE_URL")


def _tables(connection: "psycopg.Connection[Any]") -> tuple[bool, str]:
    version, exists = _row(connection, _SERVER)
    told = f"PostgreSQL {version} at {connection.info.host}"
    if version < FLOOR:
        return False, f"{told}, needs {FLOOR}"
    if not holds_every_name(connection.info.parameter_status("server_encoding")):
        return False, f"{told} {WRONG_ENCODING}"
    if not _row(connection, _MAY_CHANGE)[0]:
        return False, f"{told} is read-only, as a standby is: name the primary in SENTINEL_DATABASE_URL"
    if not _row(connection, _MAY_WRITE if exists else _MAY_MAKE)[0]:
        return False, f"{told}: its user may not write there: GRANT it ALL on the schema and its tables"
    if not exists:
        return True, f"{told}; the tables will be made at the first start"
    (schema,) = _row(connection, _SCHEMA) or ("",)
    if not schema:
        return False, f"{told} doesn't say which schema it has (alembic_version is empty): put it back from a backup"
    if schema > HEAD:
        return False, f"{told} was written by a newer Sentinel (schema {schema}; this one knows {HEAD}): run that one"
    return True, f"{told}, schema {schema}" + ("" if schema == HEAD else f", which the next start makes {HEAD}")


def _row(connection: "psycopg.Connection[Any]", question: bytes) -> Any:
    return connection.execute(question).fetchone()


def _why(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return "its address is none that can be read"  # the words for that quote it, and with it the password
    return (str(error).splitlines() or [type(error).__name__])[0]
