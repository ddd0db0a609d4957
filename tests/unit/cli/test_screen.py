"""The full screen of `watch`: what it shows, and what its keys say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from dmedia_transfer.cli.screen import MOST_ROWS, WatchApp
from dmedia_transfer.cli.watching import Neighbour, View
from dmedia_transfer.client.state import TransferState
from dmedia_transfer.model import Direction, Progress, TransferKey, Verb
from dmedia_transfer.states import Reason, Status
from tests.factories import file_spec

TV = Neighbour("T" * 24, "tv", this=True)
PHONE = Neighbour("P" * 24, "phone", this=False)


class Scribe:
    """An attendant that writes down what it is told."""

    def __init__(self) -> None:
        self.looked_at: list[str] = []
        self.said: list[tuple[Any, ...]] = []

    def look_at(self, machine: str) -> None:
        self.looked_at.append(machine)

    def steer(self, machine: str, command: Verb, keys: Sequence[TransferKey], *, priority: int = 0) -> None:
        self.said.append((machine, command, list(keys), priority))

    def put_before(self, machine: str, key: TransferKey, before: TransferKey | None) -> None:
        self.said.append((machine, key, before))

    def hold(self, machine: str, held: bool) -> None:
        self.said.append((machine, "hold", held))

    def neighbours(self, answer: Callable[[list[Neighbour]], object]) -> None:
        # As the real one does, on another thread.
        asyncio.get_running_loop().run_in_executor(None, answer, [TV, PHONE])


def state(number: int = 0, **changes: Any) -> TransferState:
    """A download of some file."""
    usual = TransferState(
        key=TransferKey(Direction.DOWNLOAD, file_spec(b"%d" % number).file_id, ""),
        status=Status.QUEUED,
        reason=None,
        progress=Progress(0, 1000),
        priority=0,
        store_id="",
        error="",
        requested_by="",
        sources=(),
    )
    return replace(usual, **changes)


def view(*states: TransferState, **changes: Any) -> View:
    """These transfers of this machine."""
    given = View(
        "", {each.path: each for each in states}, {each.key.file_id: f"film {i}" for i, each in enumerate(states)}
    )
    return replace(given, **changes)


def on_screen(test: Callable[[WatchApp, Scribe, Pilot[None]], Awaitable[None]]) -> None:
    """Run a test on a screen of its own."""

    async def run() -> None:
        app, scribe = WatchApp(), Scribe()
        app.attendant = scribe
        async with app.run_test(size=(120, 30)) as pilot:
            await test(app, scribe, pilot)

    asyncio.run(run())


def rows(app: WatchApp) -> list[list[str]]:
    """The table as somebody reads it."""
    table = app.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(place)] for place in range(table.row_count)]


def text(app: WatchApp, where: str) -> str:
    """What stands there."""
    return str(app.query_one(where, Static).render())


def test_transfers_are_shown_by_urgency_and_change_in_place() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        waiting, moving = state(0), state(1, status=Status.ONGOING, progress=Progress(250, 1000))
        app.show(view(waiting, moving))
        assert [(row[1], row[2], row[4]) for row in rows(app)] == [
            ("film 1", "ongoing", "25% of 1000 B"),
            ("film 0", "queued", "0% of 1000 B"),
        ]
        done = replace(moving, progress=Progress(1000, 1000))
        suspended = replace(waiting, status=Status.SUSPENDED, reason=Reason.DISK_FULL)
        app.show(view(suspended, done))
        assert [row[4] for row in rows(app)] == ["100% of 1000 B", "0% of 1000 B"]
        assert rows(app)[1][2] == "waits for room on the disk"
        app.show(view(suspended, held=True, problems=("the database does not answer",)))
        assert len(rows(app)) == 1
        assert "the whole queue is paused" in text(app, "#head")
        assert "! the database does not answer" in text(app, "#head")

    on_screen(test)


def test_what_is_selected_stays_selected_when_the_order_changes() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        first, second = state(0, priority=10), state(1, error="no answer", requested_by="an app")
        app.show(view(first, second))
        await pilot.press("down")
        assert "film 1" in text(app, "#detail")
        assert "last error: no answer" in text(app, "#detail")
        assert "asked for by an app" in text(app, "#detail")
        app.show(view(first, replace(second, status=Status.ONGOING)))
        assert rows(app)[0][1] == "film 1"
        assert "film 1" in text(app, "#detail")

    on_screen(test)


def test_keys_say_what_they_say() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        one = state()
        app.show(view(one))
        await pilot.press("space", "r", "plus", "minus", "n", "h")
        assert scribe.said == [
            ("", Verb.PAUSE, [one.key], 0),
            ("", Verb.RETRY, [one.key], 0),
            ("", Verb.PRIORITIZE, [one.key], 10),
            ("", Verb.PRIORITIZE, [one.key], -10),
            ("", Verb.PRIORITIZE, [one.key], 100),
            ("", "hold", True),
        ]
        app.show(view(replace(one, status=Status.PAUSED), held=True))
        await pilot.press("space", "h")
        assert scribe.said[6:] == [("", Verb.RESUME, [one.key], 0), ("", "hold", False)]

    on_screen(test)


def test_a_cancel_is_asked_about_first() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        one = state()
        app.show(view(one))
        await pilot.press("c", "n", "c", "escape")
        assert scribe.said == []
        await pilot.press("c", "y")
        assert scribe.said == [("", Verb.CANCEL, [one.key], 0)]

    on_screen(test)


def test_another_machine_is_chosen_from_a_list() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        app.show(view(state()))
        await pilot.press("m")
        while len(app.screen_stack) == 1:
            await pilot.pause(0.01)
        await pilot.press("down", "enter")
        await pilot.pause()
        assert scribe.looked_at == ["", PHONE.machine_id]
        assert rows(app) == []
        assert app.sub_title == "phone"
        app.show(view(state()))  # a late view of the machine before
        assert rows(app) == []
        app.show(view(state(), machine=PHONE.machine_id, note="phone was last heard of 3 s ago"))
        await pilot.press("space")
        assert "last heard of" in text(app, "#head")
        assert scribe.said[0][:2] == (PHONE.machine_id, Verb.PAUSE)

    on_screen(test)


def test_of_a_long_queue_the_most_urgent_are_shown_and_all_are_counted() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        app.show(view(*(state(number) for number in range(MOST_ROWS + 50))))
        assert app.query_one(DataTable).row_count == MOST_ROWS
        assert "1,050 queued" in text(app, "#head")
        assert "The first 1,000 of 1,050 are shown" in text(app, "#head")

    on_screen(test)


def test_nothing_selected_is_nothing_said() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        app.show(view())
        await pilot.press("space", "r", "c", "n", "plus", "minus")
        assert scribe.said == []
        assert "Nothing is on its way." in text(app, "#head")

    on_screen(test)


def test_u_and_d_give_a_row_another_place_and_e_lets_it_cost() -> None:
    async def test(app: WatchApp, scribe: Scribe, pilot: Pilot[None]) -> None:
        states = [state(number, order=float(number), metered=number == 1) for number in range(4)]
        app.show(view(*reversed(states)))
        keys = [one.key for one in states]
        await pilot.press("u", "d", "down", "e", "shift+up", "d", "down", "e", "d", "down", "d")
        assert scribe.said == [
            ("", keys[0], keys[2]),
            ("", Verb.SPARE, [keys[1]], 0),
            ("", keys[1], keys[0]),
            ("", keys[1], keys[3]),
            ("", Verb.SPEND, [keys[2]], 0),
            ("", keys[2], None),
        ]
        assert "where a connection costs" not in text(app, "#detail")
        await pilot.press("up", "up")
        assert "goes on where a connection costs, too" in text(app, "#detail")

    on_screen(test)
