"""What tests of the feed and the library need: a main loop that remembers, and a journal in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from tests.waiting import WAIT_S as WAIT_S
from tests.waiting import eventually as eventually


class Inbox:
    """Stands in for the manager's thread: takes each call, and lets a test wait for what should come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.documents: list[dict[str, Any]] = []
        self.states: list[str | None] = []
        self.resets = 0
        self.files: dict[str, Any] = {}
        self.taken: list[tuple[list[int], Mapping[str, Any] | None]] = []
        self.loaded: list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = []

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call at once, and wake whoever waits."""
        with self._changed:
            callback(*args)
            self._changed.notify_all()

    def on_reset(self) -> None:
        self.resets += 1

    def on_files(self, answers: Mapping[str, Any]) -> None:
        self.files.update(answers)

    def on_taken(self, seqs: Any, machine: Mapping[str, Any] | None) -> None:
        self.taken.append((list(seqs), machine))

    def on_loaded(self, machine: Mapping[str, Any], stores: Any) -> None:
        self.loaded.append((machine, list(stores)))

    def wait(self, until: Callable[[], object], *, seconds: float = WAIT_S) -> None:
        """Wait until something holds, which is looked at after each call.

        Raises:
            AssertionError: It did not come to hold in time.
        """
        with self._changed:
            assert self._changed.wait_for(until, seconds), self.shown()

    def has(self, document_id: str, **facts: Any) -> bool:
        """Whether a document with these facts was delivered."""
        return any(
            raw["_id"] == document_id and all(raw.get(key) == value for key, value in facts.items())
            for raw in self.documents
        )

    def shown(self) -> str:
        """What came so far, for a test that fails."""
        return f"documents {[raw['_id'] for raw in self.documents]}, states {self.states}, taken {self.taken}"


class MemoryCheckpoints:
    """A journal's `checkpoints` in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.keeps = 0

    def load(self, feed: str) -> str | None:
        return self.kept.get(feed)

    def keep(self, feed: str, seq: str) -> None:
        self.kept[feed] = seq
        self.keeps += 1
