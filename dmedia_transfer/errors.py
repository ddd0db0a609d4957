"""The tree of exceptions; each knows whether trying again can help.

    TransferError
     ├─ InvalidInput            what somebody gave us is wrong; it names what and where
     │   ├─ InvalidDocument     a CouchDB document
     │   ├─ InvalidConfig       the configuration file, the environment, an option
     │   └─ InvalidRequest      an argument of D-Bus, REST or the command line
     ├─ IllegalEvent            a status was sent an event that it does not know: a fault of ours
     ├─ Unknown                 no such file, store, transfer or machine
     ├─ Transient               trying again can help
     │   ├─ ConnectionLost      cut, refused, reset, timed out
     │   ├─ Stalled             no byte for too long
     │   ├─ ServerBusy          SlowDown, 429, 5xx; may say when to come back
     │   ├─ LeafMissing         a peer has the file, but not this leaf of it yet
     │   ├─ CredentialsExpired  loaded again, then tried again
     │   ├─ DatabaseUnavailable CouchDB does not answer, or not sensibly
     │   └─ WorkerLost          the worker process died
     ├─ Waiting                 trying again helps once a reason has gone away
     │   ├─ DiskFull            reason `disk-full`
     │   ├─ StoreMissing        reason `store-missing`
     │   ├─ NoSource            reason `no-source`
     │   ├─ Offline             reason `offline`
     │   └─ Metered             reason `metered`
     ├─ CorruptLeaf             a leaf does not match its digest: fetched again, then another source
     ├─ Permanent               trying again does not help
     │   ├─ AccessDenied        the store refuses us, or was not enabled on this machine
     │   ├─ ObjectMissing       the store has no such object
     │   ├─ ObjectDiffers       an object is there under this name, but it is not this file
     │   ├─ UploadGone          the multipart upload is unknown: aborted, expired or completed
     │   ├─ FileMissing         the file is not in any FileStore of this machine
     │   ├─ SourceChanged       a file changed while it was being read
     │   ├─ SizeDisputed        the document's `bytes` disagrees with what is stored
     │   └─ Conflict            the document has changed meanwhile (409)
     └─ Interrupted             we were asked to stop; not a fault

Across a process boundary an exception travels as a `model.Failure`.
"""

from __future__ import annotations

import re
import reprlib

_USERINFO = re.compile(r"//.*@", re.DOTALL)


class _Shown(reprlib.Repr):
    """Cuts what is long, wide or deep, and blots out the user and password of a URL before it cuts."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = 80

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(_USERINFO.sub("//***@", x), level)

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out a number of more than 4,300 digits.
        return super().repr_int(x, level) if x.bit_length() <= 256 else f"a number of {x.bit_length()} bits"


_shown = _Shown()


def shown(value: object) -> str:
    """A value as an error message shows it: one short line, whatever somebody sent, and no password of a URL."""
    text = _shown.repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


class TransferError(Exception):
    """The root of all errors that this package raises on purpose.

    The message says what was being done to what. `transient` says whether trying again can help.
    """

    transient = False
    reason: str | None = None  # the word of a `states.Reason`
    retry_after_s: float | None = None

    @property
    def kind(self) -> str:
        """The name under which the error crosses pipes, D-Bus and REST."""
        return type(self).__name__


class InvalidInput(TransferError):
    """What somebody gave us is wrong."""


class InvalidDocument(InvalidInput):
    """A document that cannot be believed: names the document, the key and the value."""

    def __init__(self, document_id: str, key: str, problem: str) -> None:
        super().__init__(document_id, key, problem)
        self.document_id = document_id
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        where = f"document {shown(self.document_id)}"
        return f"{where}, key {shown(self.key)}: {self.problem}" if self.key else f"{where}: {self.problem}"


class InvalidConfig(InvalidInput):
    """A setting that cannot be used: names the setting and where it was read."""


class InvalidRequest(InvalidInput):
    """An argument of a D-Bus call, an HTTP request or a command that cannot be used."""


class IllegalEvent(TransferError):
    """A status was sent an event that it does not know."""


class Unknown(TransferError):
    """No such file, store, transfer or machine."""


class Transient(TransferError):
    """Trying again can help."""

    transient = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ConnectionLost(Transient):
    """A connection was cut, refused, reset or timed out."""


class Stalled(ConnectionLost):
    """No byte moved for too long."""


class ServerBusy(Transient):
    """The server asks for patience (SlowDown, 429) or failed (5xx)."""


class LeafMissing(Transient):
    """A store has a part of the file, but not this leaf yet: other leaves can be had from it, and later this one."""

    def __init__(self, file_id: str, leaf: int, store_id: str, there: frozenset[int] = frozenset()) -> None:
        super().__init__("")
        self.args = (file_id, leaf, store_id, there)  # what it is made from again, beyond a pipe
        self.file_id = file_id
        self.leaf = leaf
        self.store_id = store_id
        self.there = there  # leaves that it has; maybe not all of them are named

    def __str__(self) -> str:
        return f"leaf {self.leaf} of file {self.file_id} is not in store {self.store_id} yet"


class CredentialsExpired(Transient):
    """The credentials were good once; they are loaded again before the next attempt."""


class DatabaseUnavailable(Transient):
    """CouchDB does not answer, or not sensibly."""


class WorkerLost(Transient):
    """The worker process died."""


class Waiting(TransferError):
    """Trying again helps once `reason` has gone away."""


class DiskFull(Waiting):
    """The FileStore has no room above its floor."""

    reason = "disk-full"


class StoreMissing(Waiting):
    """The store is not there: a drive that was pulled out, a folder that was unmounted."""

    reason = "store-missing"


class NoSource(Waiting):
    """No usable store is known to have the file."""

    reason = "no-source"


class Offline(Waiting):
    """There is no connection."""

    reason = "offline"


class Metered(Waiting):
    """The connection costs by the byte, and the transfer is not worth it."""

    reason = "metered"


class CorruptLeaf(TransferError):
    """A leaf that does not match its digest."""

    def __init__(self, file_id: str, leaf: int, store_id: str, detail: str = "") -> None:
        super().__init__(file_id, leaf, store_id, detail)
        self.file_id = file_id
        self.leaf = leaf
        self.store_id = store_id
        self.detail = detail

    def __str__(self) -> str:
        text = f"leaf {self.leaf} of file {self.file_id} from store {self.store_id} does not match its digest"
        return f"{text}: {self.detail}" if self.detail else text


class Permanent(TransferError):
    """Trying again does not help."""


class AccessDenied(Permanent):
    """The store refuses us, or was not enabled on this machine."""


class ObjectMissing(Permanent):
    """The store has no such object."""


class ObjectDiffers(Permanent):
    """An object is there under the file's name, but it is not this file."""


class UploadGone(Permanent):
    """The multipart upload is unknown to the server: aborted, expired or completed."""


class FileMissing(Permanent):
    """The file is not in any FileStore of this machine."""


class SourceChanged(Permanent):
    """A file changed while it was being read."""


class SizeDisputed(Permanent):
    """The document's `bytes` disagrees with what a store has; the document is the suspect."""


class Conflict(Permanent):
    """The document has changed meanwhile: CouchDB answered 409."""


class Interrupted(TransferError):
    """We were asked to stop: a pause, a cancel, a shutdown. Not a fault."""
