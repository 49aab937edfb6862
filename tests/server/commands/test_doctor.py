"""`sectorwatch doctor` finds what is wrong before the server does, and says what to do."""

from __future__ import annotations

import re
import socket
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

from policies.observation import Prediction
from server.__main__ import command
from server.domain.keeping import DAY_US
from server.serving.machine import this_machine
from server.store import open_store
from server.store.retention import erasure
from server.store.schema import space_samples
from tests.policies.stories import CHANGE
from tests.policies.test_scene import home, turned
from tests.server import new_sqlite
from tests.server.ensemble.others import folder_of, network
from tests.server.scenes import START_US, Yard, burst, there_and_back
from tests.server.store.damage.files import leaves_of, overwrite
from tests.server.swaps import chosen
from tests.stand_ins import ManualClock, ScriptedEnsemble

FAR_FUTURE_US = 4_000_000_000_000_000
GIB = 1024**3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server's folder, with a site, a database and models that need no weights."""
    for name, value in {"DATA_DIR": str(tmp_path), "MODELS": "hog-people,frame-change", "PORT": "0"}.items():
        monkeypatch.setenv(f"SECTORWATCH_{name}", value)
    monkeypatch.setenv("SECTORWATCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "yard.toml").write_text('site = "yard"\n', encoding="utf-8")
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    return tmp_path


def doctor() -> Result:
    return CliRunner().invoke(command, ["doctor"])


def lines(result: Result, level: str) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith(level)]


def test_where_everything_is_in_place_nothing_fails(folder: Path):
    result = doctor()
    assert (result.exit_code, lines(result, "fail")) == (0, [])
    for subject in ("cpu", "threads", "memory", "model", "proofs", "sites", "database", "integrity", "clock", "ports"):
        assert any(line.split()[1] == subject for line in result.stdout.splitlines()), subject


def test_a_camera_that_was_turned_is_named_with_what_to_do(folder: Path, clock: ManualClock):
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock)
    yard = Yard(folder / "sites", store, clock, 'site = "yard"\ntargets = ["moving"]\n')
    yard.ensemble = yard.pipeline._ensemble = ScriptedEnsemble([CHANGE])
    for number in range(20):
        evidence = turned(number) if number >= 10 else home(number)
        still = Prediction("still", 0.9, evidence=evidence)
        image = yard.ensemble.teach(str(number).encode(), {"frame-change": (still,)})
        yard.pipeline.process(burst(number, [image], number * 5.0))
    store.close()
    [finding] = lines(doctor(), "warn  views")
    assert re.search(r"camera gate of yard: the camera was turned or moved at 2026-11-22.07:00:50", finding), finding
    assert "looked_at under [cameras.gate]" in doctor().stdout


def test_it_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path / "data"))
    result = doctor()
    assert not (tmp_path / "data").exists()
    assert "no tables yet" in result.stdout
    assert "there is no folder" in result.stdout


def test_every_finding_that_is_not_ok_names_the_next_step(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "broken.sqlite").write_bytes(b"no database at all" * 100)
    (folder / "sites" / "yard.toml").write_text('site = "yard"\ntragets = ["person"]\n', encoding="utf-8")
    for name, value in {
        "DATABASE_URL": f"sqlite:///{folder}/broken.sqlite",
        "MODELS": "hog-peeple",
        "LOCK": str(folder / "nowhere"),
        "INFERENCE_THREADS": "4096",
    }.items():
        monkeypatch.setenv(f"SECTORWATCH_{name}", value)
    shown = doctor().stdout.splitlines()
    faults = [number for number, line in enumerate(shown) if line.startswith(("warn", "fail"))]
    assert {shown[number].split()[1] for number in faults} >= {"threads", "model", "proofs", "sites", "database"}
    assert all(shown[number + 1].strip().startswith("-> ") for number in faults)


