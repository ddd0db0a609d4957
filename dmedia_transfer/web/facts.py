"""Facts: names and sizes of files, out of their documents, kept for those that are looked at.

A list with names must not wait for a database that does not answer: what is not known in time is told as unknown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from dmedia_transfer import documents
from dmedia_transfer.errors import InvalidDocument, TransferError
from dmedia_transfer.web.bridge import Bridge

KEPT: Final = 20_000  # files
FRESH_S: Final = 5.0  # a file that had no document may have one now
WAIT_S: Final = 2.0  # for the database

log = logging.getLogger(__name__)


class FileDocuments(Protocol):
    """What of the library's documents this needs. Calls block."""

    def get_many(self, ids: Iterable[str]) -> Mapping[str, Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Fact:
    """What is told of a file."""

    name: str
    mime: str = ""
    size: int = 0
    ext: str = ""
    stored: Mapping[str, int] = field(default_factory=dict)  # copies by store


class Facts:
    """For one event loop."""

    def __init__(self, library: FileDocuments, bridge: Bridge, *, wait_s: float = WAIT_S) -> None:
        self._library = library
        self._bridge = bridge
        self._wait_s = wait_s
        self._known: OrderedDict[str, Fact] = OrderedDict()
        self._unknown: dict[str, float] = {}  # asked for in vain, and when
        self._asking: dict[str, asyncio.Task[None]] = {}

    def name(self, file_id: str) -> str | None:
        """A file's name, if it is known now."""
        fact = self._known.get(file_id)
        return fact.name if fact is not None else None

    def fact(self, file_id: str) -> Fact | None:
        """What is told of a file, if it is known now."""
        return self._known.get(file_id)

    async def names(self, file_ids: Iterable[str]) -> Mapping[str, str | None]:
        """The names of these files, as far as they can be found out soon."""
        wanted = list(dict.fromkeys(file_ids))
        await self._learn(wanted)
        return {file_id: self.name(file_id) for file_id in wanted}

    async def _learn(self, file_ids: Iterable[str]) -> None:
        now = time.monotonic()
        new = [
            file_id
            for file_id in file_ids
            if file_id not in self._known
            and file_id not in self._asking
            and now - self._unknown.get(file_id, -FRESH_S) >= FRESH_S
        ]
        if new:
            task = asyncio.get_running_loop().create_task(self._ask(new))
            self._asking.update(dict.fromkeys(new, task))
        waiting = {self._asking[file_id] for file_id in file_ids if file_id in self._asking}
        if waiting:
            await asyncio.wait(waiting, timeout=self._wait_s)

    async def _ask(self, file_ids: list[str]) -> None:
        try:
            found = await self._bridge.thread(self._library.get_many, file_ids)
        except TransferError as error:
            log.debug("names of %d files: %s", len(file_ids), error)
            found = {}
        finally:
            for file_id in file_ids:
                self._asking.pop(file_id, None)
        now = time.monotonic()
        if len(self._unknown) > KEPT:
            self._unknown.clear()
        for file_id in file_ids:
            fact = fact_of(found.get(file_id))
            if fact is None:
                self._unknown[file_id] = now
            else:
                self._known[file_id] = fact
        while len(self._known) > KEPT:
            self._known.popitem(last=False)


def fact_of(raw: Mapping[str, Any] | None) -> Fact | None:
    """What a document tells of its file; None if there is none, or none that can be believed."""
    if raw is None:
        return None
    try:
        file = documents.read_file(raw)
    except InvalidDocument:
        return None
    stored = {store_id: line.copies for store_id, line in file.stored.items()}
    return Fact(file.name, file.mime, file.bytes, file.ext, stored)
