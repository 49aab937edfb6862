"""The `preprocessor_config.json` of transformers as an input form. What a form cannot say is refused by name."""

from __future__ import annotations

import math
from typing import Any, Literal

from server.catalogue import InputForm
from server.domain.errors import ConfigurationError

_RESAMPLES: dict[Any, Literal["bilinear", "bicubic"]] = {None: "bilinear", 2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers."""
_MODELLED = {"do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_flip_channel_order", "default_to_square"}
_WITHOUT_EFFECT = {"antialias", "do_convert_rgb", "do_reduce_labels", "reduce_labels", "use_fast"}
"""True in many files, and nothing that a frame of a camera would show."""
_OF_DETECTORS = {"do_pad", "pad_and_return_pixel_mask", "do_convert_annotations"}
"""Pads pictures of one batch to one shape: ours have one."""
_NUMBERS = ("size_divisor", "ensure_multiple_of", "pad_size")
_WARPED_FROM = 384
"""ConvNeXt's processor cuts smaller pictures, and stretches those of this side and more."""


def form_of(stated: dict[str, Any], place: str, *, detects: bool) -> InputForm:
    """The form of what `stated` says, the content of the file `place`.

    Raises ConfigurationError for what a form cannot say, and for values that are none.
    """
    try:
        _check_modelled(stated, detects=detects)
        values = _values(stated)
        geometry = _detector_geometry(stated) if detects else _geometry(stated)
        colour: Literal["rgb", "bgr"] = "bgr" if stated.get("do_flip_channel_order") else "rgb"
        return InputForm(colour, **geometry, **values)
    except ValueError as error:
        raise ConfigurationError(f"{place}: {error}") from error


def _check_modelled(stated: dict[str, Any], *, detects: bool) -> None:
    known = _MODELLED | _WITHOUT_EFFECT | (_OF_DETECTORS if detects else set())
    wrong = [key for key, value in stated.items() if value is True and key not in known and not key.startswith("_")]
    wrong += [key for key in _NUMBERS if stated.get(key) not in (None, False, 1)]
    wrong += ["do_center_crop"] if detects and stated.get("do_center_crop") else []
    if wrong:
        raise ValueError(f"`{wrong[0]}` is set, and no card can say that: the network would see other pictures")
    if stated.get("do_resize") is False:
        raise ValueError("`do_resize` is false, and a card needs one size")
    resample = stated.get("resample")
    if not isinstance(resample, int | None) or resample not in _RESAMPLES:
        raise ValueError(f"`resample` is {resample!r}, and a card has bilinear (2) and bicubic (3) interpolation")


def _values(stated: dict[str, Any]) -> dict[str, Any]:
    """Interpolation, mean and standard deviation."""
    values: dict[str, Any] = {"resample": _RESAMPLES[stated.get("resample")]}
    factor = 1.0
    if stated.get("do_rescale", True):
        factor = (
            1 / 255 if stated.get("rescale_factor") is None else _number(stated["rescale_factor"], "rescale_factor")
        )
        if factor <= 0:
            raise ValueError(f"`rescale_factor` is {factor}, and a positive number is expected")
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    normal = stated.get("do_normalize")
    if normal or (normal is None and stated.get("image_mean") is not None):
        mean, std = (_numbers(stated, key) for key in ("image_mean", "image_std"))
        if min(std) <= 0:
            raise ValueError("`image_std` has a number that is not positive")
        if stated.get("do_flip_channel_order") and len({*mean}) + len({*std}) > 2:
            raise ValueError(
                "`do_flip_channel_order` with another `image_mean` or `image_std` for each colour is unclear"
            )
    return values | {
        key: tuple(round(value / factor, 4) for value in each) for key, each in (("mean", mean), ("std", std))
    }


def _detector_geometry(stated: dict[str, Any]) -> dict[str, Any]:
    size = _sides(stated, "size")
    shortest = size.get("shortest_edge") or size.get("side")
    if not shortest:
        return _stretched(size)
    named = size.get("longest_edge") or stated.get("max_size")
    longest = round(shortest * 5 / 3) if named is None else _side(named, "max_size")
    return {"fit": "letterbox", "size": (longest, longest), "shorter_side": shortest}


def _geometry(stated: dict[str, Any]) -> dict[str, Any]:
    size, crop = _sides(stated, "size"), _sides(stated, "crop_size")
    cuts = bool(crop) if stated.get("do_center_crop") is None else bool(stated["do_center_crop"])
    part = stated.get("crop_pct") and _number(stated["crop_pct"], "crop_pct")
    square = stated.get("default_to_square")
    if "side" in size and not square and (cuts or part or square is False):
        size = {"shortest_edge": size["side"]}
    width, height = (crop.get(key) or crop.get("side") for key in ("width", "height"))
    shortest = size.get("shortest_edge")
    if not shortest:
        geometry = _stretched(size)
        if part or (cuts and geometry["size"] != (width, height)):
            raise ValueError(
                "a `size` of width and height, which is then cut (`do_center_crop`, `crop_pct`), is not known"
            )
        return geometry
    if cuts:
        if not width or not height:
            raise ValueError("`do_center_crop` needs `crop_size`")
        kind = str(stated.get("image_processor_type") or stated.get("feature_extractor_type"))
        shorter = int(shortest * 256 / 224) if kind.startswith("Levit") else int(shortest / (part or 1))
        return {"fit": "crop", "size": (width, height), "shorter_side": shorter}
    if not part:
        raise ValueError("`size` has the `shortest_edge` alone, and nothing cuts the rest: pictures have many shapes")
    if shortest >= _WARPED_FROM:
        return _stretched({"side": shortest})
    return {"fit": "crop", "size": (shortest, shortest), "shorter_side": int(shortest / part)}


def _stretched(size: dict[str, int]) -> dict[str, Any]:
    width, height = (size.get(key) or size.get("side") for key in ("width", "height"))
    if not width or not height:
        raise ValueError("has no `size` of `width` and `height`, or of the `shortest_edge`")
    return {"fit": "stretch", "size": (width, height)}


def _sides(stated: dict[str, Any], key: str) -> dict[str, int]:
    """The sides that are stated, by their names; a number alone is `side`."""
    size = stated.get(key)
    named = size if isinstance(size, dict) else {} if size is None else {"side": size}
    return {name: _side(value, key) for name, value in named.items() if value is not None}


def _side(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"`{key}` has {value!r}, and a positive number of pixels is expected")
    return value


def _numbers(stated: dict[str, Any], key: str) -> tuple[float, ...]:
    values = stated.get(key)
    numbers = tuple(_number(value, key) for value in (values if isinstance(values, list) else [values]))
    if not numbers:
        raise ValueError(f"`{key}` has no numbers")
    return numbers


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"`{key}` is {value!r}, and a number is expected")
    return float(value)
