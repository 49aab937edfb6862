"""The page of an event in a browser: its pictures, and answers by one key each."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.accessibility import check_accessible
from tests.browser.browsing import Browsing, press, screenshot


def first_event(page: Page, kind: str = "entered", sector: str = "table") -> str:
    """The address of the first event of a kind at the gate."""
    page.goto("/now")
    events = page.request.get(f"/v1/events?site=yard&camera=gate&kind={kind}&limit=100").json()["events"]
    return "/events/" + next(each["id"] for each in events if sector in (each["sector"], each["line"]))


def test_an_event_shows_its_pictures_with_what_was_seen_in_them(page: Page, size: str) -> None:
    page.goto(first_event(page))
    expect(page.get_by_role("heading", level=1)).to_contain_text("person entered table")
    deciding = page.get_by_label("The deciding frame")
    expect(deciding.locator("img")).to_be_visible()
    assert deciding.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")
    expect(deciding).to_contain_text("needed")
    assert deciding.locator("svg .box.mine").count() >= 1
    assert deciding.locator("svg .course").count() >= 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is wider than the page"
    check_accessible(page)
    screenshot(page, f"event-{size}")


def test_verify_shows_its_checks_without_another_page(page: Page) -> None:
    page.goto(first_event(page, "crossed", "fence"))
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#verify")).to_contain_text("checks hold")
    check_accessible(page)


def test_events_are_judged_by_one_key_each_and_undone(browsing: Browsing) -> None:
    page = browsing.page("desktop")
    page.goto(f"{first_event(page, 'left', 'road')}?site=yard&kind=left&unjudged=yes")
    seen: list[str] = []
    for key in "tftft":
        seen.append(page.url.split("/events/")[1][:32])
        press(page, key)
        expect(page.get_by_role("button", name="True")).to_be_visible()
    assert len(set(seen)) == 5
    press(page, "u")
    assert f"/events/{seen[-1]}" in page.url
    expect(page.get_by_role("status")).to_contain_text("Taken back: true")
    made = page.request.get("/v1/annotations?site=yard&limit=1000").json()["annotations"]
    truths = {each["subject"]: each["truth"] for each in made}
    assert [truths[event] for event in seen] == ["true", "false", "true", "false", "unsure"]


def test_keys_go_on_and_back_and_open_the_form_for_what_was_missed(browsing: Browsing) -> None:
    page = browsing.page("desktop")
    page.goto(f"{first_event(page)}?site=yard&camera=gate")
    first = page.url
    press(page, "j")
    assert page.url != first
    press(page, "k")
    assert page.url == first
    page.keyboard.press("m")
    expect(page.get_by_label("What")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("jtf")
    assert page.url == first, "nothing is judged while somebody types"
    page.get_by_label("Target").fill("person")
    page.get_by_label("What").select_option("entered|road")
    with page.expect_navigation():
        page.get_by_role("button", name="Note it").click()
    expect(page.get_by_role("status")).to_contain_text("Noted: person entered road")
    page.evaluate(
        "document.addEventListener('submit', (sent) => { sent.preventDefault(); document.body.dataset.sent = 'yes'; })"
    )
    page.get_by_label("Note").first.fill("the postman")
    page.keyboard.press("Enter")
    assert page.locator("body[data-sent]").count() == 0, "Enter in the note chooses no answer"
    expect(page.locator(".answer")).to_contain_text("Nobody has judged this event yet")
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_text("undo", exact=True)).to_be_visible()


def test_without_java_script_the_buttons_are_forms(browsing: Browsing) -> None:
    page = browsing.page("phone", java_script=False)
    page.goto(first_event(page, "presence_ended", "road"))
    page.get_by_role("button", name="False").click()
    expect(page.get_by_role("button", name="Undo the last answer")).to_be_visible()
    page.get_by_role("button", name="Undo the last answer").click()
    expect(page.get_by_role("status")).to_contain_text("Taken back: false")


def test_keys_can_be_turned_off_and_stay_off_on_other_pages(browsing: Browsing) -> None:
    page = browsing.page("desktop")
    page.goto(f"{first_event(page)}?site=yard&camera=gate")
    first = page.url
    page.get_by_text("Keys", exact=True).click()
    page.get_by_label("Keys are on").uncheck()
    page.reload()
    keys = page.locator(".keys")
    for key in "m?jtf":
        page.keyboard.press(key)
    expect(keys).not_to_have_attribute("open", "")
    expect(page.locator(".missed")).not_to_have_attribute("open", "")
    assert page.url == first
    keys.locator("summary").click()
    page.get_by_label("Keys are on").check()
    press(page, "j")
    assert page.url != first
