"""Whether everybody can use a page, as far as axe-core can tell (its rules: dequeuniversity.com/rules/axe)."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_GRAVE = ("serious", "critical")


def check_accessible(page: Page) -> None:
    """Fails where axe-core has a serious or critical finding on the page as it stands. It runs under the page's CSP."""
    findings = [found for found in Axe().run(page).response["violations"] if found["impact"] in _GRAVE]
    assert not findings, "\n".join(line for found in findings for line in _lines(page.url, found))


def _lines(url: str, found: dict[str, Any]) -> list[str]:
    head = f"{url}: {found['id']} ({found['impact']}): {found['help']}"
    return [head, *(f"  {' '.join(map(str, node['target']))}  {node['html'][:200]}" for node in found["nodes"])]
