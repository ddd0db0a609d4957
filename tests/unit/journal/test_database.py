"""Opening the journal: new, old, newer, corrupt, full; and what outlives a kill."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dmedia_transfer.errors import AccessDenied, DiskFull, InvalidInput, Permanent, TransferError
from dmedia_transfer.journal import Journal, database, schema
from dmedia_transfer.model import Direction, PauseQueue, TransferKey
from tests.drives import Drive

KEY = TransferKey(Direction.DOWNLOAD, "A" * 48, "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal could be."""
    return tmp_path / "state" / "journal.sqlite"


def version_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_a_new_journal_is_made_in_wal_mode_for_its_owner_only(path: Path) -> None:
    with Journal(path) as journal:
        assert journal.outbox.pending() == []
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()
        assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob("journal.sqlite*")} == {0o600}
    assert version_of(path) == len(schema.MIGRATIONS)


def test_what_was_written_is_there_when_it_is_opened_again(path: Path) -> None:
    with Journal(path) as journal:
        journal.outbox.add([PauseQueue(paused=True)])
    with Journal(path, owner=True) as journal:
        assert [pending.edit for pending in journal.outbox.pending()] == [PauseQueue(paused=True)]


def test_an_older_journal_is_brought_up_to_date_and_keeps_what_is_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path) as journal:
        journal.checkpoints.keep("db", "5-abc")
    later = (*schema.MIGRATIONS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (7)"))
    monkeypatch.setattr(database, "MIGRATIONS", later)
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.checkpoints.load("db") == "5-abc"
            assert journal._database.rows("SELECT x FROM later") == [(7,)]
    assert version_of(path) == len(later)


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(path).close()
    with monkeypatch.context() as patched:
        patched.setattr(database, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (x)", "NO SUCH WORD")))
        with pytest.raises(Permanent, match="syntax error"):
            Journal(path)
    with Journal(path) as journal:
        assert journal._database.rows("SELECT name FROM sqlite_master WHERE name = 'later'") == []


@pytest.mark.parametrize("owner", [True, False])
def test_a_journal_of_a_newer_version_is_refused_and_left_alone(path: Path, owner: bool) -> None:
    Journal(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(InvalidInput, match=r"newer version of this program.*999"):
        Journal(path, owner=owner)
    assert version_of(path) == 999
    assert list(path.parent.glob("*corrupt*")) == []


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, and never was one" * 1000)


def holes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 4096):
        data[start : start + 2048] = os.urandom(2048)
    path.write_bytes(data)


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096 + 100)


@pytest.mark.parametrize("damage", [garbage, holes, half])
def test_a_corrupt_journal_is_moved_aside_by_its_owner_and_made_anew(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(path) as journal:
        for leaf in range(50):
            journal.leaves.record(KEY, f"{leaf:024}", "identity", 8 * 1000)
    damage(path)
    damaged = path.read_bytes()
    with caplog.at_level(logging.ERROR), Journal(path, owner=True) as journal:
        assert journal.outbox.pending() == []
        journal.outbox.add([PauseQueue(paused=True)])
    [aside] = path.parent.glob("journal.sqlite.corrupt-*")
    assert aside.read_bytes() == damaged
    assert aside.name in caplog.text


def test_a_corrupt_journal_is_left_alone_by_workers(path: Path) -> None:
    path.parent.mkdir()
    garbage(path)
    before = path.read_bytes()
    with pytest.raises(Permanent, match="not a database"):
        Journal(path)
    assert path.read_bytes() == before


def test_a_place_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AccessDenied, match="journal"):
        Journal(tmp_path / "file" / "journal.sqlite")


def test_a_full_disk_is_said_to_be_and_harms_nothing(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(drive.path / "journal.sqlite")
    journal.checkpoints.keep("before", "1")
    ballast = drive.path / "ballast"
    if drive.mounted:
        disk = os.statvfs(drive.path)
        ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize))
    else:
        journal._database.rows("PRAGMA max_page_count = 1")
    kept = []

    def keep_on() -> None:
        for number in range(10_000):
            journal.checkpoints.keep(f"feed {number}", "x" * 10_000)
            kept.append(f"feed {number}")

    with pytest.raises(DiskFull, match="disk of the journal"):
        keep_on()
    if drive.mounted:
        ballast.unlink()
    else:
        journal._database.rows("PRAGMA max_page_count = 1000000")
    journal.checkpoints.keep("after", "2")
    journal.close()
    with Journal(drive.path / "journal.sqlite", owner=True) as journal:
        assert journal.checkpoints.load("before") == "1"
        assert journal.checkpoints.load("after") == "2"
        assert all(journal.checkpoints.load(feed) for feed in kept)
        assert journal.checkpoints.load(f"feed {len(kept)}") is None