def test_missing_weights_fail_with_the_command_that_fetches_them(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECTORWATCH_MODELS", "yolov3-tiny")
    result = doctor()
    assert result.exit_code == 1
    assert lines(result, "fail") == ["fail  model      yolov3-tiny: no weights yet"]
    assert "-> sectorwatch models pull yolov3-tiny" in result.stdout


def test_a_model_that_is_not_there_is_told_with_the_one_that_was_meant(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECTORWATCH_MODELS", "yolov3-tyni")
    result = doctor()
    assert result.exit_code == 1
    assert "did you mean `yolov3-tiny`" in result.stdout


def test_a_model_that_can_run_code_and_is_not_trusted_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch):
    card = folder_of(folder / "own", "torchscript", network(), "leaves") / "card.toml"
    monkeypatch.setenv("SECTORWATCH_MODELS_DIR", str(folder / "own"))
    monkeypatch.setenv("SECTORWATCH_MODELS", "leaves")
    what = "leaves is a TorchScript network, which can run code, and its card"
    result = doctor()
    assert lines(result, "warn  model") == [f"warn  model      {what} does not say that you trust it"]
    assert f"-> if you know where it comes from, write `trusted = true` into {card}" in result.stdout
    card.write_text("trusted = false\n" + card.read_text())
    assert lines(doctor(), "fail") == [f"fail  model      {what} says `trusted = false`"]
    checked = CliRunner().invoke(command, ["validate", str(card)])
    assert f"Warning: {card}: {what} says `trusted = false`" in checked.stderr
    card.write_text(card.read_text().replace("trusted = false", "trusted = true"))
    assert not lines(doctor(), "warn  model")


def test_what_the_models_cannot_do_of_a_policy_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch):
    text = 'site = "yard"\nsensitivity = { rule = "at_least", k = 9 }\nmin_score = { yolo = 0.5 }\n'
    (folder / "sites" / "yard.toml").write_text(text, encoding="utf-8")
    result = doctor()
    assert result.exit_code == 0
    warned = [line for line in lines(result, "warn") if line.split()[1] == "policies"]
    assert warned == [
        "warn  policies   yard: every camera: no model that votes is called `yolo`; known here: hog-people",
        "warn  policies   yard: every camera/view: `person` is never decided: "
        "rule at_least 9, and hog-people can give 1 at most",
    ]
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-peeple")
    assert [line.split()[1] for line in lines(doctor(), "fail")] == ["model"]


def test_models_that_were_swapped_in_are_the_ones_that_are_checked_and_named(folder: Path):
    chosen(folder, ["yolov3-tiny"], instead_of=["hog-people", "frame-change"])
    result = doctor()
    assert "swapped in since the settings were written: yolov3-tiny" in "".join(lines(result, "warn"))
    assert lines(result, "fail") == ["fail  model      yolov3-tiny: no weights yet"]


def test_a_site_policy_that_cannot_be_used_fails_with_its_line(folder: Path):
    (folder / "sites" / "yard.toml").write_text('site = "yard"\ntragets = ["person"]\n', encoding="utf-8")
    result = doctor()
    assert result.exit_code == 1
    assert "line 2" in "".join(lines(result, "fail"))


def test_a_database_of_another_version_fails(folder: Path):
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    store.close()
    result = doctor()
    assert result.exit_code == 1
    assert "schema 0001" in "".join(lines(result, "fail"))
    assert "-> sectorwatch db upgrade" in result.stdout


def test_a_database_that_does_not_answer_fails_and_the_rest_is_still_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "broken.sqlite").write_bytes(b"no database at all" * 100)
    monkeypatch.setenv("SECTORWATCH_DATABASE_URL", f"sqlite:///{folder}/broken.sqlite")
    result = doctor()
    assert result.exit_code == 1
    assert [line.split()[1] for line in lines(result, "fail")] == ["database"]
    assert "ports" in result.stdout


def walked(folder: Path) -> Path:
    """The folder's database after a walk of a minute."""
    clock = ManualClock(START_US + 3_600_000_000)
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock)
    yard = Yard(folder / "others", store, clock)
    for number in range(30):
        yard.pipeline.process(yard.walk(number, there_and_back, number * 2.0))
    store.close()
    return folder / "sectorwatch.sqlite"


