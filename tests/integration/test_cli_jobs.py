"""Imports and verifications from the command line, with a daemon that is not real."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dmedia_transfer.model import Direction, FileOutcome, JobKind, LongJob, Transfer, TransferKey
from dmedia_transfer.states import Status
from tests.bus import ServiceThread
from tests.cli import Terminal
from tests.jobcontrol import FakeJobs, corrupt

FILM, STORE = "FILM" + "A" * 44, "S" * 24


@dataclass
class Desk:
    """A terminal, and the daemon that it speaks with."""

    terminal: Terminal
    service: ServiceThread

    @property
    def jobs(self) -> FakeJobs:
        return self.service.jobs

    def add(self, job: LongJob) -> None:
        self.service.do(lambda: self.jobs.add(job))


@pytest.fixture
def desk(terminal: Terminal, bus_service: ServiceThread) -> Desk:
    terminal.monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_service.bus.address)
    return Desk(terminal, bus_service)


def test_an_import_is_handed_to_the_daemon(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(desk.terminal.file("pictures/a.jpeg"))
    monkeypatch.chdir(path.parent)
    said = desk.terminal.run("import", "a.jpeg", "--store", STORE, "--background")
    (job,) = desk.jobs.jobs().values()
    assert (job.kind, job.paths, job.store_id, job.requested_by) == (
        JobKind.IMPORT,
        (str(path),),
        STORE,
        "command line",
    )
    assert said.startswith(f"{job.id}  ")
    assert desk.terminal.json("import", "a.jpeg", "--background")["status"] == "queued"


def test_a_verification_is_asked_for_and_not_waited_for(desk: Desk) -> None:
    said = desk.terminal.json("verify", STORE)
    (job,) = desk.jobs.jobs().values()
    assert (job.kind, job.store_id, said["id"]) == (JobKind.VERIFY, STORE, job.id)
    assert "this machine has no FileStore" in desk.terminal.run("verify", code=1)


def test_what_a_verification_has_found_is_said_and_is_no_success(desk: Desk) -> None:
    desk.add(LongJob("V" * 24, JobKind.VERIFY, store_id=STORE, status=Status.DONE, ended=5.0))
    desk.service.do(lambda: desk.jobs.find("V" * 24, corrupt(FILM, STORE, 3)))
    shown = desk.terminal.json("jobs", "show", "vvvv")
    assert shown["outcomes"] == {"corrupt": 1}
    assert shown["problems"][0] == {
        "outcome": "corrupt",
        "message": "it is corrupt",
        "path": "",
        "file_id": FILM,
        "store_id": STORE,
        "leaves": [3],
    }
    assert "corrupt: it is corrupt" in desk.terminal.run("jobs", "wait", "V")


def test_filestores_are_verified_and_healed(desk: Desk) -> None:
    desk.terminal.run("stores", "add-filestore", str(desk.terminal.home / "store"))
    (store,) = desk.terminal.json("stores")

    def finish(job: LongJob) -> None:
        desk.jobs.find(job.id, corrupt(FILM, job.store_id, 0))
        desk.jobs.change(job.id, status=Status.DONE, ended=9.0)

    desk.jobs.when_added = finish
    desk.service.do(lambda: desk.service.control.add(Transfer(TransferKey(Direction.DOWNLOAD, FILM, ""))))
    desk.terminal.run("verify", "--heal", code=1)
    (job,) = desk.jobs.jobs().values()
    assert job.store_id == store["store_id"]
    assert desk.jobs.healed == [FILM]


def test_jobs_are_listed_and_steered(desk: Desk) -> None:
    desk.add(
        LongJob(
            "V" * 24, JobKind.VERIFY, store_id=STORE, files_done=2, files_total=9, outcomes={FileOutcome.VERIFIED: 2}
        )
    )
    assert desk.terminal.run("jobs") == f"{'V' * 24}\tverify\tqueued\t2/9\t0 B\t2 verified\n"
    assert desk.terminal.run("jobs", "pause", "V") == f"{'V' * 24} is paused\n"
    assert desk.terminal.json("jobs", "pause", "V") == {"id": "V" * 24, "changed": False}
    assert desk.terminal.run("jobs", "resume", "V") == f"{'V' * 24} goes on\n"
    assert desk.terminal.run("jobs", "cancel", "V") == f"{'V' * 24} is cancelled\n"
    assert desk.terminal.run("jobs", "retry", "V") == f"{'V' * 24} has not failed\n"
    assert desk.terminal.json("jobs")[0]["status"] == "cancelled"
    assert "there is no job NONE" in desk.terminal.run("jobs", "pause", "NONE", code=1)
    desk.add(LongJob("VA" * 12, JobKind.VERIFY, store_id=STORE))
    assert "could be 2 jobs" in desk.terminal.run("jobs", "pause", "V", code=2)


def test_a_file_is_healed(desk: Desk) -> None:
    desk.service.do(lambda: desk.service.control.add(Transfer(TransferKey(Direction.DOWNLOAD, FILM, ""))))
    assert desk.terminal.run("heal", FILM) == "download FILMAAAAAAAA: queued\n"
    assert desk.jobs.healed == [FILM]


def test_without_a_daemon_that_is_said(terminal: Terminal) -> None:
    assert "this is the daemon's work, and it is not running" in terminal.run("jobs", code=1)
