"""The channel `notify`: phones and mail.

`send` only decides and remembers: the dispatcher saves that with the position, and `refresh` sends one letter to each
service and has its memory saved again. So a process that is killed at any instant repeats at most the message that it
was sending.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from policies.events import microseconds
from server.delivery.channel import Answered
from server.delivery.gone import Gone
from server.delivery.notify.happenings import Happenings, reported_kinds
from server.delivery.notify.memory import Letter, Memory, decode, encode
from server.delivery.notify.post import Line, Post
from server.delivery.notify.services import Message, Service, deliver, open_services
from server.delivery.notify.watch import Watch
from server.delivery.surroundings import Surroundings
from server.domain.announcements import NoticeGiven, Outgoing
from server.domain.errors import ConfigurationError
from server.domain.times.clock import SECOND_US
from server.frames import media_type
from server.settings.channels import NotifySettings

log = logging.getLogger(__name__)

_PICTURE_US = 3 * SECOND_US
"""So long a letter waits for its picture: pictures are kept after the answer to the burst."""


class NotSent(Exception):
    """No service took a message."""


class NotifyChannel:
    """Sends messages by apprise. See `server.delivery.channel.Lasting`."""

    def __init__(
        self, name: str, settings: NotifySettings, services: Sequence[Service], surroundings: Surroundings
    ) -> None:
        self.name = name
        self._settings = settings
        self._services = list(services)
        self._around = surroundings
        self._gone = Gone(surroundings.erasures)
        self._began_us: int | None = None
        self._failing: dict[Service, str] = {}
        self._failures = 0
        self._take_up(Memory())

    @property
    def memory(self) -> str:
        return encode(self._memory)

    @property
    def trouble(self) -> tuple[str, int] | None:
        causes = {str(service): cause for service, cause in self._failing.items()}
        return ("; ".join(f"{each}: {cause}" for each, cause in causes.items()), self._failures) if causes else None

    def begin(self, memory: str | None) -> None:
        known = Memory() if memory is None else decode(memory)
        if known is None:
            log.warning(
                "another version wrote what the channel remembers: it begins anew", extra={"channel": self.name}
            )
        if self._began_us is None:
            self._began_us = self._around.clock()
        for service in self._services:
            service.wake()
        self._take_up(known or Memory())

    def end(self) -> None:
        """Nothing is open."""

    def send(self, outgoing: Outgoing) -> None:
        """Decide what is told of an announcement."""
        now_us = self._around.clock()
        if isinstance(outgoing, NoticeGiven):
            self._happenings.notice(outgoing.notice, now_us)
        else:
            self._happenings.hear(outgoing, now_us)

    def refresh(self) -> None:
        """Make what the time brings, and send one letter to each service. Raises NotSent where none takes any."""
        now_us = self._around.clock()
        self._forget_erased(now_us)
        self._happenings.tick(now_us)
        self._watch.look(now_us)
        for event_id in self._post.tick(now_us):
            self._happenings.forget(event_id)
        self._send_letters(now_us)

    def test(self) -> str:
        """Send a test message to all services. Raises NotSent."""
        title, text = "Sectorwatch", f"test message of the channel {self.name}, Sectorwatch {self._around.version}"
        results = deliver(dict.fromkeys(self._services, Message(title, text)), self._around.clock())
        failed = [f"{service}: {cause}" for service, cause in results.items() if cause is not None]
        if failed:
            raise NotSent("; ".join(failed))
        return f"a test message went to {', '.join(map(str, results))}"

    def without_erased(self, memory: str) -> str:
        known = decode(memory)
        if known is None:
            return memory
        self._take_up(known)
        self._forget_erased(self._around.clock())
        return self.memory

    def _forget_erased(self, now_us: int) -> None:
        """Forget events that are no longer in the log. A letter that a service is sending now leaves."""
        erasures = self._gone.look(now_us)
        if erasures is None:
            return
        events = {*self._happenings.events(), *self._post.events()}
        gone = events - self._around.kept_events(events)
        self._happenings.erase(gone, erasures)
        if gone:
            self._post.erase(gone, now_us)

    def _take_up(self, memory: Memory) -> None:
        self._memory = memory
        self._gone.again()
        settings, around = self._settings, self._around
        urls = [service.place for service in self._services]
        self._post = Post(memory, settings, urls, around.local_time)
        self._happenings = Happenings(memory, settings, self._post)
        self._watch = Watch(memory, settings, self._post, around.reports, self._began_us or 0)

    def _send_letters(self, now_us: int) -> None:
        letters = self._next_letters(now_us)
        if not letters:
            return
        made: dict[int, Message] = {}
        for letter in letters.values():
            if id(letter) not in made:
                made[id(letter)] = self._message(letter)
        results = deliver({service: made[id(letter)] for service, letter in letters.items()}, now_us)
        failed = {service: cause for service, cause in results.items() if cause is not None}
        self._failing |= failed
        self._failures += bool(failed)
        for service, letter in letters.items():
            if service not in failed:
                letter.urls.remove(service.place)
                self._failing.pop(service, None)
        self._memory.letters = [letter for letter in self._memory.letters if letter.urls]
        causes = "; ".join(f"{service}: {cause}" for service, cause in failed.items())
        if failed and all(service.fails for service in self._services):
            raise NotSent(causes)
        if failed:
            log.warning("message not sent to all yet", extra={"channel": self.name, "cause": causes})

    def _next_letters(self, now_us: int) -> dict[Service, Letter]:
        """The oldest letter of each service that may be tried."""
        letters: dict[Service, Letter] = {}
        for service in self._services:
            letter = next((each for each in self._memory.letters if service.place in each.urls), None)
            if letter is None or not service.is_free(now_us):
                continue
            if not self._post.is_quiet(letter.site, now_us) and not self._awaits_picture(letter, now_us):
                letters[service] = letter
        return letters

    def _awaits_picture(self, letter: Letter, now_us: int) -> bool:
        is_new = 0 <= now_us - letter.made_us < _PICTURE_US
        return bool(letter.frames) and self._settings.picture and is_new and self._picture(letter.frames) is None

    def _picture(self, frames: Sequence[str]) -> bytes | None:
        """The first of these frames that is kept."""
        for sha256 in frames:
            try:
                picture = self._around.picture(sha256)
            except OSError as error:
                log.warning("picture not read", extra={"channel": self.name, "cause": error})
                return None
            if picture is not None:
                return picture
        return None

    def _message(self, letter: Letter) -> Message:
        text = letter.text
        if self._settings.link and letter.event_id and self._around.console_url:
            text = f"{text}\n{self._around.console_url}/events/{letter.event_id}"
        title = f"Sectorwatch {letter.site}" if letter.site else "Sectorwatch"
        picture = self._picture(letter.frames) if self._settings.picture else None
        if picture is None:
            return Message(title, text)
        kind = media_type(picture)
        at = self._post.local(letter.site).at(letter.at_us)
        name = f"{letter.camera}-{at:%Y%m%d-%H%M%S}.{kind.rpartition('/')[2].replace('jpeg', 'jpg')}"
        return Message(title, text, picture, name, kind)

    def send_again(self, outgoing: Outgoing) -> None:
        """Send what a person asks for at once. Raises Answered."""
        now_us = self._around.clock()
        line = self._line_again(outgoing, now_us)
        letter = Letter(
            line.text, line.site, line.at_us, now_us, [], line.place, line.event_id, line.frames, line.camera
        )
        results = deliver(dict.fromkeys(self._services, self._message(letter)), now_us)
        failed = [f"{service}: {cause}" for service, cause in results.items() if cause is not None]
        if failed:
            raise Answered("; ".join(failed))

    def _line_again(self, outgoing: Outgoing, now_us: int) -> Line:
        if isinstance(outgoing, NoticeGiven):
            return self._happenings.line_of_notice(outgoing.notice, now_us)
        line = self._happenings.line(outgoing.logged.event, now_us)
        if outgoing.what != "withdrawn":
            return line
        return Line(
            f"taken back: {line.text}", line.site, microseconds(outgoing.logged.event.at), event_id=line.event_id
        )


def make_notify(name: str, settings: NotifySettings, surroundings: Surroundings) -> NotifyChannel:
    """The channel of a table of kind `notify`. Raises ConfigurationError; see `open_services`."""
    reported = reported_kinds(settings)
    if reported and settings.events and not reported & set(settings.events):
        kinds = ", ".join(sorted(reported))
        raise ConfigurationError(f"channel `{name}`: `events` has none of what `what` asks for ({kinds})")
    return NotifyChannel(name, settings, open_services(name, settings.urls), surroundings)
