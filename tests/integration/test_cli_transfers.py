"""Asking for transfers, listing, watching and steering them: without a daemon, and with one that is not real."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from dmedia_transfer import documents
from dmedia_transfer.cli.device import Device
from dmedia_transfer.cli.watching import Neighbour, Threads, View
from dmedia_transfer.couch.embedded import launch
from dmedia_transfer.errors import AccessDenied, NoSource
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import PRIORITY_NOW, Direction, Entry, Failure, Transfer, TransferKey, Verb
from dmedia_transfer.states import Event, Reason, Status
from tests.bus import ServiceThread
from tests.cli import Terminal
from tests.control import FakeControl
from tests.waiting import WAIT_S

FILM, SONG, STORE = "FILM" + "A" * 44, "SONG" + "A" * 44, "S" * 24
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILM, "")
UPLOAD = TransferKey(Direction.UPLOAD, FILM, STORE)


def queue_of(terminal: Terminal) -> list[dict[str, Any]]:
    """The queue as it is in this machine's document."""
    queue: list[dict[str, Any]] = terminal.document(terminal.machine_id)["queue"]
    return queue


class TestWithoutADaemon:
    """The machine document is edited, and that is said."""

    def test_a_download_waits_in_the_queue(self, terminal: Terminal) -> None:
        terminal.run("download", FILM, STORE, "--priority", "now", "--only")
        (entry,) = queue_of(terminal)
        assert (entry["file_id"], entry["store_id"], entry["priority"], entry["only"]) == (
            FILM,
            STORE,
            PRIORITY_NOW,
            True,
        )
        assert entry["id"]
        assert entry["time"] > 1.7e9
        assert "the daemon is not running" in terminal.err
        assert "it will see this when it is started" in terminal.err

    def test_an_upload_waits_in_the_queue_under_the_names_that_people_use(self, stocked: Terminal) -> None:
        (line,) = stocked.lines("import", stocked.file("film.mkv"))
        stocked.run("stores", "add-s3", "films", "--no-check", "--name", "nas")
        said = stocked.json("upload", "film.mkv", "nas")
        (entry,) = queue_of(stocked)
        assert (entry["action"], entry["file_id"], entry["store_id"]) == ("upload", line["file_id"], said["store_id"])
        assert said["daemon_running"] is False

    def test_waiting_for_the_end_needs_the_daemon(self, terminal: Terminal) -> None:
        assert "--wait needs the daemon" in terminal.run("download", FILM, "--wait", code=1)
        with terminal.database() as database:
            assert database.get(terminal.machine_id) is None

    def test_the_list_shows_what_waits(self, stocked: Terminal) -> None:
        (line,) = stocked.lines("import", stocked.file("film.mkv"))
        stocked.run("download", line["file_id"], "-p", "high")
        listed = stocked.json("list")
        assert (listed["daemon_running"], listed["queue_paused"], listed["problems"]) == (False, False, [])
        (transfer,) = listed["transfers"]
        assert (transfer["name"], transfer["status"], transfer["priority"]) == ("film.mkv", "queued", 10)
        assert stocked.run("list") == f"{line['file_id']}\tfilm.mkv\tdownload\tqueued\t\t\thigh\n"
        assert "the daemon is not running" in stocked.err

    def test_transfers_are_steered(self, terminal: Terminal) -> None:
        terminal.run("download", FILM)
        terminal.run("download", SONG)
        assert terminal.run("pause", "film") == "download of FILMAAAAAAAA: paused\n"
        assert terminal.run("pause", FILM) == "download of FILMAAAAAAAA: was paused already\n"
        assert [entry["paused"] for entry in queue_of(terminal)] == [True, False]
        (changed,) = terminal.json("resume", "FILM")
        assert changed["changed"] is True
        terminal.run("prioritize", "-10", "--all")
        assert {entry["priority"] for entry in queue_of(terminal)} == {-10}
        terminal.run("cancel", "song")
        assert [entry["file_id"] for entry in queue_of(terminal)] == [FILM]
        assert terminal.run("retry", "--all") == "there is none\n"

    def test_transfers_get_another_place_in_the_queue(self, terminal: Terminal) -> None:
        third = "T" * 48
        for file_id in (FILM, SONG, third):
            terminal.run("download", file_id)
        assert (
            terminal.run("reorder", third, "--first")
            == "download of TTTTTTTTTTTT: before the download of FILMAAAAAAAA\n"
        )
        assert [entry["file_id"] for entry in queue_of(terminal)] == [third, FILM, SONG]
        assert terminal.run("reorder", "film", "--last") == "download of FILMAAAAAAAA: after all others\n"
        assert terminal.json("reorder", third, "song", "--before", "film") == {"changed": True}
        assert [entry["file_id"] for entry in queue_of(terminal)] == [third, SONG, FILM]
        assert [line.partition("\t")[0] for line in terminal.run("list").splitlines()] == [third, SONG, FILM]
        assert terminal.run("reorder", "song", "--before", "song") == "download of SONGAAAAAAAA: stays there\n"
        assert "--before, --first and --last" in terminal.run("reorder", "song", code=2)
        assert "--before, --first and --last" in terminal.run("reorder", "song", "--first", "--last", code=2)

    def test_transfers_may_go_on_where_a_connection_costs_or_not(self, terminal: Terminal) -> None:
        terminal.run("download", FILM)
        assert (
            terminal.run("metered", "yes", FILM) == "download of FILMAAAAAAAA: goes on where a connection costs, too\n"
        )
        assert [entry["metered"] for entry in queue_of(terminal)] == [True]
        assert terminal.run("metered", "yes", "--all") == "download of FILMAAAAAAAA: did so already\n"
        assert terminal.run("metered", "no", "--all") == "download of FILMAAAAAAAA: waits where a connection costs\n"
        assert "maybe" in terminal.run("metered", "maybe", FILM, code=2)

    def test_what_has_ended_is_listed_however_it_ended(self, stocked: Terminal) -> None:
        assert stocked.run("history") == ""
        (line,) = stocked.lines("import", stocked.file("film.mkv"))
        key = TransferKey(Direction.DOWNLOAD, line["file_id"], "")
        with Journal(stocked.home / "state" / "journal.sqlite", owner=True) as journal:
            journal.ledger.ended(key, ["a"], Status.DONE, 1000)
            journal.ledger.failed(key, ["b"], Failure("NoSource", "no store has it"), 1000)
        failed, done = stocked.json("history")
        assert (failed["name"], failed["status"], failed["error"]) == ("film.mkv", "failed", "no store has it")
        assert (done["status"], done["bytes"]) == ("done", 1000)
        assert "\tfailed: no store has it\t" in stocked.run("history", "-n", "1")

    def test_the_whole_queue_is_paused_and_resumed(self, terminal: Terminal) -> None:
        assert terminal.json("pause", "--all") == {"queue_paused": True, "changed": True}
        assert terminal.json("pause", "--all") == {"queue_paused": True, "changed": False}
        terminal.run("list")
        assert "the whole queue is paused" in terminal.err
        assert terminal.run("resume", "--all") == "the whole queue goes on\n"

    def test_a_transfer_that_is_not_there_is_named(self, terminal: Terminal) -> None:
        assert f"no transfer of '{FILM}' is on its way" in terminal.run("pause", FILM, code=1)

    def test_there_is_nothing_to_watch(self, terminal: Terminal) -> None:
        assert "the daemon is not running" in terminal.run("watch", code=1)

    def test_the_built_in_server_serves_a_command_by_itself(self, bare_terminal: Terminal) -> None:
        bare_terminal.run("download", FILM)
        assert [entry["file_id"] for entry in queue_of(bare_terminal)] == [FILM]
        assert launch.running(bare_terminal.home / "state" / "couch.sqlite") is None  # and is not left behind

    def test_a_database_that_does_not_answer_is_named(self, terminal: Terminal) -> None:
        terminal.set(couchdb="http://127.0.0.1:9", couchdb_password="a-secret")
        err = terminal.run("download", "film.mkv", code=1)
        assert "CouchDB at http://127.0.0.1:9 does not answer" in err
        assert "a-secret" not in err


