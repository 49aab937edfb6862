"""Several policies over the same frames, exactly as each alone, while what is the same for some is worked out once.

Policies that are tried on a past differ in little. Those that judge by the same rules share every judgement; and those
that follow by the same rules, stand at the same state and judged a frame to the same, share what comes of it: their
events differ in their names only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from policies.event_builder import in_order, with_policy
from policies.events import Event
from policies.fold import State, advance_judged, check_order, initial_state, remembered
from policies.fusion.judge import Piles, relevant_judgement, without_known
from policies.fusion.judgement import NOTHING, Judgement
from policies.fusion.voters import voters_of
from policies.observation import EnsembleInfo, Observation
from policies.sensitivity import Sensitivity
from policies.site.rules import Movement, Presence, Rules
from policies.site.schedule import Place
from policies.site.site_policy import CameraPolicy


class Judges:
    """The judgement of each of several policies of one camera."""

    def __init__(self, policies: Sequence[CameraPolicy]) -> None:
        self._policies = list(policies)
        self._is_scheduled = any(policy.scheduled for policy in policies)
        self._kinds, self._kind = _kinds(policies, _judging)
        self._plain, plain = _kinds(self._kinds, lambda policy: replace(policy, place=Place(), suppressions=()))
        self._plain_of = [plain[id(kind)] for kind in self._kinds]
        self.nothing: Sequence[Judgement] = (NOTHING,) * len(policies)
        self._hearing: _Hearing | None = None

    def in_force(self, seen: Observation) -> list[CameraPolicy]:
        """What each policy says for the time of a frame."""
        if not self._is_scheduled:
            return self._policies
        return [policy.in_force(seen.at_us, seen.brightness) for policy in self._policies]

    def gists(self, in_force: Sequence[CameraPolicy], seen: Observation) -> Sequence[Judgement]:
        """What `relevant_judgement` gives for each of the policies in force, in their order; equal ones are one object.

        `nothing` itself where no policy makes anything of the frame.
        """
        if self._hearing is None or self._hearing.ensemble_info is not seen.ensemble_info:
            self._hearing = _Hearing(self._plain, seen.ensemble_info)
        hearing = self._hearing.of(seen)
        if not hearing:
            return self.nothing
        piles: Piles = {}
        plain = {place: relevant_judgement(self._plain[place], seen, piles) for place in hearing}
        different = [NOTHING]
        for place, kind in zip(self._plain_of, self._kinds, strict=True):
            judged = plain.get(place, NOTHING)
            if kind.suppressions and judged.candidates:
                judged = self._without_known(kind, seen, judged)
            different.append(next((one for one in different if one == judged), judged))
        return [different[1 + self._kind[id(policy)]] for policy in in_force]

    def _without_known(self, kind: CameraPolicy, seen: Observation, judged: Judgement) -> Judgement:
        if voters_of(kind, seen.ensemble_info).silence_means_absent(seen):
            return without_known(kind, seen, judged)
        return relevant_judgement(kind, seen)


class Together:
    """The folds of several policies over one camera's frames, side by side."""

    def __init__(self, policies: Sequence[CameraPolicy]) -> None:
        self._judges = Judges(policies)
        _, self._follower = _kinds(policies, _following)
        self._cohorts: list[tuple[State, list[int]]] = [(initial_state(), list(range(len(policies))))]

    def advance(self, seen: Observation) -> list[tuple[int, tuple[Event, ...]]]:
        """What the policies tell of one more frame: the place of each that tells something, and its events."""
        first = self._cohorts[0][0]
        check_order(first, seen)
        frames, is_known = remembered(first.frames, seen.frame_sha256)
        if is_known:
            repeated = {"last_at_us": seen.at_us, "last_key": (seen.burst_id, seen.index), "frames": frames}
            self._cohorts = [(replace(state, **repeated), places) for state, places in self._cohorts]
            return []
        in_force = self._judges.in_force(seen)
        gists = self._judges.gists(in_force, seen)
        if gists is self._judges.nothing and len(self._cohorts) == 1 and first.is_empty:  # most frames
            self._cohorts[0] = State(seen.at_us, (seen.burst_id, seen.index), frames, seen.at_us), self._cohorts[0][1]
            return []
        told: list[tuple[int, tuple[Event, ...]]] = []
        after: list[tuple[State, list[int]]] = []
        for state, places in self._cohorts:
            for places_alike in self._alike(state, places, in_force, gists):
                place = places_alike[0]
                policy = in_force[place]
                new, events = advance_judged(policy, state, seen, gists[place], frames)
                _join(after, new, places_alike)
                if events:
                    told += [(one, _told_by(in_force[one], policy, events)) for one in places_alike]
        self._cohorts = after
        return told

    def _alike(
        self, state: State, places: list[int], in_force: Sequence[CameraPolicy], gists: Sequence[Judgement]
    ) -> list[list[int]]:
        """The policies that stand at one state, by what becomes of it."""
        if len(places) == 1 or (state.is_empty and all(gists[place] is NOTHING for place in places)):
            return [places]
        alike: dict[tuple[int, int], list[int]] = {}
        for place in places:
            alike.setdefault((self._follower[id(in_force[place])], id(gists[place])), []).append(place)
        return list(alike.values())


