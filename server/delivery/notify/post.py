"""The letters that wait to be sent, and what is counted into digests instead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from server.delivery.notify import wording
from server.delivery.notify.memory import (
    ID_DIGITS,
    MOST_IDS,
    MOST_LETTERS,
    MOST_PLACES,
    MOST_REMARKS,
    MOST_TALLIES,
    Letter,
    Memory,
    Reason,
    Tally,
)
from server.delivery.notify.quiet import is_quiet, read_hours
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import MACHINE_TIME, LocalTime
from server.settings.channels import NotifySettings

log = logging.getLogger(__name__)

HOUR_US = 3600 * SECOND_US
_STILL_US = 300 * SECOND_US
"""A digest goes when nothing was added for so long, else after an hour; never more than one an hour and site."""
_ELSEWHERE = "elsewhere"

Fate = Literal["sent", "counted", "dropped"]


@dataclass(frozen=True, slots=True)
class Line:
    """Something worth a message. `place` is what it counts as in a digest; empty: it is a remark on what was told.

    `at_us` is when it happened; `frames` are the SHA-256 of pictures of it, the best one first. `about` is the event
    that a line without `event_id` repeats.
    """

    text: str
    site: str | None
    at_us: int
    place: str = ""
    event_id: str = ""
    camera: str = ""
    frames: tuple[str, ...] = ()
    about: str = ""


class Post:
    """Letters and tallies in a memory. `urls` are the places of the secrets that letters go to."""

    def __init__(
        self, memory: Memory, settings: NotifySettings, urls: Sequence[str], local_time: Callable[[str], LocalTime]
    ) -> None:
        self._memory = memory
        self._settings = settings
        self._urls = tuple(urls)
        self._local_time = local_time
        self._hours = [read_hours(text) for text in settings.quiet]
        self._max_age_us = round(settings.max_age_s * SECOND_US)
        for letter in memory.letters:  # the settings may have changed
            letter.urls = [url for url in letter.urls if url in self._urls]
        memory.letters = [letter for letter in memory.letters if letter.urls]

    def local(self, site: str | None) -> LocalTime:
        """The clock of a site; of the server itself, the machine's."""
        return MACHINE_TIME if site is None else self._local_time(site)

    def is_quiet(self, site: str | None, now_us: int) -> bool:
        """Whether it is a quiet hour at a site."""
        return bool(self._hours) and is_quiet(self._hours, self.local(site), now_us)

    def put(self, line: Line, now_us: int) -> Fate:
        """Make a letter of a line, or count it. An old remark is dropped."""
        reason = self._reason(line, now_us)
        if reason is None:
            self._memory.sent_us.append(now_us)
            self._add(line, now_us)
            return "sent"
        return self._count(line, reason, now_us)

    def cancel(self, event_id: str) -> bool:
        """Take back the letter about an event. Whether nobody has got it."""
        letter = next((each for each in self._memory.letters if each.event_id == event_id), None)
        if letter is None:
            return False
        self._memory.letters.remove(letter)
        return set(letter.urls) == set(self._urls)

    def uncount(self, event_id: str) -> bool:
        """An event does not hold. Whether it was counted."""
        tally = self._counting(event_id)
        if tally is None:
            return False
        _uncount(tally, event_id[:ID_DIGITS])
        return True

    def events(self) -> Iterator[str]:
        """The ids, or their first digits, of the events that letters and digests are about."""
        for letter in self._memory.letters:
            yield from filter(None, (letter.event_id, letter.about))
        for tally in self._tallies():
            yield from (*tally.ids, *tally.remark_ids.values())

    def erase(self, gone: Collection[str], now_us: int) -> None:
        """Take out what tells of these events (`events` named them)."""
        for tally in self._tallies():
            for event_id in [each for each in tally.ids if each in gone]:
                _uncount(tally, event_id)
            for remark in [text for text, event_id in tally.remark_ids.items() if event_id in gone]:
                tally.remarks.remove(remark)
                del tally.remark_ids[remark]
        for letter in self._memory.letters:
            if letter.counted:
                letter.text = self._text(letter.counted, now_us)
        self._memory.letters = [
            each
            for each in self._memory.letters
            if each.event_id not in gone and each.about not in gone and (each.text or not each.is_digest)
        ]
        self._memory.tallies = [each for each in self._memory.tallies if each.counts or each.remarks or each.further]

    def _tallies(self) -> list[Tally]:
        """All tallies, those of digests that wait as letters too."""
        return [*self._memory.tallies, *(tally for letter in self._memory.letters for tally in letter.counted)]

    def rename(self, old_id: str, new_id: str) -> None:
        """An event that may have been counted is the same fact under another id."""
        if (tally := self._counting(old_id)) is not None:
            tally.ids[new_id[:ID_DIGITS]] = tally.ids.pop(old_id[:ID_DIGITS])

    def _counting(self, event_id: str) -> Tally | None:
        return next((each for each in self._memory.tallies if event_id[:ID_DIGITS] in each.ids), None)

    def tick(self, now_us: int) -> list[str]:
        """Count letters whose time is over, and make digests; the ids of the events that are counted now."""
        counted: list[str] = []
        for letter in [each for each in self._memory.letters if not each.is_digest]:
            is_late = now_us - letter.at_us > self._max_age_us
            if not is_late and not self.is_quiet(letter.site, now_us):
                continue
            self._memory.letters.remove(letter)
            if set(letter.urls) == set(self._urls):
                self._count(_line(letter), "old" if is_late else "quiet", now_us)
                counted.append(letter.event_id)
            else:
                log.warning("message not sent to all", extra={"missed": ", ".join(letter.urls), "text": letter.text})
        self._make_digests(now_us)
        return counted

    def _add(self, line: Line, now_us: int, counted: Sequence[Tally] = ()) -> None:
        self._memory.letters.append(
            Letter(
                line.text,
                line.site,
                line.at_us,
                now_us,
                list(self._urls),
                line.place,
                line.event_id,
                line.frames,
                line.camera,
                bool(counted),
                line.about,
                list(counted),
            )
        )
        while len(self._memory.letters) > MOST_LETTERS:
            lost = self._memory.letters.pop(0)
            log.error("message not sent: too many wait", extra={"text": lost.text})

    def _reason(self, line: Line, now_us: int) -> Reason | None:
        if now_us - line.at_us > self._max_age_us:
            return "old"
        if self.is_quiet(line.site, now_us):
            return "quiet"
        # An instant in the future was written by a clock that was set back since.
        sent_us = [at_us for at_us in self._memory.sent_us if now_us - HOUR_US < at_us <= now_us]
        self._memory.sent_us = sent_us
        return "more" if len(sent_us) >= self._settings.most_an_hour else None

    def _count(self, line: Line, reason: Reason, now_us: int) -> Fate:
        if (reason == "quiet" and not self._settings.quiet_digest) or (reason == "old" and not line.place):
            return "dropped"
        tally = self._tally(line, reason, now_us)
        tally.added_us = now_us
        if not line.place:
            if len(tally.remarks) < MOST_REMARKS:
                tally.remarks.append(line.text)
                if event_id := line.event_id or line.about:
                    tally.remark_ids[line.text] = event_id[:ID_DIGITS]
            else:
                tally.further += 1
            return "counted"
        tally.first_us, tally.last_us = min(tally.first_us, line.at_us), max(tally.last_us, line.at_us)
        is_full = line.place not in tally.counts and len(tally.counts) >= MOST_PLACES
        place = _ELSEWHERE if is_full else line.place
        tally.counts[place] = tally.counts.get(place, 0) + 1
        if line.event_id:
            tally.ids[line.event_id[:ID_DIGITS]] = place
        if len(tally.ids) > MOST_IDS:
            del tally.ids[next(iter(tally.ids))]
        return "counted"

    def _tally(self, line: Line, reason: Reason, now_us: int) -> Tally:
        tallies = self._memory.tallies
        tally = next((each for each in tallies if (each.reason, each.site) == (reason, line.site)), None)
        if tally is None:
            tally = Tally(reason, line.site, line.at_us, line.at_us, now_us, now_us)
            tallies.append(tally)
        if len(tallies) > MOST_TALLIES:
            lost = tallies.pop(0)
            log.error("digest not sent: too many wait", extra={"text": self._text([lost], now_us)})
        return tally

    def _make_digests(self, now_us: int) -> None:
        """One letter for each site that has something to count up."""
        due = [each for each in self._memory.tallies if self._is_due(each, now_us)]
        self._memory.tallies = [each for each in self._memory.tallies if each not in due]
        for site in dict.fromkeys(each.site for each in due):
            tallies = [each for each in due if each.site == site]
            if text := self._text(tallies, now_us):
                self._memory.digest_us[site or ""] = now_us
                self._add(Line(text, site, now_us), now_us, tallies)

    def _is_due(self, tally: Tally, now_us: int) -> bool:
        if self.is_quiet(tally.site, now_us):
            return False
        if tally.reason == "quiet":
            return True
        earliest_us = min(tally.added_us + _STILL_US, tally.since_us + HOUR_US)
        last_us = self._memory.digest_us.get(tally.site or "", 0)
        return now_us >= max(earliest_us, last_us + HOUR_US) or now_us < max(tally.added_us, last_us)

    def _text(self, tallies: Iterable[Tally], now_us: int) -> str:
        lines = (wording.digest(tally, self.local(tally.site), now_us) for tally in tallies)
        return "\n".join(line for line in lines if line)


def _line(letter: Letter) -> Line:
    return Line(
        letter.text,
        letter.site,
        letter.at_us,
        letter.place,
        letter.event_id,
        letter.camera,
        letter.frames,
        letter.about,
    )


def _uncount(tally: Tally, event_id: str) -> None:
    place = tally.ids.pop(event_id)
    tally.counts[place] -= 1
    if not tally.counts[place]:
        del tally.counts[place]
