"""Notices: what happened to the server itself."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "notices",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("what", KEY, nullable=False),
        sa.Column("ensemble", KEY, nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.CheckConstraint("what IN ('serves', 'unapproved', 'approved')", name=op.f("ck_notices_what")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_notices")),
    )
