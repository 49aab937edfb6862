"""Replicas: which ensemble all are to serve, who serves what, and whose a notice is."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("notices", sa.Column("instance", _KEY, nullable=True))
    op.add_column("channels", sa.Column("turned_away_at_us", sa.BigInteger(), nullable=True))
    op.create_table(
        "generations",
        sa.Column("number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("ensemble", _KEY, nullable=False),
        sa.Column("instead_of", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("instance", _KEY, nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        sa.Column("asked_at_us", sa.BigInteger(), nullable=False),
        sa.Column("stage", _KEY, nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.CheckConstraint("stage IN ('asked', 'wanted', 'refused')", name=op.f("ck_generations_stage")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_generations")),
    )
    op.create_table(
        "replicas",
        sa.Column("name", _KEY, nullable=False),
        sa.Column("run", _KEY, nullable=False),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_us", sa.BigInteger(), nullable=False),
        sa.Column("alive_until_us", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=True),
        sa.Column("ensemble", _KEY, nullable=True),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("answered", sa.BigInteger(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_replicas")),
    )
