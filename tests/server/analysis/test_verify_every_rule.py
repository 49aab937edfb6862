"""Every event of real labels verifies, under every rule and form of policy, on both databases.

The labels are those that four real models gave for the footage `vtest.avi` (`tests/fixtures/0_1_0`).
"""

from __future__ import annotations

import base64
import json
import lzma
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from policies.observation import EnsembleInfo, Prediction
from server.analysis.verify import verify
from server.catalogue import cards
from server.pipeline.pipeline import Pipeline
from server.store import Store
from tests.server.scenes import Yard, burst
from tests.stand_ins import Answers, ManualClock, ScriptedEnsemble

ROOT = Path(__file__).parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "0_1_0"
PER_BURST, EVERY_S = 4, 0.2

PETS = (ROOT / "deploy" / "sites" / "pets.toml").read_text(encoding="utf-8")
SITE = PETS.replace('site = "pets"', 'site = "yard"').replace("[cameras.view1.", "[cameras.gate.")
TARGETS = 'targets = ["person"]\n'

RULES = {
    "default": "",
    "any": 'sensitivity = { rule = "any" }',
    "all": 'sensitivity = { rule = "all" }',
    "majority": 'sensitivity = { rule = "majority" }',
    "at_least": 'sensitivity = { rule = "at_least", k = 2 }',
    "weighted with whole numbers": 'sensitivity = { weights = { yolov3-tiny = 2, "*" = 1 }, threshold = 2 }',
    "weighted with fractions": 'sensitivity = { rule = "weighted", weights = { "*" = 0.3 }, threshold = 0.1 }',
    "evidence": 'sensitivity = { rule = "evidence", right = 0.8 }',
    "missing fails open": 'sensitivity = { rule = "all", missing = "fail_open" }',
    "missing fails closed": 'sensitivity = { rule = "any", missing = "fail_closed" }',
    "over frames": 'sensitivity = { rule = "any" }\nmovement = { min_hits = 3, window_frames = 4 }',
    "scores as whole numbers": 'sensitivity = { rule = "any" }\nmin_score = { frame-change = 1, "*" = 0.3 }',
    "by target": 'by_target.person.sensitivity = { rule = "at_least", k = 2 }',
    "of one sector": '[cameras.gate.sectors.grass.sensitivity]\nrule = "majority"',
    "of the camera": '[cameras.gate.sensitivity]\nrule = "all"',
}


def policy_with(rule: str) -> str:
    if rule.startswith("["):
        return f"{SITE}\n{rule}\n"
    return SITE.replace(TARGETS, f"{TARGETS}{rule}\n")


@pytest.fixture(scope="module")
def footage() -> tuple[EnsembleInfo, Sequence[Answers]]:
    """The ensemble, and its answers for 24 frames in order, five a second. Every 7th lacks the answer of a model."""
    with closing(sqlite3.connect(":memory:")) as old:
        old.executescript(lzma.decompress((FIXTURE / "database.sql.xz").read_bytes()).decode())
        [panel] = old.execute(
            "SELECT body FROM panels JOIN bursts USING (ensemble) WHERE camera = 'view1' ORDER BY first_at_us DESC"
        ).fetchone()
        rows = old.execute(
            "SELECT answers FROM observations JOIN bursts USING (burst_id) "
            "WHERE observations.camera = 'view1' AND ensemble = ? ORDER BY at_us LIMIT 24",
            (json.loads(panel)["ensemble"],),
        ).fetchall()
    info = msgspec.json.decode(panel, type=EnsembleInfo)
    known = cards()
    info = replace(
        info, models=tuple(replace(m, calibration=known[m.model].model_info.calibration) for m in info.models)
    )
    answers: list[dict[str, Any]] = [
        msgspec.json.decode(row[0], type=dict[str, tuple[Prediction, ...] | None]) for row in rows
    ]
    for each in answers[::7]:
        each["hog-people"] = None
    assert len(answers) == 24
    return info, answers


def play(yard: Yard, answers: Sequence[Mapping[str, Any]]) -> None:
    """Send the frames in bursts. Each is a small grey picture with a number of its own."""
    continuation = json.loads(lzma.decompress((FIXTURE / "continuation.json.xz").read_bytes()))
    picture = base64.b64decode(continuation["picture"])
    images = []
    for number, answer in enumerate(answers):
        comment = number.to_bytes(4, "big")
        images.append(yard.ensemble.teach(picture[:2] + b"\xff\xfe\x00\x06" + comment + picture[2:], answer))
    for first in range(0, len(images), PER_BURST):
        at_s = first * EVERY_S
        yard.pipeline.process(burst(first // PER_BURST, images[first : first + PER_BURST], at_s, EVERY_S))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_every_event_of_the_footage_verifies(
    rule: str,
    store: Store,
    tmp_path: Path,
    clock: ManualClock,
    footage: tuple[EnsembleInfo, Sequence[Answers]],
) -> None:
    info, answers = footage
    yard = Yard(tmp_path / "sites", store, clock, policy_with(rule))
    yard.ensemble = ScriptedEnsemble(info.models, info.ensemble)
    yard.pipeline = Pipeline(yard.ensemble, store, yard.sites, clock, committed=lambda: None)
    play(yard, answers)
    events = store.events()
    assert len({logged.event.kind for logged in events}) >= 3
    for logged in events:
        [record] = store.past.events_like(logged.event.id)
        failed = [check for check in verify(store, record) if not check.holds]
        assert failed == [], logged.event
