"""Bearer tokens: their ids and the hashes of their secrets."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from server.domain.errors import Unknown
from server.domain.people import COMMAND_LINE, EVERY_SITE
from server.domain.records import Token
from server.store.engine import writing
from server.store.people.audit import add_line
from server.store.rows import Part
from server.store.schema import tokens


class Tokens(Part):
    """The tokens' half of `Store`."""

    def add_token(self, token_id: str, name: str, site: str, camera: str | None, hash: str) -> Token:
        """Store a new token. The caller keeps the secret; the store gets only its hash."""
        token = Token(token_id, name, site, camera, hash, self._clock(), None)
        with writing(self._engine, lock="tokens") as connection:
            connection.execute(insert(tokens), {field: getattr(token, field) for field in Token.__slots__})
            _note(connection, token, "token_added", token.created_at_us)
        return token

    def token(self, token_id: str) -> Token | None:
        """The token of this id, revoked or not."""
        row = self._row(select(tokens).where(tokens.c.id == token_id))
        return Token(*row) if row else None

    def list_tokens(self) -> Sequence[Token]:
        """All tokens, oldest first, revoked ones included."""
        return [Token(*row) for row in self._rows(select(tokens).order_by(tokens.c.created_at_us, tokens.c.id))]

    def revoke_token(self, token_id: str) -> None:
        """Revoke a token for good. Raises Unknown. Revoking it again changes nothing."""
        with writing(self._engine, lock="tokens") as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
            if row is None:
                raise Unknown(f"no token {token_id}")
            if row.revoked_at_us is None:
                now_us = self._clock()
                connection.execute(update(tokens).where(tokens.c.id == token_id).values(revoked_at_us=now_us))
                _note(connection, Token(*row), "token_revoked", now_us)

    def has_tokens(self) -> bool:
        """Whether a token was ever made. Revoking the last one does not open the server again."""
        return self._row(select(tokens.c.id).limit(1)) is not None


def _note(connection: Connection, token: Token, what: str, at_us: int) -> None:
    site = None if token.site == EVERY_SITE else token.site
    add_line(connection, at_us, COMMAND_LINE, what, site=site, subject=token.id, detail=token.name)
