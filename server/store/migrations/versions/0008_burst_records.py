"""Each burst becomes one compact record. The server converts the rows of before while it runs.

An event names its burst by its id, in whichever form the burst is.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "cameras",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("longest_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_cameras")),
        sa.UniqueConstraint("site", "camera", name=op.f("uq_cameras_site")),
    )
    op.create_table(
        "contexts",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("camera", _NUMBER, nullable=False),
        sa.Column("ensemble", _KEY, nullable=False),
        sa.Column("policy", _KEY, nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("mask_digest", sa.Text(), nullable=True),
        sa.Column("boot_id", sa.Text(), nullable=True),
        sa.Column("agent_version", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("clock_synced", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["camera"], ["cameras.number"], name=op.f("fk_contexts_camera")),
        sa.ForeignKeyConstraint(["ensemble"], ["panels.ensemble"], name=op.f("fk_contexts_ensemble")),
        sa.ForeignKeyConstraint(["policy"], ["policies.policy"], name=op.f("fk_contexts_policy")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_contexts")),
        sa.UniqueConstraint("digest", name=op.f("uq_contexts_digest")),
    )
    op.create_table(
        "burst_records",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id_key", sa.BigInteger(), nullable=False),
        sa.Column("camera", _NUMBER, nullable=False),
        sa.Column("context", _NUMBER, nullable=False),
        sa.Column("first_at_us", sa.BigInteger(), nullable=False),
        sa.Column("lasts_us", sa.BigInteger(), nullable=False),
        sa.Column("is_held", sa.Integer(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("lasts_us >= 0", name=op.f("ck_burst_records_order")),
        sa.ForeignKeyConstraint(["camera"], ["cameras.number"], name=op.f("fk_burst_records_camera")),
        sa.ForeignKeyConstraint(["context"], ["contexts.number"], name=op.f("fk_burst_records_context")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_burst_records")),
    )
    op.create_index("ix_burst_records_id", "burst_records", ["id_key"])
    op.create_index("ix_burst_records_camera", "burst_records", ["camera", "first_at_us"])
    waiting = sa.text("is_held = 1")
    op.create_index(
        "ix_burst_records_held", "burst_records", ["is_held", "camera"], sqlite_where=waiting, postgresql_where=waiting
    )
    with op.batch_alter_table("events") as table:
        table.drop_constraint(op.f("fk_events_burst_id"), type_="foreignkey")
