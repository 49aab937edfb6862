"""A version of a site policy that somebody proposed, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BY_FILE = "the file"
"""Who put in force, or took back, what was found so in the site's file: somebody at the file, or a process that was
killed between the file and the database. It is no user's name: it has a space.
"""

Standing = Literal["proposed", "in force", "replaced", "taken back"]


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A whole file (`text`), made from the file as it was then (`before_text`; None: the site had none).

    Instants are us. The store gives `number` and `made_at_us`.
    """

    number: int
    site: str
    text: str
    digest: str
    before_digest: str | None
    before_text: str | None
    author: str
    why: str | None
    made_at_us: int
    in_force_at_us: int | None = None
    in_force_by: str | None = None
    taken_back_at_us: int | None = None
    taken_back_by: str | None = None

    @property
    def newest_step(self) -> tuple[int, str]:
        """When (us) it was taken back, else put in force, else proposed, and by whom."""
        if self.taken_back_at_us is not None:
            return self.taken_back_at_us, self.taken_back_by or ""
        if self.in_force_at_us is not None:
            return self.in_force_at_us, self.in_force_by or ""
        return self.made_at_us, self.author

    def standing(self, text_in_force: str | None) -> Standing:
        """What it is, where the site's file is `text_in_force`."""
        if self.in_force_at_us is None:
            return "proposed"
        if self.taken_back_at_us is not None:
            return "taken back"
        return "in force" if self.text == text_in_force else "replaced"