def test_what_is_written_together_is_there_whole_or_not_at_all(path: Path) -> None:
    def write(journal: Journal, *, fail: bool) -> None:
        with journal.together(durable=True):
            journal.checkpoints.keep("db", "1")
            journal.outbox.add([PauseQueue(paused=True)])
            if fail:
                raise RuntimeError("in the middle")

    with Journal(path) as journal:
        with pytest.raises(RuntimeError, match="in the middle"):
            write(journal, fail=True)
        assert (journal.checkpoints.load("db"), journal.outbox.pending()) == (None, [])
        write(journal, fail=False)
        assert (journal.checkpoints.load("db"), len(journal.outbox.pending())) == ("1", 1)


def test_a_durable_write_within_what_is_not_is_a_fault_of_ours(path: Path) -> None:
    with Journal(path) as journal:
        with pytest.raises(AssertionError, match="outbox"), journal.together():
            journal.outbox.add([PauseQueue(paused=True)])
        assert journal.outbox.pending() == []


def test_intents_upload_ids_and_edits_are_synced_and_leaves_are_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path) as journal:
        journal.outbox.add([PauseQueue(paused=True)])
        assert journal._database.rows("PRAGMA synchronous") == [(2,)]
        journal.leaves.record(KEY, "S" * 24, "identity", 0)
        assert journal._database.rows("PRAGMA synchronous") == [(1,)]


# Kills

SCRIPT = """
import sys
from pathlib import Path
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import Direction, Failure, PauseQueue, TransferKey
from dmedia_transfer.ports import Part, UploadRecord
from dmedia_transfer.states import Status

journal = Journal(Path(sys.argv[1]))
down, up = TransferKey(Direction.DOWNLOAD, "A" * 48, ""), TransferKey(Direction.UPLOAD, "A" * 48, "S" * 24)
STEPS = [
    ("leaf", lambda: journal.leaves.record(down, "S" * 24, "i", 3)),
    ("intent", lambda: journal.uploads.intend(UploadRecord(up, "bucket/key", "", 1, 1.0))),
    ("upload-id", lambda: journal.uploads.begun(up, "upload")),
    ("part", lambda: journal.uploads.confirmed(up, Part(1, 5, "etag"))),
    ("upload-unwanted", lambda: journal.uploads.unwanted(up)),
    ("upload-aborted", lambda: journal.uploads.aborted(journal.uploads.to_abort()[0])),
    ("outbox", lambda: journal.outbox.add([PauseQueue(paused=True)])),
    ("outbox-taken", lambda: journal.outbox.taken([1])),
    ("failure", lambda: journal.ledger.failed(down, ["e"], Failure("Kind", "message"), 1)),
    ("ended", lambda: journal.ledger.ended(down, ["e"], Status.DONE, 5)),
    ("checkpoint", lambda: journal.checkpoints.keep("db", "7")),
    ("leaf", lambda: journal.leaves.record(down, "S" * 24, "i", 3)),
    ("leaves-forgotten", lambda: journal.leaves.forget(down, "S" * 24)),
]
for name, step in STEPS:
    step()
    print(name, flush=True)
"""

