"""`move` and `fetch-from`: what takes more than one transfer, each queued on a machine that can do it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.asking import WHO
from dmedia_transfer.cli.options import command, json_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.errors import FileMissing, InvalidRequest, Unknown
from dmedia_transfer.model import Direction, Entry, random_id

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.couch.database import Database

LOOK_AGAIN_S: Final = 2.0  # at where the file is by now


@dataclass(frozen=True, slots=True)
class _Step:
    """One transfer, and who does it."""

    machine_id: str
    entry: Entry


@command("move", "Move a file from one store to another.")
@click.argument("file")
@click.option("--from", "source", required=True, metavar="STORE", help="Where it is now.")
@click.option("--to", "target", required=True, metavar="STORE", help="Where it shall be.")
@click.option("--no-wait", is_flag=True, help="Queue the transfers, and leave the copy in the old place.")
@json_option()
@with_device
def move_command(device: Device, *, file: str, source: str, target: str, no_wait: bool, as_json: bool) -> int:
    """Move FILE from one store to another: copy it there, wait until it has arrived, remove the old copy.

    The machine that has a FileStore does what concerns it; what goes between two stores elsewhere goes through this
    one. Nothing is removed before the library knows of the new copy.

    \b
    Example:
      dmedia-transfer move film.mkv --from tv-disk --to my-bucket
    """
    from dmedia_transfer.cli import files

    output = Output(as_json=as_json)
    _ = device.client  # brings the database server with it, if it is there
    with device.database() as database:
        raw = device.file(database, file)
        old, new = device.store(database, source), device.store(database, target)
        if old["_id"] == new["_id"]:
            raise InvalidRequest("a file is not moved from a store to itself")
        steps = _steps_of_move(device, raw, old, new)
        _queue(device, database, steps)
        label = words.printable(str(raw.get("name") or words.short(raw["_id"])))
        output.line(f"{label} is on its way to {_name(new)}, by {words.counted(len(steps), 'transfer')}")
        if no_wait:
            note(f"the copy in {_name(old)} stays; `dmedia-transfer drop` removes it")
            output.value({"file_id": raw["_id"], "transfers": len(steps), "moved": False})
            return 0
        _wait_for_copy(database, raw["_id"], new["_id"])
        output.line(f"{label} is in {_name(new)}")
        if old.get("plugin") == "filestore" and old["_id"] not in device.bindings.filestores():
            raise FileMissing(
                f"the copy in {_name(old)} is on another machine: `dmedia-transfer drop` has to be said there"
            )
        files.remove_copy(device, database, raw, old["_id"])
    output.line(f"removed {label} from {_name(old)}")
    output.value({"file_id": raw["_id"], "transfers": len(steps), "moved": True})
    return 0


@command("fetch-from", "Bring a file here from another machine.")
@click.argument("machine")
@click.argument("file")
@click.option("--via", default="", metavar="STORE", help="A store that both machines can use.")
@json_option()
@with_device
def fetch_from_command(device: Device, *, machine: str, file: str, via: str, as_json: bool) -> int:
    """Bring FILE here from MACHINE: straight from there, where machines speak to each other (`[peer]`).

    With --via, it goes through a store: it is uploaded there and downloaded here. The download waits until the upload
    has arrived, also if MACHINE is off for now.

    \b
    Examples:
      dmedia-transfer fetch-from tv film.mkv
      dmedia-transfer fetch-from tv film.mkv --via my-bucket
    """
    output = Output(as_json=as_json)
    _ = device.client
    with device.database() as database:
        raw = device.file(database, file)
        there = device.machine(database, machine)
        if there["_id"] == device.machine_id:
            raise InvalidRequest("this is the machine you are at")
        store = device.store(database, via) if via else _store_of(device, database, there, raw)
        steps = []
        if via and not _has(raw, store["_id"]):
            steps.append(_Step(there["_id"], _entry(raw, Direction.UPLOAD, store)))
        steps.append(_Step(device.machine_id, _entry(raw, Direction.DOWNLOAD, store, only=not via)))
        _queue(device, database, steps)
    label = words.printable(str(raw.get("name") or words.short(raw["_id"])))
    through = f" through {_name(store)}" if via else ""
    output.line(f"{label} comes from {words.printable(str(there.get('hostname')))}{through}")
    output.value({"file_id": raw["_id"], "transfers": len(steps)})
    return 0


def _store_of(
    device: Device, database: Database, machine: Mapping[str, Any], raw: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The FileStore of another machine from which a file can be had; of several, one that is known to have it."""
    from dmedia_transfer import documents

    name = words.printable(str(machine.get("hostname") or machine["_id"]))
    if device.reach is None:
        raise InvalidRequest("this machine speaks to no others (`[peer]`): --via STORE names one for the way")
    device.reach.settings(machine["_id"])  # says why it cannot be reached
    stores = [each for each in database.get_stores() if each.get("machine_id") == machine["_id"]]
    having = [each for each in stores if documents.read_store(each).plugin == "filestore" and _has(raw, each["_id"])]
    if not having:
        raise FileMissing(f"no FileStore of {name} is known to have it")
    return having[0]


def _steps_of_move(
    device: Device, raw: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[_Step]:
    if not _has(raw, old["_id"]):
        raise FileMissing(f"no copy in {_name(old)} is known; `dmedia-transfer list` shows what is on its way")
    if _has(raw, new["_id"]):
        return []
    if new.get("plugin") == "filestore":
        return [_Step(_owner(new), _entry(raw, Direction.DOWNLOAD, old, only=True))]
    upload = _entry(raw, Direction.UPLOAD, new)
    if old.get("plugin") == "filestore":
        return [_Step(_owner(old), upload)]
    # The upload waits until the download has brought the file here.
    fetch = _entry(raw, Direction.DOWNLOAD, old, only=True)
    return [_Step(device.machine_id, fetch), _Step(device.machine_id, upload)]


def _queue(device: Device, database: Database, steps: Sequence[_Step]) -> None:
    from dmedia_transfer.cli import queue

    for step in steps:
        with queue.opened(device, "" if step.machine_id == device.machine_id else step.machine_id) as wanted:
            wanted.ask([step.entry])
            if wanted.note:
                note(wanted.note)


def _wait_for_copy(database: Database, file_id: str, store_id: str) -> None:
    while True:
        raw = database.get(file_id)
        if raw is None:
            raise Unknown(f"file {file_id} has no document any more")
        if _has(raw, store_id):
            return
        time.sleep(LOOK_AGAIN_S)


def _entry(raw: Mapping[str, Any], direction: Direction, store: Mapping[str, Any], *, only: bool = False) -> Entry:
    now = round(time.time(), 3)
    return Entry(raw["_id"], direction, store["_id"], id=random_id(), only=only, time=now, requested_by=WHO)


def _has(raw: Mapping[str, Any], store_id: str) -> bool:
    from dmedia_transfer import documents

    stored = documents.read_file(raw).stored.get(store_id)
    return stored is not None and stored.copies > 0


def _owner(store: Mapping[str, Any]) -> str:
    from dmedia_transfer import documents

    machine_id = documents.read_store(store).machine_id
    if machine_id is None:
        raise Unknown(f"the document of {_name(store)} does not say which machine has it")
    return machine_id


def _name(store: Mapping[str, Any]) -> str:
    return words.printable(str(store.get("name") or store["_id"]))
