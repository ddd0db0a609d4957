"""What the files of transfers are called, read from their documents when they are first seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from dmedia_transfer.cli import names
from dmedia_transfer.cli.output import note
from dmedia_transfer.errors import TransferError

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device


class Called:
    """What files are called; empty for those that have no name, or if nobody can be asked."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._names: dict[str, str] = {}

    def __call__(self, file_id: str) -> str:
        return self._names.get(file_id, "")

    @property
    def names(self) -> Mapping[str, str]:
        """All that were looked up, by ID."""
        return MappingProxyType(self._names)

    def look_up(self, file_ids: Iterable[str]) -> None:
        """Read the names of those that were not read yet."""
        new = set(file_ids) - self._names.keys()
        if not new:
            return
        self._names.update(dict.fromkeys(new, ""))
        try:
            with self._device.database() as database:
                found = database.get_many(new)
        except TransferError as error:
            note(f"the names of files are not known: {error}")
            return
        self._names.update((file_id, names.name_of(raw)) for file_id, raw in found.items())
