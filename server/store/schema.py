"""The data dictionary: every table, every column, its unit and meaning.

Only types that both databases have: names and JSON are text, instants are integer microseconds of Unix time (`_us`),
flags are 0 or 1. Text that orders rows is compared byte by byte, as Python compares ASCII.
Migrations (`server/store/migrations`) build these tables. A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from server.store.compact import BurstId, EventId

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

Key = Text().with_variant(Text(collation="C"), "postgresql")
"""Text compared byte by byte: the order of observations must not depend on a database's locale."""

Number = BigInteger().with_variant(Integer(), "sqlite")
"""A number that the database gives. SQLite numbers its rows anyway, so there it takes no space."""

panels = Table(
    "panels",
    metadata,
    Column("ensemble", Key, primary_key=True, comment="Digest of the weights and transforms."),
    Column("body", Text, nullable=False, comment="JSON of policies.observation.EnsembleInfo: the models."),
    comment="Every ensemble that ever answered a burst.",
)

policies = Table(
    "policies",
    metadata,
    Column("policy", Key, primary_key=True, comment="Digest of the policy."),
    Column("site", Key, nullable=False, comment="Its site."),
    Column("text", Text, nullable=False, comment="The TOML file as written."),
    Column(
        "body",
        Text,
        nullable=False,
        comment="JSON of policies.site.site_policy.SitePolicy with the defaults of that time. Refolds use it, so later "
        "defaults do not change the past.",
    ),
    Column("first_used_us", BigInteger, nullable=False, comment="When it first judged a burst (us)."),
    comment="Every version of every site policy that judged a burst. Rows are only added.",
)

cameras = Table(
    "cameras",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ...: stands for the camera in burst_records."),
    Column("site", Key, nullable=False, comment="Site."),
    Column("camera", Key, nullable=False, comment="Camera."),
    Column("longest_us", BigInteger, nullable=False, comment="Longest span of any of its bursts (us)."),
    Column(
        "rewritten",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="Grows with each change of what it saw before its head: a late burst, a burst taken out of the fold. A "
        "refold that began before such a change is not committed.",
    ),
    UniqueConstraint("site", "camera"),
    comment="Every camera that ever sent a burst, once.",
)

contexts = Table(
    "contexts",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ...: stands for the row in burst_records."),
    Column("digest", Key, nullable=False, unique=True, comment="SHA-256 of the other columns."),
    Column("camera", Number, ForeignKey("cameras.number"), nullable=False, comment="Camera."),
    Column("ensemble", Key, ForeignKey("panels.ensemble"), nullable=False, comment="Ensemble that answered."),
    Column("policy", Key, ForeignKey("policies.policy"), nullable=False, comment="Policy in force at acceptance."),
    Column("models", Text, nullable=False, comment="Names of the models of the answers, separated by commas."),
    Column("mask_digest", Text, comment="Digest of the privacy mask that the agent applied."),
    Column("boot_id", Text, comment="The boot of the agent's machine that monotonic_ms counts from."),
    Column("agent_version", Text, comment="Version of the agent that sent the burst first."),
    Column("reason", Text, nullable=False, comment="What the agent gives as the reason (schedule, gate, ...)."),
    Column("clock_synced", Integer, nullable=False, comment="1 if the agent's clock was synchronised."),
    comment="What many bursts of a camera have in common, once. Rows never change.",
)

burst_records = Table(
    "burst_records",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ... in order of acceptance."),
    Column(
        "id_key",
        BigInteger,
        nullable=False,
        comment="64 bits of the burst_id, by which it is found; the record holds the rest.",
    ),
    Column("camera", Number, ForeignKey("cameras.number"), nullable=False, comment="Camera."),
    Column("context", Number, ForeignKey("contexts.number"), nullable=False, comment="What it shares with others."),
    Column("first_at_us", BigInteger, nullable=False, comment="Instant of its first frame (us)."),
    Column("lasts_us", BigInteger, nullable=False, comment="From its first frame to its last (us)."),
    Column(
        "is_held",
        Integer,
        nullable=False,
        comment="0: the fold includes it. 1: not, since it is ahead of the server's clock (late 0), waits for its "
        "refold (late 1), or was set aside (late 2).",
    ),
    Column(
        "late",
        Integer,
        nullable=False,
        comment="0: in order. 1: it came after the camera had advanced past its first frame. 2: by more than "
        "`late_within`, or a person set it aside: it is kept and changes no event.",
    ),
    Column(
        "record",
        LargeBinary,
        nullable=False,
        comment="Everything else: its frames' hashes, instants and every model's predictions, and a seal of the "
        "decision record, as server.store.bursts.packing writes it. Replays read it; it never changes.",
    ),
    CheckConstraint("lasts_us >= 0", name="order"),
    Index("ix_burst_records_id", "id_key"),
    Index("ix_burst_records_camera", "camera", "first_at_us"),
    Index(
        "ix_burst_records_held",
        "late",
        "camera",
        "number",
        sqlite_where=text("is_held = 1"),
        postgresql_where=text("is_held = 1"),
    ),
    comment="One row for each accepted burst, with all of its frames.",
)

