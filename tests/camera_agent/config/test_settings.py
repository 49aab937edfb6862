"""`agent.toml`: valid settings, and the messages for invalid ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest

from camera_agent.config.load import load_settings
from camera_agent.config.settings import InvalidSettings, Settings, read_token
from camera_agent.config.toml_locations import line_of

HEAD = 'site = "yard"\n[server]\nurl = "http://127.0.0.1:8000"\n'


def load(folder: Path, text: str) -> Settings:
    path = folder / "agent.toml"
    path.write_text(text)
    return load_settings(path)


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(InvalidSettings) as caught:
        load(folder, text)
    return str(caught.value).replace(f"{folder}/", "")


def test_the_default_schedule_leaves_no_blind_time(tmp_path: Path) -> None:
    camera = load(tmp_path, HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n').cameras[0]
    assert (camera.burst.frames, camera.spacing_s, camera.every_s) == (5, 1.0, 5.0)


def test_frames_per_s_sets_the_spacing_and_the_schedule(tmp_path: Path) -> None:
    text = HEAD + f'[[cameras]]\nname = "gate"\nfolder = "{tmp_path}"\nframes_per_s = 5\nburst = {{ frames = 8 }}\n'
    camera = load(tmp_path, text).cameras[0]
    assert (camera.spacing_s, camera.every_s) == (0.2, 1.6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n[[cameras]]\nname = "door"\ndevice = 1\nqualty = 80\n',
            "agent.toml:10: cameras[1].qualty: unknown key; did you mean `quality`?",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n[cameras.burst]\nframse = 3\n',
            "agent.toml:8: cameras[0].burst.framse: unknown key; did you mean `frames`?",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n[cameras.burst]\nframes = 5\nquality = 50\n',
            "agent.toml:9: cameras[0].burst.quality: unknown key here: it belongs to [[cameras]], above the tables of "
            "the camera",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n[gate]\nlooks_per_s = 1\n',
            "agent.toml:7: gate: unknown key here: it belongs to [[cameras]], above the tables of the camera",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\nlooks_per_s = 1\n',
            "agent.toml:7: cameras[0].looks_per_s: unknown key here: it belongs to [cameras.gate]",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\ntimeout_s = inf\n',
            "agent.toml:7: cameras[0].timeout_s: Expected `float` <= 31622400.0",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\nburst = { frames = 64, spacing_s = 60 }\n',
            "agent.toml:4: cameras[0]: a burst would last for more than an hour, and no server accepts it: fewer "
            "frames, or closer",
        ),
        (
            HEAD
            + '[[cameras]]\nname = "g"\ndevice = 0\nmb_per_day = 5\ngate = {}\nburst = {frames = 60, spacing_s = 40}',
            "agent.toml:4: cameras[0]: a burst would last for more than an hour, and no server accepts it: fewer "
            "frames, or closer",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\nmasks = [[[0, 0], [1, 1], [1, 0], [0, 1]]]\n',
            "agent.toml:4: cameras[0]: `masks[0]` crosses itself: give the corners in order around it",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\ngate = { ignore = [[[0, 0], [1, 1], [1, 0], [0, 1]]] }\n',
            "agent.toml:7: cameras[0].gate: `ignore[0]` crosses itself: give the corners in order around it",
        ),
        (
            'metrics_listen = "127.0.0.1:99999"\n' + HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n',
            "agent.toml:1: `metrics_listen` '127.0.0.1:99999' is not of the form 127.0.0.1:9110",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\ntoken_file = "/"\n',
            "agent.toml:7: cameras[0].token_file: / is not a file",
        ),
        (
            HEAD + '[spol]\nmax_bytes = 5\n[[cameras]]\nname = "gate"\ndevice = 0\n',
            "agent.toml:4: spol: unknown key; did you mean `spool`?",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\nburst = { frames = 65 }\n',
            "agent.toml:7: cameras[0].burst.frames: Expected `int` <= 64",
        ),
        (
            HEAD + '[[cameras]]\nname = "Gate 1"\ndevice = 0\n',
            "agent.toml:5: cameras[0].name: a name has 1 to 63 lower-case letters, digits, `-` or `_`",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\nrtsp = "rtsp://cam/1"\n',
            "agent.toml:4: cameras[0]: a camera has exactly one source of device, picamera, rtsp, "
            "mjpeg, snapshot, video, folder; found device, rtsp",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\n',
            "agent.toml:4: cameras[0]: a camera has exactly one source of device, picamera, rtsp, "
            "mjpeg, snapshot, video, folder; found none",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\nspeed = 0\n',
            "agent.toml:4: cameras[0]: `speed` is for recordings (video, folder); this camera is live",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\nburst = { frames = 10, every_s = 5 }\n',
            "agent.toml:4: cameras[0]: `burst.every_s` must be at least frames x spacing = 10 s",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\nfolder = "."\nframes_per_s = 5\nburst = { spacing_s = 1 }\n',
            "agent.toml:4: cameras[0]: `frames_per_s` and `burst.spacing_s` have the same meaning: give one of them",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\nsnapshot = "cam/snap.jpg"\n',
            "agent.toml:4: cameras[0]: address 'cam/snap.jpg' does not begin with http:// or https://",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n[[cameras]]\nname = "gate"\ndevice = 1\n',
            "agent.toml:1: two cameras are called 'gate'",
        ),
        (
            HEAD.replace("8000", "80000") + '[[cameras]]\nname = "gate"\ndevice = 0\n',
            "agent.toml:2: server: url 'http://127.0.0.1:80000' names no valid host and port: http://host:port/",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\nrtsp = "rtsp:///stream"\n',
            "agent.toml:4: cameras[0]: address 'rtsp:///stream' names no valid host and port: rtsp://host:port/",
        ),
        (
            HEAD + 'token = "two words"\n[[cameras]]\nname = "gate"\ndevice = 0\n',
            "agent.toml:2: server: a token is one word, as `sectorwatch tokens add` prints it",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\ndevice = "/dev/video0"\n',
            "agent.toml:6: cameras[0].device: Expected `int`, got `str`: 0 stands for /dev/video0",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\nvideo = "/nowhere/yard.avi"\n',
            "agent.toml:6: cameras[0].video: /nowhere/yard.avi does not exist",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\nfolder = "/"\nstarted_at = 2999-01-01T00:00:00Z\n',
            "agent.toml:7: cameras[0].started_at: is in the future",
        ),
        (
            HEAD + '[[cameras]]\nname = "gate"\nfolder = "/"\nstarted_at = 2020-01-01T00:00:00\n',
            "agent.toml:7: cameras[0].started_at: Expected `datetime` with a timezone component",
        ),
        (
            'site = "yard"\n[server]\nurl = "localhost:8000"\n[[cameras]]\nname = "gate"\ndevice = 0\n',
            "agent.toml:2: server: url 'localhost:8000' does not begin with http:// or https://",
        ),
        (
            'site = "yard"\n[server]\n[[cameras]]\nname = "gate"\ndevice = 0\n',
            "agent.toml:2: server: `url` is missing",
        ),
        (HEAD, "agent.toml:1: `cameras` is missing"),
        (
            HEAD.replace("[server]", '[server]\ntoken = "a"\ntoken_file = "b"')
            + '[[cameras]]\nname = "a"\ndevice = 0\n',
            "agent.toml:2: server: `token` and `token_file` have the same meaning: give one of them",
        ),
    ],
)
def test_an_error_names_its_line_and_path(tmp_path: Path, text: str, expected: str) -> None:
    assert complaint(tmp_path, text) == expected


def test_invalid_toml_is_reported_with_its_line(tmp_path: Path) -> None:
    assert complaint(tmp_path, HEAD + "[[cameras]\n").startswith("agent.toml:4: not TOML: ")


def test_a_missing_file_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"cannot be read: No such file or directory$"):
        load_settings(tmp_path / "agent.toml")


def test_paths_are_relative_to_the_file_and_variables_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    server = '[server]\nurl = "http://127.0.0.1:8000"\ntoken_file = "$CREDENTIALS_DIRECTORY/token"\n'
    text = f'site = "yard"\nstate_dir = "state"\n{server}[[cameras]]\nname = "gate"\nfolder = "."\n'
    settings = load(tmp_path, text)
    assert settings.state_folder == tmp_path / "state"
    assert settings.spool_folder == tmp_path / "state/spool"
    assert settings.server.token_file == str(tmp_path / "token")
    assert settings.cameras[0].folder == str(tmp_path)


CAMERA = '[[cameras]]\nname = "gate"\ndevice = 0\n'


def test_without_a_token_or_a_credential_the_file_beside_the_settings_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert load(tmp_path, HEAD + CAMERA).server.token_file is None
    (tmp_path / "token").write_text("for-all\n")
    assert load(tmp_path, HEAD + CAMERA).server.token_file == str(tmp_path / "token")
    (tmp_path / "agent.token").write_text("for-one\n")
    assert load(tmp_path, HEAD + CAMERA).server.token_file == str(tmp_path / "agent.token")
    assert load(tmp_path, HEAD + 'token = "mine"\n' + CAMERA).server.token_file is None
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/token").write_text("systemd's\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert load(tmp_path, HEAD + CAMERA).server.token_file == str(tmp_path / "credentials/token")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbft0ken", b"t0ken\r\n", b"\xef\xbb\xbft0ken\r\n"])
def test_a_token_file_as_windows_saves_it_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    server = load(tmp_path, HEAD + CAMERA).server
    assert read_token(server.token, server.token_file) == "t0ken"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_certificate_file_with_a_byte_order_mark_is_reported(tmp_path: Path, encoding: str) -> None:
    """OpenSSL would pass over its first certificate without a word."""
    (tmp_path / "ca.pem").write_text(Path(certifi.where()).read_text(), encoding=encoding)
    message = complaint(tmp_path, HEAD + 'ca_file = "ca.pem"\n' + CAMERA)
    assert message.startswith("agent.toml:4: server.ca_file: ca.pem: begins with a byte order mark")


def test_empty_variables_of_the_environment_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("not-a-credential")
    (tmp_path / "sub").mkdir()
    settings = load(tmp_path / "sub", HEAD + CAMERA)
    assert settings.state_folder == settings.runtime_folder == tmp_path / ".local/state/camera-agent"
    assert settings.server.token_file is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + CAMERA + "device = 1\n", "agent.toml:7: not TOML: Cannot overwrite a value"),
        ("# one\u2028two\x85three\n" + HEAD + CAMERA + "qualty = 5\n", "agent.toml:8: cameras[0].qualty: unknown key"),
        ((HEAD + CAMERA + "qualty = 5\n").replace("\n", "\r\n"), "agent.toml:7: cameras[0].qualty: unknown key"),
        ("\ufeff" + HEAD + CAMERA + "qualty = 5\n", "agent.toml:7: cameras[0].qualty: unknown key"),
    ],
    ids=["twice", "line separators", "windows", "mark"],
)
def test_the_line_of_a_mistake_is_that_of_the_editor(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "agent.toml").write_bytes(text.encode())
    with pytest.raises(InvalidSettings) as caught:
        load_settings(tmp_path / "agent.toml")
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(expected)


@pytest.mark.parametrize("content", [b"two words", b"line\nline", "tökén".encode(), b"\xff\xfe", b"\x00"])
def test_a_token_file_without_a_token_is_reported_before_anything_is_sent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    message = complaint(tmp_path, HEAD + CAMERA)
    assert (
        message == "agent.toml:2: server.token_file: token: a token is one word, as `sectorwatch tokens add` prints it"
    )


def test_a_file_without_a_certificate_is_reported_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("our certificate")
    message = complaint(tmp_path, HEAD + 'ca_file = "ca.pem"\n' + CAMERA)
    assert message == "agent.toml:4: server.ca_file: ca.pem: contains no certificate in PEM form"


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_bytes(b"\xef\xbb\xbf" + (HEAD + CAMERA).replace("\n", "\r\n").encode())
    assert load_settings(tmp_path / "agent.toml").site == "yard"
    (tmp_path / "agent.toml").write_text(HEAD + CAMERA, encoding="utf-16")
    with pytest.raises(InvalidSettings, match="save it as UTF-8 text"):
        load_settings(tmp_path / "agent.toml")


def test_without_a_state_folder_that_of_systemd_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/camera-agent")
    settings = load(tmp_path, HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n')
    assert settings.state_folder == Path("/var/lib/camera-agent")


def test_started_at_is_an_instant_with_a_zone(tmp_path: Path) -> None:
    text = HEAD + '[[cameras]]\nname = "gate"\nfolder = "/"\nstarted_at = 2026-01-01T01:00:00+01:00\n'
    started_at = load(tmp_path, text).cameras[0].started_at
    assert started_at is not None
    assert started_at.astimezone(UTC) == datetime(2026, 1, 1, tzinfo=UTC)
    assert started_at.utcoffset() == timedelta(hours=1)


def test_a_misspelt_camera_name_gets_a_suggestion(tmp_path: Path) -> None:
    settings = load(tmp_path, HEAD + '[[cameras]]\nname = "gate"\ndevice = 0\n')
    with pytest.raises(InvalidSettings, match="no camera is called 'gaet'; did you mean `gate`"):
        settings.camera("gaet")


def test_a_password_in_an_address_is_not_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, HEAD + '[[cameras]]\nname = "gate"\nrtsp = "rtsp://admin:pw@cam:554/1"\n')
    assert settings.cameras[0].source == "rtsp rtsp://***@cam:554/1"


def test_the_line_of_a_dotted_key_and_of_a_nested_array_is_found() -> None:
    text = "a.b = 1\n[[t]]\nx = 1\n[[t]]\n[t.u]\ny = 2\n"
    assert line_of(text, ("a", "b")) == 1
    assert line_of(text, ("t", 1, "u", "y")) == 6
    assert line_of(text, ("t", 1, "u", "z")) == 5
    assert line_of(text, ("nothing",)) is None


def test_an_unknown_home_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = complaint(tmp_path, HEAD + '[[cameras]]\nname = "gate"\nvideo = "~nobody-here/a.avi"\n')
    assert message.endswith("~nobody-here/a.avi does not exist")
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    with pytest.raises(InvalidSettings, match="no home folder: set `state_dir`"):
        _ = load(tmp_path, HEAD + CAMERA).state_folder
