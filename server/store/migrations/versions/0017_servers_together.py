"""Servers on one database: tickets of announcements, stored site policies, and which server does the upkeep."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.schema import CreateSequence

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.supports_sequences:
        op.execute(CreateSequence(sa.Sequence("announcement_tickets")))
    op.add_column("policy_versions", sa.Column("judges", sa.Integer(), nullable=True))
    op.create_index("ix_policy_versions_judges", "policy_versions", ["site", "judges"], unique=True)
    op.add_column("replicas", sa.Column("upkeep_since_us", sa.BigInteger(), nullable=True))
