"""The manager's library: documents read and edits written, on a thread of its own.

The manager asks and goes on; answers come as calls on its thread, through `call_soon`. Nothing that was asked is
lost while the database is away: requests wait here, edits wait in the journal's outbox, and both are tried again,
with a growing and random pause, until they have gone through.

What is written when, and in which order, `flushing` decides.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer import documents
from dmedia_transfer.couch import flushing, stored
from dmedia_transfer.couch.database import Database
from dmedia_transfer.couch.flushing import Flushed, Flushing
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
from dmedia_transfer.ports import KnownFile, Outbox

log = logging.getLogger(__name__)

COALESCE_S: Final = 0.02  # edits that are made together are written together
RECORD_S: Final = 0.25  # and what is found out of files while others are on their way
HELD_BACK_S: Final = 60.0  # until what the database did not take is offered again
NOTE_S: Final = 0.2  # revisions that come into force are taken note of together
KEEP_S: Final = 60.0  # at most so often the queue is kept for a start without database
FILES_PER_READ: Final = 500

Raw = dict[str, Any]
CallSoon = Callable[..., object]


@dataclass(slots=True)
class _Task:
    """Something that the thread does when it is asked to."""

    work: Callable[[], None]
    due: float | None = None  # monotonic seconds from when on it is wanted; None: it is not
    not_before: float = 0.0  # monotonic seconds; after a failure
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
        self._flushing = Flushing(database, outbox, self._own, machine_id=machine_id)
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
        self._left: int | None = None  # entries that the queue will have, as far as is known
        self._tasks = {  # of those that are wanted at the same time, in the order in which they are done
            "load": _Task(self._do_load),
            "settle": _Task(self._do_settle),
            "note": _Task(self._own.take_note),
            "files": _Task(self._do_files),
            "record": _Task(self._do_record),
            "flush": _Task(self._do_flush),
            "unite": _Task(self._do_unite),
            "machines": _Task(self._do_machines),
            "inquire": _Task(self._do_inquire),
            "publish": _Task(self._published.write),
            "keep": _Task(self._own.keep),
        }
        self._watch = watch
        # The rest belongs to the thread.
        self._problem: str | None = None  # as reported

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

    def record(self) -> None:
        """What was found out of files waits in the outbox: write it soon. Any thread may call."""
        self._ask("record", in_s=RECORD_S)

    def flush(self, *, left: int | None = None) -> None:
        """There are new edits in the outbox: write them soon. Any thread may call.

        Args:
            left: How many entries the queue will have; a long one is written less often.
        """
        with self._changed:
            self._left = left if left is not None else self._left
        self._ask("record", in_s=COALESCE_S)
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
            due = time.monotonic() + in_s
            task.due = due if task.due is None else min(task.due, due)
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
        """What is to be done next, and not any more asked for; waits until there is something. None: stop.

        That is what has waited longest: while thousands of files are read the queue is written, too.
        """
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                waiting = [(self._starts(name), task) for name, task in self._tasks.items() if task.due is not None]
                starts, task = min(waiting, key=lambda one: one[0], default=(now + threading.TIMEOUT_MAX, None))
                if task is not None and starts <= now:
                    task.due = None
                    return task
                self._changed.wait(starts - now)
            return None

    def _starts(self, name: str) -> float:
        starts = self._tasks[name].starts
        return max(starts, self._flushing.starts(self._left)) if name == "flush" else starts

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
        machine = self._own.edit([])
        self._ask("keep", in_s=KEEP_S)
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
            self._flushing.remember(file_id, raw)
        records = self._flushing.unwritten(found)
        known = {
            file_id: _known_file(stored.noted(raw, records.get(file_id, ())) if isinstance(raw, dict) else raw)
            for file_id, raw in found.items()
        }
        self._deliver(self._on_files, known)

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

    def _do_record(self) -> None:
        self._tell(self._flushing.write_files())

    def _do_flush(self) -> None:
        self._tell(self._flushing.write_all())

    def _tell(self, flushed: Flushed) -> None:
        if flushed.machine is not None:
            self._ask("keep", in_s=KEEP_S)
        if flushed.held_back:
            self._ask("flush", in_s=HELD_BACK_S)
        if flushed.seqs:
            self._unite_later()
            self._deliver(self._on_taken, flushed.seqs, flushed.machine)

    def _do_unite(self) -> None:
        self._flushing.unite()
        self._unite_later()

    def _unite_later(self) -> None:
        if self._flushing.recorded:
            self._ask("unite", in_s=flushing.UNITE_S)

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
