"""What a channel of kind `mqtt` costs with many cameras: `python -m tests.benchmarks.fleet.mqtt [--cameras 10000]`.

A channel as a server makes it, and a Mosquitto. The cameras, twenty of each site with three sectors of each, are
reports in memory: what reading them costs, `idle` measures. The first looks publish everything. Then looks in which
nothing has changed take turns with those in which one camera of a hundred has: CPU of the process, and the time until
the broker has acknowledged all.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
from msgspec.structs import replace

from policies.occupancy import Occupancy
from policies.site.site_policy import parse_site_policy
from server.camera_status.reports import CameraReport, LastBurst
from server.camera_status.status import Condition, SectorState
from server.delivery.mqtt import MqttChannel, make
from server.delivery.mqtt.channel import CAMERAS_AT_ONCE
from server.delivery.surroundings import Surroundings
from server.domain.times.local_time import LocalTime
from server.settings.channels import MqttSettings
from tests.server.delivery.mqtt.brokers import Broker

_OF_SITE = 20
_SECTORS = ("gate", "yard", "road")
_LOOKS = 5
_OTHER = {Occupancy.CLEAR: Occupancy.OCCUPIED, Occupancy.OCCUPIED: Occupancy.CLEAR}


def site_of(camera: int) -> str:
    return f"site-{camera // _OF_SITE:04d}"


def report(camera: int, at: datetime) -> CameraReport:
    clear = (SectorState(sector, "person", Occupancy.CLEAR, at, None) for sector in _SECTORS)
    burst = LastBurst("burst", at, at, at)
    return CameraReport(site_of(camera), f"cam-{camera % _OF_SITE:02d}", Condition("ok"), burst, None, tuple(clear))


def policy_text(site: str) -> str:
    text = f'site = "{site}"\n'
    for camera in range(_OF_SITE):
        for sector in _SECTORS:
            text += f"[cameras.cam-{camera:02d}.sectors.{sector}]\npolygon = [[0, 0], [0.3, 0], [0.3, 1], [0, 1]]\n"
    return text


def opened(url: str, reports: list[CameraReport]) -> MqttChannel:
    policies = {site: parse_site_policy(policy_text(site)) for site in {each.site for each in reports}}
    around = Surroundings(
        version="0",
        clock=lambda: time.time_ns() // 1000,
        reports=lambda _site: list(reports),
        policy=policies.get,
        newest_frames=lambda _site: {},
        picture=lambda _sha256: None,
        local_time=lambda _site: LocalTime(None),
        waiting=lambda: 0,
        erasures=list,
        kept_events=lambda _ids: frozenset(),
    )
    channel = make("fleet", MqttSettings(url=url), around)
    channel.begin(None)
    return channel


def look(channel: MqttChannel) -> tuple[float, float]:
    """One look with what the channel remembers, as the sender asks for it: CPU and time (s)."""
    channel._next_s = 0.0
    begun_s, cpu_s = time.monotonic(), time.process_time()
    channel.refresh()
    assert channel.memory
    return time.process_time() - cpu_s, time.monotonic() - begun_s


def measured(url: str, cameras: int) -> Iterator[str]:
    reports = [report(camera, datetime.now(UTC)) for camera in range(cameras)]
    channel = opened(url, reports)
    first = [look(channel) for _ in range(-(-cameras // CAMERAS_AT_ONCE))]
    cpu_s, took_s = (sum(each) for each in zip(*first, strict=True))
    longest_s = max(took for _, took in first)
    yield f"everything: {cpu_s:.1f} s of CPU, {took_s:.1f} s in {len(first)} looks, the longest {longest_s:.1f} s"
    quiet, busy = [], []
    for turn in range(_LOOKS):
        quiet.append(look(channel))
        for camera in range(turn, cameras, 100):
            sector, *others = reports[camera].sectors
            changed = replace(sector, state=_OTHER[sector.state])
            reports[camera] = replace(reports[camera], sectors=(changed, *others))
        busy.append(look(channel))
    for what, looks in (("nothing has changed", quiet), ("one camera of a hundred has", busy)):
        cpu_ms, took_ms = (1000 * statistics.median(each) for each in zip(*looks, strict=True))
        yield f"{what}: {cpu_ms:.1f} ms of CPU, {took_ms:.1f} ms"
    channel.end()


@click.command(help=__doc__)
@click.option("--cameras", default=10_000, show_default=True)
def main(cameras: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        broker = Broker(Path(temporary) / "broker")
        try:
            for line in measured(broker.url, cameras):
                click.echo(line)
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
