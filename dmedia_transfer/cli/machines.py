"""`machines`: the devices of the library, what they do, and the end of one's trust."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.options import HELP_NAMES, Group, json_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.errors import Conflict, InvalidRequest, TransferError, Unknown

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.couch.database import Database
    from dmedia_transfer.statusdoc import StatusDocument

ATTEMPTS = 10  # of a document that others write at the same time


@click.group(
    "machines",
    cls=Group,
    short_help="List the machines, or forget one.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    context_settings={"help_option_names": HELP_NAMES},
)
@json_option()
@click.pass_context
def machines_command(ctx: click.Context, *, as_json: bool) -> int:
    """List the machines of the library: what they do, and when they were last heard of.

    \b
    Examples:
      dmedia-transfer machines
      dmedia-transfer machines forget old-phone
      dmedia-transfer machines new-key
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError("--json goes after the command.", ctx)
        return 0
    with ctx.obj.device() as device:
        return _list(device, as_json)


def _list(device: Device, as_json: bool) -> int:
    from dmedia_transfer import documents
    from dmedia_transfer.cli import remote

    _ = device.client  # brings the database server with it, if it is there
    with device.database() as database:
        machines = sorted(database.find({"type": documents.MACHINE}), key=lambda raw: str(raw.get("hostname")))
        told = {raw["_id"]: remote.status_of(database, raw["_id"]) for raw in machines}
    output = Output(as_json=as_json)
    output.value([_as_json(device, raw, told[raw["_id"]]) for raw in machines])
    output.table(
        ["ID", "name", "does", ">queued", "last heard of", "reached at"],
        [_row(device, raw, told[raw["_id"]]) for raw in machines],
        empty="There is no machine yet; the daemon makes its document when it is first started.",
    )
    return 0


@machines_command.command("forget", short_help="End a machine's trust.")
@click.argument("machine")
@json_option()
@with_device
def _forget(device: Device, *, machine: str, as_json: bool) -> int:
    """Trust MACHINE no more: the others do not speak to it, whatever it says.

    Its document stays, with `forgotten`, which wins over any other edit. Who can write the database can still add a
    machine: take its access to the database away as well.
    """
    with device.database() as database:
        raw = device.machine(database, machine)
        if raw["_id"] == device.machine_id:
            raise InvalidRequest("this is the machine you are at; forget it from another one")
        changed = _mark(database, raw["_id"])
    output = Output(as_json=as_json)
    output.value({"machine_id": raw["_id"], "forgotten": True, "changed": changed})
    name = words.printable(str(raw.get("hostname") or raw["_id"]))
    output.line(f"{name} is forgotten" if changed else f"{name} was forgotten already")
    note("take its access to the database away as well: who can write there can add a machine")
    return 0


@machines_command.command(
    "new-key", short_help="Replace this machine's key for peers.", context_settings={"help_option_names": HELP_NAMES}
)
@click.option("--at-once", is_flag=True, help="Throw the old key away now: somebody else may have it.")
@json_option()
@with_device
def _new_key(device: Device, *, at_once: bool, as_json: bool) -> int:
    """Replace the key by which the other machines know this one. That is done by itself before it expires.

    The new certificate is published at once and used in 30 days, when all have learned of it. With --at-once it is used
    now, and each of the others refuses this machine until it has synced.
    """
    from dmedia_transfer.peers import identity

    if not device.config.peer.enabled:
        raise InvalidRequest("this machine speaks to no others: `enabled` in `[peer]` of its configuration is false")
    change = identity.renew if at_once else identity.rotate
    kept = change(device.config.state_dir, device.machine_id)
    output = Output(as_json=as_json)
    output.value({"certificates": [each.fingerprint for each in kept.published], "used": kept.certificate.fingerprint})
    newest = kept.published[-1]
    output.line(f"the new certificate is {newest.fingerprint:.16}, {'used now' if at_once else 'used in 30 days'}")
    note("the daemon publishes it as soon as it runs")
    return 0


def _mark(database: Database, machine_id: str) -> bool:
    """Write `forgotten` into a machine's document; says whether it was not there."""
    for _ in range(ATTEMPTS):
        raw = database.get_machine(machine_id)
        if raw is None:
            raise Unknown(f"machine {machine_id} has no document any more")
        if raw.get("forgotten") is True:
            return False
        try:
            database.put({**raw, "forgotten": True})
        except Conflict:
            continue
        return True
    raise Conflict(f"document {machine_id}: it changed too often")


def _does(status: StatusDocument | None) -> str:
    if status is None:
        return ""
    counts = ", ".join(f"{count} {word}" for word, count in sorted(status.counts.items()))
    return f"queue paused; {counts}" if status.queue_paused else counts


def _row(device: Device, raw: Mapping[str, Any], status: StatusDocument | None) -> dict[str, Any]:
    queue = raw.get("queue")
    name = words.printable(str(raw.get("hostname") or ""))
    marks = [
        *(["this one"] if raw["_id"] == device.machine_id else []),
        *(["forgotten"] if raw.get("forgotten") else []),
    ]
    return {
        "ID": (words.short(raw["_id"]), raw["_id"]),
        "name": f"{name} ({', '.join(marks)})" if marks else name,
        "does": _does(status),
        "queued": str(len(queue)) if isinstance(queue, list) else "?",
        "last heard of": words.moment(status.time) if status else "never",
        "reached at": _reached_at(device, raw)[0],
    }


def _reached_at(device: Device, raw: Mapping[str, Any]) -> tuple[str, str]:
    """The address at which a machine is tried first, and why there is none."""
    if device.reach is None or raw["_id"] == device.machine_id:
        return "", ""
    try:
        return str(device.reach.settings(raw["_id"])["addresses"][0]), ""
    except TransferError as error:
        return "", str(error)


def _as_json(device: Device, raw: Mapping[str, Any], status: StatusDocument | None) -> dict[str, Any]:
    queue = raw.get("queue")
    return {
        "machine_id": raw["_id"],
        "hostname": raw.get("hostname"),
        "this": raw["_id"] == device.machine_id,
        "forgotten": bool(raw.get("forgotten")),
        "queued": len(queue) if isinstance(queue, list) else None,
        "queue_paused": bool(raw.get("queue_paused")),
        "status": status.model_dump(mode="json") if status else None,
        "reached_at": _reached_at(device, raw)[0] or None,
        "not_reached": _reached_at(device, raw)[1] or None,
    }
