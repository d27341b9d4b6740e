"""Client keys and the audit log, where nodes share them. SQLite's are in `sentinel.db`, which must open without all this."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

REFUSAL = """
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql
AS $$BEGIN RAISE EXCEPTION 'the audit log is append-only'; END$$
"""
APPEND_ONLY = (
    REFUSAL,
    "CREATE TRIGGER audit_rows_are_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()",
    "CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
)


def upgrade() -> None:
    """Make the tables, on PostgreSQL."""
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    _keys()
    _audit()


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, sa.CheckConstraint("length(digest) = 32"), nullable=False, unique=True),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("place", sa.Text(collation="C"), nullable=False, unique=True),  # in the order of its characters' numbers
        sa.Column("rights", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.Column("revoked", sa.Double),
        sa.Column("successor", sa.Text),
        sa.Column("sequence", sa.BigInteger, nullable=False, unique=True),
    )
    op.create_index("keys_of_tenant", "keys", ["tenant", "place"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text),
        sa.Column("before", sa.LargeBinary),
        sa.Column("after", sa.LargeBinary),
    )
    op.create_index("audit_of_tenant", "audit", ["tenant", "id"])
    for statement in APPEND_ONLY:
        op.execute(statement)
