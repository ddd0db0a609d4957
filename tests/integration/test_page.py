"""The page in a real browser, used as a person does: looking, steering, adding, by mouse and by keys alone."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from dmedia_transfer import documents
from dmedia_transfer.errors import NoSource, StoreMissing
from dmedia_transfer.model import (
    Direction,
    FileOutcome,
    JobProblem,
    Progress,
    SourceState,
    SourceUse,
    Transfer,
    TransferKey,
)
from dmedia_transfer.ports import Pieces
from dmedia_transfer.states import Event, Reason, Status
from dmedia_transfer.web.server import WebServer
from tests.browser import DESKTOP, PHONE, page_in, violations
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.page import FILES, KEYS, NAMES, OTHER_MACHINE, go_to, row, status_of, told, visit
from tests.waiting import eventually
from tests.web import SECRET, WebHost

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = os.environ.get("DMEDIA_TEST_PICTURES")  # set: docs/page-*.png are made anew


def test_the_link_opens_the_page_which_shows_how_far_how_fast_and_how_long_still(films: WebHost, page: Page) -> None:
    visit(page, films)
    assert page.url == f"{page.url.partition('/open')[0].rstrip('/')}/"  # the link is not in the address any more
    names = page.locator("#rows .name")
    expect(names).to_have_text(NAMES)
    alps = row(page, "Alps.mkv")
    films.main.call(films.control.move, KEYS[0], 20_000_000, rate=5_000_000.0, eta_s=12.0)
    expect(alps).to_contain_text("19.1 MiB of 76.3 MiB")
    expect(alps).to_contain_text("5.0 MB/s, 12 s left")
    expect(alps.get_by_role("progressbar", name="Progress of Alps.mkv")).to_have_js_property("value", 25)
    expect(page.locator("#rate-down")).to_have_text("↓ 5.0 MB/s")
    expect(page.locator("#peak")).to_have_text("10 minutes, up to 5.0 MB/s")
    films.main.call(films.control.on, KEYS[1], Event.SUSPEND, Reason.METERED)
    expect(row(page, "Birds.mkv")).to_contain_text("waits for a connection")
    films.main.call(films.control.remove, KEYS[0])
    expect(names).to_have_text(NAMES[1:])


def test_buttons_pause_resume_retry_and_cancel_and_the_outcome_is_told(films: WebHost, page: Page) -> None:
    visit(page, films)
    page.get_by_role("button", name="Pause Birds.mkv").click()
    told(page, "Paused “Birds.mkv”.")
    assert status_of(films, 1) is Status.PAUSED
    page.get_by_role("button", name="Resume Birds.mkv").click()
    told(page, "“Birds.mkv” goes on.")
    assert status_of(films, 1) is Status.QUEUED

    films.main.call(films.control.fail, KEYS[2], NoSource("no store has it"))
    expect(row(page, "Coast.mkv")).to_contain_text("failed: no store has it")
    page.get_by_role("button", name="Retry Coast.mkv").click()
    told(page, "“Coast.mkv” is tried again.")
    assert status_of(films, 2) is Status.QUEUED

    page.get_by_role("button", name="Cancel Desert.mkv").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    assert status_of(films, 3) is Status.QUEUED
    page.get_by_role("button", name="Cancel Desert.mkv").click()
    page.get_by_role("dialog").get_by_role("button", name="Give it up").click()
    told(page, "Cancelled “Desert.mkv”.")
    assert status_of(films, 3) is Status.CANCELLED

    films.control.fail_with = StoreMissing("the drive is not there")
    page.get_by_role("button", name="Pause Birds.mkv").click()
    told(page, "the drive is not there")
    page.get_by_role("button", name="Pause all").click()
    told(page, "The whole queue is paused.")
    expect(page.get_by_role("button", name="Resume all")).to_have_attribute("aria-pressed", "true")
    assert films.control.summary().queue_paused


def test_without_a_mouse_all_of_it_is_done_by_keys(films: WebHost, page: Page) -> None:
    visit(page, films)
    expect(row(page, "Desert.mkv")).to_be_visible()
    page.locator("#find").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Keys", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("pause or resume")).to_be_visible()
    page.keyboard.press("Tab")
    expect(row(page, "Alps.mkv")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(row(page, "Birds.mkv")).to_be_focused()
    page.keyboard.press(" ")
    told(page, "Paused “Birds.mkv”.")
    assert status_of(films, 1) is Status.PAUSED
    page.keyboard.press(" ")
    told(page, "“Birds.mkv” goes on.")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Details")).to_contain_text("Birds.mkv")
    page.keyboard.press("Escape")
    expect(row(page, "Birds.mkv")).to_be_focused()
    # A higher priority takes it, and the focus with it, to the top.
    page.keyboard.press("+")
    told(page, "“Birds.mkv” has priority high.")
    expect(page.locator("#rows .name")).to_have_text(["Birds.mkv", "Alps.mkv", "Coast.mkv", "Desert.mkv"])
    expect(row(page, "Birds.mkv")).to_be_focused()
    page.keyboard.press("End")
    expect(row(page, "Desert.mkv")).to_be_focused()
    page.keyboard.press("Delete")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    told(page, "Cancelled “Desert.mkv”.")
    assert status_of(films, 3) is Status.CANCELLED
    films.main.call(films.control.fail, KEYS[2], NoSource("no store has it"))
    expect(row(page, "Coast.mkv")).to_contain_text("failed")
    row(page, "Coast.mkv").focus()
    page.keyboard.press("r")
    told(page, "“Coast.mkv” is tried again.")
    # What goes leaves the focus with its neighbour, and not nowhere.
    films.main.call(films.control.remove, KEYS[2])
    expect(page.locator("#rows li:focus")).to_have_count(1)


def test_the_queue_is_put_in_another_order_by_dragging_and_by_keys(films: WebHost, page: Page) -> None:
    visit(page, films)
    names = page.locator("#rows .name")
    expect(names).to_have_text(NAMES)
    row(page, "Desert.mkv").drag_to(
        row(page, "Birds.mkv"), source_position={"x": 80, "y": 12}, target_position={"x": 80, "y": 12}
    )
    told(page, "“Desert.mkv” comes before “Birds.mkv” now.")
    expect(names).to_have_text(["Alps.mkv", "Desert.mkv", "Birds.mkv", "Coast.mkv"])
    row(page, "Birds.mkv").focus()
    page.keyboard.press("Alt+ArrowDown")
    told(page, "“Birds.mkv” comes last now.")
    expect(names).to_have_text(["Alps.mkv", "Desert.mkv", "Coast.mkv", "Birds.mkv"])
    expect(row(page, "Birds.mkv")).to_be_focused()
    page.keyboard.press("Alt+ArrowUp")
    told(page, "“Birds.mkv” comes before “Coast.mkv” now.")
    expect(names).to_have_text(["Alps.mkv", "Desert.mkv", "Birds.mkv", "Coast.mkv"])


def test_a_file_of_the_library_is_found_and_asked_for(web: WebHost, page: Page) -> None:
    web.add_file(FILES[0], name="Alps.mkv")
    visit(page, web)
    expect(page.get_by_text("Nothing is on its way")).to_be_visible()
    page.get_by_role("button", name="Add").click()
    box = page.get_by_role("dialog", name="Add a transfer")
    box.get_by_label("Name or ID").fill("nothing")
    expect(box.get_by_role("status")).to_have_text("No file is called so.")
    box.get_by_label("Name or ID").fill("Alps.mkv")
    box.get_by_label("Priority").select_option("high")
    box.get_by_role("button", name="Download Alps.mkv").click()
    told(page, "Download of “Alps.mkv” is asked for.")
    expect(row(page, "Alps.mkv")).to_contain_text("waiting")
    assert [(one.file_id, one.priority) for one in web.control.entries] == [(FILES[0].file_id, 10)]


DROP = """([name, text]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([text], name, {type: "text/plain"}));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
    }
}"""


def test_a_file_that_is_dropped_is_sent_and_is_in_the_library_then(web: WebHost, page: Page) -> None:
    if STORE_ID not in web.documents.raws:
        web.add_filestore(name="disk")
    visit(page, web)
    page.evaluate(DROP, ["notes.txt", "what was dropped"])
    told(page, "“notes.txt” is in the library.")
    expect(page.locator("#uploads li")).to_have_count(0)
    file = web.entered[-1]
    assert file.name == "notes.txt"
    path = web.filestores.path(file.file_id)
    assert path is not None
    assert Path(path).read_text(encoding="utf-8") == "what was dropped"


def test_sending_a_file_is_paused_goes_on_over_a_cut_connection_and_is_given_up(web: WebHost, page: Page) -> None:
    if STORE_ID not in web.documents.raws:
        web.add_filestore(name="disk")
    data = content(300_000, seed=5)
    cut = 2
    sent: list[str] = []

    def unreliable(route: Route) -> None:
        nonlocal cut
        sent.append(route.request.method)
        if route.request.method == "PATCH" and cut:
            cut -= 1
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/api/v1/uploads/*", unreliable)
    visit(page, web)
    page.get_by_role("button", name="Add").click()
    page.get_by_label("New files").set_input_files(
        {"name": "clip.bin", "mimeType": "application/octet-stream", "buffer": data}
    )
    told(page, "“clip.bin” is in the library.")
    assert sent.count("HEAD") == 2  # each time it asked how far it is
    path = web.filestores.path(web.entered[-1].file_id)
    assert path is not None
    assert Path(path).read_bytes() == data

    cut = 1_000_000
    page.evaluate(DROP, ["other.txt", "something else"])
    page.get_by_role("button", name="Pause sending other.txt").click()
    expect(page.get_by_role("listitem").filter(has_text="other.txt")).to_contain_text("paused")
    page.get_by_role("button", name="Resume sending other.txt").click()
    page.get_by_role("button", name="Cancel sending other.txt").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    told(page, "“other.txt” is not sent.")
    assert sent[-1] == "DELETE"
    assert [file.name for file in web.entered if file.name == "other.txt"] == []


def test_the_details_tell_the_error_what_to_do_and_each_source(films: WebHost, page: Page) -> None:
    films.add_file(FILES[0], STORE_ID, OTHER_STORE_ID, name="Alps.mkv")
    uses = (
        SourceUse(STORE_ID, 30_000_000, 2_000_000.0, SourceState.ACTIVE),
        SourceUse(OTHER_STORE_ID, 1000, 0.0, SourceState.DEMOTED, "it sends what is not the file"),
    )
    films.main.call(films.control.change, KEYS[0], sources=uses)
    films.control.on_their_way[KEYS[0]] = Pieces((2, 3), (5,))
    visit(page, films)
    row(page, "Alps.mkv").click()
    aside = page.get_by_role("complementary", name="Details")
    expect(aside.get_by_role("row").filter(has_text="gives")).to_contain_text("28.6 MiB2.0 MB/s")
    expect(aside.get_by_role("row").filter(has_text="set aside")).to_contain_text("it sends what is not the file")
    expect(aside.locator(".map i")).to_have_count(10)  # of 8 MiB each
    expect(aside.locator(".legend")).to_have_text("0 there7 missing2 in flight1 bad")
    expect(aside.locator(".map .bad")).to_have_count(1)
    aside.get_by_label("Priority").select_option("now")
    told(page, "“Alps.mkv” has priority now.")
    aside.get_by_label("also where a connection costs").check()
    eventually(lambda: films.control.transfers()[KEYS[0]].metered)
    films.main.call(films.control.fail, KEYS[0], NoSource("no store has it"))
    expect(aside).to_contain_text("no store has it")
    aside.get_by_role("button", name="Retry").click()
    told(page, "“Alps.mkv” is tried again.")


def test_of_ten_thousand_transfers_only_those_that_are_seen_are_in_the_document(web: WebHost, page: Page) -> None:
    ids = [f"{number:048d}".translate(str.maketrans("0189", "ABCD")) for number in range(10_000)]

    def add_all() -> None:
        for number, file_id in enumerate(ids):
            web.control.add(Transfer(TransferKey(Direction.DOWNLOAD, file_id, ""), order=number))

    web.main.call(add_all)
    visit(page, web)
    expect(page.locator("#shown")).to_have_text("10000 in all")
    rows = page.locator("#rows > li")
    expect(rows.first).to_have_attribute("aria-setsize", "10000")
    page.locator("#list").hover()
    for _ in range(20):
        page.mouse.wheel(0, 30_000)
        assert rows.count() < 60
    page.locator("#list").evaluate("box => { box.scrollTop = box.scrollHeight / 2; }")
    expect(page.locator("#rows > li[aria-posinset='5001']")).to_be_visible()
    assert rows.count() < 60
    rows.nth(3).focus()
    page.keyboard.press("End")
    last = page.locator("#rows > li[aria-posinset='10000']")
    expect(last).to_be_focused()
    expect(last).to_contain_text(ids[-1][:12])
    # The focused row stays where it is, whatever is scrolled to, and keys go on from there.
    page.locator("#list").evaluate("box => { box.scrollTop = 0; }")
    expect(page.locator("#rows > li[aria-posinset='1']")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#rows > li[aria-posinset='9999']")).to_be_focused()
    page.locator("#find").fill(ids[4321])
    expect(rows).to_have_count(1)
    expect(page.locator("#shown")).to_have_text("1 of 10000")
    page.get_by_label("Show").select_option("failed")
    expect(page.get_by_text("No transfer is so.")).to_be_visible()


def test_another_machine_is_looked_at_and_told_what_to_do(films: WebHost, page: Page) -> None:
    line = {"file_id": FILES[3].file_id, "action": "download", "id": "E" * 24}
    films.documents.put(documents.new_machine(OTHER_MACHINE, "tv", time=1.0) | {"queue": [line]})
    visit(page, films)
    page.locator("#machine").select_option("tv")
    expect(page.locator("#rows .name")).to_have_text(["Desert.mkv"])
    expect(page.locator("#note")).to_contain_text("This is tv")
    page.get_by_role("button", name="Pause Desert.mkv").click()
    told(page, "Paused “Desert.mkv”.")
    assert films.documents.raws[OTHER_MACHINE]["queue"][0]["paused"] is True
    expect(page.get_by_role("button", name="Resume Desert.mkv")).to_be_visible()
    page.locator("#machine").select_option("desk (this machine)")
    expect(page.locator("#rows .name")).to_have_text(NAMES)
    del films.documents.raws[OTHER_MACHINE]


def test_a_lost_connection_is_shown_and_heals_with_what_happened_meanwhile(films: WebHost, page: Page) -> None:
    visit(page, films)
    expect(page.locator("#rows .name")).to_have_text(NAMES)
    before = films.server
    films.main.call(before.stop)
    try:
        expect(page.locator("#connection")).to_have_text("connection lost, trying again")
        page.get_by_role("button", name="Pause Birds.mkv").click()
        told(page, "the daemon does not answer")
        films.main.call(films.control.remove, KEYS[0])
    finally:  # also for the tests that come after this one
        films.server = WebServer(
            films.edges(),
            secret=SECRET,
            host="127.0.0.1",
            port=before.port,
            socket_path=films.socket_path,
            call_soon=films.main.call_soon,
        )
        films.start()
    expect(page.locator("#connection")).to_have_text("connected")
    expect(page.locator("#rows .name")).to_have_text(NAMES[1:])
    films.main.call(films.control.on, KEYS[1], Event.PAUSE)
    expect(row(page, "Birds.mkv")).to_contain_text("paused")


def test_a_session_that_is_over_says_how_to_open_another(films: WebHost, page: Page) -> None:
    visit(page, films)
    pause = page.get_by_role("button", name="Pause Birds.mkv")
    expect(pause).to_be_visible()
    page.context.clear_cookies()
    pause.click()
    told(page, "this session is over")
    page.reload()
    expect(page.get_by_text("Run “dmedia-transfer web” on this machine")).to_be_visible()


def test_a_corrupt_file_that_a_verification_finds_is_shown_and_healed_by_one_click(web: WebHost, page: Page) -> None:
    if STORE_ID not in web.documents.raws:
        web.add_filestore(name="disk")
    visit(page, web)
    go_to(page, "Stores")
    page.get_by_role("button", name="Verify disk").click()
    told(page, "Every file of disk is read and proved anew")
    (job,) = web.jobs.jobs().values()
    go_to(page, "Jobs")
    card = page.get_by_role("article").filter(has_text="Verification of disk")
    card.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("paused")
    card.get_by_role("button", name="Resume").click()
    expect(card).to_contain_text("queued")
    problem = JobProblem(FileOutcome.CORRUPT, "one leaf is not what it was", file_id=FILES[0].file_id, time=1.0)
    web.jobs.found[job.id] = [problem]
    web.main.call(lambda: web.jobs.change(job.id, outcomes={FileOutcome.CORRUPT: 1}))
    card.get_by_text("1 file needs attention").click()
    card.get_by_role("button", name="Heal").click()
    told(page, "It is brought here again")
    assert web.jobs.healed == [FILES[0].file_id]
    card.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Give it up").click()
    expect(card).to_contain_text("cancelled")


def test_a_folder_is_imported_and_what_is_wrong_with_its_path_is_told(web: WebHost, page: Page) -> None:
    visit(page, web)
    go_to(page, "Jobs")
    page.get_by_label("Path").fill("Videos")
    page.get_by_role("button", name="Import").click()
    expect(page.locator("#toasts .bad")).to_be_visible()
    page.get_by_label("Path").fill("/srv/Videos")
    page.get_by_role("button", name="Import").click()
    told(page, "The import has begun.")
    expect(page.get_by_role("article")).to_contain_text("Import of /srv/Videos")
    assert [job.paths for job in web.jobs.jobs().values()] == [("/srv/Videos",)]


def test_limits_are_set_with_a_timetable(web: WebHost, page: Page) -> None:
    visit(page, web)
    go_to(page, "Limits")
    expect(page.get_by_label("Transfers at once")).to_have_value("4")
    page.get_by_label("Download").fill("much")
    page.get_by_role("button", name="Change limits").click()
    told(page, "“much” is not a rate like 2 MB/s")
    page.get_by_label("Download").fill("2.5 MB/s")
    page.get_by_role("button", name="Add a time").click()
    page.get_by_label("From").fill("08:00")
    page.get_by_label("Rate, or stop").fill("stop")
    page.get_by_role("button", name="Change limits").click()
    told(page, "The limits hold from now on.")
    expect(page.get_by_label("Download")).to_have_value("2.5 MB/s")
    assert web.control.limits[-1]["download_bps"] == 2_500_000
    assert web.control.limits[-1]["timetable"].startswith("08:00 ")


def test_a_problem_is_mended_where_it_is_told(films: WebHost, page: Page) -> None:
    films.main.call(films.control.fail, KEYS[2], NoSource("no store has it"))
    visit(page, films)
    expect(page.locator("#count-problems")).to_have_text("1")
    go_to(page, "Problems")
    page.get_by_role("button", name="Retry Coast.mkv").click()
    told(page, "“Coast.mkv” is tried again.")
    expect(page.get_by_text("Nothing needs your attention.")).to_be_visible()
    assert status_of(films, 2) is Status.QUEUED


def _busy_evening(web: WebHost) -> None:
    """Something of everything."""
    for store_id, name in ((STORE_ID, "disk"), (OTHER_STORE_ID, "attic")):
        if store_id not in web.documents.raws:
            web.add_filestore(store_id, name=name)
    web.add_file(FILES[0], STORE_ID, OTHER_STORE_ID, name=NAMES[0])
    control = web.control
    uses = (
        SourceUse(STORE_ID, 30_000_000, 8_400_000.0, SourceState.ACTIVE),
        SourceUse(OTHER_STORE_ID, 12_000_000, 3_100_000.0, SourceState.ACTIVE),
    )
    web.main.call(control.change, KEYS[0], sources=uses)
    control.on_their_way[KEYS[0]] = Pieces((2, 3, 7), ())
    web.main.call(control.move, KEYS[0], 52_000_000, rate=11_500_000.0, eta_s=3.0)
    web.main.call(control.on, KEYS[1], Event.SUSPEND, Reason.METERED)
    web.main.call(control.fail, KEYS[2], NoSource("no store that this machine can reach has the file"))
    web.main.call(control.on, KEYS[3], Event.PAUSE)
    web.main.call(control.move, KEYS[3], 31_000_000)
    song = file_spec(content(500, seed=77))
    web.add_file(song, name="Evening.flac")
    key = TransferKey(Direction.UPLOAD, song.file_id, STORE_ID)
    web.main.call(control.add, Transfer(key, Status.ONGOING, progress=Progress(0, 40_000_000), order=9))
    web.main.call(control.move, key, 21_000_000, rate=2_100_000.0, eta_s=9.0)
    web.main.call(web.jobs.verify, STORE_ID)


def _rates(now: float) -> dict[str, Any]:
    """Ten minutes in which something moved most of the time."""
    samples = [
        {
            "time": now - 600 + second,
            "download": 0.0 if 200 < second < 260 else 9e6 + 3e6 * ((second * 37) % 11) / 11,
            "upload": 2e6 + 5e5 * ((second * 17) % 7) / 7 if second > 320 else 0.0,
        }
        for second in range(0, 598, 3)
    ]
    return {"interval_s": 1.0, "samples": samples}


def _nothing_keeps_anybody_out(page: Page, where: str) -> None:
    """In light and dark; what is not about colours is the same in both."""
    assert violations(page) == [], where
    page.emulate_media(color_scheme="dark")
    assert violations(page, "color-contrast") == [], f"{where}, dark"
    page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_that_keeps_anybody_out(films: WebHost, browser: Browser, size: tuple[int, int]) -> None:
    _busy_evening(films)
    with page_in(browser, size=size) as page:
        page.route("**/api/v1/rates", lambda route: route.fulfill(json=_rates(time.time())))
        visit(page, films)
        expect(row(page, "Evening.flac")).to_contain_text("9 s left")
        expect(page.locator("#graph .down")).to_have_attribute("d", re.compile("(L[^L]+){150}"))
        if PICTURES and size == PHONE:
            _pictures(page, "phone")
        row(page, "Alps.mkv").locator(".name").click()
        expect(page.get_by_role("complementary", name="Details")).to_contain_text("gives")
        if PICTURES and size == DESKTOP:
            _pictures(page, "desktop")
        _nothing_keeps_anybody_out(page, "Transfers")
        page.get_by_role("button", name="Close details").click()
        for view in ("Problems", "Jobs", "Machines", "Stores", "Limits", "History"):
            go_to(page, view)
            if view != "History":
                expect(page.locator("main article:visible, main form:visible").first).to_be_visible()
            _nothing_keeps_anybody_out(page, view)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= size[0], f"{view} is wider than the screen"
        page.get_by_role("button", name="Add").click()
        page.get_by_label("Name or ID").fill("Birds.mkv")
        expect(page.get_by_role("button", name="Download Birds.mkv")).to_be_visible()
        _nothing_keeps_anybody_out(page, "Add")


def _pictures(page: Page, name: str) -> None:
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=DOCS / f"page-{name}-{scheme}.png", animations="disabled")
