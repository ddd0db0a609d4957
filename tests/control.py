"""A manager that is not real: a `ports.Control` that keeps transfers in memory and moves them when a test says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import EllipsisType
from typing import Any

from dmedia_transfer.errors import InvalidRequest, Unknown
from dmedia_transfer.model import PRIORITY_NOW, Direction, Entry, Failure, Progress, Transfer, TransferKey
from dmedia_transfer.ports import Listener, Pieces, Summary
from dmedia_transfer.states import Event, Reason, Status

EMPTY = Summary(
    active=0,
    queued=0,
    download_rate=0.0,
    upload_rate=0.0,
    queue_paused=False,
    online=True,
    metered=False,
    download_limit_bps=None,
    upload_limit_bps=None,
    max_transfers=4,
    problems=(),
)


class FakeControl:
    """Does what `ports.Control` promises, without any work behind it. One thread, as the real one."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []  # all that were queued
        self.limits: list[dict[str, Any]] = []  # each call of set_limits
        self.here: dict[str, str] = {}  # file ID → path
        self.on_their_way: dict[TransferKey, Pieces] = {}
        self.fail_with: Exception | None = None  # raised by the next command
        self._listeners: list[Listener] = []
        self._transfers: dict[TransferKey, Transfer] = {}
        self._summary = EMPTY

    def reset(self) -> None:
        """As new, but the listeners stay."""
        for key in list(self._transfers):
            self.remove(key)
        self.entries, self.limits, self.here, self.fail_with = [], [], {}, None
        self.change_summary(**{name: getattr(EMPTY, name) for name in Summary.__slots__})

    # What a test does.

    def add(self, transfer: Transfer) -> None:
        """Put a transfer in place."""
        self._transfers[transfer.key] = transfer
        for listener in self._listeners:
            listener.transfer_added(transfer)

    def change(self, key: TransferKey, **changes: Any) -> None:
        """Change a transfer in any way."""
        before = self._transfers[key]
        after = self._transfers[key] = before.evolve(**changes)
        for listener in self._listeners:
            listener.transfer_changed(before, after)

    def on(self, key: TransferKey, event: Event, reason: Reason | None = None, **changes: Any) -> bool:
        """Something happens to a transfer."""
        before = self._transfers[key]
        after = before.on(event, reason).evolve(**changes)
        if after == before:
            return False
        self._transfers[key] = after
        for listener in self._listeners:
            listener.transfer_changed(before, after)
        return True

    def move(
        self, key: TransferKey, done: int, total: int = 0, *, rate: float = 0.0, eta_s: float | None = None
    ) -> None:
        """Bytes move."""
        before = self._transfers[key]
        progress = Progress(done, total or before.progress.bytes_total, rate, eta_s)
        moved = self._transfers[key] = before.evolve(progress=progress)
        for listener in self._listeners:
            listener.transfer_moved(moved)

    def fail(self, key: TransferKey, error: Exception) -> None:
        """A transfer fails."""
        self.on(key, Event.FAIL, failure=Failure.of(error))

    def remove(self, key: TransferKey) -> None:
        """A transfer goes."""
        gone = self._transfers.pop(key)
        for listener in self._listeners:
            listener.transfer_removed(gone)

    def change_summary(self, **changes: Any) -> None:
        """Change the manager as a whole."""
        self._summary = replace(self._summary, **changes)
        for listener in self._listeners:
            listener.summary_changed()

    # What `ports.Control` promises.

    def queue(self, entries: Sequence[Entry]) -> list[TransferKey]:
        self._maybe_fail()
        for entry in entries:
            self.entries.append(entry)
            if entry.key not in self._transfers:
                self.add(
                    Transfer(
                        key=entry.key,
                        status=Status.PAUSED if entry.paused else Status.QUEUED,
                        priority=entry.priority,
                        preferred_store=entry.store_id if entry.direction is Direction.DOWNLOAD else "",
                        only=entry.only,
                        requested_by=entry.requested_by,
                    )
                )
        return [entry.key for entry in entries]

    def resolve(self, file_id: str) -> tuple[str, str]:
        self._maybe_fail()
        if file_id in self.here:
            return "here", self.here[file_id]
        key = self.queue([Entry(file_id=file_id, priority=PRIORITY_NOW)])[0]
        return self._transfers[key].status, ""

    def pause(self, key: TransferKey) -> bool:
        return self._command(key, Event.PAUSE)

    def resume(self, key: TransferKey) -> bool:
        return self._command(key, Event.RESUME)

    def cancel(self, key: TransferKey) -> bool:
        return self._command(key, Event.CANCEL)

    def retry(self, key: TransferKey) -> bool:
        return self._command(key, Event.RETRY)

    def set_priority(self, key: TransferKey, priority: int) -> bool:
        self._maybe_fail()
        self._known(key)
        if self._transfers[key].priority == priority:
            return False
        self.change(key, priority=priority)
        return True

    def set_metered(self, key: TransferKey, metered: bool) -> bool:
        self._maybe_fail()
        self._known(key)
        if self._transfers[key].metered == metered:
            return False
        self.change(key, metered=metered)
        return True

    def put_before(self, keys: Sequence[TransferKey], before: TransferKey | None) -> bool:
        self._maybe_fail()
        for key in (*keys, *([before] if before else [])):
            self._known(key)
        if before in keys:
            return False
        orders = [each.order for each in self._transfers.values()]
        place = self._transfers[before].order - 0.5 if before else max(orders) + 1
        for key in keys:
            self.change(key, order=place)
        return True

    def pause_all(self) -> bool:
        return self._hold(True)

    def resume_all(self) -> bool:
        return self._hold(False)

    def set_limits(
        self,
        *,
        download_bps: float | EllipsisType | None = ...,
        upload_bps: float | EllipsisType | None = ...,
        max_transfers: int | EllipsisType | None = ...,
        connections: int | EllipsisType | None = ...,
        timetable: str | EllipsisType | None = ...,
    ) -> None:
        self._maybe_fail()
        given = {
            "download_bps": download_bps,
            "upload_bps": upload_bps,
            "max_transfers": max_transfers,
            "connections": connections,
            "timetable": timetable,
        }
        given = {name: value for name, value in given.items() if value is not ...}
        if isinstance(max_transfers, int) and max_transfers > 64:
            raise InvalidRequest(f"max_transfers: {max_transfers} is more than 64")
        self.limits.append(given)
        if "download_bps" in given:
            self.change_summary(download_limit_bps=given["download_bps"] or None)
        for name in ("max_transfers", "connections", "timetable"):
            if name in given:
                self.change_summary(**{name: given[name]})

    def transfers(self) -> Mapping[TransferKey, Transfer]:
        return self._transfers

    def pieces(self, key: TransferKey) -> Pieces:
        self._known(key)
        return self.on_their_way.get(key, Pieces((), ()))

    def summary(self) -> Summary:
        active = sum(each.status is Status.ONGOING for each in self._transfers.values())
        queued = sum(each.status in (Status.QUEUED, Status.SUSPENDED) for each in self._transfers.values())
        return replace(self._summary, active=active, queued=queued)

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    def _command(self, key: TransferKey, event: Event) -> bool:
        self._maybe_fail()
        self._known(key)
        return self.on(key, event)

    def _hold(self, paused: bool) -> bool:
        self._maybe_fail()
        changed = self._summary.queue_paused != paused
        self.change_summary(queue_paused=paused)
        return changed

    def _known(self, key: TransferKey) -> None:
        if key not in self._transfers:
            raise Unknown(f"there is no {key}")

    def _maybe_fail(self) -> None:
        if self.fail_with is not None:
            error, self.fail_with = self.fail_with, None
            raise error
