"""What is remembered of a thing: its track, its visits to sectors, the lines that it crossed.

Frames are sparse, so an entry or an exit lies somewhere between two of them, and half of that time is its uncertainty.
Where the track was seen on both sides of the border, the moment is where the straight way between its two feet meets
the border. Where it came or went by the frame's own edge, the moment is when its box met that edge at the speed it
had. Otherwise something hid it, and the moment lies halfway.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from policies.events import Evidence
from policies.fusion.judgement import Candidate
from policies.geometry import Point
from policies.observation import Box, Observation
from policies.scene.nuisances import Places
from policies.tracking.motion import Motion, edge_us, frame_side


class Visit(msgspec.Struct, frozen=True):
    """A track's stay in one sector.

    It began at `entry_us`, give or take `entry_slack_us`, and was seen inside from `first_us` to `last_us`.
    `crossed_in`: it was seen outside before. `came_by`: the side of the frame that its first box touched. Since
    `out_us` (None: not yet) it is seen outside; it went out at `gone_us`. `counted`: it has lasted `dwell_s`, and
    `entered` is written. `lingered`: so is `lingered`. `way_in`, `way_out`: the sides by which its course came in and
    went out, `heading`: the way it went when it came in (None: not known yet). `deep`: its track does not stand on the
    border.
    """

    sector: str
    entry_us: int
    entry_slack_us: int
    first_us: int
    last_us: int
    evidence: Evidence
    came_by: str
    last_box: Box | None
    crossed_in: bool = False
    out_us: int | None = None
    gone_us: int | None = None
    counted: bool = False
    lingered: bool = False
    way_in: str | None = None
    way_out: str | None = None
    heading: str | None = None
    deep: bool = True

    def seen_inside(self, at_us: int, box: Box | None, motion: Motion | None, aspect: float) -> Visit:
        """The visit after one more frame that shows it. Each frame refines the entry time until the visit counts."""
        entry_us = self.entry_us
        if not (self.crossed_in or self.counted):
            ago_us = edge_us(box, self.came_by, motion, aspect, coming=True)
            if ago_us is not None:
                entry_us = min(self.first_us, max(self.first_us - 2 * self.entry_slack_us, at_us - ago_us))
        return replace(self, entry_us=entry_us, last_us=at_us, last_box=box, out_us=None, gone_us=None, way_out=None)

    def end(self, missed_us: int | None, motion: Motion | None, aspect: float) -> Closed:
        """The visit that is over, with when it ended, given the first frame that did not show the track."""
        if self.out_us is not None and self.gone_us is not None:
            return Closed(self, self.gone_us, (self.out_us - self.last_us) // 2)
        assert missed_us is not None
        half_us = (missed_us - self.last_us) // 2
        ahead_us = edge_us(self.last_box, frame_side(self.last_box), motion, aspect, coming=False)
        end_us = min(missed_us, self.last_us + (half_us if ahead_us is None else ahead_us))
        return Closed(self, end_us, half_us)

    def lasted_us(self, end_us: int, needed_us: int) -> int:
        """How long it lasted until `end_us`. Time in which nothing was seen on one side counts for half of
        `needed_us` at most.
        """
        before_us, after_us = self.first_us - self.entry_us, end_us - self.last_us
        if not self.crossed_in:
            before_us = min(before_us, needed_us // 2)
        if self.out_us is None:
            after_us = min(after_us, needed_us - needed_us // 2)
        return before_us + self.last_us - self.first_us + after_us


class Closed(msgspec.Struct, frozen=True):
    """A visit that is over. A track keeps it for a while, because the next visit may make it a movement."""

    visit: Visit
    end_us: int
    slack_us: int


class Crossed(msgspec.Struct, frozen=True):
    """A line crossed, without an event yet: a step back in the next second undoes it."""

    line: str
    direction: str
    at_us: int
    slack_us: int
    evidence: Evidence


class Course(msgspec.Struct, frozen=True, array_like=True):
    """How far something that moves has gone: since it was seen first at `x, y`, and along a way of `way`, the sum of
    its steps, the last of which ended at `last_x, last_y` at `last_us`. Distances in frame heights.
    `goes_on`: its thing seems to go on as another track.
    """

    x: float
    y: float
    way: float
    last_x: float
    last_y: float
    last_us: int
    goes_on: bool = False


class Track(msgspec.Struct, frozen=True):
    """One thing through time. `motion` and `box` are None for a track made from labels alone.

    `trail` holds its latest feet `(at_us, x, y)`, `past` some of its latest boxes. The bits of `hit_history` say which
    of its latest frames decidedly showed it (the lowest bit is the newest frame); `confirmed` once `min_hits` of them
    did and, of the target `moving`, its `course` has led somewhere. `named` is the target of the detector's box that
    covered something that moves; tracks of other targets have neither. `misses` counts the latest frames in a row that
    did not show it at all, `missed_us` is the instant of the first of them.
    """

    id: str
    target: str
    born_us: int
    seen_us: int
    hit_history: int = msgspec.field(name="marks")
    best: Evidence
    confirmed: bool = msgspec.field(default=False, name="firm")
    misses: int = msgspec.field(default=0, name="blanks")
    motion: Motion | None = None
    box: Box | None = None
    missed_us: int | None = None
    trail: tuple[tuple[int, float, float], ...] = ()
    visits: tuple[Visit, ...] = ()
    closed: tuple[Closed, ...] = ()
    crossed: tuple[Crossed, ...] = ()
    past: tuple[tuple[int, Box], ...] = ()
    course: Course | UnsetType = UNSET
    named: str | UnsetType = UNSET

    @property
    def label(self) -> str:
        """What its events say that it is."""
        return self.named or self.target


class Frame(msgspec.Struct, frozen=True):
    """The frame at hand, as all stages need it.

    `previous_us` is the instant of the last frame that could be judged. `blind` holds the targets that no sector could
    decide in this one: their tracks and presences wait. `aspect` is the frame's width over its height. `places` are
    those where things that go nowhere move. `is_doubted`: the view looks like that of a camera that was turned.
    """

    seen: Observation
    at_us: int
    previous_us: int | None
    blind: frozenset[str]
    aspect: float
    places: Places = ()
    is_doubted: bool = False


class Sight(msgspec.Struct, frozen=True):
    """What a frame shows of one track: the candidate, and from it the track's motion, the ground it stands on (both
    None without a box) and the sectors it stands in.
    """

    candidate: Candidate
    motion: Motion | None
    ground: Point | None
    sectors: tuple[str, ...]


Match = tuple[Track | None, Sight | None]
"""A track and the sight that continues it. No track: the sight begins one. No sight: the frame does not show it."""


class Followed(msgspec.Struct, frozen=True):
    """A track after a frame, its visits and crossings still as before.

    `before_us` is when it was seen last before this frame, None for a new one. `evidence` shows what happens to it in
    this frame. `is_gone`: it is given up.
    """

    track: Track
    sight: Sight | None = None
    before_us: int | None = None
    evidence: Evidence | None = None
    is_gone: bool = False
