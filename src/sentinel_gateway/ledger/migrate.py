"""Running the steps in `migrations/versions`. It belongs to whoever holds the lock; all of it is one transaction."""

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from sentinel_gateway.errors import StoreDown

FOLDER = Path(__file__).parent / "migrations"
_ONE = threading.Lock()
"""Alembic's `op` is one for the whole process, and so is the connection that the steps find there."""


def upgrade(connection: sa.Connection) -> None:
    """Bring the database of an open transaction up to date; raises `StoreDown` where a newer Sentinel wrote it."""
    script = ScriptDirectory(str(FOLDER))

    def steps(revision: "str | tuple[str, ...]", _: MigrationContext) -> list[RevisionStep]:
        return list(script._upgrade_revs("head", revision))  # type: ignore[arg-type]  # noqa: SLF001 - as Alembic's own command does

    with _ONE, EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        try:
            with environment.begin_transaction():
                environment.run_migrations()
        except CommandError as exc:
            raise StoreDown(f"the database was written by a newer Sentinel ({exc}): run that one") from exc
