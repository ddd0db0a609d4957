"""`doctor`: what is wrong is found, named, and comes with what to do."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from dmedia_transfer import documents
from dmedia_transfer.errors import NoSource
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import Direction, Failure, PauseQueue, TransferKey, random_id
from dmedia_transfer.peers.section import PeerAddress, write_section
from dmedia_transfer.peers.trust import Trust
from dmedia_transfer.states import Status
from tests.bus import PrivateBus, ServiceThread
from tests.cli import Terminal
from tests.peers import Machine
from tests.peerserver import Host
from tests.s3 import S3Server


def findings(terminal: Terminal, *, code: int) -> dict[str, list[dict[str, Any]]]:
    """What the doctor found, by part."""
    found: dict[str, list[dict[str, Any]]] = {}
    report = terminal.json("doctor", code=code)
    for finding in report["findings"]:
        found.setdefault(finding["part"], []).append(finding)
    assert report["wrong"] == sum(each["verdict"] == "wrong" for part in found.values() for each in part)
    return found


def verdicts(found: dict[str, list[dict[str, Any]]], part: str) -> list[str]:
    return [finding["verdict"] for finding in found[part]]


@pytest.fixture
def running(stocked: Terminal, bus_service: ServiceThread) -> Terminal:
    """A machine with a FileStore, and a daemon that answers."""
    stocked.monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus_service.bus.address)
    return stocked


def test_a_machine_in_order_is_well(running: Terminal) -> None:
    found = findings(running, code=0)
    for part in ("configuration", "this machine", "FileStores", "database", "D-Bus", "daemon"):
        assert verdicts(found, part) == ["good"], part
    assert running.run("doctor").splitlines()[-1] == "all is well"


def test_a_new_machine_is_told_what_is_missing(bare_terminal: Terminal) -> None:
    found = findings(bare_terminal, code=1)
    assert verdicts(found, "FileStores") == ["wrong"]
    assert "stores add-filestore" in found["FileStores"][0]["remedy"]
    assert verdicts(found, "D-Bus") == ["wrong"]
    assert [finding["verdict"] for finding in found["database"]] == ["note", "note"]
    assert "for one device" in found["database"][1]["sentence"]
    assert verdicts(found, "journal") == ["note"]


def test_nothing_is_made_that_is_the_daemons(bare_terminal: Terminal) -> None:
    findings(bare_terminal, code=1)
    assert not (bare_terminal.home / "state" / "journal.sqlite").exists()


def test_a_configuration_that_cannot_be_read_ends_the_visit(bare_terminal: Terminal) -> None:
    path = bare_terminal.file("bad.toml", b"max_transfers = 0\n")
    bare_terminal.monkeypatch.setenv("DMEDIA_CONFIG", path)
    found = findings(bare_terminal, code=1)
    assert list(found) == ["configuration"]
    assert "max_transfers" in found["configuration"][0]["sentence"]


def test_a_password_that_others_can_read_is_wrong(running: Terminal) -> None:
    path = running.home / "config.toml"
    path.write_text("")
    path.chmod(0o644)
    running.monkeypatch.setenv("DMEDIA_CONFIG", str(path))
    found = findings(running, code=1)
    assert found["configuration"][0]["remedy"] == f"chmod 600 {path}"
    path.chmod(stat.S_IRUSR)
    findings(running, code=0)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [("couchdb", "http://127.0.0.1:9", "does not answer"), ("couchdb_password", "wrong", "does not accept user")],
)
def test_a_database_that_cannot_be_used_is_named(running: Terminal, setting: str, value: str, said: str) -> None:
    running.set(**{setting: value})
    found = findings(running, code=1)
    (finding,) = found["database"]
    assert finding["verdict"] == "wrong"
    assert said in finding["sentence"]
    assert finding["remedy"]
    assert verdicts(found, "daemon") == ["good"]  # the other checks are done all the same


def test_bad_entries_of_the_queue_are_named(running: Terminal) -> None:
    running.run("download", "A" * 48)
    with running.database() as database:
        database.edit_machine(
            running.machine_id, [PauseQueue(True)], base={"_id": running.machine_id, "type": "dmedia/machine"}
        )
        raw = running.document(running.machine_id)
        database.put({**raw, "queue": [{"file_id": "../x"}]})
    found = findings(running, code=1)
    assert verdicts(found, "queue") == ["wrong", "note", "good"]
    assert "queue.0.file_id" in found["queue"][0]["sentence"]


def test_a_machine_document_that_cannot_be_believed_is_named(running: Terminal) -> None:
    with running.database() as database:
        database.put({"_id": running.machine_id, "type": "dmedia/machine", "queue": "x"})
    found = findings(running, code=1)
    assert verdicts(found, "queue") == ["wrong"]


def test_a_drive_that_is_gone_is_named(running: Terminal) -> None:
    (running.home / "shelf").rename(running.home / "away")
    found = findings(running, code=1)
    assert str(running.home / "shelf") in found["FileStores"][0]["sentence"]
    assert "stores disable" in found["FileStores"][0]["remedy"]


def test_a_full_disk_is_wrong(running: Terminal) -> None:
    running.set(floor_bytes=str(2**60), floor_percent="100")
    assert "no room above the floor" in findings(running, code=1)["FileStores"][0]["sentence"]


def test_a_bucket_is_tried(running: Terminal, moto_s3: S3Server) -> None:
    running.monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key)
    running.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_key)
    options = ["--endpoint", moto_s3.url, "--prefix", "visited/", "-n", "nas"]
    running.run("stores", "add-s3", moto_s3.bucket, *options)
    assert verdicts(findings(running, code=0), "store nas") == ["good"]
    moto_s3.client().create_multipart_upload(Bucket=moto_s3.bucket, Key="visited/x")  # begun in 2010, moto says
    found = findings(running, code=0)
    assert verdicts(found, "store nas") == ["good", "note"]
    assert "stores sweep" in found["store nas"][1]["remedy"]


def test_a_bucket_that_cannot_be_reached_is_wrong_and_one_that_is_not_enabled_is_not(running: Terminal) -> None:
    running.monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    running.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    running.run("stores", "add-s3", "films", "--endpoint", "http://127.0.0.1:9", "--no-check", "-n", "nas")
    found = findings(running, code=1)
    assert verdicts(found, "store nas") == ["wrong"]
    assert found["store nas"][0]["remedy"]
    running.run("stores", "disable", "nas")
    found = findings(running, code=0)
    assert verdicts(found, "store nas") == ["note"]


def test_what_failed_is_told(running: Terminal) -> None:
    key = TransferKey(Direction.DOWNLOAD, "A" * 48, "")
    with Journal(running.home / "state" / "journal.sqlite", owner=True) as journal:
        journal.ledger.failed(key, ["x"], Failure.of(NoSource("no store has it")), 0)
        journal.ledger.ended(key, ["y"], Status.DONE, 1)
    found = findings(running, code=0)
    assert verdicts(found, "journal") == ["good"]
    assert "1 transfer failed" in found["transfers"][0]["sentence"]


def test_a_corrupt_journal_is_named(running: Terminal) -> None:
    (running.home / "state" / "journal.sqlite").write_bytes(b"garbage" * 1000)
    found = findings(running, code=1)
    assert "journal.sqlite" in found["journal"][0]["sentence"]


def test_problems_of_the_daemon_are_told(running: Terminal, bus_service: ServiceThread) -> None:
    bus_service.do(lambda: bus_service.control.change_summary(problems=("document X is bad",)))
    found = findings(running, code=1)
    assert [finding["sentence"] for finding in found["daemon"][1:]] == ["document X is bad"]


def test_a_daemon_that_nobody_can_start_is_wrong(stocked: Terminal, private_bus: PrivateBus) -> None:
    stocked.monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", private_bus.address)
    found = findings(stocked, code=1)
    assert verdicts(found, "D-Bus") == ["good"]
    assert "does not know how to start it" in found["daemon"][0]["sentence"]


def test_people_see_a_line_for_each_finding_and_what_to_do(bare_terminal: Terminal) -> None:
    bare_terminal.capsys.readouterr()
    bare_terminal.json("doctor", code=1)
    from dmedia_transfer.cli import main

    assert main(["doctor"]) == 1
    lines = bare_terminal.capsys.readouterr().out.splitlines()
    assert "wrong  FileStores: this machine has none" in lines
    assert (
        lines[lines.index("wrong  FileStores: this machine has none") + 1].strip().startswith("`dmedia-transfer stores")
    )
    assert lines[-1].endswith("things wrong")


def test_that_peers_are_off_is_a_note(running: Terminal) -> None:
    assert verdicts(findings(running, code=0), "peers") == ["note"]


def test_what_is_between_this_machine_and_others_is_tried(running: Terminal, host: Host, phone: Machine) -> None:
    running.set(peer__enabled="true")
    found = findings(running, code=1)
    assert "no key for peers yet" in found["peers"][0]["sentence"]

    # This machine is the phone of the server's tests, and the host is another machine of its library.
    (running.home / "state" / "peer").mkdir()
    (running.home / "state" / "peer" / "current.pem").write_bytes(phone.identity.file.read_bytes())
    assert "not in our machine document" in findings(running, code=1)["peers"][0]["sentence"]

    section = write_section(None, phone.identity.published, [])
    there = PeerAddress("127.0.0.1", host.port)
    with running.database() as database:
        database.put({**documents.new_machine(running.machine_id, "tv", time=1.0), "peer": section})
        raw = host.machine.document(peer=write_section(None, host.machine.identity.published, [there]))
        database.put(raw)
        database.put(documents.new_machine(random_id(), "old", time=1.0))
    Trust(running.home / "state" / "peers.json").on_machine(raw)
    found = findings(running, code=1)
    assert "says nowhere that it can be reached" in found["peers"][0]["sentence"]
    assert verdicts(found, "machine host") == ["good"]
    assert "is not trusted" in found["machine old"][0]["sentence"]

    host.stop()
    found = findings(running, code=1)
    assert verdicts(found, "machine host") == ["note"]
    assert "it may be off" in found["machine host"][0]["sentence"]
