"""The client for apps, against the service on a private bus."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from gi.repository import GLib

from dmedia_transfer.client import Client, TransferState
from dmedia_transfer.errors import AccessDenied, ConnectionLost, DiskFull, InvalidRequest, TransferError, Unknown
from dmedia_transfer.model import Direction, Entry, SourceState, SourceUse, Transfer, TransferKey
from dmedia_transfer.states import Event, Reason, Status
from tests.bus import ROOT_DIR, PrivateBus, ServiceThread, running_bus, running_server
from tests.factories import STORE_ID
from tests.waiting import WAIT_S

FILE_ID = "F" * 48
OTHER_FILE_ID = "A" * 48
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILE_ID, "")


@pytest.fixture
def client(bus_service: ServiceThread) -> Iterator[Client]:
    with Client(bus_service.bus.address) as client:
        yield client


@contextmanager
def meanwhile(function: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread, a moment from now."""
    timer = threading.Timer(0.2, function)
    timer.start()
    yield
    timer.join(WAIT_S)
    assert not timer.is_alive()


def test_a_download_in_five_lines(bus_service: ServiceThread, client: Client) -> None:
    control = bus_service.control

    def work() -> None:
        bus_service.do(lambda: control.on(DOWNLOAD, Event.START))
        for done in range(1, 11):
            bus_service.do(lambda done=done: control.move(DOWNLOAD, done * 10, 100, rate=100.0))  # type: ignore[misc]
            time.sleep(0.05)
        bus_service.do(lambda: control.on(DOWNLOAD, Event.FINISH))

    seen: list[TransferState] = []
    with meanwhile(work):
        end = client.queue_download(FILE_ID).wait(on_progress=seen.append, timeout_s=WAIT_S)
    assert end.status is Status.DONE
    assert end.error == ""
    assert seen[0].status is Status.QUEUED
    assert seen[-1] == end
    done = [state.progress.bytes_done for state in seen]
    assert done == sorted(done)
    assert done[-1] == 100
    assert len(set(done)) >= 3


def test_what_is_asked_for_arrives(bus_service: ServiceThread, client: Client) -> None:
    client.queue_download(FILE_ID, STORE_ID, priority="now", only=True, paused=True, requested_by="app")
    client.queue_upload(FILE_ID, STORE_ID, priority=3)
    both = client.queue_downloads([OTHER_FILE_ID, FILE_ID], priority="low")
    assert [each.key.file_id for each in both] == [OTHER_FILE_ID, FILE_ID]
    assert bus_service.control.entries == [
        Entry(FILE_ID, store_id=STORE_ID, priority=100, only=True, paused=True, requested_by="app"),
        Entry(FILE_ID, Direction.UPLOAD, STORE_ID, priority=3),
        Entry(OTHER_FILE_ID, priority=-10),
        Entry(FILE_ID, priority=-10),
    ]


def test_commands_say_whether_they_changed_anything(client: Client) -> None:
    transfer = client.queue_download(FILE_ID)
    assert (transfer.pause(), transfer.pause(), transfer.resume(), transfer.retry()) == (True, False, True, False)
    assert (transfer.set_priority(10), transfer.set_priority(10)) == (True, False)
    assert (transfer.set_metered(True), transfer.set_metered(True)) == (True, False)
    other = client.queue_download("B" * 48)
    assert (client.put_before([other], transfer), client.put_before([other], other)) == (True, False)
    assert other.state().order < transfer.state().order
    assert client.put_before([other], None)
    assert other.state().order > transfer.state().order
    assert transfer.state().metered
    assert (transfer.cancel(), transfer.cancel()) == (True, False)
    assert (client.pause_all(), client.pause_all(), client.resume_all()) == (True, False, True)


def test_states_are_values(bus_service: ServiceThread, client: Client) -> None:
    key = TransferKey(Direction.UPLOAD, FILE_ID, STORE_ID)
    suspended = Transfer(
        key, status=Status.SUSPENDED, reason=Reason.METERED, sources=(SourceUse("S" * 24, 5, 2.0, SourceState.ACTIVE),)
    )
    bus_service.do(lambda: bus_service.control.add(suspended))
    (state,) = client.transfers()
    assert state == client.transfer(state.path).state() == client.transfer(key).state()
    assert (state.key, state.status, state.reason) == (key, Status.SUSPENDED, Reason.METERED)
    assert state.progress.eta_s is None
    assert state.sources == (SourceUse("S" * 24, 5, 2.0, SourceState.ACTIVE),)
    assert client.state().queued == 1


