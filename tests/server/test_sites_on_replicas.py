"""Two real servers without a shared folder: a policy put in force on one judges the next burst on the other."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from policies.events import Event
from policies.site.site_policy import parse_site_policy
from server.__main__ import command
from server.domain.burst import Limits, decode_burst
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_imports import PolicyFile, import_policies
from server.pipeline.site_policies import Sites
from server.store import Store, open_store
from tests.server.console.signed_in import PASSWORD
from tests.server.launched import PATIENCE_S, Running
from tests.server.test_replicas import started
from tests.server.web_client import NOW_US, SITE, BrightnessEnsemble, envelope, files, jpeg

SLOW = f"{SITE}[presence]\nclear_s = 300\n"
TABLE = f"{SITE}[cameras.gate.sectors.table]\npolygon = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]]\n"


class Person:
    """An operator, signed in on one server."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._session = requests.Session()
        self._post("/sign-in", "/sign-in", name="anna", password=PASSWORD, next="/now")

    def propose(self, text: str) -> int:
        answer = self._change("propose", text=text)
        return int(answer.headers["Location"].partition("version=")[2])

    def put_in_force(self, number: int) -> requests.Response:
        return self._change("put-in-force", version=number)

    def take_back(self, number: int) -> requests.Response:
        return self._change("take-back", version=number)

    def _change(self, what: str, **form: object) -> requests.Response:
        return self._post("/sectors/north-yard/gate", f"/sectors/north-yard/gate/{what}", **form)

    def _post(self, page: str, where: str, **form: object) -> requests.Response:
        shown = self._session.get(f"{self._address}{page}", timeout=PATIENCE_S).text
        found = re.search(r'name="csrf_token" value="([^"]+)"', shown)
        assert found is not None, shown
        data = {"csrf_token": found[1], **form}
        return self._session.post(f"{self._address}{where}", data=data, timeout=PATIENCE_S, allow_redirects=False)


def burst(number: int) -> tuple[dict[str, object], list[bytes]]:
    """Somebody comes for two seconds of the burst's ten; half a minute between bursts."""
    frames = [jpeg(grey) for grey in (number, number + 2, *range(180 + number, 184 + number))]
    at = f"2027-01-15T07:{30 + number // 2:02}:{30 * (number % 2):02}.000Z"
    return envelope(frames, burst_id=f"burst-{number:04}", captured_at=at), frames


def judged_by(address: str, number: int) -> str:
    """Send a burst to a server; the digest of the policy that judged it."""
    told, frames = burst(number)
    parts = [("burst", ("burst.json", json.dumps(told), "application/json"))]
    parts += [("file", (name, content.getvalue(), "image/jpeg")) for content, name in files(frames)]
    answer = requests.post(f"{address}/v1/bursts", files=parts, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["policy"])


def on_one_server(texts: list[str], folder: Path, url: str) -> list[Event]:
    """The log of one server with a folder, whose file has these texts, burst for burst."""
    folder.mkdir()
    with closing(open_store(url, lambda: NOW_US)) as store:
        pipeline = Pipeline(BrightnessEnsemble(), store, Sites(folder), lambda: NOW_US)
        for number, text in enumerate(texts):
            (folder / "north-yard.toml").write_text(text, encoding="utf-8")
            told, frames = burst(number)
            pipeline.process(decode_burst(json.dumps(told).encode(), frames, Limits()))
        return [logged.event for logged in store.events()]


@pytest.fixture
def two(store: Store, database_url: str, tmp_path: Path, running: list[Running], cheap_passwords: None) -> list[str]:
    """The addresses of two servers on one database, which holds the policy of one site."""
    file = PolicyFile(Path("north-yard.toml"), SITE, parse_site_policy(SITE))
    import_policies(store.policy_versions, [file], "ann")
    store.users.add("anna", PASSWORD, {"*": "operator"})
    base_ns = time.monotonic_ns()
    names = ("a", "b")
    return [started(running, tmp_path / name, database_url, base_ns, "database")[1] for name in names]


def test_what_is_put_in_force_on_one_judges_on_both_and_the_log_is_that_of_one_server(
    two: list[str], store: Store, database_url: str, tmp_path: Path, new_sqlite: Callable[[], str]
) -> None:
    one, other = two
    usual, table = parse_site_policy(SITE).digest, parse_site_policy(TABLE).digest
    assert [judged_by(one, 0), judged_by(other, 1)] == [usual, usual]
    number = Person(one).propose(TABLE)
    assert Person(other).put_in_force(number).status_code == 303
    assert [judged_by(one, 2), judged_by(other, 3)] == [table, table]
    assert Person(one).take_back(number).status_code == 303
    assert [judged_by(other, 4), judged_by(one, 5)] == [usual, usual]
    log = [logged.event for logged in store.events()]
    assert {event.provenance.policy for event in log} == {usual, table}
    assert log == on_one_server([SITE, SITE, TABLE, TABLE, SITE, SITE], tmp_path / "c", new_sqlite())
    replayed = CliRunner().invoke(command, ["replay", "--check", "--database", database_url])
    assert (replayed.exit_code, "bit for bit" in replayed.output) == (0, True), replayed.output


def test_of_two_people_who_put_versions_in_force_at_once_one_gets_a_conflict_that_names_the_other(
    two: list[str], store: Store
) -> None:
    people = [Person(address) for address in two]
    numbers = [person.propose(text) for person, text in zip(people, (SLOW, TABLE), strict=True)]
    answers: dict[int, requests.Response] = {}
    both = threading.Barrier(2)

    def put(person: Person, number: int) -> None:
        both.wait()
        answers[number] = person.put_in_force(number)

    threads = [threading.Thread(target=put, args=each) for each in zip(people, numbers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [number for number, answer in answers.items() if answer.status_code == 303]
    [loser] = [number for number, answer in answers.items() if answer.status_code == 409]
    said = f"has changed since version {loser} was proposed (version {winner} is in force, by anna)"
    assert said in answers[loser].text
    assert store.policy_versions.number_judging("north-yard") == winner
    lines = [line.subject for line in store.audit.page() if line.what == "policy_put_in_force"]
    assert lines == [str(winner), "1"]
