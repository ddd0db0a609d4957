"""When the queue is written: a long one seldom, a short one soon."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.flushing import ENTRY_BYTES, PAUSE_MAX_S, WRITE_BYTES_PER_S, Flushing
from dmedia_transfer.couch.ownmachine import OwnMachine
from dmedia_transfer.model import PauseQueue, QueueEdit
from tests import factories
from tests.fakes import FakeOutbox


class OwnQueue:
    """A machine document with so many entries, whatever is written into it."""

    def __init__(self, entries: int, took_s: float) -> None:
        self.entries, self.took_s = entries, took_s

    def edit(self, edits: Sequence[QueueEdit]) -> dict[str, Any]:
        assert edits
        time.sleep(self.took_s)
        return {"queue": [None] * self.entries}


def written(*, entries: int, took_s: float = 0.0) -> Flushing:
    """A queue of this length was just written."""
    outbox = FakeOutbox()
    outbox.add([PauseQueue(True)])
    own = cast(OwnMachine, OwnQueue(entries, took_s))
    flushing = Flushing(cast(Database, None), outbox, own, machine_id=factories.MACHINE_ID)
    assert flushing.write_all().seqs == [1]
    return flushing


def pauses(flushing: Flushing, left: int | None) -> float:
    """Seconds of pause from now on."""
    return flushing.starts(left) - time.monotonic()


def test_the_pause_before_a_write_grows_with_the_queue_and_ends() -> None:
    flushing = written(entries=10_000)
    assert pauses(flushing, 5_000) == pytest.approx(5_000 * ENTRY_BYTES / WRITE_BYTES_PER_S, abs=0.3)
    assert flushing.starts(10_000) == flushing.starts(None) > flushing.starts(5_000)
    assert pauses(written(entries=1_000_000), 900_000) <= PAUSE_MAX_S


def test_a_queue_that_got_short_or_was_short_is_written_at_once() -> None:
    assert pauses(written(entries=10_000), 0) < 0.1
    assert pauses(written(entries=0), 10_000) < 0.1


def test_who_is_slow_to_take_a_queue_is_asked_less_often() -> None:
    assert pauses(written(entries=10, took_s=0.3), 10) > 1.0
    assert pauses(written(entries=10, took_s=0.3), 0) < 0.5
