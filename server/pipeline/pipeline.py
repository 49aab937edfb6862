"""The way of one burst, from decoded bytes to a committed answer.

known? -> the ensemble, outside any transaction -> one turn of the camera -> the answer

Where sites are in the database, another server may put another policy in force while a burst is judged. The turn sees
that, and the burst is judged again: what judges a burst is what is in force in its turn, on every server.

A turn keeps the observations, admits the bursts that are due, rewinds to before the oldest of them, folds, and
commits. Folding reads back what is stored, so a live burst, a late burst and a replay are the same code over the
same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple, Protocol

import msgspec

from policies.fusion.judge import judge
from policies.fusion.judgement import Judgement
from policies.observation import Box, EnsembleInfo, Observation, Prediction
from server.domain.burst import Burst
from server.domain.ensemble_protocol import Ensemble
from server.domain.errors import RetryLater, SectorwatchError, Unprocessable
from server.domain.pictures.image_info import brightness_of, size_of
from server.domain.records import Entry, Folded, KeptBurst, Known
from server.domain.times.clock import Clock
from server.domain.times.lateness import DEFAULT_LATENESS
from server.pipeline import advancing
from server.pipeline.advancing import Advancing
from server.pipeline.response import Receipt
from server.pipeline.site_policies import SitePolicies

log = logging.getLogger(__name__)

_MOST_JUDGINGS = 5
"""Of one burst, whose policy changes meanwhile."""
_UNKNOWN_SIZE = (4, 3)
_NO_INFORMATION = (
    "they have the very bytes of earlier ones, as from a stuck camera or a short loop, or no model answers: "
    "`sectorwatch explain` tells which"
)


class Turn(advancing.Turn, Protocol):
    """One camera's turn: see `server.store.turn`."""

    def known(self, burst_id: str) -> Known | None: ...
    def policy_version(self) -> int | None: ...
    def keep(self, entry: Entry) -> None: ...


class Store(Protocol):
    """Where bursts are kept: see `server.store.store`."""

    def known(self, burst_id: str) -> Known | None: ...
    def kept(self, burst_id: str) -> KeptBurst: ...
    def held(self, until_us: int) -> Sequence[tuple[str, str]]: ...
    def turn(self, site: str, camera: str) -> AbstractContextManager[Turn]: ...


class _Judged(NamedTuple):
    """A burst with what came of it by a policy: `version` is its number in the database; None: it is of a file.

    `seen` is what the ensemble saw besides the frames: crops by sector, and enlarged boxes.
    """

    entry: Entry
    version: int | None
    seen: tuple[tuple[tuple[str, Box], ...], tuple[Box, ...]]


