"""Data as an older Sentinel left it: made by the steps that it knew, and no further."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from sentinel_gateway.ledger.migrate import FOLDER
from sentinel_gateway.ledger.tables import attempts, requests
from sentinel_gateway.stores._state_file import MIGRATIONS
from tests.ledger.rows import SECOND, START

SCRIPT = ScriptDirectory(str(FOLDER))
REVISIONS = sorted(step.revision for step in SCRIPT.walk_revisions())
"""Of the ledger, oldest first."""
VERSIONS = range(1, len(MIGRATIONS) + 1)
"""Of `sentinel.db`."""
BATCH = 10_000
TEXTS = {"tenant": "acme", "key": "key_1", "route": "/v1/chat/completions", "model": "small", "provider": "mock", "target": "m"}


def engine(folder: Path, url: str | None) -> sa.Engine:
    """The ledger's database, by nobody's code but SQLAlchemy's."""
    address = (url or f"sqlite:///{folder / 'ledger.db'}").replace("postgresql://", "postgresql+psycopg://")
    return sa.create_engine(address, poolclass=sa.NullPool)


def old_ledger(folder: Path, url: str | None, revision: str, rows: int) -> None:
    """A ledger that stands at that step, with so many requests and as many attempts."""

    def steps(found, _):
        return list(SCRIPT._upgrade_revs(revision, found))  # noqa: SLF001 - as Alembic's own command does

    with engine(folder, url).begin() as connection:
        with EnvironmentContext(Config(), SCRIPT, fn=steps) as environment:
            environment.configure(connection=connection, transactional_ddl=True)
            with environment.begin_transaction():
                environment.run_migrations()
        for table in (requests, attempts):
            for first in range(0, rows, BATCH):
                numbers = range(first, min(first + BATCH, rows))
                connection.execute(table.insert(), [_row(table, number) for number in numbers])


def _row(table: sa.Table, number: int) -> dict[str, object]:
    values: dict[str, object] = {}
    for column in table.columns:
        kind = column.type.python_type
        values[column.name] = TEXTS.get(column.name, "") if kind is str else kind(number % 7)
    return values | {"at": START + number * SECOND, "id": f"{number:032x}"}


def old_state(folder: Path, version: int) -> None:
    """`sentinel.db` of that version, empty."""
    folder.mkdir(mode=0o700, exist_ok=True)
    database = sqlite3.connect(folder / "sentinel.db", isolation_level=None)
    for migration in MIGRATIONS[:version]:
        database.executescript(migration)
    database.close()


def copied(old: Path, new: Path, *tables: str) -> None:
    """Rows of `new` into `old`, whose tables may have fewer columns."""
    database = sqlite3.connect(old / "sentinel.db", isolation_level=None)
    database.execute("ATTACH DATABASE ? AS new", (str(new / "sentinel.db"),))
    for table in tables:
        columns = ", ".join(name for _, name, *_ in database.execute(f"PRAGMA table_info({table})"))
        database.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new.{table}")
    database.close()
