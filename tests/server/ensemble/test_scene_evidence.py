"""The evidence of a scene follows from where its edges lie."""

from __future__ import annotations

import base64

import pytest
import torch

from policies.scene.signature import agreement
from server.catalogue import card_named
from server.ensemble.decode import decode
from server.ensemble.forms import row_of
from server.ensemble.frame_change import REACH, build
from server.ensemble.module import _change_predictions
from server.ensemble.scene_evidence import scene_evidence

CARD = card_named("frame-change")


@pytest.fixture(scope="module")
def view(footage_frames: list[bytes]) -> torch.Tensor:
    """A real scene, uint8 [1, h, w]."""
    return row_of(decode(footage_frames[0]), CARD.input).pixels


def test_the_first_frame_of_a_burst_has_the_evidence(view: torch.Tensor) -> None:
    answers = build(CARD, None)([view, view, view])
    assert [answer.evidence is not None for answer in answers] == [True, False, False]
    [first, second, _] = [_change_predictions(answer, CARD) for answer in answers]
    assert [each.evidence for each in (*first, *second)] == [answers[0].evidence, None]
    assert len(base64.urlsafe_b64decode(f"{first[0].evidence}==")) == 10


def test_the_evidence_is_the_same_however_a_request_is_shared_out(view: torch.Tensor) -> None:
    frames = [view, view.roll(3, dims=-1), view, view.roll(40, dims=-1), view.flip(-1)]
    network = build(CARD, None)
    assert network(frames)[0].evidence == network(frames[: 1 + REACH])[0].evidence


def test_light_changes_few_of_its_bits_and_another_place_many(view: torch.Tensor) -> None:
    whole = view[None].float()
    here, dark = scene_evidence(whole), scene_evidence(whole * 0.4 + 5)
    there = scene_evidence(whole.roll(view.shape[-1] // 6, dims=-1))
    assert here is not None
    assert dark is not None
    assert there is not None
    assert agreement((here,), dark) > 0.85
    assert agreement((here,), there) < 0.75


@pytest.mark.parametrize("frames", [torch.full((2, 1, 100, 190), 128.0), torch.rand(1, 1, 20, 20) * 255])
def test_what_shows_no_scene_has_no_evidence(frames: torch.Tensor) -> None:
    assert scene_evidence(frames) is None


def test_darkness_has_no_evidence(view: torch.Tensor) -> None:
    noise = torch.randn(view[None].shape, generator=torch.Generator().manual_seed(1)) * 3
    assert scene_evidence((view[None].float() * 0.02 + 3 + noise).clamp(0, 255)) is None
