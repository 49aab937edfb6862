"""Pictures of frames are kept, beside the database. Sites that exist already keep none until their settings say so."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "kept_frames",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("camera", _NUMBER, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("brightness", sa.Integer(), nullable=True),
        sa.Column("kept_at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["camera"], ["cameras.number"], name=op.f("fk_kept_frames_camera")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_kept_frames")),
    )
    op.create_index("ix_kept_frames_camera", "kept_frames", ["camera", "at_us"])
    op.create_index("ix_kept_frames_sha256", "kept_frames", ["sha256"])
    op.create_table(
        "gone_frames",
        sa.Column("key", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("gone_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_gone_frames")),
    )
    op.create_table(
        "leaving_frames",
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_leaving_frames")),
    )
    op.create_table(
        "frame_sites",
        sa.Column("site", _KEY, nullable=False),
        sa.Column("told_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("site", name=op.f("pk_frame_sites")),
    )
    op.add_column("erasures", sa.Column("frames", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    sites = ("cameras", "bursts", "events", "camera_states", "heartbeats")
    op.execute("INSERT INTO frame_sites (site) " + " UNION ".join(f"SELECT site FROM {each}" for each in sites))  # noqa: S608
    # The name of the folder of this database's pictures: two databases may share one place.
    counters = sa.table("counters", sa.column("name", sa.Text()), sa.column("value", sa.BigInteger()))
    op.bulk_insert(counters, [{"name": "frames", "value": secrets.randbits(62)}])
