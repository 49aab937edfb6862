"""Annotations: what people say was true."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "annotations",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("truth", KEY, nullable=False),
        sa.Column("site", KEY, nullable=False),
        sa.Column("camera", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("label", KEY, nullable=False),
        sa.Column("sector", KEY, nullable=True),
        sa.Column("from_sector", KEY, nullable=True),
        sa.Column("to_sector", KEY, nullable=True),
        sa.Column("line", KEY, nullable=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("within_s", sa.Float(53), nullable=False),
        sa.Column("is_told", sa.Integer(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("truth IN ('true', 'false', 'missed', 'unsure')", name=op.f("ck_annotations_truth")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_annotations")),
    )
    op.create_index("ix_annotations_subject", "annotations", ["subject", "number"])
    op.create_index("ix_annotations_site", "annotations", ["site", "at_us"])
