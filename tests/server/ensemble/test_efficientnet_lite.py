"""EfficientNet-lite says what an independent implementation says, and knows a van in a sector from empty road."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import msgspec
import pytest
import torch
from PIL import Image
from torch.fx.experimental.optimization import fuse

from policies.events import Event
from policies.observation import Prediction
from policies.site.targets import SHIPPED
from server.catalogue import cache_dir, card_named, locate
from server.domain.errors import ConfigurationError
from server.ensemble import Ensemble, load_ensemble
from server.ensemble.efficientnet_lite import Convolution, EfficientNetLite, build, scaled_width
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import Sites
from server.serving.loading import engine_of
from server.settings import ServerSettings
from server.store import Store, open_store
from tests.server.ensemble.timm_reference import EVERY, NAMES, probe, recorded
from tests.server.scenes import START_US, burst
from tests.stand_ins import ManualClock

KERB, LAWN = (645, 35, 730, 105), (50, 300, 300, 550)
WIDTH, HEIGHT = 768, 576
CROPS = {
    name: (left / WIDTH, top / HEIGHT, right / WIDTH, bottom / HEIGHT)
    for name, (left, top, right, bottom) in (("kerb", KERB), ("lawn", LAWN))
}
SITE = """
site = "yard"
targets = ["vehicle"]
[cameras.gate.sectors.kerb]
polygon = [[0.84, 0.061], [0.95, 0.061], [0.95, 0.182], [0.84, 0.182]]
[cameras.gate.sectors.lawn]
polygon = [[0.066, 0.521], [0.39, 0.521], [0.39, 0.955], [0.066, 0.955]]
"""


def weights_of(name: str) -> Path:
    path = locate(card_named(name), cache_dir())
    if path is None:
        pytest.fail(f"no weights of {name}: run `sectorwatch models pull {name}`")
    return path


@pytest.fixture(scope="module")
def lite0() -> Ensemble:
    weights_of("efficientnet-lite0")
    return load_ensemble(["efficientnet-lite0"])


def van_gone(jpeg: bytes) -> bytes:
    """The frame with road from elsewhere in it where the van stands."""
    picture = Image.open(BytesIO(jpeg))
    left, top, right, bottom = KERB
    picture.paste(picture.crop((560, 200, 560 + right - left, 200 + bottom - top)), (left, top))
    file = BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_an_independent_implementation(name: str) -> None:
    card = card_named(name)
    with torch.inference_mode():
        logits = build(card, weights_of(name))(probe(card.input.size[0]))
    assert torch.allclose(logits[:, ::EVERY], torch.tensor(recorded()["logits"][name]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_has_its_place_and_the_classes_are_imagenets(name: str) -> None:
    card = card_named(name)
    assert len(card.classes) == 1000
    assert (card.classes[0], card.classes[335], card.classes[950], card.classes[999]) == (
        "tench",
        "fox squirrel",
        "orange",
        "toilet tissue",
    )
    parameters = sum(parameter.numel() for parameter in build(card, weights_of(name)).parameters())
    assert parameters == {"0": 4_652_008, "1": 5_416_680, "2": 6_092_072}[name[-1]]


def test_imagenets_vehicles_of_the_shipped_target_are_all_among_the_classes() -> None:
    assert SHIPPED["vehicle"] - set(card_named("efficientnet-lite0").classes) == {
        "car",  # COCO's words
        "bus",
        "truck",
        "motorcycle",
        "motorbike",
    }


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(224, 3, 2, (0, 1, 0, 1)), (112, 5, 2, (1, 2, 1, 2)), (15, 5, 2, ()), (15, 3, 2, ()), (14, 5, 1, ())],
)
def test_padding_is_tensorflows(side: int, kernel: int, stride: int, padding: tuple[int, ...]) -> None:
    convolution = Convolution(4, 4, kernel, side=side, stride=stride)
    assert convolution.padding == padding
    assert convolution(torch.zeros(1, 4, side, side)).shape[-1] == -(-side // stride)


@pytest.mark.parametrize(
    ("channels", "factor", "width"), [(24, 1.0, 24), (24, 1.1, 24), (40, 1.1, 48), (320, 1.1, 352)]
)
def test_widths_are_multiples_of_eight_and_lose_at_most_a_tenth(channels: int, factor: float, width: int) -> None:
    assert scaled_width(channels, factor) == width


def test_the_networks_work_can_be_traced_and_fused() -> None:
    network = EfficientNetLite(10, width=1.0, depth=1.0, side=64).eval()
    fused = fuse(network)
    rows = probe(64)
    with torch.inference_mode():
        assert torch.allclose(fused(rows), network(rows), atol=1e-4)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"not weights at all")
    with pytest.raises(ConfigurationError, match="does not hold weights of this network"):
        build(card_named("efficientnet-lite0"), tmp_path / "other.pth")
    with pytest.raises(ConfigurationError, match="does not hold weights of this network"):
        build(card_named("efficientnet-lite0"), weights_of("efficientnet-lite2"))


def test_an_input_form_that_is_not_one_square_size_is_refused() -> None:
    card = card_named("efficientnet-lite0")
    for changed in (
        msgspec.structs.replace(card.input, size=(224, 192)),
        msgspec.structs.replace(card.input, fit="shrink"),
    ):
        with pytest.raises(ConfigurationError, match="one square size"):
            build(msgspec.structs.replace(card, input=changed), weights_of("efficientnet-lite0"))


def test_a_sectors_crop_with_a_van_is_a_vehicle_and_a_lawn_is_none(
    lite0: Ensemble, footage_frames: list[bytes]
) -> None:
    for frame in footage_frames[::5]:
        predictions = lite0.answer([frame, van_gone(frame)], CROPS)
        here, gone = (_vehicle_scores(each["efficientnet-lite0"] or ()) for each in predictions)
        assert here["kerb"] > 0.7
        assert gone["kerb"] < 0.2
        assert max(here["lawn"], gone["lawn"]) < 0.1


def test_a_site_of_one_classifier_tells_when_the_van_of_a_sector_comes_and_goes(
    lite0: Ensemble, footage_frames: list[bytes], new_sqlite_url: str, clock: ManualClock, tmp_path: Path
) -> None:
    (tmp_path / "yard.toml").write_text(SITE)
    store = open_store(new_sqlite_url, clock)
    engine = engine_of(lite0, ServerSettings())
    engine.start(lambda: None)
    pipeline = Pipeline(engine.first, store, Sites(tmp_path), clock)
    gone, here = [van_gone(frame) for frame in footage_frames[:6]], footage_frames[6:12]
    for number, frames in enumerate((gone, here, gone)):
        pipeline.process(burst(number, frames, number * 6.0, 1.0))
    engine.stop()
    told = _told(store)
    assert {(e.sector, e.label) for e in told} == {("kerb", "vehicle")}
    assert sorted(e.kind for e in told) == ["entered", "left", "presence_ended", "presence_started"]
    assert min(e.score for e in told if e.kind == "entered") > 0.7
    store.close()


@pytest.fixture
def new_sqlite_url(tmp_path: Path, clock: ManualClock) -> str:
    url = f"sqlite:///{tmp_path}/classified.sqlite"
    store = open_store(url, clock)
    store.upgrade()
    store.close()
    return url


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_US + 3_600_000_000)


def _told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def _vehicle_scores(predictions: tuple[Prediction, ...]) -> dict[str | None, float]:
    scores: dict[str | None, float] = {}
    for prediction in predictions:
        score = prediction.score if prediction.label in SHIPPED["vehicle"] else 0.0
        scores[prediction.sector] = scores.get(prediction.sector, 0.0) + score
    return scores
