"""A real browser: Debian's Chromium, headless, with nothing of its own that talks to anybody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.waiting import WAIT_S

# Debian's name; Ubuntu's and Google's for those who have no Debian.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP *.localhost 127.0.0.1",
]
DESKTOP = (1280, 800)
PHONE = (390, 800)
WAIT_MS = 1000 * WAIT_S
AXE = Path(__file__).parent / "javascript" / "node_modules" / "axe-core" / "axe.min.js"


def find_chromium() -> str:
    """Where it is; a test that needs a browser fails without one."""
    for name in NAMES:
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.fail(f"no browser: none of {', '.join(NAMES)} is installed (`make apt-test` installs Debian's chromium)")


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser, for a while. Each of its pages has a profile of its own, which is thrown away."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_in(browser: Browser, *, size: tuple[int, int] = DESKTOP, touch: bool = False) -> Iterator[Page]:
    """A page that nobody has opened, maybe on a touch screen; whatever goes wrong in it fails the test."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="light",
        has_touch=touch,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None,
    )
    try:
        yield page
        assert wrong == []
    finally:
        context.close()


def violations(page: Page, *rules: str) -> list[str]:
    """What axe-core finds wrong with the page as it is now; by these rules, or by all."""
    # Through the debugger, as the page's own policy lets no code in.
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    only = {"runOnly": list(rules)} if rules else {}
    found = page.evaluate("settings => axe.run(document, settings)", {"resultTypes": ["violations"], **only})[
        "violations"
    ]
    return [f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']][:3]}" for each in found]
