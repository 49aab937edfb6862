"""What is no longer kept of a camera, erasures on request, and how the database grows.

The index finds the announcements of an event that is deleted.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "removals",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("from_us", sa.BigInteger(), nullable=True),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_removals")),
        sa.UniqueConstraint("site", "camera", "until_us", name=op.f("uq_removals_site")),
    )
    op.create_table(
        "keeping",
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("newest_us", sa.BigInteger(), nullable=False),
        sa.Column("idle_us", sa.BigInteger(), nullable=False),
        sa.Column("swept_at_us", sa.BigInteger(), nullable=False),
        sa.Column("bursts_from_us", sa.BigInteger(), nullable=True),
        sa.Column("events_from_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("site", "camera", name=op.f("pk_keeping")),
    )
    op.create_table(
        "erasures",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.Column("keeps_annotated", sa.Integer(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("asked_at_us", sa.BigInteger(), nullable=False),
        sa.Column("finished_at_us", sa.BigInteger(), nullable=True),
        sa.Column("bursts", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("annotations", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("since_us < until_us", name=op.f("ck_erasures_order")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_erasures")),
    )
    op.create_index("ix_erasures_camera", "erasures", ["site", "camera", "until_us"])
    op.create_table(
        "space_samples",
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("at_us", name=op.f("pk_space_samples")),
    )
    op.create_index("ix_outbox_event", "outbox", ["event_id"])
