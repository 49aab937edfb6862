"""Tickets of announcements, so that turns of different cameras do not wait for each other on PostgreSQL."""

from alembic import op
from sqlalchemy import Sequence
from sqlalchemy.schema import CreateSequence

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.supports_sequences:
        op.execute(CreateSequence(Sequence("announcement_tickets")))
