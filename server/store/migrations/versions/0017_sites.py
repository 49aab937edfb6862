"""Sites in the database: which version of a policy judges its site's bursts. At most one of a site does."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("policy_versions", sa.Column("judges", sa.Integer(), nullable=True))
    op.create_index("ix_policy_versions_judges", "policy_versions", ["site", "judges"], unique=True)
