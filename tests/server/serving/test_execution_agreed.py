"""The server, `doctor` and `models check` refuse the same precision for the same reason: one function decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.domain.errors import ConfigurationError
from server.ensemble import approve, load_ensemble, read_golden, shipped_golden
from server.serving.loading import load
from server.serving.machine import this_machine
from server.settings import ServerSettings

ASKING = ("server.serving.loading", "server.commands.doctor.models", "server.commands.models.proofs")


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives this machine other instructions."""

    def give(*vectors: str) -> None:
        machine = replace(this_machine(), vectors=frozenset(vectors))
        for module in ASKING:
            monkeypatch.setattr(f"{module}.this_machine", lambda: machine)

    return give


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A golden set that judges frame-change only."""
    approve(load_ensemble(["frame-change"]), read_golden(shipped_golden()).named_pictures, tmp_path / "golden")
    return tmp_path / "golden"


def refusals(settings: ServerSettings) -> list[str]:
    """What the server, `doctor` and `models check` say about the settings."""
    with pytest.raises(ConfigurationError) as served:
        load(settings, settings.models)
    given = {"DATA_DIR": settings.data_dir, "EXECUTION": settings.execution, "GOLDEN": settings.golden}
    given |= {"MODELS": ",".join(settings.models)}
    environment = {f"SECTORWATCH_{name}": str(value) for name, value in given.items() if value}
    runs = [CliRunner(env=environment).invoke(command, words) for words in (["doctor"], ["models", "check"])]
    assert 0 not in [run.exit_code for run in runs]
    return [served.value.detail, *(run.output for run in runs)]


@pytest.mark.parametrize(
    ("vectors", "models", "reason"),
    [
        (("avx2",), ("ssdlite-people",), "needs a processor with one of amx_bf16, avx512_bf16, bf16"),
        (("amx_bf16",), ("hog-people", "frame-change"), "none of hog-people, frame-change computes in it"),
        (("amx_bf16",), ("ssdlite-people",), "needs a golden set that judges ssdlite-people"),
    ],
)
def test_a_precision_is_refused_for_the_same_reason_everywhere(
    tmp_path: Path,
    golden: Path,
    has: Callable[..., None],
    vectors: tuple[str, ...],
    models: tuple[str, ...],
    reason: str,
) -> None:
    has(*vectors)
    settings = ServerSettings(data_dir=tmp_path, models=models, execution="bf16", golden=golden)
    assert [reason in " ".join(said.split()) for said in refusals(settings)] == [True, True, True]
