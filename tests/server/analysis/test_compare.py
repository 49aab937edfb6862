"""Two policies over one past: what they agree on, what one of them shifts, and what only one of them tells."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result
from msgspec.structs import replace

from policies.events import Event
from server.__main__ import command
from server.analysis.compare import compared
from tests.policies.stories import events_of, policy, walk
from tests.server.scenes import YARD, Yard, across, burst


def events() -> tuple[Event, ...]:
    return events_of(policy(), walk(across, 26))


def later(event: Event, seconds: float) -> Event:
    by = timedelta(seconds=seconds)
    return replace(event, started_at=event.started_at + by, ended_at=event.ended_at and event.ended_at + by)


def test_a_telling_does_not_differ_from_itself() -> None:
    result = compared(events(), events())
    assert (result.differ, len(result.same)) == (0, len(events()))


def test_other_votes_for_the_same_fact_are_no_difference() -> None:
    others = [replace(event, id="other", votes={}, margin=None, score=0.1) for event in events()]
    assert compared(events(), others).differ == 0


def test_an_event_within_both_uncertainties_is_shifted_and_not_one_gone_and_one_new() -> None:
    event = next(e for e in events() if e.kind == "entered")
    reach_s = 2 * event.time_uncertainty_s
    assert reach_s > 0
    result = compared([event], [later(event, reach_s)])
    assert [pair.shift_s for pair in result.shifted] == [reach_s]
    assert (result.differ, result.only_a, result.only_b) == (1, (), ())


def test_an_event_beyond_both_uncertainties_is_one_gone_and_one_new() -> None:
    event = next(e for e in events() if e.kind == "entered")
    moved = later(event, 2 * event.time_uncertainty_s + 0.001)
    result = compared([event], [moved])
    assert (result.only_a, result.only_b) == ((event,), (moved,))
    assert len(compared([event], [moved], more_s=0.1).shifted) == 1


def test_another_place_or_kind_is_another_fact_at_the_same_time() -> None:
    event = next(e for e in events() if e.kind == "entered")
    assert compared([event], [replace(event, sector="elsewhere")]).differ == 2
    assert compared([event], [replace(event, kind="left")]).differ == 2
    assert compared([event], [replace(event, camera="door")]).differ == 2


def test_another_direction_of_the_same_fact_is_a_difference() -> None:
    event = next(e for e in events() if e.kind == "crossed")
    result = compared([event], [replace(event, direction="westward")])
    assert [(p.a.direction, p.b.direction) for p in result.otherwise] == [("eastward", "westward")]


def test_each_event_is_matched_once_with_the_nearest() -> None:
    event = next(e for e in events() if e.kind == "entered")
    near, far = later(event, 0.1), later(event, 0.3)
    result = compared([event], [far, near])
    assert [pair.b for pair in result.shifted] == [near]
    assert result.only_b == (far,)


def write(folder: Path, name: str, extra: str) -> str:
    file = folder / name
    file.write_text(YARD.replace('site = "yard"', f'site = "yard"\n{extra}'), encoding="utf-8")
    return str(file)


def test_live_against_its_own_policy_differs_in_nothing(ask: Callable[..., Result], yard: Yard) -> None:
    result = ask("compare", "live", str(yard.folder / "yard.toml"))
    assert result.exit_code == 0, result.output
    count = len(yard.store.events())
    assert result.stdout.splitlines()[-1] == (
        f"A {count} events, B {count}: {count} the same, 0 shifted, 0 in another direction, "
        "0 only in A, 0 only in B; these 0 differ"
    )


def test_a_stricter_policy_shows_what_it_would_have_dropped(
    ask: Callable[..., Result], yard: Yard, tmp_path: Path
) -> None:
    strict = write(tmp_path, "strict.toml", 'min_score = {"*" = 0.95}')
    asked = len(yard.ensemble.asked)
    wire = msgspec.json.decode(ask("compare", "live", strict, "--json").stdout)
    count = len(yard.store.events())
    assert (wire["a"], wire["b"], wire["differ"]) == (count, 0, count)
    assert [event["id"] for event in wire["only_a"]] == [e.event.id for e in sorted_by_fact(yard)]
    assert wire["names"] == ["live", strict]
    assert len(yard.ensemble.asked) == asked, "no model was asked"


def sorted_by_fact(yard: Yard) -> list[object]:
    return sorted(yard.store.events(), key=lambda e: (e.event.at, e.event.site, e.event.camera, e.event.kind))


def test_two_policies_are_compared_in_one_reading(ask: Callable[..., Result], tmp_path: Path) -> None:
    a, b = write(tmp_path, "a.toml", "presence.clear_s = 2"), write(tmp_path, "b.toml", "movement.linger_s = 3")
    shown = ask("compare", a, b).stdout
    differences = shown.partition("\n\n")[0].splitlines()
    assert [line[:9] + line.split()[6] for line in differences] == ["only in Blingered"] * 2
    assert shown.splitlines()[-1].endswith("these 2 differ")


def test_a_comparison_can_be_bounded_in_time(ask: Callable[..., Result], yard: Yard, tmp_path: Path) -> None:
    strict = write(tmp_path, "strict.toml", 'min_score = {"*" = 0.95}')
    middle = "2026-11-22T07:00:12Z"
    early, late = (
        msgspec.json.decode(ask("compare", "live", strict, "--json", bound, middle).stdout)
        for bound in ("--until", "--since")
    )
    assert early["differ"] > 0 < late["differ"]
    assert early["differ"] + late["differ"] == len(yard.store.events())


def test_several_cameras_are_folded_in_processes_of_their_own(yard: Yard, url: str, tmp_path: Path) -> None:
    image = yard.picture(0.3)
    yard.pipeline.process(burst(900, [image] * 8, 0, camera="door", burst_id="burst-door-1"))
    same = str(yard.folder / "yard.toml")
    result = CliRunner().invoke(command, ["compare", same, "live", "--json", "--database", url])
    wire = msgspec.json.decode(result.stdout)
    assert (wire["differ"], wire["a"]) == (0, len(yard.store.events()))
    assert len(yard.store.cameras()) == 2
    only = CliRunner().invoke(command, ["compare", same, "live", "--camera", "door", "--json", "--database", url])
    assert msgspec.json.decode(only.stdout)["a"] == len(yard.store.events(camera="door"))


def test_what_cannot_be_compared_is_said(ask: Callable[..., Result], tmp_path: Path) -> None:
    other = tmp_path / "dock.toml"
    other.write_text('site = "dock"', encoding="utf-8")
    unknown = ask("compare", "live", str(other))
    assert unknown.exit_code == 1
    assert "nothing is stored of dock/*; cameras with data: yard/gate" in unknown.stderr
    assert ask("compare", "live", str(other), "--site", "yard").exit_code == 2
    assert ask("compare", "live", str(tmp_path / "none.toml")).exit_code == 2
    other.write_text('site = "yard"\ntragets = []', encoding="utf-8")
    wrong = ask("compare", "live", str(other))
    assert (wrong.exit_code, "line 2" in wrong.stderr) == (2, True)
