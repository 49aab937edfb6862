"""What of the event log is worth a message: one for each happening, its end, and what turns out to be otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

from policies.events import Event, Kind, microseconds
from server.delivery.choice import Choice
from server.delivery.notify import wording
from server.delivery.notify.memory import ID_DIGITS, MOST_HEARD, Memory, Reported, Rest, prune_reported, prune_rests
from server.delivery.notify.post import Line, Post
from server.domain.announcements import Announcement, Notice
from server.domain.keeping import Erasure
from server.domain.times.clock import SECOND_US
from server.settings.channels import NotifySettings

_DOUBT_US = 10 * SECOND_US
"""What is withdrawn is taken back after so long: an event that replaces it may follow."""
_SAME_US = 120 * SECOND_US
"""A time that is corrected by less is not told."""
_VISIT_US = 60 * SECOND_US
"""A visit's end names its begin this exactly, at least."""


class Happenings:
    """Turns announcements into lines for the post."""

    def __init__(self, memory: Memory, settings: NotifySettings, post: Post) -> None:
        self._memory = memory
        self._settings = settings
        self._choice = Choice.of(settings)
        self._post = post
        self._kinds = reported_kinds(settings)
        self._cooldown_us = round(settings.cooldown_s * SECOND_US)

    def hear(self, announcement: Announcement, now_us: int) -> None:
        """Tell an event that is new, corrected or withdrawn, if it is worth it."""
        event = announcement.logged.event
        if not self._choice.takes_event(event) or is_muted(self._settings.mute, event):
            return
        if announcement.what == "withdrawn":
            self._withdraw(event, now_us)
        elif not announcement.logged.is_withdrawn:  # else its withdrawal follows
            self._hear(announcement, event, now_us)
            prune_reported(self._memory.reported)
            prune_rests(self._memory.rests, now_us)

    def _hear(self, announcement: Announcement, event: Event, now_us: int) -> None:
        reported, heard = self._memory.reported, self._memory.heard
        supersedes = announcement.logged.supersedes if announcement.what == "corrected" else ()
        replaced = next((each for each in supersedes if each in reported and each != event.id), None)
        silent = next((each for each in supersedes if each[:ID_DIGITS] in heard and each not in reported), None)
        heard.append(event.id[:ID_DIGITS])
        del heard[:-MOST_HEARD]
        if event.id in reported:
            reported[event.id].withdrawn_us = None
        elif replaced is not None:
            self._replace(event, replaced, now_us)
        elif silent is not None:
            self._post.rename(silent, event.id)
        else:
            self._tell(event, now_us)

    def line(self, event: Event, now_us: int, more: str = "") -> Line:
        """What is said of an event."""
        local = self._post.local(event.site)
        is_end = event.kind == "presence_ended"
        text = wording.ending(event, local) if is_end else wording.beginning(event, local, now_us)
        return Line(
            text + more,
            event.site,
            microseconds(event.at),
            "" if is_end else wording.counted_as(event),
            event.id,
            event.camera,
            () if is_end else event.provenance.frame_sha256,
        )

    def notice(self, notice: Notice, now_us: int) -> None:
        """Tell that the ensemble is refused or not approved, and that it is approved again."""
        if "server" not in self._settings.what:
            return
        is_over = notice.what == "approved"
        if notice.what == "serves" or (is_over and not self._memory.is_unapproved):
            return
        self._memory.is_unapproved = notice.what == "unapproved" or (
            self._memory.is_unapproved and notice.what == "refused"
        )
        self._post.put(self.line_of_notice(notice, now_us), now_us)

    def line_of_notice(self, notice: Notice, now_us: int) -> Line:
        """What is said of a notice."""
        text = wording.of_notice(notice, self._post.local(None), now_us)
        return Line(text, None, notice.at_us, f"server: ensemble {notice.what}")

    def forget(self, event_id: str) -> None:
        """An event that was to be told is only counted."""
        self._memory.reported.pop(event_id, None)

    def tick(self, now_us: int) -> None:
        """Take back what was told and does not hold."""
        reported = self._memory.reported
        due = {
            event_id: each
            for event_id, each in reported.items()
            if each.withdrawn_us is not None and not 0 <= now_us - each.withdrawn_us < _DOUBT_US
        }
        begun = {(each.key, each.started_us) for each in due.values() if each.kind == "presence_started"}
        for event_id, each in due.items():
            del reported[event_id]
            if each.kind == "presence_ended":
                if (each.key, each.started_us) in begun:
                    continue  # the visit is taken back as a whole
                self._reopen(each)
            self._post.put(Line(f"taken back: {each.line}", each.site, now_us, about=event_id), now_us)

    def events(self) -> Iterator[str]:
        """The ids, or their first digits, of the events that are remembered here."""
        yield from (*self._memory.reported, *self._memory.heard)

    def erase(self, gone: Collection[str], erasures: Sequence[Erasure]) -> None:
        """Forget these events (`events` named them), and pauses that began in a stretch that was erased."""
        memory = self._memory
        memory.reported = {event_id: each for event_id, each in memory.reported.items() if event_id not in gone}
        memory.heard = [event_id for event_id in memory.heard if event_id not in gone]
        for key, rest in list(memory.rests.items()):
            mine = (each for each in erasures if f" {each.site}/{each.camera}/" in f" {key}")
            if any(each.since_us <= rest.since_us < each.until_us for each in mine):
                del memory.rests[key]

    def _tell(self, event: Event, now_us: int) -> None:
        if event.kind == "presence_ended":
            self._end(event, now_us)
        elif event.kind in self._kinds:
            self._begin(event, now_us)

    def _begin(self, event: Event, now_us: int) -> None:
        key, at_us = _key(event), microseconds(event.at)
        rest = self._memory.rests.get(key)
        if rest is not None and rest.since_us - self._cooldown_us <= at_us < rest.until_us:
            rest.more += 1
            return
        more = ""
        if rest is not None and rest.more:
            since = wording.clock(self._post.local(event.site), rest.since_us, now_us)
            more = f"; {rest.more} more since {since}"
        line = self.line(event, now_us, more)
        if self._post.put(line, now_us) == "sent":
            is_visit = event.kind == "presence_started"
            self._memory.reported[event.id] = _reported(event, line.text, is_open=is_visit)
            self._memory.rests.pop(key, None)
            self._memory.rests[key] = Rest(at_us, at_us + self._cooldown_us)

    def _end(self, event: Event, now_us: int) -> None:
        key, ended_us = _key(event), microseconds(event.at)
        begun = self._begun(key, event)
        if begun is None:
            return
        begun.is_open = False
        rest = self._memory.rests.get(key)
        if rest is not None and self._cooldown_us:
            rest.until_us = max(rest.until_us, ended_us + self._cooldown_us)
        if not self._settings.ends:
            return
        line = self.line(event, now_us)
        if self._post.put(line, now_us) == "sent":
            self._memory.reported[event.id] = _reported(event, line.text, started_us=begun.started_us)

    def _begun(self, key: str, event: Event) -> Reported | None:
        """The visit that was told and that this event ends."""
        started_us = microseconds(event.started_at)
        slack_us = max(_VISIT_US, round(2e6 * event.time_uncertainty_s))
        open_ones = [each for each in self._memory.reported.values() if each.is_open and each.key == key]
        return next((each for each in reversed(open_ones) if abs(each.started_us - started_us) <= slack_us), None)

    def _withdraw(self, event: Event, now_us: int) -> None:
        each = self._memory.reported.get(event.id)
        if each is None:
            if self._post.uncount(event.id):
                self._memory.heard = [known for known in self._memory.heard if known != event.id[:ID_DIGITS]]
        elif self._post.cancel(event.id):
            del self._memory.reported[event.id]
            if each.kind == "presence_ended":
                self._reopen(each)
        else:
            each.withdrawn_us = now_us

    def _replace(self, event: Event, old_id: str, now_us: int) -> None:
        """The fact that was told is the same at another instant."""
        old = self._memory.reported.pop(old_id)
        is_unsent = self._post.cancel(old_id)
        line = self.line(event, now_us)
        new = _reported(event, line.text, is_open=old.is_open)
        if event.kind == "presence_ended":
            new.started_us = old.started_us
        self._memory.reported[event.id] = new
        if is_unsent:
            self._post.put(line, now_us)
        elif abs(new.at_us - old.at_us) < _SAME_US:
            new.line = old.line
        else:
            self._post.put(Line(f"corrected: {line.text}", event.site, now_us, event_id=event.id), now_us)

    def _reopen(self, end: Reported) -> None:
        """The end of a visit does not hold: it goes on."""
        for each in self._memory.reported.values():
            if each.kind == "presence_started" and (each.key, each.started_us) == (end.key, end.started_us):
                each.is_open = True


