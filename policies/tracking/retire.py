"""Stage before a frame: what a changed policy no longer asks for ends with its last sight."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from policies.events import Fact
from policies.site.site_policy import CameraPolicy
from policies.tracking import facts
from policies.tracking.track import Closed, Track, Visit


class Retired(msgspec.Struct, frozen=True):
    """The tracks that the policy still asks for, the visits that it ended (with their targets), and the facts."""

    tracks: Sequence[Track]
    closed: Sequence[tuple[str, Closed]] = ()
    facts: Sequence[Fact] = ()


def retire(policy: CameraPolicy, tracks: Sequence[Track]) -> Retired:
    """Drop the tracks of targets, and end the visits to sectors, that the policy does not name."""
    if all(_is_all_asked_for(policy, track) for track in tracks):  # nearly always
        return Retired(tracks)
    kept: list[Track] = []
    closed: list[tuple[str, Closed]] = []
    settled: list[Fact] = []
    for track in tracks:
        ended = [_ended(visit) for visit in track.visits if not _is_asked_for(policy, track, visit)]
        closed += [(track.target, one) for one in ended if track.confirmed]
        settled += [facts.left(track, one) for one in ended if one.visit.counted]
        if track.target in policy.targets:
            kept.append(replace(track, visits=tuple(v for v in track.visits if _is_asked_for(policy, track, v))))
        elif track.confirmed:
            settled += [facts.crossed(track, crossing) for crossing in track.crossed]
    return Retired(kept, closed, settled)


def _is_asked_for(policy: CameraPolicy, track: Track, visit: Visit) -> bool:
    sector = policy.by_name.get(visit.sector)
    return sector is not None and track.target in sector.rules.targets


def _is_all_asked_for(policy: CameraPolicy, track: Track) -> bool:
    return track.target in policy.targets and all(_is_asked_for(policy, track, visit) for visit in track.visits)


def _ended(visit: Visit) -> Closed:
    return Closed(visit, *visit.end(visit.last_us, None, 1.0))
