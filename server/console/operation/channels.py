"""`/channels`: how the channels stand, and what they could not deliver. Only who reads every site sees it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, structs

from policies.events import instant, microseconds
from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import Pages, To
from server.delivery.care import Standing
from server.domain.announcements import DeadLetter
from server.domain.errors import ConfigurationError, Conflict, Malformed
from server.domain.times.local_time import LocalTime, site_time
from server.web.openapi import Twin

LETTERS = 50
"""Letters on one page."""


class ChannelsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`channel`: letters of this one only; `before`: those before this number."""

    channel: Annotated[str, Meta(max_length=100)] | None = None
    before: Annotated[int, Meta(ge=1, le=2**62)] | None = None


class ChannelShown(Standing, frozen=True):
    """A channel; the local times are those of the site, or of the machine where sites have several."""

    since_local: str | None = None
    oldest_local: str | None = None
    last_sent_local: str | None = None


class LetterShown(msgspec.Struct, frozen=True):
    """A dead letter. `event` null: it is a notice. `asked_at`: it is to be sent again."""

    number: int
    channel: str
    what: str
    event: str | None
    since: datetime
    since_local: str
    error: str | None
    asked_at: datetime | None


class ChannelsShown(msgspec.Struct, frozen=True):
    """The channels, and the newest letters, newest first; `before` asks for those before them, null: there are none."""

    channels: tuple[ChannelShown, ...]
    channel: str | None
    letters: tuple[LetterShown, ...]
    before: int | None
    can_change: bool


class Nothing(msgspec.Struct, frozen=True):
    """A form without fields."""


class Resumed(msgspec.Struct, frozen=True):
    """`from_now`: what has waited is never sent."""

    from_now: Literal["", "yes"] = ""


class Chosen(msgspec.Struct, frozen=True):
    """The number of a letter; empty: all letters of the channel."""

    number: str = ""

    def numbers(self) -> Sequence[int] | None:
        if not self.number:
            return None
        if not (self.number.isascii() and self.number.isdigit() and len(self.number) < 19):
            raise Malformed("a letter has a number")
        return [int(self.number)]


TWIN = Twin("/v1/channels", "showChannels", "Show the channels, and their dead letters.", ChannelsQuery, ChannelsShown)


def add(pages: Pages, context: Context) -> None:
    """Register the page and its actions."""
    care = context.channels

    @pages.page("/channels", twin=TWIN, template="channels.html", query=ChannelsQuery)
    def channels(viewer: Viewer, query: ChannelsQuery) -> ChannelsShown:
        viewer.to_read_all()
        local = site_time(context.store)
        letters = care.letters(query.channel or None, before=query.before, limit=LETTERS + 1)
        return ChannelsShown(
            channels=tuple(_shown(each, local) for each in care.standings()),
            channel=query.channel or None,
            letters=tuple(_letter(each, local) for each in letters[:LETTERS]),
            before=letters[LETTERS - 1].number if len(letters) > LETTERS else None,
            can_change=viewer.changes_all,
        )

    @pages.action("/channels/<channel>/pause", form=Nothing)
    def channel_paused(viewer: Viewer, _form: Nothing, channel: str) -> To:
        viewer.to_change_all()
        care.pause(viewer.name, channel)
        return To("/channels", f"Channel `{channel}` is paused.")

    @pages.action("/channels/<channel>/resume", form=Resumed)
    def channel_resumed(viewer: Viewer, form: Resumed, channel: str) -> To:
        viewer.to_change_all()
        care.resume(viewer.name, channel, from_now=bool(form.from_now))
        return To("/channels", f"Channel `{channel}` sends{' from now on' if form.from_now else ' again'}.")

    @pages.action("/channels/<channel>/test", form=Nothing)
    def channel_tested(viewer: Viewer, _form: Nothing, channel: str) -> To:
        viewer.to_change_all()
        try:
            return To("/channels", care.test(channel))
        except (Conflict, ConfigurationError) as error:
            return To("/channels", f"Not sent: {error.detail}")

    @pages.action("/channels/<channel>/forget", form=Nothing)
    def channel_forgotten(viewer: Viewer, _form: Nothing, channel: str) -> To:
        viewer.to_change_all()
        try:
            receiver = care.forget(viewer.name, channel)
        except Conflict as error:
            return To("/channels", f"Not forgotten: {error.detail}")
        return To("/channels", f"Channel `{channel}` is forgotten{f'; {receiver}' if receiver else ''}.")

    @pages.action("/channels/<channel>/resend", form=Chosen)
    def channel_resent(viewer: Viewer, form: Chosen, channel: str) -> To:
        viewer.to_change_all()
        count = care.resend_letters(viewer.name, channel, form.numbers())
        return To("/channels", f"{count} of `{channel}` will be sent again.")

    @pages.action("/channels/<channel>/drop", form=Chosen)
    def letters_dropped(viewer: Viewer, form: Chosen, channel: str) -> To:
        viewer.to_change_all()
        count = care.drop(viewer.name, channel, form.numbers())
        return To("/channels", f"{count} of `{channel}` deleted. The events stay in the log.")


def _shown(each: Standing, local: LocalTime) -> ChannelShown:
    def dated(at: datetime | None) -> str | None:
        return None if at is None else local.dated(microseconds(at))

    return ChannelShown(
        **structs.asdict(each),
        since_local=dated(each.paused_since or each.failing_since),
        oldest_local=dated(each.oldest_undelivered_at),
        last_sent_local=dated(each.last_sent_at),
    )


def _letter(letter: DeadLetter, local: LocalTime) -> LetterShown:
    return LetterShown(
        number=letter.number,
        channel=letter.channel,
        what=letter.what,
        event=letter.event_id,
        since=instant(letter.at_us),
        since_local=local.dated(letter.at_us),
        error=letter.error,
        asked_at=None if letter.asked_at_us is None else instant(letter.asked_at_us),
    )
