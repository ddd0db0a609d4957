"""Board: all transfers, and who is told when one changes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from dmedia_transfer.errors import Unknown
from dmedia_transfer.manager.item import Item
from dmedia_transfer.manager.places import changed_places
from dmedia_transfer.model import Entry, Transfer, TransferKey
from dmedia_transfer.ports import Listener
from dmedia_transfer.states import Event, Reason

log = logging.getLogger(__name__)


class Board:
    """The one place where a transfer's public value is replaced, so that no change goes untold."""

    def __init__(self) -> None:
        self._items: dict[TransferKey, Item] = {}
        self._by_file: dict[str, tuple[Item, ...]] = {}  # mostly of one; a dictionary for each would be megabytes
        self._listeners: list[Listener] = []
        self._last_order = 0.0
        self._waiting = 0

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items.values()))

    def __len__(self) -> int:
        return len(self._items)

    @property
    def waiting(self) -> int:
        """How many have not ended."""
        return self._waiting

    @property
    def transfers(self) -> Mapping[TransferKey, Transfer]:
        """All of them, as they are whenever they are looked at."""
        return _Transfers(self._items)

    def keys(self) -> list[TransferKey]:
        """What all of them are known by."""
        return list(self._items)

    def get(self, key: TransferKey) -> Item | None:
        """The transfer, if there is one."""
        return self._items.get(key)

    def item(self, key: TransferKey) -> Item:
        """The transfer.

        Raises:
            Unknown: There is none.
        """
        try:
            return self._items[key]
        except KeyError:
            raise Unknown(f"there is no {key}") from None

    def of_file(self, file_id: str) -> list[Item]:
        """All transfers of a file."""
        return list(self._by_file.get(file_id, ()))

    def subscribe(self, listener: Listener) -> None:
        """Tell this listener from now on."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners.remove(listener)

    def add(self, key: TransferKey, entries: tuple[Entry, ...], **facts: Any) -> Item:
        """A new transfer, behind all others."""
        self._last_order += 1
        item = Item(Transfer(key, order=self._last_order, **facts), entries)
        self._items[key] = item
        self._waiting += not item.transfer.status.ended
        self._by_file[key.file_id] = (*self._by_file.get(key.file_id, ()), item)
        for listener in self._listeners:
            listener.transfer_added(item.transfer)
        return item

    def drop(self, item: Item) -> None:
        """The transfer has ended, and nobody looks at it any more."""
        key = item.transfer.key
        del self._items[key]
        self._waiting -= not item.transfer.status.ended
        others = tuple(one for one in self._by_file.pop(key.file_id) if one is not item)
        if others:
            self._by_file[key.file_id] = others
        for listener in self._listeners:
            listener.transfer_removed(item.transfer)

    def put_in_order(self, keys: list[TransferKey]) -> list[TransferKey]:
        """Give these places in this order; all but the fewest possible keep the one that they have.

        Returns:
            Those whose place has changed.
        """
        items = [item for key in keys if (item := self._items.get(key)) is not None]
        changed = changed_places([item.transfer.order for item in items])
        for index, order in changed.items():
            self.change(items[index], order=order)
        if items:
            self._last_order = max(self._last_order, items[-1].transfer.order)
        return [items[index].transfer.key for index in changed]

    def event(self, item: Item, event: Event, reason: Reason | None = None, **changes: Any) -> None:
        """Something happened to a transfer, and facts about it changed with that."""
        after = item.transfer.on(event, reason, **changes)
        if after.status is not item.transfer.status:
            log.debug("%s: %s, because of %s", item.transfer.key, after.status, event)
        self._put(item, after)

    def change(self, item: Item, **changes: Any) -> None:
        """Facts about a transfer changed."""
        self._put(item, item.transfer.evolve(**changes))

    def moved(self, item: Item, after: Transfer) -> None:
        """Only the progress of a transfer changed."""
        item.transfer = after
        for listener in self._listeners:
            listener.transfer_moved(after)

    def tell_summary(self) -> None:
        """Something that is not of one transfer changed."""
        for listener in self._listeners:
            listener.summary_changed()

    def _put(self, item: Item, after: Transfer) -> None:
        before = item.transfer
        if before != after:
            item.transfer = after
            self._waiting += before.status.ended - after.status.ended
            for listener in self._listeners:
                listener.transfer_changed(before, after)


class _Transfers(Mapping[TransferKey, Transfer]):
    """The public values of items; one of ten thousand is looked up without a copy of the others."""

    def __init__(self, items: Mapping[TransferKey, Item]) -> None:
        self._items = items

    def __getitem__(self, key: TransferKey) -> Transfer:
        return self._items[key].transfer

    def __iter__(self) -> Iterator[TransferKey]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
