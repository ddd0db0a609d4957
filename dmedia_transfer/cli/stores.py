"""`stores`: list the places that keep files, add them, and say which of them this machine uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from dmedia_transfer.cli import names, places, words
from dmedia_transfer.cli.options import HELP_NAMES, Group, json_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.cli.stores_adding import add_filestore_command, add_s3_command
from dmedia_transfer.cli.stores_login import login_command, logout_command
from dmedia_transfer.errors import InvalidRequest, Permanent, TransferError

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device


class _InOrder(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    "stores",
    cls=_InOrder,
    short_help="List the stores, or set them up.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    context_settings={"help_option_names": HELP_NAMES},
)
@json_option()
@click.pass_context
def stores_command(ctx: click.Context, *, as_json: bool) -> int:
    """List the stores, or set them up.

    A store that another device added is used only after it was enabled on this machine.

    \b
    Examples:
      dmedia-transfer stores
      dmedia-transfer stores add-filestore ~/Dmedia
      dmedia-transfer stores add-s3 my-bucket
      dmedia-transfer stores add-s3 films --endpoint https://s3.example.org --name nas
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError("--json goes after the command.", ctx)
        return 0
    with ctx.obj.device() as device:
        return _list(device, as_json)


def _list(device: Device, as_json: bool) -> int:
    with device.database() as database:
        raws = sorted(database.get_stores(), key=lambda raw: (names.name_of(raw), raw["_id"]))
        local = device.local_stores(raws)
    paths = device.bindings.filestores()
    rows: list[dict[str, Any]] = []
    for raw in raws:
        store_id = str(raw["_id"])
        problem = ""
        try:
            local.spec(store_id)
        except TransferError as error:
            problem = str(error)
        rows.append(
            {
                "store_id": store_id,
                "name": names.name_of(raw),
                "plugin": words.printable(str(raw.get("plugin", ""))),
                "where": str(paths[store_id]) if store_id in paths else places.where(raw),
                "usable": not problem,
                "problem": problem or None,
                "free_bytes": None
                if problem or store_id not in paths
                else device.filestores.get(store_id).free_bytes(),
            }
        )
    output = Output(as_json=as_json)
    output.value(rows)
    output.table(
        ["ID", "name", "kind", "where", "here", ">free"],
        [
            {
                "ID": (words.short(row["store_id"]), row["store_id"]),
                "name": row["name"],
                "kind": row["plugin"],
                "where": row["where"],
                "here": row["problem"] or "ready",
                "free": "" if row["free_bytes"] is None else words.size(row["free_bytes"]),
            }
            for row in rows
        ],
        empty="There is no store; `dmedia-transfer stores add-filestore FOLDER` makes one.",
    )
    return 0


stores_command.add_command(add_filestore_command)
stores_command.add_command(add_s3_command)
stores_command.add_command(login_command)
stores_command.add_command(logout_command)


@stores_command.command("enable", short_help="Use a store on this machine.")
@click.argument("store")
@json_option()
@with_device
def enable(device: Device, *, store: str, as_json: bool) -> int:
    """Use STORE on this machine, as long as it stays where it is now.

    If its endpoint or bucket changes, it has to be enabled again.
    """
    with device.database() as database:
        raw = device.store(database, store)
    if raw.get("plugin") == "filestore":
        raise InvalidRequest(
            "a FileStore is not enabled but brought along: `dmedia-transfer stores add-filestore FOLDER` where it is"
        )
    device.bindings.enable(raw)
    output = Output(as_json=as_json)
    output.value({"store_id": raw["_id"], "enabled": True})
    output.line(f"store {places.called(raw)} is enabled on this machine: {places.where(raw)}")
    return 0


@stores_command.command("disable", short_help="Use a store no more on this machine.")
@click.argument("store")
@json_option()
@with_device
def disable(device: Device, *, store: str, as_json: bool) -> int:
    """Use STORE no more on this machine; nothing in it is touched."""
    with device.database() as database:
        raw = device.store(database, store)
    changed = device.bindings.remove(raw["_id"])
    output = Output(as_json=as_json)
    output.value({"store_id": raw["_id"], "enabled": False, "changed": changed})
    output.line(
        f"store {places.called(raw)} is {'not used on this machine any more' if changed else 'not used here anyway'}"
    )
    return 0


@stores_command.command("remove", short_help="Take a store out of the library.")
@click.argument("store")
@click.option("-f", "--force", is_flag=True, help="Also while the library counts on files in it.")
@json_option()
@with_device
def remove(device: Device, *, store: str, force: bool, as_json: bool) -> int:
    """Take STORE out of the library, for all machines; nothing in it is touched.

    `disable` is for this machine only.
    """
    from dmedia_transfer import documents

    with device.database() as database:
        raw = device.store(database, store)
        held = {"type": documents.FILE, f"stored.{raw['_id']}.copies": {"$gt": 0}}
        if not force and any(True for _ in database.find(held, limit=1)):
            raise Permanent(
                f"store {places.called(raw)} is kept: the library counts on files in it; --force removes it anyway"
            )
        database.delete(raw)
        device.bindings.remove(raw["_id"])
    output = Output(as_json=as_json)
    output.value({"store_id": raw["_id"], "removed": True})
    output.line(f"store {places.called(raw)} is no more in the library; what is in it stays: {places.where(raw)}")
    return 0


@stores_command.command("sweep", short_help="Abort uploads that were never finished.")
@click.argument("store")
@click.option("--older-than", "days", default=7.0, type=click.FloatRange(min=0), metavar="DAYS", help="[default: 7]")
@click.option("-n", "--dry-run", is_flag=True, help="Only list them.")
@json_option()
@with_device
def sweep(device: Device, *, store: str, days: float, dry_run: bool, as_json: bool) -> int:
    """Abort uploads to STORE that were begun and never finished, of whatever device.

    They cost money as long as they are there. Those that this machine is at are left alone. Uploads under the
    store's prefix may be another device's: be sure that none is sending anything that old.
    """
    with device.database() as database:
        raw = device.store(database, store)
    if raw.get("plugin") != "s3":
        raise InvalidRequest(f"store {places.called(raw)} is no S3 store; only those have unfinished uploads")
    device.bindings.check_enabled(raw)
    output = Output(as_json=as_json)
    ours = device.uploads_under_way()
    left, rows = 0, []
    with places.bucket_of(device, raw) as backend:
        for each in backend.unfinished():
            begun = each.initiated.timestamp()
            if each.upload_id in ours or time.time() - begun < days * 86400:
                continue
            gone = False if dry_run else backend.abandon(each.object_name, each.upload_id)
            left += not gone
            rows.append({"object": each.object_name, "upload_id": each.upload_id, "begun": begun, "aborted": gone})
            output.line(f"{'aborted' if gone else 'unfinished'}  {words.moment(begun)}  {each.object_name}")
    output.value(rows)
    if not rows:
        output.line("there is nothing to sweep")
    if left and not dry_run:
        note(f"{words.counted(left, 'upload')} still has parts that were on their way; sweep again in a while")
    return 1 if left and not dry_run else 0
