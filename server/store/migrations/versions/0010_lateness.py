"""Bursts that come too late are marked, a camera counts the changes of its past, and a withdrawn event names the late
burst that disproved it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.drop_index("ix_burst_records_held", "burst_records")
    waiting = sa.text("is_held = 1")
    op.create_index(
        "ix_burst_records_held",
        "burst_records",
        ["late", "camera", "number"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.add_column("cameras", sa.Column("rewritten", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("events", sa.Column("superseded_by", _KEY, nullable=True))
    op.add_column("events", sa.Column("superseded_by_us", sa.BigInteger(), nullable=True))