class Pipeline:
    """Judges bursts. Safe to use from several threads, and from several processes on the same store.

    `committed` is called after each turn, when there may be something to deliver. `judged` is called with the
    judgements of each new burst's frames, once. `late_within_us`: see `Advancing`.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        store: Store,
        sites: SitePolicies,
        clock: Clock,
        *,
        committed: Callable[[], None] = lambda: None,
        judged: Callable[[Burst, Sequence[Judgement]], None] = lambda _burst, _judgements: None,
        late_within_us: Callable[[str], int] = DEFAULT_LATENESS.within_us,
    ) -> None:
        self._ensemble = ensemble
        self._store = store
        self._sites = sites
        self._clock = clock
        self._committed = committed
        self._judged = judged
        self._advancing = Advancing(store, clock, late_within_us=late_within_us)
        self._uninformative: set[tuple[str, str]] = set()

    @property
    def ensemble(self) -> str:
        """The digest of the ensemble in service."""
        return self._ensemble.ensemble_info.ensemble

    def enlarged_images(self, burst: Burst) -> int:
        """How many images detectors see of a burst besides its frames: the sectors that its site's policy enlarges."""
        with suppress(SectorwatchError):  # no usable policy: `process` says so, unless it knows the burst
            policy = self._sites.policy(burst.site).camera(burst.camera)
            return len(burst.frames) * len(policy.enlarged(self._ensemble.ensemble_info))
        return 0

    def process(self, burst: Burst) -> Receipt:
        """Judge a burst, and keep it with its result. A known burst gets its stored answer again.

        Raises Unprocessable for an unknown site, an image that cannot be judged (with the frame's index), or a
        burst_id that another burst has used. Raises RetryLater where the site's policy changes again and again. Nothing
        is stored then.
        """
        if _is_known(burst, self._store.known(burst.burst_id), judged=False):
            return Receipt(known=True, burst=self._store.kept(burst.burst_id), judged=False)
        judged = self._judge(burst)
        for _ in range(_MOST_JUDGINGS):
            known = self._take_turn(burst, judged)
            if known is not None:
                self._committed()
                return Receipt(known, self._store.kept(burst.burst_id), judged=True)
            judged = self._judge(burst, judged)
        what = f"the policy of site `{burst.site}` changed {_MOST_JUDGINGS} times while a burst was judged"
        raise RetryLater(f"{what}; nothing was stored", begun=True)

    def _take_turn(self, burst: Burst, judged: _Judged) -> bool | None:
        """Keep and fold a judged burst. Returns whether it was known: another request may have brought it meanwhile.

        None: another policy is in force than the one that judged it, and nothing is changed.
        """
        with self._store.turn(burst.site, burst.camera) as turn:
            if _is_known(burst, turn.known(burst.burst_id), judged=True):
                return True
            if judged.version is not None and turn.policy_version() != judged.version:
                return None
            turn.keep(judged.entry)
            self._log_information(burst, self._advancing.advance(turn, burst.site))
        return False

    def _judge(self, burst: Burst, before: _Judged | None = None) -> _Judged:
        """The burst with the ensemble's answers and the judgements of the present policy.

        `before`: as another policy judged it. The ensemble is asked again only if it has to see something else.
        """
        edition = self._sites.edition(burst.site)
        policy = edition.policy.camera(burst.camera)
        info = self._ensemble.ensemble_info
        crops, enlarged = policy.crops(info), policy.enlarged(info)
        seen = ((*crops.items(),), enlarged)
        if before is not None and before.seen == seen:
            observations = before.entry.observations
        else:
            answers = self._ensemble.answer([frame.image for frame in burst.frames], crops, enlarged)
            observations = tuple(_observation(burst, index, info, dict(answer)) for index, answer in enumerate(answers))
        judgements = [judge(policy, each) for each in observations]
        if before is None:
            self._judged(burst, judgements)
        entry = Entry(
            burst=burst,
            ensemble_info=info,
            observations=observations,
            policy=edition.policy,
            policy_text=edition.text,
            decisions=msgspec.json.encode(judgements, order="deterministic"),
            received_at_us=self._clock(),
        )
        return _Judged(entry, edition.version, seen)

    def _log_information(self, burst: Burst, folded: Folded | None) -> None:
        """Log when a camera's newest frames stop carrying information, and when they carry some again."""
        if folded is None or folded.last_at_us != burst.frames[-1].at_us:
            return  # held, or late
        camera, fields = (burst.site, burst.camera), {"site": burst.site, "camera": burst.camera}
        informs = folded.seen_at_us is not None and folded.seen_at_us >= burst.frames[0].at_us
        if not informs and camera not in self._uninformative:
            self._uninformative.add(camera)
            log.warning("frames tell nothing", extra=fields | {"burst": burst.burst_id, "cause": _NO_INFORMATION})
        elif informs and camera in self._uninformative:
            self._uninformative.discard(camera)
            log.info("frames tell something again", extra=fields | {"burst": burst.burst_id})


def _is_known(burst: Burst, known: Known | None, *, judged: bool) -> bool:
    if known is None:
        return False
    if known.digest != burst.digest:
        raise Unprocessable(f"burst_id {burst.burst_id} was already used for another burst", begun=judged)
    return True


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
