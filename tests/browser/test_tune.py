"""The main task of Tune: move a control, see the figures change, save the change, put it in force, take it back."""

from __future__ import annotations

from playwright.sync_api import Page, Request, Route, expect

from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing

ADDRESS = "/tune/yard/gate/road"
MOST_TABS = 60
REPLAYED_MS = 90_000
"""The replay is the last on the machine to get a processor, and the tests may run beside others."""


def opened(page: Page) -> Page:
    """The page once today's policy is replayed."""
    page.goto(ADDRESS)
    replayed(page)
    return page


def replayed(page: Page) -> None:
    expect(page.locator("#result:not([aria-busy])")).to_be_visible(timeout=REPLAYED_MS)


def events(page: Page) -> list[str]:
    """Of the sector: its events under each policy."""
    row = page.locator("#result tbody").first.get_by_role("row")
    named = row.filter(has=page.get_by_role("rowheader", name="events", exact=True))
    return named.locator(".number").all_inner_texts()


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element is focused."""
    for _ in range(MOST_TABS):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached by Tab")


def test_a_control_is_moved_and_the_change_is_saved_put_in_force_and_taken_back(page: Page) -> None:
    opened(page)
    [today] = events(page)
    assert int(today) > 0
    page.get_by_label("all models").check()
    page.get_by_role("spinbutton", name="yolov3-tiny").fill("0.9")
    expect(page.get_by_role("heading", name="Today beside: all, yolov3-tiny from 0.9")).to_be_visible()
    replayed(page)
    before, after = events(page)
    assert before == today
    assert int(after) < int(today)
    assert "rule=all" in page.url
    assert "scores=yolov3-tiny:0.9" in page.url
    expect(page.locator(".strips img").first).to_be_visible()
    check_accessible(page)
    page.get_by_role("button", name="Save as a proposed change").click()
    page.get_by_role("button", name="in force").click()
    expect(page.get_by_text("it judges the next burst")).to_be_visible()
    page.get_by_role("button", name="back").click()
    expect(page.get_by_role("heading", name="taken back")).to_be_visible()


def test_a_score_entered_while_the_numbers_of_another_rule_are_on_their_way_is_kept(browsing: Browsing) -> None:
    page = opened(browsing.page())
    held: list[Route] = []

    def hold(route: Route) -> None:
        if is_of_models(route.request):
            held.append(route)
        else:
            route.continue_()

    page.route("**/tune/**", hold)
    with page.expect_request(is_of_models):
        page.get_by_label("all models").check()
    page.get_by_role("spinbutton", name="yolov3-tiny").fill("0.9")
    [route] = held
    with page.expect_response(lambda response: is_of_models(response.request)):
        route.continue_()
    expect(page.locator("#by-model [name=was]")).to_have_value("all")
    expect(page.get_by_role("spinbutton", name="yolov3-tiny")).to_have_value("0.9")
    expect(page.get_by_role("heading", name="Today beside: all, yolov3-tiny from 0.9")).to_be_visible()


def is_of_models(request: Request) -> bool:
    return request.headers.get("hx-target") == "by-model"


def test_the_keyboard_alone_moves_a_control_and_saves_the_change(browsing: Browsing) -> None:
    page = opened(browsing.page())
    tab_to(page, "[name=rule]:checked")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("heading", name="Today beside: any")).to_be_visible()
    replayed(page)
    tab_to(page, "#result button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="proposed")).to_be_visible()


def test_without_java_script_the_form_shows_what_a_change_would_do(browsing: Browsing) -> None:
    page = browsing.page("phone", java_script=False)
    page.goto(ADDRESS)
    page.get_by_label("all models").check()
    page.get_by_role("button", name="Try it").click()
    while page.get_by_role("link", name="look again").count():
        page.get_by_role("link", name="look again").click()
    expect(page.get_by_role("heading", name="Today beside: all")).to_be_visible()
    assert len(events(page)) == 2
