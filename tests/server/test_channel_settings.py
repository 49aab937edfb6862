"""A channel is declared in one table; every fault has its line and a hint, and no secret stands in the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.commands.serve import command as serve
from server.domain.errors import ConfigurationError
from server.domain.remembered import FILE, remember
from server.settings import InvalidSettings, file_faults, given_settings, load_settings
from server.settings.channels import WebhookSettings, read_secret
from tests.server.channel_stand_in import stand_in

WEBHOOK = '[channels.hook]\nkind = "webhook"\nurl = "https://example.org/in"\n'
MQTT = '[channels.a]\nkind = "mqtt"\nurl = "mqtt://broker"\n'
NOTIFY = '[channels.me]\nkind = "notify"\nurls = ["env:PHONE"]\n'


@pytest.fixture
def settings_file(tmp_path: Path, own_folder: None) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "server.toml").write_text(text, encoding="utf-8")
        return tmp_path / "server.toml"

    return write


def test_a_table_makes_a_channel(settings_file: Callable[[str], Path]) -> None:
    made = load_settings(settings_file(WEBHOOK + 'sites = ["yard"]\nevents = ["entered", "left"]\n')).channels["hook"]
    assert isinstance(made, WebhookSettings)
    assert (made.url, made.sites, made.events) == ("https://example.org/in", ("yard",), ("entered", "left"))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('channels = "mqtt"\n', 1, "expected a table for each channel, as `[channels.NAME]`"),
        ("[channels]\nhook = 3\n", 2, "expected a table for each channel, as `[channels.hook]`"),
        ("\n[channels.hook]\nurl = 'https://x'\n", 2, "channel `hook`: `kind` is one of mqtt, webhook, notify"),
        ('[channels.hook]\nkind = "webhok"\n', 2, "did you mean `webhook`?"),
        ("[channels.hook]\nkind = 3\n", 2, "`kind` is one of mqtt, webhook, notify"),
        ('[channels.hook]\nkind = "webhook"\n', 1, "channel `hook`: `url` is missing: "),
        (f"{WEBHOOK}ur = 3\n", 4, "channel `hook`: unknown setting `ur`; did you mean `url`?"),
        (f'{WEBHOOK}sites = "yard"\n', 4, "channel `hook`: `sites`: expected `array`, got `str`"),
        (f'{WEBHOOK}events = ["enterd"]\n', 4, "there is no event `enterd`; did you mean `entered`?"),
        ('[channels.hook]\nkind = "webhook"\nurl = "ftp://x"\n', 3, "channel `hook`: `url`: "),
        (f"[channels.log]\n{WEBHOOK}", 1, "`log` is the log, which is always there"),
        ("[channels.Phone]\n", 1, "the name `Phone` may have lower-case letters, digits, - and _"),
        ('[channels.me]\nkind = "notify"\nurls = ["mailto://me:hush@example.org"]\n', 3, "say where the secret is"),
        (f'{NOTIFY}quiet = ["22-6"]\n', 4, "`quiet`: hours are written as `22:00-06:00`, or with days as"),
        (f'{NOTIFY}quiet = ["so 22:00-06:00"]\n', 4, "hours are written as"),
        (f'{NOTIFY}quiet = ["22:00-24:00"]\n', 4, "hours are written as"),
        (f'{NOTIFY}mute = ["north-yard"]\n', 4, "a pattern is written as `site/camera/sector/target`"),
        (f'{NOTIFY}what = ["visit"]\n', 4, "channel `me`: `what`: "),
        (f"{NOTIFY}most_an_hour = 0\n", 4, "channel `me`: `most_an_hour`: "),
        ('[channels.b]\nkind = "mqtt"\nurl = "mqtt://me:hush@broker"\n', 3, "it holds a password"),
        (
            f'{MQTT}[channels.b]\nkind = "mqtt"\nurl = "mqtt://Broker:1883/"\n',
            4,
            "channel `a` has `sectorwatch` at the",
        ),
        (
            f'{MQTT}client_id = "x"\n{MQTT.replace("a]", "b]")}prefix = "b"\nclient_id = "x"\n',
            9,
            "channel `b`: `client_id`: channel `a` has `x` at the same broker too",
        ),
        ('[channels.b]\nkind = "webhook"\nurl = "https://x/?password=hush"\n', 3, "it holds a password"),
    ],
)
def test_a_fault_has_its_line_and_says_what_is_wrong_without_a_secret(
    settings_file: Callable[[str], Path], text: str, line: int, what: str
) -> None:
    file = settings_file(text)
    (fault,) = file_faults(file)
    assert fault.startswith(f"{file}, line {line}: "), fault
    assert what in fault
    assert "hush" not in fault
    with pytest.raises(InvalidSettings):
        load_settings(file)


def test_two_channels_at_one_broker_have_prefixes_of_their_own(settings_file: Callable[[str], Path]) -> None:
    others = [
        '[channels.b]\nkind = "mqtt"\nurl = "mqtt://broker"\nprefix = "b"\n',
        '[channels.c]\nkind = "mqtt"\nurl = "mqtt://broker:1884"\n',
        '[channels.d]\nkind = "mqtt"\nurl = "mqtts://broker"\n',
    ]
    assert list(load_settings(settings_file("".join([MQTT, *others]))).channels) == ["a", "b", "c", "d"]


def test_every_fault_of_a_file_is_named_at_once(settings_file: Callable[[str], Path]) -> None:
    file = settings_file(f'{WEBHOOK}ur = 3\n[channels.b]\nkind = "mqt"\n[channels.LOG]\n')
    assert [fault.partition(": ")[0].rpartition(" ")[2] for fault in file_faults(file)] == ["4", "6", "7"]


def test_a_variable_holds_the_tables_as_json(monkeypatch: pytest.MonkeyPatch, own_folder: None) -> None:
    monkeypatch.setenv("SECTORWATCH_CHANNELS", '{"hook": {"kind": "webhook", "url": "https://example.org/in"}}')
    assert list(load_settings().channels) == ["hook"]
    for text, what in (
        ('{"hook": {"kind": "webhok"}}', "SECTORWATCH_CHANNELS: channel `hook`: `kind` is one of"),
        ('{"hook": ', "SECTORWATCH_CHANNELS: not valid JSON"),
        ("[1]", "SECTORWATCH_CHANNELS: `channels`: expected a table for each channel"),
    ):
        monkeypatch.setenv("SECTORWATCH_CHANNELS", text)
        with pytest.raises(InvalidSettings, match=f"^{what}"):
            load_settings()


def test_relative_paths_count_from_the_file_also_those_of_secrets(settings_file: Callable[[str], Path]) -> None:
    file = settings_file(
        '[channels.a]\nkind = "notify"\nurls = ["file:phone.url", "file:/etc/phone", "file:~/phone", "env:PHONE"]\n'
    )
    folder = file.resolve().parent
    (made,) = load_settings(file).channels.values()
    assert made.urls == (f"file:{folder}/phone.url", "file:/etc/phone", "file:~/phone", "env:PHONE")  # type: ignore[union-attr]


def test_what_the_last_start_had_is_remembered_without_a_password(
    settings_file: Callable[[str], Path], tmp_path: Path
) -> None:
    file = settings_file(WEBHOOK)
    remember(tmp_path, given_settings(file), file)
    file.write_text("", encoding="utf-8")
    assert list(load_settings().channels) == ["hook"], "recalled"
    remember(tmp_path, {"channels": {"hook": WebhookSettings(url="https://me:hush@example.org/in")}}, None)
    assert "hush" not in (tmp_path / FILE).read_text(encoding="utf-8")


def test_the_help_of_serve_shows_no_value_of_a_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_CHANNELS", '{"hook": {"kind": "webhook", "url": "https://hush.example"}}')
    assert "hush" not in serve.get_help(serve.make_context("serve", [], resilient_parsing=True))


def test_a_secret_is_read_from_a_variable_a_file_or_a_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("  s3cret\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("THE_SECRET", "s3cret ")
    for where in ("env:THE_SECRET", f"file:{tmp_path}/secret", "credential:secret"):
        assert read_secret(where) == "s3cret"


def test_a_secret_that_is_missing_is_named_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for where, what in (
        ("env:NO_SUCH", "the variable NO_SUCH"),
        (f"file:{tmp_path}/none", f"{tmp_path}/none cannot be read"),
        (f"file:{tmp_path}/empty", f"{tmp_path}/empty, which holds a secret of a channel, is empty"),
        (f"file:{tmp_path}/binary", f"{tmp_path}/binary cannot be read"),
        ("credential:key", "LoadCredential=key:PATH"),
    ):
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        with pytest.raises(ConfigurationError, match=what.replace("(", r"\(")):
            read_secret(where)


def test_a_secret_that_is_missing_keeps_the_server_from_starting_in_one_line(
    settings_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch).secret = "env:NO_SUCH_SECRET"
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    refused = CliRunner().invoke(command, ["serve", "--config", str(settings_file(WEBHOOK))])
    assert refused.exit_code == 78
    assert refused.stderr.splitlines() == [
        "sectorwatch: the variable NO_SUCH_SECRET, which holds a secret of a channel, is not set"
    ]
