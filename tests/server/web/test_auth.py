"""A token opens exactly what it is for; without any, only programs on the machine itself are let in."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from server.commands.upkeep.tokens import command
from server.domain.errors import Forbidden, Unauthorized
from server.store import Store, open_store
from server.web.auth import ANY_SITE, Authenticator, Permissions, is_loopback, new_token
from tests.server import new_sqlite


@pytest.fixture
def store(tmp_path: Path) -> Store:
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    return open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite")


def asking(token: str | None = None, *, address: str = "127.0.0.1", host: str = "localhost", **headers: str) -> Request:
    """A request from `address`; underscores in header names stand for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        named["Authorization"] = f"Bearer {token}"
    builder = EnvironBuilder(
        headers=list(named.items()), base_url=f"http://{host}/", environ_base={"REMOTE_ADDR": address}
    )
    return Request(builder.get_environ())


def made(store: Store, site: str, camera: str | None) -> str:
    new = new_token()
    store.add_token(new.id, "test", site, camera, new.hash)
    return new.token


def test_a_camera_s_token_sends_for_that_camera_and_for_no_other(store: Store) -> None:
    permissions = Authenticator(store).authenticate(asking(made(store, "yard", "gate")))
    permissions.to_send_for("yard", "gate")
    with pytest.raises(Forbidden, match="camera `gate` of site `yard`"):
        permissions.to_send_for("yard", "door")
    with pytest.raises(Forbidden):
        permissions.to_send_for("other", "gate")


def test_a_camera_s_token_reads_nothing(store: Store) -> None:
    token = made(store, "yard", "gate")
    with pytest.raises(Forbidden):
        Authenticator(store).authenticate(asking(token)).to_read()
    with pytest.raises(Forbidden):
        Authenticator(store).authenticate_to_classify(asking(token))


def test_a_reader_s_token_reads_its_site_and_sends_nothing(store: Store) -> None:
    permissions = Authenticator(store).authenticate(asking(made(store, "yard", None)))
    assert permissions.to_read() == "yard"
    assert permissions.to_read("yard") == "yard"
    with pytest.raises(Forbidden):
        permissions.to_read("other")
    with pytest.raises(Forbidden):
        permissions.to_send()


def test_a_reader_of_all_sites_may_ask_for_one(store: Store) -> None:
    permissions = Authenticator(store).authenticate(asking(made(store, ANY_SITE, None)))
    assert permissions.to_read() is None
    assert permissions.to_read("yard") == "yard"


def test_a_token_of_a_camera_is_never_good_for_any_site() -> None:
    with pytest.raises(Forbidden):
        Permissions(None, "gate", "a").to_send_for("yard", "gate")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: token[:14],
        lambda token: "sw_0000000000_" + token.split("_", 2)[2],
        lambda token: token.removeprefix("sw_"),
        lambda token: "",
        lambda token: "sw__",
        lambda token: "sw_é_ü",
    ],
)
def test_a_wrong_token_is_refused_also_from_the_machine_itself(store: Store, spoil: object) -> None:
    token = made(store, "yard", "gate")
    assert callable(spoil)
    request = asking()
    request.headers = {"Authorization": f"Bearer {spoil(token)}"}  # type: ignore[assignment]
    with pytest.raises(Unauthorized):
        Authenticator(store).authenticate(request)


def test_a_revoked_token_is_refused_at_once_and_does_not_open_the_server(store: Store) -> None:
    token = made(store, "yard", "gate")
    authenticator = Authenticator(store)
    authenticator.authenticate(asking(token))
    store.revoke_token(token.split("_")[1])
    with pytest.raises(Unauthorized):
        authenticator.authenticate(asking(token))
    with pytest.raises(Unauthorized):
        Authenticator(store).authenticate(asking())


def test_without_any_token_programs_on_the_machine_may_do_everything(store: Store) -> None:
    permissions = Authenticator(store).authenticate(asking())
    permissions.to_send_for("yard", "gate")
    assert permissions.to_read() is None


@pytest.mark.parametrize(
    "request_",
    [
        asking(address="192.0.2.7"),
        asking(address="127.0.0.1", X_Forwarded_For="192.0.2.7"),
        asking(address="127.0.0.1", Forwarded="for=192.0.2.7"),
        asking(address="127.0.0.1", Origin="https://evil.example"),
        asking(address="127.0.0.1", host="evil.example"),
        asking(address=""),
    ],
    ids=["remote", "proxied", "proxied-rfc7239", "web-page", "rebound-name", "unknown"],
)
def test_without_any_token_nobody_else_may_do_anything(store: Store, request_: Request) -> None:
    with pytest.raises(Unauthorized):
        Authenticator(store).authenticate(request_)


def test_the_first_token_closes_the_open_door(store: Store) -> None:
    authenticator = Authenticator(store)
    authenticator.authenticate(asking())
    made(store, "yard", "gate")
    with pytest.raises(Unauthorized):
        authenticator.authenticate(asking())


def test_open_classify_lets_everyone_classify_and_nothing_else(store: Store) -> None:
    made(store, "yard", "gate")
    authenticator = Authenticator(store, open_classify=True)
    authenticator.authenticate_to_classify(asking(address="192.0.2.7"))
    with pytest.raises(Unauthorized):
        authenticator.authenticate(asking(address="192.0.2.7"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.4", "example.org", "", "localhost.example.org"])
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_the_command_shows_the_secret_once_and_stores_only_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    run = CliRunner()
    added = run.invoke(command, ["add", "--site", "yard", "--camera", "gate", "--name", "the gate"])
    token = added.stdout.strip()
    store = open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite")
    Authenticator(store).authenticate(asking(token)).to_send_for("yard", "gate")
    _, token_id, secret = token.split("_", 2)
    listed = run.invoke(command, ["list"]).stdout
    assert token_id in listed
    assert "the gate" in listed
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("sectorwatch.sqlite*"))
    assert token_id.encode() in stored
    assert secret.encode() not in stored
    run.invoke(command, ["revoke", token_id])
    assert "revoked" in run.invoke(command, ["list"]).stdout
    with pytest.raises(Unauthorized):
        Authenticator(store).authenticate(asking(token))


def test_a_camera_needs_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    assert CliRunner().invoke(command, ["add", "--camera", "gate"]).exit_code == 2


@pytest.mark.parametrize(
    "names",
    [
        ("--site", "North Yard"),
        ("--site", "yard", "--camera", "Gate"),
        ("--camera", ""),
        ("--name", "two\nlines"),
        ("--name", "red \x1b[31m"),
        ("--name", "x" * 101),
    ],
)
def test_a_token_is_made_for_no_name_that_a_camera_cannot_have_nor_under_one_that_a_list_cannot_show(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    result = CliRunner(env={"SECTORWATCH_DATA_DIR": str(tmp_path)}).invoke(command, ["add", *names])
    assert (result.exit_code, result.stdout) == (2, "")
