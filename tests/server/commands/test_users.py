"""`sectorwatch users` and `sectorwatch audit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.store import Store, open_store

pytestmark = pytest.mark.usefixtures("cheap_passwords")

Run = Callable[..., Result]
WORD = "correct horse battery\n"


@pytest.fixture
def run(tmp_path: Path, new_sqlite: Callable[[], str]) -> Run:
    url = new_sqlite()

    def run(*words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(command, [*words, "--database", url, "--data-dir", str(tmp_path)], input=given)

    run.url = url  # type: ignore[attr-defined]
    return run


def store(run: Run) -> Store:
    return open_store(run.url)  # type: ignore[attr-defined]


def add(run: Run, name: str, *more: str) -> Result:
    return run("users", "add", name, "--password-stdin", *more, given=WORD)


def test_a_user_is_added_with_a_password_from_standard_input_and_signs_in(run: Run) -> None:
    added = add(run, "anna", "--role", "operator", "--site", "yard", "--site", "barn")
    assert added.exit_code == 0, added.output
    assert "operator of barn, operator of yard" in added.stderr
    assert "first user" in added.stderr
    session = store(run).users.session(store(run).users.begin_session("anna", WORD.strip()))
    assert session is not None
    assert session.roles == {"yard": "operator", "barn": "operator"}
    assert "first user" not in add(run, "bert").stderr


def test_on_a_terminal_the_password_is_asked_for_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, bool]] = []

    def prompt(text: str, *, hide_input: bool, confirmation_prompt: str, err: bool) -> str:
        asked.append((hide_input, bool(confirmation_prompt)))
        return WORD.strip()

    monkeypatch.setattr("server.commands.upkeep.users._is_terminal", lambda: True)
    monkeypatch.setattr("server.commands.upkeep.users.click.prompt", prompt)
    assert run("users", "add", "anna").exit_code == 0
    assert asked == [(True, True)]
    assert store(run).users.begin_session("anna", WORD.strip())


@pytest.mark.parametrize(
    ("words", "given", "code", "said"),
    [
        (("add", "anna"), WORD, 2, "--password-stdin"),
        (("add", "anna", "--password-stdin"), "", 2, "standard input is empty"),
        (("add", "anna", "--password-stdin"), "short\n", 1, "at least 10"),
        (("add", "Anna", "--password-stdin"), WORD, 1, "lower-case letters"),
        (("add", "anna", "--password-stdin", "--site", "No Site"), WORD, 2, "--site must be"),
        (("password", "bert", "--password-stdin"), WORD, 1, "`sectorwatch users list`"),
        (("role", "bert", "viewer"), None, 1, "there is no user bert"),
        (("remove", "bert"), None, 1, "there is no user bert"),
        (("sign-out", "bert"), None, 1, "there is no user bert"),
    ],
)
def test_what_cannot_be_done_is_one_line_that_says_why(
    run: Run, words: tuple[str, ...], given: str | None, code: int, said: str
) -> None:
    done = run("users", *words, given=given)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert store(run).users.list_users() == []


def test_a_user_that_is_there_is_not_added_again(run: Run) -> None:
    add(run, "anna")
    again = add(run, "anna")
    assert again.exit_code == 1
    assert "`sectorwatch users password anna`" in again.output


def test_users_are_listed_with_their_roles(run: Run) -> None:
    assert "`sectorwatch users add NAME`" in run("users", "list").stderr
    add(run, "anna", "--role", "operator")
    add(run, "bert", "--site", "yard")
    lines = run("users", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "ADDED", "ROLE"]
    assert [(line.split()[0], line.split("  ")[-1]) for line in lines[1:]] == [
        ("anna", "operator of every site"),
        ("bert", "viewer of yard"),
    ]


def test_a_role_is_changed_for_sites_or_for_every_site(run: Run) -> None:
    add(run, "anna", "--site", "yard")

    def after(*words: str) -> object:
        assert run("users", "role", "anna", *words).exit_code == 0
        user = store(run).users.user("anna")
        assert user is not None
        return user.roles

    assert after("operator", "--site", "barn") == {"yard": "viewer", "barn": "operator"}
    assert after("none", "--site", "yard") == {"barn": "operator"}
    assert after("viewer") == {"*": "viewer"}
    assert after("operator", "--site", "yard") == {"*": "viewer", "yard": "operator"}
    assert after("none") == {}


@pytest.mark.parametrize("role", ["viewer", "none"])
def test_a_role_that_one_for_every_site_would_hide_is_refused(run: Run, role: str) -> None:
    add(run, "anna", "--role", "operator")
    refused = run("users", "role", "anna", role, "--site", "yard")
    assert refused.exit_code == 1
    assert "users role anna none" in refused.output


def test_password_sign_out_and_remove_end_the_sessions(run: Run) -> None:
    add(run, "anna")
    for words, given in (
        (("password", "anna", "--password-stdin"), WORD),
        (("sign-out", "anna"), None),
        (("remove", "anna"), None),
    ):
        secret = store(run).users.begin_session("anna", WORD.strip())
        assert run("users", *words, given=given).exit_code == 0
        assert store(run).users.session(secret) is None


def test_the_audit_shows_what_commands_did_the_newest_last(run: Run) -> None:
    assert run("audit").stderr == "No lines.\n"
    add(run, "anna")
    run("tokens", "add", "--site", "yard", "--camera", "gate")
    run("users", "remove", "anna")
    lines = run("audit").stdout.splitlines()
    assert lines[0].split() == ["AT", "WHO", "WHAT", "SITE", "SUBJECT", "DETAIL"]
    assert ["command line" in line for line in lines[1:]] == [True] * 3
    assert [next(w for w in ("user_added", "token_added", "user_removed") if w in line) for line in lines[1:]] == [
        "user_added",
        "token_added",
        "user_removed",
    ]
    of_site = run("audit", "--site", "yard").stdout.splitlines()
    assert len(of_site) == 2
    assert run("audit", "--since", "2199-01-01").stderr == "No lines.\n"
    limited = run("audit", "--limit", "1")
    assert len(limited.stdout.splitlines()) == 2
    assert "--limit shows more" in limited.stderr
