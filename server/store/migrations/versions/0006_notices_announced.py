"""Notices have a place among the announcements; those that were kept before are on no channel."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("notices") as table:
        table.add_column(sa.Column("seq", sa.BigInteger(), nullable=True))
        table.drop_constraint(op.f("ck_notices_what"), type_="check")
        table.create_check_constraint(
            op.f("ck_notices_what"), "what IN ('serves', 'unapproved', 'approved', 'refused')"
        )
    op.create_index("ix_notices_seq", "notices", ["seq"], unique=True)
