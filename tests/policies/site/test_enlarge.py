"""Sectors that detectors see enlarged: which part of the frame that is, and when it is worth a look."""

from __future__ import annotations

import msgspec
import pytest

from policies.fusion.model_check import misfits
from policies.observation import Box, EnsembleInfo, ModelInfo
from policies.site.site_policy import InvalidPolicy, parse_site_policy
from tests.policies.stories import CHANGE, CLASSIFIER, DETECTOR

FAR = "polygon = [[0.4, 0.2], [0.6, 0.2], [0.6, 0.3], [0.4, 0.3]]\nenlarge = true\n"


def enlarged(sectors: str, *models: ModelInfo, extra: str = "") -> tuple[Box, ...]:
    camera = parse_site_policy(f'site = "a"\n{extra}\n{sectors}').camera("g")
    return camera.enlarged(EnsembleInfo("e", models or (DETECTOR,)))


def test_a_sector_may_ask_to_be_enlarged_with_room_for_what_rises_over_it():
    (window,) = enlarged(f"[cameras.g.sectors.far]\n{FAR}")
    left, top, right, bottom = window
    assert right - left == pytest.approx(bottom - top) == 0.25  # the frame's own shape
    assert 0.4 - left == pytest.approx(right - 0.6) == pytest.approx(0.025)
    assert 0.2 - top == pytest.approx(2 * (bottom - 0.3))


def test_an_enlarged_part_never_reaches_beyond_the_frame():
    (window,) = enlarged("[cameras.g.sectors.s]\ncoordinates = '0.7,0,1,0,1,0.3,0.7,0.3'\nenlarge = true")
    assert window == (0.61, 0.0, 1.0, 0.39)


@pytest.mark.parametrize("polygon", ["0.1,0.4,0.9,0.4,0.9,0.5,0.1,0.5", "0,0,1,0,1,1,0,1"])
def test_a_part_that_is_nearly_the_whole_frame_is_not_looked_at_again(polygon):
    assert enlarged(f"[cameras.g.sectors.s]\ncoordinates = '{polygon}'\nenlarge = true") == ()


def row_of_sectors(count: int) -> str:
    places = [(0.05 + number / 40, 0.35 + number / 40) for number in range(count)]
    return "".join(
        f"[cameras.g.sectors.s{number}]\npolygon = [[{a}, 0.2], [{b}, 0.2], [{b}, 0.5]]\nenlarge = true\n"
        for number, (a, b) in enumerate(places)
    )


def test_a_camera_has_at_most_sixteen_enlarged_parts_and_the_first_beyond_is_named_with_its_line():
    assert len(enlarged(row_of_sectors(16))) == 16
    with pytest.raises(InvalidPolicy, match=r"line 52: .*cameras\.g\.sectors\.s16\.enlarge: a camera has at most 16"):
        parse_site_policy(f'site = "a"\n{row_of_sectors(17)}')


def test_two_sectors_with_the_same_window_are_one_part():
    assert len(enlarged(f"[cameras.g.sectors.far]\n{FAR}\n[cameras.g.sectors.same]\n{FAR}")) == 1


@pytest.mark.parametrize(
    ("models", "targets", "count"),
    [([DETECTOR], "person", 1), ([DETECTOR], "vehicle", 0), ([CLASSIFIER], "person", 0), ([CHANGE], "person", 0)],
)
def test_a_sector_is_enlarged_where_a_detector_knows_what_it_asks_for(models, targets, count):
    info = [ModelInfo(each.model, frozenset({"person"}), boxes=each.boxes, votes=each.votes) for each in models]
    assert len(enlarged(f"[cameras.g.sectors.far]\n{FAR}", *info, extra=f'targets = ["{targets}"]')) == count


def test_enlarging_is_part_of_the_digest_and_its_absence_is_not():
    sector = f'site = "a"\n[cameras.g.sectors.far]\n{FAR}'
    plain = parse_site_policy(sector.replace("enlarge = true", ""))
    assert plain.digest == parse_site_policy(sector.replace("true", "false")).digest
    assert plain.digest != parse_site_policy(sector).digest
    assert b"enlarge" not in msgspec.json.encode(plain)


def test_a_misspelt_enlarge_is_told_the_right_word():
    with pytest.raises(InvalidPolicy, match=r"line 4: .*enlarged: unknown key; did you mean `enlarge`\?"):
        parse_site_policy(f'site = "a"\n[cameras.g.sectors.far]\n{FAR}'.replace("enlarge =", "enlarged ="))


def test_a_sector_that_asks_for_what_no_detector_knows_is_named():
    site = parse_site_policy(f'site = "a"\ntargets = ["vehicle"]\n[cameras.g.sectors.far]\n{FAR}')
    info = EnsembleInfo("e", (ModelInfo("eye", frozenset({"person"}), boxes=True), CLASSIFIER))
    assert "g/far: `enlarge` has no effect: no detector that votes knows what the sector asks for" in misfits(
        site, info
    )
    knows = EnsembleInfo("e", (ModelInfo("eye", frozenset({"car"}), boxes=True),))
    assert misfits(site, knows) == ()
