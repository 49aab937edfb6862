"""Another arithmetic is asked for by name, is part of the ensemble's name, and serves what the golden set approves.

How quick it is, is not a matter of tests: bf16 is computed here on any processor, however slowly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from server.catalogue import ModelCard, cache_dir, card_named, locate
from server.catalogue.lock import differences
from server.domain.errors import ConfigurationError, Unapproved
from server.domain.precision import BF16, Execution, check_execution
from server.ensemble import Ensemble, approve, load_ensemble, read_golden, shipped_golden
from server.ensemble.building import network_of
from server.ensemble.golden import SURE
from server.ensemble.module import EnsembleModule
from server.pipeline.response import top_label
from server.serving.loading import load
from server.serving.machine import this_machine
from server.settings import ServerSettings
from tests.server.ensemble.others import folder_of, network
from tests.server.ensemble.test_module import CLASSES, TinyClassifier, card


class HairsBreadth(nn.Module):
    """Two classes a half apart, on top of a thousand: more than the 8 bits of bfloat16 tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(len(CLASSES)), requires_grad=False)

    def forward(self, rows: Tensor) -> Tensor:
        offset = torch.tensor([1000.0, 1000.5, *[0.0] * (len(CLASSES) - 2)], dtype=self.scale.dtype)
        return (rows.mean((1, 2, 3))[:, None] * 0 + offset) * self.scale


def ensemble(network: nn.Module, made: ModelCard, execution: Execution) -> Ensemble:
    ensemble = Ensemble(EnsembleModule([(made, network)]).eval(), execution=execution)
    ensemble.tune()
    return ensemble


@pytest.mark.parametrize("vectors", [{"avx2", "avx512f"}, set(), None])
def test_bf16_is_refused_by_name_on_a_processor_without_it(vectors: set[str] | None) -> None:
    with pytest.raises(ConfigurationError, match="needs a processor with one of amx_bf16, avx512_bf16, bf16"):
        check_execution("bf16", vectors, {"namer": True})


@pytest.mark.parametrize("vector", ["amx_bf16", "avx512_bf16", "bf16"])
def test_bf16_is_taken_where_the_processor_has_it(vector: str) -> None:
    check_execution("bf16", {"avx2", vector}, {"namer": True, "eye": False}, {"namer"})


def test_float32_is_taken_everywhere() -> None:
    check_execution("fp32", None, {"eye": False}, ())


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_in_bf16_a_real_classifier_answers_the_golden_set_as_approved(cache_dir: Path) -> None:
    lowered = load_ensemble(["efficientnet-lite0"], cache=cache_dir, execution="bf16")
    computing = next(iter(lowered._network.networks.values()))
    assert {parameter.dtype for parameter in computing.parameters()} == {torch.bfloat16}
    golden = read_golden(shipped_golden())
    assert golden.uncovered(lowered) == []
    assert golden.faults(lowered, execution="bf16") == []


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def test_bf16_changes_no_label_of_the_golden_set_that_had_won_or_is_refused_on_this_processor(
    name: str, tmp_path: Path, cache_dir: Path
) -> None:
    settings = ServerSettings(data_dir=tmp_path, execution="bf16")
    if not set(BF16) & set(this_machine().vectors or ()):
        with pytest.raises(
            ConfigurationError, match=r"needs a processor with one of amx_bf16, avx512_bf16, bf16; .* use \"fp32\""
        ):
            load(settings, [name])
        return
    golden = read_golden(shipped_golden())
    loaded = load(settings, [name])
    loaded.check(loaded.ensemble)
    answers = loaded.ensemble.answer(golden.pictures)
    pairs = [
        (picture.expected[name], answer[name]) for picture, answer in zip(golden.set.pictures, answers, strict=True)
    ]
    won = [(was.label, top_label(now)) for was, now in pairs if was.margin >= SURE]
    assert len(won) >= 4
    assert [now for _, now in won] == [was for was, _ in won]


@pytest.mark.usefixtures("one_thread")
def test_what_bf16_answers_otherwise_is_told_with_the_setting_that_makes_it_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = replace(this_machine(), vectors=frozenset({"avx512_bf16"}))
    monkeypatch.setattr("server.serving.loading.this_machine", lambda: machine)
    folder_of(tmp_path / "models", "state_dict", network(1), "mine")

    approve(
        load_ensemble(["mine"], folders=[tmp_path / "models"]),
        read_golden(shipped_golden()).named_pictures,
        tmp_path / "golden",
    )
    kept = (tmp_path / "golden" / "golden.json").read_text()
    other = re.sub(r'"score": [0-9.]+', '"score": 0.01', kept)
    (tmp_path / "golden" / "golden.json").write_text(other)
    settings = ServerSettings(
        data_dir=tmp_path, models_dir=tmp_path / "models", golden=tmp_path / "golden", execution="bf16"
    )
    loaded = load(settings, ["mine"])
    with pytest.raises(Unapproved, match='computes in bf16: set execution = "fp32"'):
        loaded.check(loaded.ensemble)


