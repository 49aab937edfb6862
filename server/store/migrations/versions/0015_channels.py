"""What people see of channels: pauses, failures, their memory; and announcements that could not be delivered."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ASKED = sa.text("asked_at_us IS NOT NULL")


def upgrade() -> None:
    for name in ("paused_at_us", "sent_at_us", "failed_at_us"):
        op.add_column("channels", sa.Column(name, sa.BigInteger(), nullable=True))
    for name in ("error", "memory"):
        op.add_column("channels", sa.Column(name, sa.Text(), nullable=True))
    op.create_table(
        "dead_letters",
        sa.Column("number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("channel", _KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=True),
        sa.Column("what", _KEY, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("asked_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_dead_letters")),
    )
    op.create_index("ix_dead_letters_channel", "dead_letters", ["channel", "number"])
    op.create_index("ix_dead_letters_event", "dead_letters", ["event_id"])
    op.create_index(
        "ix_dead_letters_asked", "dead_letters", ["channel", "number"], sqlite_where=_ASKED, postgresql_where=_ASKED
    )
