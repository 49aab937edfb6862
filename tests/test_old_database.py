"""A database that version 0.1.0 wrote opens, goes on with people in view, replays, and verifies.

`tests/fixtures/make_0_1_0.py` says what is in it and how it was made. Whatever version 0.1.0 said of it, this version
says too: the log and the answers on the wire are compared whole, but for what versions 6 and 7 of the rules change:
the directions, the digests of policies and, as both are in them, the ids of events. What was written under the older
rules stays as it is, and `replay --check` and `verify` name these rules.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import lzma
import re
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from policies.observation import EnsembleInfo, Prediction
from policies.site.site_policy import digest_of_stored
from server.__main__ import command
from server.app import create_app, runtime_of
from server.commands.options import EXIT_OLDER
from server.settings import ServerSettings
from server.store import open_store

FIXTURE = Path(__file__).parent / "fixtures" / "0_1_0"
STATES = "SELECT site, camera, last_at_us, state FROM camera_states ORDER BY site, camera"
CHECKPOINTS = "SELECT site, camera, at_us, CAST(state AS BLOB) FROM checkpoints ORDER BY site, camera, at_us"
OTHER_ENSEMBLE = "f" * 64
NEW = ("damaged", "mended", "enlarged")
"""What version 0.3.0 added: counts of heartbeats, and the parts of the frame that were seen enlarged."""
GONE = ("provisional",)
"""Keys of an event on the wire that a later version may leave out."""
OF_RULES = ("id", "direction", "policy", "supersedes")
"""Keys of an event that versions 6 and 7 of the rules make otherwise, and what follows from its id."""


def packed(name: str) -> Any:
    return json.loads(lzma.decompress((FIXTURE / name).read_bytes()))


class Recorded:
    """An ensemble that gives the answers which the real models gave."""

    def __init__(self, continuation: Mapping[str, Any], digest: str | None = None) -> None:
        panel = continuation["panel"]
        self.ensemble_info = msgspec.convert(panel | {"ensemble": digest or panel["ensemble"]}, EnsembleInfo)
        self._answers = {
            sha256: msgspec.convert(answers, dict[str, tuple[Prediction, ...] | None])
            for burst in continuation["bursts"]
            for sha256, answers in zip(burst["envelope"]["frame_sha256"], burst["answers"], strict=True)
        }

    def only(self, model: str | None, within_s: float | None = None) -> Recorded:
        raise NotImplementedError(model)

    def answer(self, images: Sequence[bytes], *_crops: object, **_more: object) -> list[Any]:
        return [self._answers[hashlib.sha256(image).hexdigest()] for image in images]


class Old:
    """A copy of the old database in a folder of its own, brought to this version's schema."""

    def __init__(self, folder: Path, unpacked: Path) -> None:
        self.folder = folder
        shutil.copytree(unpacked, folder)
        self.states_before = self.rows(STATES), self.rows(CHECKPOINTS)
        assert self.asked("db", "upgrade").exit_code == 0

    def converted(self) -> Old:
        """The same, with all bursts in this version's form."""
        store = open_store(f"sqlite:///{self.folder}/sectorwatch.sqlite")
        assert store.convert() > 20
        assert store.convert() == 0
        store.close()
        assert self.rows("SELECT burst_id FROM bursts") == []
        assert self.rows("SELECT id FROM events WHERE origin IS NULL") == []
        return self

    def asked(self, *arguments: str) -> Any:
        """What a command ends with and prints."""
        return CliRunner().invoke(command, [*arguments, "--data-dir", str(self.folder)])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "sectorwatch.sqlite")) as connection:
            return connection.execute(query).fetchall()

    def log(self) -> list[tuple[Any, ...]]:
        """Every event in the order of its number: the number, the id, the JSON of the event, late, withdrawn, and what
        it supersedes.
        """
        store = open_store(f"sqlite:///{self.folder}/sectorwatch.sqlite")
        found = sorted(store.events(withdrawn=True), key=lambda logged: logged.seq)
        store.close()
        return [
            (
                each.seq,
                each.event.id,
                msgspec.json.encode(each.event, order="deterministic").decode(),
                int(each.late),
                int(each.is_withdrawn),
                msgspec.json.encode(each.supersedes).decode() if each.supersedes else None,
            )
            for each in found
        ]

    def app(self, ensemble: Recorded) -> Any:
        """A server of this version on the database, a second after its newest frame."""
        now_us = packed("expected.json.xz")["now_us"]
        return create_app(ServerSettings(data_dir=self.folder), ensemble=ensemble, channels=[], clock=lambda: now_us)

    def go_on(self, digest: str | None = None) -> list[dict[str, Any]]:
        """Send the rest of the footage; the answers. The first bursts find people in view, one comes late."""
        continuation = packed("continuation.json.xz")
        app = self.app(Recorded(continuation, digest))
        picture = base64.b64decode(continuation["picture"])
        headers = {"Authorization": f"Bearer {continuation['token']}"}
        answers = []
        for burst in continuation["bursts"]:
            answer = app.test_client().post("/v1/bursts", data=form(burst["envelope"], picture), headers=headers)
            assert answer.status_code == 201, answer.text
            answers.append(answer.get_json())
        runtime_of(app).store.close()
        return answers


