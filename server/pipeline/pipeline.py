"""The story of one burst, from decoded bytes to a committed answer, readable from top to bottom.

known? -> the ensemble, outside any transaction -> one turn of its camera: keep what was said, admit what is due,
rewind if anything is older than what the camera has advanced past, fold, settle -> commit -> the answer.

There is one way only: what is folded is read back from what was stored, so live, late and replay are the same
code over the same bytes. A burst from the future of the server's clock is kept but not admitted (`held`): one
such instant would make all that follows late. It is admitted by the next turn of its camera, or by
`release_held`, once the clock has caught up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from policies.fold import decode_state, initial_state
from policies.fusion.judgement import Judgement, judge
from policies.observation import Box, EnsembleInfo, Observation, Prediction
from policies.site.site_policy import SitePolicy
from server.domain.burst import Burst
from server.domain.clock import SECOND_US, Clock
from server.domain.errors import Unprocessable
from server.domain.image_info import brightness_of, size_of
from server.domain.records import Admitted, Checkpoint, Entry, Folded, KeptBurst, Known, Recorded
from server.domain.refold import refold
from server.pipeline.foretelling import Foretelling, Tell
from server.pipeline.response import Receipt
from server.pipeline.site_policies import Edition

log = logging.getLogger(__name__)

Answers = Mapping[str, tuple[Prediction, ...] | None]
Early = Callable[[Sequence[Answers]], None]

MAX_SKEW_S = 300.0
_UNKNOWN_SIZE = (4, 3)
_TELLS_NOTHING = (
    "they have the very bytes of earlier ones, as from a stuck camera or a short loop, or no model answers: "
    "`sectorwatch explain` tells which"
)


class Ensemble(Protocol):
    """Answers one entry per image, in order: model -> predictions, None for a model that did not answer.

    `early` is called meanwhile, in the caller's thread, with the answers to the first images as far as they are there;
    a model that looks at all images together is not among them. `only` is one model of it (None: all), or all within
    a time of one's own. Raises Unprocessable or TooLarge, with the index of the frame, for an image that cannot be
    judged.
    """

    @property
    def ensemble_info(self) -> EnsembleInfo: ...

    def only(self, model: str | None, within_s: float | None = ...) -> Ensemble: ...

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] = ..., early: Early | None = ...
    ) -> Sequence[Answers]: ...


class Turn(Protocol):
    """One camera's turn: see `server.store.turn`."""

    def known(self, burst_id: str) -> Known | None: ...
    def keep(self, entry: Entry) -> None: ...
    def admit(self, until_us: int) -> Admitted | None: ...
    def rewind(self, before_us: int) -> Checkpoint: ...
    def observations(self, after: Checkpoint) -> Iterator[Recorded]: ...
    def policy(self, digest: str) -> SitePolicy: ...
    def settle(self, after: Checkpoint, folded: Folded) -> None: ...


class Store(Protocol):
    """Where bursts are kept: see `server.store.store`."""

    def known(self, burst_id: str) -> Known | None: ...
    def kept(self, burst_id: str) -> KeptBurst: ...
    def held(self, until_us: int) -> Sequence[tuple[str, str]]: ...
    def head(self, site: str, camera: str) -> Checkpoint: ...
    def holds(self, event_ids: Iterable[str]) -> set[str]: ...
    def turn(self, site: str, camera: str) -> AbstractContextManager[Turn]: ...


class Sites(Protocol):
    def edition(self, site: str) -> Edition: ...


