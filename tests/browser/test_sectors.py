"""Sectors drawn in a real browser, by mouse, by touch and by keyboard alone: tried, saved, put in force, taken back."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect

from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, Size, screenshot
from tests.browser.filling import VIEWER, YARD

GATE = "/sectors/yard/gate"


def opened(page: Page, address: str = GATE) -> Page:
    """The page, once its script is there."""
    page.goto(address)
    expect(page.get_by_role("button", name="New sector")).to_be_visible()
    return page


def click_at(page: Page, x: float, y: float) -> None:
    """Click into the picture, in 0..1 of it."""
    box = seen(page.locator("#shapes"))
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def seen(what: Locator) -> FloatRect:
    """Where it is on the screen, to which the page is scrolled."""
    what.scroll_into_view_if_needed()
    box = what.bounding_box()
    assert box is not None
    return box


def corner(page: Page, name: str, number: int) -> Locator:
    return page.get_by_role("button", name=f"Corner {number} of {name}")


def file(page: Page) -> str:
    """The text of the site's file."""
    return str(told(page)["text"])


def told(page: Page) -> Any:
    answer = page.request.get(f"/v1{GATE}")
    assert answer.ok
    return answer.json()


def sent(page: Page) -> str:
    """What the form would send of the drawing."""
    return page.locator("#shapes-json").input_value()


def test_a_sector_drawn_by_mouse_is_tried_saved_put_in_force_and_taken_back(browsing: Browsing) -> None:
    page = opened(browsing.page())
    page.get_by_role("button", name="New sector").click()
    for x, y in ((0.1, 0.6), (0.3, 0.6), (0.3, 0.9), (0.1, 0.9)):
        click_at(page, x, y)
    page.get_by_label("Name of sector-1").fill("bench")
    page.get_by_label("Name of sector-1").press("Enter")
    figures = page.locator("#preview .figures")
    expect(figures).to_contain_text("Saturday 28 November 2026:", timeout=60_000)
    expect(page.locator("#preview progress")).to_have_count(0, timeout=60_000)
    expect(page.locator("#preview tr", has_text="bench")).to_contain_text("person")
    expect(page.locator("#labels")).to_contain_text("bench")
    check_accessible(page)
    screenshot(page, "sectors-drawn-desktop")

    page.get_by_label("Why").fill("people wait there")
    page.get_by_role("button", name="Save as a proposal").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("proposed")
    expect(page.locator("pre").first).to_contain_text("+[cameras.gate.sectors.bench]")
    assert file(page) == YARD
    expect(page.locator("#preview .figures")).to_be_visible(timeout=60_000)
    expect(page.locator("#preview progress")).to_have_count(0, timeout=60_000)
    check_accessible(page)

    page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("in force")
    assert file(page).startswith(YARD.rstrip())
    assert "# where people sit" in file(page)
    assert [each["name"] for each in told(page)["shapes"]["sectors"]] == ["road", "table", "bench"]

    page.get_by_role("button", name="Take back").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("taken back")
    assert file(page) == YARD


def test_a_sector_gets_another_name_and_the_preview_says_what_keeps_the_old_one(browsing: Browsing) -> None:
    page = opened(browsing.page())
    page.get_by_label("Name of table").fill("road")
    page.get_by_label("Name of table").press("Enter")
    expect(page.get_by_text("There is a sector road already.")).to_be_visible()
    page.get_by_label("Name of table").fill("patio")
    page.get_by_label("Name of table").press("Enter")
    assert sent(page) == '{"sectors":{},"lines":{},"ignored":{},"renamed":{"table":"patio"}}'
    expect(page.locator("#preview")).to_contain_text("sector table is renamed patio", timeout=60_000)
    page.get_by_role("button", name="Save as a proposal").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("proposed")
    expect(page.locator("pre").first).to_contain_text("+[cameras.gate.sectors.patio]")
    assert file(page) == YARD


def test_a_corner_is_dragged_and_a_click_adds_one_where_it_is_nearest(browsing: Browsing, size: Size) -> None:
    page = opened(browsing.page(size))
    page.get_by_role("button", name="Sector table").first.click()
    box = seen(corner(page, "table", 1))
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 20, steps=4)
    page.mouse.up()
    moved = sent(page)
    assert '"table":[[0.5' in moved
    assert "[0.55,0.78]" not in moved
    click_at(page, 0.75, 0.97)
    expect(corner(page, "table", 5)).to_be_visible()
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    screenshot(page, f"sectors-{size}")