DOWN, UP = TransferKey(Direction.DOWNLOAD, "A" * 48, ""), TransferKey(Direction.UPLOAD, "A" * 48, "S" * 24)
AFTER: dict[str, Callable[[Journal], bool]] = {
    "leaf": lambda j: j.leaves.load(DOWN, "S" * 24, "i") == {3} and j.uploads.load(UP) is None,
    "intent": lambda j: (r := j.uploads.load(UP)) is not None and r.upload_id == "",
    "upload-id": lambda j: (
        (r := j.uploads.load(UP)) is not None and r.upload_id == "upload" and not j.uploads.parts(UP)
    ),
    "part": lambda j: [part.number for part in j.uploads.parts(UP)] == [1],
    "upload-unwanted": lambda j: (
        j.uploads.load(UP) is None and [r.upload_id for r in j.uploads.to_abort()] == ["upload"]
    ),
    "upload-aborted": lambda j: not j.uploads.latest() and not j._database.rows("SELECT * FROM parts"),
    "outbox": lambda j: [p.seq for p in j.outbox.pending()] == [1],
    "outbox-taken": lambda j: not j.outbox.pending() and not j.ledger.failures(),
    "failure": lambda j: list(j.ledger.failures()) == ["e"] and not j.ledger.is_gone("e"),
    "ended": lambda j: (
        j.ledger.is_gone("e")
        and not j.ledger.failures()
        and [line.status for line in j.ledger.history()] == ["done", "failed"]
        and j.leaves.load(DOWN, "S" * 24, "i") == set()
    ),
    "checkpoint": lambda j: j.checkpoints.load("db") == "7",
    "leaves-forgotten": lambda j: j.leaves.load(DOWN, "S" * 24, "i") == set(),
}


@pytest.mark.parametrize("name", AFTER)
def test_a_kill_right_after_a_write_loses_nothing_of_it(path: Path, name: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        env={"DMEDIA_FAULT": f"journal.{name}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert name not in killed.stdout.split()
    with Journal(path, owner=True) as journal:
        assert AFTER[name](journal)


def test_a_kill_in_the_middle_of_writes_loses_nothing_that_had_returned(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dmedia_transfer.journal import Journal\n"
        "from dmedia_transfer.model import Direction, TransferKey\n"
        "journal, key = Journal(Path(sys.argv[1])), TransferKey(Direction.DOWNLOAD, 'A' * 48, '')\n"
        "for leaf in range(1_000_000):\n"
        "    journal.leaves.record(key, 'S' * 24, 'identity', leaf)\n"
        "    print(leaf, flush=True)\n"
    )
    for stop_after in (1, 40, 300):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= stop_after:
                break
        process.kill()
        said = [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait(timeout=10)
        process.stdout.close()
        last = said[-1] if said else stop_after
        with Journal(path, owner=True) as journal:
            recorded = journal.leaves.load(KEY, "S" * 24, "identity")
        assert recorded in (set(range(last + 1)), set(range(last + 2)))
        for each in path.parent.glob("journal.sqlite-*"):
            each.unlink()


def test_processes_that_open_a_new_journal_at_once_all_can_write(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dmedia_transfer.journal import Journal\n"
        "from dmedia_transfer.model import Direction, PauseQueue, TransferKey\n"
        "number = int(sys.argv[2]); key = TransferKey(Direction.DOWNLOAD, str(number) * 48, '')\n"
        "sys.stdin.readline()\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        "    for leaf in range(100):\n"
        "        journal.leaves.record(key, 'S' * 24, 'identity', leaf)\n"
        "        if leaf % 10 == 0:\n"
        "            journal.outbox.add([PauseQueue(paused=bool(number % 2))])\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors
    with Journal(path, owner=True) as journal:
        for number in range(4):
            key = TransferKey(Direction.DOWNLOAD, str(number) * 48, "")
            assert journal.leaves.load(key, "S" * 24, "identity") == set(range(100))
        pending = journal.outbox.pending()
        assert len(pending) == 40
        assert [each.seq for each in pending] == list(range(1, 41))


def test_errors_cross_the_border_as_ours_only(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    with pytest.raises(TransferError):
        journal.outbox.pending()
    with pytest.raises(TransferError):
        journal.checkpoints.keep("db", "1")
    journal.close()
