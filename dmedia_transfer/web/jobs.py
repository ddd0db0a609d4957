"""The long jobs: imports and verifications, started, looked at and steered; and the healing of what they found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dmedia_transfer.errors import InvalidRequest, Unknown
from dmedia_transfer.model import FileOutcome, JobKind, JobProblem, LongJob
from dmedia_transfer.ports import JobControl
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.facts import fact_of
from dmedia_transfer.web.models import (
    Changed,
    FileId,
    JobId,
    JobOut,
    JobProblemOut,
    JobProblems,
    JobQuery,
    Jobs,
    NewImport,
    NewJob,
    PageQuery,
    Queued,
    TroubleOut,
    transfer_id,
)
from dmedia_transfer.web.refusals import Refusal
from dmedia_transfer.web.routes import Route

TAG = "jobs"
MOST_TROUBLES = 200  # of one job, among all that a person should look at
_HEALED_BY_ONE_REQUEST = frozenset({FileOutcome.CORRUPT, FileOutcome.MISSING})


def _control(api: Api) -> JobControl:
    if api.edges.jobs is None:
        raise Refusal(404, "this daemon has no long jobs")
    return api.edges.jobs


async def list_jobs(api: Api, query: JobQuery) -> Jobs:
    """List the long jobs, the oldest first, also those that ended a while ago."""
    api.catch_up()
    wanted = [
        job
        for job in api.board.jobs.values()
        if (not query.status or job.status in query.status) and (query.kind is None or job.kind is query.kind)
    ]
    return Jobs(
        items=[JobOut.of(job) for job in sorted(wanted, key=lambda job: (job.time, job.id))],
        event_id=api.stream.last_id,
    )


async def start_job(api: Api, body: NewJob) -> JobOut:
    """Start a long job; the answer comes at once, and the job goes on after it, also after a restart.

    An `import` copies files, and folders with all that is in them, into FileStores of this machine; what is there
    already is recognised. A `verify` proves every file of a store anew; what is corrupt is marked in its document, and
    can be healed from elsewhere. A verification that is under way for this store is not begun twice.
    """
    control, asked = _control(api), body.root

    def start() -> LongJob:
        if isinstance(asked, NewImport):
            job_id = control.import_files(asked.paths, store_id=asked.store_id, requested_by=asked.requested_by)
        else:
            job_id = control.verify(asked.store_id, requested_by=asked.requested_by)
        return control.jobs()[job_id]

    try:
        return JobOut.of(await api.main(start))
    except InvalidRequest as error:  # of a path that is not there, or not absolute
        raise Refusal(409, str(error), kind=error.kind) from None


async def show_job(api: Api, job_id: JobId) -> JobOut:
    """Show a long job."""
    return JobOut.of(await api.main(_look_up, _control(api), job_id))


def _look_up(control: JobControl, job_id: str) -> LongJob:
    job = control.jobs().get(job_id)
    if job is None:
        raise Unknown(f"there is no job {job_id}")
    return job


async def list_job_problems(api: Api, job_id: JobId, query: PageQuery) -> JobProblems:
    """List what a job has found that a person should look at, in the order in which it did."""
    control = _control(api)
    job = await api.main(_look_up, control, job_id)
    found = await api.main(control.problems, job_id, offset=query.offset, limit=query.limit)
    return JobProblems(items=[JobProblemOut.of(each) for each in found], total=job.problem_count)


async def pause_job(api: Api, job_id: JobId) -> Changed:
    """Pause a job, until a person resumes it; within a second it is."""
    return await _say(api, _control(api).pause, job_id)


async def resume_job(api: Api, job_id: JobId) -> Changed:
    """Let a paused job go on; what was done is not done again."""
    return await _say(api, _control(api).resume, job_id)


async def cancel_job(api: Api, job_id: JobId) -> Changed:
    """Give a job up; what was imported stays, and what was found stays in the documents."""
    return await _say(api, _control(api).cancel, job_id)


async def retry_job(api: Api, job_id: JobId) -> Changed:
    """Let a failed job go on."""
    return await _say(api, _control(api).retry, job_id)


async def forget_job(api: Api, job_id: JobId) -> Changed:
    """Show a job that has ended no more."""
    return await _say(api, _control(api).forget, job_id)


async def _say(api: Api, command: Callable[[str], bool], job_id: str) -> Changed:
    return Changed(changed=await api.main(command, job_id))


async def heal_file(api: Api, file_id: FileId) -> Queued:
    """Bring a corrupt or missing file to this machine again, out of what is good of it and the rest from elsewhere."""
    return Queued(ids=[transfer_id(await api.main(_control(api).heal, file_id))])


async def troubles(api: Api) -> list[TroubleOut]:
    """What jobs have found and what has not been mended since."""
    if api.edges.jobs is None:
        return []
    control = api.edges.jobs
    found: list[TroubleOut] = []
    for job in sorted(api.board.jobs.values(), key=lambda job: -job.time):
        if not job.problem_count or job.kind is not JobKind.VERIFY:
            continue  # what an import could not take is told by the job itself
        problems = await api.main(control.problems, job.id, limit=MOST_TROUBLES)
        raws = await api.bridge.thread(
            api.edges.documents.get_many, [each.file_id for each in problems if each.file_id]
        )
        for each in problems:
            fact = fact_of(raws.get(each.file_id))
            mended = fact is not None and fact.stored.get(each.store_id, 0) > 0
            if each.outcome is FileOutcome.FOUND or (each.outcome in _HEALED_BY_ONE_REQUEST and mended):
                continue
            can, advice = _remedy(api, each) if each.outcome in _HEALED_BY_ONE_REQUEST and each.file_id else ([], "")
            found.append(
                TroubleOut(
                    message=each.message,
                    advice=advice,
                    transfer_id=None,
                    file_id=each.file_id or None,
                    store_id=each.store_id,
                    job_id=job.id,
                    can=can,
                )
            )
    return list({(one.file_id, one.message): one for one in reversed(found)}.values())[::-1]  # once, by the last job


def _remedy(api: Api, problem: JobProblem) -> tuple[list[Literal["heal", "upload"]], str]:
    """What helps against a copy that is corrupt or missing; looks at the disk for a moment."""
    if any(store.store_id == problem.store_id for store in api.edges.filestores.all()):
        return ["heal"], "Bring it again from another store: `heal`."
    if api.edges.filestores.path(problem.file_id) is not None:
        return ["upload"], "This machine has the file: `upload` it to that store again."
    return [], "Bring the file to this machine first, and then upload it to that store again."


ROUTES = (
    Route("GET", "/jobs", list_jobs, TAG),
    Route("POST", "/jobs", start_job, TAG, status=202, refuses=(409,)),
    Route("GET", "/jobs/{job_id}", show_job, TAG),
    Route("GET", "/jobs/{job_id}/problems", list_job_problems, TAG),
    Route("POST", "/jobs/{job_id}/pause", pause_job, TAG),
    Route("POST", "/jobs/{job_id}/resume", resume_job, TAG),
    Route("POST", "/jobs/{job_id}/cancel", cancel_job, TAG),
    Route("POST", "/jobs/{job_id}/retry", retry_job, TAG),
    Route("POST", "/jobs/{job_id}/forget", forget_job, TAG),
    Route("POST", "/files/{file_id}/heal", heal_file, TAG, status=202),
)
