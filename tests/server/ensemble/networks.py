"""Networks of users, for the tests of adoption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from server.domain.errors import ConfigurationError
from tests.server.ensemble.others import CLASSES
from tests.server.ensemble.others import adopt_here as adopt
from tests.server.ensemble.pictures import encoded, scene

PICTURES = [encoded(scene(60 + 13 * index, 50 + 7 * index, seed=index)) for index in range(5)]


def traced(made: nn.Module, folder: Path, shape: tuple[int, ...] = (2, 3, 224, 224), name: str = "net") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.pt"
    torch.jit.trace(made, torch.rand(shape), check_trace=False).save(str(file))
    return file


def refused(made: nn.Module | Path, tmp_path: Path, classes: tuple[str, ...] = CLASSES, **options: str) -> str:
    file = made if isinstance(made, Path) else traced(made, tmp_path)
    with pytest.raises(ConfigurationError) as error:
        adopt(file, classes, tmp_path / "models", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "models").exists()
    assert "\n" not in error.value.detail
    assert len(error.value.detail) < 600
    return error.value.detail