def test_limits_are_set(bus_service: ServiceThread, client: Client) -> None:
    client.set_limits(download_bps=0, max_transfers=2)
    client.set_limits(download_bps=5000)
    assert bus_service.control.limits == [{"download_bps": 0.0, "max_transfers": 2}, {"download_bps": 5000.0}]
    assert client.state().download_limit_bps == 5000


def test_a_file_is_resolved(bus_service: ServiceThread, client: Client) -> None:
    assert client.resolve(FILE_ID) == ("queued", "")
    bus_service.control.here[FILE_ID] = "/files/F"
    assert client.resolve(FILE_ID).path == "/files/F"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(DiskFull("no room"), DiskFull), (Unknown("no store"), Unknown), (ValueError("x"), TransferError)],
)
def test_errors_arrive_as_what_they_are(
    bus_service: ServiceThread, client: Client, error: Exception, kind: type[TransferError]
) -> None:
    bus_service.control.fail_with = error
    with pytest.raises(kind) as caught:
        client.queue_download(FILE_ID)
    assert type(caught.value) is kind


def test_wrong_arguments_are_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match=r"^file_id: 'x' is not a file ID"):
        client.queue_download("x")
    with pytest.raises(InvalidRequest, match="cannot be sent"):
        client.queue_download(FILE_ID, priority=2**40)
    with pytest.raises(InvalidRequest, match="is not the path of a transfer"):
        client.transfer("/somewhere/else")
    with pytest.raises(Unknown, match=OTHER_FILE_ID):
        client.transfer(TransferKey(Direction.DOWNLOAD, OTHER_FILE_ID, "")).pause()


def test_waiting_for_a_failure_ends_with_its_error(bus_service: ServiceThread, client: Client) -> None:
    transfer = client.queue_download(FILE_ID)
    failure = AccessDenied("the store refuses us")
    with meanwhile(lambda: bus_service.do(lambda: bus_service.control.fail(DOWNLOAD, failure))):
        end = transfer.wait(timeout_s=WAIT_S)
    assert (end.status, end.error) == (Status.FAILED, "the store refuses us")


def test_what_has_ended_is_not_waited_for(client: Client) -> None:
    transfer = client.queue_download(FILE_ID)
    transfer.cancel()
    assert transfer.wait(timeout_s=WAIT_S).status is Status.CANCELLED


def test_waiting_for_one_that_nobody_wants_any_more_is_an_error(bus_service: ServiceThread, client: Client) -> None:
    transfer = client.queue_download(FILE_ID)
    with (
        meanwhile(lambda: bus_service.do(lambda: bus_service.control.remove(DOWNLOAD))),
        pytest.raises(Unknown, match="not wanted"),
    ):
        transfer.wait(timeout_s=WAIT_S)


def test_waiting_ends_in_time_and_can_be_repeated(client: Client) -> None:
    transfer = client.queue_download(FILE_ID)
    for _ in range(2):
        started_s = time.monotonic()
        with pytest.raises(TimeoutError):
            transfer.wait(timeout_s=0.2)
        assert time.monotonic() - started_s > 0.15


def test_all_transfers_are_watched(bus_service: ServiceThread, client: Client) -> None:
    control = bus_service.control
    bus_service.do(lambda: control.add(Transfer(DOWNLOAD)))
    other = TransferKey(Direction.DOWNLOAD, OTHER_FILE_ID, "")

    def work() -> None:
        bus_service.do(lambda: control.on(DOWNLOAD, Event.START))
        bus_service.do(lambda: control.move(DOWNLOAD, 5, 10))
        bus_service.do(lambda: control.add(Transfer(other)))
        time.sleep(0.5)
        bus_service.do(lambda: control.remove(DOWNLOAD))

    views = []
    with meanwhile(work), closing(client.watch(every_s=0.05)) as watch:
        for states in watch:
            views.append({state.key: (state.status, state.progress.bytes_done) for state in states.values()})
            if list(views[-1]) == [other]:
                break
    assert views[0] == {DOWNLOAD: (Status.QUEUED, 0)}
    assert {DOWNLOAD: (Status.ONGOING, 5), other: (Status.QUEUED, 0)} in views


def test_without_a_bus_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost, match="cannot connect to the session bus"):
        Client(f"unix:path={tmp_path}/nothing")


