"""`stores add-filestore` and `stores add-s3`: new places that keep files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmedia_transfer.cli import names, places, words
from dmedia_transfer.cli.options import command, json_option, with_device
from dmedia_transfer.cli.output import Output
from dmedia_transfer.errors import InvalidRequest
from dmedia_transfer.model import random_id

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.couch.database import Database

_name = click.option("-n", "--name", default="", metavar="NAME", help="What people call it.")


@command("add-filestore", "Keep files in a folder of this machine.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_name
@json_option()
@with_device
def add_filestore_command(device: Device, *, folder: Path, name: str, as_json: bool) -> int:
    """Keep files in FOLDER, which is made if it is not there.

    A FileStore that was brought along on a drive keeps its ID, wherever it is mounted.

    \b
    Examples:
      dmedia-transfer stores add-filestore ~/Dmedia
      dmedia-transfer stores add-filestore /media/me/disk/dmedia --name disk
    """
    from dmedia_transfer import documents
    from dmedia_transfer.filestore import FileStore

    root = folder.expanduser().resolve()
    with device.database() as database:
        store_id = FileStore.store_at(root) or random_id()
        FileStore.create(root, store_id)
        device.bindings.add_filestore(store_id, root)
        raw = database.get(store_id)
        if raw is None:
            raw = documents.new_store(
                store_id,
                "filestore",
                time=_now(),
                name=name or _free_name(database, device.config.hostname),
                machine_id=device.machine_id,
            )
            database.put(raw)
        elif raw.get("machine_id") != device.machine_id or (name and raw.get("name") != name):
            raw = {**raw, "machine_id": device.machine_id, **({"name": name} if name else {})}
            database.put(raw)
    return _added(raw, str(root), as_json)


@command("add-s3", "Keep files in a bucket of S3.")
@click.argument("bucket")
@_name
@click.option("--endpoint", default="", metavar="URL", help="Of a server that is not Amazon's: https://host:port.")
@click.option("--region", default="", metavar="REGION", help="Where the bucket is; else what boto3 is set to.")
@click.option("--prefix", default="", metavar="PREFIX", help="What all objects' names begin with, like `films/`.")
@click.option("--ext", "use_ext", is_flag=True, help="Objects' names end in the file's extension.")
@click.option("--subdir", "use_subdir", is_flag=True, help="Objects are in folders of two characters.")
@click.option("--storage-class", default="", metavar="CLASS", help="Like STANDARD_IA.")
@click.option("--copies", default=1, type=click.IntRange(0, 100), help="How many copies it counts as.  [default: 1]")
@click.option("--cost", type=click.IntRange(0, 1_000_000), help="Cheaper stores are read from first.  [default: 100]")
@click.option("--no-check", is_flag=True, help="Do not try whether the bucket can be reached and written.")
@json_option()
@with_device
def add_s3_command(
    device: Device,
    /,
    *,
    bucket: str,
    name: str,
    endpoint: str,
    cost: int | None,
    no_check: bool,
    as_json: bool,
    **settings: Any,
) -> int:
    """Keep files in BUCKET of Amazon S3, or of a server that speaks its protocol, and enable it on this machine.

    The credentials are those that boto3 finds (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE,
    ~/.aws/credentials, ...), or a systemd credential `s3-STORE_ID` of the unit. They are never written anywhere.

    \b
    Examples:
      dmedia-transfer stores add-s3 my-bucket --region eu-central-1
      dmedia-transfer stores add-s3 films --endpoint https://s3.example.org --name nas
    """
    from dmedia_transfer import documents

    output = Output(as_json=as_json)
    with device.database() as database:
        raw = documents.new_store(
            random_id(),
            "s3",
            time=_now(),
            name=name or _free_name(database, bucket),
            bucket=bucket,
            endpoint_url=endpoint,
            **({} if cost is None else {"cost": cost}),
            **settings,
        )
        documents.read_store(raw)
        read = documents.read_s3_settings(raw)
        same = [each for each in database.get_stores() if _same_place(each, read)]
        if same:
            raise InvalidRequest(
                f"store {words.short(same[0]['_id'])} ({names.name_of(same[0])}) is this bucket and prefix already; "
                f"`dmedia-transfer stores enable {words.short(same[0]['_id'])}` allows it here"
            )
        device.bindings.enable(raw)  # first: it refuses what would be reached without TLS
        try:
            if not no_check:
                with places.bucket_of(device, raw) as backend:
                    output.line(backend.probe())
            database.put(raw)
        except BaseException:
            device.bindings.disable(raw["_id"])
            raise
    return _added(raw, places.where(raw), as_json)


def _added(raw: Mapping[str, Any], place: str, as_json: bool) -> int:
    output = Output(as_json=as_json)
    output.value({"store_id": raw["_id"], "name": names.name_of(raw), "where": place})
    output.line(f"store {places.called(raw)} is ready: {place}")
    return 0


def _free_name(database: Database, wish: str) -> str:
    """A name that no other store has."""
    taken = {raw.get("name") for raw in database.get_stores()}
    if wish not in taken:
        return wish
    return next(name for number in range(2, len(taken) + 3) if (name := f"{wish}-{number}") not in taken)


def _same_place(raw: Mapping[str, Any], settings: Any) -> bool:
    return raw.get("plugin") == "s3" and (
        raw.get("bucket"),
        raw.get("endpoint_url") or "",
        raw.get("prefix") or "",
    ) == (settings.bucket, settings.endpoint_url, settings.prefix)


def _now() -> float:
    return round(time.time(), 3)
