"""The queue without a daemon: edits of this machine's document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from dmedia_transfer import documents, merge
from dmedia_transfer.cli.queue import DocumentQueue
from dmedia_transfer.couch.database import Database
from dmedia_transfer.model import Direction, Entry, Failure, QueueEdit, TransferKey, Verb
from dmedia_transfer.states import Status
from tests.factories import MACHINE_ID, OTHER_STORE_ID, STORE_ID

FILM, SONG = "F" * 48, "S" * 48
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILM, "")
UPLOAD = TransferKey(Direction.UPLOAD, FILM, STORE_ID)


class MemoryDatabase:
    """One machine document."""

    def __init__(self, *entries: Any, **more: Any) -> None:
        self.raw: dict[str, Any] | None = {
            **documents.new_machine(MACHINE_ID, "tv", time=0),
            "queue": [*entries],
            **more,
        }
        self.writes = 0

    def get_machine(self, machine_id: str) -> Mapping[str, Any] | None:
        assert machine_id == MACHINE_ID
        return self.raw

    def edit_machine(
        self, machine_id: str, edits: Sequence[QueueEdit], *, base: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        self.writes += 1
        self.raw = merge.apply(self.raw or base, edits)
        return self.raw


def queue_of(database: MemoryDatabase, failures: Mapping[str, Failure] | None = None) -> DocumentQueue:
    return DocumentQueue(
        cast(Database, database),
        MACHINE_ID,
        base=documents.new_machine(MACHINE_ID, "tv", time=0),
        failures=lambda: failures or {},
    )


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "file_id": FILM, **more}


def test_what_is_asked_for_is_put_at_the_end_and_nothing_else_is_touched() -> None:
    theirs = entry("x", unknown="kept", file_id=SONG)
    database = MemoryDatabase(theirs, "garbage")
    queue_of(database).ask([Entry(FILM, id="new", priority=10, time=1.0, requested_by="me")])
    assert database.raw is not None
    assert database.raw["queue"][:2] == [theirs, "garbage"]
    added = database.raw["queue"][2]
    assert (added["id"], added["file_id"], added["priority"], added["requested_by"]) == ("new", FILM, 10, "me")


def test_what_is_asked_for_already_is_not_asked_for_twice() -> None:
    database = MemoryDatabase()
    for number in range(2):
        queue_of(database).ask([Entry(FILM, id=str(number))])
    assert database.raw is not None
    assert len(database.raw["queue"]) == 1
    assert database.writes == 1


@pytest.mark.parametrize(
    "other", [Entry(FILM, id="b", priority=100), Entry(FILM, id="b", store_id=STORE_ID), Entry(SONG, id="b")]
)
def test_what_differs_is_asked_for_as_well(other: Entry) -> None:
    database = MemoryDatabase(entry("a"))
    queue_of(database).ask([other])
    assert database.raw is not None
    assert len(database.raw["queue"]) == 2


def test_a_machine_without_a_document_gets_one() -> None:
    database = MemoryDatabase()
    database.raw = None
    queue = queue_of(database)
    assert queue.transfers() == []
    assert not queue.held()
    queue.ask([Entry(FILM, id="a")])
    assert database.raw is not None
    assert database.raw["hostname"] == "tv"  # type: ignore[unreachable]


def test_entries_of_one_transfer_are_one() -> None:
    database = MemoryDatabase(
        entry("a", priority=-10, paused=True),
        entry("b", priority=10, requested_by="phone"),
        entry("c", action="upload", store_id=STORE_ID, paused=True),
    )
    download, upload = queue_of(database).transfers()
    assert (download.key, download.status, download.priority, download.requested_by) == (
        DOWNLOAD,
        Status.QUEUED,
        10,
        "phone",
    )
    assert (upload.key, upload.status) == (UPLOAD, Status.PAUSED)


def test_one_that_failed_says_why() -> None:
    database = MemoryDatabase(entry("a"))
    (state,) = queue_of(database, {"a": Failure("NoSource", "no store has it")}).transfers()
    assert (state.status, state.error) == (Status.FAILED, "no store has it")


@pytest.mark.parametrize("command", [each for each in Verb if each is not Verb.RETRY])
def test_a_command_done_twice_changes_nothing_the_second_time(command: Verb) -> None:
    database = MemoryDatabase(
        entry("a", paused=command is Verb.RESUME, metered=command is Verb.SPARE), entry("b", file_id=SONG)
    )
    queue = queue_of(database)
    assert queue.steer(command, [DOWNLOAD], priority=5) == {DOWNLOAD}
    after = database.raw
    assert queue.steer(command, [DOWNLOAD], priority=5) == set()
    assert database.raw == after
    assert database.writes == 1


def test_a_pause_and_a_priority_are_of_all_entries_of_the_transfer_and_of_no_other() -> None:
    database = MemoryDatabase(entry("a"), entry("b", paused=True), entry("c", file_id=SONG))
    queue = queue_of(database)
    queue.steer(Verb.PAUSE, [DOWNLOAD])
    queue.steer(Verb.PRIORITIZE, [DOWNLOAD], priority=7)
    assert database.raw is not None
    assert [(each.get("paused", False), each.get("priority", 0)) for each in database.raw["queue"]] == [
        (True, 7),
        (True, 7),
        (False, 0),
    ]


def test_a_retry_renews_what_has_failed() -> None:
    database = MemoryDatabase(entry("a"), entry("b", action="upload", store_id=OTHER_STORE_ID))
    queue = queue_of(database, {"a": Failure("NoSource", "no")})
    other = TransferKey(Direction.UPLOAD, FILM, OTHER_STORE_ID)
    assert queue.steer(Verb.RETRY, [DOWNLOAD, other]) == {DOWNLOAD}
    assert database.raw is not None
    assert database.raw["queue"][0]["id"] != "a"
    assert database.raw["queue"][1]["id"] == "b"


def test_many_are_steered_with_one_write() -> None:
    database = MemoryDatabase(
        *(
            entry(
                str(number),
                file_id=f"{number:048}".replace("0", "A").replace("1", "B").replace("8", "C").replace("9", "D"),
            )
            for number in range(50)
        )
    )
    queue = queue_of(database)
    keys = [state.key for state in queue.transfers()]
    assert len(keys) == 50
    assert queue.steer(Verb.CANCEL, keys) == set(keys)
    assert database.writes == 1
    assert queue.transfers() == []


def test_the_whole_queue_is_held_and_let_go() -> None:
    queue = queue_of(MemoryDatabase(entry("a")))
    assert [queue.hold(True), queue.held(), queue.hold(True), queue.hold(False), queue.held()] == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_bad_entries_are_told_of() -> None:
    (problem,) = queue_of(MemoryDatabase({"file_id": "../x"})).problems()
    assert "queue.0.file_id" in problem
