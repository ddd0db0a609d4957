"""The command line in this process, with a home and a database of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer.cli import main
from dmedia_transfer.cli.device import Device
from dmedia_transfer.couch.database import Database
from tests.couch import CouchServer


@dataclass
class Terminal:
    """Where somebody types commands."""

    home: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command that ends with `code`; returns what it says, on stdout if it is done and on stderr if not."""
        self.capsys.readouterr()
        ended = main(list(arguments))
        out, err = self.capsys.readouterr()
        assert ended == code, f"{arguments}: {ended}, {out}, {err}"
        assert "Traceback" not in err
        assert "a fault of this program" not in err
        self.err = err
        return out if code == 0 else err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with --json; returns the value that it prints."""
        self.capsys.readouterr()
        assert main([*arguments, "--json"]) == code
        out, self.err = self.capsys.readouterr()
        return json.loads(out)

    def lines(self, *arguments: str) -> list[Any]:
        """Run a command with --json that prints a line for each thing."""
        return [json.loads(line) for line in self.run(*arguments, "--json").splitlines()]

    def set(self, **settings: str) -> None:
        """Change the configuration, as the environment does."""
        for name, value in settings.items():
            self.monkeypatch.setenv(f"DMEDIA_{name.upper()}", value)

    def file(self, name: str, content: bytes = b"film") -> str:
        """A file in the home folder; returns its path."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    @property
    def machine_id(self) -> str:
        """Which machine this is."""
        with Device() as device:
            return device.machine_id

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The documents."""
        with Device() as device, device.database() as database:
            yield database

    def document(self, document_id: str) -> dict[str, Any]:
        """A document that is there."""
        with self.database() as database:
            raw = database.get(document_id)
        assert raw is not None
        return raw


@pytest.fixture
def bare_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A new machine with the built-in document server, and no session bus."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    terminal = Terminal(home, capsys, monkeypatch)
    terminal.set(state_dir=str(home / "state"), runtime_dir=str(home / "run"), hostname="tv", floor_bytes="0")
    return terminal


@pytest.fixture
def terminal(bare_terminal: Terminal, couchdb_server: CouchServer, database: tuple[str, str]) -> Terminal:
    """A new machine with an empty database on a server, which is quicker than a server for each command."""
    bare_terminal.set(
        couchdb=couchdb_server.base,
        couchdb_user=couchdb_server.user,
        couchdb_password=couchdb_server.password,
        database=database[1],
    )
    return bare_terminal


@pytest.fixture
def stocked(terminal: Terminal) -> Terminal:
    """A machine with a FileStore called `shelf`."""
    terminal.run("stores", "add-filestore", "shelf", "--name", "shelf")
    return terminal
