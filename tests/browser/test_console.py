"""Every page of the console in a real browser: drawn, read and moved through, at two sizes, by everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from policies.events import Event
from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, Size, press, screenshot, sign_in
from tests.browser.filling import OF_YARD, SATURDAY, VIEWER
from tests.browser.pictures import at_the_table

_MOST_TABS = 40


class Shown(NamedTuple):
    """A page: its address (of an event, in which `EVENT` stands for its id), and text that it shows without JavaScript,
    too.
    """

    address: str
    reads: str


PAGES: Mapping[str, Shown] = {
    "day": Shown("/day/2026-11-28?site=yard", "gate/table"),
    "now": Shown("/now", "shed"),
    "event": Shown("/events/EVENT", "nanodet-g"),
    "why": Shown("/why?site=yard&camera=gate&at=2026-11-28T18:12", "No event at 18:12"),
    "places": Shown("/tune", "table"),
    "tune": Shown("/tune/yard/gate/road", "agreement"),
    "drawings": Shown("/sectors", "gate"),
    "sectors": Shown("/sectors/yard/gate", "fence"),
    "models": Shown("/ensemble", "nanodet-g"),
}
MENU = {"Day": "day", "Now": "now", "Why": "why", "Tune": "places", "Sectors": "drawings", "Models": "models"}
"""Links on every page, and the page that each leads to."""
every_page = pytest.mark.parametrize("name", PAGES)


@pytest.fixture
def open_page(events: list[Event]) -> Callable[[Page, str], Page]:
    """Opens the page of this name, and waits until its content stands there."""

    def opened(page: Page, name: str) -> Page:
        event = at_the_table(events, SATURDAY + timedelta(hours=18))
        answer = page.goto(PAGES[name].address.replace("EVENT", event.id))
        assert answer is not None
        assert answer.ok, page.locator("main").inner_text()
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("main")).to_contain_text(PAGES[name].reads)
        return page

    return opened


@every_page
def test_a_page_is_drawn_without_a_fault_for_everybody_light_and_dark_and_fits_the_screen(
    name: str, page: Page, size: Size, open_page: Callable[[Page, str], Page]
) -> None:
    open_page(page, name)
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    screenshot(page, f"{name}-{size}")
    page.emulate_media(color_scheme="dark")
    check_accessible(page)
    screenshot(page, f"{name}-{size}-dark")


@every_page
def test_a_page_can_be_read_without_java_script(
    name: str, browsing: Browsing, open_page: Callable[[Page, str], Page]
) -> None:
    open_page(browsing.page("phone", java_script=False), name)


def test_who_has_a_keyboard_only_signs_in_comes_to_every_page_and_signs_out(browsing: Browsing, size: Size) -> None:
    page = browsing.page(size, user=None)
    page.goto(PAGES["now"].address)
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    check_accessible(page)
    screenshot(page, f"sign-in-{size}")
    sign_in(page, VIEWER)
    expect(page).to_have_url(f"{browsing.url}{PAGES['now'].address}")
    for link, name in MENU.items():
        follow(page, link)
        expect(page.get_by_role("navigation", name="Pages").locator("[aria-current=page]")).to_have_text(link)
        assert page.url.split("/")[3].startswith(PAGES[name].address.split("/")[1].partition("?")[0])
        expect(page.get_by_role("heading", level=1)).to_be_visible()
    follow(page, "Sign out")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.goto(PAGES["now"].address)
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_a_wrong_password_is_refused_in_words_and_the_name_stays(browsing: Browsing) -> None:
    page = browsing.page("phone", user=None)
    page.goto("/sign-in")
    page.get_by_label("Name").fill(VIEWER)
    page.get_by_label("Password").fill("not the password")
    with browsing.watch.expecting(page, "status of 401"):
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value(VIEWER)
    check_accessible(page)


def test_the_pages_of_a_site_that_a_user_does_not_read_look_as_if_it_did_not_exist(browsing: Browsing) -> None:
    page = browsing.page(user=OF_YARD)
    page.goto(PAGES["now"].address)
    expect(page.locator("main")).not_to_contain_text("pets")
    for address in ("/now?site=pets", "/now?site=nowhere"):
        with browsing.watch.expecting(page, "status of 404"):
            page.goto(address)
        expect(page.locator("main")).to_contain_text("that you may read")
    check_accessible(page)


def test_the_first_key_leads_past_the_links_to_the_content(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(PAGES["now"].address)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("To the content")
    expect(page.locator(":focus")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{browsing.url}/now#main")


def follow(page: Page, link: str) -> None:
    """Come to a link or button by Tab, and follow it by Enter."""
    for _ in range(_MOST_TABS):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.count() and focused.inner_text() == link:
            press(page, "Enter")
            return
    raise AssertionError(f"{_MOST_TABS} times Tab do not lead to the link {link!r} of {page.url}")
