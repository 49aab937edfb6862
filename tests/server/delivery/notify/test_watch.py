"""That nobody watches is told as well, once, and when somebody does again."""

from __future__ import annotations

from collections.abc import Callable

from tests.server.delivery.notify.house import House, camera
from tests.server.delivery.notify.receivers import HttpReceiver

Make = Callable[..., House]


def watching(house: Make, **settings: object) -> House:
    """A house in service whose camera was watched when it began."""
    h = house(**{"unobserved_after_s": 600} | settings)
    h.reports = [camera("gate")]
    h.pass_(1)
    return h


def test_a_camera_that_is_silent_for_long_is_told_and_when_it_is_back(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    h.reports = [camera("gate", "silent", h.clock(), "agent_silent")]
    h.pass_(590, 10)
    assert receiver.lines == []
    h.pass_(1200, 10)
    assert receiver.lines == ["gate (north-yard) is not watched since 18:12: agent silent"]
    h.reports = [camera("gate", "late", h.clock(), "backlog")]
    h.pass_(60, 10)
    assert len(receiver.posts) == 1, "late is neither silent nor back"
    h.reports = [camera("gate")]
    h.pass_(60, 10)
    assert receiver.lines[1:] == ["gate (north-yard) is watched again; it was not since 18:12"]


def test_a_short_silence_is_not_told(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    h.reports = [camera("gate", "silent", h.clock(), "agent_silent")]
    h.pass_(300, 10)
    h.reports = [camera("gate")]
    h.pass_(900, 10)
    assert receiver.lines == []


def test_sectors_that_are_not_watched_are_told_with_their_cause(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    h.reports = [camera("gate", since_us=h.clock(), table="turned", door="turned")]
    h.pass_(900, 10)
    assert receiver.lines == ["gate/table, gate/door (north-yard) are not watched since 18:12: turned"]
    h.reports = [camera("gate", "silent", h.clock(), "agent_silent")]
    h.pass_(900, 10)
    assert receiver.lines[1:] == ["gate (north-yard) is not watched since 18:27: agent silent"]
    h.reports = [camera("gate", since_us=h.clock(), table="turned", door="turned")]
    h.pass_(900, 10)
    assert receiver.lines[2:] == ["gate (north-yard) is watched again; it was not since 18:27"]
    h.reports = [camera("gate")]
    h.pass_(60, 10)
    assert receiver.lines[3:] == ["gate/table, gate/door (north-yard) are watched again; they were not since 18:12"]


def test_cameras_that_fall_silent_together_give_one_message(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    h.reports = [camera(name, "silent", h.clock(), "no_bursts") for name in ("gate", "road", "yard")]
    h.pass_(700, 10)
    assert receiver.lines == ["gate, road, yard (north-yard) are not watched since 18:12: no bursts"]


def test_a_camera_that_was_gone_before_the_channel_began_is_not_told(house: Make, receiver: HttpReceiver) -> None:
    h = house()
    h.reports = [camera("old", "silent", h.clock() - 10**14, "agent_silent")]
    h.pass_(3000, 10)
    assert receiver.lines == []


def test_a_pause_that_somebody_set_is_not_told(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    h.reports = [camera("gate", "silent", h.clock(), "outside_hours")]
    h.pass_(3000, 10)
    h.reports = [camera("gate")]
    h.pass_(60, 10)
    assert receiver.lines == []


def test_a_server_that_was_down_waits_before_it_calls_cameras_silent(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    memory = h.channel.memory
    h.clock.advance(7200)
    h.reports = [camera("gate", "silent", h.clock() - 7_000_000_000, "agent_silent")]
    h.restarted(memory)
    h.pass_(590, 10)
    assert receiver.lines == []
    h.pass_(20, 10)
    assert receiver.lines == ["gate (north-yard) is not watched since 18:15: agent silent"]


def test_what_was_told_of_a_camera_is_known_after_a_restart(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    h.reports = [camera("gate", "silent", h.clock(), "agent_silent")]
    h.pass_(700, 10)
    h.restarted(h.channel.memory)
    h.pass_(700, 10)
    assert len(receiver.posts) == 1
    h.reports = [camera("gate")]
    h.pass_(60, 10)
    assert len(receiver.posts) == 2


def test_a_silence_in_dropped_quiet_hours_is_told_after_them(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house, quiet=["18:12-19:12"], quiet_digest=False)
    h.reports = [camera("gate", "silent", h.clock(), "agent_silent")]
    h.pass_(3590, 10)
    assert receiver.lines == []
    h.pass_(60, 10)
    assert receiver.lines == ["gate (north-yard) is not watched since 18:12: agent silent"]


def test_cameras_of_other_sites_and_muted_ones_are_not_told(house: Make, receiver: HttpReceiver) -> None:
    for settings in ({"sites": ["south"]}, {"mute": ["*/gate/*/*"]}, {"unobserved_after_s": 0}):
        h = watching(house, **settings)
        h.reports = [camera("gate", "silent", h.clock(), "agent_silent")]
        h.pass_(700, 10)
    h = watching(house, mute=["*/gate/table/*", "*/*/*/vehicle"])
    h.reports = [camera("gate", since_us=h.clock(), table="turned")]
    h.pass_(700, 10)
    assert receiver.lines == []


def test_a_camera_that_is_forgotten_is_forgotten_in_silence(house: Make, receiver: HttpReceiver) -> None:
    h = watching(house)
    h.reports = [camera("gate", "silent", h.clock(), "agent_silent")]
    h.pass_(700, 10)
    h.reports = []
    h.pass_(60, 10)
    assert len(receiver.posts) == 1
