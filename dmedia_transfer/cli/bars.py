"""Progress as it is shown: bars on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.output import Output, console
from dmedia_transfer.client.state import TransferState
from dmedia_transfer.model import Direction, SourceUse
from dmedia_transfer.progress import RateMeter
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

LINE_EVERY_S: Final = 5.0  # a plain line for a transfer that moves
LINE_EVERY_PERCENT: Final = 10  # or earlier, if it is so much further
NAME_WIDTH: Final = 32
_ARROWS: Final = {Direction.DOWNLOAD: "\N{DOWNWARDS ARROW}", Direction.UPLOAD: "\N{UPWARDS ARROW}"}

Label = Callable[[str], str]
"""What a file is called, by its ID."""


class Display(Protocol):
    """Shows transfers as they move."""

    def show(self, states: Mapping[str, TransferState]) -> None:
        """Show all transfers as they are now, by object path; what is missing is gone."""


@contextmanager
def display(output: Output, label: Label) -> Iterator[Display]:
    """What fits where the output goes, until the block ends."""
    if output.as_json:
        yield JsonDisplay()
    elif not output.terminal:
        yield LineDisplay(label)
    else:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        progress = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[percent]:>4}", markup=False),
            TextColumn("{task.fields[facts]}", markup=False),
            console=console(),
            expand=True,
        )
        with progress:
            yield BarDisplay(progress, label)


class Rates:
    """Measures rates from what is seen: the daemon tells its own once a second, which is late for a short transfer."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._meters: dict[str, RateMeter] = {}

    def measure(self, path: str, state: TransferState) -> TransferState:
        """The transfer with the rate and the time left as they are seen."""
        if state.status is not Status.ONGOING:
            self._meters.pop(path, None)
            return state
        progress = state.progress
        if path not in self._meters:
            self._meters[path] = RateMeter(self._clock, bytes_done=progress.bytes_done)
        meter = self._meters[path]
        meter.update(progress.bytes_done)
        return replace(
            state, progress=replace(progress, rate=meter.rate, eta_s=meter.eta_s(progress.bytes_total) or None)
        )

    def forget(self, path: str) -> None:
        """The transfer is gone."""
        self._meters.pop(path, None)


class BarDisplay:
    """A bar for each transfer."""

    def __init__(self, progress: Bars, label: Label) -> None:
        self._progress = progress
        self._label = label
        self._rates = Rates()
        self._tasks: dict[str, TaskID] = {}

    def show(self, states: Mapping[str, TransferState]) -> None:
        for path in self._tasks.keys() - states.keys():
            self._progress.remove_task(self._tasks.pop(path))
            self._rates.forget(path)
        for path, told in states.items():
            state = self._rates.measure(path, told)
            if path not in self._tasks:
                name = _clipped(self._label(state.key.file_id))
                description = f"{_ARROWS[state.key.direction]} {name}"
                self._tasks[path] = self._progress.add_task(description, total=1, percent="", facts="")
            done, total = state.progress.bytes_done, state.progress.bytes_total
            percent = words.percent(state.progress)
            self._progress.update(
                self._tasks[path],
                completed=done,
                total=total or 1,  # a bar that is empty, not one that pulses: nothing may be moving
                percent="" if percent is None else f"{percent}%",
                facts=facts(state),
            )


class LineDisplay:
    """A line for each change of status, and now and then for progress."""

    def __init__(self, label: Label, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._clock = clock
        self._rates = Rates(clock=clock)
        self._said: dict[str, tuple[TransferState, float]] = {}

    def show(self, states: Mapping[str, TransferState]) -> None:
        for path in self._said.keys() - states.keys():
            del self._said[path]
            self._rates.forget(path)
        for path, told in states.items():
            state = self._rates.measure(path, told)
            before, when = self._said.get(path, (None, 0.0))
            now = self._clock()
            if before is None or self._tells_more(before, state, now - when):
                self._said[path] = state, now
                click.echo(f"{state.key.direction} {self._label(state.key.file_id)}: {sentence(state)}")

    @staticmethod
    def _tells_more(before: TransferState, after: TransferState, since_s: float) -> bool:
        if (before.status, before.reason, before.error) != (after.status, after.reason, after.error):
            return True
        further = (words.percent(after.progress) or 0) - (words.percent(before.progress) or 0)
        moved = after.progress.bytes_done != before.progress.bytes_done
        return further >= LINE_EVERY_PERCENT or (moved and since_s >= LINE_EVERY_S)


class JsonDisplay:
    """A line of JSON for each change of a transfer; one that is gone has the status `gone`."""

    def __init__(self) -> None:
        self._said: dict[str, TransferState] = {}

    def show(self, states: Mapping[str, TransferState]) -> None:
        for path in sorted(self._said.keys() - states.keys()):
            self._say({**as_json(self._said.pop(path)), "status": "gone"})
        for path, state in states.items():
            if self._said.get(path) != state:
                self._said[path] = state
                self._say(as_json(state))

    @staticmethod
    def _say(value: dict[str, Any]) -> None:
        click.echo(json.dumps(value, ensure_ascii=False))


def facts(state: TransferState) -> str:
    """What stands beside a bar."""
    progress = state.progress
    done = f"{words.size(progress.bytes_done)} of {words.size(progress.bytes_total)}" if progress.bytes_total else ""
    if state.status is Status.ONGOING:
        left = "" if progress.eta_s is None else f"{words.duration(progress.eta_s)} left"
        return "  ".join(filter(None, (done, words.rate(progress.rate) if progress.rate else "", left)))
    return "  ".join(filter(None, (done, words.status(state.status, state.reason, state.error))))


def sentence(state: TransferState) -> str:
    """A transfer as a plain line tells of it."""
    progress = state.progress
    status = words.status(state.status, state.reason, state.error)
    percent = words.percent(progress)
    if state.status is Status.DONE or percent is None:
        return status
    moving = f" at {words.rate(progress.rate)}" if state.status is Status.ONGOING and progress.rate else ""
    return f"{status}, {percent}% of {words.size(progress.bytes_total)}{moving}"


def as_json(state: TransferState, name: str | None = None) -> dict[str, Any]:
    """A transfer for programs; `name` is what its file is called, where that was looked up."""
    return {
        "action": str(state.key.direction),
        "file_id": state.key.file_id,
        **({} if name is None else {"name": name}),
        "store_id": state.store_id,
        "status": str(state.status),
        "reason": str(state.reason) if state.reason else None,
        "bytes_done": state.progress.bytes_done,
        "bytes_total": state.progress.bytes_total or None,
        "rate": state.progress.rate,
        "eta_s": state.progress.eta_s,
        "priority": state.priority,
        "error": state.error or None,
        "requested_by": state.requested_by,
        "sources": [_source(each) for each in state.sources],
    }


def _source(use: SourceUse) -> dict[str, Any]:
    return {
        "store_id": use.store_id,
        "bytes": use.received_bytes,
        "rate": use.rate,
        "state": str(use.state),
        "reason": use.reason or None,
    }


def _clipped(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}\N{HORIZONTAL ELLIPSIS}"