def test_a_whole_file_is_ok_and_what_was_checked_is_named(folder: Path):
    walked(folder)
    (found,) = [line for line in lines(doctor(), "ok") if " integrity " in line]
    assert re.fullmatch(r"ok    integrity  integrity_check of 0\.\d MB: ok", found)


@pytest.mark.parametrize("table", ["observations", "sqlite_autoindex_events_1", "sqlite_schema"])
def test_a_damaged_page_fails_with_the_way_back(folder: Path, table: str):
    file = walked(folder)
    overwrite(file, [1] if table == "sqlite_schema" else [leaves_of(file, table)[-1]])
    result = doctor()
    assert result.exit_code == 1
    shown = result.stdout.splitlines()
    fault = next(number for number, line in enumerate(shown) if line.startswith("fail"))
    assert "db restore FILE" in shown[fault + 1]
    if table != "sqlite_schema":
        assert "integrity  the database is damaged: " in shown[fault]
        assert f"sectorwatch db recover {folder}/recovered.sqlite" in shown[fault + 1]
        assert ".recover" in shown[fault + 1]


def test_a_saved_state_that_cannot_be_read_is_a_warning_until_it_is_made_anew(folder: Path):
    with closing(sqlite3.connect(walked(folder))) as connection, connection:
        connection.execute("UPDATE camera_states SET state = '{'")
    (found,) = [line for line in lines(doctor(), "warn") if " integrity " in line]
    assert "yard/gate: 1 saved states cannot be read" in found
    assert CliRunner().invoke(command, ["db", "upgrade"]).exit_code == 0
    assert not [line for line in lines(doctor(), "warn") if " integrity " in line]


def test_the_way_back_that_it_names_leads_back(folder: Path):
    file = walked(folder)
    with closing(open_store(f"sqlite:///{file}")) as store:
        before = store.events()
    overwrite(file, [leaves_of(file, "burst_records")[-1]])
    (step,) = [line for line in doctor().stdout.splitlines() if "db recover" in line]
    recover, restore = re.findall(r"sectorwatch (db (?:recover|restore) /\S+?)(?= &&|\. )", step)
    saved = CliRunner().invoke(command, recover.split())
    assert saved.exit_code == 0, saved.output
    assert re.search(r"burst_records +\d+ of 30\n", saved.output)
    assert f"Next: sectorwatch {restore}" in saved.output
    restored = CliRunner().invoke(command, restore.split())
    assert restored.exit_code == 0, restored.output
    assert "The database of before is " in restored.output
    assert [line for line in lines(doctor(), "ok") if " integrity " in line]
    with closing(open_store(f"sqlite:///{file}")) as store:
        assert store.events() == before


def test_an_empty_file_is_named_with_what_to_do_if_it_held_something(folder: Path):
    (folder / "sectorwatch.sqlite").write_bytes(b"")
    result = doctor()
    assert "the file is empty" in result.stdout
    assert "db restore FILE" in result.stdout


def test_a_clock_behind_the_database_fails(folder: Path):
    clock = ManualClock(FAR_FUTURE_US)
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock)
    yard = Yard(folder / "others", store, clock)
    yard.pipeline.process(yard.walk(0, lambda _: 0.25, 0.0))
    store.close()
    result = doctor()
    assert result.exit_code == 1
    assert "behind the newest turn" in "".join(lines(result, "fail"))


