"""The replicas on this database, and which ensemble they are to serve."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Table, Text

from server.store.schema.columns import Key, Number, metadata

generations = Table(
    "generations",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False, comment="1, 2, 3, ... in order."),
    Column("models", Text, nullable=False, comment="Names of the models to serve, separated by commas."),
    Column("ensemble", Key, nullable=False, comment="Digest of their ensemble, as the replica that was asked has it."),
    Column("instead_of", Text, nullable=False, comment="Models of the settings of that replica at that time."),
    Column("author", Text, nullable=False, comment="Who asked; empty: the replica itself, at its start."),
    Column("instance", Key, nullable=False, comment="The replica that was asked."),
    Column("release", Text, nullable=False, comment="Its release of Sectorwatch."),
    Column("asked_at_us", BigInteger, nullable=False, comment="When (us, server's clock)."),
    Column(
        "stage",
        Key,
        nullable=False,
        comment="asked: replicas load and check it; wanted: all are to serve it, if it is the newest of these; "
        "refused: one replica did not take it.",
    ),
    Column("detail", Text, nullable=False, comment="Why it was refused; else empty."),
    CheckConstraint("stage IN ('asked', 'wanted', 'refused')", name="stage"),
    comment="Choices of the ensemble for all replicas. A change of the settings while one replica runs is one, too.",
)

replicas = Table(
    "replicas",
    metadata,
    Column("name", Key, primary_key=True, comment="Name of the replica: the setting `instance`."),
    Column("run", Key, nullable=False, comment="Differs for each start of it."),
    Column("started_at_us", BigInteger, nullable=False, comment="When it started (us, its clock)."),
    Column("seen_at_us", BigInteger, nullable=False, comment="When it last said that it lives (us, its clock)."),
    Column("alive_until_us", BigInteger, nullable=False, comment="It is gone after this, if it says no more (us)."),
    Column("generation", BigInteger, comment="The generation that it serves; null: none yet."),
    Column("ensemble", Key, comment="Digest of the ensemble that it serves; null: none yet."),
    Column("models", Text, nullable=False, comment="Its models, separated by commas; empty: none yet."),
    Column("answered", BigInteger, comment="The newest generation that it has ready, or has refused; null: none."),
    Column("fault", Text, comment="Why it refused that one; null: it has it ready."),
    Column("upkeep_since_us", BigInteger, comment="Since when it does the upkeep for all (us); null: it does not."),
    Column("sites_place", Text, comment="Where the site policies are by which it judges: `database`, or a folder."),
    Column("sites_digest", Key, comment="Digest of the policies of that folder; empty: they are in the database."),
    Column("sites_since_us", BigInteger, comment="Since when it judges by these (us, its clock)."),
    comment="Server processes on this database. One that stops in order takes its row away.",
)
