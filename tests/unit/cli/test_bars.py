"""Progress as it is shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from dmedia_transfer.cli import bars
from dmedia_transfer.cli.output import Output
from dmedia_transfer.client.state import TransferState
from dmedia_transfer.model import Direction, Progress, TransferKey
from dmedia_transfer.states import Reason, Status
from tests.clock import FakeClock

FILE_ID = "F" * 48
PATH = f"/org/dmedia/Transfer1/downloads/{FILE_ID}"
STATE = TransferState(
    key=TransferKey(Direction.DOWNLOAD, FILE_ID, ""),
    status=Status.ONGOING,
    reason=None,
    progress=Progress(0, 1000),
    priority=0,
    store_id="",
    error="",
    requested_by="",
    sources=(),
)


def at(done: int, **changes: Any) -> dict[str, TransferState]:
    return {PATH: replace(STATE, progress=Progress(done, 1000), **changes)}


def test_a_pipe_gets_a_line_for_each_change_of_status(capsys: pytest.CaptureFixture[str]) -> None:
    display = bars.LineDisplay(lambda _: "film.mkv", clock=FakeClock())
    for states in (at(0, status=Status.QUEUED), at(0), at(1000, status=Status.DONE), at(1000, status=Status.DONE)):
        display.show(states)
    assert capsys.readouterr().out.splitlines() == [
        "download film.mkv: queued, 0% of 1000 B",
        "download film.mkv: ongoing, 0% of 1000 B",
        "download film.mkv: done",
    ]


def test_a_pipe_gets_a_line_for_each_tenth_and_not_for_each_signal(capsys: pytest.CaptureFixture[str]) -> None:
    display = bars.LineDisplay(lambda _: "film.mkv", clock=FakeClock())
    for done in range(0, 1001, 10):
        display.show(at(done))
    assert len(capsys.readouterr().out.splitlines()) == 11


def test_a_slow_transfer_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    display = bars.LineDisplay(lambda _: "film.mkv", clock=clock)
    for done in range(20):
        display.show(at(done))
        clock.now += 1.0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[-1].endswith("1% of 1000 B at 1 B/s")


def test_nothing_is_said_while_nothing_moves(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    display = bars.LineDisplay(lambda _: "film.mkv", clock=clock)
    for _ in range(100):
        display.show(at(5))
        clock.now += 10.0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_waiting_transfer_says_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    display = bars.LineDisplay(lambda _: "film.mkv", clock=FakeClock())
    display.show(at(500, status=Status.SUSPENDED, reason=Reason.BACKOFF, error="the line was cut"))
    assert capsys.readouterr().out == "download film.mkv: waits for the next attempt: the line was cut, 50% of 1000 B\n"


def test_a_program_gets_a_line_for_each_change_and_one_when_it_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    display = bars.JsonDisplay()
    for states in (at(0), at(0), at(10), {}):
        display.show(states)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["status"], line["bytes_done"]) for line in lines] == [("ongoing", 0), ("ongoing", 10), ("gone", 10)]
    assert lines[0]["file_id"] == FILE_ID
    assert lines[0]["eta_s"] is None


def test_a_terminal_gets_a_bar_that_comes_moves_and_goes() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=False)
    progress = Bars(
        TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[facts]}"), console=console
    )
    display = bars.BarDisplay(progress, lambda _: "a name that is much too long for a bar beside it.mkv")
    display.show(at(500))
    (task,) = progress.tasks
    assert (task.completed, task.total, task.fields["percent"]) == (500, 1000, "50%")
    assert task.description == "\N{DOWNWARDS ARROW} a name that is much too long fo\N{HORIZONTAL ELLIPSIS}"
    display.show(at(1000, status=Status.DONE))
    assert task.fields["facts"] == "1000 B of 1000 B  done"
    display.show({})
    assert progress.tasks == []


def test_a_bar_shows_a_name_as_it_is_and_no_markup() -> None:
    progress = Bars(TextColumn("{task.description}", markup=False), console=Console(file=io.StringIO()))
    bars.BarDisplay(progress, lambda _: "[red]x[/red]").show(at(1))
    assert "[red]x[/red]" in progress.tasks[0].description


def test_a_rate_is_what_was_seen_to_move() -> None:
    clock = FakeClock()
    rates = bars.Rates(clock=clock)
    rates.measure(PATH, at(0)[PATH])
    for done in range(100, 501, 100):
        clock.now += 1.0
        state = rates.measure(PATH, at(done)[PATH])
    assert state.progress.rate == pytest.approx(100, rel=0.2)
    assert state.progress.eta_s == pytest.approx(5, rel=0.2)


def test_a_rate_begins_anew_after_a_pause() -> None:
    clock = FakeClock()
    rates = bars.Rates(clock=clock)
    rates.measure(PATH, at(0)[PATH])
    rates.measure(PATH, at(900)[PATH])
    paused = at(900, status=Status.PAUSED)[PATH]
    assert rates.measure(PATH, paused) is paused
    assert rates.measure(PATH, at(900)[PATH]).progress.rate == 0


def test_what_is_shown_fits_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with bars.display(Output(as_json=False), lambda _: "x") as display:
        assert isinstance(display, bars.LineDisplay)  # the test's stdout is no terminal
    with bars.display(Output(as_json=True), lambda _: "x") as display:
        assert isinstance(display, bars.JsonDisplay)
