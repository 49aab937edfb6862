"""One broken card disables one model, which is named; the others serve."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.app import create_app, runtime_of
from server.domain.errors import ConfigurationError
from server.serving.loading import usable_cards
from server.settings import ServerSettings
from tests.server.ensemble.others import folder_of, network
from tests.server.swaps import joined


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    for name in ("good", "bad"):
        folder_of(tmp_path / "own", "torchscript", network(), name)
    card = tmp_path / "own" / "bad" / "card.toml"
    card.write_text(card.read_text().replace("colour", "color"))
    return ServerSettings(data_dir=tmp_path / "data", models_dir=tmp_path / "own", models=("good", "bad"))


def test_the_model_of_a_broken_card_is_named_and_the_others_are_usable(settings: ServerSettings) -> None:
    cards, [fault] = usable_cards(settings, settings.models)
    assert [card.name for card in cards] == ["good"]
    assert fault.name == "bad"
    assert "unknown key `color`, did you mean `colour`?" in fault.detail


def test_a_broken_card_is_known_by_the_name_in_it(settings: ServerSettings) -> None:
    assert settings.models_dir is not None
    (settings.models_dir / "bad").rename(settings.models_dir / "folder-of-another-name")
    cards, [fault] = usable_cards(settings, settings.models)
    assert ([card.name for card in cards], fault.name) == (["good"], "bad")


def test_a_server_whose_only_card_is_broken_is_refused(settings: ServerSettings) -> None:
    with pytest.raises(ConfigurationError, match=r"bad/card\.toml:12: unknown key `color`"):
        usable_cards(settings, ["bad"])


def test_a_name_that_no_card_has_is_refused_as_before(settings: ServerSettings) -> None:
    with pytest.raises(ConfigurationError, match="no model is named `goood`, did you mean `good`"):
        usable_cards(settings, ["good", "goood"])


def test_the_server_starts_with_the_others_and_the_log_names_the_broken_one(
    settings: ServerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = runtime_of(create_app(settings, channels=[]))
    runtime.store.upgrade()
    failed: list[Exception] = []
    with caplog.at_level(logging.ERROR):
        runtime.start(on_failure=failed.append)
        joined(runtime, "sectorwatch-loading")
    served, _before = runtime.service.in_service()
    runtime.stop()
    assert failed == []
    assert served is not None
    assert served.models == ("good",)
    [record] = [record for record in caplog.records if record.message.startswith("model not served")]
    assert (record.levelname, vars(record)["model"]) == ("ERROR", "bad")
    assert record.message == "model not served: its card cannot be used"


def test_the_cards_that_are_shown_do_not_fail_for_a_broken_one_beside_them(settings: ServerSettings) -> None:
    from server.app.composition import _card

    assert settings.models_dir is not None
    assert _card("good", [settings.models_dir])["summary"] == "for tests"


def test_doctor_names_the_broken_card_and_judges_the_others(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"MODELS": "good,bad", "MODELS_DIR": settings.models_dir, "DATA_DIR": tmp_path / "data"}.items():
        monkeypatch.setenv(f"SECTORWATCH_{name}", str(value))
    shown = CliRunner().invoke(command, ["doctor"]).stdout
    assert "bad is not served: " in shown
    assert f"-> mend {settings.models_dir}/bad/card.toml" in shown
    assert "good: " in shown


def test_a_card_that_shows_no_name_disables_no_model_of_its_folders_name(settings: ServerSettings) -> None:
    assert settings.models_dir is not None
    nameless = settings.models_dir / "hog-people" / "card.toml"
    nameless.parent.mkdir()
    nameless.write_text("nothing = 'of a card'\n")
    cards, faults = usable_cards(settings, ["good", "hog-people"])
    assert ([card.name for card in cards], faults) == (["good", "hog-people"], [])


def test_a_name_that_two_cards_claim_is_refused(settings: ServerSettings) -> None:
    """Else the server would go on with one model fewer."""
    assert settings.models_dir is not None
    twin = settings.models_dir / "twin" / "card.toml"
    twin.parent.mkdir()
    twin.write_text((settings.models_dir / "good" / "card.toml").read_text())
    with pytest.raises(ConfigurationError, match=r"already a model named good, .*; rename one of the two models"):
        usable_cards(settings, ["good", "bad"])
