"""JobRecords: the long jobs, and what of each is done; the tables `jobs` and `job_files`."""

# ruff: noqa: S608 - what is put into the statements is the constant below

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from dmedia_transfer.journal import codec
from dmedia_transfer.journal.database import Database
from dmedia_transfer.journal.outbox import Outbox
from dmedia_transfer.model import FileEdit, FileOutcome, JobProblem, LongJob

JOBS_KEPT: Final = 50  # that have ended
_NUMBER: Final = "(SELECT number FROM jobs WHERE id = ?)"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a job that is not settled yet."""

    item: bytes  # a path, or a file ID
    size: int  # bytes, as it was listed
    so_far: bytes = field(default=b"", repr=False)  # what `keep` was given


@dataclass(frozen=True, slots=True)
class Totals:
    """How far a job is."""

    files_total: int = 0
    bytes_total: int = 0
    files_done: int = 0
    bytes_done: int = 0
    outcomes: Mapping[FileOutcome, int] = field(default_factory=dict)


class JobRecords:
    """The daemon keeps the jobs, a worker what of one is done. Any thread may call.

    That a job is wanted, and what a person has said of it, is durable. What was found out of a file is written together
    with what it means for the documents, all or nothing; a power failure may take the last seconds of both, and then
    they are found out once more. Thousands of small files are so done without a sync for each of them.
    """

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox

    # The jobs.

    def load(self) -> list[LongJob]:
        """All jobs, the oldest first."""
        return [codec.read_job(text) for (text,) in self._database.rows("SELECT job FROM jobs ORDER BY number")]

    def put(self, job: LongJob) -> None:
        """A job is new, or has changed; durable when this returns. Of those that ended, the last ones stay."""
        with self._database.write("job", durable=True) as connection:
            connection.execute(
                "INSERT INTO jobs (id, job) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET job = excluded.job",
                (job.id, codec.write_job(job)),
            )

    def ended(self, job: LongJob) -> list[str]:
        """A job is done, failed or cancelled: of its files only those stay that a person should look at.

        Returns:
            The jobs that ended so long ago that they are forgotten.
        """
        with self._database.write("job-ended", durable=True) as connection:
            self.put(job)
            if job.status != "failed":  # a failed one may go on
                connection.execute(f"DELETE FROM job_files WHERE job = {_NUMBER} AND problem IS NULL", (job.id,))
            gone = [one.id for one in self.load() if one.ended][:-JOBS_KEPT]
            for job_id in gone:
                self.forget(job_id)
        return gone

    def forget(self, job_id: str) -> None:
        """Nobody wants to see it any more."""
        with self._database.write("job-forgotten") as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def problems(self, job_id: str, *, offset: int = 0, limit: int = 100) -> list[JobProblem]:
        """What a person should look at, in the order of the files."""
        rows = self._database.rows(
            f"SELECT problem FROM job_files WHERE job = {_NUMBER} AND problem IS NOT NULL ORDER BY item "
            "LIMIT ? OFFSET ?",
            (job_id, limit, offset),
        )
        return [codec.read_problem(text) for (text,) in rows]

    # The files of a job: `jobs.files.FileRecords`.

    def list_files(self, job_id: str, files: Iterable[tuple[bytes, int, JobProblem | None]]) -> None:
        """These are to be done (item, size), or cannot be; those that are listed already stay as they are."""
        with self._database.write("job-listed") as connection:
            connection.executemany(
                "INSERT INTO job_files (job, item, size, outcome, problem) "
                f"VALUES ({_NUMBER}, ?, ?, ?, ?) ON CONFLICT (job, item) DO NOTHING",
                [
                    (job_id, item, size, problem.outcome if problem else "", codec.write_problem(problem))
                    for item, size, problem in files
                ],
            )

    def open_files(self, job_id: str, *, limit: int, after: bytes = b"") -> list[OpenFile]:
        """The next ones that are not settled, in order; of those after an item."""
        rows = self._database.rows(
            f"SELECT item, size, so_far FROM job_files WHERE job = {_NUMBER} AND outcome = '' AND item > ? "
            "ORDER BY item LIMIT ?",
            (job_id, after, limit),
        )
        return [OpenFile(item, size, so_far or b"") for item, size, so_far in rows]

    def keep(self, job_id: str, item: bytes, so_far: bytes) -> None:
        """A file is left in the middle."""
        with self._database.write("job-so-far") as connection:
            connection.execute(
                f"UPDATE job_files SET so_far = ? WHERE job = {_NUMBER} AND item = ?", (so_far, job_id, item)
            )

    def together(self) -> AbstractContextManager[object]:
        """What is settled within the block is on record when it ends, or none of it."""
        return self._database.write("job-settled")

    def settle(
        self,
        job_id: str,
        item: bytes,
        outcome: FileOutcome,
        *,
        size: int = 0,
        problem: JobProblem | None = None,
        edits: Sequence[FileEdit] = (),
    ) -> None:
        """A file is done, and this is what it means for the documents, all or nothing.

        `size` is that of a file that is not listed yet.
        """
        with self._database.write("job-settled") as connection:
            if edits:
                self._outbox.add(edits, durable=False)
            connection.execute(
                f"INSERT INTO job_files (job, item, size, outcome, problem) VALUES ({_NUMBER}, ?, ?, ?, ?) "
                "ON CONFLICT (job, item) DO UPDATE "
                "SET outcome = excluded.outcome, problem = excluded.problem, so_far = NULL",
                (job_id, item, size, outcome, codec.write_problem(problem)),
            )

    def totals(self, job_id: str) -> Totals:
        """How far a job is; looks at all of its files."""
        rows = self._database.rows(
            f"SELECT outcome, count(*), sum(size) FROM job_files WHERE job = {_NUMBER} GROUP BY outcome", (job_id,)
        )
        done = [row for row in rows if row[0]]
        return Totals(
            files_total=sum(count for _, count, _ in rows),
            bytes_total=sum(size for _, _, size in rows),
            files_done=sum(count for _, count, _ in done),
            bytes_done=sum(size for _, _, size in done),
            outcomes={FileOutcome(outcome): count for outcome, count, _ in done},
        )
