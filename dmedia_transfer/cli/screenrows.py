"""Rows of the full screen: what stands in the list, above it and below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from dmedia_transfer.cli import words
from dmedia_transfer.cli.watching import View
from dmedia_transfer.model import Direction
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.client.state import TransferState

BAR_WIDTH: Final = 20
COLUMNS: Final = ("", "file", "status", "progress", "done", "rate", "left", "priority")
_ARROWS: Final = {Direction.DOWNLOAD: "\N{DOWNWARDS ARROW}", Direction.UPLOAD: "\N{UPWARDS ARROW}"}
_STYLES: Final = {Status.FAILED: "bold red", Status.PAUSED: "yellow", Status.SUSPENDED: "yellow", Status.ONGOING: ""}


class Name(Text):
    """What a row is about."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text)
        self.path = path


def cells(state: TransferState, name: str) -> tuple[Any, ...]:
    """What stands in the columns of a row."""
    progress = state.progress
    percent = words.percent(progress)
    filled = BAR_WIDTH * (percent or 0) // 100
    moving = state.status is Status.ONGOING
    bar = Text("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * filled, style="green" if moving else "blue")
    bar.append("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (BAR_WIDTH - filled), style="dim")
    done = f"{percent}% of {words.size(progress.bytes_total)}" if percent is not None else ""
    return (
        _ARROWS[state.key.direction],
        Name(name or words.short(state.key.file_id), state.path),
        Text(words.status(state.status, state.reason), style=_STYLES.get(state.status, "dim")),
        bar,
        Text(done, justify="right"),
        Text(words.rate(progress.rate) if moving and progress.rate else "", justify="right"),
        Text(words.duration(progress.eta_s) if moving and progress.eta_s is not None else "", justify="right"),
        words.priority(state.priority),
    )


def counts(states: list[TransferState]) -> str:
    """How many there are of each kind, and how fast it goes."""
    found: dict[str, int] = {}
    for state in states:
        found[state.status] = found.get(state.status, 0) + 1
    rates = {
        direction: sum(state.progress.rate for state in states if state.key.direction is direction)
        for direction in Direction
    }
    moving = [f"{_ARROWS[direction]} {words.rate(rate)}" for direction, rate in rates.items() if rate]
    return "   ".join([*(f"{count:,} {status}" for status, count in found.items()), *moving])


def detail(state: TransferState, view: View) -> str:
    """What is told of one, below the list."""
    lines = [f"{state.key.direction} of {view.names.get(state.key.file_id) or 'a file without a name'}"]
    lines[0] += f"   {state.key.file_id}"
    lines.append(words.status(state.status, state.reason, state.error))
    if state.error and state.status not in (Status.FAILED, Status.SUSPENDED):
        lines.append(f"last error: {words.printable(state.error)}")
    facts = ["goes on where a connection costs, too"] if state.metered else []
    if state.requested_by:
        facts.append(f"asked for by {words.printable(state.requested_by)}")
    if state.store_id:
        facts.append(f"{'to' if state.key.direction is Direction.UPLOAD else 'rather from'} store {state.store_id}")
    facts += [
        f"{words.size(source.received_bytes)} from {words.short(source.store_id)}"
        + (f" ({source.reason})" if source.reason else "")
        for source in state.sources
    ]
    return "\n".join([*lines, "   ".join(facts)])
