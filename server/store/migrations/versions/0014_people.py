"""Users of the console with their grants, sessions and failed attempts; what they did; the policies that they wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _make_users()
    _make_sign_in()
    op.create_table(
        "audit",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("author", _KEY, nullable=False),
        sa.Column("what", _KEY, nullable=False),
        sa.Column("site", _KEY, nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_site", "audit", ["site", "number"])
    op.create_table(
        "policy_versions",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("before_digest", _KEY, nullable=True),
        sa.Column("before_text", sa.Text(), nullable=True),
        sa.Column("author", _KEY, nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.Column("in_force_at_us", sa.BigInteger(), nullable=True),
        sa.Column("in_force_by", _KEY, nullable=True),
        sa.Column("taken_back_at_us", sa.BigInteger(), nullable=True),
        sa.Column("taken_back_by", _KEY, nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_policy_versions")),
    )
    op.create_index("ix_policy_versions_site", "policy_versions", ["site", "number"])


def _make_users() -> None:
    op.create_table(
        "users",
        sa.Column("name", _KEY, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("removed_at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_users")),
    )
    op.create_table(
        "grants",
        sa.Column("name", _KEY, nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("role", _KEY, nullable=False),
        sa.CheckConstraint("role IN ('viewer', 'operator')", name=op.f("ck_grants_role")),
        sa.ForeignKeyConstraint(["name"], ["users.name"], name=op.f("fk_grants_name")),
        sa.PrimaryKeyConstraint("name", "site", name=op.f("pk_grants")),
    )


def _make_sign_in() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("name", _KEY, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["name"], ["users.name"], name=op.f("fk_sessions_name")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_table(
        "attempts",
        sa.Column("name", _KEY, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("blocked_until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_attempts")),
    )
    op.create_table(
        "signing_keys",
        sa.Column("purpose", _KEY, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("purpose", name=op.f("pk_signing_keys")),
    )
