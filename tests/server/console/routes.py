"""Every route that a browser's session reaches, with what it asks for: tests of security go through all of them.

A route that is not here fails them. Give it a line in `GETS` or `POSTS`: its endpoint, and a question about the site
`north-yard` to which an operator of that site gets an answer. Parts of a rule that `Yard` does not know yet are added
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from flask import Flask
from werkzeug.routing import Rule

GUESSED_ID, GUESSED_SHA256 = "0" * 32, "f" * 64

OPEN = {"console.sign_in", "console.signed_in", "console.asset"}
"""What needs no session."""


@dataclass(frozen=True)
class Ask:
    """What to ask a route: parameters or fields of a form, as `Yard.fields` fills them in.

    `is_of_site`: it names something of the site, so whoever does not read the site gets 403 or 404. Others answer with
    what their reader may see. `is_of_server`: it is answered for every site, or not at all.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    is_of_site: bool = True
    is_of_server: bool = False


SITE = {"site": "{site}"}

GETS: dict[str, Ask] = {
    "console.now": Ask(SITE),
    "console_twins.now": Ask(SITE),
    "console.event": Ask(),
    "console_twins.event": Ask(),
    "console.why": Ask({"site": "{site}", "camera": "{camera}", "at": "{at}"}),
    "console_twins.why": Ask({"site": "{site}", "camera": "{camera}", "at": "{at}"}),
    "console.tune_places": Ask(is_of_site=False),
    "console_twins.tune_places": Ask(is_of_site=False),
    "console.tune": Ask(),
    "console_twins.tune": Ask(),
    "console.newest_day": Ask(is_of_site=False),
    "console.today": Ask(SITE),
    "console.yesterday": Ask(SITE),
    "console.day": Ask(SITE),
    "console_twins.day": Ask(SITE),
    "console.live": Ask(SITE),
    "console_twins.live": Ask(SITE),
    "console.sectors_index": Ask(is_of_site=False),
    "console_twins.sectors_index": Ask(is_of_site=False),
    "console.sectors": Ask(),
    "console_twins.sectors": Ask(),
    "console.sectors_paths": Ask(),
    "console.models": Ask(SITE),
    "console_twins.models": Ask(SITE),
    "console.channels": Ask(is_of_server=True),
    "console_twins.channels": Ask(is_of_server=True),
    "events.events": Ask(SITE),
    "cameras.cameras": Ask(SITE),
    "annotations.list_annotations": Ask(SITE),
    "models.models": Ask(is_of_site=False),
    "frames.frame": Ask(),
    "frames.frames": Ask({"site": "{site}", "camera": "{camera}"}),
    "frames.frames_of_event": Ask(),
    "site_policy.site_policy": Ask({"site": "{site}", "camera": "{camera}"}),
}
"""Endpoint -> what to ask."""

POSTS: dict[str, Ask] = {
    "console.signed_out": Ask(is_of_site=False),
    "console.judge_event": Ask({"truth": "true", "note": "note <i>sw</i>"}),
    "console.undo": Ask(),
    "console.missed": Ask({"site": "{site}", "camera": "{camera}", "fact": "presence_started|{sector}", "at": "{at}"}),
    "console.sectors_previewed": Ask({"text": "{text}"}),
    "console.sectors_proposed": Ask({"text": "{text}", "why": "why <i>sw</i>"}),
    "console.sectors_put_in_force": Ask({"version": "{version}"}),
    "console.sectors_taken_back": Ask({"version": "{version}"}),
    "console.channel_paused": Ask(is_of_server=True),
    "console.channel_resumed": Ask({"from_now": "yes"}, is_of_server=True),
    "console.channel_tested": Ask(is_of_server=True),
    "console.channel_resent": Ask(is_of_server=True),
    "console.letters_dropped": Ask(is_of_server=True),
    "console.channel_forgotten": Ask(is_of_server=True),
    "console.tune_saved": Ask({"do": "propose", "state": "confirm=3", "why": "why <i>sw</i>"}),
}
"""Endpoint of an action -> the fields of its form."""


@dataclass(frozen=True)
class Yard:
    """What there is at the site `north-yard`, by the names of the parts of rules."""

    event_id: str
    sha256: str
    site: str = "north-yard"
    camera: str = "gate"
    sector: str = "view"
    channel: str = "log"
    day: str = "2027-01-15"
    at: str = "2027-01-15T07:59:04Z"
    version: int = 0
    text: str = '# another\nsite = "north-yard"\n'

    def filled(self, rule: str) -> str:
        """The address of a rule."""
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda part: str(getattr(self, part[1])), rule)

    def fields(self, ask: Ask) -> dict[str, str]:
        """The parameters, or the form."""
        return {name: value.format(**asdict(self)) for name, value in ask.fields.items()}


def readable(app: Flask) -> Iterator[tuple[Rule, Ask]]:
    """The rules with GET of pages, twins, and the endpoints under `/v1`, with what to ask."""
    for rule in _reached(app, "GET"):
        assert rule.endpoint in GETS, f"{rule.endpoint} ({rule.rule}) has no line in tests/server/console/routes.py"
        yield rule, GETS[rule.endpoint]


def changing(app: Flask) -> Iterator[tuple[Rule, Ask]]:
    """The rules of actions, with their forms."""
    for rule in _reached(app, "POST"):
        if rule.endpoint.startswith("console."):
            assert rule.endpoint in POSTS, (
                f"{rule.endpoint} ({rule.rule}) has no line in tests/server/console/routes.py"
            )
            yield rule, POSTS[rule.endpoint]


def _reached(app: Flask, method: str) -> Iterator[Rule]:
    for rule in app.url_map.iter_rules():
        is_reached = rule.endpoint.startswith("console") or rule.rule.startswith("/v1/")
        if is_reached and method in (rule.methods or ()) and rule.endpoint not in OPEN:
            yield rule
