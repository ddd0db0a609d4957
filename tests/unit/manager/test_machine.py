"""Random commands, worker messages, edits from elsewhere, crashes and restarts, against a model.

What the model forbids: two workers on one file, a finished transfer that is forgotten or runs again, a paused one that
a worker has, progress beyond the total or backwards, a request that is lost.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dmedia_transfer.manager import Settings
from dmedia_transfer.model import Direction, Download, Entry, Failure, Outcome, TransferKey, Upload
from dmedia_transfer.ports import KnownFile
from dmedia_transfer.states import Reason, Status
from tests.factories import STORE_ID, content, file_spec
from tests.fakes import HOME_ID, World

FILES = [file_spec(content(1000, seed=seed)) for seed in range(4)]
KEYS = [TransferKey(Direction.DOWNLOAD, file.file_id, "") for file in FILES]
UPLOAD = TransferKey(Direction.UPLOAD, FILES[0].file_id, STORE_ID)
FAILURES = [
    Failure("ConnectionLost", "cut", transient=True),
    Failure("WorkerLost", "killed by signal 9", transient=True),
    Failure("DiskFull", "full", reason=Reason.DISK_FULL),
    Failure("CorruptLeaf", "leaf 0 does not match", leaf=0),
]

files = st.sampled_from(FILES)
keys = st.sampled_from([*KEYS, UPLOAD])


class ManagerMachine(RuleBasedStateMachine):
    """A device with four files that it can want, two slots, and a person who cannot make up their mind."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(settings=Settings(max_transfers=2))
        for file in FILES:
            self.world.add_file(file, STORE_ID)
        self.wanted: set[TransferKey] = set()  # asked for, and neither done nor cancelled
        self.done: dict[TransferKey, int] = {}  # how often each was carried through
        self.asked: dict[TransferKey, int] = {}  # how often each was asked for

    # People.

    @rule(file=files, priority=st.sampled_from([-10, 0, 100]), paused=st.booleans())
    def ask(self, file: object, priority: int, paused: bool) -> None:
        self._ask(Entry(file.file_id, priority=priority, paused=paused))  # type: ignore[attr-defined]

    @rule()
    def ask_for_an_upload(self) -> None:
        self._ask(Entry(FILES[0].file_id, Direction.UPLOAD, STORE_ID))

    def _ask(self, entry: Entry) -> None:
        (key,) = self.world.queue(entry)
        if key not in self.wanted:
            self.asked[key] = self.asked.get(key, 0) + 1
        self.wanted.add(key)
        self._settle()

    @rule(key=keys, command=st.sampled_from(["pause", "resume", "cancel", "retry"]))
    def command(self, key: TransferKey, command: str) -> None:
        if key not in self.world.manager.transfers():
            return
        before = self.world.manager.transfers()[key]
        changed = getattr(self.world.manager, command)(key)
        self.world.answer()
        if command == "cancel":
            assert changed == (before.status not in (Status.DONE, Status.CANCELLED))
            self.wanted.discard(key)
        else:
            assert not getattr(self.world.manager, command)(key), f"{command} is not idempotent"
            self.world.answer()
        self._settle()

    @rule(key=keys, priority=st.sampled_from([-10, 0, 10, 100]))
    def prioritize(self, key: TransferKey, priority: int) -> None:
        if key in self.world.manager.transfers():
            self.world.manager.set_priority(key, priority)

    @rule(hold=st.booleans())
    def hold(self, hold: bool) -> None:
        (self.world.manager.pause_all if hold else self.world.manager.resume_all)()
        assert self.world.manager.summary().queue_paused == hold
        self._settle()

    # Workers.

    @precondition(lambda self: self.world.running())
    @rule(data=st.data(), done=st.integers(0, 2000))
    def progress(self, data: st.DataObject, done: int) -> None:
        self.world.move(data.draw(st.sampled_from(self.world.running())), done, leaves=done // 1000)

    @precondition(lambda self: self.world.pool.jobs)
    @rule(data=st.data(), outcome=st.sampled_from([Outcome.FINISHED, Outcome.FAILED, Outcome.LOST]))
    def let_go(self, data: st.DataObject, outcome: Outcome) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.world.pool.jobs)))
        job = self.world.pool.jobs[run_id]
        told = [word for word, number in self.world.pool.said if number == run_id]
        if told[-1] in ("drain", "stop") and outcome is Outcome.FAILED:
            outcome = Outcome.STOPPED
        failure = None
        if outcome is Outcome.LOST:
            failure = FAILURES[1]
        elif outcome is Outcome.FAILED:
            failure = data.draw(st.sampled_from(FAILURES))
        self.world.end(job.key, outcome, failure)
        # Cancelled and asked for again meanwhile, it was not this request that was carried through.
        ended = job.key in self.wanted and self.world.manager.transfers()[job.key].status is Status.DONE
        if outcome is Outcome.FINISHED and isinstance(job, Download | Upload) and ended:
            self.done[job.key] = self.done.get(job.key, 0) + 1
            self.wanted.discard(job.key)
        self._settle()

    # The world around.

    @rule(seconds=st.sampled_from([0.1, 6.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.world.answer()
        self._settle()

    @rule()
    def the_database_takes_what_waits(self) -> None:
        self.world.take_edits()
        self._settle()

    @rule()
    def the_feed_repeats_itself(self) -> None:
        self.world.manager.machine_changed(self.world.machine)
        self.world.answer()
        self._settle()

    @rule()
    def crash_and_restart(self) -> None:
        self.world.boot()
        self.world.answer()
        self._settle()

    @rule(present=st.booleans())
    def the_store_comes_and_goes(self, present: bool) -> None:
        for file in FILES:
            self.world.files[file.file_id] = KnownFile(file, {STORE_ID: 1} if present else {HOME_ID: 1})

    @rule(file=files)
    def somebody_drops_the_local_copy(self, file: object) -> None:
        self.world.stores.files.discard(file.file_id)  # type: ignore[attr-defined]

    def _settle(self) -> None:
        """A download whose file is here ends without a worker."""
        for key, transfer in self.world.manager.transfers().items():
            if transfer.status is Status.DONE:
                self.wanted.discard(key)

    # What must hold at every moment.

    @invariant()
    def what_is_wanted_is_there(self) -> None:
        transfers = self.world.manager.transfers()
        for key in self.wanted:
            assert key in transfers, f"{key} was forgotten"
            assert transfers[key].status not in (Status.CANCELLED, Status.DONE)

    @invariant()
    def only_what_goes_on_has_a_worker(self) -> None:
        transfers = self.world.manager.transfers()
        for key in self.world.running():
            assert key in transfers
            assert transfers[key].status in (
                Status.ONGOING,
                Status.PAUSING,
                Status.SUSPENDED,  # preempted, and letting go
                Status.CANCELLED,  # and letting go
                Status.QUEUED,  # asked for again while letting go
                Status.PAUSED,  # preempted and then paused, while letting go
            )
            if transfers[key].status not in (Status.ONGOING, Status.PAUSING):
                run_id = self.world.pool.run_of(key)
                assert ("stop", run_id) in self.world.pool.said, f"{key} runs and nobody told it to stop"
        for key, transfer in transfers.items():
            if transfer.status in (Status.ONGOING, Status.PAUSING):
                assert key in self.world.running(), f"{key} is {transfer.status} without a worker"

    @invariant()
    def progress_is_sane(self) -> None:
        for seen in self.world.recorder.progress.values():
            assert all(0 <= done <= 1000 for done in seen)
        for key in self.world.recorder.progress:
            removed = sum(1 for transfer in self.world.recorder.removed if transfer.key == key)
            seen = self.world.recorder.progress[key]
            falls = sum(1 for before, after in itertools.pairwise(seen) if after < before)
            assert falls <= removed, f"{key} went back"

    @invariant()
    def no_more_run_than_there_are_slots(self) -> None:
        assert len(self.world.running()) <= 2

    def teardown(self) -> None:
        """In the end, with everything as it should be, all that is wanted arrives."""
        world = self.world
        for file in FILES:
            world.files[file.file_id] = replace(world.files[file.file_id], stored={STORE_ID: 1})
            world.manager.file_changed(file.file_id)
        world.answer()
        world.manager.resume_all()
        for key in sorted(self.wanted):
            world.manager.resume(key)
            world.manager.retry(key)
        for _ in range(40):
            world.answer()
            for key in [job.key for job in world.pool.jobs.values()]:
                world.end(key, Outcome.FINISHED)
            world.clock.advance(6.0)
            world.take_edits()
        missing = {key for key in self.wanted if world.manager.transfers().get(key)}
        assert {key for key in missing if not world.manager.transfers()[key].status.ended} - {UPLOAD} == set()
        assert all(isinstance(raw, dict) and raw["action"] == "upload" for raw in world.machine["queue"])
        for key in self.wanted:
            if key.direction is Direction.DOWNLOAD:
                assert key.file_id in world.stores.files


TestManager = ManagerMachine.TestCase
TestManager.settings = settings(stateful_step_count=40, max_examples=60, deadline=None)
