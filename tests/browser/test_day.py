"""The page of a day: what happened last night, by eye, by keyboard and without JavaScript."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, Size, screenshot

SATURDAY = "/day/2026-11-28?site=yard"
_MOST_TABS = 80


def test_a_day_is_on_one_screen_with_bars_and_one_row_a_visit(page: Page, size: Size) -> None:
    page.goto(SATURDAY)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Sat 28 Nov 2026")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Europe/Oslo")
    expect(page.locator("svg.bar path.occupied")).not_to_have_count(0)
    expect(page.locator("ol.visits > li").first).to_contain_text("person")
    expect(page.locator("ol.visits img").first).to_be_visible()
    expect(page.locator(".outages")).to_contain_text("shed")
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    screenshot(page, f"day-{size}")


def test_the_first_page_is_the_newest_day(page: Page) -> None:
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/day/2026-11-2\d\?site="))


def test_the_keyboard_alone_comes_to_the_day_before_and_to_a_visit(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto("/day/2026-11-29?site=yard")
    tab_to(page, "a[rel=prev]")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(SATURDAY.replace("?", r"\?")))
    tab_to(page, "a.visit")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/events/[0-9a-f]+"))


def test_arrow_keys_move_a_cursor_and_enter_shows_what_came_from_there_on(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(SATURDAY)
    page.locator(".bars").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".bars output")).to_contain_text("13:15")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"from=13%3A15.*#visits"))
    expect(page.locator("ol.visits > li").first).to_contain_text("13:20")


def test_news_reload_the_day_alone(browsing: Browsing) -> None:
    page = browsing.page()
    with page.expect_response(lambda answer: "/live?" in answer.url):
        page.goto(SATURDAY)
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        page.evaluate("document.body.dispatchEvent(new Event('changed'))")
    expect(page.locator("ol.visits > li").first).to_contain_text("person")


def test_filters_work_without_java_script(browsing: Browsing) -> None:
    page = browsing.page("phone", java_script=False)
    page.goto(SATURDAY)
    page.locator("select[name=sector]").select_option("table")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("sector=table"))
    expect(page.locator("ol.visits > li").first).to_contain_text("table")
    expect(page.locator("svg.bar")).to_have_count(1)


def tab_to(page: Page, selector: str) -> None:
    """Come to the first element of a kind by Tab."""
    for _ in range(_MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{_MOST_TABS} times Tab do not lead to {selector} of {page.url}")
