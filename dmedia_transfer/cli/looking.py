"""`list` and `watch`: what is on its way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.called import Called
from dmedia_transfer.cli.options import command, json_option, on_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.client.state import TransferState

_ORDER: Final = {
    status: place
    for place, status in enumerate(
        (Status.ONGOING, Status.PAUSING, Status.SUSPENDED, Status.QUEUED, Status.PAUSED, Status.FAILED)
    )
}


@command("list", "List the transfers.")
@on_option()
@json_option()
@with_device
def list_command(device: Device, *, machine: str, as_json: bool) -> int:
    """List the transfers of this machine, or with --on of another one, as it told of them last.

    In a pipe, the cells are separated by tabs and the IDs are whole.

    \b
    Examples:
      dmedia-transfer list
      dmedia-transfer list --on tv
      dmedia-transfer list --json | jq '.transfers[] | select(.status == "failed")'
    """
    from dmedia_transfer.cli import bars, queue

    with queue.opened(device, machine) as wanted:
        states = sorted(wanted.transfers(), key=urgency)
        held, problems = wanted.held(), wanted.problems()
        name = names_of(device, states)
    output = Output(as_json=as_json)
    output.value(
        {
            "daemon_running": wanted.running,
            "queue_paused": held,
            "problems": list(problems),
            "transfers": [bars.as_json(state, name(state.key.file_id)) for state in states],
        }
    )
    output.table(
        ["ID", "name", "action", "status", ">done", ">size", "priority"],
        [_row(state, name(state.key.file_id)) for state in states],
        empty="Nothing is on its way.",
    )
    if not as_json:
        for text in _remarks(wanted.note, held, problems):
            note(text)
    return 0


@command("watch", "Watch the transfers as they move, and steer them.")
@on_option()
@json_option("Print a line of JSON for each change.")
@with_device
def watch_command(device: Device, *, machine: str, as_json: bool) -> int:
    """Watch the transfers of this machine, or with --on of another one, until Ctrl-C.

    On a terminal, the whole screen shows them, and keys pause, resume, cancel and retry what is selected, change its
    priority, and go to other machines. Where the output is not a terminal, there is a line for each change. Another
    machine tells what it does every 15 seconds, and when something changes.
    """
    from dmedia_transfer.cli import bars, watching

    output = Output(as_json=as_json)
    if output.terminal and sys.stdin.isatty():
        from dmedia_transfer.cli.screen import WatchApp

        WatchApp.on(device.again, machine).run()
        return 0
    try:
        told = ""
        names: Mapping[str, str] = {}
        with bars.display(output, lambda file_id: names.get(file_id) or words.short(file_id)) as display:
            for view in watching.views(device, machine):
                if view.note != told:
                    told = view.note
                    note(told)
                names = view.names
                display.show(view.states)
    except KeyboardInterrupt:
        return 0
    return 0


def names_of(device: Device, states: Sequence[TransferState]) -> Callable[[str], str]:
    """What the files of these transfers are called."""
    called = Called(device)
    called.look_up(state.key.file_id for state in states)
    return called


def urgency(state: TransferState) -> tuple[Any, ...]:
    """What transfers are ordered by: what moves first, then what waits, as in the queue, and what failed last."""
    return (_ORDER.get(state.status, len(_ORDER)), -state.priority, state.order, state.key)


def _row(state: TransferState, name: str) -> dict[str, Any]:
    percent = words.percent(state.progress)
    return {
        "ID": (words.short(state.key.file_id), state.key.file_id),
        "name": name,
        "action": f"{state.key.direction} to {state.store_id[:6]}" if state.key.store_id else str(state.key.direction),
        "status": words.status(state.status, state.reason, state.error),
        "done": "" if percent is None else f"{percent}%",
        "size": words.size(state.progress.bytes_total) if state.progress.bytes_total else "",
        "priority": words.priority(state.priority),
    }


def _remarks(about: str, held: bool, problems: Sequence[str]) -> list[str]:
    remarks = [about] if about else []
    if held:
        remarks.append("the whole queue is paused; `dmedia-transfer resume --all` lets it go on")
    return remarks + [click.unstyle(problem) for problem in problems]
