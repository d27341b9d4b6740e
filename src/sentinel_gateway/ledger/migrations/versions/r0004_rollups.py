"""What hours and days that are over came to. It is filled a little at a time, beside what is copied, and not here."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "rollups",
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.String(40), primary_key=True),
        sa.Column("begun", sa.BigInteger, nullable=False),
        sa.Column("items", sa.LargeBinary),
    )
