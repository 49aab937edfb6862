"""`sectorwatch models` says what it did, and its exit code says whether it did it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.commands.models.models import command
from tests.server.catalogue.sources import DIGEST, WEIGHTS
from tests.server.catalogue.test_card import CARD


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one model of the user's, whose weights lie beside its card."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    weights = f'sha256 = "{DIGEST}"\nsize_bytes = {len(WEIGHTS)}\n\n[input]'
    source = '\n[[sources]]\nfrom = "file"\npath = "net.pt"\n'
    (folder / "card.toml").write_text(CARD.replace("[input]", weights) + source)
    (folder / "net.pt").write_bytes(WEIGHTS)
    return folder.parent


def run(*arguments: object, cache: Path) -> Result:
    result = CliRunner(env={"SECTORWATCH_CACHE_DIR": str(cache)}).invoke(command, [str(each) for each in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), "a traceback"
    return result


def test_list_shows_every_model_and_whether_its_weights_are_here(models: Path, tmp_path: Path) -> None:
    result = run("list", "--models-dir", models, cache=tmp_path)
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[1:]}
    assert "not pulled" in rows["yolov3-tiny"]
    assert "here" in rows["hog-people"]
    assert "none needed" in rows["frame-change"]
    assert "here" in rows["mine"]


def test_pull_of_what_is_here_is_done_at_once(models: Path, tmp_path: Path) -> None:
    result = run("pull", "mine", "hog-people", "frame-change", "--models-dir", models, cache=tmp_path)
    assert result.exit_code == 0
    assert f"sha256 {DIGEST}" in result.stdout
    assert "frame-change: no weights needed" in result.stdout


def test_pull_that_fails_says_why_and_goes_on_with_the_others(models: Path, tmp_path: Path) -> None:
    (models / "mine" / "net.pt").write_bytes(b"other")
    result = run("pull", "mine", "hog-people", "--models-dir", models, cache=tmp_path)
    assert result.exit_code == 1
    todo = "the file is a text: download the file itself; put the right file there"
    meant = f"or if that is meant put it into {models}/mine/card.toml"
    assert f"its card {DIGEST}: {todo}, {meant}" in result.stderr
    assert "hog-people:" in result.stdout


def test_verify_is_content_with_right_weights(models: Path, tmp_path: Path) -> None:
    result = run("verify", "mine", "hog-people-small", "frame-change", "--models-dir", models, cache=tmp_path)
    assert result.exit_code == 0
    assert result.stderr == ""


def test_verify_shows_both_digests_of_wrong_weights(models: Path, tmp_path: Path) -> None:
    (models / "mine" / "net.pt").write_bytes(b"other")
    result = run("verify", "mine", "--models-dir", models, cache=tmp_path)
    assert result.exit_code == 1
    assert "has sha256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa" in result.stderr
    assert f"its card {DIGEST}" in result.stderr


def test_verify_of_weights_that_were_never_pulled_says_what_to_do(tmp_path: Path) -> None:
    result = run("verify", "yolov3-tiny", cache=tmp_path)
    assert result.exit_code == 1
    assert "run `sectorwatch models pull yolov3-tiny`" in result.stderr


URL = '\n[[sources]]\nfrom = "url"\nurl = "https://models.example/net.pt"\n'


def test_pull_is_advised_only_where_it_can_help(models: Path, tmp_path: Path) -> None:
    def verified() -> str:
        result = run("verify", "mine", "--models-dir", models, cache=tmp_path)
        assert result.exit_code == 1
        return result.stderr

    card, net = models / "mine" / "card.toml", models / "mine" / "net.pt"
    net.write_bytes(b"other")
    assert "models pull" not in verified()
    assert "put the right file there" in verified()
    net.unlink()
    assert f"put the file at {net}: its card names no place from where it can be fetched" in verified()
    assert "missing" in run("list", "--models-dir", models, cache=tmp_path).stdout
    card.write_text(card.read_text() + URL)
    assert "run `sectorwatch models pull mine`" in verified()
    net.write_bytes(b"other")  # it comes before what is pulled
    assert "remove it and run `sectorwatch models pull mine`" in verified()


@pytest.mark.parametrize("verb", ["pull", "verify"])
def test_an_unknown_name_is_a_message_and_not_a_traceback(verb: str, tmp_path: Path) -> None:
    result = run(verb, "yolo3-tiny", cache=tmp_path)
    assert result.exit_code == 1
    assert "did you mean `yolov3-tiny`" in result.stderr


def test_a_card_with_a_mistake_is_a_message_and_not_a_traceback(models: Path, tmp_path: Path) -> None:
    (models / "mine" / "card.toml").write_text(CARD.replace("licence", "license"))
    result = run("list", "--models-dir", models, cache=tmp_path)
    assert result.exit_code == 1
    assert "card.toml:6: unknown key `license`, did you mean `licence`?" in result.stderr


@pytest.mark.parametrize("verb", ["pull", "verify"])
def test_the_ensemble_is_that_of_the_servers_settings_file(verb: str, models: Path, tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text('models = ["mine", "hog-people"]\nmodels_dir = "models"\n')
    result = run(verb, "--config", config, cache=tmp_path / "cache")
    assert result.exit_code == 0
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["mine", "hog-people"]


def test_one_bad_card_hides_no_other_model(models: Path, tmp_path: Path) -> None:
    (models / "bad").mkdir()
    (models / "bad" / "card.toml").write_text("name = ")
    (models / "worse").mkdir()
    (models / "worse" / "card.toml").write_bytes(b"name = \xff")
    listed = run("list", "--models-dir", models, cache=tmp_path)
    assert listed.exit_code == 1
    assert {"mine", "yolov3-tiny"} <= {line.split()[0] for line in listed.stdout.splitlines()}
    assert "bad/card.toml: Invalid value" in listed.stderr
    assert "worse/card.toml cannot be read: line 1 has the byte 0xff" in listed.stderr
    assert run("verify", "mine", "--models-dir", models, cache=tmp_path).exit_code == 0
    every = run("verify", "--all", "--models-dir", models, cache=tmp_path)
    assert every.exit_code == 1
    assert "mine: " in every.stdout
    refused = run("verify", "bad", "--models-dir", models, cache=tmp_path)
    assert "bad/card.toml: Invalid value" in refused.stderr
    unknown = run("verify", "other", "--models-dir", models, cache=tmp_path)
    assert "no model is named `other`" in unknown.stderr
    assert "not usable: " in unknown.stderr


def test_a_name_that_two_cards_have_is_used_for_neither(models: Path, tmp_path: Path) -> None:
    (models / "twin").mkdir()
    (models / "twin" / "card.toml").write_text(CARD)
    refused = run("verify", "mine", "--models-dir", models, cache=tmp_path)
    assert refused.exit_code == 1
    assert "twin/card.toml: there is already a model named mine" in refused.stderr


def test_a_folder_without_a_card_is_named(models: Path, tmp_path: Path) -> None:
    (models / "mine" / "card.toml").rename(models / "mine" / "card.toml.txt")
    refused = run("verify", "mine", "--models-dir", models, cache=tmp_path)
    assert f"no model is named `mine`, and {models / 'mine'} has no card.toml" in refused.stderr


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_card_that_windows_saved_is_read(mark: str, models: Path, tmp_path: Path) -> None:
    card = models / "mine" / "card.toml"
    card.write_bytes((mark + card.read_text()).replace("\n", "\r\n").encode())
    assert run("verify", "mine", "--models-dir", models, cache=tmp_path).exit_code == 0


def test_weights_that_are_a_pointer_are_named(models: Path, tmp_path: Path) -> None:
    (models / "mine" / "net.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    refused = run("verify", "mine", "--models-dir", models, cache=tmp_path)
    assert "the file is a Git LFS pointer and not the file itself: run `git lfs pull`" in refused.stderr
