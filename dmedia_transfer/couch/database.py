"""The documents of a library: files, stores and machines, read and edited in one database.

What documents say is not believed here, and the keys that this program does not know are written back as they
came. An attachment that is not touched is kept: a document that is written back names it as a stub.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from dmedia_transfer import documents, leaves, merge
from dmedia_transfer.couch import stored
from dmedia_transfer.couch.raw import Raw, RawDatabase
from dmedia_transfer.errors import Conflict, InvalidDocument, TransferError, Unknown
from dmedia_transfer.model import AddFile, QueueEdit, RecordStored

log = logging.getLogger(__name__)

PAGE_ATTACHMENT_BYTES: Final = 8 * 1024 * 1024  # of leaf digests in one answer, as far as that can be foreseen
FEW: Final = 8  # so many files are read with their attachments before it is known how large those are
MANY: Final = 256  # and so many at most, where the ones before were small
MATCHES_MAX: Final = 25  # a search that finds more is too vague to be of use
SURE_PREFIX: Final = 8  # so many characters at the beginning of an ID are no coincidence
EDIT_ATTEMPTS: Final = 10  # of a document that others write at the same time


class Database(RawDatabase):
    """One library's documents. Any thread may call; every call blocks.

    None is tried again after `DatabaseUnavailable`: the caller decides.
    """

    _page = FEW  # files that are read with their attachments at once, by how large those were that were read last

    def get_with_leaves(self, file_ids: Iterable[str]) -> dict[str, Raw | TransferError]:
        """File documents with their leaf digests inline; what could not be read is there as its error.

        Where a document is in conflict, `stored` is that of all its revisions, and `_conflicts` names the others.
        """
        wanted = list(dict.fromkeys(file_ids))
        answer: dict[str, Raw | TransferError] = {
            file_id: Unknown(f"file {file_id} has no document in database {self.name}") for file_id in wanted
        }
        at = 0
        while at < len(wanted):
            size = self._page
            found = self._get_united(wanted[at : at + size])
            answer |= found
            at += size
            largest = max(map(_attached_bytes, found.values()), default=0)
            self._page = max(1, min(size * 8, MANY, PAGE_ATTACHMENT_BYTES // max(1, largest)))
        return answer

    def _get_united(self, file_ids: Iterable[str]) -> dict[str, Raw]:
        return stored.unite(self, self.get_many(file_ids, attachments=True, conflicts=True))

    def ensure_index(self) -> None:
        """Have the server find documents by their type without looking at all; one that cannot, or may not, looks."""
        index = {"index": {"fields": ["type"]}, "ddoc": "dmedia-transfer", "name": "type", "type": "json"}
        try:
            self.post("_index", index)
        except TransferError as error:
            log.debug("database %s: no index of types: %s", self.name, error)

    def get_stores(self) -> list[Raw]:
        """All store documents."""
        return self.find({"type": documents.STORE})

    def get_machine(self, machine_id: str) -> Raw | None:
        """A machine's document; None if there is none."""
        return self.get(machine_id)

    def find_files(self, text: str) -> list[Raw]:
        """The file documents whose ID begins with `text`, in either case, or whose name it is; at most 25 of each."""
        found: dict[str, Raw] = {}
        if leaves.is_file_id(text.upper()):
            raw = self.get(text.upper())
            return [raw] if raw and raw.get("type") == documents.FILE else []
        if text.isalnum() and text.isascii():
            named = self.get_prefixed(text.upper(), limit=MATCHES_MAX)
            found.update((raw["_id"], raw) for raw in named if raw.get("type") == documents.FILE)
            if found and len(text) >= SURE_PREFIX:
                return list(found.values())  # it is no name, and looking for names takes long
        for raw in self.find({"type": documents.FILE, "name": text}, limit=MATCHES_MAX):
            found.setdefault(raw["_id"], raw)
        return list(found.values())

    # Edits.

    def edit_machine(
        self, machine_id: str, edits: Sequence[QueueEdit], *, base: Mapping[str, Any] | None = None
    ) -> Raw:
        """Apply edits to a machine's document, again and again if others write it at the same time.

        Args:
            machine_id: Whose document.
            edits: Done in order; doing them twice changes nothing.
            base: The last document that is known. It is written back if there is none any more, and heals what
                cannot be believed in the one that is there: a queue is never lost to a damaged document.

        Returns:
            The document as the database has it now, with its `_rev`.

        Raises:
            InvalidDocument: The server does not take it; it is too large, for example.
            Conflict: It changed too often.
        """
        for _ in range(EDIT_ATTEMPTS):
            before = self.get_machine(machine_id)
            after = merge.apply(self._mended(machine_id, before, base), edits)
            if after == before:
                return after
            try:
                return {**after, "_rev": self.put(after)}
            except Conflict:
                log.debug("machine %s: changed while it was edited, once more", machine_id)
        raise Conflict(f"machine {machine_id} changed {EDIT_ATTEMPTS} times while it was edited")

    def record_stored(
        self, records: Sequence[RecordStored], *, read: Mapping[str, Raw] = MappingProxyType({})
    ) -> dict[str, TransferError]:
        """Write into file documents what is stored where; per store the later time wins. Ends their conflicts.

        Args:
            records: What is stored where.
            read: Documents as they were read a short time ago (`stored.as_read`). They are not read again, unless they
                have changed meanwhile; a conflict that came in between is left as it is.

        Returns:
            The files for which it could not be written, and why; trying again does not help there.

        Raises:
            DatabaseUnavailable: Some may have been written; doing all of them again is harmless.
        """
        return stored.record(self, records, read=read)

    def add_files(self, files: Sequence[AddFile]) -> dict[str, TransferError]:
        """Write documents of new files; where there is one already, only what is stored where.

        Returns:
            As `record_stored`.

        Raises:
            DatabaseUnavailable: Some may have been written; doing all of them again is harmless.
        """
        return stored.add(self, files)

    def list_stored(self, store_id: str, *, after: str, limit: int) -> list[tuple[str, int]]:
        """The files, and their bytes, that a store has by their documents, in the order of their IDs.

        Args:
            store_id: The store.
            after: Only files with a greater ID.
            limit: At most so many; fewer mean that there are no more.
        """
        selector = {"_id": {"$gt": after}, "type": documents.FILE, f"stored.{store_id}.copies": {"$gt": 0}}
        # Not sorted: whichever index the server takes, it walks IDs in order; one that sorts looks at all of them.
        query = {"selector": selector, "fields": ["_id", "bytes"], "limit": limit}
        answer = self.post("_find", query)
        with self._sensible():
            found = [(str(raw["_id"]), raw.get("bytes")) for raw in answer["docs"]]
        return [(file_id, size if isinstance(size, int) else 0) for file_id, size in found]

    def _mended(self, machine_id: str, raw: Raw | None, base: Mapping[str, Any] | None) -> Raw:
        """A machine document that can be believed: what cannot is taken from `base`, or from a new one."""
        clean = {key: value for key, value in (base or {}).items() if not key.startswith("_")}
        spare = documents.new_machine(machine_id, "", time=time.time()) | clean
        if raw is None:
            log.info("machine %s: has no document in database %s, writing one", machine_id, self.name)
            return spare
        for _ in range(len(documents.MachineDocument.model_fields)):
            try:
                documents.read_machine(raw)
            except InvalidDocument as problem:
                key = problem.key.partition(".")[0]
                if key.startswith("_"):
                    break
                log.warning("machine %s: mending its document: %s", machine_id, problem)
                raw = {name: value for name, value in raw.items() if name != key}
                if key in spare:
                    raw[key] = spare[key]
            else:
                break
        return raw


def _attached_bytes(raw: Mapping[str, Any]) -> int:
    """The length of what is attached to a document and came with it, in base64."""
    attachments = raw.get("_attachments")
    each = attachments.values() if isinstance(attachments, dict) else ()
    return sum(len(one["data"]) for one in each if isinstance(one, dict) and isinstance(one.get("data"), str))
