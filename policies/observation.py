"""What the ensemble gave for one frame: the only thing policies see of the world.

An `Observation` is stored as it is here and replayed as it is here, so that a policy run over the past sees
exactly what the live one saw. Scores and box edges are rounded before an observation is made (by the ensemble,
at its border), and JSON gives Python floats back bit for bit; nothing else needs care.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from policies.calibration import Calibration, Row

Box = tuple[float, float, float, float]
"""`(x1, y1, x2, y2)` in 0..1 of the frame, x to the right, y down."""


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One label a model gave: of the whole frame, of a sector's crop (`sector`), or of a box (`box`).

    A detector's predictions have boxes; a classifier's have none, and name the sector whose crop was judged
    (none: the whole view). Score in 0..1. `evidence` describes the scene of a burst, as `policies.scene` reads it: the
    first prediction of `frame-change` for the burst's first frame has it.
    """

    label: str
    score: float
    box: Box | None = None
    sector: str | None = None
    evidence: str | None = None


class ModelInfo(msgspec.Struct, frozen=True, dict=True):
    """One model of the ensemble as policies know it.

    `classes` is everything it can recognise, so that it abstains on a target it cannot see. `votes` is false for a
    model that gives evidence only (`frame-change`). `boxes` is true for a detector, which says no by
    silence; a classifier always names its best classes. `calibration` says what its scores are worth; without rows,
    nobody knows.
    """

    model: str
    classes: frozenset[str]
    boxes: bool
    votes: bool = True
    calibration: tuple[Row, ...] = ()

    @cached_property
    def calibrated(self) -> Calibration | None:
        """What its scores are worth; None where nobody knows."""
        return Calibration(self.calibration) if self.calibration else None


class EnsembleInfo(msgspec.Struct, frozen=True):
    """The models that were asked, and the digest that names exactly these weights and transforms."""

    ensemble: str
    models: tuple[ModelInfo, ...] = msgspec.field(name="seats")


class Observation(msgspec.Struct, frozen=True, gc=False):
    """All labels of one frame.

    `at_us` is the frame's instant in microseconds of Unix time (UTC); within a camera it orders observations,
    ties broken by `burst_id` and `index`. `answers` holds one entry per model of `ensemble_info`: what that model saw
    (perhaps nothing: an empty tuple), or None when it was asked and did not answer. `uncertainty_s` bounds
    the error of the camera's clock. `frame_sha256` is of the JPEG bytes as received. `size` is the
    frame's width and height in pixels; policies use only their ratio. `brightness` is the frame's mean brightness in
    0..1, None where it is not known.
    """

    site: str
    camera: str
    burst_id: str
    index: int
    at_us: int
    ensemble_info: EnsembleInfo = msgspec.field(name="panel")
    answers: dict[str, tuple[Prediction, ...] | None]
    frame_sha256: str
    mask_digest: str | None = None
    uncertainty_s: float = 0.0
    size: tuple[int, int] = (4, 3)
    brightness: float | None = None
