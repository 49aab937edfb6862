"""Events name their camera and their bursts by numbers, and share what they have alike. An event that was announced
once is its own announcement. The server brings rows of before into this form while it runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ONCE = (
    "what = 'event' AND EXISTS (SELECT 1 FROM events AS e WHERE e.seq = outbox.seq)"
    " AND event_id IN (SELECT o.event_id FROM outbox AS o GROUP BY o.event_id HAVING count(*) = 1)"
)


def upgrade() -> None:
    op.add_column("origins", sa.Column("kind", _KEY, nullable=True))
    op.execute(
        "INSERT INTO cameras (site, camera, longest_us)"
        " SELECT DISTINCT e.site, e.camera, 0 FROM events AS e"
        " LEFT JOIN cameras AS c ON c.site = e.site AND c.camera = e.camera WHERE c.number IS NULL"
    )
    op.drop_index("ix_events_camera", "events")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("fk_events_seq", "events", type_="foreignkey")
        _change_events()
    else:
        op.drop_index("ix_events_confirmed", "events")
        op.drop_index("ix_events_started", "events")
        _make_events()
    op.create_index("ix_events_camera", "events", ["camera", "confirmed_at_us"])
    op.execute(f"DELETE FROM outbox WHERE {_ONCE}")  # noqa: S608 - a constant of this file


def _change_events() -> None:
    op.alter_column("events", "camera", new_column_name="camera_name")
    for name in ("camera", "burst", "before"):
        op.add_column("events", sa.Column(name, _NUMBER, nullable=True))
    op.execute(
        "UPDATE events SET camera = c.number FROM cameras AS c"
        " WHERE c.site = events.site AND c.camera = events.camera_name"
    )
    op.alter_column("events", "camera", nullable=False)
    op.create_foreign_key(op.f("fk_events_camera"), "events", "cameras", ["camera"], ["number"])
    op.drop_column("events", "site")
    op.drop_column("events", "camera_name")
    for name in ("kind", "label", "burst_id"):
        op.alter_column("events", name, nullable=True)


def _make_events() -> None:
    op.rename_table("events", "events_before")
    op.create_table(
        "events",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("camera", _NUMBER, nullable=False),
        sa.Column("kind", _KEY, nullable=True),
        sa.Column("sector", _KEY, nullable=True),
        sa.Column("label", _KEY, nullable=True),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("burst", _NUMBER, nullable=True),
        sa.Column("before", _NUMBER, nullable=True),
        sa.Column("burst_id", sa.LargeBinary(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("origin", _NUMBER, nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("withdrawn_at_us", sa.BigInteger(), nullable=True),
        sa.Column("supersedes", sa.Text(), nullable=True),
        sa.Column("superseded_by", _KEY, nullable=True),
        sa.Column("superseded_by_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["camera"], ["cameras.number"], name=op.f("fk_events_camera")),
        sa.ForeignKeyConstraint(["origin"], ["origins.number"], name=op.f("fk_events_origin")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
    )
    op.execute(
        "INSERT INTO events SELECT e.seq, e.id, c.number, e.kind, e.sector, e.label, e.started_at_us,"
        " e.confirmed_at_us, NULL, NULL, e.burst_id, e.place, e.origin, e.body, e.late, e.withdrawn_at_us,"
        " e.supersedes, e.superseded_by, e.superseded_by_us"
        " FROM events_before AS e JOIN cameras AS c ON c.site = e.site AND c.camera = e.camera ORDER BY e.seq"
    )
    op.drop_table("events_before")
    op.create_index("ix_events_confirmed", "events", ["confirmed_at_us"])
    op.create_index("ix_events_started", "events", ["started_at_us"])
