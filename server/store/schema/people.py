"""Who signs in, what they may do and did, and the policies of sites that they wrote."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from server.store.schema.columns import Key, Number, metadata

users = Table(
    "users",
    metadata,
    Column("name", Key, primary_key=True, comment="Name with which the user signs in."),
    Column("hash", Text, nullable=False, comment="Argon2 hash of the password, with its parameters."),
    Column(
        "epoch", Integer, nullable=False, comment="Sessions of another epoch are over. Each removal, say, raises it."
    ),
    Column("created_at_us", BigInteger, nullable=False, comment="When the user was added (us, server's clock)."),
    Column("removed_at_us", BigInteger, comment="When the user was removed (us); null: may sign in."),
    comment="Users of the console. The row of a removed one stays: removing the last does not open the console again.",
)

grants = Table(
    "grants",
    metadata,
    Column("name", Key, ForeignKey("users.name"), primary_key=True, comment="User."),
    Column("site", Key, primary_key=True, comment="The site that it covers; *: every site."),
    Column("role", Key, nullable=False, comment="viewer (reads) or operator (also annotates and changes policies)."),
    CheckConstraint("role IN ('viewer', 'operator')", name="role"),
    comment="What users may do, by site.",
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", LargeBinary, primary_key=True, comment="SHA-256 of its secret (32 bytes). The secret is not stored."),
    Column("name", Key, ForeignKey("users.name"), nullable=False, comment="User."),
    Column("epoch", Integer, nullable=False, comment="The user's epoch at its begin."),
    Column("created_at_us", BigInteger, nullable=False, comment="When it began (us, server's clock)."),
    Column("seen_at_us", BigInteger, nullable=False, comment="When it was last used (us), to the minute."),
    Column("expires_at_us", BigInteger, nullable=False, comment="When it ends, however often it is used (us)."),
    Column("ended_at_us", BigInteger, comment="When its user signed out (us); null: has not."),
    comment="Sessions of the console's users, until they are over.",
)

attempts = Table(
    "attempts",
    metadata,
    Column("name", Key, primary_key=True, comment="Name that was given, of a user or not."),
    Column("failures", Integer, nullable=False, comment="Wrong passwords since the last right one."),
    Column("failed_at_us", BigInteger, nullable=False, comment="When the last one was given (us, server's clock)."),
    Column("blocked_until_us", BigInteger, nullable=False, comment="No password is checked before (us)."),
    comment="Failed attempts to sign in. A name that no user has is treated alike, so it cannot be told from others.",
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("purpose", Key, primary_key=True, comment="What it signs: cookies."),
    Column("key", LargeBinary, nullable=False, comment="Random bytes, secret."),
    Column("made_at_us", BigInteger, nullable=False, comment="When it was made (us, server's clock)."),
    comment="Keys that all servers of this database share.",
)

audit = Table(
    "audit",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ... in the order in which it was done."),
    Column("at_us", BigInteger, nullable=False, comment="When (us, server's clock)."),
    Column("author", Key, nullable=False, comment="Who did it: a user; `command line`; `token` and its id."),
    Column("what", Key, nullable=False, comment="What was done, such as signed_in, added_user, annotated."),
    Column("site", Key, comment="Site that it concerns; null: none, or all."),
    Column("subject", Text, comment="What it was done to: an event, a user, a version of a policy."),
    Column("detail", Text, comment="More, in words."),
    Index("ix_audit_site", "site", "number"),
    comment="Every change that people made, and who signed in or failed to. Lines go with age, by retention.",
)

policy_versions = Table(
    "policy_versions",
    metadata,
    Column("number", Number, primary_key=True, comment="1, 2, 3, ... in the order in which they were proposed."),
    Column("site", Key, nullable=False, comment="Site."),
    Column("text", Text, nullable=False, comment="The site's file (TOML), with its comments."),
    Column("digest", Key, nullable=False, comment="Digest of the policy that the text describes."),
    Column("before_digest", Key, comment="Digest of the policy from which it was made; null: the site had none."),
    Column("before_text", Text, comment="The site's file as it was when it was proposed; null: the site had none."),
    Column("author", Key, nullable=False, comment="Who proposed it: a user, or `command line`."),
    Column("why", Text, comment="Why, in that person's words."),
    Column("made_at_us", BigInteger, nullable=False, comment="When it was proposed (us, server's clock)."),
    Column("in_force_at_us", BigInteger, comment="When it was put in force (us); null: it is a proposal."),
    Column("in_force_by", Key, comment="Who put it in force; `the file`: it was found in the site's file."),
    Column("taken_back_at_us", BigInteger, comment="When it was taken back (us); null: it was not."),
    Column("taken_back_by", Key, comment="Who took it back; `the file`: its site's file was found to be as before."),
    Column("judges", Integer, comment="1: it judges its site's bursts, where sites are in the database; else null."),
    Index("ix_policy_versions_site", "site", "number"),
    Index("ix_policy_versions_judges", "site", "judges", unique=True),
    comment="Versions of site policies that people wrote. None changes or goes; another one takes its place.",
)
