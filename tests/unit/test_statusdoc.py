"""What a machine tells the others of itself."""

from __future__ import annotations

import json

import pytest

from dmedia_transfer import statusdoc
from dmedia_transfer.errors import InvalidDocument
from dmedia_transfer.model import Direction, Failure, Progress, SourceState, SourceUse, Transfer, TransferKey
from dmedia_transfer.states import Reason, Status
from dmedia_transfer.statusdoc import MAX_BYTES, Finished, read_status, write_status
from tests.factories import MACHINE_ID, STORE_ID


def transfer(number: int, status: Status = Status.QUEUED, **facts: object) -> Transfer:
    key = TransferKey(Direction.DOWNLOAD, chr(ord("A") + number % 26) * 48, "")
    return Transfer(key, status=status, order=number, **facts)  # type: ignore[arg-type]


def test_what_is_written_can_be_read() -> None:
    suspended = transfer(
        1,
        Status.SUSPENDED,
        reason=Reason.DISK_FULL,
        failure=Failure("DiskFull", "no room above the floor", reason=Reason.DISK_FULL),
        progress=Progress(5, 10, 2.4, 2.2),
        sources=(SourceUse(STORE_ID, 5, 2.4, SourceState.DEMOTED, "reset"),),
        preferred_store=STORE_ID,
    )
    ended = transfer(2, Status.DONE, progress=Progress(10, 10))
    raw = write_status(
        MACHINE_ID,
        [suspended, ended],
        finished=[Finished(ended, 99.0)],
        queue_paused=True,
        problems=["CouchDB is away"],
        time=100.0,
    )
    document = read_status(json.loads(json.dumps(raw)))
    (line,) = document.transfers
    assert (line.status, line.reason, line.error) == (Status.SUSPENDED, Reason.DISK_FULL, "no room above the floor")
    assert (line.bytes_done, line.bytes_total, line.rate, line.eta) == (5, 10, 2, 2)
    assert line.store_id == STORE_ID
    (source,) = line.sources
    assert (source.store_id, source.bytes, source.rate) == (STORE_ID, 5, 2)
    assert (source.state, source.reason) == (SourceState.DEMOTED, "reset")
    assert [(one.status, one.time) for one in document.finished] == [(Status.DONE, 99.0)]
    assert document.counts == {"suspended": 1}
    assert document.queue_paused
    assert document.problems == ["CouchDB is away"]


def test_it_stays_small_however_long_the_queue_and_whatever_the_errors() -> None:
    awful = Failure("ConnectionLost", "\N{SNOWMAN}" * 10_000, transient=True)
    sources = (SourceUse(STORE_ID, reason="x" * 1000),) * 50
    many = [transfer(number, Status.FAILED, failure=awful, sources=sources) for number in range(10_000)]
    raw = write_status(
        MACHINE_ID, many, finished=[Finished(many[0], 1.0)] * 500, problems=["x" * 100_000] * 500, time=1.0
    )
    assert len(json.dumps(raw).encode()) <= MAX_BYTES
    assert raw["counts"] == {"failed": 10_000}
    assert raw["transfers"]


def test_what_moves_or_needs_somebody_comes_first() -> None:
    queued = [transfer(number) for number in range(300)]
    ongoing, failed = transfer(900, Status.ONGOING), transfer(901, Status.FAILED)
    raw = write_status(MACHINE_ID, [*queued, failed, ongoing], time=1.0)
    assert [line["status"] for line in raw["transfers"][:3]] == ["ongoing", "failed", "queued"]
    assert raw["counts"] == {"failed": 1, "ongoing": 1, "queued": 300}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"type": "dmedia/file"}, "type"),
        ({"machine_id": "../x"}, "machine_id"),
        ({"transfers": [{"file_id": "A" * 48, "action": "download", "status": "dancing"}]}, "transfers.0.status"),
        ({"counts": "many"}, "counts"),
    ],
)
def test_a_document_that_cannot_be_believed_is_refused_by_key(change: dict[str, object], key: str) -> None:
    raw = {**write_status(MACHINE_ID, [], time=1.0), **change}
    with pytest.raises(InvalidDocument) as caught:
        read_status(raw)
    assert caught.value.key == key
    assert statusdoc.transfers_id(MACHINE_ID) in str(caught.value)
