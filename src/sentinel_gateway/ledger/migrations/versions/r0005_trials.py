"""What requests that were part of an experiment came to, each by its arm."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "trials",
        sa.Column("at", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("experiment", sa.Text, nullable=False),
        sa.Column("arm", sa.Text, nullable=False),
        sa.Column("unit", sa.BigInteger, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.Column("saved", sa.BigInteger, nullable=False),
        sa.Column("duration", sa.BigInteger, nullable=False),
        sa.Column("first_byte", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("trials_of_experiment", "trials", ["experiment", "at"])
