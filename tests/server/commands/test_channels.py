"""`sectorwatch channels` and what `doctor` finds of channels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.commands.doctor.channels import channels as check
from server.delivery.channel import Undeliverable
from server.delivery.dispatcher import Dispatcher
from server.domain.announcements import Outgoing
from server.settings import load_settings
from server.store import Store, open_store
from tests.server.channel_stand_in import TABLE, Hooks, stand_in
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock, RecordingChannel

Run = Callable[..., Result]


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    return stand_in(monkeypatch)


@pytest.fixture
def config(tmp_path: Path, new_sqlite: Callable[[], str], own_folder: None) -> Path:
    (tmp_path / "server.toml").write_text(f'database_url = "{new_sqlite()}"\n{TABLE}', encoding="utf-8")
    return tmp_path / "server.toml"


@pytest.fixture
def run(config: Path) -> Run:
    return lambda *words: CliRunner().invoke(command, ["channels", *words, "--config", str(config)])


@pytest.fixture
def store(config: Path) -> Iterator[Store]:
    with closing(open_store(load_settings(config).database_url)) as store:
        yield store


class Refuses(RecordingChannel):
    """Will never take the first two announcements."""

    def send(self, outgoing: Outgoing) -> None:
        if outgoing.seq < 3:
            raise Undeliverable("410 gone")
        super().send(outgoing)


@pytest.fixture
def yard(tmp_path: Path, store: Store) -> Yard:
    """A yard with a past whose channel `phone` has two dead letters."""
    yard = Yard(tmp_path / "sites", store, ManualClock(START_US + 3_600_000_000))
    for burst in yard.walked(across, 26):
        yard.pipeline.process(burst)
    Dispatcher(store, [Refuses("phone"), RecordingChannel("log")]).drain_once()
    return yard


def standings(run: Run) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in map(json.loads, run("list", "--json").stdout.splitlines())}


def audited(store: Store) -> list[tuple[str, str | None, str | None]]:
    lines = store.audit.page()
    assert {line.author for line in lines} <= {"command line"}
    return [(line.what, line.subject, line.detail) for line in reversed(lines)]


def test_the_list_has_the_log_the_settings_and_what_was_there_before(run: Run, store: Store) -> None:
    store.add_channel("old")
    listed = run("list")
    assert listed.exit_code == 0, listed.output
    head, log, phone, old = listed.stdout.splitlines()
    assert head.split() == ["CHANNEL", "KIND", "STATE", "BACKLOG", "OLDEST", "LAST", "SENT", "DEAD"]
    assert log.split()[:3] == ["log", "log", "new:"]
    assert phone.startswith("phone    webhook  new: no server has started with it")
    assert old.startswith("old      -        not in the settings ")


def test_the_list_says_what_waits_what_was_sent_and_why_a_channel_fails(run: Run, yard: Yard) -> None:
    fails = RecordingChannel("phone")
    fails.fail_next = 1
    yard.store.resume("phone")
    yard.store.notices.add("refused", "e" * 64, ["a"], "differs")
    Dispatcher(yard.store, [fails]).drain_once()
    lines = run("list").stdout.splitlines()
    assert any(line.startswith("phone    webhook  failing since ") and line.endswith(" 2") for line in lines)
    assert lines[-1] == "    -> ConnectionError: the channel is down"
    phone = standings(run)["phone"]
    assert (phone["state"], phone["backlog"], phone["dead_letters"], phone["failures"]) == ("failing", 1, 2, 1)
    assert phone["oldest_undelivered_at"] is not None
    assert phone["last_sent_at"] is not None


def test_a_channel_is_paused_and_resumed_also_before_its_first_start(run: Run, store: Store) -> None:
    assert run("pause", "phone").exit_code == 0
    assert standings(run)["phone"]["state"] == "paused"
    store.notices.add("refused", "e" * 64, ["a"], "differs")
    channel = RecordingChannel("phone")
    dispatcher = Dispatcher(store, [channel])
    assert dispatcher.drain_once() == 0
    resumed = run("resume", "phone")
    assert "has 1 announcements to send" in resumed.stderr
    assert dispatcher.drain_once() == 1
    assert audited(store) == [("channel_paused", "phone", None), ("channel_resumed", "phone", None)]


def test_a_channel_that_is_resumed_from_now_passes_over_what_waits(run: Run, yard: Yard) -> None:
    run("pause", "phone")
    yard.store.notices.add("refused", "e" * 64, ["a"], "differs")
    assert "passes over 1 announcements" in run("resume", "phone", "--from-now").stderr
    assert standings(run)["phone"]["backlog"] == 0
    assert audited(yard.store)[-1] == ("channel_resumed", "phone", "from now, without what waited")


@pytest.mark.parametrize("words", [["pause"], ["resume"], ["test"], ["drop", "--all"], ["resend", "--dead"]])
def test_a_misspelled_name_is_answered_with_the_nearest_one(run: Run, words: list[str]) -> None:
    refused = run(words[0], "phon", *words[1:])
    assert refused.exit_code == 1
    assert refused.stderr == "sectorwatch: there is no channel `phon`; did you mean `phone`?\n"


def test_what_the_settings_do_not_have_can_be_paused_and_not_be_sent_on(run: Run, yard: Yard) -> None:
    yard.store.add_channel("old")
    assert run("pause", "old").exit_code == 0
    for words in (["test", "old"], ["resend", "old", "--dead"]):
        refused = run(*words)
        assert refused.exit_code == 1
        assert "channel `old` is not in the settings" in refused.stderr
    assert "not in the settings, paused since" in run("list").stdout


def test_a_test_is_sent_and_said_also_during_a_pause(run: Run, hooks: Hooks) -> None:
    run("pause", "phone")
    tried = run("test", "phone")
    assert (tried.exit_code, tried.stdout) == (0, "A test went to phone.\n")
    assert hooks.tests == ["phone"]


def test_a_test_that_is_not_taken_says_why_in_one_line(run: Run, hooks: Hooks) -> None:
    hooks.refuses = ConnectionError("https://me:hush@example.org answers 401")
    tried = run("test", "phone")
    assert tried.exit_code == 1
    assert tried.stderr.startswith(
        "sectorwatch: channel `phone` did not take the test: ConnectionError: https://me:***"
    )
    hooks.secret = "env:NO_SUCH_SECRET"
    tried = run("test", "phone")
    assert tried.exit_code == 78
    assert "the variable NO_SUCH_SECRET" in tried.stderr


def test_dead_letters_are_listed_with_their_event_and_reason(run: Run, yard: Yard) -> None:
    listed = run("list", "--dead", "phone")
    head, first, second = listed.stdout.splitlines()
    assert head.split() == ["NUMBER", "SINCE", "WHAT", "EVENT", "WHY"]
    assert first.split()[0] == "1"
    assert first.endswith("Undeliverable: 410 gone")
    assert yard.store.letters.page()[0].event_id in second
    (newest,) = map(json.loads, run("list", "--dead", "phone", "--limit", "1", "--json").stdout.splitlines())
    assert (newest["number"], newest["error"], newest["asked_at"]) == (2, "Undeliverable: 410 gone", None)
    assert "No dead letters of log" in run("list", "--dead", "log").stderr


def test_letters_are_sent_again_by_number_or_all(run: Run, yard: Yard) -> None:
    assert "1 letters of phone will be sent again" in run("resend", "phone", "--dead", "2").stderr
    assert "(1 to send again)" in run("list").stdout
    assert "to be sent again" in run("list", "--dead", "phone").stdout
    channel = RecordingChannel("phone")
    Dispatcher(yard.store, [channel]).drain_once()
    assert [each.seq for each in channel.sent] == [2]
    assert "1 letters" in run("resend", "phone", "--dead").stderr
    assert run("resend", "phone", "--dead", "99").exit_code == 1
    assert audited(yard.store) == [
        ("channel_resent", "phone", "letters 2"),
        ("channel_resent", "phone", "all 1 letters"),
    ]


def test_events_are_sent_again_by_id_or_stretch_as_far_as_the_channel_sends_them(
    run: Run, yard: Yard, config: Path
) -> None:
    config.write_text(config.read_text(encoding="utf-8") + 'events = ["entered"]\n', encoding="utf-8")
    log = list(yard.store.events())
    entered = next(each.event.id for each in log if each.event.kind == "entered")
    assert "1 events will be sent again on phone." in run("resend", "phone", "--event", entered[:12]).stderr
    of_kind = sum(each.event.kind == "entered" for each in log)
    done = run("resend", "phone", "--since", "2020-01-01", "--site", "yard")
    assert f"{of_kind} events will be sent again on phone; {len(log) - of_kind} more are none" in done.stderr
    assert len(yard.store.letters.asked("phone", 100)) == of_kind, "each once"
    assert audited(yard.store)[-1] == ("channel_resent", "phone", f"{of_kind} events, site yard")


@pytest.mark.parametrize(
    "words",
    [
        ["resend", "phone"],
        ["resend", "phone", "3"],
        ["resend", "phone", "--dead", "--event", "ab"],
        ["resend", "phone", "--site", "yard"],
        ["drop", "phone"],
        ["drop", "phone", "3", "--all"],
    ],
)
def test_what_is_not_clear_is_a_usage_error(run: Run, words: list[str]) -> None:
    assert run(*words).exit_code == 2


def test_letters_are_dropped_and_their_events_stay(run: Run, yard: Yard) -> None:
    assert "1 letters of phone are deleted" in run("drop", "phone", "1").stderr
    assert "1 letters of phone are deleted" in run("drop", "phone", "--all").stderr
    assert run("drop", "phone", "7").exit_code == 1
    assert yard.store.letters.page() == []
    assert len(list(yard.store.events())) > 2
    assert audited(yard.store) == [
        ("letters_dropped", "phone", "letters 1"),
        ("letters_dropped", "phone", "all 1 letters"),
    ]


def test_a_paused_channel_is_forgotten_with_its_letters_and_a_server_that_runs_does_not_bring_it_back(
    run: Run, yard: Yard
) -> None:
    running = Dispatcher(yard.store, [RecordingChannel("phone")])
    running.drain_once()
    assert "servers send on channel `phone`: `sectorwatch channels pause phone` first" in run("forget", "phone").stderr
    run("pause", "phone")
    told = run("forget", "phone").stderr
    assert "Channel phone is forgotten." in told
    assert "Take [channels.phone] out of the settings" in told
    yard.store.notices.add("refused", "e" * 64, ["a"], "differs")
    assert running.drain_once() == 0
    assert [each.name for each in yard.store.channel_states()] == ["log"]
    assert yard.store.letters.page() == []
    assert audited(yard.store)[-1] == ("channel_forgotten", "phone", None)
    assert "nothing is stored of channel `phone`" in run("forget", "phone").stderr
    assert "the log is always there" in run("forget", "log").stderr


def test_a_channel_without_a_table_is_forgotten_once_no_server_sends_on_it(run: Run, yard: Yard) -> None:
    yard.store.add_channel("old")
    assert yard.store.hold("old", "theirs", 30_000_000)
    assert "a server still sends on channel `old`" in run("forget", "old").stderr
    yard.store.let_go("old", "theirs")
    assert "what a broker retains of it, pictures too, stays there" in run("forget", "old").stderr
    assert "old" not in standings(run)


def found(config: Path) -> list[tuple[str, str]]:
    return [(each.level, f"{each.what} -> {each.next_step}") for each in check(load_settings(config))]


def test_doctor_is_content_with_channels_that_are_well(config: Path, store: Store, hooks: Hooks) -> None:
    assert found(config) == [("ok", "log, phone -> ")]


def test_doctor_names_a_secret_that_cannot_be_read_and_a_package_that_is_missing(config: Path, hooks: Hooks) -> None:
    hooks.secret = "env:NO_SUCH_SECRET"
    ((level, what),) = found(config)
    assert level == "fail"
    assert "phone: the variable NO_SUCH_SECRET, which holds a secret of a channel, is not set -> mend" in what
    hooks.missing = "a webhook needs a package: pip install 'sectorwatch[webhook]'"
    ((level, what),) = found(config)
    assert "sectorwatch[webhook]" in what


def test_doctor_finds_dead_letters_failures_and_what_waits_for_long(config: Path, yard: Yard, hooks: Hooks) -> None:
    assert any(
        "phone: 2 announcements could not be delivered -> sectorwatch channels list" in w for _, w in found(config)
    )
    clock = ManualClock(START_US)
    with closing(open_store(str(load_settings(config).database_url), clock)) as early:
        early.notices.add("refused", "e" * 64, ["a"], "differs")
        assert any("phone: 1 announcements wait, the oldest for " in what for _, what in found(config))
        fails = RecordingChannel("phone")
        fails.fail_next = 1
        Dispatcher(early, [fails]).drain_once()
        assert any(
            "phone: fails since 2026" in w and "ConnectionError: the channel is down" in w for _, w in found(config)
        )
        early.pause("phone")
        assert any("phone: paused since" in w and "channels resume phone" in w for _, w in found(config))


def test_doctor_sends_nobody_to_resend_on_a_channel_that_is_not_in_the_settings(
    config: Path, yard: Yard, hooks: Hooks
) -> None:
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace(TABLE, ""), encoding="utf-8")
    ((_, what),) = found(config)
    assert what.endswith("add [channels.phone] to the settings to send them, or sectorwatch channels forget phone")


def test_doctor_finds_a_target_of_a_channel_that_no_site_has(config: Path, yard: Yard, hooks: Hooks) -> None:
    sites = config.parent / "sites"
    text = config.read_text(encoding="utf-8")
    config.write_text(f'sites_dir = "{sites}"\n{text}targets = ["persn", "person"]\n', encoding="utf-8")
    findings = [what for _, what in found(config) if "target" in what]
    assert len(findings) == 1
    assert "phone: it sends events of target `persn`, which no site has; did you mean `person`?" in findings[0]


def test_doctor_finds_a_site_of_a_channel_that_does_not_exist(config: Path, yard: Yard, hooks: Hooks) -> None:
    config.write_text(config.read_text(encoding="utf-8") + 'sites = ["yarde"]\n', encoding="utf-8")
    assert any(
        "phone: it sends events of site `yarde`, which is not known; did you mean `yard`?" in w
        for _, w in found(config)
    )