bursts = Table(
    "bursts",
    metadata,
    Column("burst_id", Key, primary_key=True, comment="Id that the agent gives."),
    Column("site", Key, nullable=False, comment="Site as sent."),
    Column("camera", Key, nullable=False, comment="Camera as sent."),
    Column("digest", Key, nullable=False, comment="Digest of what was seen, where and when; the same when sent again."),
    Column("status", Key, nullable=False, comment="folded: the camera's state includes it; held: stored only."),
    Column("cause", Key, comment="Why it is held: future (ahead of the server's clock); null: folded."),
    Column("late", Integer, nullable=False, comment="1 if it came after the camera had advanced past its first frame."),
    Column("reason", Text, nullable=False, comment="What the agent gives as the reason (schedule, gate, ...)."),
    Column("captured_at_us", BigInteger, nullable=False, comment="Instant from which the frames' offsets count (us)."),
    Column("first_at_us", BigInteger, nullable=False, comment="Instant of its first frame (us)."),
    Column("last_at_us", BigInteger, nullable=False, comment="Instant of its last frame (us)."),
    Column("frames", Integer, nullable=False, comment="Number of frames."),
    Column("image_bytes", BigInteger, nullable=False, comment="Size of all its JPEGs (bytes); they are not stored."),
    Column("clock_synced", Integer, nullable=False, comment="1 if the agent's clock was synchronised."),
    Column("uncertainty_s", Float(53), nullable=False, comment="Bound on the error of its instants (s)."),
    Column("boot_id", Text, comment="The boot of the agent's machine that monotonic_ms counts from."),
    Column("monotonic_ms", BigInteger, comment="The agent's monotonic clock at captured_at (ms)."),
    Column("mask_digest", Text, comment="Digest of the privacy mask that the agent applied."),
    Column("agent_version", Text, comment="Version of the agent that sent it first."),
    Column("sent_at_us", BigInteger, comment="When the agent first sent it (us, agent's clock)."),
    Column("received_at_us", BigInteger, nullable=False, comment="When the server accepted it (us, server's clock)."),
    Column("ensemble", Key, ForeignKey("panels.ensemble"), nullable=False, comment="Ensemble that answered."),
    Column("policy", Key, ForeignKey("policies.policy"), nullable=False, comment="Policy in force at its acceptance."),
    CheckConstraint("status IN ('folded', 'held')", name="status"),
    CheckConstraint("(status = 'held') = (cause IS NOT NULL)", name="cause"),
    CheckConstraint("frames > 0", name="frames"),
    CheckConstraint("first_at_us <= last_at_us", name="order"),
    Index("ix_bursts_camera", "site", "camera", "first_at_us"),
    Index("ix_bursts_status", "status", "site", "camera", "last_at_us"),
    comment="Bursts that an earlier version accepted, until the server has converted them into burst_records.",
)

observations = Table(
    "observations",
    metadata,
    Column("burst_id", Key, ForeignKey("bursts.burst_id"), primary_key=True, comment="Its burst."),
    Column("frame", Integer, primary_key=True, comment="Index of the frame in its burst, from 0."),
    Column("site", Key, nullable=False, comment="As in bursts, for the index that replays use."),
    Column("camera", Key, nullable=False, comment="As in bursts."),
    Column("at_us", BigInteger, nullable=False, comment="Instant of the frame (us). Orders a camera's frames."),
    Column("frame_sha256", Key, nullable=False, comment="SHA-256 of the JPEG as received, hex."),
    Column("width_px", Integer, nullable=False, comment="Width of the frame (pixels)."),
    Column("height_px", Integer, nullable=False, comment="Height of the frame (pixels)."),
    Column("brightness", Float(53), comment="Mean brightness of the frame, 0..1; null: unknown."),
    Column(
        "answers",
        Text,
        nullable=False,
        comment="JSON: model -> list of predictions (label, score 0..1, box 0..1, sector), null: no answer.",
    ),
    CheckConstraint("frame >= 0", name="frame"),
    CheckConstraint("width_px > 0 AND height_px > 0", name="size"),
    Index("ix_observations_camera", "site", "camera", "at_us", "burst_id", "frame"),
    comment="Frames of the rows in bursts: every model's predictions. They are converted together.",
)

