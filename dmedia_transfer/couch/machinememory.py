"""What is remembered of this machine's own document, beyond it: the small interfaces that the journal serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dmedia_transfer.merge import Lineage, News


class LineageRecords(Protocol):
    """Which revisions were in force, and where entries first appeared."""

    def load(self) -> Lineage:
        """The lineage as it was last kept."""

    def keep(self, news: Sequence[News]) -> None:
        """Add what was learned, in order, at once."""


class Tombstones(Protocol):
    """The entries that do not come back."""

    def is_gone(self, identity: str) -> bool:
        """Whether this entry was done, cancelled or removed here before."""

    def removed(self, identities: Sequence[str]) -> None:
        """Entries that were taken out of the queue; those that have ended keep their outcome."""


class Bases(Protocol):
    """Documents as they were last in force."""

    def keep(self, document_id: str, revision: str, body: Mapping[str, Any]) -> None:
        """This is the last one."""


class _NoLineage:
    def load(self) -> Lineage:
        return Lineage()

    def keep(self, news: Sequence[News]) -> None:
        """Not kept."""


class _SomeTombstones:
    def __init__(self) -> None:
        self._gone: set[str] = set()

    def is_gone(self, identity: str) -> bool:
        return identity in self._gone

    def removed(self, identities: Iterable[str]) -> None:
        self._gone.update(identities)


class _NoBases:
    def keep(self, document_id: str, revision: str, body: Mapping[str, Any]) -> None:
        """Not kept."""


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """All of it together; what is not given lives as long as the process."""

    lineage: LineageRecords = field(default_factory=_NoLineage)
    tombstones: Tombstones = field(default_factory=_SomeTombstones)
    bases: Bases = field(default_factory=_NoBases)