def reported_kinds(settings: NotifySettings) -> frozenset[Kind]:
    """The kinds of events that begin a message. A visit that is told says the same as `entered` and `left`."""
    visits: tuple[Kind, ...] = ("presence_started",) if "visits" in settings.what else ()
    movements: tuple[Kind, ...] = ("crossed", "moved", "lingered") if "movements" in settings.what else ()
    stays: tuple[Kind, ...] = ("entered", "left") if movements and not visits else ()
    return frozenset((*visits, *movements, *stays))


def is_muted(patterns: tuple[str, ...], event: Event) -> bool:
    """Whether a pattern `site/camera/sector/target` names the place of an event; of `moved`, both of its sectors."""
    sectors = [event.from_sector, event.to_sector] if event.kind == "moved" else [event.sector or event.line]
    places = [(event.site, event.camera, sector or "", event.label) for sector in sectors]
    return all(any(_matches(pattern, place) for pattern in patterns) for place in places)


def is_camera_muted(patterns: tuple[str, ...], site: str, camera: str) -> bool:
    """Whether a pattern names all of a camera."""
    return any(
        pattern.split("/")[2:] == ["*", "*"] and _matches(pattern, (site, camera, "", "")) for pattern in patterns
    )


def is_sector_muted(patterns: tuple[str, ...], site: str, camera: str, sector: str, target: str) -> bool:
    """Whether a pattern names a sector and target."""
    return any(_matches(pattern, (site, camera, sector, target)) for pattern in patterns)


def _matches(pattern: str, place: tuple[str, ...]) -> bool:
    return all(fnmatchcase(name, part) for name, part in zip(place, pattern.split("/"), strict=True))


def _key(event: Event) -> str:
    kind = "" if event.kind in ("presence_started", "presence_ended") else f"{event.kind} "
    return f"{kind}{event.site}/{event.camera}/{wording.place_of(event)}/{event.label}"


def _reported(event: Event, text: str, *, is_open: bool = False, started_us: int | None = None) -> Reported:
    start_us = microseconds(event.started_at) if started_us is None else started_us
    return Reported(text, _key(event), event.site, event.kind, start_us, microseconds(event.at), is_open)
