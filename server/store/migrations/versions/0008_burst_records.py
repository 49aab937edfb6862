"""Each burst becomes one compact record, events get compact bodies. The server converts rows of before while it runs.

Ids of events and of their bursts are bytes. An event names its burst by its id, in whichever form the burst is.
"""

import re
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_HEX = "^[0-9a-f]{32}$"
_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def upgrade() -> None:
    op.create_table(
        "cameras",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("longest_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_cameras")),
        sa.UniqueConstraint("site", "camera", name=op.f("uq_cameras_site")),
    )
    op.create_table(
        "contexts",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("camera", _NUMBER, nullable=False),
        sa.Column("ensemble", _KEY, nullable=False),
        sa.Column("policy", _KEY, nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("mask_digest", sa.Text(), nullable=True),
        sa.Column("boot_id", sa.Text(), nullable=True),
        sa.Column("agent_version", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("clock_synced", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["camera"], ["cameras.number"], name=op.f("fk_contexts_camera")),
        sa.ForeignKeyConstraint(["ensemble"], ["panels.ensemble"], name=op.f("fk_contexts_ensemble")),
        sa.ForeignKeyConstraint(["policy"], ["policies.policy"], name=op.f("fk_contexts_policy")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_contexts")),
        sa.UniqueConstraint("digest", name=op.f("uq_contexts_digest")),
    )
    op.create_table(
        "burst_records",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id_key", sa.BigInteger(), nullable=False),
        sa.Column("camera", _NUMBER, nullable=False),
        sa.Column("context", _NUMBER, nullable=False),
        sa.Column("first_at_us", sa.BigInteger(), nullable=False),
        sa.Column("lasts_us", sa.BigInteger(), nullable=False),
        sa.Column("is_held", sa.Integer(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("record", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("lasts_us >= 0", name=op.f("ck_burst_records_order")),
        sa.ForeignKeyConstraint(["camera"], ["cameras.number"], name=op.f("fk_burst_records_camera")),
        sa.ForeignKeyConstraint(["context"], ["contexts.number"], name=op.f("fk_burst_records_context")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_burst_records")),
    )
    op.create_index("ix_burst_records_id", "burst_records", ["id_key"])
    op.create_index("ix_burst_records_camera", "burst_records", ["camera", "first_at_us"])
    waiting = sa.text("is_held = 1")
    op.create_index(
        "ix_burst_records_held", "burst_records", ["is_held", "camera"], sqlite_where=waiting, postgresql_where=waiting
    )
    for table in ("annotations", "events", "outbox"):
        op.execute(f"CREATE TABLE {table}_before AS SELECT * FROM {table}")  # noqa: S608 - names of this file
        op.drop_table(table)
    _make_outbox()
    _make_events()
    _make_annotations()
    for table in ("annotations", "events", "outbox"):
        op.drop_table(f"{table}_before")


def _make_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("event_id", sa.LargeBinary(), nullable=False),
        sa.Column("what", _KEY, nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("what IN ('event', 'corrected', 'withdrawn')", name=op.f("ck_outbox_what")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
    )
    _copy("outbox", "seq", _bytes_of("event_id", _HEX), "what", "at_us")


def _make_events() -> None:
    op.create_table(
        "origins",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("body", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_origins")),
        sa.UniqueConstraint("body", name=op.f("uq_origins_body")),
    )
    op.create_table(
        "events",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("kind", _KEY, nullable=False),
        sa.Column("sector", _KEY, nullable=True),
        sa.Column("label", _KEY, nullable=False),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at_us", sa.BigInteger(), nullable=False),
        sa.Column("burst_id", sa.LargeBinary(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("origin", _NUMBER, nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.Column("withdrawn_at_us", sa.BigInteger(), nullable=True),
        sa.Column("supersedes", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["seq"], ["outbox.seq"], name=op.f("fk_events_seq")),
        sa.ForeignKeyConstraint(["origin"], ["origins.number"], name=op.f("fk_events_origin")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
    )
    _copy(
        "events",
        "seq",
        _bytes_of("id", _HEX),
        *("site", "camera", "kind", "sector", "label", "started_at_us", "confirmed_at_us"),
        _bytes_of("burst_id", _UUID),
        "place",
        "NULL",
        "convert_to(body, 'UTF8')" if _is_postgresql() else "CAST(body AS BLOB)",
        *("late", "withdrawn_at_us", "supersedes"),
    )
    op.create_index("ix_events_camera", "events", ["site", "camera", "confirmed_at_us"])
    op.create_index("ix_events_confirmed", "events", ["confirmed_at_us"])
    op.create_index("ix_events_started", "events", ["started_at_us"])


def _make_annotations() -> None:
    op.create_table(
        "annotations",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject", sa.LargeBinary(), nullable=False),
        sa.Column("truth", _KEY, nullable=False),
        sa.Column("site", _KEY, nullable=False),
        sa.Column("camera", _KEY, nullable=False),
        sa.Column("kind", _KEY, nullable=False),
        sa.Column("label", _KEY, nullable=False),
        sa.Column("sector", _KEY, nullable=True),
        sa.Column("from_sector", _KEY, nullable=True),
        sa.Column("to_sector", _KEY, nullable=True),
        sa.Column("line", _KEY, nullable=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("within_s", sa.Float(53), nullable=False),
        sa.Column("is_told", sa.Integer(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("made_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("truth IN ('true', 'false', 'missed', 'unsure')", name=op.f("ck_annotations_truth")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_annotations")),
    )
    _copy(
        "annotations",
        "number",
        _bytes_of("subject", _HEX),
        *("truth", "site", "camera", "kind", "label", "sector", "from_sector", "to_sector", "line", "at_us"),
        *("within_s", "is_told", "author", "note", "made_at_us"),
    )
    op.create_index("ix_annotations_subject", "annotations", ["subject", "number"])
    op.create_index("ix_annotations_site", "annotations", ["site", "at_us"])


def _copy(table: str, *columns: str) -> None:
    names = ", ".join(columns)
    op.execute(f"INSERT INTO {table} SELECT {names} FROM {table}_before")  # noqa: S608 - names of this file


def _bytes_of(column: str, digits: str) -> str:
    """SQL for the bytes of an id: of its digits, or, of an id in another form, of its text after a NUL."""
    if _is_postgresql():
        other = f"'\\x00'::bytea || convert_to({column}, 'UTF8')"
        other += f" || CASE WHEN octet_length({column}) = 15 THEN '\\x00'::bytea ELSE ''::bytea END"
        return f"CASE WHEN {column} ~ '{digits}' THEN decode(replace({column}, '-', ''), 'hex') ELSE {other} END"
    pattern = re.compile(digits)

    def bytes_of(text: str) -> bytes:
        if pattern.fullmatch(text):
            return bytes.fromhex(text.replace("-", ""))
        other = b"\0" + text.encode()
        return other if len(other) != 16 else other + b"\0"

    sqlite: Any = op.get_bind().connection.dbapi_connection
    sqlite.create_function(f"bytes_of_{column}", 1, bytes_of)
    return f"bytes_of_{column}({column})"


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"
