"""What detectors saw enlarged is known of every burst, and a replay under other rules says what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from click.testing import Result

from tests.server.scenes import YARD, Yard, burst

FAR = "[cameras.gate.sectors.far]\ncoordinates = '0.4,0.25,0.6,0.25,0.6,0.35,0.4,0.35'\nenlarge = true\n"
AT = "2026-11-22T07:01:00Z"
USED = "a replay uses what was seen then"


def enlarging(yard: Yard, tmp_path: Path) -> str:
    file = tmp_path / "enlarging.toml"
    file.write_text(f"{YARD}{FAR}", encoding="utf-8")
    return str(file)


def test_a_replay_that_asks_for_what_was_not_seen_enlarged_says_so(
    ask: Callable[..., Result], yard: Yard, tmp_path: Path
) -> None:
    file = enlarging(yard, tmp_path)
    for asked in (("replay", "--policy", file), ("compare", "live", file)):
        assert ask(*asked).stderr.splitlines() == [
            f"Note: in 13 of 13 bursts of yard/gate detectors did not see `far` enlarged; {USED}."
        ]
    assert ask("replay").stderr == ""
    assert ask("compare", "live", str(yard.folder / "yard.toml")).stderr == ""


def test_a_past_that_was_seen_enlarged_is_explained_verified_and_replayed_as_it_was(
    ask: Callable[..., Result], yard: Yard, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.toml"
    plain.write_text(YARD, encoding="utf-8")
    yard.write(f"{YARD}{FAR}")
    yard.pipeline.process(burst(50, [yard.picture(0.3, at_s=60)], 60, burst_id="burst-enlarged"))
    assert yard.ensemble.enlarged[-2:] == [(), ((0.375, 0.15, 0.625, 0.4),)]
    assert "  detectors also saw `far` 4.0 times as large" in ask("explain", "--camera", "gate", "--at", AT).stdout
    wire = msgspec.json.decode(ask("explain", "--camera", "gate", "--at", AT, "--json").stdout)
    assert [each["enlarged"] for each in wire["bursts"]] == [{"far": 4.0}]
    assert ask("replay", "--check").exit_code == 0
    assert ask("replay", "--policy", str(plain)).stderr.splitlines() == [
        f"Note: in 1 of 14 bursts of yard/gate detectors also saw `far` enlarged; {USED}."
    ]
