"""Damage of one camera or site keeps no other from being swept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from server.domain.errors import ConfigurationError, DatabaseDamaged
from server.domain.keeping import Keep
from tests.server.scenes import YARD, Yard, burst, there_and_back
from tests.server.store.damage.files import file_of


@pytest.mark.parametrize("damage", ["record = x'00'", "record = 'no bytes'", "context = 99"])
@pytest.mark.parametrize(
    ("keep", "failed"),
    [(Keep(observations_days=10 / 86_400), ["gate"]), (Keep(max_bytes=1), [])],
    ids=["in what goes", "behind what goes"],
)
def test_a_damaged_record_of_one_camera_is_logged_and_the_other_cameras_are_swept(
    keep: Keep, failed: list[str], damage: str, long_yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    long_yard.clock.advance(8000)
    for n in range(10):
        images = [long_yard.picture(at_s=n + i / 10) for i in range(2)]
        long_yard.pipeline.process(burst(500 + n, images, 800.0 * n, camera="door"))
    with closing(sqlite3.connect(file_of(long_yard.store))) as connection:
        connection.execute(f"UPDATE burst_records SET {damage} WHERE number = 2")
        connection.commit()
    swept = long_yard.store.retention.sweep(lambda _site: keep)
    assert swept.bursts > 0
    door = list(long_yard.store.history("yard", "door"))
    assert 0 < len(door) < 20
    assert [record.camera for record in caplog.records if record.message == "retention failed"] == failed
    with pytest.raises(DatabaseDamaged, match="burst record 2 "):
        list(long_yard.store.history("yard", "gate"))


def test_a_site_whose_settings_cannot_be_read_keeps_no_other_site_from_being_swept(
    long_yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    long_yard.write(YARD.replace('site = "yard"', 'site = "annex"'), "annex.toml")
    told = long_yard.walk(0, there_and_back, 0.0)
    long_yard.pipeline.process(replace(told, burst_id="of-the-annex", site="annex"))

    def keep_of(site: str) -> Keep:
        if site == "annex":
            raise ConfigurationError("annex.toml cannot be read")
        return Keep(observations_days=10 / 86_400)

    assert long_yard.store.retention.sweep(keep_of).bursts > 0
    assert [record.site for record in caplog.records if record.message == "retention failed"] == ["annex"]
