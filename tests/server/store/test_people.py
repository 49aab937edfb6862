"""Users, their sessions and the audit, on every database engine."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select
from sqlalchemy.event import listen

from server.domain.errors import Conflict, OverQuota, Unauthorized, Unknown, Unprocessable
from server.store import Store, open_store
from server.store.engine import writing
from server.store.people import attempts as attempts_module
from server.store.people import passwords
from server.store.people.audit import add_line
from server.store.schema import attempts, sessions, users
from tests.stand_ins import ManualClock

pytestmark = pytest.mark.usefixtures("cheap_passwords")

HOUR_S = 3600
RIGHT = "correct horse battery"


@pytest.fixture
def anna(store: Store) -> Iterator[Store]:
    """A store with the user anna, operator of yard and viewer of barn."""
    store.users.add("anna", RIGHT, {"yard": "operator", "barn": "viewer"})
    yield store
    store.close()


def stored(store: Store, column: object) -> list[object]:
    with store._engine.begin() as connection:
        return list(connection.execute(select(column)).scalars())  # type: ignore[call-overload]


def told(store: Store) -> list[tuple[str, str]]:
    return [(line.author, line.what) for line in reversed(store.audit.page())]


def test_a_user_signs_in_with_the_password_and_keeps_the_roles(anna: Store) -> None:
    secret = anna.users.begin_session("anna", RIGHT, "10.0.0.7")
    session = anna.users.session(secret)
    assert session is not None
    assert (session.user, session.roles) == ("anna", {"yard": "operator", "barn": "viewer"})
    assert told(anna) == [("command line", "user_added"), ("anna", "signed_in")]
    assert anna.audit.page()[0].detail == "from 10.0.0.7"


def test_neither_password_nor_secret_is_stored(anna: Store) -> None:
    secret = anna.users.begin_session("anna", RIGHT)
    assert stored(anna, sessions.c.id) == [hashlib.sha256(secret.encode()).digest()]
    (kept,) = stored(anna, users.c.hash)
    assert str(kept).startswith("$argon2id$")
    assert RIGHT not in str(kept)


@pytest.mark.parametrize(
    ("name", "password"), [("anna", "wrong password"), ("nobody", RIGHT), ("ANNA", RIGHT), ("", ""), ("a\0", "\ud800")]
)
def test_a_wrong_name_and_a_wrong_password_are_refused_alike(anna: Store, name: str, password: str) -> None:
    with pytest.raises(Unauthorized, match=r"^the name or the password is wrong$"):
        anna.users.begin_session(name, password)


def test_a_name_of_nobody_costs_a_hash_too(anna: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []

    class Counting(PasswordHasher):
        def verify(self, *given: object) -> bool:  # type: ignore[override]
            checked.append(given)
            return super().verify(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(passwords, "_hasher", Counting(time_cost=1, memory_cost=8, parallelism=1))
    for name in ("anna", "nobody", "NO NAME"):
        with pytest.raises(Unauthorized):
            anna.users.begin_session(name, "wrong password")
    assert len(checked) == 3


@pytest.mark.parametrize("name", ["anna", "nobody"])
def test_after_five_wrong_passwords_a_name_waits_on_every_server_and_never_for_ever(
    anna: Store, clock: ManualClock, name: str
) -> None:
    other = open_store(anna._engine.url.render_as_string(hide_password=False), clock)
    for each in (anna, other, anna, other, anna):
        with pytest.raises(Unauthorized):
            each.users.begin_session(name, "wrong password")
    waits = []
    for _ in range(12):
        with pytest.raises(OverQuota) as refused:
            other.users.begin_session(name, RIGHT)
        waits.append(refused.value.retry_after_s)
        clock.advance(refused.value.retry_after_s)
        with pytest.raises(Unauthorized):
            anna.users.begin_session(name, "wrong password")
    assert waits[:6] == [10, 20, 40, 80, 160, 300]
    assert set(waits[6:]) == {300}
    clock.advance(300)
    if name == "anna":
        assert other.users.session(other.users.begin_session(name, RIGHT)) is not None
        assert stored(other, attempts.c.name) == []
    other.close()


def test_an_attempt_during_the_wait_makes_it_no_longer(anna: Store, clock: ManualClock) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            anna.users.begin_session("anna", "wrong password")
    for _ in range(5):
        with pytest.raises(OverQuota):
            anna.users.begin_session("anna", "wrong password")
    clock.advance(10)
    anna.users.begin_session("anna", RIGHT)


def test_a_clock_that_was_ahead_blocks_nobody(anna: Store, clock: ManualClock) -> None:
    clock.advance(24 * 365 * HOUR_S)
    for _ in range(6):
        with pytest.raises((Unauthorized, OverQuota)):
            anna.users.begin_session("anna", "wrong password")
    clock.now_us -= 24 * 365 * HOUR_S * 1_000_000
    anna.users.begin_session("anna", RIGHT)


def test_a_refusal_commits_once_whether_there_is_a_user_of_that_name_or_not(anna: Store) -> None:
    commits: list[str] = []
    listen(anna._engine, "commit", lambda _connection: commits.append("commit"))
    counts = []
    for name in ("anna", "nobody"):
        before = len(commits)
        with pytest.raises(Unauthorized):
            anna.users.begin_session(name, "wrong password")
        counts.append(len(commits) - before)
    assert counts == [1, 1]
    assert told(anna)[1:] == [("anna", "sign_in_failed")]
    anna.users.begin_session("anna", RIGHT)
    assert told(anna)[1:] == [("anna", "sign_in_failed"), ("anna", "signed_in")]


def test_a_browser_that_the_user_knows_has_a_wait_of_its_own(anna: Store) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            anna.users.begin_session("anna", "wrong password")
    assert anna.users.begin_session("anna", RIGHT, device="0a1b")
    with pytest.raises(OverQuota):
        anna.users.begin_session("anna", RIGHT)
    for _ in range(5):
        with pytest.raises(Unauthorized):
            anna.users.begin_session("anna", "wrong password", device="0a1b")
    with pytest.raises(OverQuota):
        anna.users.begin_session("anna", RIGHT, device="0a1b")


def test_addresses_of_version_4_in_the_form_of_version_6_have_rates_of_their_own(anna: Store) -> None:
    for number in range(20):
        with pytest.raises(Unauthorized):
            anna.users.begin_session(f"name{number}", "wrong password", "::ffff:192.0.2.1")
    with pytest.raises(OverQuota, match="from your address"):
        anna.users.begin_session("anna", RIGHT, "192.0.2.1")
    anna.users.begin_session("anna", RIGHT, "::ffff:192.0.2.2")


def test_an_address_has_a_rate_of_its_own_over_all_names(anna: Store, clock: ManualClock) -> None:
    for number in range(20):
        with pytest.raises(Unauthorized):
            anna.users.begin_session(f"name{number}", "wrong password", f"2001:db8::{number}")
    with pytest.raises(OverQuota, match="from your address") as refused:
        anna.users.begin_session("anna", RIGHT, "2001:db8::99")
    anna.users.begin_session("anna", RIGHT, "2001:db8:0:1::99")
    clock.advance(refused.value.retry_after_s)
    anna.users.begin_session("anna", RIGHT, "2001:db8::99")


def test_names_of_nobody_that_are_tried_take_bounded_room(anna: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "_MOST", 3)
    for name, times in (("anna", 3), *((f"name{number}", 1) for number in range(6))):
        for _ in range(times):
            with pytest.raises(Unauthorized):
                anna.users.begin_session(name, "wrong password", name)
    kept = stored(anna, attempts.c.name)
    assert len(kept) == 3
    assert "anna" in kept


def test_a_session_ends_after_twelve_hours_without_use_and_after_seven_days_in_all(
    anna: Store, clock: ManualClock
) -> None:
    idle = anna.users.begin_session("anna", RIGHT)
    used = anna.users.begin_session("anna", RIGHT)
    for _ in range(15):
        clock.advance(11 * HOUR_S)
        assert anna.users.session(used) is not None
    assert anna.users.session(idle) is None
    clock.advance(4 * HOUR_S)
    assert anna.users.session(used) is None


def test_a_page_that_was_left_open_keeps_no_session(anna: Store, clock: ManualClock) -> None:
    secret = anna.users.begin_session("anna", RIGHT)
    for _ in range(11):
        clock.advance(HOUR_S)
        assert anna.users.session(secret, is_use=False) is not None
    clock.advance(HOUR_S)
    assert anna.users.session(secret, is_use=False) is None


def test_a_session_is_written_at_most_once_a_minute(anna: Store, clock: ManualClock) -> None:
    secret = anna.users.begin_session("anna", RIGHT)
    (before,) = stored(anna, sessions.c.seen_at_us)
    clock.advance(59)
    anna.users.session(secret)
    assert stored(anna, sessions.c.seen_at_us) == [before]
    clock.advance(1)
    anna.users.session(secret)
    assert stored(anna, sessions.c.seen_at_us) == [clock.now_us]


def test_a_session_is_read_at_once_while_the_database_takes_no_write(anna: Store, clock: ManualClock) -> None:
    secret = anna.users.begin_session("anna", RIGHT)
    before = stored(anna, sessions.c.seen_at_us)
    other = open_store(anna._engine.url.render_as_string(hide_password=False), clock)
    tried: list[float] = []

    def asked() -> float:
        begun_s = time.monotonic()
        assert anna.users.session(secret) is not None
        return time.monotonic() - begun_s

    for writer in (anna, other):
        clock.advance(120)
        with writing(writer._engine, lock="users"):
            tried += [asked(), asked()]
            assert stored(anna, sessions.c.seen_at_us) == before
    assert max(tried) < 5
    asked()
    assert stored(anna, sessions.c.seen_at_us) == before
    clock.advance(60)
    asked()
    assert stored(anna, sessions.c.seen_at_us) == [clock.now_us]
    other.close()


def test_whoever_changes_something_still_waits_for_the_other_writer(anna: Store, clock: ManualClock) -> None:
    """A page that did not wait leaves its connection as patient as it was."""
    secret = anna.users.begin_session("anna", RIGHT)
    clock.advance(120)
    other = open_store(anna._engine.url.render_as_string(hide_password=False), clock)
    with writing(other._engine, lock="users") as held:
        assert anna.users.session(secret) is not None
        waiting = threading.Thread(target=anna.users.sign_out, args=("anna",))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        del held
    waiting.join(20)
    assert anna.users.session(secret) is None
    other.close()


def test_a_session_ends_by_sign_out_and_the_others_go_on(anna: Store) -> None:
    first, second = (anna.users.begin_session("anna", RIGHT) for _ in range(2))
    anna.users.end_session(first)
    anna.users.end_session(first)
    assert anna.users.session(first) is None
    assert anna.users.session(second) is not None
    assert told(anna).count(("anna", "signed_out")) == 1


@pytest.mark.parametrize("how", ["remove", "password", "sign_out", "add again"])
def test_all_sessions_of_a_user_end_at_once_and_those_of_others_go_on(anna: Store, how: str) -> None:
    anna.users.add("bert", RIGHT, {"*": "viewer"})
    secret, other = (anna.users.begin_session(name, RIGHT) for name in ("anna", "bert"))
    if how == "password":
        anna.users.set_password("anna", "another password")
    elif how == "sign_out":
        anna.users.sign_out("anna")
    else:
        anna.users.remove("anna")
    if how == "add again":
        anna.users.add("anna", RIGHT, {})
    assert anna.users.session(secret) is None
    assert anna.users.session(other) is not None
    anna.users.sweep()
    assert len(stored(anna, sessions.c.id)) == 1


def test_a_removed_user_cannot_sign_in_and_the_console_does_not_open_again(anna: Store) -> None:
    assert anna.users.has_users()
    anna.users.remove("anna")
    with pytest.raises(Unauthorized):
        anna.users.begin_session("anna", RIGHT)
    assert anna.users.list_users() == []
    assert anna.users.has_users()
    with pytest.raises(Unknown):
        anna.users.remove("anna")


def test_another_role_holds_from_the_next_request_on(anna: Store) -> None:
    secret = anna.users.begin_session("anna", RIGHT)
    anna.users.set_roles("anna", {"*": "viewer"})
    session = anna.users.session(secret)
    assert session is not None
    assert session.roles == {"*": "viewer"}


def test_a_hash_of_older_parameters_is_renewed_at_the_next_sign_in(
    anna: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(anna, users.c.hash)
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    secret = anna.users.begin_session("anna", RIGHT)
    assert "m=16,t=2" in str(stored(anna, users.c.hash)[0])
    assert stored(anna, users.c.hash) != before
    assert anna.users.session(secret) is not None
    anna.users.begin_session("anna", RIGHT)


@pytest.mark.parametrize("password", ["short", "Margarethe", "aaaaaaaaaaaa", "ehteragram", "x" * 2000])
def test_a_password_that_is_short_or_the_name_is_refused_without_being_shown(store: Store, password: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        store.users.add("margarethe", password, {})
    assert password not in str(refused.value)
    assert store.users.list_users() == []


def test_a_password_is_the_same_however_a_keyboard_composes_its_letters(store: Store) -> None:
    store.users.add("anna", "gr\u00fcne \u00c4pfel", {})
    secret = store.users.begin_session("anna", "gru\u0308ne A\u0308pfel")
    assert store.users.session(secret) is not None


@pytest.mark.parametrize("name", ["", "Anna", "command line", "-x", "a" * 64, "<b>", "a\n", "an\u00e4"])
def test_what_is_no_name_of_a_user_is_refused(store: Store, name: str) -> None:
    with pytest.raises(Unprocessable, match="name"):
        store.users.add(name, RIGHT, {})


def test_a_user_is_added_once(anna: Store) -> None:
    with pytest.raises(Conflict):
        anna.users.add("anna", RIGHT, {})


def test_all_servers_of_a_database_sign_with_one_key_that_stays(store: Store, clock: ManualClock) -> None:
    other = open_store(store._engine.url.render_as_string(hide_password=False), clock)
    key = store.users.signing_key()
    assert len(key) == 32
    assert other.users.signing_key() == store.users.signing_key() == key
    other.close()


def note(
    store: Store, what: str, site: str | None = None, subject: str | None = None, detail: str | None = None
) -> None:
    with writing(store._engine, lock="users") as connection:
        add_line(connection, store.audit._clock(), "anna", what, site=site, subject=subject, detail=detail)


def test_the_audit_is_read_newest_first_page_by_page_and_by_site(store: Store, clock: ManualClock) -> None:
    for number in range(5):
        clock.advance(1)
        site = "yard" if number % 2 else None
        note(store, "did", site, str(number), "x" * 5000)
    page = store.audit.page(limit=2)
    assert [line.subject for line in page] == ["4", "3"]
    assert [line.subject for line in store.audit.page(before=page[-1].number)] == ["2", "1", "0"]
    assert [line.subject for line in store.audit.page(sites=frozenset({"yard"}))] == ["3", "1"]
    assert [line.subject for line in store.audit.page(since_us=clock.now_us - 1_000_000)] == ["4", "3"]
    assert store.audit.page(sites=frozenset()) == []
    assert len(page[0].detail or "") == 1000


def test_lines_of_the_audit_go_with_age_and_stay_without_a_limit(store: Store, clock: ManualClock) -> None:
    note(store, "did")
    clock.advance(2 * 24 * HOUR_S)
    note(store, "did again")
    assert store.audit.sweep(0) == 0
    assert store.audit.sweep(1.5) == 1
    assert [line.what for line in store.audit.page()] == ["did again"]
    [last] = store.audit.page()
    clock.now_us += 86_400_000_000 * 9
    assert store.audit.sweep(1.5) == 0
    note(store, "did more")
    assert store.audit.page()[0].number == last.number + 1


def test_making_and_revoking_a_token_is_in_the_audit_once(store: Store) -> None:
    store.add_token("0a1b", "gate", "yard", "gate", "hash")
    for _ in range(2):
        store.revoke_token("0a1b")
    assert [(line.what, line.site, line.subject) for line in store.audit.page()] == [
        ("token_revoked", "yard", "0a1b"),
        ("token_added", "yard", "0a1b"),
    ]
