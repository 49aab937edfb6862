"""Stage before a frame: what a changed policy no longer asks for ends with its last sight."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from policies.events import Fact
from policies.site.site_policy import CameraPolicy
from policies.tracking import facts
from policies.tracking.track import Closed, Track, Visit


def retire(
    policy: CameraPolicy, tracks: tuple[Track, ...]
) -> tuple[tuple[Track, ...], Sequence[tuple[str, Closed]], Sequence[Fact]]:
    """The tracks and visits that the policy still asks for, the visits that it ended (with their targets), and the
    facts of those and of the crossings of dropped tracks.
    """
    if all(t.target in policy.targets and all(_is_asked_for(policy, t, v) for v in t.visits) for t in tracks):
        return tracks, (), ()  # nearly always
    kept: list[Track] = []
    closed: list[tuple[str, Closed]] = []
    settled: list[Fact] = []
    for track in tracks:
        asked = tuple([visit for visit in track.visits if _is_asked_for(policy, track, visit)])
        ended = [visit.end(visit.last_us, None, 1.0) for visit in track.visits if visit not in asked]
        closed += [(track.target, visit) for visit in ended if track.confirmed]
        settled += [facts.left(track, each, "unknown") for each in ended if each.visit.counted]
        if track.target in policy.targets:
            kept.append(replace(track, visits=asked))
        elif track.confirmed:
            settled += [facts.crossed(track, crossing) for crossing in track.crossed]
    return tuple(kept), closed, settled


def _is_asked_for(policy: CameraPolicy, track: Track, visit: Visit) -> bool:
    sector = policy.by_name.get(visit.sector)
    return sector is not None and track.target in sector.rules.targets
