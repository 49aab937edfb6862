"""Events are read in the order in which they began, as a person reads them."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_events_started", "events", ["started_at_us", "id"])
