"""What an agent of version 0.1.0 or 0.2.0 left on the disk can be used: spool, positions of recordings, budgets."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from camera_agent.cameras.folder import Folder
from camera_agent.config.settings import BurstSettings, CameraSettings, GateSettings
from camera_agent.imaging.frame import FrameFormat
from camera_agent.spool.spool import Spool
from camera_agent.uplink.byte_budget import SavedBudget
from tests.camera_agent.capture.test_playback import Film, play, play_camera
from tests.camera_agent.conftest import HandClock, jpeg
from tests.camera_agent.spool.test_spool import burst, drain, spool_in

OLD_HEADER = (
    b'{"envelope":{"burst_id":"burst-0007","site":"yard","camera":"gate","reason":"schedule",'
    b'"captured_at":"2027-01-15T08:00:00.007Z","offsets_ms":[0,500],"clock":{"synced":true,"boot_id":"b",'
    b'"monotonic_ms":7,"uncertainty_s":null},"frame_sha256":['
    b'"dcaee57a8101f9b948dd74b43f69c82b8c4d2382abee8e60b997a362e888c576",'
    b'"361e48d0308f20e32dba5fb56328baf18d72ef0ccb43b84f5c262d2a6a1fc6c8"],"mask_digest":null,'
    b'"agent":{"version":"0.1.0","sent_at":null}},"frame_bytes":[5,3]}\n'
)
MASKS = (((0.0, 0.0), (0.2, 0.0), (0.2, 0.2)),)
GATE = GateSettings(ignore=(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)),))
TWELVE = [index / 2 for index in range(12)]


@pytest.mark.parametrize("kind", ["schedule.", "schedule-untimed.", ""])
def test_a_burst_that_waits_in_an_old_spool_is_sent(tmp_path: Path, kind: str) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / f"spool/000000000001.{kind}gate.burst-0007.burst").write_bytes(OLD_HEADER + b"\x07" * 5 + b"end")
    spool: Spool = spool_in(tmp_path)
    [kept] = drain(spool)
    assert kept.envelope.agent.version == "0.1.0"
    new = burst(7, size_bytes=5)
    assert replace(kept, envelope=replace(kept.envelope, agent=new.envelope.agent)) == new


@pytest.mark.parametrize(
    ("settings", "plan", "burst_id"),
    [
        ({}, "bed0d6617425e715", "d02e38dc-252a-553b-90b7-d5a24a5de0e3"),
        ({"gate": GATE, "masks": MASKS}, "0a7b70d594c39471", "283d7761-f110-517b-a9b2-75d581f4097d"),
    ],
)
def test_the_burst_at_an_old_position_has_its_old_id(
    tmp_path: Path, clock: HandClock, settings: dict[str, object], plan: str, burst_id: str
) -> None:
    old = b'{"plan":"%s","started_ms":1767225600000,"next_burst":0}' % plan.encode()
    (tmp_path / "recording-gate.json").write_bytes(old)
    kept, _ = play(tmp_path, clock, Film(TWELVE), burst=BurstSettings(frames=4), **settings)
    assert kept.bursts[0].envelope.burst_id == burst_id


def test_a_recording_continues_from_an_old_position_and_says_so_once(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    old = b'{"plan":"bed0d6617425e715","started_ms":1767225600000,"next_burst":1}'
    (tmp_path / "recording-gate.json").write_bytes(old)
    kept, _ = play(tmp_path, clock, Film(TWELVE), burst=BurstSettings(frames=4))
    assert [each.envelope.burst_id for each in kept.bursts] == ["57908412-d979-51e0-8ee1-41f3defca5a7"]
    [warning] = [line for line in caplog.text.splitlines() if "warning" in line]
    assert "footage_taken_for_the_same camera=gate bursts_before=1" in warning
    assert "--from-start plays all of it again" in warning
    again, playback = play(tmp_path, clock, Film(TWELVE), burst=BurstSettings(frames=4))
    assert playback.is_over
    assert not again.bursts
    assert caplog.text.count("footage_taken_for_the_same") == 1


def test_an_old_position_of_a_folder_that_begins_at_another_instant_is_that_of_other_footage(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    old = b'{"plan":"%s","started_ms":1767225600000,"next_burst":1}'
    stills = tmp_path / "stills"
    stills.mkdir()
    for second in range(4):
        (stills / f"20260102T00000{second}Z.jpg").write_bytes(jpeg(second))
    settings = CameraSettings(name="gate", folder=str(stills), speed=0.0, burst=BurstSettings(frames=4))
    plan = "f1ab9043dac65a36"  # as version 0.2.0 saved it
    (tmp_path / "recording-gate.json").write_bytes(old % plan.encode())
    kept, _ = play_camera(tmp_path, clock, settings, Folder(stills, FrameFormat()))
    assert [len(each.frames) for each in kept.bursts] == [4]
    assert "recording_begins_again camera=gate" in caplog.text


def test_an_old_budget_is_read() -> None:
    old = b'{"gate":{"balance":5.0,"at_s":1.0,"boot_id":"b","monotonic_s":2.0}}'
    assert msgspec.json.decode(old, type=dict[str, SavedBudget]) == {"gate": SavedBudget(5.0, 1.0, "b", 2.0)}