def form(envelope: Mapping[str, Any], picture: bytes) -> dict[str, Any]:
    """The multipart form of a burst; each frame is the picture with a comment of its own."""
    texts = [f"{envelope['burst_id']} {index}".encode() for index in range(len(envelope["offsets_ms"]))]
    frames = [picture[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + picture[2:] for text in texts]
    files = [(io.BytesIO(frame), f"{index}.jpg") for index, frame in enumerate(frames)]
    return {"burst": (io.BytesIO(json.dumps(envelope).encode()), "burst.json", "application/json"), "file": files}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "unpacked"
    shutil.copytree(FIXTURE / "sites", folder / "sites", ignore=shutil.ignore_patterns("first"))
    with closing(sqlite3.connect(folder / "sectorwatch.sqlite")) as connection:
        connection.executescript(lzma.decompress((FIXTURE / "database.sql.xz").read_bytes()).decode())
    for file in (folder / "sites").glob("*.toml"):  # version 0.1.0 had no border, and another rule by default
        text = file.read_text(encoding="utf-8").replace("[movement]\n", "[movement]\nborder = 0.0\n")
        file.write_text('sensitivity.rule = "weighted"\n' * ("[sensitivity" not in text) + text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def old(unpacked: Path) -> Old:
    """The old database as it is; for reading."""
    return Old(unpacked.with_name("opened"), unpacked)


@pytest.fixture(scope="module")
def continued(unpacked: Path) -> Old:
    """The old database after the rest of the footage; for reading."""
    old = Old(unpacked.with_name("continued"), unpacked)
    old.go_on()
    return old


@pytest.fixture(scope="module")
def converted(unpacked: Path) -> Old:
    """The old database, every burst in this version's form; for reading."""
    return Old(unpacked.with_name("converted"), unpacked).converted()


@pytest.fixture(scope="module")
def converted_late(unpacked: Path) -> Old:
    """The old database after the rest of the footage, converted afterwards; for reading."""
    old = Old(unpacked.with_name("converted-late"), unpacked)
    old.go_on()
    return old.converted()


@pytest.fixture
def fresh(unpacked: Path, tmp_path: Path) -> Old:
    """The old database, to be written to."""
    return Old(tmp_path / "fresh", unpacked)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = packed("expected.json.xz")
    return found


@pytest.fixture(scope="module", params=["old", "continued", "converted", "converted_late"])
def either(request: pytest.FixtureRequest) -> Old:
    found: Old = request.getfixturevalue(request.param)
    return found


def test_the_old_database_holds_what_it_was_made_for(old: Old) -> None:
    def count(query: str) -> int:
        return int(old.rows(query)[0][0])

    assert count("SELECT count(*) FROM observations") > 200
    assert count("SELECT count(DISTINCT ensemble) FROM bursts") == 2
    assert count("SELECT count(DISTINCT policy) FROM bursts WHERE site = 'pets'") == 2
    assert count("SELECT count(*) FROM bursts WHERE late = 1") == 1
    assert count("SELECT count(*) FROM burst_records WHERE is_held = 1") == 1
    assert count("SELECT count(*) FROM events WHERE withdrawn_at_us IS NOT NULL") > 0
    assert count("SELECT count(*) FROM heartbeats") == 2
    assert {truth for (truth,) in old.rows("SELECT truth FROM annotations")} == {"true", "false", "unsure", "missed"}


def test_no_saved_state_of_the_old_database_is_folded_anew(old: Old) -> None:
    assert (old.rows(STATES), old.rows(CHECKPOINTS)) == old.states_before


def test_the_old_database_goes_on_with_people_in_view_and_tells_the_same_events(
    continued: Old, expected: dict[str, Any]
) -> None:
    assert standing(continued.log()) == standing(expected["log"])


def test_what_older_rules_wrote_stays_in_the_log_as_it_is(old: Old, continued: Old) -> None:
    bodies = {event_id: body for _, event_id, body, *_ in continued.log()}
    assert {event_id: bodies[event_id] for _, event_id, *_ in old.log()} == {row[1]: row[2] for row in old.log()}


def test_every_burst_that_follows_gets_the_answer_of_version_0_1_0(fresh: Old, expected: dict[str, Any]) -> None:
    for answer, wanted in zip(fresh.go_on(), expected["answers"], strict=True):
        said, then = without(answer, GONE + NEW + OF_RULES), without(wanted, GONE + OF_RULES)
        assert said | {"events": in_order(said["events"])} == then | {
            "events": in_order(then["events"]),
            "votes": answer["votes"],
        }


def test_another_ensemble_that_answers_alike_changes_nothing_but_its_name(fresh: Old, continued: Old) -> None:
    continuation = packed("continuation.json.xz")
    new_bursts = {burst["envelope"]["burst_id"] for burst in continuation["bursts"]}
    fresh.go_on(OTHER_ENSEMBLE)
    for (_, event_id, body, *_), wanted in zip(fresh.log(), continued.log(), strict=True):
        told, then = json.loads(body), json.loads(wanted[2])
        if told["provenance"]["burst_ids"][-1] in new_bursts:
            assert told["provenance"].pop("ensemble") == OTHER_ENSEMBLE
            assert then["provenance"].pop("ensemble") == continuation["panel"]["ensemble"]
        assert (event_id, told) == (wanted[1], then)


def test_a_converted_database_goes_on_and_tells_the_same_events(fresh: Old, continued: Old) -> None:
    fresh.converted()
    fresh.go_on()
    assert fresh.log() == continued.log()


def test_conversion_changes_no_frame_burst_and_decision(old: Old, converted: Old) -> None:
    before, after = (open_store(f"sqlite:///{each.folder}/sectorwatch.sqlite") for each in (old, converted))
    burst_ids = [burst_id for (burst_id,) in old.rows("SELECT burst_id FROM bursts")]
    for site, camera in old.rows("SELECT site, camera FROM camera_states"):
        assert list(after.history(site, camera)) == list(before.history(site, camera))
    for burst_id in burst_ids:
        assert after.kept(burst_id) == before.kept(burst_id)
        assert after.past.burst(burst_id) == before.past.burst(burst_id)
        assert after.is_judged_alike(burst_id, before.kept(burst_id).judgements)
    for store in (before, after):
        store.close()


def test_replay_names_the_older_rules_where_the_old_log_differs(old: Old) -> None:
    codes = set()
    for site, camera in old.rows("SELECT site, camera FROM camera_states"):
        told = old.asked("replay", "--check", "--site", site, "--camera", camera)
        assert (told.exit_code == EXIT_OLDER) == ("made under another version of the rules" in told.output), told.output
        codes.add(told.exit_code)
    assert codes == {0, EXIT_OLDER}


@pytest.mark.parametrize("name", ["continued", "converted_late"])
def test_an_event_of_each_kind_camera_policy_and_ensemble_verifies_as_far_as_its_rules_go(
    name: str, request: pytest.FixtureRequest
) -> None:
    continued: Old = request.getfixturevalue(name)
    first_of: dict[tuple[Any, ...], str] = {}
    for _, event_id, body, late, is_withdrawn, _ in continued.log():
        told = json.loads(body)
        source = told["provenance"]
        kind = (told["camera"], told["kind"], late, is_withdrawn, source["policy"], source["ensemble"])
        first_of.setdefault(kind, event_id)
    assert len(first_of) > 5
    for event_id in first_of.values():
        told = continued.asked("verify", event_id)
        assert told.exit_code in (0, EXIT_OLDER), told.output
        assert "FAIL" not in told.output


def test_the_events_of_the_old_database_are_listed(either: Old) -> None:
    listed = [json.loads(line) for line in either.asked("events", "--json", "--withdrawn").stdout.splitlines()]
    stored = {event_id: (json.loads(body), late) for _, event_id, body, late, *_ in either.log()}
    assert {event["id"] for event in listed} == stored.keys()
    for event in listed:
        body, late = stored[event["id"]]
        assert body.items() <= event.items()
        assert event["late"] == bool(late)


def test_the_annotations_of_the_old_database_are_all_there(old: Old, expected: dict[str, Any]) -> None:
    exported = old.asked("annotate", "export").stdout.splitlines()
    assert list(map(json.loads, exported)) == list(map(json.loads, expected["annotations"]))
    current = [line.split()[0] for line in old.asked("annotate", "list").stdout.splitlines()]
    assert sorted(current) == ["false", "missed", "true", "true", "unsure"]


def test_the_history_of_the_old_database_has_both_ensembles(old: Old, expected: dict[str, Any]) -> None:
    assert old.asked("models", "history").stdout.splitlines() == expected["history"]
    assert len({line.split()[2] for line in expected["history"]}) == 2


def test_the_stored_rules_of_each_old_policy_give_the_digest_it_had(old: Old, expected: dict[str, Any]) -> None:
    policies = dict(old.rows("SELECT policy, body FROM policies"))
    assert sorted(policies) == expected["policies"]
    assert {digest_of_stored(body) for body in policies.values()} == policies.keys()


def test_the_old_suppressions_still_suppress(continued: Old, expected: dict[str, Any], tmp_path: Path) -> None:
    written = (continued.folder / "sites" / "pets.toml").read_text(encoding="utf-8")
    without_any = re.sub(r"(?ms)^\[\[cameras\.view1\.suppress\]\].*?(?=^\[|\Z)", "", written)
    found: dict[str, list[str]] = {}
    for name, text in (("as written", written), ("nothing suppressed", without_any)):
        (tmp_path / "tried.toml").write_text(text, encoding="utf-8")
        found[name] = []
        for camera in ("gate", "view1"):  # one by one, so that no process is started
            told = continued.asked("replay", "--json", "--camera", camera, "--policy", str(tmp_path / "tried.toml"))
            found[name] += [json.loads(line)["id"] for line in told.stdout.splitlines()]
    assert {name: len(ids) for name, ids in found.items()} == {n: len(ids) for n, ids in expected["replayed"].items()}
    assert len(found["as written"]) < len(found["nothing suppressed"])


def test_the_last_bursts_are_explained_by_the_same_votes_and_verdicts(continued: Old, expected: dict[str, Any]) -> None:
    at = ("--site", "pets", "--camera", "view1", "--at", expected["explained_at"])
    told = json.loads(continued.asked("explain", "--json", *at).stdout)
    assert without(told["bursts"][-2:], GONE + NEW + OF_RULES) == without(expected["explained"], GONE + OF_RULES)


def test_the_cameras_and_tokens_of_the_old_database_are_what_they_were(old: Old, expected: dict[str, Any]) -> None:
    app = old.app(Recorded(packed("continuation.json.xz")))
    answer = app.test_client().get("/v1/cameras", headers={"Authorization": f"Bearer {expected['reader']}"})
    runtime_of(app).store.close()
    assert without(answer.get_json(), NEW) == expected["cameras"]
    sectors = [sector["state"] for camera in answer.get_json()["cameras"] for sector in camera["sectors"]]
    assert "occupied" in sectors


def standing(log: Sequence[Sequence[Any]]) -> list[str]:
    """The events of a log that are not withdrawn, without what the rules changed."""
    bodies = [json.loads(body) for _, _, body, _, withdrawn, *_ in log if not withdrawn]
    return in_order(without(bodies, GONE + OF_RULES))


def in_order(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Events as text, in an order that does not depend on their ids."""
    return sorted(json.dumps(event, sort_keys=True) for event in events)


def without(value: Any, keys: Sequence[str]) -> Any:
    """The JSON value with these keys left out of every object in it."""
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    return value
