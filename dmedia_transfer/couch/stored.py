"""Stored: what is stored where, written into file documents, and united where those are in conflict.

Two machines note a store of the same file while apart, and CouchDB keeps both revisions. Their `stored` are united
(`documents.merge_stored`), whenever such a document is read and for good whenever it is written, so that a store that
a machine has proven is not lost to a conflict. The united revision is written first, only then the others are deleted.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from dmedia_transfer import documents
from dmedia_transfer.couch.raw import PAGE_DOCUMENTS, Raw, RawDatabase, pages
from dmedia_transfer.errors import Conflict, InvalidDocument, TransferError, Unknown
from dmedia_transfer.model import AddFile, RecordStored

log = logging.getLogger(__name__)

EDIT_ATTEMPTS: Final = 10  # of a document that others write at the same time


Read = Mapping[str, Raw]  # documents as they were read a short time ago, by ID
_NOTHING_READ: Final[Read] = MappingProxyType({})


def record(
    database: RawDatabase, records: Sequence[RecordStored], *, read: Read = _NOTHING_READ
) -> dict[str, TransferError]:
    """Write records into their file documents; see `Database.record_stored`."""
    lines: dict[str, list[RecordStored]] = {}
    for each in records:
        lines.setdefault(each.file_id, []).append(each)
    problems: dict[str, TransferError] = {}
    for page in pages(list(lines), PAGE_DOCUMENTS):
        waiting: Sequence[str] = page
        for attempt in range(EDIT_ATTEMPTS):
            there = {} if attempt else {file_id: read[file_id] for file_id in page if file_id in read}
            waiting = _record_page(database, {file_id: lines[file_id] for file_id in waiting}, problems, there)
            if not waiting:
                break
        problems |= {file_id: Conflict(f"file {file_id} changed too often to be written") for file_id in waiting}
    return problems


def noted(raw: Raw, records: Sequence[RecordStored]) -> Raw:
    """A file document as it will be once these records are written into it."""
    there = raw.get("stored", {})
    if not records or not isinstance(there, dict):
        return raw
    return {**raw, "stored": documents.merge_stored([there, *(_stored_line(there, record) for record in records)])}


def add(database: RawDatabase, files: Sequence[AddFile]) -> dict[str, TransferError]:
    """Write documents of new files; see `Database.add_files`."""
    problems: dict[str, TransferError] = {}
    there: list[RecordStored] = []
    for page in pages(list({file.file_id: file for file in files}), PAGE_DOCUMENTS):
        known = database.get_many(page)
        first = {file.file_id: file for file in reversed(files) if file.file_id in page and file.file_id not in known}
        outcomes = database.put_many([_new_document(file) for file in first.values()])
        for file in files:
            error = outcomes.get(file.file_id)
            if file.file_id not in page:
                continue
            if error is not None and not isinstance(error, Conflict):
                problems[file.file_id] = error
            elif error is not None or first.get(file.file_id) is not file:
                there.append(file.record)
    return problems | record(database, there)


def _new_document(file: AddFile) -> Raw:
    facts = {"name": file.name, "ext": file.ext, "mime": file.mime, "origin": file.origin}
    stored = {file.store_id: {"copies": 1, "time": file.time}}
    digests = base64.b64decode(file.leaf_digests)
    return documents.new_file(file.file_id, file.size, digests, time=file.time, stored=stored, **facts)


def unite(database: RawDatabase, found: Mapping[str, Raw]) -> dict[str, Raw]:
    """File documents that were read with `_conflicts`, each with the `stored` of all its revisions."""
    return {
        file_id: raw if "stored" in raw and not raw.get("_conflicts") else _still_in_conflict(database, raw)
        for file_id, raw in found.items()
    }


def _still_in_conflict(database: RawDatabase, raw: Raw) -> Raw:
    conflicts = {"_conflicts": raw["_conflicts"]} if raw.get("_conflicts") else {}
    return _united(raw, _others(database, raw)) | conflicts


def _record_page(
    database: RawDatabase,
    lines: Mapping[str, Sequence[RecordStored]],
    problems: dict[str, TransferError],
    read: Read,
) -> list[str]:
    """One attempt; returns the files whose documents changed meanwhile. Those in `read` are not read again."""
    found = {**read, **database.get_many([file_id for file_id in lines if file_id not in read], conflicts=True)}
    changed: list[Raw] = []
    losers: dict[str, list[str]] = {}
    for file_id, news in lines.items():
        raw = found.get(file_id)
        if raw is None:
            problems[file_id] = Unknown(f"file {file_id} has no document in database {database.name}")
            continue
        stored = raw.get("stored", {})
        if raw.get("type") != documents.FILE or not isinstance(stored, dict):
            problems[file_id] = InvalidDocument(file_id, "stored", "cannot be written: this is no file document")
            continue
        others = _others(database, raw)
        losers[file_id] = [str(other["_rev"]) for other in others if _leaves_of(other) in (None, _leaves_of(raw))]
        united = _united(raw, others)
        united["stored"] = documents.merge_stored(
            [united["stored"], *(_stored_line(united["stored"], record) for record in news)]
        )
        if united["stored"] != stored:
            changed.append(united)
    outcomes = database.put_many(changed)
    for file_id, revisions in losers.items():
        if outcomes.get(file_id) is None and revisions:
            log.info("file %s: %s revisions in conflict are united", file_id, len(revisions) + 1)
            database.delete_leaves(file_id, revisions)
    problems |= {file_id: error for file_id, error in outcomes.items() if error and not isinstance(error, Conflict)}
    return [file_id for file_id, error in outcomes.items() if isinstance(error, Conflict)]


def as_read(raw: Mapping[str, Any]) -> Raw | None:
    """A document that was read with its attachments inline, as it is written back; None if that wants another look."""
    if "_conflicts" in raw or raw.get("type") != documents.FILE:
        return None
    attachments = raw.get("_attachments")
    if not isinstance(attachments, dict) or not all(isinstance(each, dict) for each in attachments.values()):
        return None
    stubs = {
        name: {**{key: value for key, value in each.items() if key != "data"}, "stub": True}
        for name, each in attachments.items()
    }
    return {**raw, "_attachments": stubs}


def _others(database: RawDatabase, raw: Mapping[str, Any]) -> list[Raw]:
    """The revisions of a document that are in conflict with this one."""
    conflicts = raw.get("_conflicts")
    if not conflicts:
        return []
    return [leaf for leaf in database.get_leaves(str(raw["_id"])) if leaf.get("_rev") in conflicts]


def _united(raw: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> Raw:
    plain = {key: value for key, value in raw.items() if key != "_conflicts"}
    bodies = [each.get("stored") for each in others]
    if bodies or "stored" not in plain:
        plain["stored"] = documents.merge_stored([plain.get("stored"), *bodies])
    return plain


def _leaves_of(raw: Mapping[str, Any]) -> object:
    """Which leaf digests are attached to a revision; None if none are. A revision that alone has some is kept."""
    try:
        return raw["_attachments"][documents.LEAVES_ATTACHMENT]["digest"]
    except (KeyError, TypeError):
        return None


def _stored_line(stored: Mapping[str, Any], record: RecordStored) -> Raw:
    """What a `stored` with this record says of its store, with what else is said there."""
    line = stored.get(record.store_id)
    known = {key: value for key, value in line.items() if key != "corrupt"} if isinstance(line, dict) else {}
    corrupt = {} if record.corrupt is None else {"corrupt": list(record.corrupt)}
    return {record.store_id: {**known, "copies": record.copies, "time": record.time, **corrupt}}
