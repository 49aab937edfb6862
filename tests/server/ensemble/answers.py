"""The guard of the versions: which version to raise when a model of the catalogue answers otherwise.

`python -m tests.server.ensemble.answers` records the approved answers with the versions that gave them, after both
were changed; it refuses answers that changed under a version that stayed.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from server.catalogue import card_named, cards
from server.ensemble import (
    Ensemble,
    decode,
    detections,
    efficientnet_lite,
    forms,
    frame_change,
    hog,
    module,
    nanodet,
    read_golden,
    shipped_golden,
    ssdlite,
    tuning,
    yolov3_tiny,
)
from server.ensemble.golden import GoldenSet
from server.ensemble.identity import code_versions

RECORD = Path(__file__).parent / "recorded" / "approved.json"

_HOMES: tuple[tuple[ModuleType, dict[str, int]], ...] = (
    (forms, forms.VERSIONS),
    (module, module.VERSIONS),
    (tuning, tuning.versions("bf16")),
    (detections, detections.NMS_VERSIONS),
    (yolov3_tiny, {"yolov3-tiny": 1}),
    (nanodet, {"nanodet-g": 1}),
    (ssdlite, {"ssdlite": 1}),
    (hog, {"hog": 1}),
    (efficientnet_lite, efficientnet_lite.VERSIONS),
    (frame_change, frame_change.VERSIONS),
)


class Approved(msgspec.Struct, frozen=True):
    """The versions behind one model's answers, and the sha256 of the answers."""

    code: dict[str, int]
    answers: str


def assert_as_approved(ensemble: Ensemble) -> None:
    """Fails with the versions to choose from when the ensemble does not answer as the shipped golden set says."""
    faults = read_golden(shipped_golden()).faults(ensemble)
    if faults:
        models = sorted({fault.partition(" ")[0] for fault in faults})
        pytest.fail("\n".join([*(advice(model) for model in models), *faults]))


def advice(model: str) -> str:
    """What a developer does when this model answers otherwise."""
    steps = code_versions(card_named(model))
    homes = [f"`{step}` in {home.__name__}" for home, own in _HOMES for step in own if step in steps]
    homes.append(f"VERSION in {decode.__name__}")
    return (
        f"answers of {model} changed: undo that, or raise the version of the step that changed ({', '.join(homes)}), "
        "then approve the answers with `sectorwatch models approve` and record them with "
        "`python -m tests.server.ensemble.answers`"
    )


def current(golden: GoldenSet, model: str) -> Approved:
    """What is approved now, and by which versions."""
    answers = [picture.expected[model] for picture in golden.pictures]
    code = code_versions(card_named(model)) | {"decode": decode.VERSION}
    return Approved(code, hashlib.sha256(msgspec.json.encode(answers)).hexdigest())


def unraised(before: Approved | None, now: Approved) -> bool:
    """Whether other answers were approved under the versions of the earlier ones."""
    return before is not None and before.answers != now.answers and before.code == now.code


def recorded() -> dict[str, Approved]:
    """Each model's approved answers as they were last recorded."""
    return msgspec.json.decode(RECORD.read_bytes(), type=dict[str, Approved]) if RECORD.exists() else {}


def record() -> None:
    """Keep what is approved now. Exits with the advice when a version was not raised."""
    before, golden = recorded(), read_golden(shipped_golden()).set
    now = {model: current(golden, model) for model in cards()}
    wrong = [advice(model) for model in now if unraised(before.get(model), now[model])]
    if wrong:
        sys.exit("\n".join(wrong))
    RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(now, order="sorted"), indent=1) + b"\n")


if __name__ == "__main__":
    record()
