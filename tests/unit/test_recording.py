"""Which leaves of a download are on record, and when."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from dmedia_transfer.download.recording import RECORD_S, Recording
from dmedia_transfer.errors import DiskFull, Interrupted
from dmedia_transfer.model import Direction, TransferKey
from tests.clock import FakeLoop
from tests.engine import Journal, LeafJournal
from tests.factories import STORE_ID
from tests.waiting import eventually

KEY = TransferKey(Direction.DOWNLOAD, "A" * 48, "")


class Records(LeafJournal):
    """Counts what costs, and fails as a test says."""

    commits = 0
    fails = False

    def record_all(self, key: TransferKey, store_id: str, identity: str, leaves: Iterable[int]) -> None:
        self.commits += 1
        if self.fails:
            raise DiskFull("the journal's disk is full")
        super().record_all(key, store_id, identity, leaves)


@pytest.fixture
def records() -> Records:
    return Records(Journal())


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def recording(records: Records, loop: FakeLoop) -> Recording:
    recording = Recording(records, KEY, STORE_ID, clock=loop.clock, call_later=loop.call_later)
    assert recording.begin("boot-1") == set()
    return recording


def there(records: Records) -> set[int]:
    return records.load(KEY, STORE_ID, "boot-1")


def test_the_first_leaf_is_recorded_at_once_and_those_that_follow_closely_together(
    recording: Recording, records: Records, loop: FakeLoop
) -> None:
    recording.wrote(0)
    assert there(records) == {0}
    for leaf in range(1, 100):
        recording.wrote(leaf)
        loop.run(RECORD_S / 200)
    assert (there(records), records.commits) == ({0}, 1)
    loop.run(RECORD_S)
    recording.wrote(100)
    assert (there(records), records.commits) == (set(range(100)), 2)
    recording.flush()
    assert (there(records), records.commits) == (set(range(101)), 3)
    assert not loop.waiting


def test_on_a_slow_line_each_leaf_is_recorded_when_it_is_written(
    recording: Recording, records: Records, loop: FakeLoop
) -> None:
    for leaf in range(5):
        recording.wrote(leaf)
        assert leaf in there(records)
        loop.run(RECORD_S)


def test_what_waits_is_recorded_also_if_no_leaf_follows(recording: Recording, records: Records, loop: FakeLoop) -> None:
    recording.wrote(0)
    recording.wrote(1)
    recording.wrote(2)
    assert there(records) == {0}
    loop.run(RECORD_S)
    assert (there(records), records.commits) == ({0, 1, 2}, 2)
    assert not loop.waiting


def test_by_the_real_clock_it_is_recorded_as_well(records: Records) -> None:
    recording = Recording(records, KEY, STORE_ID)
    recording.begin("boot-1")
    recording.wrote(0)
    recording.wrote(1)
    eventually(lambda: there(records) == {0, 1})


def test_after_an_error_from_a_write_nothing_is_recorded_any_more(
    recording: Recording, records: Records, loop: FakeLoop
) -> None:
    recording.wrote(0)
    recording.wrote(1)
    recording.distrust()
    assert there(records) == set()
    with pytest.raises(Interrupted):
        recording.wrote(2)
    with pytest.raises(Interrupted):
        recording.check()
    loop.run(RECORD_S)
    recording.flush()
    assert there(records) == set()


def test_what_the_journal_could_not_take_is_told_by_a_leaf_that_follows_and_kept(
    recording: Recording, records: Records, loop: FakeLoop
) -> None:
    recording.wrote(0)
    recording.wrote(1)
    records.fails = True
    loop.run(2 * RECORD_S)  # nobody is there to be told
    with pytest.raises(DiskFull):
        recording.wrote(2)
    records.fails = False
    recording.flush()
    assert there(records) == {0, 1, 2}
