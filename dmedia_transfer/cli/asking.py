"""`download` and `upload`: ask for a transfer, and wait for its end if that is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.options import command, json_option, on_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.errors import InvalidRequest, shown
from dmedia_transfer.model import Direction, Entry, random_id

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device

WHO = "dmedia-transfer"

_priority = click.option(
    "-p", "--priority", default="normal", metavar="low|normal|high|now|N", help="`now` goes before all that is lower."
)
_metered = click.option(
    "--even-metered",
    "metered",
    is_flag=True,
    help="Also over a connection that costs by the byte; for one that is queued already, too.",
)
_wait = click.option("-w", "--wait", is_flag=True, help="Wait for its end and show the progress.")


@command("download", "Bring a file to this machine.")
@click.argument("file", default="")
@click.argument("store", default="")
@_priority
@click.option(
    "--files-from",
    "listed",
    type=click.File(encoding="utf-8"),
    metavar="LIST",
    help="All files whose IDs are in LIST, one a line; - is stdin.",
)
@click.option("--only", is_flag=True, help="From STORE and from nowhere else.")
@_metered
@_wait
@on_option()
@json_option("Print JSON, with --wait a line for each change.")
@with_device
def download_command(
    device: Device,
    *,
    file: str,
    store: str,
    priority: str,
    listed: Iterable[str] | None,
    only: bool,
    metered: bool,
    wait: bool,
    machine: str,
    as_json: bool,
) -> int:
    """Bring FILE to this machine, or with --on to another one, preferably from STORE.

    FILE and STORE are IDs, beginnings of IDs, or names. Without STORE the daemon picks one that has the file. It goes
    on in the background; `watch` shows how far it is.

    \b
    Examples:
      dmedia-transfer download film.mkv
      dmedia-transfer download R3XQK --priority now --wait
      dmedia-transfer download film.mkv my-bucket --only
      dmedia-transfer download film.mkv --on tv
      dmedia-transfer download --files-from -
    """
    if only and not store:
        raise click.UsageError("--only needs a STORE.")
    number = words.parse_priority(priority)
    if listed is not None:
        if file or wait:
            raise click.UsageError("--files-from goes without FILE, STORE and --wait.")
        return _ask_for_all(device, listed, number, metered, machine, as_json)
    if not file:
        raise click.UsageError("Name a FILE, or a list with --files-from.")
    return _ask(device, Direction.DOWNLOAD, file, store, number, only, metered, wait, machine, as_json)


@command("upload", "Send a file to a store.")
@click.argument("file")
@click.argument("store")
@_priority
@_metered
@_wait
@on_option()
@json_option("Print JSON, with --wait a line for each change.")
@with_device
def upload_command(
    device: Device, *, file: str, store: str, priority: str, metered: bool, wait: bool, machine: str, as_json: bool
) -> int:
    """Send FILE from this machine, or with --on from another one, to STORE.

    FILE and STORE are IDs, beginnings of IDs, or names. It goes on in the background; `watch` shows how far it is.

    \b
    Examples:
      dmedia-transfer upload film.mkv my-bucket
      dmedia-transfer upload R3XQK my-bucket --wait
    """
    number = words.parse_priority(priority)
    return _ask(device, Direction.UPLOAD, file, store, number, False, metered, wait, machine, as_json)


def _ask(
    device: Device,
    direction: Direction,
    file: str,
    store: str,
    priority: int,
    only: bool,
    metered: bool,
    wait: bool,
    machine: str,
    as_json: bool,
) -> int:
    from dmedia_transfer.cli import queue, waiting
    from dmedia_transfer.errors import ConnectionLost

    if wait and machine:
        raise click.UsageError("--wait goes without --on; `watch --on` shows what another machine does.")
    with queue.opened(device, machine) as wanted:
        if wait and not wanted.running:
            raise ConnectionLost(f"--wait needs the daemon, which is not running: {device.no_daemon}")
        file_id, store_id = device.file_id(file), device.store_id(store)
        entry = Entry(
            file_id,
            direction,
            store_id,
            id=random_id(),
            priority=priority,
            only=only,
            metered=metered,
            time=_now(),
            requested_by=WHO,
        )
        wanted.ask([entry])
    if wait and device.client is not None:
        return waiting.wait_for(device.client.transfer(entry.key), {file_id: _label(file, file_id)}, as_json=as_json)
    output = Output(as_json=as_json)
    output.value({"action": str(direction), "file_id": file_id, "store_id": store_id, "daemon_running": wanted.running})
    output.line(f"{direction} of {_label(file, file_id)} is queued" + (f" on {machine}" if machine else ""))
    if wanted.note:
        note(wanted.note)
    return 0


def _ask_for_all(
    device: Device, listed: Iterable[str], priority: int, metered: bool, machine: str, as_json: bool
) -> int:
    """Ask for many files with one write."""
    from dmedia_transfer import leaves
    from dmedia_transfer.cli import queue

    file_ids = list(dict.fromkeys(line.strip().upper() for line in listed if line.strip()))
    for file_id in file_ids:
        if not leaves.is_file_id(file_id):
            raise InvalidRequest(f"the list has {shown(file_id)}, which is not a file ID (48 characters of base32)")
    now = _now()
    with queue.opened(device, machine) as wanted:
        wanted.ask(
            [
                Entry(file_id, id=random_id(), priority=priority, metered=metered, time=now, requested_by=WHO)
                for file_id in file_ids
            ]
        )
    output = Output(as_json=as_json)
    output.value({"action": "download", "files": len(file_ids), "daemon_running": wanted.running})
    output.line(f"{words.counted(len(file_ids), 'download')} queued" + (f" on {machine}" if machine else ""))
    if wanted.note:
        note(wanted.note)
    return 0


def _label(file: str, file_id: str) -> str:
    """What somebody called the file, unless that was its ID."""
    return words.short(file_id) if file_id.startswith(file.upper()) else words.printable(file)


def _now() -> float:
    import time

    return round(time.time(), 3)
