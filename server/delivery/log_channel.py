"""The channel `log`: one line for each announcement on the server's standard output. It is always there."""

from __future__ import annotations

from typing import Literal, TextIO

from server.delivery.lines import json_line, notice_line, text_line
from server.domain.announcements import NoticeGiven, Outgoing

Style = Literal["text", "json"]


class LogChannel:
    """Writes one line per announcement to a stream and flushes it."""

    name = "log"

    def __init__(self, style: Style, stream: TextIO) -> None:
        self._style = style
        self._stream = stream

    def send(self, outgoing: Outgoing) -> None:
        if self._style == "json":
            line = json_line(outgoing.notice if isinstance(outgoing, NoticeGiven) else outgoing.logged)
        elif isinstance(outgoing, NoticeGiven):
            line = notice_line(outgoing.notice)
        else:
            line = text_line(outgoing.logged, None if outgoing.what == "event" else outgoing.what)
        self._stream.write(line + "\n")
        self._stream.flush()