class Pipeline:
    """Judges bursts. Safe to use from several threads, and beside other processes on the same store.

    `committed` is called after each turn, when there may be something to deliver; `judged` with what each new
    burst's frames came to. `foretell` is told events before their burst is judged (None: they wait for it).
    `max_skew_s` is how far ahead of `clock` a burst may be before it is held.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        store: Store,
        sites: Sites,
        clock: Clock,
        *,
        committed: Callable[[], None] = lambda: None,
        judged: Callable[[Burst, Sequence[Judgement]], None] = lambda _burst, _judgements: None,
        foretell: Tell | None = None,
        max_skew_s: float = MAX_SKEW_S,
    ) -> None:
        self._ensemble = ensemble
        self._store = store
        self._sites = sites
        self._clock = clock
        self._committed = committed
        self._judgements_made = judged
        self._foretell = foretell
        self._max_skew_us = round(max_skew_s * SECOND_US)
        self._blind: set[tuple[str, str]] = set()

    @property
    def ensemble(self) -> str:
        """The digest of the ensemble in service."""
        return self._ensemble.ensemble_info.ensemble

    def process(self, burst: Burst) -> Receipt:
        """Judge a burst and keep everything that came of it; a burst that is known gets its answer again.

        Raises Unprocessable for an unknown site, an image that cannot be judged (with the frame's index), or a
        burst_id that was used for other frames; nothing is stored then.
        """
        if self._is_known(burst, self._store.known(burst.burst_id)):
            return Receipt(True, self._store.kept(burst.burst_id))
        foretelling = self._foretelling(burst)
        try:
            return self._taken_in(burst, self._judged(burst, foretelling))
        finally:
            if foretelling is not None and foretelling.told:
                foretelling.settle(self._store.holds(foretelling.told), self._clock())

    def _taken_in(self, burst: Burst, entry: Entry) -> Receipt:
        with self._store.turn(burst.site, burst.camera) as turn:
            known = self._is_known(burst, turn.known(burst.burst_id))
            if not known:
                turn.keep(entry)
                self._note_sight(burst, self._advance(turn))
        self._committed()
        return Receipt(known, self._store.kept(burst.burst_id))

    def release_held(self) -> int:
        """Admit the held bursts that the clock has caught up with; the number of cameras that advanced."""
        cameras = self._store.held(self._due_us())
        for site, camera in cameras:
            with self._store.turn(site, camera) as turn:
                self._advance(turn)
        if cameras:
            self._committed()
        return len(cameras)

    def _is_known(self, burst: Burst, known: Known | None) -> bool:
        if known is None:
            return False
        if known.digest != burst.digest:
            raise Unprocessable(f"burst_id {burst.burst_id} was already used for another burst")
        return True

    def _foretelling(self, burst: Burst) -> Foretelling | None:
        """For a burst that will advance its camera: neither late nor ahead of the clock."""
        if self._foretell is None or burst.frames[-1].at_us > self._due_us():
            return None
        head = self._store.head(burst.site, burst.camera)
        if head.at_us is not None and head.at_us >= burst.frames[0].at_us:
            return None
        policy = self._sites.edition(burst.site).policy.camera(burst.camera)
        state = initial_state() if head.state is None else decode_state(head.state)
        return Foretelling(policy, state, self._foretell)

    def _judged(self, burst: Burst, foretelling: Foretelling | None = None) -> Entry:
        """What the ensemble and the rules in force make of the burst."""
        edition = self._sites.edition(burst.site)
        policy = edition.policy.camera(burst.camera)
        ensemble_info = self._ensemble.ensemble_info

        def observed(answers: Sequence[Answers], since: int = 0) -> tuple[Observation, ...]:
            places = range(since, len(answers))
            return tuple(_observation(burst, index, ensemble_info, dict(answers[index])) for index in places)

        def early(answers: Sequence[Answers]) -> None:
            assert foretelling is not None
            foretelling.hear(observed(answers, foretelling.frames))

        images = [frame.image for frame in burst.frames]
        seen = observed(self._ensemble.answer(images, policy.crops, None if foretelling is None else early))
        judgements = [judge(policy, one) for one in seen]
        self._judgements_made(burst, judgements)
        return Entry(
            burst=burst,
            ensemble_info=ensemble_info,
            observations=seen,
            policy=edition.policy,
            policy_text=edition.text,
            decisions=msgspec.json.encode(judgements, order="deterministic"),
            received_at_us=self._clock(),
        )

    def _advance(self, turn: Turn) -> Folded | None:
        """Fold whatever is due: this burst, and held ones that the clock has caught up with."""
        admitted = turn.admit(self._due_us())
        if admitted is None:
            return None
        start = turn.rewind(admitted.oldest_us)
        folded = refold(turn.observations(start), start, turn.policy, admitted.newest_us)
        turn.settle(start, folded)
        return folded

    def _note_sight(self, burst: Burst, folded: Folded | None) -> None:
        """Say in the log when a camera's newest bursts begin to tell nothing, and when they tell something again."""
        if folded is None or folded.last_at_us != burst.frames[-1].at_us:
            return  # held, or late
        camera, fields = (burst.site, burst.camera), {"site": burst.site, "camera": burst.camera}
        is_blind = folded.seen_at_us is None or folded.seen_at_us < burst.frames[0].at_us
        if is_blind and camera not in self._blind:
            self._blind.add(camera)
            log.warning("frames tell nothing", extra=fields | {"burst": burst.burst_id, "cause": _TELLS_NOTHING})
        elif not is_blind and camera in self._blind:
            self._blind.discard(camera)
            log.info("frames tell something again", extra=fields | {"burst": burst.burst_id})

    def _due_us(self) -> int:
        return self._clock() + self._max_skew_us


def _observation(
    burst: Burst, index: int, ensemble_info: EnsembleInfo, answers: dict[str, tuple[Prediction, ...] | None]
) -> Observation:
    frame = burst.frames[index]
    return Observation(
        site=burst.site,
        camera=burst.camera,
        burst_id=burst.burst_id,
        index=index,
        at_us=frame.at_us,
        ensemble_info=ensemble_info,
        answers=answers,
        frame_sha256=frame.sha256,
        mask_digest=burst.mask_digest,
        uncertainty_s=burst.clock.error_s,
        size=size_of(frame.image) or _UNKNOWN_SIZE,
        brightness=brightness_of(frame.image),
    )