decisions = Table(
    "decisions",
    metadata,
    Column("burst_id", Key, ForeignKey("bursts.burst_id"), primary_key=True, comment="Its burst."),
    Column(
        "body",
        Text,
        nullable=False,
        comment="JSON: list of policies.fusion.judgement.Judgement, one per frame: candidates, votes, margins.",
    ),
    comment="Decision records of the rows in bursts. They are converted together; burst_records keep a seal.",
)

camera_states = Table(
    "camera_states",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("camera", Key, primary_key=True, comment="Camera."),
    Column("last_at_us", BigInteger, nullable=False, comment="Instant of the newest folded frame (us)."),
    Column("state", Text, nullable=False, comment="JSON of policies.fold.State after that frame."),
    Column("policy", Key, ForeignKey("policies.policy"), nullable=False, comment="Policy that judged that frame."),
    Column("changed_at_us", BigInteger, nullable=False, comment="When the last turn ended (us, server's clock)."),
    comment="The head of each camera: its newest state.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("camera", Key, primary_key=True, comment="Camera."),
    Column(
        "at_us",
        BigInteger,
        primary_key=True,
        comment="The state includes all frames up to here (us).",
    ),
    Column("state", Text, nullable=False, comment="JSON of policies.fold.State at that instant."),
    comment="States that a late burst rewinds to, and from which the past is asked. Thinned with age.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Number, primary_key=True, autoincrement=False, comment="1, 2, 3, ... in order of commit."),
    Column("event_id", EventId, nullable=False, comment="The event it announces (16 bytes)."),
    Column(
        "what",
        Key,
        nullable=False,
        comment="event: new; corrected: its content has changed; withdrawn: it does not hold.",
    ),
    Column("at_us", BigInteger, nullable=False, comment="When the turn that wrote it ended (us, server's clock)."),
    CheckConstraint("what IN ('event', 'corrected', 'withdrawn')", name="what"),
    Index("ix_outbox_event", "event_id"),
    comment="Announcements in order of commit. Each channel reads them at its own pace. Rows never change; "
    "they go with their events.",
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
        comment="JSON: digests of ensemble, policy and mask, and the names of the models that vote.",
    ),
    comment="What many events have in common, once. Rows never change.",
)

events = Table(
    "events",
    metadata,
    Column(
        "seq",
        Number,
        ForeignKey("outbox.seq"),
        primary_key=True,
        autoincrement=False,
        comment="Its newest announcement.",
    ),
    Column("id", EventId, nullable=False, unique=True, comment="Id, derived from the fact (16 bytes)."),
    Column("site", Key, nullable=False, comment="Site."),
    Column("camera", Key, nullable=False, comment="Camera."),
    Column("kind", Key, nullable=False, comment="One of policies.events.Kind."),
    Column("sector", Key, comment="Sector, or the destination of `moved`; null for a kind without a sector."),
    Column("label", Key, nullable=False, comment="Target."),
    Column("started_at_us", BigInteger, nullable=False, comment="When it happened (us)."),
    Column("confirmed_at_us", BigInteger, nullable=False, comment="Instant of the frame that settled it (us)."),
    Column("burst_id", BurstId, nullable=False, comment="Burst of that frame (16 bytes if its id is a UUID)."),
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
    Index("ix_events_camera", "site", "camera", "confirmed_at_us"),
    Index("ix_events_confirmed", "confirmed_at_us"),
    Index("ix_events_started", "started_at_us"),
    comment="The event log: each event as it is now. The outbox holds what was announced when.",
)

