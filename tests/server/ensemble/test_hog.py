"""The HOG detectors value a window as `cv2.HOGDescriptor` does."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from server.catalogue import cache_dir, card_named, locate
from server.domain.errors import ConfigurationError
from server.ensemble.decode import decode
from server.ensemble.forms import normalised, row_of
from server.ensemble.hog import HogPeople, Parameters, build, score_of
from tests.server.ensemble.opencv import HOG_WINDOWS, IS_OPENCV_4, hog_decision_values, recorded

AGREES_WITHIN = 1e-2


def network_named(name: str) -> HogPeople:
    card = card_named(name)
    return build(card, locate(card, cache_dir()))


def probe() -> np.ndarray:
    """A picture made of arithmetic: edges of all directions, texture, flat parts; uint8 [211, 307]."""
    y, x = np.mgrid[:211, :307].astype(np.int64)
    rings = (x - 120) ** 2 + (y - 90) ** 2
    picture = (x * 3 + y) // 4 + (rings // 97 % 5) * 30 + ((x * 7919 + y * 104729) % 31) - 15
    picture[(x > 200) & (y > 120)] = 90
    picture[60:170, 40:70] = 230
    return picture.clip(0, 255).astype(np.uint8)


def sparse(values: np.ndarray) -> np.ndarray:
    """Few enough values to keep in a file."""
    return values[::2, ::3]


def decision_values(name: str, grey: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network_named(name).decision_values(torch.from_numpy(grey).float()[None, None]).numpy()


@pytest.mark.parametrize("name", HOG_WINDOWS)
def test_decision_values_are_those_opencv_gave_when_recorded(name: str) -> None:
    np.testing.assert_allclose(sparse(decision_values(name, probe())), np.array(recorded(name)), atol=AGREES_WITHIN)


if IS_OPENCV_4:

    @pytest.mark.parametrize("name", HOG_WINDOWS)
    def test_decision_values_are_those_opencv_gives_on_every_window_of_the_footage(
        name: str, footage_frames: list[bytes]
    ) -> None:
        form = card_named(name).input
        pictures = [row_of(decode(jpeg), form).pixels[0].numpy() for jpeg in footage_frames[::7]]
        for picture in [*pictures, probe()]:
            theirs = hog_decision_values(name, picture)
            ours = decision_values(name, picture)
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=AGREES_WITHIN)

    @pytest.mark.parametrize("name", HOG_WINDOWS)
    def test_the_shipped_coefficients_are_opencvs(name: str) -> None:
        import cv2

        card = card_named(name)
        path = locate(card, cache_dir())
        assert path is not None
        of = {
            "hog-people": cv2.HOGDescriptor.getDefaultPeopleDetector,
            "hog-people-small": cv2.HOGDescriptor.getDaimlerPeopleDetector,
        }
        assert path.read_bytes() == of[name]().astype("<f4").tobytes()


@pytest.mark.parametrize("name", HOG_WINDOWS)
def test_people_of_the_footage_are_found(name: str, footage_frames: list[bytes]) -> None:
    """No claim of accuracy (evaluated elsewhere): several people are in view, and boxes are of their size."""
    network, form = network_named(name), card_named(name).input
    for jpeg in footage_frames[::5]:
        with torch.inference_mode():
            found = network(normalised(row_of(decode(jpeg), form).pixels[None], form))[0]
        sure = found.boxes[found.scores > 0.8]
        assert len(sure) >= 2
        heights = (sure[:, 3] - sure[:, 1]) * 576
        assert 60 < float(heights.median()) < 140


def test_a_picture_smaller_than_the_window_has_no_people() -> None:
    with torch.inference_mode():
        found = network_named("hog-people")(torch.zeros(2, 1, 20, 16))
    assert [len(each.scores) for each in found] == [0, 0]


def test_a_flat_picture_has_no_people() -> None:
    with torch.inference_mode():
        found = network_named("hog-people")(torch.full((1, 1, 300, 300), 128.0))[0]
    assert len(found.scores) == 0


def test_scores_rise_with_decision_values_and_are_half_at_the_border() -> None:
    values = torch.linspace(-3, 3, 61)
    scores = score_of(values)
    assert bool((scores.diff() > 0).all())
    assert float(score_of(torch.tensor(0.0))) == 0.5


def test_coefficients_that_do_not_fit_the_window_are_refused() -> None:
    parameters = card_named("hog-people").parameters_as(Parameters)
    with pytest.raises(ValueError, match="do not fit a window of 64x96"):
        HogPeople(torch.zeros(3781), msgspec.structs.replace(parameters, window=(64, 96)))


def test_refuses_to_be_built_without_coefficients() -> None:
    with pytest.raises(ConfigurationError, match="no coefficients"):
        build(card_named("hog-people"), None)
