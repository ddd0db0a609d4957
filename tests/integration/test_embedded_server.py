"""The server's process: who may ask, one server per file, how it ends, what survives."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from dmedia_transfer.couch.embedded.launch import EmbeddedServer, running, served
from dmedia_transfer.errors import DatabaseUnavailable
from tests.couch import CouchDb
from tests.waiting import WAIT_S, eventually


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "couch.sqlite"


@pytest.fixture
def server(file: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(file) as started:
        yield started


def session_for(server: EmbeddedServer) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.auth = (server.address.user, server.address.password)
    return session


def database(server: EmbeddedServer, session: requests.Session) -> CouchDb:
    return CouchDb(session, server.address.url + "/db")


def is_dead(server: EmbeddedServer) -> bool:
    return not server.alive


def wait_until_gone(pid: int, timeout_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def test_without_the_password_nothing_is_told(server: EmbeddedServer) -> None:
    for path in ("/", "/_up", "/_all_dbs", "/db", "/db/doc", "/nowhere/at/all"):
        for auth in (None, ("dmedia", "wrong"), ("other", server.address.password)):
            response = requests.get(server.address.url + path, auth=auth, timeout=WAIT_S)
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"].startswith("Basic")
            assert response.json()["error"] == "unauthorized"


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"x").decode()])
def test_a_broken_authorization_is_refused(server: EmbeddedServer, header: str) -> None:
    response = requests.get(server.address.url, headers={"Authorization": header}, timeout=WAIT_S)
    assert response.status_code == 401


def test_a_web_page_cannot_ask_even_with_the_password(server: EmbeddedServer) -> None:
    with session_for(server) as session:
        for headers in (
            {"Host": "evil.example"},
            {"Host": "127.0.0.1.evil.example"},
            {"Origin": "https://evil.example"},
        ):
            response = session.get(server.address.url, headers=headers, timeout=WAIT_S)
            assert response.status_code == 403
            assert "Access-Control-Allow-Origin" not in response.headers
        port = server.address.url.rpartition(":")[2]
        assert session.get(server.address.url, headers={"Host": f"localhost:{port}"}, timeout=WAIT_S).ok


def test_only_loopback_is_listened_on(file: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        EmbeddedServer(file, host="0.0.0.0").start()


def test_the_password_is_on_no_command_line_and_in_no_repr(server: EmbeddedServer) -> None:
    command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    environment = Path(f"/proc/{server.pid}/environ").read_bytes()
    assert server.address.password.encode() not in command + environment
    assert server.address.password not in repr(server.address)


def test_what_it_keeps_is_for_its_owner_only(server: EmbeddedServer, file: Path) -> None:
    with session_for(server) as session:
        assert database(server, session)("PUT").status_code == 201
    for path in file.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_two_servers_never_open_one_file(server: EmbeddedServer, file: Path) -> None:
    command = [sys.executable, "-m", "dmedia_transfer.couch.embedded", "--file", str(file), "--lock-wait", "0"]
    second = subprocess.run(
        [*command, "--credentials-fd", "0"], input=b"user:password\n", capture_output=True, timeout=WAIT_S
    )
    assert second.returncode == 1
    assert b"another server has" in second.stderr
    assert server.alive


def test_a_running_server_is_found_and_one_that_ended_is_not(file: Path) -> None:
    assert running(file) is None
    with EmbeddedServer(file) as server:
        assert running(file) == server.address
        with served(file) as address:
            assert address == server.address
    assert running(file) is None


def test_where_none_runs_one_is_started_for_as_long_as_needed(file: Path) -> None:
    with served(file) as address:
        assert requests.get(address.url, auth=(address.user, address.password), timeout=WAIT_S).ok
        assert running(file) == address
    assert running(file) is None


def test_documents_survive_a_restart(file: Path) -> None:
    with EmbeddedServer(file) as server, session_for(server) as session:
        database(server, session)("PUT")
        rev = database(server, session).put("film", {"n": 1})
        last = database(server, session).changes()["last_seq"]
    with EmbeddedServer(file) as server, session_for(server) as session:
        db = database(server, session)
        assert db.get("film") == {"_id": "film", "_rev": rev, "n": 1}
        assert db.changes(since=last)["results"] == []


def test_whatever_was_answered_survives_a_kill_at_any_moment(file: Path) -> None:
    answered: dict[str, str] = {}
    for round_number in range(4):
        server = EmbeddedServer(file)
        server.start()
        with session_for(server) as session:
            db = database(server, session)
            db("PUT")
            for id, rev in answered.items():
                assert db.get(id)["_rev"] == rev
            assert {row["id"] for row in db.changes()["results"]} >= set(answered)
            pid = server.pid
            assert pid is not None
            killer = threading.Timer(0.15 + 0.1 * round_number, os.kill, (pid, signal.SIGKILL))
            killer.start()
            try:
                for n in range(100_000):
                    rows = db.bulk([{"_id": f"{round_number}-{n}-{i}", "n": i} for i in range(5)])
                    answered.update({row["id"]: row["rev"] for row in rows})
            except requests.RequestException:
                pass
            killer.join()
        server.stop()
    assert len(answered) > 20
    with EmbeddedServer(file) as server, session_for(server) as session:
        db = database(server, session)
        listed = {row["id"]: row["value"]["rev"] for row in db("GET", "/_all_docs").json()["rows"]}
        assert answered.items() <= listed.items()
        assert len(listed) % 5 == 0  # a bulk is written as a whole
        assert db("GET").json()["doc_count"] == len(listed)


def test_a_death_is_noticed_and_a_start_brings_it_back(file: Path) -> None:
    server = EmbeddedServer(file)
    first = server.start()
    assert server.start() == first
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert os.read(server.fileno(), 1) == b""  # readable, and at its end
    assert is_dead(server)
    second = server.start()
    assert not is_dead(server)
    assert requests.get(second.url, auth=(second.user, second.password), timeout=WAIT_S).ok
    server.stop()
    server.stop()
    assert is_dead(server)


def test_it_ends_when_its_parent_dies(file: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from dmedia_transfer.couch.embedded.launch import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate(timeout=WAIT_S)
    wait_until_gone(pid)
    assert running(file) is None


def test_sigterm_ends_it_cleanly_and_its_feeds_with_it(file: Path) -> None:
    server = EmbeddedServer(file)
    server.start()
    with session_for(server) as session:
        db = database(server, session)
        db("PUT")
        query = {"feed": "continuous", "heartbeat": "60000", "since": "now"}
        with db("GET", "/_changes", params=query, stream=True) as response:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGTERM)
            lines = [line for line in response.iter_lines() if line]
        assert b"last_seq" in lines[-1]
    wait_until_gone(server.pid)
    assert not file.with_name(file.name + "-wal").exists()  # closed, so the log is folded in
    server.stop()


def test_a_file_that_is_no_database_is_named_in_the_error(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"this is not a database" * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        EmbeddedServer(file).start()


def test_a_feed_whose_reader_hung_up_is_let_go(server: EmbeddedServer) -> None:
    def connections() -> int:
        count = 0
        for path in Path(f"/proc/{server.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while we look
                count += str(path.readlink()).startswith("socket:")
        return count

    with session_for(server) as session:
        database(server, session)("PUT")
        before = connections()
        query = {"feed": "continuous", "heartbeat": "60000", "since": "now"}
        for _ in range(5):
            with session_for(server) as other:
                response = database(server, other)("GET", "/_changes", params=query, stream=True)
                assert connections() == before + 1
                response.close()
            eventually(lambda: connections() <= before)


def test_an_idle_server_does_not_wake_up(server: EmbeddedServer) -> None:
    def wakeups() -> int:
        status = Path(f"/proc/{server.pid}/status").read_text()
        return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    def rests() -> bool:
        before = wakeups()
        time.sleep(1.0)
        return wakeups() - before <= 1

    eventually(rests)  # once what it does at its start is over


def test_garbage_on_the_line_does_not_disturb_others(server: EmbeddedServer) -> None:
    host, port = "127.0.0.1", int(server.address.url.rpartition(":")[2])
    for garbage in (b"\x16\x03\x01\x00\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /%zz HTTP/1.1\r\n\r\n", b"\r\n" * 1000):
        with socket.create_connection((host, port), timeout=WAIT_S) as connection:
            connection.sendall(garbage)
    with session_for(server) as session:
        assert session.get(server.address.url, timeout=WAIT_S).ok


def test_the_launcher_loads_nothing_heavy() -> None:
    script = (
        "import sys, dmedia_transfer.couch.embedded.launch\n"
        "heavy = {'aiohttp', 'asyncio', 'sqlite3', 'pydantic', 'requests'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=WAIT_S)