def test_a_port_in_use_is_a_warning_since_it_may_be_this_very_server(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("SECTORWATCH_ADMIN_PORT", str(port))
        result = doctor()
    assert result.exit_code == 0
    assert f"port {port} (`admin_port`)" in "".join(lines(result, "warn"))


def test_without_tokens_an_open_address_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECTORWATCH_HOST", "0.0.0.0")
    assert "will listen on loopback only" in "".join(lines(doctor(), "warn"))


def test_threads_that_were_set_by_hand_are_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("SECTORWATCH_INFERENCE_THREADS", "4096")
    warned = "".join(lines(doctor(), "warn"))
    assert "OMP_NUM_THREADS=64" in warned
    assert "4096 inference threads" in warned


def test_a_setting_that_cannot_be_used_ends_as_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECTORWATCH_PORT", "many")
    result = doctor()
    assert result.exit_code == 78
    assert "SECTORWATCH_PORT" in result.output


def test_a_server_that_may_need_more_memory_than_its_limit_gets_a_warning_with_what_to_lower(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SECTORWATCH_MEMORY_LIMIT_BYTES", str(2 * GIB))
    monkeypatch.setenv("SECTORWATCH_INFERENCE_THREADS", "4")
    result = doctor()
    [warned] = [line for line in lines(result, "warn") if line.split()[1] == "memory"]
    assert warned.startswith("warn  memory     this server may need")
    assert warned.endswith("and there are 2048 MiB")
    assert "-> lower `max_pixels`, `max_body_bytes` or" in result.stdout


@pytest.mark.parametrize(
    ("setting", "todo"),
    [("LOCK", "models lock"), ("GOLDEN", "models approve"), ("MODELS_DIR", "make the folder")],
)
def test_what_the_models_are_held_against_and_is_not_there_fails_with_what_makes_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, setting: str, todo: str
):
    monkeypatch.setenv(f"SECTORWATCH_{setting}", str(folder / "nowhere"))
    result = doctor()
    (fault,) = (line for line in lines(result, "fail") if line.split()[1] == "proofs")
    assert f"the setting {setting.lower()}: there is no {folder / 'nowhere'}" in fault
    assert todo in result.stdout
    assert result.exit_code == 1


def test_an_arithmetic_that_this_machine_does_not_have_fails_with_the_one_it_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SECTORWATCH_EXECUTION", "bf16")
    monkeypatch.setattr(
        "server.commands.doctor.models.this_machine", lambda: replace(this_machine(), vectors=frozenset())
    )
    result = doctor()
    assert any("needs a processor with" in line and 'use "fp32"' in line for line in lines(result, "fail"))


def test_it_says_when_the_disk_is_full_at_this_rate(folder: Path):
    assert "when it will be full is not known yet" in doctor().stdout
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite")
    used = store.retention.space().used_bytes
    now_us = store._clock()
    with store._engine.begin() as connection:
        for days, size in ((1, used - 200_000), (0, used)):
            row = {"at_us": now_us - days * DAY_US, "used_bytes": size}
            connection.execute(insert(space_samples), row)
    store.close()
    assert re.search(
        r"grows by 0.2 MiB a day; its disk is \d+% full, and will be full in about \d{3,} days", doctor().stdout
    )


def test_it_names_a_site_of_the_settings_that_the_database_does_not_have(
    folder: Path, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
):
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock)
    yard = Yard(folder / "sites", store, clock)
    yard.pipeline.process(yard.walk(1, lambda t: None, 0))
    store.close()
    monkeypatch.setenv("SECTORWATCH_RETENTION", '{"yart": {"max_bytes": 7}}')
    assert "the setting retention.yart: the database has no site `yart`; did you mean `yard`?" in doctor().stdout


def test_it_names_an_erasure_that_is_not_finished(folder: Path, clock: ManualClock):
    store = open_store(f"sqlite:///{folder}/sectorwatch.sqlite", clock)
    yard = Yard(folder / "sites", store, clock)
    yard.pipeline.process(yard.walk(1, lambda t: None, 0))
    begin_us = clock.now_us - 3600_000_000
    erasure.ask(
        store._engine,
        store._versions,
        clock,
        store.frames,
        "yard",
        "gate",
        begin_us,
        clock.now_us,
        author="Ada",
        note=None,
        keeps_annotated=False,
    )
    store.close()
    assert "erasure 1 of yard/gate is not finished" in doctor().stdout
