"""Bearer tokens: their ids and the hashes of their secrets."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select, update

from server.domain.errors import Unknown
from server.domain.records import Token
from server.store.engine import writing
from server.store.rows import Part
from server.store.schema import tokens


class Tokens(Part):
    """The tokens' half of `Store`."""

    def add_token(self, token_id: str, name: str, site: str, camera: str | None, hash: str) -> Token:
        """Store a new token. The caller keeps the secret; the store gets only its hash."""
        token = Token(token_id, name, site, camera, hash, self._clock(), None)
        with writing(self._engine, lock="tokens") as connection:
            connection.execute(insert(tokens), {field: getattr(token, field) for field in Token.__slots__})
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
            if connection.execute(select(tokens.c.id).where(tokens.c.id == token_id)).first() is None:
                raise Unknown(f"no token {token_id}")
            valid = update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at_us.is_(None))
            connection.execute(valid.values(revoked_at_us=self._clock()))

    def has_tokens(self) -> bool:
        """Whether a token was ever made. Revoking the last one does not open the server again."""
        return self._row(select(tokens.c.id).limit(1)) is not None
