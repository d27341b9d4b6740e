"""Alerts, where nodes share them, and which node looks. SQLite's are in `sentinel.db`, as keys are."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, on PostgreSQL."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("ends", sa.Double, nullable=False),
    )
    op.create_table(
        "alert_board",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "alert_silences",
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("ends", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
    )
    _history()
    _letters()


def _history() -> None:
    op.create_table(
        "alert_history",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_index("alert_history_by_time", "alert_history", ["at"])


def _letters() -> None:
    op.create_table(
        "alert_letters",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
    )
    op.create_index("alert_letters_of_channel", "alert_letters", ["channel", "at"])
