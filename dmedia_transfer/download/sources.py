"""Which store a leaf is fetched from, and what becomes of one that fails.

A source that fails is demoted: nothing more is fetched from it in this run. One whose leaf is corrupt is not asked for
that leaf again after the third time, and for nothing after the second corrupt leaf. One that disagrees about the
file's size is set aside without blame, as the document is the suspect.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dmedia_transfer.errors import CorruptLeaf, NoSource, SizeDisputed, TransferError, Waiting
from dmedia_transfer.model import FileSpec, TransferKey
from dmedia_transfer.ports import Meter, ObjectInfo

log = logging.getLogger(__name__)

FETCHES_PER_LEAF: Final = 3  # of a corrupt leaf, from one source
CORRUPT_LEAVES: Final = 2  # of one source, after which it is asked for nothing more


class Reads(Protocol):
    """What a download needs of a backend."""

    def stat(self, file: FileSpec) -> ObjectInfo | None:
        """What the store has under the file's name, or None."""

    def fetch(self, file: FileSpec, start: int, into: memoryview, meter: Meter) -> None:
        """Fill `into` with the object's bytes from offset `start`."""

    def cut(self) -> None:
        """Cut all connections."""


@dataclass(frozen=True, slots=True)
class Source:
    """A store that should have the file."""

    store_id: str
    store: Reads


class Sources:
    """The sources of one run, in the order of preference. Any thread may call."""

    def __init__(self, key: TransferKey, sources: Sequence[Source]) -> None:
        self._key = key
        self._sources = list(sources)
        self._lock = threading.Lock()
        self._demoted: dict[str, TransferError] = {}
        self._fetches: Counter[tuple[str, int]] = Counter()  # corrupt ones, by store and leaf
        self._corrupt: defaultdict[str, dict[int, CorruptLeaf]] = defaultdict(dict)  # given up on, by store

    def pick(self, leaf: int) -> Source:
        """Where to fetch this leaf.

        Raises:
            TransferError: No source is left for it; the error that trying again helps most against.
        """
        with self._lock:
            for source in self._sources:
                if source.store_id not in self._demoted and leaf not in self._corrupt[source.store_id]:
                    return source
            raise self._verdict(leaf)

    def failed(self, source: Source, error: TransferError) -> None:
        """Fetch nothing more from this source."""
        with self._lock:
            if source.store_id not in self._demoted:
                self._demoted[source.store_id] = error
                log.warning("%s: store %s is not asked any more: %s", self._key, source.store_id, error)

    def corrupt(self, source: Source, leaf: int) -> None:
        """A leaf from this source did not match its digest."""
        error = CorruptLeaf(self._key.file_id, leaf, source.store_id)
        with self._lock:
            self._fetches[source.store_id, leaf] += 1
            again = self._fetches[source.store_id, leaf] < FETCHES_PER_LEAF
            log.warning("%s: %s%s", self._key, error, "; it is fetched again" if again else "")
            if again:
                return
            self._corrupt[source.store_id][leaf] = error
            if len(self._corrupt[source.store_id]) >= CORRUPT_LEAVES:
                self._demoted.setdefault(source.store_id, error)

    def blamed_for(self, error: BaseException) -> str:
        """The store that an error came from; empty if none did, or if it is not to blame."""
        with self._lock:
            stores = [store_id for store_id, known in self._demoted.items() if known is error]
        return stores[0] if stores and not isinstance(error, SizeDisputed) else ""

    def _verdict(self, leaf: int) -> TransferError:
        errors = list(self._demoted.values())
        errors += [corrupt[leaf] for corrupt in self._corrupt.values() if leaf in corrupt]
        return min(errors, key=_hopelessness, default=NoSource(f"{self._key}: there is no store to fetch it from"))


def _hopelessness(error: TransferError) -> int:
    if error.transient:
        return 0
    if isinstance(error, Waiting):
        return 1
    if isinstance(error, SizeDisputed):
        return 2
    return 3 if isinstance(error, CorruptLeaf) else 4
