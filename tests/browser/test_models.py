"""The page Models in a browser: from its name in the navigation to who disagrees with people, by keyboard alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.browsing import press


def test_the_models_are_found_and_their_votes_compared_by_keyboard_alone(page: Page) -> None:
    page.goto("/now")
    link = page.get_by_role("link", name="Models", exact=True)
    link.focus()
    press(page, "Enter")
    assert page.url.endswith("/ensemble")
    assert link.get_attribute("aria-current") == "page"
    assert page.get_by_role("heading", name="Against what people said").is_visible()
    table = page.get_by_role("region", name="Against what people said")
    assert table.locator("tbody tr").count() >= 2
    for _ in range(60):
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Against what people said":
            break
        page.keyboard.press("Tab")
    else:
        pytest.fail("the table cannot be reached by Tab, so a phone's keyboard cannot scroll it")
