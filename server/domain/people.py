"""Users of the console: their roles by site, what a name and a password must be, and lines of the audit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from server.domain.errors import Unprocessable

Role = Literal["viewer", "operator"]
"""A viewer reads. An operator also annotates and changes policies."""

ROLES: Final[tuple[Role, ...]] = ("viewer", "operator")

EVERY_SITE = "*"
"""The site of a grant that covers every site."""

COMMAND_LINE = "command line"
"""The author of what a command did. It is no user's name: it has a space."""

LOCAL = "local"
"""Who asks on the server's own machine before the first user is added; no user has this name."""

LEAST_PASSWORD, _LONGEST_PASSWORD = 10, 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")


@dataclass(frozen=True, slots=True)
class User:
    """A user: `roles` gives the role by site, where EVERY_SITE stands for every site."""

    name: str
    roles: Mapping[str, Role]
    created_at_us: int


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that goes on: the name of its user, and the user's role by site."""

    user: str
    roles: Mapping[str, Role]


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what, when (us), to what. `site` None: to none, or to all."""

    number: int
    at_us: int
    author: str
    what: str
    site: str | None
    subject: str | None
    detail: str | None


def check_name(name: str) -> None:
    """Raises Unprocessable for what no user may be called."""
    if not is_name(name):
        raise Unprocessable(
            "a user's name is 1 to 63 lower-case letters, digits, . _ @ or -, begins with a letter or digit, and is "
            f"not `{LOCAL}`; it cannot be {name[:80]!r}"
        )


def is_name(name: str) -> bool:
    """Whether a user may have this name."""
    return _NAME.fullmatch(name) is not None and name != LOCAL


def check_password(name: str, password: str) -> None:
    """Raises Unprocessable for a password that this user may not have. Its message does not hold the password."""
    if len(password) < LEAST_PASSWORD:
        raise Unprocessable(f"the password has {len(password)} characters; at least {LEAST_PASSWORD} are needed")
    if len(password) > _LONGEST_PASSWORD:
        raise Unprocessable(f"the password has {len(password)} characters; at most {_LONGEST_PASSWORD} are taken")
    bare = password.strip().casefold()
    if bare in (name, name * 2, name[::-1]) or len(set(bare)) < 3:
        raise Unprocessable("the password is the user's name, or repeats one or two characters: choose another")


def shown_roles(roles: Mapping[str, Role]) -> str:
    """Roles by site in words, such as `operator of yard, viewer of every site`."""
    named = [(role, "every site" if site == EVERY_SITE else site) for site, role in sorted(roles.items())]
    return ", ".join(f"{role} of {site}" for role, site in named) or "no site"
