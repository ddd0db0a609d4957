"""The program: its help, its exit codes, and how it says what went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmedia_transfer import __version__
from dmedia_transfer.cli import app, looking, main
from dmedia_transfer.errors import InvalidConfig, InvalidRequest, NoSource

COMMANDS = list(app._MODULES)
SUBCOMMANDS = ["add-filestore", "add-s3", "enable", "disable", "remove", "sweep"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here touches the user's own things."""
    monkeypatch.setenv("DMEDIA_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(f'state_dir = "{tmp_path}/state"\n')
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `list` fail so."""

    def fail(**options: object) -> None:
        raise error

    monkeypatch.setattr(looking.list_command, "callback", fail)


def test_the_help_lists_every_command_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    words = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ") and line.split()]
    assert [word for word in words if word in COMMANDS] == COMMANDS


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), *(["stores", name] for name in SUBCOMMANDS)])
def test_every_command_has_help_that_fits_a_terminal(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: dmedia-transfer {' '.join(command)}")
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if line.rstrip().endswith("...") and not line.startswith("Usage")]


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("daemon", "demo")])
def test_every_command_that_prints_can_print_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    assert "--json" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dmedia-transfer, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["list", "--nonsense"],
        ["download"],
        ["upload", "x"],
        ["import"],
        ["pause"],
        ["pause", "x", "--all"],
        ["cancel", "--all", "--to", "x"],
        ["download", "x", "--only"],
        ["download", "x", "--priority", "urgent"],
        ["prioritize", "urgent", "x"],
        ["demo", "--size", "big"],
        ["stores", "add-s3"],
        ["stores", "--json", "enable", "x"],
    ],
)
def test_wrong_usage_is_2_and_says_what_is_wrong(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err
    assert "Traceback" not in captured.err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Transfers:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (NoSource("no store has\nthe file"), 1, "dmedia-transfer: no store has the file\n"),
        (InvalidConfig("x.toml: no"), 2, "dmedia-transfer: x.toml: no\n"),
        (InvalidRequest("no"), 2, "dmedia-transfer: no\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "dmedia-transfer: /x: Permission denied\n"),
        (KeyError("x"), 1, "dmedia-transfer: a fault of this program (KeyError: 'x'); --debug says where\n"),
        (KeyboardInterrupt(), 130, "\n"),  # the prompt comes on a line of its own
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error, monkeypatch)
    assert main(["list"]) == code
    assert capsys.readouterr() == ("", said)


def test_a_configuration_that_was_named_and_is_not_there_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path / "none.toml"), "list"]) == 2
    assert "none.toml: there is no such file" in capsys.readouterr().err


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dmedia_transfer.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_help_waits_for_no_library() -> None:
    heavy = ("boto3", "aiohttp", "pydantic", "requests", "gi", "dbus", "rich", "pycouchdb")
    code = (
        "import sys; from dmedia_transfer.cli import main; main(['--help']); "
        f"print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"


def test_an_import_loads_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    others = ("asyncio", "aiohttp", "boto3", "cryptography", "dbus", "gi", "multiprocessing", "rich", "sqlite3")
    code = (
        "import sys; from dmedia_transfer.cli import main; main(['import', '/etc/hostname']); "
        f"print(sorted(set({others!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DMEDIA_STATE_DIR": str(tmp_path), "DMEDIA_COUCHDB": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "no FileStore" in done.stderr
    assert done.stdout == "[]\n"


def test_debug_says_where_an_error_comes_from(tmp_path: Path) -> None:
    done = run("--debug", "--config", str(tmp_path / "none.toml"), "list")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dmedia-transfer: ")


def test_a_reader_that_goes_away_gets_no_traceback(tmp_path: Path) -> None:
    script = f"{sys.executable} -m dmedia_transfer.cli --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
