"""Where in the changes feed we are, and of which database."""

from __future__ import annotations

import json
import logging
import time
from typing import Protocol

from dmedia_transfer.couch.changes import FROM_START, seq_number

log = logging.getLogger(__name__)


class Checkpoint(Protocol):
    """Where places are kept between two lives of the daemon: the journal. Called on the feed's thread."""

    def load(self, feed: str) -> str | None:
        """What was kept last for this feed."""

    def keep(self, feed: str, seq: str) -> None:
        """Keep this instead."""


class Place:
    """Where in the feed we are, and of which database. `since` is read by other threads."""

    def __init__(self, checkpoint: Checkpoint, feed: str, save_interval_s: float) -> None:
        self.since = FROM_START
        self._born: str | None = None
        self._known = False  # the database was seen in this life
        self._lost = False  # and then it was not there
        self._checkpoint = checkpoint
        self._feed = feed
        self._save_interval_s = save_interval_s
        self._saved_text = ""
        self._saved_at = 0.0

    def load(self) -> None:
        """Go where we were in the last life."""
        try:
            self._saved_text = self._checkpoint.load(self._feed) or ""
            if self._saved_text:
                kept = json.loads(self._saved_text)
                self.since, self._born = str(kept["since"]), str(kept["born"])
        except Exception:
            log.exception("feed: the checkpoint cannot be read, starting from the beginning")

    def compare(self, born: str, update_seq: str) -> tuple[bool, bool]:
        """Go to the start if this is another database than before.

        Returns:
            Whether it is another one, and whether the one before was seen in this life.
        """
        here, there = seq_number(self.since), seq_number(update_seq)
        shrunk = here is not None and there is not None and here > there
        is_new = self._lost or (self._born is not None and (self._born != born or shrunk))
        was_known = is_new and self._known
        if is_new:
            self.since = FROM_START
        self._born, self._known, self._lost = born, True, False
        return is_new, was_known

    def lost(self) -> None:
        """The database is not there: if there is one again, it is another one."""
        self._lost = self._known

    def advance(self, seq: str) -> None:
        """All up to here was delivered."""
        self.since = seq

    def save_sometimes(self) -> None:
        """Keep the place, unless it was kept a moment ago."""
        if time.monotonic() - self._saved_at >= self._save_interval_s:
            self.save()

    def save(self) -> None:
        """Keep the place."""
        text = json.dumps({"born": self._born, "since": self.since})
        if self._born is None or text == self._saved_text:
            return
        self._saved_at = time.monotonic()
        try:
            self._checkpoint.keep(self._feed, text)
        except Exception:
            log.exception("feed: the checkpoint cannot be saved; after a restart, changes are read again")
        else:
            self._saved_text = text
