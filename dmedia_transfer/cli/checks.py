"""The checks of `doctor`: each part in turn, what is wrong with it, and what to do.

Nothing is started and nothing is changed, but that a machine gets its ID, an empty database is made where there is
none, and a byte is sent to S3 stores in an upload that is then aborted.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from dmedia_transfer import config as configuration
from dmedia_transfer import documents
from dmedia_transfer.cli import checks_peers, checks_service, names, places, words
from dmedia_transfer.cli.findings import Check, Finding, Verdict
from dmedia_transfer.errors import AccessDenied, InvalidDocument, TransferError
from dmedia_transfer.journal.journal import FILE_NAME as JOURNAL_FILE
from dmedia_transfer.journal.journal import Journal

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device

OLD_UPLOAD_S: Final = 86400.0  # a younger one may well be under way on another device


CONFIGURATION: Final = "configuration"


def _configuration(device: Device) -> Iterator[Finding]:
    path = device.config_path or configuration.config_path()
    config = device.config
    said = f"{path} is read" if path.exists() else f"there is no {path}, the defaults hold"
    if (
        config.couchdb_password.get_secret_value()
        and path.exists()
        and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ):
        yield Finding(
            CONFIGURATION, Verdict.WRONG, f"others can read {path}, and a password is set", f"chmod 600 {path}"
        )
    else:
        yield Finding(CONFIGURATION, Verdict.GOOD, said)
    yield Finding("this machine", Verdict.GOOD, f"{config.hostname} is machine {device.machine_id}")
    if not os.access(config.state_dir, os.W_OK):
        yield Finding(
            "state folder",
            Verdict.WRONG,
            f"{config.state_dir} cannot be written",
            "give yourself the right to write there",
        )


def _database(device: Device) -> Iterator[Finding]:
    from dmedia_transfer.couch import servers

    config = device.config
    running = servers.find(config)
    with device.database() as database:
        raw = database.get_machine(device.machine_id)
        if running is None:
            yield Finding(
                "database", Verdict.NOTE, f"the {config.couchdb} server is not running; it was started just to look"
            )
        else:
            yield Finding("database", Verdict.GOOD, f"{config.database} at {database.address.url} answers")
        if config.couchdb == configuration.EMBEDDED and not config.sync:
            yield Finding(
                "database",
                Verdict.NOTE,
                "the built-in server is for one device; for more, `sync` keeps it equal with a CouchDB that all reach",
            )
        yield from _queue(raw)
        yield from _stores(device, database.get_stores())


def _queue(raw: Mapping[str, Any] | None) -> Iterator[Finding]:
    if raw is None:
        yield Finding("queue", Verdict.NOTE, "this machine has no document yet; the daemon makes it when it starts")
        return
    try:
        queue = documents.read_queue(documents.read_machine(raw))
    except InvalidDocument as error:
        yield Finding("queue", Verdict.WRONG, str(error), "mend it; the daemon goes by the last good one meanwhile")
        return
    for problem in queue.problems:
        yield Finding(
            "queue", Verdict.WRONG, str(problem), "mend or remove that entry; nothing else is disturbed by it"
        )
    if queue.paused:
        yield Finding(
            "queue", Verdict.NOTE, "the whole queue is paused", "`dmedia-transfer resume --all` lets it go on"
        )
    yield Finding("queue", Verdict.GOOD, f"{words.counted(len(queue.entries), 'entry', 'entries')}")


def _journal(device: Device) -> Iterator[Finding]:
    path = device.config.state_dir / JOURNAL_FILE
    if not path.exists():
        yield Finding("journal", Verdict.NOTE, "there is none yet; the daemon makes it when it starts")
        return
    with Journal(path) as journal:
        waiting, failures = len(journal.outbox.pending()), journal.ledger.failures()
    yield Finding("journal", Verdict.GOOD, f"{path} can be read")
    if waiting:
        yield Finding("journal", Verdict.NOTE, f"{words.counted(waiting, 'edit')} waits for the database to take it")
    if failures:
        yield Finding(
            "transfers",
            Verdict.NOTE,
            f"{words.counted(len(failures), 'transfer')} failed",
            "`dmedia-transfer list` says why, `dmedia-transfer retry --all` tries again",
        )


def _filestores(device: Device) -> Iterator[Finding]:
    part = "FileStores"
    all_stores = device.filestores.all()
    for store in all_stores:
        try:
            free = store.free_bytes()
        except TransferError as error:
            yield Finding(
                part,
                Verdict.WRONG,
                str(error),
                f"bring its drive back, or `dmedia-transfer stores disable {store.store_id}`",
            )
            continue
        if not os.access(store.root, os.W_OK):
            yield Finding(
                part, Verdict.WRONG, f"{store.root} cannot be written", "give yourself the right to write there"
            )
        elif not free:
            yield Finding(
                part,
                Verdict.WRONG,
                f"{store.root} has no room above the floor of free space",
                "make room, or lower `floor_bytes`",
            )
        else:
            yield Finding(part, Verdict.GOOD, f"{store.root} has {words.size(free)} left")
    if not all_stores:
        yield Finding(
            part, Verdict.WRONG, "this machine has none", "`dmedia-transfer stores add-filestore FOLDER` makes one"
        )


def _stores(device: Device, raws: list[dict[str, Any]]) -> Iterator[Finding]:
    local, ours = device.local_stores(raws), device.uploads_under_way()
    others = [raw for raw in raws if raw.get("plugin") != "filestore"]
    for raw in others:
        called = names.name_of(raw) or raw["_id"]
        part = f"store {called}"
        if raw["_id"] not in device.bindings.enabled():
            yield Finding(
                part, Verdict.NOTE, "it is not enabled on this machine", f"`dmedia-transfer stores enable {raw['_id']}`"
            )
            continue
        try:
            local.spec(raw["_id"])
            yield from (
                _bucket(device, part, raw, ours)
                if raw.get("plugin") == "s3"
                else [Finding(part, Verdict.GOOD, "enabled")]
            )
        except TransferError as error:
            yield Finding(part, Verdict.WRONG, str(error), _remedy_of_store(error))
    if not others:
        yield Finding(
            "stores", Verdict.NOTE, "there is none but FileStores", "`dmedia-transfer stores add-s3 BUCKET` adds one"
        )


def _bucket(device: Device, part: str, raw: Mapping[str, Any], ours: set[str]) -> Iterator[Finding]:
    with places.bucket_of(device, raw) as backend:
        yield Finding(part, Verdict.GOOD, backend.probe())
        old = [
            each
            for each in backend.unfinished()
            if each.upload_id not in ours and time.time() - each.initiated.timestamp() > OLD_UPLOAD_S
        ]
    if old:
        yield Finding(
            part,
            Verdict.NOTE,
            f"{words.counted(len(old), 'unfinished upload')} that this machine knows nothing of, the oldest of "
            f"{words.moment(min(each.initiated for each in old).timestamp())}; they cost money",
            f"`dmedia-transfer stores sweep {raw['_id']}` aborts them; a lifecycle rule of the bucket would, too",
        )


def _remedy_of_store(error: TransferError) -> str:
    if "enable" in str(error):
        return ""  # it says so itself
    if isinstance(error, AccessDenied):
        return "look at the credentials that boto3 finds (AWS_PROFILE, ~/.aws/credentials, ...) and at what they may do"
    return "look at the endpoint and the network" if error.transient else ""


CHECKS: Final[Mapping[str, Check]] = {
    CONFIGURATION: _configuration,
    "journal": _journal,
    "FileStores": _filestores,
    "database": _database,
    checks_peers.PART: checks_peers.peers,
    "D-Bus": checks_service.bus,
    "systemd": checks_service.systemd,
}
