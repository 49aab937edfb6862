"""Observations as rows: one for each label that a model gave, and one where it gave none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from policies.events import instant
from policies.observation import Prediction
from server.analysis.exports.stretches import Store, recorded_by_hour
from server.analysis.exports.tables import Row, Value
from server.domain.records import CameraHead, Recorded


def observation_rows(
    store: Store, cameras: Iterable[CameraHead], since_us: int | None, until_us: int | None
) -> Iterator[Row]:
    """The rows of `OBSERVATIONS` from `since_us` to before `until_us`, camera by camera, each in order of time."""
    for head in cameras:
        for hour in recorded_by_hour(store, head, since_us, until_us):
            for recorded in hour:
                yield from rows_of(recorded)


def rows_of(recorded: Recorded) -> Iterator[Row]:
    """The rows of one frame, model by model."""
    seen = recorded.observation
    frame = (
        seen.site,
        seen.camera,
        instant(seen.at_us),
        seen.uncertainty_s,
        seen.burst_id,
        seen.index,
        seen.frame_sha256,
        *seen.size,
        seen.brightness,
    )
    digests = (seen.ensemble_info.ensemble, recorded.policy, seen.mask_digest)
    for model, predictions in seen.answers.items():
        answered = predictions is not None
        for prediction in predictions or (None,):
            yield (*frame, model, answered, *_label(prediction), *digests)


def _label(prediction: Prediction | None) -> tuple[Value, ...]:
    """Label, score, box and sector; all None where there is no label."""
    if prediction is None:
        return (None,) * 7
    box = prediction.box or (None, None, None, None)
    return prediction.label, prediction.score, *box, prediction.sector
