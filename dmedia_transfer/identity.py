"""Which machine this is: a random ID, made at the first start and kept in the state folder.

The daemon and the command line ask, whoever comes first; both get the same one.

Two devices must never run one queue. The ID is therefore kept beside a mark of the device, made from the operating
system's machine ID (machine-id(5), which asks not to be passed on as it is). Where the mark is another device's, the
folder was copied, with a home folder or from a backup: this device gets an ID of its own, and what the other one had
under way is set aside. A clone of a whole virtual machine has the same mark, unless its machine ID was made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import tempfile
from pathlib import Path
from typing import Final

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidConfig, shown
from dmedia_transfer.model import random_id

log = logging.getLogger(__name__)

FILE_NAME: Final = "machine-id"
_OF_THE_SYSTEM: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_OF_THE_OTHER: Final = ("journal.sqlite*", "stores.json", "peer")  # unfinished work, FileStores and key of that device


def device_mark() -> str:
    """What tells this device from others; empty where the system has no ID."""
    for path in _OF_THE_SYSTEM:
        with contextlib.suppress(OSError):
            if system_id := path.read_bytes().strip():
                return hmac.new(system_id, b"dmedia-transfer", hashlib.sha256).hexdigest()[:32]
    return ""


def machine_id(state_dir: Path, *, mark: str | None = None) -> str:
    """The ID of this machine's document; a new one is made if there is none, or only another device's.

    Args:
        state_dir: The state folder.
        mark: Of this device; None to look.

    Raises:
        InvalidConfig: The file cannot be read or written, or has no ID in it.
    """
    path = state_dir / FILE_NAME
    mark = device_mark() if mark is None else mark
    try:
        with contextlib.suppress(FileNotFoundError):
            found, marked = _read(path)
            if not mark or not marked or mark == marked:
                return found
            _set_aside(state_dir, found)
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _offer(path, f"{random_id()}\n{mark}\n")
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be written: {error.strerror}") from None
    return _read(path)[0]


def _read(path: Path) -> tuple[str, str]:
    """The ID, and the mark of the device that it was made on."""
    try:
        lines = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        lines = ["?"]
    found = lines[0] if lines else ""
    if not leaves.is_random_id(found):
        raise InvalidConfig(f"{path}: should be 24 characters of base32, not {shown(found)}")
    return found, lines[1] if len(lines) > 1 else ""


def _set_aside(state_dir: Path, other_id: str) -> None:
    """Put away what belongs to the device that the folder was copied from. The ID goes last: a crash repeats it."""
    aside = state_dir / f"copied-from-{other_id}"
    aside.mkdir(mode=0o700, exist_ok=True)
    for pattern in (*_OF_THE_OTHER, FILE_NAME):
        for path in sorted(state_dir.glob(pattern)):
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                path.rename(aside / path.name)
    log.warning(
        "%s was copied from another device, machine %s: this one gets an ID of its own. What the other one had under "
        "way and its list of stores are in %s; FileStores and stores have to be added and enabled here anew",
        state_dir,
        other_id,
        aside,
    )


def _offer(path: Path, text: str) -> None:
    """Write the file, whole and for good, unless another process was quicker: a link never replaces what is there."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
