"""The data dictionary: every table, every column, its unit and meaning.

Types both databases have: names and JSON are text, instants are integer microseconds of Unix time (`_us`),
flags are 0 or 1. Text that orders rows is compared byte by byte on both, as Python compares ASCII.
Migrations (`server/store/migrations`) build these tables; a test holds the two together.
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
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

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

panels = Table(
    "panels",
    metadata,
    Column("ensemble", Key, primary_key=True, comment="Digest of exactly these weights and transforms."),
    Column(
        "body", Text, nullable=False, comment="JSON of policies.observation.EnsembleInfo: the models that were asked."
    ),
    comment="Every ensemble that ever answered here.",
)

policies = Table(
    "policies",
    metadata,
    Column("policy", Key, primary_key=True, comment="Digest of the rules in force."),
    Column("site", Key, nullable=False, comment="The site they are for."),
    Column("text", Text, nullable=False, comment="The TOML as a person wrote it, for reading."),
    Column(
        "body",
        Text,
        nullable=False,
        comment="JSON of policies.site.site_policy.SitePolicy, shipped defaults filled in: what a refold uses, so that "
        "later defaults do not change the past.",
    ),
    Column("first_used_us", BigInteger, nullable=False, comment="When a burst was first judged by it (us)."),
    comment="Every version of every site policy that judged a burst. Never changed, never removed.",
)

bursts = Table(
    "bursts",
    metadata,
    Column("burst_id", Key, primary_key=True, comment="Permanent name, given by the agent."),
    Column("site", Key, nullable=False, comment="Site as sent."),
    Column("camera", Key, nullable=False, comment="Camera as sent."),
    Column("digest", Key, nullable=False, comment="Of everything that identifies it; tells a resend from a mix-up."),
    Column("status", Key, nullable=False, comment="folded: its camera's state includes it; held: kept, not yet in."),
    Column("cause", Key, comment="Why it is held: future (ahead of the server's clock)."),
    Column("late", Integer, nullable=False, comment="1 if its camera had already advanced past its first frame."),
    Column("reason", Text, nullable=False, comment="Why it was taken, in the agent's words (schedule, gate, ...)."),
    Column("captured_at_us", BigInteger, nullable=False, comment="Instant all offsets count from (us)."),
    Column("first_at_us", BigInteger, nullable=False, comment="Instant of its first frame (us)."),
    Column("last_at_us", BigInteger, nullable=False, comment="Instant of its last frame (us)."),
    Column("frames", Integer, nullable=False, comment="Count of frames."),
    Column("image_bytes", BigInteger, nullable=False, comment="Bytes of all its JPEGs; they are not kept."),
    Column("clock_synced", Integer, nullable=False, comment="1 if the agent's clock was synchronised."),
    Column("uncertainty_s", Float(53), nullable=False, comment="Bound on the error of its instants (s)."),
    Column("boot_id", Text, comment="The boot of the agent's machine that monotonic_ms counts from."),
    Column("monotonic_ms", BigInteger, comment="The agent's monotonic clock at captured_at (ms)."),
    Column("mask_digest", Text, comment="Digest of the privacy mask the agent had applied."),
    Column("agent_version", Text, comment="Version of the agent that sent it first."),
    Column("sent_at_us", BigInteger, comment="When the agent says it sent it (us), first sending."),
    Column("received_at_us", BigInteger, nullable=False, comment="When the server accepted it (us, server's clock)."),
    Column("ensemble", Key, ForeignKey("panels.ensemble"), nullable=False, comment="Who answered."),
    Column("policy", Key, ForeignKey("policies.policy"), nullable=False, comment="Rules in force when accepted."),
    CheckConstraint("status IN ('folded', 'held')", name="status"),
    CheckConstraint("(status = 'held') = (cause IS NOT NULL)", name="cause"),
    CheckConstraint("frames > 0", name="frames"),
    CheckConstraint("first_at_us <= last_at_us", name="order"),
    Index("ix_bursts_camera", "site", "camera", "first_at_us"),
    Index("ix_bursts_status", "status", "site", "camera", "last_at_us"),
    comment="Bursts accepted, one row each, whatever they showed.",
)

observations = Table(
    "observations",
    metadata,
    Column("burst_id", Key, ForeignKey("bursts.burst_id"), primary_key=True, comment="The burst it is of."),
    Column("frame", Integer, primary_key=True, comment="Index of the frame in its burst, from 0."),
    Column("site", Key, nullable=False, comment="As in bursts; repeated for the index replays read by."),
    Column("camera", Key, nullable=False, comment="As in bursts."),
    Column("at_us", BigInteger, nullable=False, comment="Instant of the frame (us). Orders a camera's frames."),
    Column("frame_sha256", Key, nullable=False, comment="SHA-256 of the JPEG as received, hex."),
    Column("width_px", Integer, nullable=False, comment="Width of the frame (pixels)."),
    Column("height_px", Integer, nullable=False, comment="Height of the frame (pixels)."),
    Column("brightness", Float(53), comment="Mean brightness of the frame, 0..1; null: not known."),
    Column(
        "answers",
        Text,
        nullable=False,
        comment="JSON: model -> list of predictions (label, score 0..1, box 0..1, sector), null: no answer.",
    ),
    CheckConstraint("frame >= 0", name="frame"),
    CheckConstraint("width_px > 0 AND height_px > 0", name="size"),
    Index("ix_observations_camera", "site", "camera", "at_us", "burst_id", "frame"),
    comment="What every model said of every frame. Nothing here is ever changed: replay lives off it.",
)

decisions = Table(
    "decisions",
    metadata,
    Column("burst_id", Key, ForeignKey("bursts.burst_id"), primary_key=True, comment="The burst it is about."),
    Column(
        "body",
        Text,
        nullable=False,
        comment="JSON: list of policies.fusion.judgement.Judgement, one per frame: candidates, votes, margins.",
    ),
    comment="Decision records: what the policy made of each burst, also when nothing happened.",
)

camera_states = Table(
    "camera_states",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("camera", Key, primary_key=True, comment="Camera."),
    Column("last_at_us", BigInteger, nullable=False, comment="Instant of the newest frame advanced past (us)."),
    Column("state", Text, nullable=False, comment="JSON of policies.fold.State after that frame."),
    Column("policy", Key, ForeignKey("policies.policy"), nullable=False, comment="Rules that frame was judged by."),
    Column("changed_at_us", BigInteger, nullable=False, comment="When the last turn ended (us, server's clock)."),
    comment="The head: where each camera stands.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("camera", Key, primary_key=True, comment="Camera."),
    Column("at_us", BigInteger, primary_key=True, comment="All its frames up to here are in, none after (us)."),
    Column("state", Text, nullable=False, comment="JSON of policies.fold.State at that point."),
    comment="Where a late burst rewinds to. Thinned with age, so at most a hundred or so per camera.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... in order of commit."),
    Column("event_id", Key, nullable=False, comment="The event it announces."),
    Column(
        "what",
        Key,
        nullable=False,
        comment="event: first said; corrected: said otherwise than before; withdrawn: taken back.",
    ),
    Column("at_us", BigInteger, nullable=False, comment="When the turn that wrote it ended (us, server's clock)."),
    CheckConstraint("what IN ('event', 'corrected', 'withdrawn')", name="what"),
    comment="Announcements in order of commit; each channel reads them at its own pace. Never changed.",
)

events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True, comment="Derived from the fact."),
    Column("seq", BigInteger, ForeignKey("outbox.seq"), nullable=False, comment="Its newest announcement."),
    Column("site", Key, nullable=False, comment="Site."),
    Column("camera", Key, nullable=False, comment="Camera."),
    Column("kind", Key, nullable=False, comment="One of policies.events.Kind."),
    Column("sector", Key, comment="Sector, or where `moved` went to; null where a kind has none."),
    Column("label", Key, nullable=False, comment="Target."),
    Column("started_at_us", BigInteger, nullable=False, comment="When it happened (us)."),
    Column("confirmed_at_us", BigInteger, nullable=False, comment="Instant of the frame whose advance gave it (us)."),
    Column("burst_id", Key, ForeignKey("bursts.burst_id"), nullable=False, comment="Burst of that frame."),
    Column("place", Integer, nullable=False, comment="Its place among the events of that frame, from 0."),
    Column("body", Text, nullable=False, comment="JSON of policies.events.Event: the fact itself."),
    Column("late", Integer, nullable=False, comment="1 if the log had already passed confirmed_at_us when found."),
    Column("withdrawn_at_us", BigInteger, comment="When a late burst showed it did not hold (us); null: it holds."),
    Column("supersedes", Text, comment="JSON: ids of events told before that this one replaces; null: none."),
    UniqueConstraint("seq"),
    Index("ix_events_camera", "site", "camera", "confirmed_at_us"),
    Index("ix_events_confirmed", "confirmed_at_us"),
    Index("ix_events_burst", "burst_id"),
    comment="The event log. A row says how things stand now; the outbox says what was announced when.",
)

counters = Table(
    "counters",
    metadata,
    Column("name", Key, primary_key=True, comment="What is counted: outbox (announcements)."),
    Column("value", BigInteger, nullable=False, comment="The last number given out."),
    comment="Numbers without gaps: taken under a row lock held to commit, so a follower never sees 6 before 5.",
)

channels = Table(
    "channels",
    metadata,
    Column("name", Key, primary_key=True, comment="The channel."),
    Column("delivered_seq", BigInteger, nullable=False, comment="Announcement up to which all was sent."),
    Column("claimed_by", Key, comment="The deliverer that is sending now."),
    Column("claimed_until_us", BigInteger, nullable=False, comment="Lease: nobody else sends before (us)."),
    Column("attempts", Integer, nullable=False, comment="Failures in a row since the last success."),
    comment="How far each way out has got.",
)

annotation_rows = Table(
    "annotations",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... as they were made."),
    Column("subject", Key, nullable=False, comment="The event, or the fact that no event told; the newest counts."),
    Column("truth", Key, nullable=False, comment="true, false, missed (true, but no event told it), or unsure."),
    Column("site", Key, nullable=False, comment="Site of the fact."),
    Column("camera", Key, nullable=False, comment="Camera of the fact."),
    Column("kind", Key, nullable=False, comment="One of policies.events.Kind."),
    Column("label", Key, nullable=False, comment="Target."),
    Column("sector", Key, comment="Sector, where the kind has one."),
    Column("from_sector", Key, comment="Where `moved` came from."),
    Column("to_sector", Key, comment="Where `moved` went to."),
    Column("line", Key, comment="The line of `crossed`."),
    Column("at_us", BigInteger, nullable=False, comment="Instant of the fact (us)."),
    Column("within_s", Float(53), nullable=False, comment="How far that instant may be off (s)."),
    Column("is_told", Integer, nullable=False, comment="1 if an event told it, 0 if a person added it."),
    Column("author", Text, nullable=False, comment="Who says so."),
    Column("note", Text, comment="In their words."),
    Column("made_at_us", BigInteger, nullable=False, comment="When they said so (us, server's clock)."),
    CheckConstraint("truth IN ('true', 'false', 'missed', 'unsure')", name="truth"),
    Index("ix_annotations_subject", "subject", "number"),
    Index("ix_annotations_site", "site", "at_us"),
    comment="What people say was true. Never changed, never removed; it outlives the events it is about.",
)

heartbeats = Table(
    "heartbeats",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("camera", Key, primary_key=True, comment="Camera."),
    Column("started_at_us", BigInteger, nullable=False, comment="When this run of the agent began (us, its clock)."),
    Column("sent_at_us", BigInteger, nullable=False, comment="When it was sent (us, the agent's clock)."),
    Column("received_at_us", BigInteger, nullable=False, comment="When it came (us, server's clock)."),
    Column("body", Text, nullable=False, comment="JSON of server.camera_status.heartbeat.Heartbeat, as it came."),
    comment="The newest heartbeat of each camera; older ones are forgotten.",
)

notices = Table(
    "notices",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="1, 2, 3, ... as they were given."),
    Column("seq", BigInteger, comment="Its number among the announcements; null: never announced."),
    Column("at_us", BigInteger, nullable=False, comment="When it happened (us, server's clock)."),
    Column(
        "what",
        Key,
        nullable=False,
        comment="serves: this ensemble answers from now on; unapproved: it no longer answers as approved; "
        "approved: it does again; refused: it was to be swapped in, and does not answer as approved.",
    ),
    Column("ensemble", Key, nullable=False, comment="Its digest."),
    Column("models", Text, nullable=False, comment="Names of its models, with commas between."),
    Column("detail", Text, nullable=False, comment="How it came about, in words."),
    CheckConstraint("what IN ('serves', 'unapproved', 'approved', 'refused')", name="what"),
    Index("ix_notices_seq", "seq", unique=True),
    comment="What happened to the server itself, announced like events. Never changed, never removed.",
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Key, primary_key=True, comment="Public part of the token, for looking it up and naming it."),
    Column("name", Text, nullable=False, comment="What a person called it."),
    Column("site", Key, nullable=False, comment="Site it may send for."),
    Column("camera", Key, comment="Camera it may send for; null: all of the site."),
    Column("hash", Text, nullable=False, comment="Hash of the secret part; the secret itself is nowhere."),
    Column("created_at_us", BigInteger, nullable=False, comment="When it was made (us)."),
    Column("revoked_at_us", BigInteger, comment="When it ceased to be valid (us); null: valid."),
    comment="Who may send.",
)


def data_dictionary() -> Iterator[str]:
    """Every table and column with its meaning, as lines of text."""
    for table in metadata.sorted_tables:
        yield f"{table.name}: {table.comment}"
        yield from (f"    {column.name}: {column.comment}" for column in table.columns)
