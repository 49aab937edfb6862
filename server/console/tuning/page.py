"""What the page shows, and its JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from server.analysis.tuning.controls import PlaceSettings
from server.analysis.tuning.figures import TriedFigures

State = Literal["today", "working", "done", "refused", "stopped", "empty"]
"""`today`: nothing is changed. `refused`: there can be no such policy, or no such stretch. `stopped`: the replay did
not go on. `empty`: no frame is stored.
"""


class TuneSector(msgspec.Struct, frozen=True):
    """A sector, what is looked for there, and the address of its page."""

    sector: str
    targets: tuple[str, ...]
    address: str


class TuneCamera(msgspec.Struct, frozen=True):
    """A camera with its sectors. `annotated` facts are known to be true or false."""

    site: str
    camera: str
    sectors: tuple[TuneSector, ...]
    annotated: int


class TunePlaces(msgspec.Struct, frozen=True):
    """The places whose settings can be tried, of every site that the viewer reads."""

    cameras: tuple[TuneCamera, ...]


class TuneModel(msgspec.Struct, frozen=True):
    """A model that votes there: the least score of a vote for, and its weight, today and as changed."""

    model: str
    score_today: float
    score: float
    weight: float


class Choice(msgspec.Struct, frozen=True):
    """Another state of the page: its name and address."""

    name: str
    address: str
    is_current: bool = False


class TunePicture(msgspec.Struct, frozen=True):
    """A kept picture of a happening, and what it shows in words."""

    sha256: str
    words: str


class TuneBallot(msgspec.Struct, frozen=True):
    """A model's vote, its score (null: it gave none) and the least score of a vote for."""

    model: str
    vote: str
    score: float | None
    least: float


class Strip(msgspec.Struct, frozen=True):
    """A happening that only one of the two policies reports.

    `what` says it in words, `why` what the other policy made of it; `ballots` are the votes there in the frame that
    came nearest. `events` are the kinds of its events that differ. `pictures` are those of its frames that are kept.
    """

    reported_by: Literal["today", "changed"]
    at: datetime
    at_local: str
    what: str
    why: str
    ballots: tuple[TuneBallot, ...]
    events: tuple[str, ...]
    pictures: tuple[TunePicture, ...]
    address: str


class TuneVersion(msgspec.Struct, frozen=True):
    """A version of the site's policy: a proposal, or what became of it, with its difference to the file of before."""

    number: int
    standing: Literal["proposed", "in force", "replaced", "taken back"]
    author: str
    why: str | None
    made_local: str
    diff: tuple[str, ...]


class Progress(msgspec.Struct, frozen=True):
    """How many hours of the stretch are replayed, and which, in words."""

    hours_done: int
    hours: int
    covered: str

    @property
    def percent(self) -> int:
        return 100 * self.hours_done // max(1, self.hours)


class Tune(msgspec.Struct, frozen=True):
    """Today's policy of a place beside a changed one, on a stretch of the past.

    `settings` are in force today, `tried` with the change, which `change` says in words (empty: nothing is changed).
    `figures` are those of the hours that are done. `differing` are the happenings that only one policy reports, nearest
    to the edge first, of `differ` in all. `diff` is the change of the site's file; settings of `overruled` places stay.
    `annotated_true` and `annotated_false` facts of the camera lie in the stretch; `left_out` annotated ones are no
    longer kept. `to_judge` is the newest event without an annotation. `address` is this state, `query` its query,
    `base_address` the same with nothing changed. `fingerprint` is that of the site's file.
    """

    site: str
    camera: str
    sector: str
    target: str | None
    targets: tuple[Choice, ...]
    zone: str
    since: datetime
    until: datetime
    since_local: str
    until_local: str
    stretches: tuple[Choice, ...]
    state: State
    message: str
    change: str
    settings: PlaceSettings
    tried: PlaceSettings
    models: tuple[TuneModel, ...]
    progress: Progress
    figures: TriedFigures | None
    differ: int
    differing: tuple[Strip, ...]
    diff: tuple[str, ...]
    overruled: tuple[str, ...]
    annotated_true: int
    annotated_false: int
    left_out: int
    to_judge: str | None
    version: TuneVersion | None
    may_change: bool
    address: str
    base_address: str
    query: str
    fingerprint: str
