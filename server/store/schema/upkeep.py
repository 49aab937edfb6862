"""What is no longer kept, how the database grows, who is watched, and who may ask."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint

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
