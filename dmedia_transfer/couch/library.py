"""The manager's library: documents read and edits written, on a thread of its own.

The manager asks and goes on; answers come as calls on its thread, through `call_soon`. Nothing that was asked is
lost while the database is away: requests wait here, edits wait in the journal's outbox, and both are tried again,
with a growing and random pause, until they have gone through. Edits that can never be written are dropped with a
line in the log, so that they do not hold up the others.

The order of a flush is a promise: what is stored where is written before an entry leaves the queue.

Each removal of a finished entry rewrites the whole machine document. So that a long queue does not cost the square
of its length, the pause between two writes grows with the size of the document: finished entries leave in batches,
and the bytes written per second stay bounded.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer import documents, merge
from dmedia_transfer.couch import stored
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.machinememory import MachineMemory
from dmedia_transfer.couch.owndocument import OwnDocument
from dmedia_transfer.couch.ownmachine import OwnMachine
from dmedia_transfer.couch.pause import pause_s
from dmedia_transfer.errors import (
    AccessDenied,
    DatabaseUnavailable,
    InvalidDocument,
    TransferError,
)
from dmedia_transfer.model import AddEntry, AddFile, QueueEdit, RecordStored
from dmedia_transfer.ports import KnownFile, Outbox

log = logging.getLogger(__name__)

COALESCE_S: Final = 0.02  # edits that are made together are written together
WRITE_BYTES_PER_S: Final = 500_000.0  # of machine documents, on average
ENTRY_BYTES: Final = 200  # of an entry, more or less
WRITE_PAUSE_MAX_S: Final = 5.0
BUSY_SHARE: Final = 0.2  # of the time that goes into writing, at most
HELD_BACK_S: Final = 60.0  # until what the database did not take is offered again
NOTE_S: Final = 0.2  # revisions that come into force are taken note of together
UNITE_S: Final = 15.0  # after which replication has mostly brought what others wrote of a file at the same time
KEEP_S: Final = 60.0  # at most so often the queue is kept for a start without database
FILES_PER_READ: Final = 500
READ_KEPT: Final = 1000  # file documents that were read and may be written soon

Raw = dict[str, Any]
CallSoon = Callable[..., object]


@dataclass(slots=True)
class _Task:
    """Something that the thread does when it is asked to."""

    work: Callable[[], None]
    due: float | None = None  # monotonic seconds from when on it is wanted; None: it is not
    not_before: float = 0.0  # monotonic seconds; after a failure, or a large write
    attempt: int = 0  # failures in a row

    @property
    def starts(self) -> float:
        return max(self.due or 0.0, self.not_before)


class CouchLibrary:
    """`ports.Library` over one database."""

    def __init__(
        self,
        *,
        database: Database,
        outbox: Outbox,
        machine_id: str,
        hostname: str,
        call_soon: CallSoon,
        on_files: Callable[[Mapping[str, KnownFile | TransferError]], object],
        on_taken: Callable[[Sequence[int], Raw | None], object],
        on_loaded: Callable[[Raw, Sequence[Raw]], object],
        on_state: Callable[[str | None], object],
        on_machine: Callable[[Raw], object] | None = None,
        on_machines: Callable[[Sequence[Raw]], object] | None = None,
        on_other: Callable[[Raw], object] = lambda raw: None,
        watch: Callable[[Collection[str]], object] = lambda _: None,
        memory: MachineMemory | None = None,
    ) -> None:
        """Nothing is sent before `start`.

        Args:
            database: Where the documents are; used by this thread alone, and closed by `stop`.
            outbox: The edits that wait; called on this thread.
            machine_id: Whose queue it is.
            hostname: For the machine's document when it is made.
            call_soon: Hands calls to the manager's thread.
            on_files: Called with what is known of files, by their IDs, or the errors that say why nothing is.
            on_taken: Called with the `seq` of edits that the database has, and the revision of the machine's document
                that has them; None if no edit was about the queue.
            on_loaded: Called with the machine's document and the stores', after `load`.
            on_state: Called with None when the database answers, with a sentence when it does not.
            on_machine: Called with the machine's document when what `remember` was told had to be looked into; without
                it, `on_loaded` is, with no stores.
            on_machines: Called with the documents of all machines after `load`; without it, they are not read.
            on_other: Called with what `look_at_machine` has found.
            watch: The feed's `set_wanted`.
            memory: What is remembered of the machine's document: the journal's.
        """
        self._database, self._outbox = database, outbox
        self._machine_id = machine_id
        self._published = OwnDocument(database)
        self._own = OwnMachine(database, machine_id, hostname, memory or MachineMemory())
        self._call_soon = call_soon
        self._on_files, self._on_taken, self._on_loaded, self._on_state = on_files, on_taken, on_loaded, on_state
        self._on_machine = on_machine or (lambda raw: on_loaded(raw, ()))
        self._on_machines, self._on_other = on_machines, on_other
        self._thread = threading.Thread(target=self._run, name="couch-library", daemon=True)
        self._changed = threading.Condition()  # guards what follows
        self._stopping = False
        self._files: dict[str, None] = {}  # asked for, in order
        self._doubtful: dict[str, None] = {}  # other machines whose documents are in conflict
        self._inquiries: deque[tuple[Callable[[], Any], Callable[[Any], object]]] = deque()  # questions and who asks
        self._watched: frozenset[str] = frozenset()
        self._tasks = {  # in the order in which they are done
            "load": _Task(self._do_load),
            "settle": _Task(self._do_settle),
            "note": _Task(self._own.take_note),
            "files": _Task(self._do_files),
            "flush": _Task(self._do_flush),
            "unite": _Task(self._do_unite),
            "machines": _Task(self._do_machines),
            "inquire": _Task(self._do_inquire),
            "publish": _Task(self._published.write),
            "keep": _Task(self._own.keep),
        }
        self._watch = watch
        # The rest belongs to the thread.
        self._recorded: dict[RecordStored, float] = {}  # written a short time ago, and when
        self._read: dict[str, bytes] = {}  # file documents as they were read, in that order; JSON takes less memory
        self._problem: str | None = None  # as reported
        self._next_write = 0.0  # monotonic seconds: not before this

    def start(self) -> None:
        """Begin: writes what an earlier life has left in the outbox."""
        self.flush()
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End it; what was not written stays in the outbox. Nothing is delivered after this."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        deadline = time.monotonic() + timeout_s
        self._thread.join(timeout_s / 2)  # what is being written may finish
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._database.close()
            self._thread.join(0.02)
        if self._thread.is_alive():
            log.warning("library of machine %s: did not end in %s s, left alone", self._machine_id, timeout_s)
        self._database.close()

    def load(self, base: Mapping[str, Any] | None = None) -> None:
        """Read the machine's document and the stores. If there is no such document, one is written.

        Args:
            base: The last one that is known; it is written back if the database has none.
        """
        if base is not None:
            self._own.recall(base)
        self._ask("load")

    def remember(self, raw: Mapping[str, Any]) -> bool:
        """The feed has brought the machine's document. Any thread may call; quick.

        Returns:
            Whether it is in force as it is. If not, it is merged, mended or found to be old, and `on_machine` is
            called with what is in force.
        """
        as_it_is = self._own.remember(raw)
        self._ask("note" if as_it_is else "settle", in_s=NOTE_S if as_it_is else 0.0)
        return as_it_is

    def request_files(self, file_ids: Iterable[str]) -> None:
        """Read these file documents, in bulk; the manager is told of each. Any thread may call."""
        with self._changed:
            self._files.update(dict.fromkeys(file_ids))
        self._ask("files")

    def read_files(
        self, file_ids: Sequence[str], answer: Callable[[Mapping[str, KnownFile | TransferError]], object]
    ) -> None:
        """Read these file documents, and hand what is known of them to `answer`. Any thread may call."""
        self._inquire(
            lambda: {id_: _known_file(raw) for id_, raw in self._database.get_with_leaves(file_ids).items()}, answer
        )

    def list_stored(
        self, store_id: str, after: str, limit: int, answer: Callable[[Sequence[tuple[str, int]]], object]
    ) -> None:
        """Find the files that a store has by their documents, and hand them to `answer`; see `Database.list_stored`."""
        self._inquire(lambda: self._database.list_stored(store_id, after=after, limit=limit), answer)

    def _inquire(self, question: Callable[[], Any], answer: Callable[[Any], object]) -> None:
        with self._changed:
            self._inquiries.append((question, answer))
        self._ask("inquire")

    def watch(self, file_ids: Iterable[str]) -> None:
        """Tell the manager when one of these file documents changes; replaces the ones watched so far.

        Those that are new are read once more: they may have changed before they were watched.
        """
        watched = frozenset(file_ids)
        self._watch(watched)
        with self._changed:
            new = watched - self._watched
            self._watched = watched
        if new:
            self.request_files(sorted(new))

    def flush(self) -> None:
        """There are new edits in the outbox: write them soon. Any thread may call."""
        self._ask("flush", in_s=COALESCE_S)

    def say_of_peer(self, section: Mapping[str, Any]) -> None:
        """Our document says this in `peer` from now on, also after a conflict. Any thread may call."""
        self._own.say_of_peer(section)
        self._ask("settle", in_s=COALESCE_S)

    def look_at_machine(self, machine_id: str) -> None:
        """The document of another machine is in conflict: tell what it comes to with all its revisions. Any thread."""
        with self._changed:
            self._doubtful[machine_id] = None
        self._ask("machines", in_s=COALESCE_S)

    def publish(self, body: Mapping[str, Any]) -> None:
        """Write a document that only this machine writes; of several that wait, the last. Any thread may call."""
        self._published.set(body)
        self._ask("publish")

    def _ask(self, name: str, *, in_s: float = 0.0) -> None:
        with self._changed:
            task = self._tasks[name]
            if task.due is None:
                task.due = time.monotonic() + in_s
                self._changed.notify()

    # The thread.

    def _run(self) -> None:
        exists = False
        while (task := self._next()) is not None:
            try:
                if not exists:
                    self._database.ensure_exists()
                    exists = True
                task.work()
            except TransferError as problem:
                exists = exists and not isinstance(problem, DatabaseUnavailable)
                self._postpone(task, problem)
            except Exception as error:
                # A fault of ours must not end the thread: nothing would be written any more and nobody would know.
                log.exception("library of machine %s: a fault of this program", self._machine_id)
                self._postpone(task, DatabaseUnavailable(f"the library failed: {error!r}"))
            else:
                task.attempt = 0
                self._report(None)
        self._keep_last()

    def _keep_last(self) -> None:
        try:
            self._own.take_note()
            self._own.keep()
        except TransferError as problem:  # the next start asks the database
            log.warning("library of machine %s: the queue is not kept: %s", self._machine_id, problem)

    def _next(self) -> _Task | None:
        """What is to be done next, and not any more asked for; waits until there is something. None: stop."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                self._tasks["flush"].not_before = max(self._tasks["flush"].not_before, self._next_write)
                waiting = [task for task in self._tasks.values() if task.due is not None]
                for task in waiting:
                    if task.starts <= now:
                        task.due = None
                        return task
                self._changed.wait(min((task.starts for task in waiting), default=now + threading.TIMEOUT_MAX) - now)
            return None

    def _postpone(self, task: _Task, problem: TransferError) -> None:
        """Try again later. Without a database nothing else can be done either; other problems hold up nothing else."""
        task.attempt += 1
        wait_s = pause_s(problem, task.attempt)
        with self._changed:
            now = time.monotonic()
            task.due = now
            common = isinstance(problem, DatabaseUnavailable | AccessDenied)
            for each in self._tasks.values() if common else (task,):
                each.not_before = now + wait_s
        self._report(str(problem))

    def _do_load(self) -> None:
        machine = self._edit([])
        self._database.ensure_index()
        self._deliver(self._on_loaded, machine, self._database.get_stores())
        if self._on_machines is not None:
            self._deliver(self._on_machines, self._database.find({"type": documents.MACHINE}))

    def _do_settle(self) -> None:
        machine = self._own.settle()
        if machine is not None:
            self._deliver(self._on_machine, machine)
            self._ask("keep", in_s=KEEP_S)

    def _do_machines(self) -> None:
        with self._changed:
            wanted = list(self._doubtful)
        for machine_id in wanted:
            leaves = self._database.get_leaves(machine_id)
            if leaves:
                forgotten = any(leaf.get("forgotten") is True for leaf in leaves)
                winner = self._database.get(machine_id) or leaves[0]
                self._deliver(self._on_other, {**winner, "forgotten": True} if forgotten else winner)
            with self._changed:
                self._doubtful.pop(machine_id, None)

    def _edit(self, edits: Sequence[QueueEdit]) -> Raw:
        machine = self._own.edit(edits)
        self._ask("keep", in_s=KEEP_S)
        return machine

    def _do_files(self) -> None:
        with self._changed:
            ids = list(self._files)[:FILES_PER_READ]
        found = self._database.get_with_leaves(ids)
        with self._changed:
            for file_id in ids:
                del self._files[file_id]
            more = bool(self._files)
        if more:
            self._ask("files")
        for file_id, raw in found.items():
            self._remember(file_id, raw)
        records = self._unwritten(found)
        known = {
            file_id: _known_file(stored.noted(raw, records.get(file_id, ())) if isinstance(raw, dict) else raw)
            for file_id, raw in found.items()
        }
        self._deliver(self._on_files, known)

    def _unwritten(self, file_ids: Container[str]) -> Mapping[str, Sequence[RecordStored]]:
        """What was found out of these files and is not in their documents yet."""
        records: dict[str, list[RecordStored]] = {}
        for each in self._outbox.records():
            if each.file_id in file_ids:
                records.setdefault(each.file_id, []).append(each)
        return records

    def _remember(self, file_id: str, raw: Raw | TransferError) -> None:
        """Most documents are read before a transfer and written after it, and are the same in between."""
        self._read.pop(file_id, None)
        same = stored.as_read(raw) if isinstance(raw, dict) else None
        if same is not None:
            self._read[file_id] = json.dumps(same).encode()
            if len(self._read) > READ_KEPT:
                del self._read[next(iter(self._read))]

    def _do_inquire(self) -> None:
        """Answer one inquiry; the others wait until transfers have had their turn."""
        with self._changed:
            question, answer = self._inquiries[0]
        found = question()
        with self._changed:
            self._inquiries.popleft()
            more = bool(self._inquiries)
        if more:
            self._ask("inquire")
        self._deliver(answer, found)

    def _do_flush(self) -> None:
        pending = self._outbox.pending()
        if not pending:
            return
        began = time.monotonic()
        # New documents first: what is found out of a file later is written into them.
        news = [each.edit for each in pending if isinstance(each.edit, AddFile)]
        records = [each.edit for each in pending if isinstance(each.edit, RecordStored)]
        read = {
            each.file_id: json.loads(text)
            for each in records
            if (text := self._read.pop(each.file_id, None)) is not None
        }
        problems = self._database.add_files(news) | self._database.record_stored(records, read=read)
        for file_id, problem in problems.items():
            log.error("file %s: where it is stored cannot be written, dropped: %s", file_id, problem)
        if records:
            self._recorded |= dict.fromkeys(records, time.monotonic())
            self._ask("unite", in_s=UNITE_S)
        machine, held_back = self._write_queue(merge.queue_edits(each.edit for each in pending))
        seqs = [each.seq for each in pending if each.edit not in held_back]
        self._outbox.taken(seqs)
        took_s = time.monotonic() - began
        size = len(machine["queue"]) * ENTRY_BYTES if machine else 0
        rest_s = max(size / WRITE_BYTES_PER_S, took_s / BUSY_SHARE)
        self._next_write = time.monotonic() + min(rest_s, WRITE_PAUSE_MAX_S)
        if held_back:
            self._ask("flush", in_s=HELD_BACK_S)
        self._deliver(self._on_taken, seqs, machine)

    def _do_unite(self) -> None:
        """Look at what was recorded once more: machines that get a file at the same time write conflicting revisions.

        Writing a record again changes nothing, but that it ends a conflict. Of two machines that both do, each writes
        the same.
        """
        due = [each for each, written in self._recorded.items() if time.monotonic() - written >= UNITE_S]
        self._database.record_stored(due)
        for each in due:
            del self._recorded[each]
        if self._recorded:
            self._ask("unite", in_s=UNITE_S)

    def _write_queue(self, edits: Sequence[QueueEdit]) -> tuple[Raw | None, frozenset[QueueEdit]]:
        """Edit the machine's document; returns it, and the edits that could not be written."""
        if not edits:
            return None, frozenset()
        held_back: frozenset[QueueEdit] = frozenset()
        try:
            machine = self._edit(edits)
        except InvalidDocument as problem:
            # Most likely it is too large. What makes it smaller must not wait for what makes it larger.
            held_back = merge.additions(edits)
            if not held_back:
                raise
            log.warning("machine %s: %s edits wait to be written: %s", self._machine_id, len(held_back), problem)
            rest = [edit for edit in edits if not isinstance(edit, AddEntry)]
            machine = self._edit(rest)
        return machine, held_back

    def _report(self, problem: str | None) -> None:
        if problem == self._problem:
            return
        log.info("library of machine %s: %s", self._machine_id, problem or "the database answers again")
        self._problem = problem
        self._deliver(self._on_state, problem)

    def _deliver(self, callback: Callable[..., object], *args: object) -> None:
        with self._changed:
            stopping = self._stopping
        if not stopping:
            self._call_soon(callback, *args)


def _known_file(raw: Raw | TransferError) -> KnownFile | TransferError:
    """A file document as the manager needs it, or why it cannot be believed."""
    if isinstance(raw, TransferError):
        return raw
    try:
        file = documents.read_file(raw)
        spec = documents.file_spec(file, documents.inline_leaves(raw))
    except InvalidDocument as problem:
        return problem
    corrupt = {store_id for store_id, line in file.stored.items() if line.corrupt is not None and not line.copies}
    return KnownFile(spec, {store_id: line.copies for store_id, line in file.stored.items()}, frozenset(corrupt))
