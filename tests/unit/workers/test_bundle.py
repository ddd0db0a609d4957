"""How many threads a bundle of small files has use for."""

from __future__ import annotations

from dmedia_transfer.model import Direction, Download, Run, StoreSpec, TransferKey
from dmedia_transfer.workers.bundle import QUICK_S, Bundle
from tests import factories


def bundle_of(count: int, *, connections: int) -> Bundle:
    """Downloads that are not begun."""
    store = StoreSpec(factories.STORE_ID, "memory")
    runs = []
    for number in range(count):
        file = factories.file_spec(factories.content(100, seed=number))
        key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
        runs.append(Run(number, Download(key, file, store, (store,), connections=connections, stall_s=30.0)))
    return Bundle(runs, report=lambda _: None, cut=lambda: None)


def test_files_that_have_to_be_waited_for_have_a_thread_for_each_connection() -> None:
    bundle = bundle_of(10, connections=3)
    assert bundle.threads_missing() == 3
    assert bundle.threads_missing() == 0


def test_files_that_come_at_once_have_one_thread_until_one_has_to_be_waited_for() -> None:
    bundle = bundle_of(10, connections=3)
    bundle.file_s = QUICK_S / 2
    assert bundle.threads_missing() == 1
    assert bundle.threads_missing() == 0
    member = bundle.take()
    assert member is not None
    member.begun_s -= 100 * QUICK_S
    bundle.landed(member)
    assert bundle.threads_missing() == 2


def test_the_first_file_tells_what_a_file_takes() -> None:
    bundle = bundle_of(10, connections=3)
    bundle.threads_missing()
    member = bundle.take()
    assert member is not None
    member.begun_s -= 1.0
    bundle.landed(member)
    assert 1.0 <= bundle.file_s < 60.0
