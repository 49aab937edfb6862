"""Bursts as versions before 0.3 stored them, until the server has converted them."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Float, ForeignKey, Index, Integer, Table, Text

from server.store.schema.columns import Key, metadata

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
