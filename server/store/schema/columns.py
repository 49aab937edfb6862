"""The tables' common metadata, and types of columns that both databases have."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData, Text

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
