"""What people see of the daemon on their desktop: a notification of each batch, and progress while it moves.

All of it hangs on one setting, and on a desktop being there. Called on the thread of the main loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gi.repository import GLib

from dmedia_transfer.bus import mainloop
from dmedia_transfer.bus.desktop import Notification, ProgressDisplays
from dmedia_transfer.errors import TransferError
from dmedia_transfer.manager.batch import Batch, News
from dmedia_transfer.model import Transfer, TransferKey
from dmedia_transfer.ports import Control

log = logging.getLogger(__name__)

SHOW_S: Final = 1.0  # how often a bar moves
RETRY, SHOW = "retry", "show"


class People:
    """Tells people, as a `ports.Listener` of the manager."""

    def __init__(
        self,
        control: Control,
        bus: Any,
        *,
        path_of: Callable[[str], str | None],
        call_later: mainloop.CallLater = mainloop.call_later,
        clock: Callable[[], float] = time.monotonic,
        open_folder: Callable[[Path], None] | None = None,
    ) -> None:
        """Begin to tell.

        Args:
            control: The manager.
            bus: The session bus; it stays the caller's.
            path_of: Where a file is in a FileStore of this machine.
            call_later: Calls a function later on the main loop's thread.
            clock: Monotonic seconds.
            open_folder: Shows a folder to the person; None: what the desktop does it with.
        """
        self._control = control
        self._path_of = path_of
        self._call_later = call_later
        self._open_folder = open_folder or _open_folder
        self._moving: dict[TransferKey, Transfer] = {}
        self._timer: mainloop.Cancel | None = None
        self._news = News()
        self._batch = Batch(self._tell, call_later=call_later, clock=clock)
        self._notification = Notification(bus, self._chosen)
        self._displays = ProgressDisplays(bus, on_pause=self._pause)
        control.subscribe(self._batch)
        control.subscribe(self)

    def close(self) -> None:
        """Tell nothing any more."""
        self._control.unsubscribe(self)
        self._control.unsubscribe(self._batch)
        self._batch.close()
        if self._timer is not None:
            self._timer()
            self._timer = None
        self._displays.close()
        self._notification.close()

    # The notification.

    def _tell(self, news: News) -> None:
        self._news = news
        if news.failed:
            count = f"{len(news.failed)} transfers" if len(news.failed) > 1 else "A transfer"
            more = f" {_files(news)} went well." if news.done else ""
            self._notification.show(f"{count} failed", news.error + more, [(RETRY, "Try again")], urgent=True)
        elif news.disk_full:
            self._notification.show(
                "There is no room on the disk", "Downloads go on by themselves when there is.", urgent=True
            )
        else:
            title = "Files are transferred" if news.uploads else "Files have arrived"
            self._notification.show(title, f"{_files(news)}.", [(SHOW, "Show")] if news.last else [])

    def _chosen(self, action: str) -> None:
        if action == RETRY:
            for key in self._news.failed:
                try:
                    self._control.retry(key)
                except TransferError as error:  # it is gone meanwhile
                    log.debug("%s", error)
        elif action in (SHOW, "default"):
            path = self._path_of(self._news.last.file_id) if self._news.last else None
            if path is not None:
                self._open_folder(Path(path).parent)

    # Progress.

    def transfer_added(self, transfer: Transfer) -> None:
        """Nothing of it moves yet."""

    def transfer_changed(self, before: Transfer, after: Transfer) -> None:
        """It has ended, or waits: the bar may go."""
        if before.status is not after.status and after.key in self._moving:
            del self._moving[after.key]
            self._soon()

    def transfer_moved(self, transfer: Transfer) -> None:
        """The bar moves, now and then."""
        if self._displays.there:
            self._moving[transfer.key] = transfer
            self._soon()

    def transfer_removed(self, transfer: Transfer) -> None:
        """It is gone."""
        if self._moving.pop(transfer.key, None) is not None:
            self._soon()

    def summary_changed(self) -> None:
        """The bar is of bytes."""

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = self._call_later(SHOW_S, self._show)

    def _show(self) -> None:
        self._timer = None
        if not self._moving:
            self._displays.hide()
            return
        every = [transfer.progress for transfer in self._moving.values()]
        self._displays.show(
            sum(each.bytes_done for each in every),
            sum(each.bytes_total for each in every),
            count=len(every),
            rate=sum(each.rate for each in every),
        )

    def _pause(self, paused: bool) -> None:
        if paused:
            self._control.pause_all()
        else:
            self._control.resume_all()


def _files(news: News) -> str:
    count = f"{news.done} files" if news.done > 1 else "One file"
    return f"{count}, {GLib.format_size(news.done_bytes)}"


def _open_folder(folder: Path) -> None:
    """Show a folder of a FileStore. The folder, not the file: what was downloaded is never started from here."""
    try:
        GLib.spawn_async(["xdg-open", str(folder)], flags=GLib.SpawnFlags.SEARCH_PATH)
    except GLib.Error as error:
        log.info("%s cannot be shown: %s", folder, error)
