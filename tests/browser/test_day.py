"""The page of a day: what happened last night, by eye, by keyboard and without JavaScript."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, Size, press, screenshot

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
    press(page, "Enter")
    expect(page).to_have_url(re.compile(SATURDAY.replace("?", r"\?")))
    tab_to(page, "a.visit")
    press(page, "Enter")
    expect(page).to_have_url(re.compile("/events/[0-9a-f]+"))


def test_arrow_keys_move_a_cursor_and_enter_shows_what_came_from_there_on(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(SATURDAY)
    page.locator(".bars").focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".bars output")).to_contain_text("13:15")
    press(page, "Enter")
    expect(page).to_have_url(re.compile(r"from=2026-11-28T12%3A15.*#visits"))
    expect(page.get_by_role("heading", name="Visits from 13:15")).to_be_visible()
    expect(page.locator("ol.visits > li").first).to_contain_text("13:20")


def test_a_click_on_a_hatched_stretch_says_why_and_one_on_a_presence_shows_its_visits(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(SATURDAY)
    click_on_the_first(page, "unobserved")
    expect(page).to_have_url(re.compile(r"/why\?site=yard&camera=\w+&at=2026-11-2"))
    expect(page.locator("main")).to_contain_text("not watched")
    page.go_back()
    click_on_the_first(page, "occupied")
    expect(page).to_have_url(re.compile(r"/day/2026-11-28\?.*#visits"))


def test_news_reload_the_day_alone(browsing: Browsing) -> None:
    page = browsing.page()
    with page.expect_response(lambda answer: "/live?" in answer.url):
        page.goto(SATURDAY)
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true"):
        page.evaluate("document.body.dispatchEvent(new Event('changed'))")
    expect(page.locator("ol.visits > li").first).to_contain_text("person")


def test_a_day_that_comes_new_is_asked_for_with_the_news_that_were_heard(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(SATURDAY)
    after = page.locator("#day").get_attribute("data-after")
    with page.expect_response(lambda answer: answer.request.headers.get("hx-request") == "true") as answered:
        page.evaluate("document.body.dispatchEvent(new Event('changed'))")
    assert answered.value.request.headers["last-event-id"] == after
    assert "<header" not in answered.value.text()


def test_back_leads_to_the_whole_page_after_its_day_has_come_new(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(SATURDAY)
    page.evaluate("document.querySelector('#day').dataset.old = 'yes'")
    page.evaluate("document.body.dispatchEvent(new Event('changed'))")
    expect(page.locator("#day[data-old]")).to_have_count(0)
    page.goto("/why")
    page.go_back()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Sat 28 Nov 2026")


def test_a_day_that_comes_new_keeps_the_focus_what_is_open_and_the_cursor(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(SATURDAY)
    page.locator(".bars").focus()
    page.keyboard.press("ArrowRight")
    page.locator("ol.visits summary").nth(1).click()
    page.locator("ol.visits summary").nth(1).focus()
    page.evaluate("document.querySelector('#day').dataset.old = 'yes'")
    page.evaluate("document.body.dispatchEvent(new Event('changed'))")
    expect(page.locator("#day[data-old]")).to_have_count(0)
    assert page.evaluate("[...document.querySelectorAll('summary')].indexOf(document.activeElement)") == 1
    expect(page.locator("ol.visits details").nth(1)).to_have_attribute("open", "")
    expect(page.locator(".cursor[d]")).not_to_have_count(0)


@pytest.mark.parametrize("address", [SATURDAY, "/now"])
def test_a_page_that_cannot_be_kept_new_says_so_until_it_can(browsing: Browsing, address: str) -> None:
    page = browsing.page()
    page.clock.install()
    page.goto(address)
    path = re.compile("/live|" + address.split("?")[0])
    page.route(path, lambda route: route.fulfill(status=503))
    with browsing.watch.expecting(page, "503"):
        page.evaluate("document.body.dispatchEvent(new Event('changed'))")
        expect(page.get_by_role("alert")).to_contain_text(re.compile(r"Not updated since \d\d:\d\d"))
        expect(page.locator(".stale h1")).to_have_css("text-decoration-line", "line-through")
    page.unroute(path)
    page.clock.run_for(61_000)
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".stale")).to_have_count(0)


def test_a_feed_that_was_refused_is_asked_again(browsing: Browsing) -> None:
    page = browsing.page()
    page.clock.install()
    page.route("**/live?*", lambda route: route.fulfill(status=503))
    with browsing.watch.expecting(page, "503"):
        page.goto(SATURDAY)
        expect(page.get_by_role("alert")).to_contain_text("Not updated since")
    page.unroute("**/live?*")
    with page.expect_response(lambda answer: "/live?" in answer.url and answer.ok):
        page.clock.run_for(6000)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_visit_takes_a_narrow_row_on_a_desktop(browsing: Browsing) -> None:
    page = browsing.page()
    page.goto(SATURDAY)
    heights = page.evaluate("[...document.querySelectorAll('ol.visits > li')].map(each => each.offsetHeight)")
    assert max(heights) <= 72, heights


def test_filters_work_without_java_script(browsing: Browsing) -> None:
    page = browsing.page("phone", java_script=False)
    page.goto(SATURDAY)
    page.locator("select[name=sector]").select_option("table")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("sector=table"))
    expect(page.locator("ol.visits > li").first).to_contain_text("table")
    expect(page.locator("svg.bar")).to_have_count(1)


def click_on_the_first(page: Page, state: str) -> None:
    """Click into the middle of the first stretch in this state; the page to which that leads is loaded then."""
    box = page.evaluate(
        """state => {
            const shown = document.querySelector(`svg.bar path.${state}`);
            const [, from, width] = shown.getAttribute("d").match(/^M(\\d+) \\d+h(\\d+)/).map(Number);
            const { left, top, width: all } = shown.ownerSVGElement.getBoundingClientRect();
            const cells = shown.ownerSVGElement.viewBox.baseVal.width;
            return [left + ((from + width / 2) / cells) * all, top + 10];
        }""",
        state,
    )
    with page.expect_navigation():
        page.mouse.click(*box)


def tab_to(page: Page, selector: str) -> None:
    """Come to the first element of a kind by Tab."""
    for _ in range(_MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{_MOST_TABS} times Tab do not lead to {selector} of {page.url}")
