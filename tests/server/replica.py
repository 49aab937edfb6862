"""One of several servers on one database, whose channel says on standard output what it does.

    python -m tests.server.replica FOLDER DATABASE_URL BASE_NS [hung] [database]

The clock of all of them is NOW_US at the monotonic instant BASE_NS. A lease lasts LEASE_S. Prints `port N`, then
`begin`, `sent N` and `end` as its lasting channel is called. With `hung` there is another channel whose `send` prints
`hung` and never returns; the server then waits STOP_S for it, instead of ten seconds. With `database` its site policies
are in the database, and it has no folder of sites.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path
from typing import Literal

from flask import Flask

from server.app import create_app, runtime
from server.delivery import sender
from server.delivery.channel import Channel
from server.domain.announcements import Outgoing
from server.hosting.gunicorn_app import host
from server.settings import ServerSettings
from tests.server.web_client import NOW_US, SITE, BrightnessEnsemble

LEASE_S = 3.0
STOP_S = 1.0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Speaks:
    """A lasting channel. Its memory is the number of the last announcement."""

    name = "speaks"

    def __init__(self) -> None:
        self.memory = ""

    def begin(self, memory: str | None) -> None:
        self.memory = memory or ""
        say(f"begin {self.memory or '-'}")

    def refresh(self) -> None:
        pass

    def end(self) -> None:
        say("end")

    def send(self, outgoing: Outgoing) -> None:
        self.memory = str(outgoing.seq)
        say(f"sent {outgoing.seq}")


class Hangs:
    name = "hangs"

    def send(self, _outgoing: Outgoing) -> None:
        say("hung")
        threading.Event().wait()


def main(folder: Path, url: str, base_ns: int, *, is_hung: bool, sites: Literal["folder", "database"]) -> None:
    sender._LEASE_US = round(LEASE_S * 1_000_000)
    runtime._STOP_S = STOP_S
    folder.mkdir(parents=True, exist_ok=True)
    if sites == "folder":
        (folder / "sites").mkdir(exist_ok=True)
        (folder / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")

    def app(settings: ServerSettings) -> Flask:
        channels: list[Channel] = [Speaks(), *([Hangs()] if is_hung else [])]
        return create_app(
            settings,
            ensemble=BrightnessEnsemble(),
            channels=channels,
            clock=lambda: NOW_US + (time.monotonic_ns() - base_ns) // 1000,
        )

    listener = socket.create_server(("127.0.0.1", 0))
    say(f"port {listener.getsockname()[1]}")
    host(ServerSettings(data_dir=folder, database_url=url, graceful_timeout_s=20, sites=sites), listener, app)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        sys.argv[2],
        int(sys.argv[3]),
        is_hung="hung" in sys.argv[4:],
        sites="database" if "database" in sys.argv[4:] else "folder",
    )
