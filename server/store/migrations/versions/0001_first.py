"""The first schema: bursts, observations, policies, camera states, events, outbox, tokens.

What each column means stands in `server.store.schema`; here is only how it came to be. Never edited once released.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "channels",
        sa.Column("name", KEY, nullable=False),
        sa.Column("delivered_seq", sa.BigInteger(), nullable=False),
        sa.Column("claimed_by", KEY, nullable=True),
        sa.Column("claimed_until_us", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_channels")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("site", KEY, nullable=False),
        sa.Column("camera", KEY, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", "camera", "at_us", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "counters",
        sa.Column("name", KEY, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("what", KEY, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("what IN ('event', 'corrected', 'withdrawn')", name=op.f("ck_outbox_what")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
    )
    op.create_table(
        "panels",
        sa.Column("ensemble", KEY, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ensemble", name=op.f("pk_panels")),
    )
    op.create_table(
        "policies",
        sa.Column("policy", KEY, nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("first_used_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("policy", name=op.f("pk_policies")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("camera", KEY, nullable=True),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_table(
        "bursts",
        sa.Column("burst_id", KEY, nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("camera", KEY, nullable=False),
        sa.Column("digest", KEY, nullable=False),
        sa.Column("status", KEY, nullable=False),
        sa.Column("cause", KEY, nullable=True),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("captured_at_us", sa.BigInteger(), nullable=False),
        sa.Column("first_at_us", sa.BigInteger(), nullable=False),
        sa.Column("last_at_us", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("image_bytes", sa.BigInteger(), nullable=False),
        sa.Column("clock_synced", sa.Integer(), nullable=False),
        sa.Column("uncertainty_s", sa.Float(precision=53), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=True),
        sa.Column("monotonic_ms", sa.BigInteger(), nullable=True),
        sa.Column("mask_digest", sa.Text(), nullable=True),
        sa.Column("agent_version", sa.Text(), nullable=True),
        sa.Column("sent_at_us", sa.BigInteger(), nullable=True),
        sa.Column("received_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ensemble", KEY, nullable=False),
        sa.Column("policy", KEY, nullable=False),
        sa.CheckConstraint("(status = 'held') = (cause IS NOT NULL)", name=op.f("ck_bursts_cause")),
        sa.CheckConstraint("status IN ('folded', 'held')", name=op.f("ck_bursts_status")),
        sa.CheckConstraint("first_at_us <= last_at_us", name=op.f("ck_bursts_order")),
        sa.CheckConstraint("frames > 0", name=op.f("ck_bursts_frames")),
        sa.ForeignKeyConstraint(["ensemble"], ["panels.ensemble"], name=op.f("fk_bursts_ensemble")),
        sa.ForeignKeyConstraint(["policy"], ["policies.policy"], name=op.f("fk_bursts_policy")),
        sa.PrimaryKeyConstraint("burst_id", name=op.f("pk_bursts")),
    )
    op.create_index("ix_bursts_camera", "bursts", ["site", "camera", "first_at_us"], unique=False)
    op.create_index("ix_bursts_status", "bursts", ["status", "site", "camera", "last_at_us"], unique=False)
    op.create_table(
        "camera_states",
        sa.Column("site", KEY, nullable=False),
        sa.Column("camera", KEY, nullable=False),
        sa.Column("last_at_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("policy", KEY, nullable=False),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["policy"], ["policies.policy"], name=op.f("fk_camera_states_policy")),
        sa.PrimaryKeyConstraint("site", "camera", name=op.f("pk_camera_states")),
    )
    op.create_table(
        "decisions",
        sa.Column("burst_id", KEY, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["burst_id"], ["bursts.burst_id"], name=op.f("fk_decisions_burst_id")),
        sa.PrimaryKeyConstraint("burst_id", name=op.f("pk_decisions")),
    )
    op.create_table(
        "events",
        sa.Column("id", KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("camera", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("sector", KEY, nullable=True),
        sa.Column("label", KEY, nullable=False),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("burst_id", KEY, nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("withdrawn_at_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["burst_id"], ["bursts.burst_id"], name=op.f("fk_events_burst_id")),
        sa.ForeignKeyConstraint(["seq"], ["outbox.seq"], name=op.f("fk_events_seq")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("seq", name=op.f("uq_events_seq")),
    )
    op.create_index("ix_events_burst", "events", ["burst_id"], unique=False)
    op.create_index("ix_events_camera", "events", ["site", "camera", "confirmed_at_us"], unique=False)
    op.create_index("ix_events_confirmed", "events", ["confirmed_at_us"], unique=False)
    op.create_table(
        "observations",
        sa.Column("burst_id", KEY, nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("camera", KEY, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("frame_sha256", KEY, nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("answers", sa.Text(), nullable=False),
        sa.CheckConstraint("frame >= 0", name=op.f("ck_observations_frame")),
        sa.CheckConstraint("width_px > 0 AND height_px > 0", name=op.f("ck_observations_size")),
        sa.ForeignKeyConstraint(["burst_id"], ["bursts.burst_id"], name=op.f("fk_observations_burst_id")),
        sa.PrimaryKeyConstraint("burst_id", "frame", name=op.f("pk_observations")),
    )
    op.create_index(
        "ix_observations_camera", "observations", ["site", "camera", "at_us", "burst_id", "frame"], unique=False
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('outbox', 0)")
