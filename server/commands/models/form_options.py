"""The options of `models adopt` and its kin that say what a network gets to see, as an input form."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import click
import msgspec

from server.catalogue.card import Dtype, InputForm
from server.domain.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

_NAMES = ("size", "fit", "mean", "std", "channels", "pad", "dtype")
_CROPPED = 7 / 8
"""The side of the centre over the shorter side of the picture, as in 224 of 256."""
_RAW = ("uint8", "int64")


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers between commas, blanks or, for a size, an x."""

    name = "NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in re.split(r"[\s,x]+", str(value).strip("[]() ")))
        except ValueError:
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is no list of numbers, as `123.675,116.28,103.53` or `224x224`", param, ctx)
        return numbers


def form_options(command: F) -> F:
    """Adds the options of an input form. Hand their values to `form_of`."""
    for option in reversed(
        (
            click.option("--size", type=Numbers(), help="Width and height that the network gets: 96 or 640x384."),
            click.option(
                "--fit",
                type=click.Choice(("stretch", "letterbox", "crop", "shrink")),
                help="How a picture is brought to that size; `crop` takes the centre.",
            ),
            click.option(
                "--mean",
                type=Numbers(),
                help="Subtracted from each colour. Values up to 1 are of 0..1, else of 0..255.",
            ),
            click.option(
                "--std",
                type=Numbers(),
                help="What each colour is then divided by; 255 alone gives 0..1, 1 alone leaves 0..255.",
            ),
            click.option("--channels", type=click.Choice(("rgb", "bgr", "grey")), help="The colours, in their order."),
            click.option("--pad", type=click.IntRange(0, 255), help="The grey around a letterbox."),
            click.option("--dtype", type=click.Choice(get_args(Dtype)), help="The number format of the input."),
        )
    ):
        command = option(command)
    return command


def form_of(options: Mapping[str, Any], usual: InputForm) -> InputForm:
    """The form that the options give, `usual` in what they leave open. The options of forms are taken out of it.

    Raises UsageError for options that contradict each other.
    """
    given = {name: options[name] for name in _NAMES if options[name] is not None}
    if not given:
        return usual
    changes: dict[str, Any] = {"dtype": given.get("dtype", usual.dtype), "pad": given.get("pad", usual.pad)}
    changes["colour"] = given.get("channels", usual.colour)
    changes |= _geometry(given, usual) | _values(given, usual)
    try:
        return msgspec.structs.replace(usual, **changes)
    except (ValueError, ConfigurationError) as error:
        raise click.UsageError(f"these options do not go together: {error}") from error


def _geometry(given: Mapping[str, Any], usual: InputForm) -> dict[str, Any]:
    size = _size(given["size"]) if "size" in given else usual.size
    fit = given.get("fit", usual.fit)
    geometry: dict[str, Any] = {"fit": fit, "size": size, "shorter_side": None, "multiple_of": 1}
    if fit == "crop":
        is_usual = usual.fit == "crop" and size == usual.size
        geometry["shorter_side"] = usual.shorter_side if is_usual else round(max(size) / _CROPPED)
    elif fit == "letterbox":  # padded to exactly the size, unless the usual form says otherwise
        is_usual = usual.fit == "letterbox" and size == usual.size
        geometry["multiple_of"] = usual.multiple_of if is_usual else size[0] if size[0] == size[1] else size
        geometry["shorter_side"] = usual.shorter_side if is_usual else None
    if fit != "crop":
        geometry["sector_fit"] = "stretch"
    return geometry


def _size(numbers: Sequence[float]) -> tuple[int, int]:
    if len(numbers) not in (1, 2) or any(number != int(number) or number < 1 for number in numbers):
        raise click.UsageError("--size is one side (96) or a width and a height (640x384), in pixels")
    return int(numbers[0]), int(numbers[-1])


def _values(given: Mapping[str, Any], usual: InputForm) -> dict[str, Any]:
    """Mean and std, of 0..255. Where none is given, those of the usual form, for the colours in the order asked for."""
    if "mean" in given or "std" in given:
        mean, std = given.get("mean", (0.0,)), given.get("std", (1.0,))
        if not any(mean) and set(std) == {1.0} and "mean" in given:
            raise click.UsageError(
                f"--mean {_shown(mean)} with --std {_shown(std)} may be of 0..1 or of 0..255: "
                "--std 255 alone gives 0..1, --std 1 alone leaves 0..255"
            )
        if all(abs(value) <= 1 for value in mean) and all(value <= 1 for value in std) and (any(mean) or min(std) < 1):
            mean, std = (tuple(round(value * 255, 4) for value in values) for values in (mean, std))
        elif min(std) < 1:
            raise click.UsageError(
                f"--mean {_shown(mean)} is of 0..255 and --std {_shown(std)} of 0..1: give both of one"
            )
        return {"mean": mean, "std": std}
    colour = given.get("channels", usual.colour)
    if given.get("dtype", usual.dtype) in _RAW:
        return {"mean": (0.0,), "std": (1.0,)}
    if colour == usual.colour:
        return {}
    if colour == "grey":
        return {"mean": (0.0,), "std": (255.0,)}
    return {"mean": usual.mean[::-1], "std": usual.std[::-1]}


def described(form: InputForm) -> str:
    """The form in one line."""
    width, height = form.size
    shorter = f", shorter side at most {form.shorter_side}" if form.shorter_side else ""
    how = {"crop": f"centre of {form.shorter_side}", "letterbox": f"letterbox{shorter}, pad {form.pad}"}.get(
        form.fit, form.fit
    )
    raw = (form.mean, form.std) == ((0.0,), (1.0,))
    values = "values 0..255" if raw else f"values (v - {_shown(form.mean)}) / {_shown(form.std)}"
    return f"{form.colour} {width}x{height} ({how}), {values}, {form.dtype}"


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
