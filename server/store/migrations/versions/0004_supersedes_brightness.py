"""What an event replaces, and how bright a frame was."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("supersedes", sa.Text(), nullable=True))
    op.add_column("observations", sa.Column("brightness", sa.Float(53), nullable=True))
