"""Settings are declared once; file, environment and command line agree on them or are refused with the place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from server.domain.keeping import Keep, KeepFrames
from server.domain.remembered import remember
from server.settings import InvalidSettings, described, given_settings, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in described():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv("SECTORWATCH_CONFIG", raising=False)


def written(folder: Path, text: str) -> Path:
    path = folder / "server.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_listen_on_loopback_and_keep_everything_in_one_folder() -> None:
    settings = load_settings()
    assert settings.host == "127.0.0.1"
    assert settings.database_url == f"sqlite:///{settings.data_dir}/sectorwatch.sqlite"
    assert settings.sites_dir == settings.data_dir / "sites"
    assert settings.threads > settings.admission_limit


def test_the_environment_goes_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, 'port = 1111\nhost = "127.0.0.2"\nmax_frames = 8\n')
    monkeypatch.setenv("SECTORWATCH_HOST", "127.0.0.3")
    monkeypatch.setenv("SECTORWATCH_MAX_FRAMES", "16")
    settings = load_settings(path, max_frames=32, port=None)
    assert (settings.port, settings.host, settings.max_frames) == (1111, "127.0.0.3", 32)


def test_the_config_variable_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_CONFIG", str(written(tmp_path, "port = 1234")))
    assert load_settings().port == 1234


def test_a_variable_may_name_a_file_with_the_value_as_containers_get_their_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://sectorwatch:word@database/sectorwatch\n")
    monkeypatch.setenv("SECTORWATCH_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("SECTORWATCH_NOTHING_OF_OURS_FILE", "/nowhere")
    assert load_settings().database_url == "postgresql://sectorwatch:word@database/sectorwatch"
    monkeypatch.setenv("SECTORWATCH_DATABASE_URL", "sqlite:///x")
    with pytest.raises(InvalidSettings, match="SECTORWATCH_DATABASE_URL_FILE are both set"):
        load_settings()
    monkeypatch.delenv("SECTORWATCH_DATABASE_URL")
    secret.write_text("\n")
    with pytest.raises(InvalidSettings, match=r"SECTORWATCH_DATABASE_URL_FILE: .*database_url is empty"):
        load_settings()
    secret.unlink()
    with pytest.raises(InvalidSettings, match="SECTORWATCH_DATABASE_URL_FILE: No such file"):
        load_settings()


def test_a_file_of_a_variable_is_not_read_where_the_variable_is_empty_or_an_option_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECTORWATCH_LOG_LEVEL_FILE", "")
    assert load_settings().log_level == "info"
    monkeypatch.setenv("SECTORWATCH_DATABASE_URL", "")
    monkeypatch.setenv("SECTORWATCH_DATABASE_URL_FILE", "/nowhere")
    assert load_settings(database_url="sqlite:///x").database_url == "sqlite:///x"


def test_lists_and_flags_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people, frame-change")
    monkeypatch.setenv("SECTORWATCH_OPEN_CLASSIFY", "true")
    settings = load_settings()
    assert settings.models == ("hog-people", "frame-change")
    assert settings.open_classify is True


def test_relative_paths_in_the_file_count_from_its_folder(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, 'data_dir = "data"\nsites_dir = "my/sites"'))
    assert settings.data_dir == tmp_path / "data"
    assert settings.sites_dir == tmp_path / "my/sites"
    assert settings.database_url == f"sqlite:///{tmp_path}/data/sectorwatch.sqlite"


@pytest.mark.parametrize("name", ["sites_dir", "models_dir", "lock", "golden"])
def test_every_path_may_be_given_by_the_data_folder(tmp_path: Path, name: str) -> None:
    settings = load_settings(written(tmp_path, f'data_dir = "data"\n{name} = "{{data_dir}}/mine"'))
    assert getattr(settings, name) == tmp_path / "data/mine"


def test_an_unknown_setting_is_refused_with_its_line_and_the_one_that_was_meant(tmp_path: Path) -> None:
    path = written(tmp_path, '# mine\nhost = "::1"\n\nprot = 80\n')
    with pytest.raises(InvalidSettings, match=r"server\.toml, line 4: unknown setting `prot`; did you mean `port`\?"):
        load_settings(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('port = "80"', "line 1: `port`: expected `int`, got `str`"),
        ("\nmax_frames = 0", "line 2: `max_frames`: expected `int` >= 1"),
        ("models = []", "line 1: `models`"),
        ('log_style = "yaml"', "line 1: `log_style`"),
        ("port = ", "not valid TOML"),
        ("[limits]\nmax_frames = 3", "line 1: unknown setting `limits`"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(written(tmp_path, text))
    assert complaint in caught.value.detail


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"nowhere\.toml: No such file"):
        load_settings(tmp_path / "nowhere.toml")


def test_a_misspelt_variable_is_refused_and_a_stranger_s_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_TOKEN", "not ours")
    load_settings()
    monkeypatch.setenv("SECTORWATCH_PROT", "80")
    with pytest.raises(InvalidSettings, match="SECTORWATCH_PROT: unknown setting; did you mean `port`"):
        load_settings()


def test_a_variable_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_PORT", "eighty")
    with pytest.raises(InvalidSettings, match="SECTORWATCH_PORT: `port`: expected `int`"):
        load_settings()


def test_a_line_too_short_for_one_upload_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="must not be below max_frames"):
        load_settings(max_frames=64, max_queued_images=63)


def test_fewer_threads_than_admitted_uploads_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="must exceed admission_limit"):
        load_settings(threads=4, admission_limit=4)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"ray_gpus": 1.5, "device": "cuda"}, r"ray_gpus is 1.5: a replica gets a part of one GPU"),
        ({"ray_gpus": 0.00001, "device": "cuda"}, r"ray_gpus is 1e-05: a replica gets a part of one GPU"),
        ({"ray_gpus": 0.25}, r'device is "cpu": the models would leave the GPUs idle; set device = "cuda"'),
        ({"device": "cuda"}, r'device is "cuda", and ray_gpus is 0: .* set ray_gpus'),
        ({"ray_address": "ray://head:10001"}, r'ray_address is "ray://head:10001": name the head .* "host:6379"'),
        ({"ray_address": "head"}, r'ray_address is "head": name the head'),
        ({"ray_address": "local"}, r'ray_address is "local": name the head'),
    ],
)
def test_what_no_ray_cluster_can_do_is_refused_with_what_to_write(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSettings, match=fault):
        load_settings(ensemble="ray", **given)


@pytest.mark.parametrize("gpus", [0.25, 1.0, 2.0])
def test_a_replica_gets_a_part_of_a_gpu_or_some_whole_ones(gpus: float) -> None:
    assert load_settings(ensemble="ray", device="cuda", ray_gpus=gpus, ray_address="head:6379").ray_gpus == gpus


def test_every_setting_has_one_line_of_help_for_the_documentation() -> None:
    for setting in described():
        assert setting.variable == f"SECTORWATCH_{setting.name.upper()}"
        assert setting.help.endswith(".")
        assert "\n" not in setting.help


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_removed_setting_is_ignored_with_one_line_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    path = written(tmp_path, f"port = 1111\nprovisional = {value}\n")
    assert load_settings(path).port == 1111
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Warning: {path}, line 2: the setting `provisional` is gone and has no effect: ")
    monkeypatch.setenv("SECTORWATCH_PROVISIONAL", value)
    load_settings()
    (line,) = capsys.readouterr().err.splitlines()
    assert "SECTORWATCH_PROVISIONAL: the setting `provisional` is gone" in line


LINKS = {
    "SECTORWATCH_PORT": "tcp://10.0.0.1:8765",
    "SECTORWATCH_ADMIN_PORT": "udp://10.0.0.1:8766",
    "SECTORWATCH_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "SECTORWATCH_PORT_8000_TCP_ADDR": "10.0.0.1",
    "SECTORWATCH_PORT_8000_TCP_PORT": "8000",
    "SECTORWATCH_PORT_8000_TCP_PROTO": "tcp",
    "SECTORWATCH_SERVICE_HOST": "10.0.0.1",
    "SECTORWATCH_SERVICE_PORT": "8765",
    "SECTORWATCH_SERVICE_PORT_HTTP": "8765",
    "SECTORWATCH_ADMIN_SERVICE_HOST": "10.0.0.2",
    "SECTORWATCH_ADMIN_PORT_8766_TCP_ADDR": "10.0.0.2",
    "SECTORWATCH_HOSTS_PORT": "tcp://10.0.0.1:1",
}
"""What Kubernetes and Docker set for services named `sectorwatch` and `sectorwatch-admin`."""


def test_the_variables_by_which_containers_are_linked_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LINKS.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.port, settings.admin_port) == (8765, 0)
    assert load_settings(port=9000).port == 9000


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in described():
        monkeypatch.setenv(setting.variable, "")
    monkeypatch.setenv("SECTORWATCH_CONFIG", " ")
    monkeypatch.setenv("SECTORWATCH_PROT", "")
    assert load_settings().port == 8765


def test_an_option_wins_over_a_variable_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_PORT", "eighty")
    assert load_settings(port=9000).port == 9000


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_bytes(b"\xef\xbb\xbfport = 1234\r\nmax_frames = 8\r\n")
    assert (load_settings(path).port, load_settings(path).max_frames) == (1234, 8)


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"line 1: unknown setting `prot`.*; .*line 2: `max_frames`"):
        load_settings(written(tmp_path, 'prot = 80\nmax_frames = "many"\n'))


def test_what_the_last_start_was_given_counts_where_nothing_else_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.chdir(tmp_path)
    given = given_settings(None, sites_dir="my/sites", database_url="sqlite:///yard.sqlite", models="hog-people")
    remember(data, given | {"data_dir": "elsewhere"}, None)
    monkeypatch.chdir(data)
    settings = load_settings(data_dir=data)
    assert (settings.sites_dir, settings.models) == (tmp_path / "my/sites", ("hog-people",))
    assert (settings.data_dir, settings.database_url) == (data, f"sqlite:///{tmp_path}/yard.sqlite")
    assert load_settings(data_dir=data, sites_dir="here").sites_dir == data / "here"
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    assert load_settings(data_dir=data).models == ("frame-change",)
    assert load_settings(data_dir=data, remembered=False).sites_dir == data / "sites"


def test_a_database_s_password_is_not_kept_and_no_other_database_is_taken_for_it(tmp_path: Path) -> None:
    for url in ("postgresql://me:s3cret@db/yard", "postgresql://db/yard?user=me&password=s3cret"):
        remember(tmp_path, {"database_url": url}, tmp_path / "server.toml")
        kept = tmp_path / "settings.json"
        assert "s3cret" not in kept.read_text()
        assert kept.stat().st_mode & 0o777 == 0o600
        with pytest.raises(
            InvalidSettings, match=r"give --config .*/server\.toml, SECTORWATCH_DATABASE_URL or --databa"
        ):
            load_settings(data_dir=tmp_path)
        assert load_settings(data_dir=tmp_path, database_url=url).database_url == url


@pytest.mark.parametrize("content", ["{", '{"settings": {"port": "many", "gone": 1}}', "[]"])
def test_what_is_kept_and_cannot_be_used_counts_as_not_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.json").write_text(content)
    assert load_settings(data_dir=tmp_path).port == 8765


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_settings_file_that_windows_saved_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_bytes('port = 9001\r\nmodels = ["mine"]\r\n'.encode(encoding))
    settings = load_settings(tmp_path / "server.toml")
    assert (settings.port, settings.models) == (9001, ("mine",))


def test_a_settings_file_that_is_no_text_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_bytes(b"port = 9001\n# caf\xe9\n")
    with pytest.raises(InvalidSettings, match=r"server\.toml: line 2 has the byte 0xe9, which is wrong in UTF-8"):
        load_settings(tmp_path / "server.toml")


def test_a_site_may_keep_other_than_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(
        "keep_events_days = 100\nmax_bytes = 5\n[retention.yard]\nkeep_observations_days = 3\nkeep_annotated = false\n",
        encoding="utf-8",
    )
    settings = load_settings(file)
    assert settings.keep("yard") == Keep(3.0, 100.0, 5, annotated=False)
    assert settings.keep("barn") == Keep(365.0, 100.0, 5, annotated=True)


def test_what_sites_keep_can_be_given_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_RETENTION", '{"yard": {"max_bytes": 7}}')
    assert load_settings().keep("yard").max_bytes == 7
    monkeypatch.setenv("SECTORWATCH_RETENTION", "yard")
    with pytest.raises(InvalidSettings, match="SECTORWATCH_RETENTION: not valid JSON"):
        load_settings()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("keep_event_days = 3", "unknown setting `keep_event_days` of a site; did you mean `keep_events_days`?"),
        ("max_bytes = -1", "`max_bytes` of site `yard`: expected `int` >= 0"),
        ('keep_observations_days = "a year"', "`keep_observations_days` of site `yard`: expected `float | null`"),
    ],
)
def test_a_mistake_in_what_a_site_keeps_is_refused_with_its_line(tmp_path: Path, wrong: str, named: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f"[retention.yard]\n{wrong}\n", encoding="utf-8")
    with pytest.raises(InvalidSettings, match=re.escape(f"server.toml, line 2: {named}")):
        load_settings(file)


def test_a_site_may_keep_other_pictures_than_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(
        'keep_frames_days = 3\nframes_url = "pictures"\n[retention.yard]\nkeep_frames = "all"\nkeep_frames_bytes = 5\n',
        encoding="utf-8",
    )
    settings = load_settings(file)
    assert settings.keep("yard").frames == KeepFrames("all", 3.0, 5)
    assert settings.keep("barn").frames == KeepFrames(None, 3.0, 2_000_000_000)
    assert settings.frames_url == str(tmp_path / "pictures"), "it counts from the file's folder"
    file.write_text('[retention.yard]\nkeep_frames = "some"\n', encoding="utf-8")
    with pytest.raises(InvalidSettings, match=r"line 2.*keep_frames"):
        load_settings(file)
    assert load_settings(data_dir=tmp_path).frames_url == f"{tmp_path}/frames"
    assert load_settings(frames_url="s3://bucket/yard").frames_url == "s3://bucket/yard"