@dataclass
class Desk:
    """A terminal on a machine whose daemon is not real."""

    terminal: Terminal
    service: ServiceThread
    attendants: list[Threads] = field(default_factory=list)

    @property
    def control(self) -> FakeControl:
        return self.service.control

    def add(self, key: TransferKey, **values: Any) -> None:
        self.service.do(lambda: self.control.add(Transfer(key, **values)))

    def attendant(self, **hear: Callable[..., object]) -> Threads:
        """What the full screen reads and says through, until the end of the test."""
        self.attendants.append(Threads(Device, **hear))
        return self.attendants[-1]

    def program(self, *arguments: str) -> subprocess.Popen[str]:
        """A command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "dmedia_transfer.cli", *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def desk(terminal: Terminal, bus_service: ServiceThread) -> Iterator[Desk]:
    terminal.monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_service.bus.address)
    terminal.monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    desk = Desk(terminal, bus_service)
    yield desk
    for attendant in desk.attendants:
        attendant.close()
        desk.add(TransferKey(Direction.DOWNLOAD, "A" * 48, ""))  # who waits for news looks up
        assert attendant.join(WAIT_S)


def seen_note(seen: queue.Queue[View], machine: str) -> str:
    """What the first view of a machine says."""
    while (view := seen.get(timeout=WAIT_S)).machine != machine:
        pass
    return view.note


class TestWithADaemon:
    """All goes over D-Bus."""

    def test_requests_arrive_as_they_were_meant(self, desk: Desk) -> None:
        desk.terminal.run("download", FILM.lower(), STORE, "-p", "now", "--only")
        desk.terminal.run("upload", SONG, STORE)
        assert desk.control.entries == [
            Entry(FILM, store_id=STORE, priority=PRIORITY_NOW, only=True, requested_by="dmedia-transfer"),
            Entry(SONG, Direction.UPLOAD, STORE, requested_by="dmedia-transfer"),
        ]
        assert desk.terminal.err == ""
        with desk.terminal.database() as database:
            assert database.get(desk.terminal.machine_id) is None

    def test_an_error_of_the_daemon_is_one_sentence(self, desk: Desk) -> None:
        desk.control.fail_with = AccessDenied("store X was not enabled on this machine")
        err = desk.terminal.run("download", FILM, code=1)
        assert err == "dmedia-transfer: store X was not enabled on this machine\n"

    def test_the_list_shows_what_is_most_urgent_first(self, desk: Desk) -> None:
        desk.add(TransferKey(Direction.DOWNLOAD, SONG, ""), status=Status.PAUSED)
        desk.add(DOWNLOAD, status=Status.ONGOING)
        desk.add(UPLOAD, status=Status.SUSPENDED, reason=Reason.NO_SOURCE)
        desk.service.do(lambda: desk.control.move(DOWNLOAD, 512, 1024, rate=2e6))
        desk.service.do(lambda: desk.control.change_summary(problems=("document X is bad",), queue_paused=True))
        listed = desk.terminal.json("list")
        assert [each["status"] for each in listed["transfers"]] == ["ongoing", "suspended", "paused"]
        first = listed["transfers"][0]
        assert (first["bytes_done"], first["bytes_total"], first["rate"]) == (512, 1024, 2e6)
        assert listed["transfers"][1]["reason"] == "no-source"
        out = desk.terminal.run("list").splitlines()
        assert out[0] == f"{FILM}\t\tdownload\tongoing\t50%\t1.0 KiB\tnormal"
        assert out[1] == f"{FILM}\t\tupload to SSSSSS\twaits for a store that has the file\t\t\tnormal"
        assert "document X is bad" in desk.terminal.err
        assert "resume --all" in desk.terminal.err

    def test_commands_reach_their_transfers_and_no_other(self, desk: Desk) -> None:
        desk.add(DOWNLOAD, status=Status.ONGOING)
        desk.add(UPLOAD, status=Status.QUEUED)
        desk.add(TransferKey(Direction.DOWNLOAD, SONG, ""), status=Status.FAILED)
        desk.terminal.run("pause", "film", "--to", STORE)
        assert desk.control.transfers()[UPLOAD].status is Status.PAUSED
        assert desk.control.transfers()[DOWNLOAD].status is Status.ONGOING
        changed = desk.terminal.json("cancel", "film")
        assert sorted(each["action"] for each in changed if each["changed"]) == ["download", "upload"]
        (retried,) = desk.terminal.json("retry", "--all")
        assert (retried["file_id"], retried["changed"]) == (SONG, True)
        desk.terminal.run("prioritize", "high", "song")
        assert desk.control.transfers()[TransferKey(Direction.DOWNLOAD, SONG, "")].priority == 10

    def test_the_whole_queue_is_paused(self, desk: Desk) -> None:
        assert desk.terminal.json("pause", "--all")["changed"] is True
        assert desk.control.summary().queue_paused

    def test_a_wait_ends_with_the_transfer_and_shows_the_way(self, desk: Desk) -> None:
        steps = [
            lambda: desk.control.on(DOWNLOAD, Event.START),
            lambda: desk.control.move(DOWNLOAD, 50, 100),
            lambda: desk.control.on(DOWNLOAD, Event.FINISH),
        ]
        worker = self._meanwhile(desk, steps)
        out = desk.terminal.run("download", FILM, "--wait").splitlines()
        worker.join(WAIT_S)
        assert out[0] == "download FILMAAAAAAAA: queued"
        assert out[-1] == "download FILMAAAAAAAA: done"

    def test_a_wait_for_a_failure_is_1_and_says_why(self, desk: Desk) -> None:
        worker = self._meanwhile(desk, [lambda: desk.control.fail(DOWNLOAD, NoSource("no store has it"))])
        assert "the download failed: no store has it" in desk.terminal.run("download", FILM, "--wait", code=1)
        worker.join(WAIT_S)

    def test_ctrl_c_ends_the_wait_and_not_the_transfer(self, desk: Desk) -> None:
        program = desk.program("download", FILM, "--wait")
        assert program.stdout is not None
        assert program.stdout.readline() == "download FILMAAAAAAAA: queued\n"
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=WAIT_S)
        assert program.returncode == 130
        assert "the download goes on" in err
        assert "Traceback" not in err
        assert desk.control.transfers()[DOWNLOAD].status is Status.QUEUED

    def test_a_watch_tells_of_each_change_until_ctrl_c(self, desk: Desk) -> None:
        desk.add(DOWNLOAD, status=Status.ONGOING)
        program = desk.program("watch", "--json")
        assert program.stdout is not None
        first = json.loads(program.stdout.readline())
        assert (first["file_id"], first["status"]) == (FILM, "ongoing")
        desk.service.do(lambda: desk.control.move(DOWNLOAD, 60, 100))
        assert json.loads(program.stdout.readline())["bytes_done"] == 60
        desk.service.do(lambda: desk.control.remove(DOWNLOAD))
        assert json.loads(program.stdout.readline())["status"] == "gone"
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=WAIT_S)
        assert (program.returncode, err) == (0, "")

    def test_a_watch_ends_with_the_daemon(self, desk: Desk) -> None:
        program = desk.program("watch", "--json")
        desk.add(DOWNLOAD, status=Status.ONGOING)
        assert program.stdout is not None
        assert program.stdout.readline()
        desk.service.do(desk.service.service.close)
        _, err = program.communicate(timeout=WAIT_S)
        assert program.returncode == 1
        assert err == "dmedia-transfer: dmedia-transfer went away\n"
        desk.service.do(desk.service._publish)

    def test_the_full_screen_sees_what_moves_and_steers_it_here_and_elsewhere(self, desk: Desk) -> None:
        seen: queue.Queue[View] = queue.Queue()
        said: queue.Queue[str] = queue.Queue()
        attendant = desk.attendant(on_view=seen.put, on_said=said.put, on_error=said.put)
        desk.add(DOWNLOAD, status=Status.QUEUED)
        attendant.look_at("")

        def view_of(machine: str, status: Status) -> None:
            deadline = time.monotonic() + WAIT_S
            while True:
                view = seen.get(timeout=max(0.0, deadline - time.monotonic()))
                if view.machine == machine and [state.status for state in view.states.values()] == [status]:
                    return

        view_of("", Status.QUEUED)
        attendant.steer("", Verb.PAUSE, [DOWNLOAD])
        assert said.get(timeout=WAIT_S) == "pause: 1 transfer"
        view_of("", Status.PAUSED)
        attendant.steer("", Verb.PAUSE, [DOWNLOAD])
        assert said.get(timeout=WAIT_S) == "pause: nothing to do"

        phone = documents.new_machine("P" * 24, "phone", time=1.0)
        with desk.terminal.database() as database:
            database.put({**phone, "queue": [{"file_id": SONG}]})
        attendant.look_at("phone")
        view_of("phone", Status.QUEUED)
        attendant.hold("phone", True)
        assert said.get(timeout=WAIT_S).startswith("the whole queue is paused (phone was never heard of")
        assert desk.terminal.document("P" * 24)["queue_paused"] is True
        neighbours: queue.Queue[list[Neighbour]] = queue.Queue()
        attendant.neighbours(neighbours.put)
        assert [each.name for each in neighbours.get(timeout=WAIT_S)] == ["phone"]
        attendant.look_at("radio")
        assert "there is no machine 'radio'" in seen_note(seen, "radio")
        attendant.hold("radio", True)
        assert "there is no machine 'radio'" in said.get(timeout=WAIT_S)

    @staticmethod
    def _meanwhile(desk: Desk, steps: list[Any]) -> threading.Thread:
        """Do these one after the other, once the transfer is there."""

        def work() -> None:
            deadline = time.monotonic() + WAIT_S
            while DOWNLOAD not in desk.control.transfers() and time.monotonic() < deadline:
                time.sleep(0.01)
            for step in steps:
                time.sleep(0.2)
                desk.service.do(step)

        thread = threading.Thread(target=work)
        thread.start()
        return thread
