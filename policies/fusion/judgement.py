"""What the models' votes make of one frame: candidates, their votes and rulings, and what could not be decided."""

from __future__ import annotations

import msgspec

from policies.observation import Box
from policies.sensitivity import Ruling, Verdict, Vote

_PRESENT = Verdict.PRESENT


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that may be there: a box (several models' boxes on one thing), or a sector without one.

    `sectors` are those it stands in. `ruling` decides. `kept`: it would be present if every minimum score were much
    lower, which is too little to begin a track and enough to continue one. `parts` are the models' parts of the sum
    under `evidence`, in log-odds; other rules have none. `score` is the best score of its boxes or,
    without one, of the labels that voted for it. `suppressed` names the known nuisance it is taken for: it is absent
    then, whatever its votes.
    """

    target: str
    sectors: tuple[str, ...]
    votes: dict[str, Vote]
    ruling: Ruling
    kept: bool
    score: float
    box: Box | None = None
    suppressed: str | None = None
    parts: dict[str, float] = {}

    @property
    def present(self) -> bool:
        return self.ruling.verdict is _PRESENT


class Judgement(msgspec.Struct, frozen=True):
    """All candidates of one frame, and the (target, sector) pairs that could not be decided."""

    candidates: tuple[Candidate, ...]
    undecided: tuple[tuple[str, str], ...]


NOTHING = Judgement((), ())
"""The judgement of most frames: nothing was seen, and that is certain."""
