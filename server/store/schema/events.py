"""Events, what is announced of them, and what people say of them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Sequence,
    Table,
    Text,
    text,
)

from server.store.compact import BurstId, EventId
from server.store.schema.columns import Key, Number, metadata

tickets = Sequence("announcement_tickets", metadata=metadata)
"""Of announcements, on PostgreSQL alone: see `server.store.events.outbox`."""

outbox = Table(
    "outbox",
    metadata,
    Column(
        "seq",
        Number,
        primary_key=True,
        autoincrement=False,
        comment="1, 2, 3, ... in the order in which they become visible; on PostgreSQL negative until it is numbered.",
    ),
    Column("event_id", EventId, nullable=False, comment="The event it announces (16 bytes)."),
    Column(
        "what",
        Key,
        nullable=False,
        comment="event: new; corrected: its content has changed; withdrawn: it does not hold.",
    ),
    Column("at_us", BigInteger, nullable=False, comment="When the turn that wrote it ended (us, server's clock)."),
    Column("before_seq", BigInteger, comment="The announcement of the same event before it; null: it is the first."),
    CheckConstraint("what IN ('event', 'corrected', 'withdrawn')", name="what"),
    comment="Announcements of events that were announced more than once, or first as a correction. An event that was "
    "announced as new and never again is its own announcement. Each channel reads both in order of number, at its own "
    "pace. Once they are numbered, rows never change; they go with their events.",
)

origins = Table(
    "origins",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ...: stands for the row in events."),
    Column(
        "body",
        Key,
        nullable=False,
        unique=True,
        comment="JSON: digests of ensemble, policy and mask, the names of the models that vote; kind, label, sectors, "
        "line and direction.",
    ),
    Column("kind", Key, comment="One of policies.events.Kind, as in body; null: the rows in events have it."),
    comment="What many events have in common, once. Rows never change.",
)

events = Table(
    "events",
    metadata,
    Column(
        "seq",
        Number,
        primary_key=True,
        autoincrement=False,
        comment="The number of its newest announcement; on PostgreSQL negative until it is numbered.",
    ),
    Column("id", EventId, nullable=False, unique=True, comment="Id, derived from the fact (16 bytes)."),
    Column("camera", Number, ForeignKey("cameras.number"), nullable=False, comment="Camera."),
    Column("kind", Key, comment="One of policies.events.Kind; null: the row in origins has kind, sector and label."),
    Column("sector", Key, comment="Sector, or the destination of `moved`; null for a kind without a sector."),
    Column("label", Key, comment="Target."),
    Column("started_at_us", BigInteger, nullable=False, comment="When it happened (us)."),
    Column("confirmed_at_us", BigInteger, nullable=False, comment="Instant of the frame that settled it (us)."),
    Column("burst", Number, comment="The burst of that frame in burst_records; null: burst_id names it."),
    Column("before", Number, comment="An earlier burst that proves it in burst_records; null: none, or body names it."),
    Column("burst_id", BurstId, comment="Burst of that frame (16 bytes if its id is a UUID), if `burst` is null."),
    Column("place", Integer, nullable=False, comment="Index among the events of that frame, from 0."),
    Column("origin", Number, ForeignKey("origins.number"), comment="What it shares with others; null: body is JSON."),
    Column(
        "body",
        LargeBinary,
        nullable=False,
        comment="The rest of policies.events.Event, as server.store.compact writes it; before 0.3 its JSON.",
    ),
    Column("late", Integer, nullable=False, comment="1 if the camera had advanced past confirmed_at_us before."),
    Column("withdrawn_at_us", BigInteger, comment="When a late burst withdrew it (us); null: it holds."),
    Column("supersedes", Text, comment="JSON: ids of the announced events that it replaces; null: none."),
    Column("superseded_by", Key, comment="The late burst that disproved it, once it is withdrawn; null: none did."),
    Column("superseded_by_us", BigInteger, comment="Instant of that burst's first frame (us)."),
    Index("ix_events_camera", "camera", "confirmed_at_us"),
    Index("ix_events_confirmed", "confirmed_at_us"),
    Index("ix_events_started", "started_at_us"),
    comment="The event log: each event as it is now. The outbox holds what was announced when.",
)

counters = Table(
    "counters",
    metadata,
    Column(
        "name",
        Key,
        primary_key=True,
        comment="Counter: outbox (announcements), dead_letters. frames: the name of the folder of pictures.",
    ),
    Column("value", BigInteger, nullable=False, comment="The last number used."),
    comment="Numbers without gaps. A row lock until the commit makes them visible in order.",
)

channels = Table(
    "channels",
    metadata,
    Column("name", Key, primary_key=True, comment="Name of the channel."),
    Column("delivered_seq", BigInteger, nullable=False, comment="The last announcement that was sent."),
    Column("claimed_by", Key, comment="The process that sends now; null: none."),
    Column("claimed_until_us", BigInteger, nullable=False, comment="Until when no other process sends (us)."),
    Column("attempts", Integer, nullable=False, comment="Failures since the last success."),
    Column("paused_at_us", BigInteger, comment="Since when it is paused (us, server's clock); null: it is not."),
    Column("sent_at_us", BigInteger, comment="When it last sent something (us, server's clock)."),
    Column("failed_at_us", BigInteger, comment="Since when it fails (us, server's clock); null: it does not."),
    Column("turned_away_at_us", BigInteger, comment="Since when its receiver turns it away (us); null: it does not."),
    Column("error", Text, comment="Why it fails; null: it does not."),
    Column("memory", Text, comment="What the channel remembers, in a form of its own; null: nothing."),
    comment="Delivery progress of each channel.",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False, comment="1, 2, 3, ... in order of arrival."),
    Column("channel", Key, nullable=False, comment="Name of the channel."),
    Column("seq", BigInteger, nullable=False, comment="The announcement."),
    Column("event_id", EventId, comment="The event it announces (16 bytes); null: it is a notice."),
    Column("what", Key, nullable=False, comment="As in outbox; notice: the notice of that number was announced."),
    Column("at_us", BigInteger, nullable=False, comment="When it came here (us, server's clock)."),
    Column("error", Text, comment="Why it was not delivered; null: a person asks for it to be sent again."),
    Column("asked_at_us", BigInteger, comment="When a person last asked to send it again (us); null: nobody asks."),
    Index("ix_dead_letters_channel", "channel", "number"),
    Index("ix_dead_letters_event", "event_id"),
    Index(
        "ix_dead_letters_asked",
        "channel",
        "number",
        sqlite_where=text("asked_at_us IS NOT NULL"),
        postgresql_where=text("asked_at_us IS NOT NULL"),
    ),
    comment="Announcements that a channel could not deliver, or is to send again. A row goes once it is sent.",
)

annotation_rows = Table(
    "annotations",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... in order of creation."),
    Column(
        "subject",
        EventId,
        nullable=False,
        comment="Id of the event, or of a fact without one; the newest counts (16 bytes).",
    ),
    Column("truth", Key, nullable=False, comment="true, false, missed (true, but without an event), or unsure."),
    Column("site", Key, nullable=False, comment="Site of the fact."),
    Column("camera", Key, nullable=False, comment="Camera of the fact."),
    Column("kind", Key, nullable=False, comment="One of policies.events.Kind."),
    Column("label", Key, nullable=False, comment="Target."),
    Column("sector", Key, comment="Sector; null for a kind without one."),
    Column("from_sector", Key, comment="Origin of `moved`."),
    Column("to_sector", Key, comment="Destination of `moved`."),
    Column("line", Key, comment="The line of `crossed`."),
    Column("at_us", BigInteger, nullable=False, comment="Instant of the fact (us)."),
    Column("within_s", Float(53), nullable=False, comment="Bound on the error of that instant (s)."),
    Column("is_told", Integer, nullable=False, comment="1 if an event exists for the fact, 0 if a person added it."),
    Column("author", Text, nullable=False, comment="The person who annotated."),
    Column("note", Text, comment="The person's note."),
    Column("made_at_us", BigInteger, nullable=False, comment="When it was made (us, server's clock)."),
    CheckConstraint("truth IN ('true', 'false', 'missed', 'unsure')", name="truth"),
    Index("ix_annotations_subject", "subject", "number"),
    Index("ix_annotations_site", "site", "at_us"),
    comment="People's verdicts on facts. Rows are only added, and outlive their events.",
)

notices = Table(
    "notices",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... in order."),
    Column("seq", BigInteger, comment="Number among the announcements; null: not announced."),
    Column("at_us", BigInteger, nullable=False, comment="When it happened (us, server's clock)."),
    Column(
        "what",
        Key,
        nullable=False,
        comment="serves: the ensemble came into service; unapproved: it no longer answers as approved; "
        "approved: it does again; refused: it was not swapped in, because it does not answer as approved.",
    ),
    Column("ensemble", Key, nullable=False, comment="Digest of the ensemble."),
    Column("models", Text, nullable=False, comment="Names of its models, separated by commas."),
    Column("detail", Text, nullable=False, comment="Cause, as text."),
    Column("instance", Key, comment="The replica whose notice it is; null: from before replicas had names."),
    CheckConstraint("what IN ('serves', 'unapproved', 'approved', 'refused')", name="what"),
    Index("ix_notices_seq", "seq", unique=True),
    comment="Notices about the server, announced like events. Rows are only added.",
)
