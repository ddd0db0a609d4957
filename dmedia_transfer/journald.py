"""Entries in systemd's journal: what is logged, with the transfer, the file and the store that it is about as fields.

So `journalctl --user FILE_ID=...` tells a file's story, and `TRANSFER=`, `STORE=` and `PRIORITY=` find the rest. Which
those are is seen in what is logged anyway: a key, a failure or a store among the arguments, and IDs in the text.

An entry is one datagram of lines `FIELD=value` (systemd.io/JOURNAL_NATIVE_PROTOCOL). That is spoken here, because
python3-systemd is Debian's only (PyPI's needs a compiler and headers), so that this would have to be here as well.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dmedia_transfer.model import Failure, StoreSpec, TransferKey

SOCKET: Final = Path("/run/systemd/journal/socket")
IDENTIFIER: Final = "dmedia-transfer"
PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

_FILE_ID: Final = re.compile(r"(?<![A-Z2-7])[A-Z2-7]{48}(?![A-Z2-7])")
_STORE_ID: Final = re.compile(r"\b(?:store|Store|FileStore|to) ([A-Z2-7]{24})(?![A-Z2-7])")
_MAX_VALUES: Final = 16  # of one field: a line may list thousands of files
_F_ADD_SEALS: Final = 1033  # linux/fcntl.h; all four seals, as journald wants them
_ALL_SEALS: Final = 0xF


def is_stderr() -> bool:
    """Whether what we write to stderr goes to the journal (`$JOURNAL_STREAM`, systemd.exec(5))."""
    try:
        device, inode = os.environ["JOURNAL_STREAM"].split(":")
        stderr = os.fstat(2)
        return (stderr.st_dev, stderr.st_ino) == (int(device), int(inode))
    except (KeyError, ValueError, OSError):
        return False


class JournalHandler(logging.Handler):
    """Writes what is logged to the journal; where that cannot be, `fallback` has it. Any thread may log."""

    def __init__(self, fallback: logging.Handler, *, path: Path = SOCKET) -> None:
        """Nothing is opened that would have to be opened again: journald may restart."""
        super().__init__()
        self._fallback = fallback
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry."""
        try:
            datagram = b"".join(_lines(name, value) for name, value in self._fields(record))
            try:
                self._socket.sendto(datagram, self._path)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                self._send_as_file(datagram)
        except OSError:
            self._fallback.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        message = self.format(record)
        yield "MESSAGE", message
        yield "PRIORITY", str(PRIORITIES.get(record.levelno, 6))
        yield "SYSLOG_IDENTIFIER", IDENTIFIER
        yield "LOGGER", record.name
        yield "CODE_FILE", record.pathname
        yield "CODE_LINE", str(record.lineno)
        yield "CODE_FUNC", str(record.funcName)
        for name, values in subjects(record, message).items():
            for value in values[:_MAX_VALUES]:
                yield name, value

    def _send_as_file(self, datagram: bytes) -> None:
        """An entry that is too large for a datagram goes as a file in memory that nobody can change any more."""
        fd = os.memfd_create("journal-entry", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(datagram)
            fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
            self._socket.sendmsg([b""], rights, 0, self._path)
        finally:
            os.close(fd)


def subjects(record: logging.LogRecord, message: str) -> dict[str, list[str]]:
    """What a line is about: the values of `TRANSFER`, `FILE_ID` and `STORE`, as far as there are any."""
    transfers: list[str] = []
    files: list[str] = []
    stores: list[str] = list(getattr(record, "stores", ()))
    for one in record.args if isinstance(record.args, tuple) else ():
        match one:
            case TransferKey():
                transfers.append(str(one))
                files.append(one.file_id)
                stores.append(one.store_id)
            case Failure() | StoreSpec():
                stores.append(one.store_id)
    files += _FILE_ID.findall(message)
    stores += _STORE_ID.findall(message)
    found = {"TRANSFER": transfers, "FILE_ID": files, "STORE": stores}
    return {name: list(dict.fromkeys(filter(None, values))) for name, values in found.items()}


def _lines(name: str, value: str) -> bytes:
    raw = value.encode(errors="backslashreplace")
    if b"\n" in raw:
        return name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
    return name.encode() + b"=" + raw + b"\n"