counters = Table(
    "counters",
    metadata,
    Column("name", Key, primary_key=True, comment="Counter: outbox (announcements)."),
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
    comment="Delivery progress of each channel.",
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

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("camera", Key, primary_key=True, comment="Camera."),
    Column("started_at_us", BigInteger, nullable=False, comment="When the agent was started (us, agent's clock)."),
    Column("sent_at_us", BigInteger, nullable=False, comment="When it was sent (us, agent's clock)."),
    Column("received_at_us", BigInteger, nullable=False, comment="When it was received (us, server's clock)."),
    Column("body", Text, nullable=False, comment="JSON of server.camera_status.heartbeat.Heartbeat, as received."),
    comment="The newest heartbeat of each camera. Older ones are not kept.",
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
    CheckConstraint("what IN ('serves', 'unapproved', 'approved', 'refused')", name="what"),
    Index("ix_notices_seq", "seq", unique=True),
    comment="Notices about the server, announced like events. Rows are only added.",
)

removals = Table(
    "removals",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ..."),
    Column("site", Key, nullable=False, comment="Site."),
    Column("camera", Key, nullable=False, comment="Camera."),
    Column("from_us", BigInteger, comment="No burst is kept from here (us); null: from the camera's first one."),
    Column("until_us", BigInteger, nullable=False, comment="To before here (us)."),
    Column(
        "state",
        Text,
        nullable=False,
        comment="JSON of policies.fold.State after the last frame before until_us. Every fold goes on from it.",
    ),
    UniqueConstraint("site", "camera", "until_us"),
    comment="Stretches of a camera of which no burst is kept any more. Two of one camera do not touch.",
)

keeping = Table(
    "keeping",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("camera", Key, primary_key=True, comment="Camera."),
    Column("newest_us", BigInteger, nullable=False, comment="Instant of its newest frame at the last sweep (us)."),
    Column("idle_us", BigInteger, nullable=False, comment="How long no newer frame has come, as swept (us)."),
    Column("swept_at_us", BigInteger, nullable=False, comment="When the last sweep began (us, server's clock)."),
    Column("bursts_from_us", BigInteger, comment="Bursts before are not kept, nor accepted (us); null: all are."),
    Column("events_from_us", BigInteger, comment="Events confirmed before are not kept (us); null: all are."),
    comment="How far retention has come with each camera.",
)

erasures = Table(
    "erasures",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ... in order of request."),
    Column("site", Key, nullable=False, comment="Site."),
    Column("camera", Key, nullable=False, comment="Camera."),
    Column("since_us", BigInteger, nullable=False, comment="Begin of what is erased, in whole bursts (us)."),
    Column("until_us", BigInteger, nullable=False, comment="Its end (us)."),
    Column("keeps_annotated", Integer, nullable=False, comment="1 if annotated events stay, with what proves them."),
    Column("author", Text, nullable=False, comment="Who erased."),
    Column("note", Text, comment="Why, in that person's words."),
    Column("asked_at_us", BigInteger, nullable=False, comment="When it was asked for (us, server's clock)."),
    Column("finished_at_us", BigInteger, comment="When the last row was deleted (us); null: it is under way."),
    Column("bursts", BigInteger, nullable=False, comment="Bursts erased so far."),
    Column("events", BigInteger, nullable=False, comment="Events erased so far."),
    Column("annotations", BigInteger, nullable=False, comment="Annotations erased so far."),
    CheckConstraint("since_us < until_us", name="order"),
    Index("ix_erasures_camera", "site", "camera", "until_us"),
    comment="What people had erased. The rows stay; bursts and events of these stretches are not accepted again.",
)

space_samples = Table(
    "space_samples",
    metadata,
    Column("at_us", BigInteger, primary_key=True, autoincrement=False, comment="When (us, server's clock)."),
    Column("used_bytes", BigInteger, nullable=False, comment="Size of the database without its free pages (bytes)."),
    comment="How the database grows, for the forecast of when the disk is full. One an hour, for 30 days.",
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Key, primary_key=True, comment="Public part of the token."),
    Column("name", Text, nullable=False, comment="Name that a person gave it."),
    Column("site", Key, nullable=False, comment="The site that it covers."),
    Column("camera", Key, comment="The camera that it covers; null: all of the site."),
    Column("hash", Text, nullable=False, comment="Hash of the secret part. The secret is not stored."),
    Column("created_at_us", BigInteger, nullable=False, comment="When it was made (us)."),
    Column("revoked_at_us", BigInteger, comment="When it was revoked (us); null: valid."),
    comment="Bearer tokens.",
)


def data_dictionary() -> Iterator[str]:
    """Every table and column with its meaning, as lines of text."""
    for table in metadata.sorted_tables:
        yield f"{table.name}: {table.comment}"
        yield from (f"    {column.name}: {column.comment}" for column in table.columns)