def test_a_touch_adds_a_corner(browsing: Browsing) -> None:
    page = opened(browsing.page("phone"))
    page.get_by_role("button", name="New ignored area").click()
    box = seen(page.locator("#shapes"))
    for x, y in ((0.2, 0.2), (0.4, 0.4)):
        page.touchscreen.tap(box["x"] + x * box["width"], box["y"] + y * box["height"])
    expect(corner(page, "ignored-1", 2)).to_be_visible()
    assert sent(page).startswith('{"sectors":{},"lines":{},"ignored":{"ignored-1":[0.')


def test_a_keyboard_alone_draws_moves_adds_deletes_undoes_saves_and_takes_back(browsing: Browsing) -> None:
    page = opened(browsing.page())
    page.get_by_role("button", name="New line").press("Enter")
    expect(corner(page, "line-1", 1)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(corner(page, "line-1", 1)).to_be_focused()
    assert '"line-1":{"a":[0.505,0.35],"b":[0.5,0.65],"directions":["in","out"]}' in sent(page)
    page.keyboard.press("Tab")
    expect(corner(page, "line-1", 2)).to_be_focused()
    page.keyboard.press("Shift+ArrowDown")
    assert '"b":[0.5,0.7]' in sent(page)

    page.get_by_role("button", name="Sector table").first.press("Enter")
    corner(page, "table", 2).focus()
    page.keyboard.press("Enter")
    expect(corner(page, "table", 3)).to_be_focused()
    assert "[0.92,0.89]" in sent(page)
    page.keyboard.press("Delete")
    assert '"table"' not in sent(page)
    page.keyboard.press("Escape")
    assert "[0.92,0.89]" in sent(page)
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Save as a proposal").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("proposed")
    page.get_by_role("button", name="Put in force").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("in force")
    assert "[cameras.gate.lines.line-1]\na = [0.505, 0.35]\nb = [0.5, 0.7]" in file(page)
    page.get_by_role("button", name="Take back").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("taken back")
    assert file(page) == YARD


def test_the_ways_of_a_line_stand_on_the_sides_they_lead_to(browsing: Browsing) -> None:
    page = opened(browsing.page())
    labels = page.locator("#labels span")
    middle = {words: box["x"] + box["width"] / 2 for words in ("inward", "outward") if (box := _box(labels, words))}
    assert middle["outward"] < (_box(page.locator("#shapes path.line"), "") or {"x": 0.0})["x"] < middle["inward"]


def test_a_fault_stands_at_its_sector(browsing: Browsing) -> None:
    page = opened(browsing.page())
    page.get_by_role("button", name="New sector").click()
    for x, y in ((0.1, 0.1), (0.3, 0.3), (0.3, 0.1), (0.1, 0.3)):
        click_at(page, x, y)
    expect(page.locator("#preview .fault")).to_contain_text("cross", timeout=30_000)
    expect(page.locator("#shapes path.faulty[data-shape='sectors.sector-1']")).to_be_attached()


def test_a_mask_is_given_as_a_line_for_the_agent(browsing: Browsing) -> None:
    page = opened(browsing.page())
    page.get_by_role("button", name="New mask").press("Enter")
    expect(page.locator("#masks-text")).to_have_value("masks = [[[0.4,0.4],[0.6,0.4],[0.6,0.6],[0.4,0.6]]]")
    assert sent(page) == ""
    check_accessible(page)


def test_past_tracks_are_shown_under_the_shapes(browsing: Browsing) -> None:
    page = opened(browsing.page())
    expect(page.locator("#paths polyline").first).to_be_attached(timeout=60_000)


def test_a_sector_is_changed_as_text_without_java_script(browsing: Browsing) -> None:
    page = browsing.page("phone", java_script=False)
    page.goto(GATE)
    expect(page.locator("#list")).to_contain_text("Sector road")
    page.get_by_text("As a text: yard.toml").click()
    text = page.locator("#text")
    text.fill(text.input_value().replace("[0.92, 0.78]", "[0.9, 0.78]"))
    page.get_by_role("button", name="Save as a proposal").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("proposed")
    expect(page.locator("pre").first).to_contain_text("[0.9, 0.78]")
    assert file(page) == YARD


@pytest.mark.parametrize("address", [GATE, "/sectors/yard/shed", "/sectors/pets/view2"])
def test_a_viewer_sees_the_shapes_in_the_dark_and_has_nothing_to_draw_with(browsing: Browsing, address: str) -> None:
    page = browsing.page("phone", user=VIEWER, colours="dark")
    page.goto(address)
    expect(page.locator("main")).to_contain_text("not change it")
    expect(page.get_by_role("button", name="New sector")).to_have_count(0)
    check_accessible(page)


def _box(among: Locator, words: str) -> Any:
    found = among.filter(has_text=words).first if words else among.first
    return found.bounding_box()
