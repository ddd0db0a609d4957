from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import journald
from dmedia_transfer.daemon import workerlog
from dmedia_transfer.model import Direction, Failure, Logged, TransferKey

FILE_ID = "DDGN6SX2E7WSAPZ22OP4YGYUR2LBEY2G6E2DIGDKBDNI2ZUN"
OTHER_ID = "JLRYRDSXX562DUSLMAIZMKI6PV32RS6E5IHJHNOSQIVT7ZGW"
STORE_ID = "MFRGGZDFMZTWQ2LKNNWG23TP"
UPLOAD = TransferKey(Direction.UPLOAD, FILE_ID, STORE_ID)
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILE_ID, "")
MIB = 1024 * 1024


class Journal:
    """What listens where journald does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.bind(str(path))

    def entry(self) -> dict[str, list[str]]:
        """The next one."""
        data, fds, _, _ = socket.recv_fds(self.socket, MIB, 1)
        if fds:
            assert not data
            data = os.pread(fds[0], 64 * MIB, 0)
            with pytest.raises(PermissionError):  # sealed, as journald wants it
                os.pwrite(fds[0], b"x", 0)
            os.close(fds[0])
        fields: dict[str, list[str]] = {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (length,) = struct.unpack("<Q", data[:8])
                value, end, data = data[8 : 8 + length], data[8 + length : 9 + length], data[9 + length :]
                assert end == b"\n"
            fields.setdefault(name.decode(), []).append(value.decode())
        return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "socket")
    yield journal
    journal.socket.close()


@pytest.fixture
def stderr() -> StringIO:
    """What comes to stderr instead."""
    return StringIO()


@pytest.fixture
def log(journal: Journal, stderr: StringIO) -> Iterator[logging.Logger]:
    """A logger that writes to the journal."""
    handler = journald.JournalHandler(logging.StreamHandler(stderr), path=journal.path)
    logger = logging.getLogger("dmedia_transfer.tests.journald")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    handler.close()


def test_an_entry_has_its_level_where_it_came_from_and_what_it_is_about(log: logging.Logger, journal: Journal) -> None:
    log.warning("%s: waits (%s)", UPLOAD, "offline")
    entry = journal.entry()
    assert entry["MESSAGE"] == [f"upload {FILE_ID} to {STORE_ID}: waits (offline)"]
    assert entry["PRIORITY"] == ["4"]
    assert (entry["TRANSFER"], entry["FILE_ID"], entry["STORE"]) == ([str(UPLOAD)], [FILE_ID], [STORE_ID])
    assert entry["SYSLOG_IDENTIFIER"] == ["dmedia-transfer"]
    assert entry["LOGGER"] == [log.name]
    assert (entry["CODE_FILE"], entry["CODE_FUNC"]) == ([__file__], [sys._getframe().f_code.co_name])
    assert int(entry["CODE_LINE"][0]) > 0


@pytest.mark.parametrize(
    ("text", "args", "files", "stores"),
    [
        ("nothing of the kind", (), [], []),
        ("%s: done", (DOWNLOAD,), [FILE_ID], []),
        ("%s: failed: %s", (DOWNLOAD, Failure("X", "x", store_id=STORE_ID)), [FILE_ID], [STORE_ID]),
        ("store %s cannot be used", (STORE_ID,), [], [STORE_ID]),
        ("file %s and file %s", (FILE_ID, OTHER_ID), [FILE_ID, OTHER_ID], []),
        ("machine %s is ready", (STORE_ID,), [], []),
        ("%s", ("A" * 49,), [], []),
        ("%(file)s", ({"file": FILE_ID},), [FILE_ID], []),
    ],
)
def test_files_and_stores_are_found_in_arguments_and_text(
    log: logging.Logger, journal: Journal, text: str, args: tuple[Any, ...], files: list[str], stores: list[str]
) -> None:
    log.info(text, *args)
    entry = journal.entry()
    assert (entry.get("FILE_ID", []), entry.get("STORE", [])) == (files, stores)


def test_the_stores_that_a_finished_download_came_from_are_told(log: logging.Logger, journal: Journal) -> None:
    log.info("%s: done", DOWNLOAD, extra={"stores": (STORE_ID,)})
    assert journal.entry()["STORE"] == [STORE_ID]


def test_lines_of_a_text_and_an_exception_stay_in_one_entry(log: logging.Logger, journal: Journal) -> None:
    try:
        raise ValueError("first\nPRIORITY=0")
    except ValueError:
        log.exception("a fault")
    entry = journal.entry()
    assert entry["MESSAGE"][0].startswith("a fault\nTraceback")
    assert entry["MESSAGE"][0].endswith("first\nPRIORITY=0")
    assert entry["PRIORITY"] == ["3"]


def test_what_is_too_large_for_a_datagram_goes_as_a_file(log: logging.Logger, journal: Journal) -> None:
    log.info("%s", "x" * 5 * MIB)
    assert journal.entry()["MESSAGE"] == ["x" * 5 * MIB]


def test_characters_that_are_none_are_shown_as_numbers(log: logging.Logger, journal: Journal) -> None:
    # Straight to the handler: pytest itself cannot tell of such a line.
    (handler,) = [one for one in log.handlers if isinstance(one, journald.JournalHandler)]
    handler.handle(logging.makeLogRecord({"name": "x", "msg": "a name: %s", "args": ("caf\udce9",)}))
    assert journal.entry()["MESSAGE"] == ["a name: caf\\udce9"]


def test_without_journald_the_line_goes_to_stderr_and_later_ones_to_the_next_journald(
    log: logging.Logger, journal: Journal, stderr: StringIO, tmp_path: Path
) -> None:
    journal.socket.close()
    journal.path.unlink()
    log.info("meanwhile")
    assert stderr.getvalue() == "meanwhile\n"
    again = Journal(journal.path)
    log.info("again")
    assert again.entry()["MESSAGE"] == ["again"]
    again.socket.close()


def test_a_line_of_a_worker_keeps_its_transfer_and_where_it_was_logged(log: logging.Logger, journal: Journal) -> None:
    workerlog.relay(Logged(logging.ERROR, log.name, "cut", UPLOAD, ("/lib/s3.py", 12, "put_part")))
    entry = journal.entry()
    assert entry["MESSAGE"] == [f"{UPLOAD}: cut"]
    assert (entry["TRANSFER"], entry["FILE_ID"], entry["STORE"]) == ([str(UPLOAD)], [FILE_ID], [STORE_ID])
    assert (entry["CODE_FILE"], entry["CODE_LINE"], entry["CODE_FUNC"]) == (["/lib/s3.py"], ["12"], ["put_part"])


def test_a_line_of_a_worker_that_is_not_wanted_is_not_logged(log: logging.Logger, journal: Journal) -> None:
    log.setLevel(logging.WARNING)
    workerlog.relay(Logged(logging.INFO, log.name, "small talk", None))
    workerlog.relay(Logged(logging.WARNING, log.name, "100 % of it", None))
    assert journal.entry()["MESSAGE"] == ["100 % of it"]


def test_stderr_is_the_journal_only_if_it_is_the_file_that_systemd_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = os.fstat(2)
    for value, expected in [
        (f"{stderr.st_dev}:{stderr.st_ino}", True),
        (f"{stderr.st_dev}:{stderr.st_ino + 1}", False),  # a terminal within a service has the variable, too
        ("nonsense", False),
    ]:
        monkeypatch.setenv("JOURNAL_STREAM", value)
        assert journald.is_stderr() is expected
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not journald.is_stderr()
