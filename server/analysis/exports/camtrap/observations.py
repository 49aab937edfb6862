"""Rows of `observations`: of events, which are presences, or of media, which are frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from policies.events import Event, event_id, microseconds
from policies.observation import Box, Observation, Prediction
from policies.site.site_policy import SitePolicy
from server.analysis.exports.camtrap.columns import Row, written
from server.analysis.exports.camtrap.kinds import Kinds
from server.domain.records import LoggedEvent, Recorded

PolicyOf = Callable[[str], SitePolicy]
_Key = tuple[str, str, str | None, str]


def deployment_of(site: str, camera: str) -> str:
    """The name of a camera among all."""
    return f"{site}/{camera}"


def presence_rows(
    events: Iterable[LoggedEvent], kinds: Kinds, policy_of: PolicyOf, ends_us: Callable[[str, str], int]
) -> Iterator[Row]:
    """A row for each presence that ended, in order of its end; then for each that goes on.

    Begins of presences that went on when the export begins come first. `ends_us` gives the end of what is exported of a
    camera. A sector has one presence at a time, so what waits for its
    end is bounded.
    """
    open_: dict[_Key, Event] = {}
    for logged in events:
        event = logged.event
        key = (event.site, event.camera, event.sector, event.label)
        if event.kind == "presence_started":
            open_[key] = event
        elif event.kind == "presence_ended":
            open_.pop(key, None)
            yield _presence(event, microseconds(event.at), kinds, policy_of)
    for event in open_.values():
        end_us = max(ends_us(event.site, event.camera), microseconds(event.started_at))
        row = _presence(event, end_us, kinds, policy_of)
        yield {**row, "observationComments": "The presence goes on: its end is that of the export."}


def _presence(event: Event, end_us: int, kinds: Kinds, policy_of: PolicyOf) -> Row:
    targets = policy_of(event.provenance.policy).camera(event.camera).targets
    models = [model for model, vote in event.votes.items() if vote == "for"]
    is_probability = event.score is not None and 0 <= event.score <= 1
    return {
        "observationID": event.id,
        "deploymentID": deployment_of(event.site, event.camera),
        "eventID": event.id,
        "eventStart": written(microseconds(event.started_at)),
        "eventEnd": written(end_us),
        "observationLevel": "event",
        "observationType": kinds.of_target(event.label, targets.get(event.label, frozenset())),
        "classificationMethod": "machine",
        "classifiedBy": " | ".join(models),
        "classificationProbability": event.score if is_probability else None,
        "observationTags": f"target:{event.label} | sector:{event.sector}",
    }


def frame_rows(recorded: Recorded, media_id: str, kinds: Kinds, policy_of: PolicyOf) -> Iterator[Row]:
    """The rows of one frame: one for each label of a target; one that says `blank` where every model that votes
    answered and none named any, and `unclassified` where one did not answer and the others named none.
    """
    seen = recorded.observation
    targets = policy_of(recorded.policy).camera(seen.camera).targets
    voters = [info.model for info in seen.ensemble_info.models if info.votes]
    number = 0
    for model in voters:
        for prediction in seen.answers.get(model) or ():
            type_ = kinds.of_label(prediction.label, targets)
            if type_ is not None:
                yield {**_of_frame(seen, media_id, number), "observationType": type_, **_label(model, prediction)}
                number += 1
    if number == 0:
        silent = [model for model in voters if seen.answers.get(model) is None]
        answered = [model for model in voters if model not in silent]
        yield {
            **_of_frame(seen, media_id, 0),
            "observationType": "unclassified" if silent or not voters else "blank",
            "classificationMethod": "machine" if answered else None,
            "classifiedBy": " | ".join(answered),
            "observationComments": f"No answer from {', '.join(silent)}" if silent else None,
        }


def _of_frame(seen: Observation, media_id: str, number: int) -> Row:
    return {
        "observationID": event_id(media_id, number),
        "deploymentID": deployment_of(seen.site, seen.camera),
        "mediaID": media_id,
        "eventID": seen.burst_id,
        "eventStart": written(seen.at_us),
        "eventEnd": written(seen.at_us),
        "observationLevel": "media",
    }


def _label(model: str, prediction: Prediction) -> Row:
    place = f" | sector:{prediction.sector}" if prediction.sector is not None else ""
    return {
        "classificationMethod": "machine",
        "classifiedBy": model,
        "classificationProbability": prediction.score,
        "observationTags": f"label:{prediction.label}{place}",
        **_bbox(prediction.box),
    }


def _bbox(box: Box | None) -> Row:
    """A box by its corner and size; none where it has no size."""
    if box is None or box[2] <= box[0] or box[3] <= box[1]:
        return {}
    x1, y1, x2, y2 = (min(max(each, 0.0), 1.0) for each in box)
    return {"bboxX": x1, "bboxY": y1, "bboxWidth": round(x2 - x1, 6), "bboxHeight": round(y2 - y1, 6)}
