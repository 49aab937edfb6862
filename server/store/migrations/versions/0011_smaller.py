"""States of checkpoints are deflated bytes from now on, those of before stay JSON and are thinned with age. An
announcement names the one before it of the same event, which takes the place of an index.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("outbox", sa.Column("before_seq", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE outbox SET before_seq ="
        " (SELECT max(o.seq) FROM outbox AS o WHERE o.event_id = outbox.event_id AND o.seq < outbox.seq)"
        " WHERE event_id IN"
        " (SELECT o.event_id FROM outbox AS o LEFT JOIN events AS e ON e.seq = o.seq WHERE e.seq IS NULL)"
    )
    op.drop_index("ix_outbox_event", "outbox")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE checkpoints ALTER COLUMN state TYPE bytea USING convert_to(state, 'UTF8')")
    else:
        _make_checkpoints()


def _make_checkpoints() -> None:
    op.rename_table("checkpoints", "checkpoints_before")
    op.create_table(
        "checkpoints",
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("site", "camera", "at_us", name=op.f("pk_checkpoints")),
    )
    op.execute("INSERT INTO checkpoints SELECT site, camera, at_us, CAST(state AS BLOB) FROM checkpoints_before")
    op.drop_table("checkpoints_before")
