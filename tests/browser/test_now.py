"""The main task of Now: is this camera alive, and if not, since when and why?"""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.browsing import Browsing, Size, press, sign_in
from tests.browser.filling import VIEWER

_MOST_TABS = 60


def test_by_keyboard_alone_from_signing_in_on_a_camera_that_is_not_watched_is_found_with_its_cause(
    browsing: Browsing, size: Size
) -> None:
    page = browsing.page(size, user=None)
    page.goto("/now?site=yard")
    sign_in(page, VIEWER)
    expect(page.get_by_role("heading", level=1)).to_have_text("1 camera well · 1 not well")
    shed = page.get_by_role("article", name="shed")
    expect(shed).to_contain_text("not watching: agent silent")
    expect(shed).to_contain_text("hours ago")
    expect(shed.get_by_role("img")).to_be_visible()
    expect(page.get_by_role("article", name="gate")).not_to_contain_text("not watching")
    tab_to_the_link_why_of(page, "shed")
    press(page, "Enter")
    assert "/why?" in page.url
    assert "camera=shed" in page.url
    expect(page.get_by_label("Camera")).to_have_value("shed")


def tab_to_the_link_why_of(page: Page, camera: str) -> None:
    for _ in range(_MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate(
            "camera => document.activeElement.innerText === 'Why?' && "
            "document.activeElement.closest('article').ariaLabel === camera",
            camera,
        ):
            return
    raise AssertionError(f"{_MOST_TABS} times Tab do not lead to the link Why? of {camera}")
