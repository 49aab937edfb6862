"""What is no longer kept, how the database grows, who is watched, and who may ask."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from server.store.schema.columns import Key, Number, metadata

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
    Column(
        "frames",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="Frames erased of which pictures were kept.",
    ),
    CheckConstraint("since_us < until_us", name="order"),
    Index("ix_erasures_camera", "site", "camera", "until_us"),
    comment="What people had erased. The rows stay; bursts and events of these stretches are not accepted again.",
)

space_samples = Table(
    "space_samples",
    metadata,
    Column("at_us", BigInteger, primary_key=True, autoincrement=False, comment="When (us, server's clock)."),
    Column(
        "used_bytes",
        BigInteger,
        nullable=False,
        comment="Size of the database without its free pages, and of kept pictures (bytes).",
    ),
    comment="How the database grows, for the forecast of when the disk is full. One an hour, for 30 days.",
)

kept_frames = Table(
    "kept_frames",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ... in the order in which they were kept."),
    Column("camera", Number, ForeignKey("cameras.number"), nullable=False, comment="Camera."),
    Column("at_us", BigInteger, nullable=False, comment="Instant of the frame (us)."),
    Column("sha256", LargeBinary, nullable=False, comment="SHA-256 of the picture (32 bytes), by which it is stored."),
    Column("bytes", Integer, nullable=False, comment="Size of the picture (bytes)."),
    Column("brightness", Integer, comment="Mean brightness of the frame, in hundredths; null: unknown."),
    Column("kept_at_us", BigInteger, nullable=False, comment="When it was kept (us, server's clock)."),
    Index("ix_kept_frames_camera", "camera", "at_us"),
    Index("ix_kept_frames_sha256", "sha256"),
    comment="Frames whose picture is kept. A picture is stored once, and goes with the last row that names it.",
)

gone_frames = Table(
    "gone_frames",
    metadata,
    Column(
        "key",
        BigInteger().with_variant(Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
        comment="63 bits that stand for its camera and its SHA-256.",
    ),
    Column("gone_day", Integer, nullable=False, comment="Day of Unix time when it went (days, server's clock)."),
    comment="Frames whose picture was kept and is no longer, for some weeks: who asks for one learns that it was.",
)

leaving_frames = Table(
    "leaving_frames",
    metadata,
    Column("sha256", LargeBinary, primary_key=True, comment="SHA-256 of the picture (32 bytes)."),
    comment="Pictures that no row names any more, until they are deleted from their place.",
)

frame_sites = Table(
    "frame_sites",
    metadata,
    Column("site", Key, primary_key=True, comment="Site."),
    Column("told_at_us", BigInteger, comment="When the log said that no picture of it is kept (us); null: not yet."),
    comment="Sites that are older than kept frames: none of theirs is kept until the settings say so.",
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
