"""The page Channels in a browser: why does nothing arrive, pause, go on, and delete a letter, by keyboard alone."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, Size
from tests.browser.filling import OF_YARD, PHONE, VIEWER


def test_why_nothing_arrives_is_read_and_the_channel_paused_and_resumed_by_keyboard_alone(page: Page) -> None:
    page.goto("/channels")
    phone = page.get_by_role("region", name=PHONE)
    expect(phone).to_contain_text("ConnectionError: receiver.example.org is away")
    expect(phone).to_contain_text("announcements, the oldest since 2026-11-")
    log = page.get_by_role("region", name="log")
    press(log.get_by_role("button", name="Pause log"))
    expect(page.get_by_role("status")).to_have_text("Channel log is paused.")
    expect(log).to_contain_text("Paused since")
    check_accessible(page)
    press(log.get_by_role("button", name="Resume log", exact=True))
    expect(page.get_by_role("status")).to_have_text("Channel log sends again.")
    expect(page.get_by_role("region", name="old-pager")).to_contain_text("so nobody sends on it")


def test_a_dead_letter_leads_to_its_event_and_is_sent_again_or_deleted(browsing: Browsing, size: Size) -> None:
    page = browsing.page(size)
    page.goto(f"/channels?channel={PHONE}#letters")
    rows = page.get_by_role("region", name="Dead letters").locator("tbody tr")
    count = rows.count()
    expect(rows.last).to_contain_text("410 Gone")
    number = rows.first.get_by_role("rowheader").inner_text()
    press(rows.last.get_by_role("link"))
    page.wait_for_url("**/events/*")
    page.go_back()
    press(page.get_by_role("button", name=f"Delete letter {number}"))
    expect(page.get_by_role("status")).to_have_text(f"1 of {PHONE} deleted. The events stay in the log.")
    expect(rows).to_have_count(count - 1)


def test_who_may_not_change_it_sees_no_button_and_who_reads_one_site_no_page(browsing: Browsing) -> None:
    page = browsing.page(user=VIEWER)
    page.goto("/channels")
    expect(page.get_by_role("region", name=PHONE)).to_be_visible()
    expect(page.locator("main").get_by_role("button")).to_have_count(0)
    page = browsing.page(user=OF_YARD)
    page.goto("/now")
    expect(page.get_by_role("link", name="Channels")).to_have_count(0)
    with browsing.watch.expecting(page, "status of 403"):
        page.goto("/channels")
    check_accessible(page)


def press(target: Locator) -> None:
    """Press it with the keyboard."""
    target.focus()
    target.press("Enter")
