"""Writes status, metrics and byte budgets every few seconds.

The files go to memory where systemd provides it (`$RUNTIME_DIRECTORY`), and are never forced to the disk. When the
agent stops, the budgets are also saved in the state folder, so that a restart of the machine does not begin a new day.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from camera_agent import atomic_files
from camera_agent.cameras.health import CameraHealth, Condition
from camera_agent.clock import Clock, boot_id, iso_ms
from camera_agent.config.settings import Settings
from camera_agent.reporting.prometheus import exposition
from camera_agent.spool.spool import Spool
from camera_agent.status import StatusCounters
from camera_agent.uplink.byte_budget import ByteBudget, SavedBudget

_log = logging.getLogger(__name__)
_STATUS_FILE = "status.json"
_BUDGET_FILE = "budget.json"
_saved_budgets = msgspec.json.Decoder(dict[str, SavedBudget])


class Publisher:
    """Call `write` from one thread. What cannot be written is logged."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        counters: StatusCounters,
        spool: Spool,
        health: Mapping[str, CameraHealth],
        budgets: Mapping[str, ByteBudget],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._spool = spool
        self._health = health
        self._budgets = budgets
        self._budget_folders = (settings.runtime_folder, settings.state_folder)

    def write(self, *, is_last: bool = False) -> None:
        self._update()
        status = msgspec.json.format(msgspec.json.encode(self._counters.read()), indent=2) + b"\n"
        try:
            atomic_files.write(self._settings.runtime_folder / _STATUS_FILE, [status], is_durable=False)
            for folder in self._budget_folders if is_last else self._budget_folders[:1]:
                self._save_budgets(folder / _BUDGET_FILE)
            if self._settings.metrics_file is not None:
                # The collector is another user: it must be able to read the file.
                text = self.metrics().encode()
                atomic_files.write(Path(self._settings.metrics_file), [text], is_durable=False, mode=0o644)
        except OSError as error:
            _log.warning("status_not_written", extra={"cause": error})

    def metrics(self) -> str:
        """The metrics as of now. Safe to call from any thread."""
        self._update()
        return exposition(self._counters.read(), self._conditions(), self._clock.monotonic_s())

    def restore_budgets(self) -> None:
        """Continue the budgets of an earlier process, from the newest file."""
        path = next(filter(Path.is_file, (folder / _BUDGET_FILE for folder in self._budget_folders)), None)
        if path is None:
            return
        try:
            saved = _saved_budgets.decode(path.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("budget_unreadable", extra={"file": path, "cause": error})
            return
        for name in saved.keys() & self._budgets.keys():
            self._budgets[name].restore(saved[name], self._clock.unix_s(), boot_id())

    def _conditions(self) -> dict[str, Condition]:
        return {name: health.read() for name, health in self._health.items()}

    def _update(self) -> None:
        conditions = self._conditions()
        self._counters.update(
            damaged=sum(condition.damaged for condition in conditions.values()),
            mended=sum(condition.mended for condition in conditions.values()),
            written_at=iso_ms(round(self._clock.unix_s() * 1000)),
            waiting=len(self._spool),
            waiting_bytes=self._spool.held_bytes,
            dropped=self._spool.dropped,
            disk_bytes=self._spool.written_bytes,
            cameras={
                name: condition.state if condition.cause is None else f"{condition.state}: {condition.cause}"
                for name, condition in conditions.items()
            },
        )

    def _save_budgets(self, path: Path) -> None:
        saved = {
            camera.name: self._budgets[camera.name].save(self._clock.unix_s(), boot_id())
            for camera in self._settings.cameras
            if camera.mb_per_day is not None
        }
        if saved:
            atomic_files.write(path, [msgspec.json.encode(saved)], is_durable=False)
