"""Which replica does the upkeep for all."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replicas", sa.Column("upkeep_since_us", sa.BigInteger(), nullable=True))
