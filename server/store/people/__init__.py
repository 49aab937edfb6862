"""Who may ask and what they did: tokens, users with their sessions, and the audit."""

from server.store.people.audit import Audit
from server.store.people.tokens import Tokens
from server.store.people.users import Users

__all__ = ["Audit", "Tokens", "Users"]
