"""Who may ask and what they did: tokens, users with their sessions, the policies that they wrote, and the audit."""

from server.store.people.audit import Audit
from server.store.people.tokens import Tokens
from server.store.people.users import Users
from server.store.people.versions import PolicyVersions, number_judging

__all__ = ["Audit", "PolicyVersions", "Tokens", "Users", "number_judging"]
