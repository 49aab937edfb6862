"""The page Why in a browser: a camera and a time, one sentence, pictures, minute by minute."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, press, screenshot


def test_a_camera_and_a_time_give_one_sentence_and_the_pictures_of_that_minute(page: Page, size: str) -> None:
    page.goto("/why?site=yard&camera=gate")
    page.get_by_label("Time").fill("2026-11-28 18:12")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("No event at 18:12:")
    pictures = page.get_by_label("Frames of the minute").locator("img")
    assert pictures.count() > 5
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is wider than the page"
    check_accessible(page)
    screenshot(page, f"why-{size}")


def test_keys_go_from_minute_to_minute_and_to_the_field_of_the_time(browsing: Browsing) -> None:
    page = browsing.page("desktop")
    page.goto("/why?site=yard&camera=gate&at=2026-11-28T18:12")
    press(page, "k")
    expect(page.get_by_role("heading", level=1)).to_contain_text("18:11")
    press(page, "j")
    expect(page.get_by_role("heading", level=1)).to_contain_text("18:12")
    page.keyboard.press("/")
    expect(page.get_by_label("Time")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("2026-11-28 18:04\n")
    expect(page.get_by_role("heading", level=1)).to_contain_text("18:04")
    page.get_by_role("link", name="person entered").first.click()
    expect(page.get_by_label("The deciding frame")).to_be_visible()


def test_a_minute_in_which_the_link_was_down_says_why(browsing: Browsing) -> None:
    page = browsing.page("phone", java_script=False)
    page.goto("/why?site=yard&camera=shed&at=2026-11-29T07:30")
    expect(page.get_by_role("heading", level=1)).to_contain_text("not watched")
