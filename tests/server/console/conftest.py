"""Fixtures only: a yard with a past that the tests of pages copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.console.scene import console


@pytest.fixture(scope="session")
def walked_yard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an application with a yard that somebody walked across."""
    folder = tmp_path_factory.mktemp("walked") / "data"
    with console(folder):
        return folder
