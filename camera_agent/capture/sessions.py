"""What of a recording was played before, saved in the state folder.

A session is one way through the footage. It continues as long as what it played is the unchanged beginning of the
footage; added pictures, or a video that has grown, are then played in the same session. Anything else begins a new
session: from the start for other footage, else with the pictures that were not played.

Two files: `footage-<camera>` has the session's name in its first line, then what identifies the footage;
`recording-<camera>.json` has the position. The footage is written first. A position of another session is that of an
agent that was killed between the two: the new session is then at its beginning.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from camera_agent import atomic_files
from camera_agent.cameras.camera import Recording
from camera_agent.clock import iso_ms
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.masks import mask_digest

_log = logging.getLogger(__name__)
_AGAIN = "--from-start plays all of it again"


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file `recording-<camera>.json`: a digest of the settings, the recording's start, the next burst, how much of
    the footage was played, and the session. Version 0.2.0 saved the first three; its digest included the footage.
    """

    plan: str
    started_ms: int
    next_burst: int = 0
    played_ms: int = -1
    session: str = ""

    @property
    def is_old(self) -> bool:
        """Whether version 0.2.0 or earlier saved it."""
        return not self.session


_position = msgspec.json.Decoder(Position)


class Session(NamedTuple):
    """Where to continue, which pictures an earlier session played, and what the next saved position says."""

    position: Position
    left_out: frozenset[int]
    plan: str
    name: str


class Sessions:
    """The session of one camera's recording. The recording is open when `open` is called."""

    def __init__(self, site: str, settings: CameraSettings, recording: Recording, state_folder: Path) -> None:
        self._site = site
        self._settings = settings
        self._recording = recording
        self._position_file = state_folder / f"recording-{settings.name}.json"
        self._footage_file = state_folder / f"footage-{settings.name}"

    def open(self, started_ms: Callable[[], int]) -> Session:
        """The session to continue, or a new one, which starts at the instant `started_ms`. Raises `CameraFailure`."""
        saved, plan = self._saved(), self._plan()
        if saved is not None and saved.is_old and self._is_same_as_of_old(saved):
            return self._continue_old(saved, plan)
        if saved is not None and not saved.is_old and saved.plan == plan:
            return self._continue(saved, plan, started_ms)
        if saved is not None:
            cause = "other settings or footage" if saved.is_old else "other settings"
            _log.warning("recording_begins_again", extra={"camera": self._settings.name, "cause": cause})
        return self._begin(plan, self._recording.content(), frozenset(), started_ms)

    def advance(self, session: Session, next_burst: int, played_s: float) -> Session:
        """Save that the bursts before `next_burst`, and all up to `played_s`, are played."""
        position = msgspec.structs.replace(
            session.position,
            plan=session.plan,
            next_burst=next_burst,
            played_ms=max(session.position.played_ms, round(played_s * 1000)),
            session=session.name,
        )
        if position != session.position:
            self._save(position)
        return session._replace(position=position)

    def forget(self) -> None:
        self._position_file.unlink(missing_ok=True)
        self._footage_file.unlink(missing_ok=True)

    def _begin(self, plan: str, content: bytes, left_out: frozenset[int], started_ms: Callable[[], int]) -> Session:
        name = hashlib.sha256(content).hexdigest()[:16]
        position = Position(plan=plan, started_ms=started_ms(), session=name)
        self._save_footage(name, content)
        self._save(position)
        started_at = iso_ms(position.started_ms)
        fields = {"camera": self._settings.name, "started_at": started_at, "plan": plan}
        _log.info("footage_opened", extra={**fields, "played_before": len(left_out) or None})
        return Session(position, left_out, plan, name)

    def _continue(self, saved: Position, plan: str, started_ms: Callable[[], int]) -> Session:
        camera = self._settings.name
        name, before = self._saved_footage()
        try:
            recognised = self._recording.recognise(before, saved.played_ms if name == saved.session else -1)
        except msgspec.DecodeError as error:
            fields = {"camera": camera, "file": self._footage_file, "cause": error}
            _log.warning("footage_taken_for_the_same", extra={**fields, "advice": _AGAIN})
            self._save_footage(saved.session, self._recording.content())
            return Session(saved, frozenset(), plan, saved.session)
        if not recognised.continues:
            _log.warning(
                "footage_changed", extra={"camera": camera, "played_before": len(recognised.played), "advice": _AGAIN}
            )
            return self._begin(plan, recognised.content, recognised.played, started_ms)
        if name != saved.session:
            saved = Position(plan=plan, started_ms=started_ms(), session=name)
            self._save(saved)
        if recognised.content != before:
            self._save_footage(name, recognised.content)
        return Session(saved, recognised.played, plan, name)

    def _continue_old(self, saved: Position, plan: str) -> Session:
        """Version 0.2.0 did not save what identifies the footage. It is taken for the same, with a word."""
        content = self._recording.content()
        name = hashlib.sha256(content).hexdigest()[:16]
        self._save_footage(name, content)
        fields = {"camera": self._settings.name, "bursts_before": saved.next_burst, "advice": _AGAIN}
        _log.warning("footage_taken_for_the_same", extra={**fields, "cause": "an older version saved the position"})
        return Session(saved, frozenset(), plan, name)

    def _is_same_as_of_old(self, saved: Position) -> bool:
        own_ms = self._recording.started_ms() if self._settings.started_at is None else None
        return saved.plan == self._plan_of_old() and own_ms in (None, saved.started_ms)

    def _plan(self) -> str:
        """A digest of the settings that decide the bursts. It is part of their ids."""
        settings = self._settings
        source = "folder" if settings.folder is not None else "video"
        return self._digest(f"{source} at {settings.pictures_per_s}")

    def _plan_of_old(self) -> str:
        return self._digest(self._recording.fingerprint())

    def _digest(self, footage: str) -> str:
        """The `repr` of the settings is hashed: another name of a field of `GateSettings` would change the ids."""
        settings = self._settings
        parts: tuple[object, ...] = (
            *(self._site, settings.name, None if settings.started_at is None else settings.started_at.timestamp()),
            *(settings.burst.frames, settings.spacing_s, settings.every_s, settings.first_picture or 0),
            *(settings.quality, settings.max_width, footage),
        )
        if settings.gate is not None or settings.masks:
            parts += (settings.gate, mask_digest(settings.masks))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _saved(self) -> Position | None:
        try:
            return _position.decode(self._position_file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("position_unreadable", extra={"file": self._position_file, "cause": error})
            return None

    def _save(self, position: Position) -> None:
        atomic_files.write(self._position_file, [msgspec.json.encode(position)])

    def _saved_footage(self) -> tuple[str, bytes]:
        """The session's name and what identifies the footage; empty where the file cannot be read."""
        try:
            name, _, content = self._footage_file.read_bytes().partition(b"\n")
        except OSError:
            return "", b""
        return name.decode("ascii", "replace"), content

    def _save_footage(self, name: str, content: bytes) -> None:
        atomic_files.write(self._footage_file, [name.encode(), b"\n", content])
