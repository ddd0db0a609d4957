"""A page that somebody looks at: four films on their way, and what a person sees and does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from dmedia_transfer.model import Direction, Progress, Transfer, TransferKey
from dmedia_transfer.states import Event, Status
from tests.browser import WAIT_MS, browsing, page_in
from tests.factories import content, file_spec
from tests.web import WebHost

OTHER_MACHINE = "N" * 24
NAMES = ["Alps.mkv", "Birds.mkv", "Coast.mkv", "Desert.mkv"]
FILES = [file_spec(content(1000, seed=seed)) for seed in range(len(NAMES))]
KEYS = [TransferKey(Direction.DOWNLOAD, file.file_id, "") for file in FILES]

expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that nobody has opened."""
    with page_in(browser) as page:
        yield page


@pytest.fixture
def films(web: WebHost) -> WebHost:
    """Four downloads: one that moves, and three that wait."""
    for number, (file, name) in enumerate(zip(FILES, NAMES, strict=True)):
        web.add_file(file, name=name)
        web.main.call(web.control.add, Transfer(KEYS[number], progress=Progress(0, 80_000_000), order=number))
    web.main.call(web.control.on, KEYS[0], Event.START)
    return web


def visit(page: Page, web: WebHost) -> None:
    """Open the page by the link, as `dmedia-transfer web` tells it."""
    page.goto(web.post("/links", status=201)["url"])
    expect(page.locator("#connection")).to_have_text("connected")


def go_to(page: Page, view: str) -> None:
    """Look at another view."""
    link = page.get_by_role("navigation").get_by_role("link", name=view)
    link.click()
    expect(link).to_have_attribute("aria-current", "page")


def row(page: Page, name: str) -> Locator:
    """The row of a file."""
    return page.get_by_role("listitem").filter(has_text=name)


def told(page: Page, text: str) -> None:
    """The outcome of what was done is told."""
    expect(page.locator("#toasts").get_by_text(text)).to_be_visible()


def status_of(web: WebHost, number: int) -> Status | None:
    """What the manager says of a film."""
    found = web.control.transfers().get(KEYS[number])
    return found.status if found else None
