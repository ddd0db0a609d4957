"""`history`: what has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.called import Called
from dmedia_transfer.cli.options import command, json_option, on_option, with_device
from dmedia_transfer.cli.output import Output
from dmedia_transfer.model import Direction
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device


class Line(NamedTuple):
    """A transfer that has ended."""

    action: Direction
    file_id: str
    store_id: str  # where an upload went
    status: Status
    error: str
    time: float  # Unix seconds
    bytes: int


@command("history", "List what has ended: done, failed, cancelled.")
@click.option("-n", "--lines", "most", default=50, show_default=True, type=click.IntRange(1, 1000), metavar="N")
@on_option()
@json_option()
@with_device
def history_command(device: Device, *, most: int, machine: str, as_json: bool) -> int:
    """List what has ended, the latest first: done, failed, cancelled.

    Of another machine, with --on, the last twenty are known.

    \b
    Examples:
      dmedia-transfer history
      dmedia-transfer history --json | jq '.[] | select(.status == "failed")'
    """
    lines = (_of_other(device, machine) if machine else _of_this(device))[:most]
    called = Called(device)
    called.look_up(line.file_id for line in lines)
    output = Output(as_json=as_json)
    output.value([{**line._asdict(), "name": called(line.file_id)} for line in lines])
    output.table(
        ["ID", "name", "action", "ended", "when", ">size"],
        [
            {
                "ID": (words.short(line.file_id), line.file_id),
                "name": called(line.file_id),
                "action": f"{line.action} to {line.store_id[:6]}" if line.store_id else str(line.action),
                "ended": f"{line.status}: {line.error}" if line.error else str(line.status),
                "when": words.moment(line.time),
                "size": words.size(line.bytes) if line.bytes else "",
            }
            for line in lines
        ],
        empty="Nothing has ended yet.",
    )
    return 0


def _of_this(device: Device) -> list[Line]:
    return [
        Line(*line.key, line.status, str(line.failure or ""), round(line.time, 3), line.bytes)
        for line in device.history()
    ]


def _of_other(device: Device, machine: str) -> list[Line]:
    from dmedia_transfer.couch.machinequeue import key_of, status_of

    with device.database() as database:
        raw = device.machine(database, machine)
        if raw["_id"] == device.machine_id:
            return _of_this(device)
        status = status_of(database, raw["_id"])
    return [
        Line(*key_of(line), line.status, line.error, line.time, line.bytes_total)
        for line in (status.finished if status else ())
    ]