def test_without_a_daemon_there_is_one_clear_error(private_bus: PrivateBus) -> None:
    with pytest.raises(ConnectionLost, match="dmedia-transfer does not answer"):
        Client(private_bus.address)


def test_the_first_call_starts_the_daemon(tmp_path: Path) -> None:
    shipped = (ROOT_DIR / "data/dbus-1/services/org.dmedia.Transfer1.service").read_text()
    command = f"/usr/bin/env PYTHONPATH={ROOT_DIR} {sys.executable} -m tests.bus_server"
    (tmp_path / "services").mkdir()
    service = tmp_path / "services/org.dmedia.Transfer1.service"
    assert "Exec=/usr/bin/dmedia-transfer daemon" in shipped
    service.write_text(shipped.replace("/usr/bin/dmedia-transfer daemon", command))
    with running_bus(tmp_path, servicedir=service.parent) as bus, Client(bus.address) as client:
        assert client.queue_download(FILE_ID).state().status is Status.QUEUED


def test_a_daemon_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services/org.dmedia.Transfer1.service").write_text(
        "[D-BUS Service]\nName=org.dmedia.Transfer1\nExec=/bin/false\n"
    )
    with (
        running_bus(tmp_path, servicedir=tmp_path / "services") as bus,
        pytest.raises(ConnectionLost, match="dmedia-transfer does not answer"),
    ):
        Client(bus.address)


def test_a_daemon_that_dies_ends_the_waiting(private_bus: PrivateBus) -> None:
    with running_server(private_bus) as server, Client(private_bus.address) as client:
        transfer = client.queue_download(FILE_ID)
        with meanwhile(server.kill), pytest.raises(ConnectionLost, match="went away"):
            transfer.wait(timeout_s=WAIT_S)


def test_a_bus_that_dies_ends_the_waiting_and_the_service(tmp_path: Path) -> None:
    with running_bus(tmp_path) as bus, running_server(bus) as server:
        client = Client(bus.address)
        transfer = client.queue_download(FILE_ID)
        with meanwhile(bus.stop), pytest.raises(ConnectionLost):
            transfer.wait(timeout_s=WAIT_S)
        with pytest.raises(ConnectionLost):
            transfer.pause()
        client.close()
        assert server.wait(WAIT_S) == 0


@contextmanager
def app(bus: PrivateBus, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of somebody else, which has said `waiting`."""
    process = subprocess.Popen([sys.executable, "-c", program], env=bus.env, cwd=ROOT_DIR, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def test_waiting_does_not_run_the_main_loop_of_the_app(private_bus: PrivateBus) -> None:
    program = f"""
from gi.repository import GLib
from dmedia_transfer.client import Client
with Client() as client:
    transfer = client.queue_download("{FILE_ID}")
    GLib.idle_add(print, "the main loop ran")
    print("waiting", flush=True)
    print(transfer.wait().status, flush=True)
"""
    with running_server(private_bus), app(private_bus, program) as process, Client(private_bus.address) as client:
        time.sleep(0.3)
        client.transfer(DOWNLOAD).cancel()
        assert process.communicate(timeout=WAIT_S)[0] == b"cancelled\n"


def test_waiting_is_ended_by_ctrl_c(private_bus: PrivateBus) -> None:
    program = f"""
from dmedia_transfer.client import Client
with Client() as client:
    transfer = client.queue_download("{FILE_ID}")
    print("waiting", flush=True)
    try:
        transfer.wait()
    except KeyboardInterrupt:
        print("ended", flush=True)
"""
    with running_server(private_bus), app(private_bus, program) as process:
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WAIT_S)[0] == b"ended\n"
        assert process.returncode == 0


def test_what_happens_just_after_the_first_look_is_not_missed(
    bus_service: ServiceThread, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = bus_service.control
    look = control.transfers

    def looked_at() -> Mapping[TransferKey, Transfer]:
        monkeypatch.setattr(control, "transfers", look)
        GLib.idle_add(lambda: control.on(DOWNLOAD, Event.START) and False)
        return look()

    def finish(state: TransferState) -> None:
        if state.status is Status.ONGOING:  # it would never end if that had been missed
            bus_service.do(lambda: control.on(DOWNLOAD, Event.FINISH))

    for _ in range(50):
        transfer = client.queue_download(FILE_ID)
        monkeypatch.setattr(control, "transfers", looked_at)
        assert transfer.wait(finish, timeout_s=WAIT_S).status is Status.DONE
        bus_service.do(control.reset)
