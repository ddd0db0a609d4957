"""Document servers of our own: started, watched, found, shared and stopped."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from dmedia_transfer.config import Config
from dmedia_transfer.couch import pause, peruser, servers
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.embedded.lock import FileLock
from dmedia_transfer.couch.peruser import PerUserServer
from dmedia_transfer.couch.servers import DocumentServer
from dmedia_transfer.couch.session import Session
from dmedia_transfer.errors import DatabaseUnavailable, InvalidConfig
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "PAUSE_MAX_S", 0.1)


def config(folder: Path, **settings: Any) -> Config:
    """A configuration of its own folders."""
    return Config(state_dir=folder / "state", runtime_dir=folder / "run", **settings)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DocumentServer]:
    """A daemon's server, started."""
    made = DocumentServer(config(tmp_path))
    made.start()
    yield made
    made.stop()


def pid_of(server: DocumentServer) -> int:
    """The server's process."""
    assert server._process
    assert server._process.pid
    return server._process.pid


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not Path(f"/proc/{pid}").exists()


def test_a_command_without_a_daemon_has_a_server_for_its_time(tmp_path: Path) -> None:
    settings = config(tmp_path)
    assert servers.find(settings) is None
    with servers.connect(settings) as couch:
        couch.put({"_id": "x", "n": 1})
        assert servers.find(settings) == couch.address
    assert servers.find(settings) is None
    with servers.connect(settings) as couch:
        assert (couch.get("x") or {})["n"] == 1


def test_a_command_uses_the_daemons_server(tmp_path: Path, server: DocumentServer) -> None:
    address = servers.find(config(tmp_path))
    for _ in range(2):
        with servers.connect(config(tmp_path)) as couch:
            assert couch.address == address
    assert not is_gone(pid_of(server))


def test_commands_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    settings = config(tmp_path)
    faults: list[BaseException] = []

    def command(number: int) -> None:
        try:
            with servers.connect(settings) as couch:
                couch.put({"_id": f"x{number}"})
                time.sleep(0.05)
                assert couch.get(f"x{number}")
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=command, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_daemon_waits_for_a_command_to_end(tmp_path: Path) -> None:
    settings = config(tmp_path)
    made = DocumentServer(settings)
    with servers.connect(settings) as couch:
        couch.put({"_id": "x"})
        thread = threading.Thread(target=made.start)
        thread.start()
        time.sleep(0.3)
        assert couch.get("x")
    thread.join()
    try:
        assert servers.find(settings) is not None
    finally:
        made.stop()


def test_a_server_that_dies_is_started_again_at_its_address(tmp_path: Path, server: DocumentServer) -> None:
    settings = config(tmp_path)
    address = servers.find(settings)
    assert address
    couch = Database(address, "db")
    couch.ensure_exists()
    couch.put({"_id": "x"})
    for _ in range(2):
        pid = pid_of(server)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid) and servers.find(settings) == address)  # noqa: B023 - called in this round
        assert couch.get("x")
    couch.close()


def test_a_server_that_is_stopped_stays_so(tmp_path: Path) -> None:
    made = DocumentServer(config(tmp_path))
    made.start()
    pid = pid_of(made)
    made.stop()
    made.stop()
    assert is_gone(pid)
    assert servers.find(config(tmp_path)) is None


def test_nobody_else_can_read_where_the_server_is(tmp_path: Path, server: DocumentServer) -> None:
    for path in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_configured_server_is_neither_started_nor_stopped(tmp_path: Path) -> None:
    settings = config(
        tmp_path, couchdb="https://couch.example/x/", couchdb_user="ann", couchdb_password=SecretStr("pw")
    )
    made = DocumentServer(settings)
    address = made.start()
    assert (address.url, address.user) == ("https://couch.example/x", "ann")
    assert servers.find(settings) == address
    made.stop()


@pytest.mark.parametrize("url", ["http://couch.example", "http://10.0.0.1:5984"])
def test_a_password_does_not_cross_the_network_in_the_clear(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidConfig, match=r"not encrypted.*allowed_http_hosts"):
        DocumentServer(config(tmp_path, couchdb=url))
    host = url.split("/")[2].split(":")[0]
    assert DocumentServer(config(tmp_path, couchdb=url, allowed_http_hosts=(host,))).start().url == url


def test_loopback_needs_no_tls(tmp_path: Path) -> None:
    assert DocumentServer(config(tmp_path, couchdb="http://127.0.0.1:5984/")).start().url == "http://127.0.0.1:5984"


# CouchDB for one user: a stand-in that reads the same files and is told the same things, over the embedded server.

STAND_IN = """\
#!{python}
import configparser, os, pathlib, runpy, sys
assert sys.argv[1] == "-couch_ini", sys.argv
settings = configparser.RawConfigParser()
assert len(settings.read(sys.argv[2:])) == 3, sys.argv
assert settings["chttpd"]["bind_address"] == "127.0.0.1"
assert settings["couchdb"]["single_node"] == "true"
assert "-name" not in pathlib.Path(os.environ["COUCHDB_ARGS_FILE"]).read_text()
{extra}
folder = pathlib.Path(settings["couchdb"]["database_dir"])
folder.mkdir(exist_ok=True)
(user, password), = settings["admins"].items()
(folder / "credentials").write_text(f"{{user}}:{{password}}")
os.execv(sys.executable, [sys.executable, "-m", "dmedia_transfer.couch.embedded", "--file", str(folder / "db"),
    "--port", settings["chttpd"]["port"], "--credentials-file", str(folder / "credentials")])
"""


