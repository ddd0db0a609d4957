"""Fault points: named places at which a test can have this process killed.

A point does nothing unless the environment variable `DMEDIA_FAULT` was set when the program started. Its value is
the name of a point, or `name:count` for each count-th passage; the process is then killed with SIGKILL there, so
that nothing gets a chance to clean up. `DMEDIA_FAULT_MARK` names a file that is made just before: it shows that the
point was reached, and while it is there the point kills no more, so that what is started again can recover.
With `DMEDIA_FAULT_SIGNAL=STOP` the process stands still there instead, until it is sent a SIGCONT: something can then
be done to what is in the middle of its work, however quick the machine is.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

DOWNLOAD_POINTS: Final = (
    "download.fetched",  # a leaf is in memory, and not verified yet
    "download.written",  # it is in the partial file
    "download.recorded",  # ... and on record
    "download.published",  # the file has its name, and its leaves are still on record
)
TOGETHER_POINTS: Final = (  # of several small downloads at once, besides `download.fetched`
    "together.written",  # one is in its partial file
    "together.synced",  # all are on the disk, and none has its name
    "together.renamed",  # one of them has its name
    "together.published",  # all have their names for good, and nobody was told
)
UPLOAD_POINTS: Final = (
    "upload.stat",  # the server said what is there
    "upload.put",  # a small file is there
    "upload.intended",  # the intent is on record
    "upload.begun",  # the server knows the upload, and the journal does not
    "upload.recorded",  # the ID is on record
    "upload.listed",  # the server said which parts it has
    "upload.part-sent",  # it has one more, and the journal does not know
    "upload.part-recorded",
    "upload.finished",  # the object is there, and the upload is still on record
    "upload.abandoned",  # nothing of the upload is left, and it is still on record
    "upload.forgotten",  # it is not on record any more
)
IMPORT_POINTS: Final = (
    "import.published",  # the file has its name, and nobody knows of it
    "import.settled",  # it is on record, and so is the edit that brings it into the library
)
ARRIVING_POINTS: Final = (  # a new file from a browser or a program
    "arriving.written",  # a leaf is in the partial file, and its digest nowhere
    "arriving.recorded",
)
VERIFY_POINTS: Final = (
    "verify.leaf",  # a leaf is hashed
    "verify.hashed",  # all are
    "verify.set-aside",  # a corrupt copy is not served any more, and nobody knows why
    "verify.settled",  # what was found is on record, and so is what it means for the documents
)

_LOCK: Final = threading.Lock()
_passed = 0


def _count(name: str) -> None:
    global _passed
    wanted, _, count = os.environ["DMEDIA_FAULT"].partition(":")
    if name != wanted:
        return
    with _LOCK:
        _passed += 1
        if _passed % int(count or 1) == 0 and _mark():
            os.kill(os.getpid(), signal.Signals[f"SIG{os.environ.get('DMEDIA_FAULT_SIGNAL', 'KILL')}"])


def _mark() -> bool:
    mark = os.environ.get("DMEDIA_FAULT_MARK")
    if not mark:
        return True
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def _nothing(name: str) -> None:
    pass


# Chosen once: a program that runs in earnest pays one call of an empty function.
point = _count if os.environ.get("DMEDIA_FAULT") else _nothing
"""Called with the point's name, `room.what-has-just-happened`."""
