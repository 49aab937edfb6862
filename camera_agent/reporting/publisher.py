"""What the agent leaves for others to read, every few seconds: the status, Prometheus' text file, the budgets.

All of it lies where systemd keeps it in memory (`$RUNTIME_DIRECTORY`), and none of it is forced to the disk: it is
news, and a loss of power costs nothing but the last few seconds of it. The budgets are kept in the state folder too
when the agent ends, so that a machine that is started anew does not begin a new day.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from camera_agent import atomic_files
from camera_agent.cameras.health import Condition, Health
from camera_agent.clock import Clock, boot_id, iso_ms
from camera_agent.config.settings import Settings
from camera_agent.logs import line
from camera_agent.reporting.prometheus import exposition, write_metrics
from camera_agent.spool.spool import Spool
from camera_agent.status import Tally, write_status
from camera_agent.uplink.byte_budget import Budget, Saved

_log = logging.getLogger(__name__)
_BUDGET_FILE = "budget.json"


class News:
    """`write` from one thread; what cannot be written is told, and ends nothing."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        tally: Tally,
        spool: Spool,
        health: Mapping[str, Health],
        budgets: Mapping[str, Budget],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tally = tally
        self._spool = spool
        self._health = health
        self._budgets = budgets

    def write(self, *, is_last: bool = False) -> None:
        self._count()
        try:
            write_status(self._settings.news_folder, self._tally.read())
            for folder in self._budget_folders if is_last else self._budget_folders[:1]:
                self._save_budgets(folder / _BUDGET_FILE)
            if self._settings.metrics_file is not None:
                write_metrics(Path(self._settings.metrics_file), self.metrics())
        except OSError as error:
            _log.warning(line("status_not_written", cause=error))

    def metrics(self) -> str:
        """What Prometheus is told now; from any thread."""
        self._count()
        return exposition(self._tally.read(), self._conditions(), self._clock.monotonic_s())

    def restore_budgets(self) -> None:
        """Have the budgets go on where an earlier process left them."""
        path = next(filter(Path.is_file, (folder / _BUDGET_FILE for folder in self._budget_folders)), None)
        if path is None:
            return
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=dict[str, Saved])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning(line("budget_unreadable", file=path, cause=error))
            return
        for name in saved.keys() & self._budgets.keys():
            self._budgets[name].restore(saved[name], self._clock.unix_s(), boot_id())

    def _conditions(self) -> dict[str, Condition]:
        return {name: health.read() for name, health in self._health.items()}

    def _count(self) -> None:
        self._tally.update(
            written_at=iso_ms(round(self._clock.unix_s() * 1000)),
            waiting=len(self._spool),
            waiting_bytes=self._spool.held_bytes,
            dropped=self._spool.dropped,
            disk_bytes=self._spool.written_bytes,
            cameras={name: _spelled(condition) for name, condition in self._conditions().items()},
        )

    @property
    def _budget_folders(self) -> tuple[Path, ...]:
        """Newest first."""
        return self._settings.news_folder, self._settings.state_folder

    def _save_budgets(self, path: Path) -> None:
        bounded = [camera.name for camera in self._settings.cameras if camera.mb_per_day is not None]
        if not bounded:
            return
        saved = {name: self._budgets[name].save(self._clock.unix_s(), boot_id()) for name in bounded}
        atomic_files.publish(path, msgspec.json.encode(saved))


def _spelled(condition: Condition) -> str:
    return condition.state if condition.cause is None else f"{condition.state}: {condition.cause}"
