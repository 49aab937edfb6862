"""The options of `models adopt` that say what a network gets to see give the form that the card then holds."""

from __future__ import annotations

from typing import Any

import click
import pytest

from server.catalogue import InputForm
from server.commands.models.form_options import form_of, form_options
from server.ensemble.adoption import DETECTOR_FORM, FLEXSERVE_FORM

IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def form(*words: str, usual: InputForm = FLEXSERVE_FORM) -> InputForm:
    @click.command()
    @form_options
    def command(**options: Any) -> InputForm:
        return form_of(options, usual)

    made = command.main(list(words), standalone_mode=False)
    assert isinstance(made, InputForm)
    return made


def test_without_options_the_form_is_the_usual_one() -> None:
    assert form() is FLEXSERVE_FORM


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ("0.485,0.456,0.406", "0.229,0.224,0.225", IMAGENET),
        ("123.675 116.28 103.53", "[58.395, 57.12, 57.375]", IMAGENET),
        ("0.5", "0.5", ((127.5,), (127.5,))),
        ("127.5", "127.5", ((127.5,), (127.5,))),
        ("0", "255", ((0.0,), (255.0,))),
    ],
)
def test_mean_and_std_may_be_of_0_to_1_or_of_0_to_255(mean: str, std: str, expected: object) -> None:
    made = form("--mean", mean, "--std", std)
    assert (made.mean, made.std) == expected


def test_a_mean_of_255_with_a_std_of_1_is_refused() -> None:
    with pytest.raises(click.UsageError, match=r"--mean 123\.675 is of 0\.\.255 and --std 0\.229 of 0\.\.1"):
        form("--mean", "123.675", "--std", "0.229")


def test_a_std_alone_leaves_no_mean_of_the_usual_form() -> None:
    made = form("--std", "255")
    assert (made.mean, made.std) == ((0.0,), (255.0,))


@pytest.mark.parametrize(
    ("words", "size", "shorter_side", "multiple_of"),
    [
        (("--size", "299"), (299, 299), 342, 1),
        (("--size", "224"), (224, 224), 256, 1),
        (("--size", "96x64", "--fit", "stretch"), (96, 64), None, 1),
        (("--size", "96", "--fit", "letterbox"), (96, 96), None, 96),
        (("--size", "640x384", "--fit", "letterbox"), (640, 384), None, (640, 384)),
    ],
)
def test_a_size_and_a_fit_give_rows_of_exactly_that_size(
    words: tuple[str, ...], size: tuple[int, int], shorter_side: int | None, multiple_of: object
) -> None:
    made = form(*words)
    assert (made.size, made.shorter_side, made.multiple_of) == (size, shorter_side, multiple_of)


def test_bgr_turns_the_usual_values_round_and_grey_takes_0_to_1() -> None:
    assert form("--channels", "bgr").mean == IMAGENET[0][::-1]
    grey = form("--channels", "grey", "--size", "96", "--fit", "stretch")
    assert (grey.mean, grey.std, grey.channels) == ((0.0,), (255.0,), 1)


def test_whole_numbers_are_not_scaled() -> None:
    made = form("--dtype", "uint8")
    assert (made.mean, made.std, made.dtype) == ((0.0,), (1.0,), "uint8")


def test_the_pad_of_a_detector_may_be_changed() -> None:
    assert form("--pad", "0", usual=DETECTOR_FORM).pad == 0


@pytest.mark.parametrize(
    "words", [("--mean", "0,0,0", "--std", "1,1,1"), ("--mean", "0"), ("--mean", "0", "--std", "1")]
)
def test_values_that_may_be_of_0_to_1_or_of_0_to_255_are_refused_with_what_to_write(words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError, match=r"--std 255 alone gives 0\.\.1, --std 1 alone leaves 0\.\.255"):
        form(*words)
    assert (form("--std", "255").std, form("--std", "1").std) == ((255.0,), (1.0,))


@pytest.mark.parametrize(
    "words",
    [("--size", "9.5"), ("--size", "big"), ("--size", "nan"), ("--std", "inf"), ("--mean", "1,2"), ("--size", "1x2x3")],
)
def test_options_that_make_no_form_are_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        form(*words)
