"""Whoever annotates needs one key for an event, and sees its pictures meanwhile."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from policies.events import Event
from tests.browser.browsing import Browsing, press

MANY = 40
_EVENT = re.compile(r"/events/[0-9a-f]{32}")


def test_forty_events_with_pictures_are_annotated_by_forty_keys(browsing: Browsing, events: list[Event]) -> None:
    page = browsing.page()
    page.goto(f"/events/{events[40].id}?site=yard&camera=gate&unjudged=yes")
    seen: list[str] = []
    for number in range(MANY):
        expect(page.get_by_role("img").first).to_be_visible()
        seen.append(event_of(page))
        press(page, "t" if number % 3 else "f")
    assert len(set(seen)) == MANY
    for number in range(0, MANY, 13):
        assert newest_truth(page, seen[number]) == ("true" if number % 3 else "false")


def event_of(page: Page) -> str:
    found = _EVENT.search(page.url)
    assert found is not None, page.url
    return found[0].rpartition("/")[2]


def newest_truth(page: Page, event: str) -> str:
    """What the newest annotation of an event says, by the page's JSON."""
    told = page.request.get(f"/v1/events/{event}/page").json()
    return str(told["judgements"][-1]["truth"])