def _join(cohorts: list[tuple[State, list[int]]], state: State, places: list[int]) -> None:
    """Add policies that stand at this state; where nothing is there, many come to the same one."""
    if state.is_empty:
        for other, there in cohorts:
            if other == state:
                there += places
                return
    cohorts.append((state, list(places)))


def _told_by(policy: CameraPolicy, teller: CameraPolicy, events: tuple[Event, ...]) -> tuple[Event, ...]:
    if policy.digest == teller.digest:
        return events
    return in_order([with_policy(event, policy.digest) for event in events])


class _Hearing:
    """Which of several policies may make something of a frame, found by how loud each model is at most.

    A policy hears or does not as scores pass its thresholds; so all frames with scores between the same thresholds of
    all policies are heard by the same ones.
    """

    def __init__(self, policies: Sequence[CameraPolicy], ensemble_info: EnsembleInfo) -> None:
        self.ensemble_info = ensemble_info
        benches = [voters_of(policy, ensemble_info) for policy in policies]
        self._always = [place for place, bench in enumerate(benches) if not bench.can_say_no]
        self._sometimes = [(place, benches[place]) for place in range(len(benches)) if benches[place].can_say_no]
        dials: dict[tuple[str, frozenset[str]], set[float]] = {}
        for _, bench in self._sometimes:
            for model, classes, least in bench.thresholds():
                dials.setdefault((model, classes), set()).add(least)
        self._dials = [(model, classes, sorted(leasts)) for (model, classes), leasts in dials.items()]
        self._every = list(range(len(policies)))
        self._found: dict[tuple[int, ...], list[int]] = {}

    def of(self, seen: Observation) -> list[int]:
        """The places of the policies whose judgement is not known to be NOTHING."""
        answers = seen.answers
        ranks: list[int] = []
        for model, classes, leasts in self._dials:
            said = answers.get(model)
            if said is None:
                return self._every
            top = -1.0
            for one in said:
                if one.score > top and one.label in classes:
                    top = one.score
            ranks.append(0 if top < 0 else bisect_right(leasts, top))
        key = tuple(ranks)
        found = self._found.get(key)
        if found is None:
            hear = [
                place for place, bench in self._sometimes if any(bench.may_be_present(t, answers) for t in bench.models)
            ]
            found = self._found[key] = sorted([*self._always, *hear])
        return found


def _kinds(
    policies: Sequence[CameraPolicy], of: Callable[[CameraPolicy], CameraPolicy]
) -> tuple[list[CameraPolicy], dict[int, int]]:
    """One policy of each kind, those of schedules included, and the kind of each policy by its identity."""
    kinds: dict[bytes, int] = {}
    found: list[CameraPolicy] = []
    kind: dict[int, int] = {}
    for policy in _parts(policies):
        rules = of(policy)
        # The order of targets is that of candidates and tracks, and a deterministic encoding does not tell it.
        name = msgspec.json.encode((list(policy.targets), rules), order="deterministic")
        kind[id(policy)] = kinds.setdefault(name, len(found))
        if len(kinds) > len(found):
            found.append(rules)
    return found, kind


def _parts(policies: Sequence[CameraPolicy]) -> Iterator[CameraPolicy]:
    for policy in policies:
        yield policy
        yield from (entry.policy for entry in policy.scheduled)


def _judging(policy: CameraPolicy) -> CameraPolicy:
    """The policy without all that says nothing of how a frame is judged."""
    bare = replace(policy, digest="", lines=(), apart=frozenset(), scheduled=())
    return _with_rules(bare, lambda rules: replace(rules, movement=Movement(), presence=Presence()))


def _following(policy: CameraPolicy) -> CameraPolicy:
    """The policy without all that only says how a frame is judged."""
    bare = replace(policy, digest="", place=Place(), suppressions=(), scheduled=())
    return _with_rules(bare, lambda rules: replace(rules, sensitivity=Sensitivity(), min_score={}, by_target={}))


def _with_rules(policy: CameraPolicy, change: Callable[[Rules], Rules]) -> CameraPolicy:
    sectors = tuple(replace(sector, rules=change(sector.rules)) for sector in policy.sectors)
    return replace(policy, rules=change(policy.rules), sectors=sectors)