def test_the_arithmetic_is_part_of_the_ensemble_s_name_and_of_its_lock() -> None:
    made = card("tiny", "classifier")
    plain, lowered = (ensemble(TinyClassifier(1), made, execution) for execution in ("fp32", "bf16"))
    assert plain.ensemble_info.ensemble != lowered.ensemble_info.ensemble
    assert lowered.lock.digest == lowered.ensemble_info.ensemble
    assert differences(plain.lock, lowered.lock) == [
        "code of tiny: `bf16` is 1, locked was None",
        "execution: `classifiers` is bf16, locked was None",
    ]


def test_a_label_that_changes_in_bf16_is_not_served(tmp_path: Path) -> None:
    made = card("narrow", "classifier")
    approve(ensemble(HairsBreadth(), made, "fp32"), read_golden(shipped_golden()).named_pictures, tmp_path)
    golden = read_golden(tmp_path)
    golden.check(ensemble(HairsBreadth(), made, "fp32"))
    with pytest.raises(Unapproved, match="narrow"):
        golden.check(ensemble(HairsBreadth(), made, "bf16"), execution="bf16")


def test_a_network_that_cannot_compute_so_is_refused_by_name() -> None:
    class InDoubles(TinyClassifier):
        def forward(self, rows: Tensor) -> Tensor:
            return super().forward(rows) @ torch.eye(2, dtype=torch.float32)

    with pytest.raises(ConfigurationError, match='stubborn cannot be served with execution = "bf16"'):
        ensemble(InDoubles(1), card("stubborn", "classifier"), "bf16")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["yolov3-tiny", "nanodet-g", "ssdlite-people"])
def test_in_bf16_a_detector_answers_the_golden_set_as_approved(name: str, cache_dir: Path) -> None:
    plain, lowered = (load_ensemble([name], cache=cache_dir, execution=execution) for execution in ("fp32", "bf16"))
    convolutions = [part for part in lowered._network.modules() if isinstance(part, nn.Conv2d)]
    assert {part.weight.dtype for part in convolutions} == {torch.bfloat16}
    assert read_golden(shipped_golden()).faults(lowered, execution="bf16") == []
    assert differences(plain.lock, lowered.lock) == [
        f"code of {name}: `bf16` is 1, locked was None",
        "execution: `classifiers` is bf16, locked was None",
        "execution: `detectors` is bf16, locked was None",
    ]


def test_a_detector_that_the_golden_set_does_not_approve_stays_in_float32(cache_dir: Path) -> None:
    lowered = load_ensemble(["yolov3-tiny-608"], cache=cache_dir, execution="bf16")
    assert {value.dtype for value in lowered._network.parameters()} == {torch.float32}
    assert "detectors" not in lowered.lock.execution


def test_a_card_of_another_kind_cannot_ask_for_bf16() -> None:
    with pytest.raises(ValueError, match="`bf16` is for detectors of Sectorwatch"):
        msgspec.structs.replace(card("tiny", "classifier"), bf16=True)


def test_a_card_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match='device = "cuda" needs a CUDA card'):
        load_ensemble(["frame-change"], device="cuda")


def test_the_device_is_part_of_the_ensemble_s_name_and_gets_one_thread() -> None:
    network = EnsembleModule([(card("tiny", "classifier"), TinyClassifier(1))]).eval()
    here, there = Ensemble(network), Ensemble(network, device="cuda")
    assert differences(here.lock, there.lock) == ["execution: `device` is cuda, locked was None"]
    assert (here.on_accelerator, there.on_accelerator) == (False, True)


@pytest.mark.parametrize(
    "name", ["yolov3-tiny", "hog-people", "hog-people-small", "nanodet-g", "ssdlite-people", "efficientnet-lite0"]
)
def test_no_network_keeps_a_tensor_that_would_not_move_to_a_card(name: str) -> None:
    network = network_of(card_named(name), locate(card_named(name), cache_dir()))
    left = [key for part in network.modules() for key, value in vars(part).items() if isinstance(value, Tensor)]
    assert left == []
