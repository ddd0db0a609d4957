"""`list` and `watch`: what is on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.options import command, json_option, on_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.errors import ConnectionLost, TransferError
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.client.state import TransferState

LOOK_AGAIN_S: Final = 2.0  # at what another machine tells
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
        states = sorted(wanted.transfers(), key=_urgency)
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


@command("watch", "Watch the transfers as they move.")
@on_option()
@json_option("Print a line of JSON for each change.")
@with_device
def watch_command(device: Device, *, machine: str, as_json: bool) -> int:
    """Watch the transfers of this machine, or with --on of another one, until Ctrl-C.

    Shows a bar for each transfer; where the output is not a terminal, a line for each change. Another machine tells
    what it does every 15 seconds, and when something changes.
    """
    from dmedia_transfer.cli import bars

    output = Output(as_json=as_json)
    name = _Names(device)
    try:
        with bars.display(output, lambda file_id: name(file_id) or words.short(file_id)) as display:
            for states in _watched(device, machine):
                name.look_up(state.key.file_id for state in states.values())
                display.show(states)
    except KeyboardInterrupt:
        return 0
    return 0


def _watched(device: Device, machine: str) -> Iterator[Mapping[str, TransferState]]:
    """The transfers again and again, by their paths."""
    from dmedia_transfer.cli import queue

    client = device.client
    if machine:
        with queue.opened(device, machine) as wanted:
            if wanted.note:
                note(wanted.note)
                while True:
                    yield {state.path: state for state in wanted.transfers()}
                    time.sleep(LOOK_AGAIN_S)
    if client is None:
        raise ConnectionLost(f"there is nothing to watch, the daemon is not running: {device.no_daemon}")
    yield from client.watch()


def names_of(device: Device, states: Sequence[TransferState]) -> Callable[[str], str]:
    """What the files of these transfers are called."""
    names = _Names(device)
    names.look_up(state.key.file_id for state in states)
    return names


class _Names:
    """What files are called; empty for those that have no name, or if nobody can be asked."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._names: dict[str, str] = {}

    def __call__(self, file_id: str) -> str:
        return self._names.get(file_id, "")

    def look_up(self, file_ids: Iterable[str]) -> None:
        """Read the names of those that were not read yet."""
        from dmedia_transfer.cli import names

        new = set(file_ids) - self._names.keys()
        if not new:
            return
        self._names.update(dict.fromkeys(new, ""))
        try:
            with self._device.database() as database:
                found = database.get_many(new)
        except TransferError as error:
            note(f"the names of files are not known: {error}")
            return
        self._names.update((file_id, names.name_of(raw)) for file_id, raw in found.items())


def _urgency(state: TransferState) -> tuple[Any, ...]:
    return (_ORDER.get(state.status, len(_ORDER)), -state.priority, state.key)


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