def install(folder: Path, *, extra: str = "") -> Path:
    """Lay out a release as Apache does."""
    (folder / "bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    (folder / "etc/default.ini").write_text("[couchdb]\nsingle_node = false\n")
    program = folder / "bin/couchdb"
    program.write_text(STAND_IN.format(python=sys.executable, extra=extra))
    program.chmod(0o755)
    return program


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CouchDB, installed on the PATH by a link as packages do."""
    program = install(tmp_path / "opt")
    (tmp_path / "path").mkdir()
    (tmp_path / "path/couchdb").symlink_to(program)
    monkeypatch.setattr(peruser, "PROGRAMS", ("/nonexistent/couchdb", "couchdb"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return program


def test_couchdb_runs_for_one_user_and_keeps_its_files_to_itself(tmp_path: Path, release: Path) -> None:
    settings = config(tmp_path, couchdb="per-user")
    made = DocumentServer(settings)
    address = made.start()
    try:
        assert servers.find(settings) == address
        with servers.connect(settings) as couch:
            couch.put({"_id": "x"})
            assert couch.address == address
        for path in (tmp_path / "state/couchdb").iterdir():
            assert path.name in ("data", "output", "pid") or stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert stat.S_IMODE((tmp_path / "state/couchdb").stat().st_mode) == 0o700
        pid = pid_of(made)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid) and pid_of(made) != pid)
        couch = Database(address, settings.database)
        eventually(lambda: _answers(couch))
        couch.close()
    finally:
        made.stop()
    assert servers.find(settings) is None
    with servers.connect(settings) as couch:
        assert couch.get("x")


def _answers(couch: Database) -> bool:
    try:
        return couch.get("x") is not None
    except DatabaseUnavailable:
        return False


def test_the_replicator_is_there_when_couchdb_is_said_to_be_up(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    ask = Session.json

    def noted(self: Session, method: str, url: str, **options: Any) -> Any:
        asked.append((method, url))
        return ask(self, method, url, **options)

    monkeypatch.setattr(Session, "json", noted)
    server = PerUserServer(tmp_path / "couchdb", program=release)
    address = server.start()
    server.stop()
    assert asked[-1] == ("PUT", f"{address.url}/_replicator")  # the stand-in has none, and that is no fault


def test_one_that_outlived_us_is_ended_before_another_has_its_files(tmp_path: Path, release: Path) -> None:
    folder = tmp_path / "couchdb"
    orphan = PerUserServer(folder, program=_sleeper(tmp_path))
    orphan._start_timeout_s = 0.2
    orphan.stop = lambda **_: None  # type: ignore[method-assign]
    with pytest.raises(DatabaseUnavailable, match="did not answer"):
        orphan.start()
    pid = orphan.pid
    assert pid
    orphan._lock.release()  # as the kernel does when its holder is killed
    reaper = threading.Thread(target=lambda: os.waitpid(pid, 0))  # an orphan has init for that
    reaper.start()
    after = PerUserServer(folder, program=release)
    after.start()
    reaper.join(10)
    assert is_gone(pid)
    after.stop()


def _sleeper(tmp_path: Path) -> Path:
    """A CouchDB that never answers."""
    return install(tmp_path / "sleeper", extra="import time; time.sleep(60)")


def test_two_programs_do_not_run_one_couchdb(tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = PerUserServer(tmp_path / "couchdb", program=release)
    first.start()
    real = FileLock.acquire
    monkeypatch.setattr(FileLock, "acquire", lambda self, wait_s=0.0: real(self, wait_s=min(wait_s, 0.1)))
    with pytest.raises(DatabaseUnavailable, match="another program"):
        PerUserServer(tmp_path / "couchdb", program=release).start()
    first.stop()


def test_a_couchdb_that_ends_at_once_says_why(tmp_path: Path) -> None:
    program = install(tmp_path / "opt", extra="sys.exit('no such luck')")
    broken = PerUserServer(tmp_path / "couchdb", program=program)
    with pytest.raises(DatabaseUnavailable, match=r"ended at once.*no such luck"):
        broken.start()
    broken.stop()


def test_without_couchdb_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peruser, "PROGRAMS", ("/nonexistent/couchdb", "no-such-couchdb"))
    with pytest.raises(InvalidConfig, match=r"needs Apache CouchDB.*use `embedded`"):
        DocumentServer(config(tmp_path, couchdb="per-user")).start()


def test_a_couchdb_of_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/couchdb").touch(mode=0o755)
    with pytest.raises(InvalidConfig, match=r"no CouchDB as Apache releases it: there is no .*default\.ini"):
        PerUserServer(tmp_path / "couchdb", program=tmp_path / "bin/couchdb").start()
