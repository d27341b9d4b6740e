"""What is known of answers to reworded questions, and what nodes learn from it together. SQLite's is in `sentinel.db`."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, on PostgreSQL."""
    if op.get_bind().dialect.name != "postgresql":
        return
    _decisions()
    _standings()
    _lessons()


def _decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("row", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("entry", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("similarity", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("drawn", sa.Double, nullable=False),
        sa.Column("realm", sa.Text, nullable=False),
        sa.Column("budgets", sa.Text, nullable=False),
        sa.Column("weighed", sa.LargeBinary),
    )
    op.create_index("decisions_by_request", "decisions", ["tenant", "request_id"])
    op.create_index("decisions_by_time", "decisions", ["at"])


def _standings() -> None:
    op.create_table(
        "labels",
        sa.Column("decision", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("correct", sa.Integer, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("labels_by_time", "labels", ["at"])
    op.create_table(
        "hours",
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("reached", sa.Integer, nullable=False),
        sa.Column("hits", sa.Integer, nullable=False),
    )
    op.create_table(
        "stances",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
    )


def _lessons() -> None:
    op.create_table(
        "learners",
        sa.Column("realm", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("lesson", sa.BigInteger, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "lessons",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("realm", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("lesson", sa.LargeBinary, nullable=False),
        sa.Column("learned", sa.Double),
    )
    op.create_index("lessons_of_realm", "lessons", ["realm", "number"])
    op.create_index("lessons_by_time", "lessons", ["at"])
    op.create_index("lessons_learned", "lessons", ["learned"])
