"""The page on a touch screen, with another machine, and when its line drops: what a finger does, and what is missed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from dmedia_transfer import documents, statusdoc
from dmedia_transfer.model import Failure, Transfer
from dmedia_transfer.states import Event, Status
from dmedia_transfer.web.stream import KEPT_EVENTS
from tests.browser import PHONE, page_in
from tests.page import FILES, KEYS, NAMES, OTHER_MACHINE, go_to, row, status_of, told, visit
from tests.waiting import eventually
from tests.web import WebHost

MOST_STEPS = 8  # of a finger on its way


def drag(page: Page, handle: Locator, target: Locator, *, lower_half: bool) -> None:
    """Put a finger on a handle, move it over to a row, let it rest there, and lift it.

    What is lifted at full speed flings, and the browser takes the next tap for the end of that.
    """
    devtools = page.context.new_cdp_session(page)
    start, end = handle.bounding_box(), target.bounding_box()
    assert start is not None
    assert end is not None
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    to_y = end["y"] + end["height"] * (0.8 if lower_half else 0.2)
    devtools.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, MOST_STEPS + 1):
        point = {"x": x, "y": y + (to_y - y) * step / MOST_STEPS}
        devtools.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    page.wait_for_timeout(200)
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_on_a_phone_a_finger_puts_the_queue_in_order_and_cancels(films: WebHost, browser: Browser) -> None:
    with page_in(browser, size=PHONE, touch=True) as page:
        visit(page, films)
        names = page.locator("#rows .name")
        expect(names).to_have_text(NAMES)
        drag(page, row(page, "Desert.mkv").locator(".grip"), row(page, "Birds.mkv"), lower_half=False)
        told(page, "“Desert.mkv” comes before “Birds.mkv” now.")
        expect(names).to_have_text(["Alps.mkv", "Desert.mkv", "Birds.mkv", "Coast.mkv"])
        drag(page, row(page, "Desert.mkv").locator(".grip"), row(page, "Coast.mkv"), lower_half=True)
        told(page, "“Desert.mkv” comes last now.")
        expect(names).to_have_text(NAMES)
        expect(page.get_by_role("complementary", name="Details")).to_be_hidden()  # a drag is no tap
        expect(page.locator(".over, .under")).to_have_count(0)

        page.get_by_role("button", name="Cancel Birds.mkv").tap()
        page.get_by_role("dialog").get_by_role("button", name="Give it up").tap()
        told(page, "Cancelled “Birds.mkv”.")
        assert status_of(films, 1) is Status.CANCELLED

        row(page, "Desert.mkv").locator(".name").tap()
        page.get_by_role("button", name="Move up").tap()
        told(page, "“Desert.mkv” comes before “Coast.mkv” now.")


def test_what_is_not_of_the_machine_that_was_chosen_says_so(films: WebHost, page: Page) -> None:
    line = {"file_id": FILES[3].file_id, "action": "download", "id": "E" * 24}
    films.documents.put(documents.new_machine(OTHER_MACHINE, "tv", time=1.0) | {"queue": [line]})
    gone = Transfer(KEYS[1], status=Status.FAILED, failure=Failure("NoSource", "no store has it"))
    films.documents.put(
        statusdoc.write_status(OTHER_MACHINE, [], finished=[statusdoc.Finished(gone, time=40.0)], time=50.0)
    )
    try:
        visit(page, films)
        page.locator("#machine").select_option("tv")
        expect(page.locator("#rows .name")).to_have_text(["Desert.mkv"])
        expect(page.locator("#whose")).to_be_hidden()
        row(page, "Desert.mkv").click()
        page.get_by_label("also where a connection costs").check()
        told(page, "“Desert.mkv” may go on where a connection costs.")
        eventually(lambda: films.documents.raws[OTHER_MACHINE]["queue"][0].get("metered"))
        go_to(page, "History")
        expect(page.locator("#history")).to_contain_text("failed: no store has it")
        expect(page.locator("#whose")).to_be_hidden()
        for view, words in (("Limits", "limits of"), ("Stores", "as they are seen from"), ("Jobs", "verifications of")):
            go_to(page, view)
            expect(page.locator("#whose")).to_contain_text(f"{words} this machine, desk.")
        page.locator("#machine").select_option("desk (this machine)")
        go_to(page, "Limits")
        expect(page.locator("#whose")).to_be_hidden()
    finally:
        del films.documents.raws[OTHER_MACHINE]
        del films.documents.raws[statusdoc.transfers_id(OTHER_MACHINE)]


@contextmanager
def line_that_drops(page: Page, web: WebHost) -> Iterator[list[str]]:
    """Within this, no events come; gives what the page asks for from then on."""
    asked: list[str] = []
    dropped = True

    def note(request: Request) -> None:
        asked.append(request.url.partition("/api/v1")[2])

    def pass_or_not(route: Route) -> None:
        if dropped:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/api/v1/events*", pass_or_not)
    page.on("request", note)
    web.cut()
    expect(page.locator("#connection")).to_have_text("connection lost, trying again")
    try:
        yield asked
    finally:
        dropped = False
    expect(page.locator("#connection")).to_have_text("connected")


def test_a_dropped_line_misses_nothing_and_nothing_is_loaded_again(films: WebHost, page: Page) -> None:
    visit(page, films)
    expect(page.locator("#rows .name")).to_have_text(NAMES)
    with line_that_drops(page, films) as asked:
        films.main.call(films.control.on, KEYS[1], Event.PAUSE)
        films.main.call(films.control.remove, KEYS[2])
        films.main.call(films.control.move, KEYS[0], 20_000_000, rate=5_000_000.0, eta_s=12.0)
        films.main.call(films.control.change, KEYS[3], priority=10)
    expect(page.locator("#rows .name")).to_have_text(["Desert.mkv", "Alps.mkv", "Birds.mkv"])
    expect(row(page, "Birds.mkv")).to_contain_text("paused")
    expect(row(page, "Alps.mkv")).to_contain_text("19.1 MiB of 76.3 MiB")
    life = films.server._api.stream.life
    assert any(f"last_event_id={life}." in each for each in asked)
    assert not any(each.startswith("/transfers") for each in asked)


def test_a_line_that_was_away_for_too_long_loads_all_of_it_again(films: WebHost, page: Page) -> None:
    visit(page, films)
    expect(page.locator("#rows .name")).to_have_text(NAMES)
    try:
        with line_that_drops(page, films) as asked:
            films.keep_events(2)
            films.main.call(films.control.remove, KEYS[2])
            for priority in range(1, 6):
                films.main.call(films.control.change, KEYS[3], priority=priority)
                films.get("/transfers?limit=1")  # what has changed is an event of its own by now
        expect(page.locator("#rows .name")).to_have_text(["Desert.mkv", "Alps.mkv", "Birds.mkv"])
        eventually(lambda: any(each.startswith("/transfers?") for each in asked))
    finally:
        films.keep_events(KEPT_EVENTS)
