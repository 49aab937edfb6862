"""Bursts with all of their frames, what many of them share, and the state that their camera is in."""

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
    Column(
        "state",
        LargeBinary,
        nullable=False,
        comment="policies.fold.State at that instant, as server.store.compact writes it; before 0011 its JSON.",
    ),
    comment="States that a late burst rewinds to, and from which the past is asked. Thinned with age.",
)
