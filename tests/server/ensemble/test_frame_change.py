"""frame-change says moving where things move, and still where only the light or the noise does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)

from server.catalogue import card_named
from server.ensemble.decode import decode
from server.ensemble.forms import row_of
from server.ensemble.frame_change import (
    MOVING,
    STILL,
    FrameChangeNet,
    _means_near,
    _without_thin,
    build,
)
from server.ensemble.moving_things import largest_near

CARD = card_named("frame-change")


@pytest.fixture
def network() -> FrameChangeNet:
    return build(CARD, None)


@pytest.fixture(scope="module")
def view(footage_frames: list[bytes]) -> torch.Tensor:
    """A real scene, uint8 [1, h, w]."""
    return row_of(decode(footage_frames[0]), CARD.input).pixels


def with_thing(view: torch.Tensor, x: int, y: int = 60) -> torch.Tensor:
    """The scene with something as large and as dark as a person at x, y."""
    changed = view.clone()
    changed[:, y : y + 20, x : x + 8] = 20
    return changed


def brighter(view: torch.Tensor, factor: float | torch.Tensor) -> torch.Tensor:
    return (view.float() * factor).clamp(0, 255).byte()


def test_one_frame_alone_is_still(network: FrameChangeNet, view: torch.Tensor) -> None:
    assert [answer.label for answer in network([view])] == [STILL]


def test_no_frames_give_no_answers(network: FrameChangeNet) -> None:
    assert network([]) == []


def test_the_same_frame_again_is_still(network: FrameChangeNet, view: torch.Tensor) -> None:
    assert [answer.label for answer in network([view] * 4)] == [STILL] * 4


def test_a_thing_that_moves_is_boxed_where_it_is_now(network: FrameChangeNet, view: torch.Tensor) -> None:
    height, width = view.shape[-2:]
    places = [20, 50, 80, 110]
    answers = network([with_thing(view, x) for x in places])
    assert [answer.label for answer in answers] == [MOVING] * 4
    for x, answer in zip(places[1:-1], answers[1:-1], strict=True):
        assert len(answer.regions.boxes) == 1
        left, top, right, bottom = answer.regions.boxes[0].tolist()
        assert abs((left + right) / 2 * width - (x + 4)) <= 4
        assert abs((top + bottom) / 2 * height - 70) <= 4


def test_a_thing_that_comes_makes_only_its_own_frames_moving(network: FrameChangeNet, view: torch.Tensor) -> None:
    answers = network([view, view, view, with_thing(view, 60), with_thing(view, 60), with_thing(view, 60)])
    assert [answer.label for answer in answers] == [STILL, STILL, STILL, MOVING, STILL, STILL]


@pytest.mark.parametrize("factor", [0.6, 0.85, 1.15, 1.4])
def test_light_over_the_whole_view_is_no_movement(network: FrameChangeNet, view: torch.Tensor, factor: float) -> None:
    assert [answer.label for answer in network([view, brighter(view, factor), view])] == [STILL] * 3


def test_a_cloud_edge_is_no_movement(network: FrameChangeNet, view: torch.Tensor) -> None:
    shade = torch.linspace(0.9, 1.1, view.shape[-1])
    assert [answer.label for answer in network([view, (view * shade).clamp(0, 255).byte()])] == [STILL] * 2


def test_the_beam_of_a_lamp_on_the_road_is_no_movement(network: FrameChangeNet, view: torch.Tensor) -> None:
    height, width = view.shape[-2:]

    def lit(x: float) -> torch.Tensor:
        down, across = torch.arange(height)[:, None] - 70, torch.arange(width)[None] - x
        return brighter(view // 3, 1 + 2 * torch.exp(-((across / 24) ** 2) - (down / 8) ** 2))

    assert [answer.label for answer in network([lit(30 + 9 * place) for place in range(5)])] == [STILL] * 5


@pytest.mark.parametrize("deviation", [2.0, 6.0])
def test_noise_is_no_movement(network: FrameChangeNet, view: torch.Tensor, deviation: float) -> None:
    torch.manual_seed(7)
    noisy = [(view + torch.randn(view.shape) * deviation).clamp(0, 255).byte() for _ in range(5)]
    assert [answer.label for answer in network(noisy)] == [STILL] * 5


def test_a_camera_that_shakes_moves_nothing(network: FrameChangeNet, view: torch.Tensor) -> None:
    shaken = [view[:, 4 + down : 100 + down, 6 + right : 180 + right] for down, right in ((0, 0), (2, 3), (-1, 2))]
    assert [answer.label for answer in network(shaken)] == [STILL] * 3


def test_a_thing_is_boxed_where_it_is_although_the_camera_shakes(network: FrameChangeNet, view: torch.Tensor) -> None:
    places = [(30, 0, 0), (60, 2, 3), (90, -1, 2)]
    frames = [with_thing(view, x)[:, 4 + down : 100 + down, 6 + right : 180 + right] for x, down, right in places]
    [box] = network(frames)[1].regions.boxes.tolist()
    assert abs((box[0] + box[2]) / 2 * 174 - (60 + 4 - 6 - 3)) <= 4


def test_a_streak_of_rain_is_no_thing(network: FrameChangeNet, view: torch.Tensor) -> None:
    rain = view.clone()
    for step in range(28):
        rain[:, 20 + step, 50 + step // 8 : 53 + step // 8] = 235
    assert [answer.label for answer in network([view, rain, view])] == [STILL] * 3


def with_insect(view: torch.Tensor, x: float) -> torch.Tensor:
    """The scene with an insect on the lens: a bright blob without edges, as high as a person."""
    height, width = view.shape[-2:]
    far = torch.hypot(torch.arange(width)[None] - x, torch.arange(height)[:, None] - 70.0)
    return (view + 90 * torch.exp(-((far / 7) ** 2))).clamp(0, 255).byte()


def blurred(frame: torch.Tensor) -> torch.Tensor:
    """As a camera shows it that is out of focus."""
    weights = torch.exp(-(torch.arange(-6.0, 7.0) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    padded = F.pad(frame.float()[None], (6, 6, 6, 6), mode="replicate")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))[0].round().byte()


def test_what_is_out_of_focus_before_a_sharp_scene_is_no_thing(network: FrameChangeNet, view: torch.Tensor) -> None:
    insect = network([with_insect(view, x) for x in (30, 45, 60, 75, 90)])
    assert [answer.label for answer in insect] == [STILL] * 5
    both = network([with_thing(with_insect(view, 2 * x), x, 110) for x in (30, 38, 46, 54, 62)])
    tops = [[round(box[1] * view.shape[-2]) for box in answer.regions.boxes.tolist()] for answer in both]
    assert [len(each) for each in tops] == [1] * 5, "a thing of the scene is seen beside it"
    assert all(abs(top - 110) <= 2 for (top,) in tops)


def swaying(view: torch.Tensor, place: int) -> torch.Tensor:
    """The scene with leaves that swing to and fro."""
    leaves = (torch.arange(60)[None] * 7 + torch.arange(40)[:, None] * 11) % 23 > 11
    changed = view.float()
    changed[:, 50:90, 20:80] = 80.0 + 6 * torch.roll(leaves, (0, 3, 1, 4, 2)[place], 1)
    return changed


def test_an_insect_before_leaves_that_sway_is_no_thing_either(network: FrameChangeNet, view: torch.Tensor) -> None:
    answers = network([with_insect(swaying(view, place), 30 + 8 * place) for place in range(5)])
    assert [answer.label for answer in answers] == [STILL] * 5


def test_an_insect_that_sits_down_and_stays_is_no_thing(network: FrameChangeNet, view: torch.Tensor) -> None:
    frames = [view, view, with_insect(view, 60), with_insect(view, 60)]
    assert [answer.label for answer in network(frames)] == [STILL] * 4


def test_in_a_scene_that_is_out_of_focus_itself_things_are_seen(network: FrameChangeNet, view: torch.Tensor) -> None:
    answers = network([blurred(with_thing(view, x)) for x in (30, 60, 90, 120, 150)])
    assert [answer.label for answer in answers] == [MOVING] * 5


def test_a_thing_that_moves_slower_than_its_length_is_seen_whole(network: FrameChangeNet, view: torch.Tensor) -> None:
    frames = []
    for x in (40, 58, 76, 94, 112):
        frames.append(view.clone())
        frames[-1][:, 60:76, x : x + 30] = 20
    [box] = network(frames)[2].regions.boxes.tolist()
    assert (box[2] - box[0]) * view.shape[-1] >= 26


def test_a_thing_is_boxed_where_it_is_at_both_ends_of_a_burst(network: FrameChangeNet, view: torch.Tensor) -> None:
    height, width = view.shape[-2:]
    frames = [with_thing(view, x, 50) for x in (40, 52, 64, 76, 88)]
    for place, top in ((0, 70), (4, 30)):  # beside the thing, something else changes in that frame alone
        x = 40 + 12 * place
        frames[place][:, top : top + 20, x : x + 8] = 235
    answers = network(frames)
    for place in (0, 4):
        left, top, right, bottom = answers[place].regions.boxes[0].tolist()
        assert abs((left + right) / 2 * width - (44 + 12 * place)) <= 6
        assert abs((top + bottom) / 2 * height - 60) <= 6


def test_in_a_burst_of_three_frames_a_thing_is_at_the_end_of_its_way(
    network: FrameChangeNet, view: torch.Tensor
) -> None:
    answers = network([with_thing(view, x) for x in (40, 52, 64)])
    for x, answer in zip((40, 52, 64), answers, strict=True):
        left, top, right, bottom = answer.regions.boxes[0].tolist()
        assert abs((left + right) / 2 * view.shape[-1] - (x + 4)) <= 7
        assert abs((top + bottom) / 2 * view.shape[-2] - 70) <= 4


def on_a_road(place: int, drops: int, light: int) -> torch.Tensor:
    """A smooth road with a thing that is 12 % brighter, and thin drops that are elsewhere in each picture."""
    view = torch.linspace(70, 130, 192).repeat(1, 144, 1)
    view[:, 60:72, 30 + 18 * place : 42 + 18 * place] *= 1.12
    for drop in range(drops):
        across, down = (37 * drop + 71 * place) % 190, (53 * drop + 29 * place) % 120
        view[:, down : down + 9, across] = light
    return view.byte()


@pytest.mark.parametrize(("drops", "light", "count"), [(0, 0, 1), (20, 160, 1), (20, 20, 0)])
def test_a_faint_thing_is_seen_in_rain_too_and_not_where_thin_changes_are_dark(
    network: FrameChangeNet, drops: int, light: int, count: int
) -> None:
    boxes = network([on_a_road(place, drops, light) for place in range(5)])[2].regions.boxes.tolist()
    assert sum(box[0] * 192 > 60 and box[2] * 192 < 84 and (box[2] - box[0]) * 192 > 8 for box in boxes) == count


def faint_body(place: int, *, bonnet: float, light: float) -> torch.Tensor:
    """A smooth road with a thing that is hardly brighter than it, but for its bonnet."""
    view = torch.linspace(70, 130, 192).repeat(1, 144, 1) * light
    start = 30 + 12 * place
    view[:, 60:74, start : start + 30] *= 1.06
    view[:, 60:74, start + 30 : start + 36] *= bonnet
    return view.byte()


@pytest.mark.parametrize(("bonnet", "light", "wide"), [(1.3, 1, 36), (1.06, 1, None), (1.3, 0.4, 6)])
def test_what_is_connected_with_a_strong_change_is_of_the_thing_by_day(
    network: FrameChangeNet, bonnet: float, light: float, wide: int | None
) -> None:
    boxes = network([faint_body(place, bonnet=bonnet, light=light) for place in range(5)])[2].regions.boxes.tolist()
    assert len(boxes) == (wide is not None)
    for left, _, right, _ in boxes:
        assert (right - left) * 192 == pytest.approx(wide, abs=6)


def test_a_thing_is_seen_although_the_light_changes(network: FrameChangeNet, view: torch.Tensor) -> None:
    answers = network([with_thing(view, 30), brighter(with_thing(view, 90), 1.3)])
    assert [answer.label for answer in answers] == [MOVING, MOVING]


def test_frames_of_another_size_start_anew(network: FrameChangeNet, view: torch.Tensor) -> None:
    smaller = view[:, ::2, ::2]
    answers = network([view, smaller, with_thing(view, 60), with_thing(view, 90)])
    assert [answer.label for answer in answers] == [STILL, STILL, MOVING, MOVING]


def test_walking_people_of_the_footage_are_movement(network: FrameChangeNet, footage_frames: list[bytes]) -> None:
    rows = [row_of(decode(jpeg), CARD.input).pixels for jpeg in footage_frames[:6]]
    for answer in network(rows):
        assert answer.label == MOVING
        assert 0.5 < answer.score < 1
        assert len(answer.regions.boxes) >= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (36, 48), (144, 192)])
def test_means_and_extremes_of_neighbourhoods_are_those_of_torchs_pools_to_the_last_bit(size: tuple[int, int]) -> None:
    frames = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(1)) * 255
    means = F.avg_pool2d(frames, 3, stride=1, padding=1, count_include_pad=False)
    assert torch.equal(_means_near(frames[:, 0]), means[:, 0])
    assert torch.equal(largest_near(frames[:, 0]), F.max_pool2d(frames, 3, stride=1, padding=1)[:, 0])
    if min(size) > 1:
        changed = frames[0, 0] > 60
        squares = -F.max_pool2d(-changed[None, None].float(), 2, stride=1)
        opened = F.max_pool2d(F.pad(squares, (1, 1, 1, 1)), 2, stride=1)[0, 0] > 0
        assert torch.equal(_without_thin(changed), opened)
