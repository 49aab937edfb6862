"""The most memory that a server may need is known before it starts; what does not fit is refused with what to lower."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from server.catalogue import card_named
from server.domain.errors import TooBig
from server.serving.machine import Machine, growth_bytes, resident_bytes
from server.serving.memory_budget import (
    BODIES,
    FILE,
    beside,
    check_fits,
    estimated,
    expected,
    footprint,
    limit_bytes,
    measured,
    remember,
    remembered,
)
from server.settings import ServerSettings

MIB = 1 << 20
GIB = 1 << 30
CARDS = [card_named("yolov3-tiny"), card_named("frame-change")]
SETTINGS = ServerSettings(models=("yolov3-tiny", "frame-change"), inference_threads=2)


def most(settings: ServerSettings, workers: int = 2) -> int:
    return footprint(settings, estimated(CARDS), CARDS, workers).bytes


@pytest.mark.parametrize("smaller", [{"max_pixels": 1_000_000}, {"max_body_bytes": MIB}, {"max_frames": 1}])
def test_a_lower_setting_is_a_lower_bound(smaller: dict[str, int]) -> None:
    assert most(msgspec.structs.replace(SETTINGS, **smaller)) < most(SETTINGS)


def test_each_worker_adds_a_frame_and_a_portion() -> None:
    assert most(SETTINGS, 3) - most(SETTINGS, 2) > 12 * SETTINGS.max_pixels


def test_more_uploads_at_once_add_nothing_since_their_bytes_are_bounded_together() -> None:
    assert most(msgspec.structs.replace(SETTINGS, admission_limit=30, threads=50)) == most(SETTINGS)
    assert most(SETTINGS) > BODIES * SETTINGS.max_body_bytes


def test_what_fits_is_not_refused_and_an_unknown_limit_refuses_nothing() -> None:
    bound = footprint(SETTINGS, estimated(CARDS), CARDS, 2)
    check_fits(SETTINGS, bound, bound.bytes)
    check_fits(SETTINGS, bound, None)


def test_what_does_not_fit_is_refused_and_lowering_as_told_makes_it_fit() -> None:
    bound = footprint(SETTINGS, estimated(CARDS), CARDS, 2)
    limit = bound.bytes - 300 * MIB
    with pytest.raises(TooBig, match=r"lower `max_pixels` to (\d+) or `max_body_bytes` to (\d+)") as refused:
        check_fits(SETTINGS, bound, limit)
    words = refused.value.detail.split()
    for setting in ("max_pixels", "max_body_bytes"):
        told = int(words[words.index(f"`{setting}`", words.index("lower")) + 2].rstrip(","))
        lowered = msgspec.structs.replace(SETTINGS, **{setting: told})
        check_fits(lowered, footprint(lowered, estimated(CARDS), CARDS, 2), limit)
        assert told > 0.5 * getattr(SETTINGS, setting)


def test_where_no_single_setting_is_enough_it_says_so() -> None:
    bound = footprint(SETTINGS, estimated(CARDS), CARDS, 2)
    with pytest.raises(TooBig, match="together, or serve fewer or smaller models"):
        check_fits(SETTINGS, bound, 100 * MIB)


def test_the_limit_is_the_settings_or_else_the_machines() -> None:
    machine = Machine(2, None, None, 4 * GIB)
    assert limit_bytes(SETTINGS, machine) == 4 * GIB
    assert limit_bytes(msgspec.structs.replace(SETTINGS, memory_limit_bytes=GIB), machine) == GIB
    assert limit_bytes(SETTINGS, Machine(2, None, None)) is None


def test_what_was_measured_is_known_at_the_next_start_for_these_models_alone(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path)
    assert remembered(CARDS, tmp_path) == estimated(CARDS)
    remember(measured(CARDS, 123 * MIB, 4 * MIB), tmp_path)
    assert remembered(CARDS, tmp_path).resident_bytes == 123 * MIB
    assert remembered(CARDS[:1], tmp_path) == estimated(CARDS[:1])
    assert expected(settings, settings.models, Machine(2, None, None)) == footprint(
        settings, measured(CARDS, 123 * MIB, 4 * MIB), CARDS, 2
    )
    (tmp_path / FILE).write_text("no measurement")
    assert remembered(CARDS, tmp_path) == estimated(CARDS)


def test_what_the_disk_does_not_take_is_measured_again_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"{FILE}.new").mkdir()
    remember(measured(CARDS, 400 * MIB, 20 * MIB), tmp_path)
    assert "memory not remembered" in caplog.text
    assert remembered(CARDS, tmp_path) == estimated(CARDS)


def test_where_the_system_does_not_tell_the_estimate_stands() -> None:
    assert measured(CARDS, None, None) == estimated(CARDS)


def test_an_ensemble_beside_another_needs_room_for_both() -> None:
    present = measured(CARDS, 900 * MIB, 80 * MIB)
    both = beside(present, CARDS)
    assert both.resident_bytes > 900 * MIB + (CARDS[0].size_bytes or 0)
    assert both.computing_bytes == 80 * MIB


def test_the_growth_of_a_call_is_what_it_had_at_most() -> None:
    def fill() -> None:
        bytearray(b"\1" * (64 * MIB))

    growth = growth_bytes(fill)
    assert growth is not None
    assert 64 * MIB <= growth < 256 * MIB
    assert (resident_bytes() or 0) > 0


def test_a_call_that_fails_while_it_is_measured_fails() -> None:
    def fail() -> None:
        raise ValueError("no picture")

    with pytest.raises(ValueError, match="no picture"):
        growth_bytes(fail)
