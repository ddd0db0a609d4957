"""The upload in parts itself: its commands, its work, and what it tells.

It knows neither files nor stores: a `Target` is the object to be, a `PartSource` has its bytes. Two ways to use it:

- `run()` does the upload on the calling thread and raises `Interrupted` once a pause has come into force. So a worker
  process of the daemon uses it, with a `Diary` that is told of each step before the next one is taken.
- `start()` does it in the background, and `on(event, callback)` tells what happens (`events`). So programs use it,
  mostly through `dmedia_transfer.MultipartUpload`, which takes a boto3 client.

Callbacks come one at a time and in order, from threads of the upload; they may call its commands. What a callback
raises is logged and changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Literal, overload

from dmedia_transfer.crew import Crew
from dmedia_transfer.errors import ConnectionLost, Interrupted, InvalidInput, TransferError, UploadGone
from dmedia_transfer.multipart.events import (
    NAMES,
    Event,
    Failed,
    PartSent,
    Paused,
    Pausing,
    Ready,
    Resumed,
    Uploaded,
)
from dmedia_transfer.multipart.roles import Diary, PartSource, Piece, Target
from dmedia_transfer.multipart.session import Session
from dmedia_transfer.ports import Meter, Part
from dmedia_transfer.tally import Tally

log = logging.getLogger(__name__)


class _State(Enum):
    IDLE = auto()
    RUNNING = auto()
    PAUSING = auto()
    PAUSED = auto()
    FAILED = auto()
    DONE = auto()
    CLOSED = auto()


class MultipartUpload:
    """One upload in parts. All methods may be called from any thread; `run` by one at a time."""

    def __init__(
        self,
        target: Target,
        parts: PartSource,
        *,
        crew: Crew | None = None,
        connections: int = 4,
        grace_s: float | None = None,
        upload_id: str = "",
        known: Sequence[Part] = (),
        diary: Diary | None = None,
        tally: Tally | None = None,
        pace: Meter | None = None,
    ) -> None:
        """An upload that is not begun yet.

        Args:
            target: Where it goes.
            parts: What is sent.
            crew: Its threads, for a caller who commands them himself.
            connections: Parts that are sent at once, where no crew is given.
            grace_s: Seconds that parts in flight may take at a pause before they are cut; None lets them finish.
            upload_id: Of an upload that was begun earlier and is to be gone on with.
            known: The parts that the server confirmed for it.
            diary: Is told of each step.
            tally: Counts bytes.
            pace: Is called after each piece that was sent, and may wait.
        """
        self._target = target
        self._source = parts
        self._connections = connections
        self._crew = self._equip(crew or Crew(connections))
        self._grace_s = grace_s
        self._diary = diary
        self._tally = tally or Tally(parts.total_bytes)
        self._pace = pace
        self._upload_id = upload_id
        self._known = list(known)
        self._lock = threading.RLock()
        self._parts: dict[int, Part] = {part.number: part for part in known}
        self._state = _State.IDLE
        self._quiet = threading.Condition(self._lock)  # told when all callbacks have returned
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._listeners: dict[str, list[Callable[[Any], object]]] = {}
        self._told: deque[Event] = deque()
        self._teller: threading.Thread | None = None  # the thread that is calling back
        self._aborts_late = False

    # What it is

    @property
    def upload_id(self) -> str:
        """The server's ID for the upload; empty until it is begun."""
        return self._upload_id

    @property
    def interrupting(self) -> bool:
        """Whether what is in flight has to go: for sources that read for long."""
        return self._crew.interrupting

    @property
    def parts(self) -> list[Part]:
        """The parts that the server has confirmed, in order."""
        with self._lock:
            return [part for _, part in sorted(self._parts.items())]

    @property
    def bytes_sent(self) -> int:
        """Bytes that the server has confirmed, earlier sessions included."""
        return sum(part.size for part in self.parts)

    @property
    def bytes_done(self) -> int:
        """Bytes sent and in flight, for a progress bar: never goes back."""
        return self._tally.bytes_done

    def session(self) -> dict[str, Any]:
        """The upload as plain JSON, for a later process; best taken from `paused`.

        `bytes_sent` says where a stream that cannot be read again has to go on, unless there is something in `unsent`:
        bytes which were read but not confirmed, and which follow in the stream. They are sent from the session.
        """
        return self._session().write()

    def _session(self) -> Session:
        return Session(
            self._upload_id,
            self._source.total_bytes,
            self._source.part_bytes,
            tuple(self.parts),
            tuple(self._source.unsent()),
        )

    # Listening

    @overload
    def on(self, event: Literal["ready"], callback: Callable[[Ready], object]) -> None: ...
    @overload
    def on(self, event: Literal["part"], callback: Callable[[PartSent], object]) -> None: ...
    @overload
    def on(self, event: Literal["pausing"], callback: Callable[[Pausing], object]) -> None: ...
    @overload
    def on(self, event: Literal["paused"], callback: Callable[[Paused], object]) -> None: ...
    @overload
    def on(self, event: Literal["resumed"], callback: Callable[[Resumed], object]) -> None: ...
    @overload
    def on(self, event: Literal["uploaded"], callback: Callable[[Uploaded], object]) -> None: ...
    @overload
    def on(self, event: Literal["error"], callback: Callable[[Failed], object]) -> None: ...
    def on(self, event: str, callback: Callable[[Any], object]) -> None:
        """Call back at this event from now on; see the table at the top of the module.

        Raises:
            InvalidInput: There is no such event.
        """
        if event not in NAMES.values():
            raise InvalidInput(f"there is no event {event!r}; there are {', '.join(NAMES.values())}")
        with self._lock:
            self._listeners.setdefault(event, []).append(callback)

    # Commands

    def start(self) -> None:
        """Upload in the background; `wait` for the end, or listen for `uploaded` and `error`."""
        with self._lock:
            if self._state is _State.IDLE:
                self._go()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the upload has ended; True once the object is there.

        Returns:
            False if the time was over first, or if the upload was aborted.

        Raises:
            Exception: What `error` told.
        """
        ended = (_State.DONE, _State.FAILED, _State.CLOSED)
        with self._quiet:
            self._quiet.wait_for(
                lambda: (
                    self._state in ended
                    and (self._teller is threading.current_thread() or not (self._teller or self._told))
                ),
                timeout_s,
            )
            if self._state is _State.FAILED and self._error is not None:
                raise self._error
            return self._state is _State.DONE

    def pause(self) -> bool:
        """Send nothing new; False if that changes nothing: it is not running, or pausing already."""
        with self._lock:
            if self._state is not _State.RUNNING or (in_flight := self._crew.pause(self._grace_s)) is None:
                return False
            self._state = _State.PAUSING
            self._tell(Pausing(in_flight))
        self._deliver()
        return True

    def resume(self) -> bool:
        """Go on, also after an error; False if that changes nothing."""
        with self._lock:
            if self._state not in (_State.PAUSING, _State.PAUSED, _State.FAILED):
                return False
            if self._state is _State.PAUSING and self._crew.resume():
                self._state = _State.RUNNING
            else:
                self._go()
            self._tell(Resumed())
        self._deliver()
        return True

    def abort(self) -> None:
        """Let go at once and forget the upload, also at the server.

        Raises:
            TransferError: The server could not be told; what has arrived there stays until somebody aborts it.
        """
        with self._lock:
            if self._state in (_State.DONE, _State.CLOSED):
                return
            self._state = _State.CLOSED
            self._crew.stop()
            thread = self._thread
            self._quiet.notify_all()
            if self._teller is threading.current_thread() and thread is not None:
                self._aborts_late = True
                return  # in a callback: the upload's own thread aborts when it has let go
        if thread is not None:
            thread.join()
        if self._upload_id:
            self._target.abort(self._upload_id)

    # The work

    def run(self) -> None:
        """Do the upload on this thread, or go on with it.

        Raises:
            Interrupted: A pause has come into force, or a stop was said.
            UploadGone: The upload is unknown to the server and the object is not there.
            TransferError: Whatever target or source raised first.
        """
        with self._lock:
            if self._state is _State.IDLE:
                self._state = _State.RUNNING
        try:
            self._run()
        finally:
            self._source.rest()

    def _run(self) -> None:
        kept = self._open()
        with self._lock:
            self._parts = {part.number: part for part in kept}
        for part in kept:
            self._tally.done(part.number, part.size)
        self._tell(Ready(self._upload_id))
        self._deliver()
        self._crew.run(self._source.take, self._send, self._give_back)
        self._finish()

    def _open(self) -> list[Part]:
        if not self._upload_id:
            if self._diary is not None:
                self._diary.intend()
            upload_id = self._crew.once(self._target.begin)
            if self._diary is not None:
                self._diary.begun(upload_id)
            self._upload_id = upload_id
            return self._source.keep([], [])
        listed = self._crew.once(lambda: self._target.list_parts(self._upload_id))
        return self._source.keep(listed, self._known)

    def _send(self, piece: Piece) -> None:
        def meter(count: int) -> None:
            self._tally.moved(piece.number, count)
            if self._crew.interrupting:
                raise Interrupted(f"part {piece.number} was cut")
            self._crew.moved(count)
            if self._pace is not None:
                self._pace(count)

        part = self._target.put_part(self._upload_id, piece.number, piece.body, meter)
        if self._diary is not None:
            self._diary.confirmed(part)
        with self._lock:
            self._parts[part.number] = part
            self._known.append(part)
            self._tell(PartSent(part, self.bytes_sent))
        self._tally.done(part.number, part.size)
        self._deliver()

    def _give_back(self, piece: Piece) -> None:
        self._tally.dropped(piece.number)
        self._source.give_back(piece)

    def _finish(self) -> None:
        parts = self.parts
        try:
            self._crew.once(lambda: self._target.finish(self._upload_id, parts))
        except (UploadGone, ConnectionLost) as error:
            if not self._target.is_finished(parts):
                raise
            log.info("upload %s: the answer to its end got lost, but the object is there (%s)", self._upload_id, error)

    # In the background

    def _equip(self, crew: Crew) -> Crew:
        crew.cuts(self._target.cut)
        if not self._target.parallel_parts:
            crew.lines.most = 1
        return crew

    def _go(self) -> None:
        before = self._thread
        if before is not None:
            self._crew = self._equip(Crew(self._connections))  # the old one has come to rest, or is about to
        self._state = _State.RUNNING
        self._thread = threading.Thread(target=self._background, args=(before,), name="upload", daemon=True)
        self._thread.start()

    def _background(self, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        outcome: Event | None = None
        try:
            self.run()
            outcome = Uploaded(tuple(self.parts), self.bytes_sent)
        except Interrupted:
            pass
        except Exception as error:
            outcome = Failed(error)
        with self._lock:
            if self._state is _State.CLOSED:
                self._abort_late()
            elif isinstance(outcome, Failed):
                self._state, self._error = _State.FAILED, outcome.error
                self._tell(outcome)
            elif outcome is not None:
                self._state = _State.DONE
                self._tell(outcome)
            elif self._state is _State.PAUSING:  # else it was resumed in the last moment
                self._state = _State.PAUSED
                self._tell(Paused(self._upload_id, tuple(self.parts), self.bytes_sent, self.session()))
        self._deliver()

    def _abort_late(self) -> None:
        if self._aborts_late and self._upload_id:
            try:
                self._target.abort(self._upload_id)
            except TransferError as error:
                log.warning("upload %s: could not be aborted: %s", self._upload_id, error)

    def _tell(self, event: Event) -> None:
        with self._lock:
            self._told.append(event)

    def _deliver(self) -> None:
        """Call back, on this thread unless another one is at it; never with the lock held."""
        while True:
            with self._lock:
                if self._teller is not None or not self._told:
                    self._quiet.notify_all()
                    return
                event = self._told.popleft()
                if isinstance(event, Paused) and self._state is not _State.PAUSED:
                    continue  # resumed before anybody was told
                callbacks = list(self._listeners.get(NAMES[type(event)], ()))
                self._teller = threading.current_thread()
            try:
                for callback in callbacks:
                    callback(event)
            except Exception:
                log.exception("upload %s: a callback for %r failed", self._upload_id, NAMES[type(event)])
            finally:
                with self._lock:
                    self._teller = None
