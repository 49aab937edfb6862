"""By which site policies each server judges."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("replicas", sa.Column("sites_place", sa.Text(), nullable=True))
    op.add_column("replicas", sa.Column("sites_digest", _KEY, nullable=True))
    op.add_column("replicas", sa.Column("sites_since_us", sa.BigInteger(), nullable=True))
