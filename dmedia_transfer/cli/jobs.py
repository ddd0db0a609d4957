"""`verify`, `jobs` and `heal`: the long jobs of the daemon, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.options import HELP_NAMES, command, json_option, with_device
from dmedia_transfer.cli.output import Output, console, note
from dmedia_transfer.errors import ConnectionLost, InvalidRequest, StoreMissing, Unknown
from dmedia_transfer.model import PRIORITY_HIGH
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.client import Client, Job, JobState, Problem

REQUESTED_BY: Final = "command line"
HEALS: Final = ("corrupt", "missing")
LINE_EVERY_S: Final = 10.0  # where there is no terminal
_CHANGED: Final = {"pause": "is paused", "resume": "goes on", "cancel": "is cancelled", "retry": "is tried again"}
_UNCHANGED: Final = {
    "pause": "was paused, or had ended, already",
    "resume": "was not paused",
    "cancel": "had ended already",
    "retry": "has not failed",
}


@command("verify", "Prove every file of a store anew.")
@click.argument("store", default="")
@click.option("-w", "--wait", is_flag=True, help="Wait for the end, and say what was found.")
@click.option(
    "--heal", is_flag=True, help="Wait, and have what is corrupt or missing brought here, or sent there, again."
)
@json_option("Print a line of JSON for each store.")
@with_device
def verify_command(device: Device, *, store: str, wait: bool, heal: bool, as_json: bool) -> int:
    """Prove every file of STORE anew, or of all FileStores of this machine.

    The daemon does it: every leaf of a FileStore is read from the disk and hashed; a bucket is asked for checksums, and
    read where it has none. The documents are told what was found, and a corrupt copy is not served any more. With
    --wait, the exit code is 1 if something is corrupt or missing.

    \b
    Examples:
      dmedia-transfer verify --wait
      dmedia-transfer verify attic --heal
      dmedia-transfer jobs
    """
    store_ids = [device.store_id(store)] if store else sorted(device.bindings.filestores())
    if not store_ids:
        raise StoreMissing("this machine has no FileStore; `dmedia-transfer verify STORE` verifies another store")
    client = _client(device)
    output = Output(as_json=as_json)
    bad = 0
    for job in [client.verify(store_id) for store_id in store_ids]:
        if not (wait or heal):
            output.line(f"{job.id}  `dmedia-transfer jobs` shows how far it is")
            output.value(as_values(job.state()))
            continue
        end = wait_for(output, job)
        problems = job.problems()
        _tell(output, end, problems)
        to_heal = [problem for problem in problems if problem.outcome in HEALS]
        bad += len(to_heal) + (end.status is not Status.DONE)
        for problem in to_heal if heal else ():
            if end.store_id in device.bindings.filestores():
                client.heal(problem.file_id)
                output.line(f"{problem.file_id} is brought here again")
            else:
                client.queue_upload(problem.file_id, end.store_id, priority=PRIORITY_HIGH, requested_by="heal")
                output.line(f"{problem.file_id} is sent there again, if it is on this machine")
    return 1 if bad else 0


@command("heal", "Bring a corrupt or missing file here again.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option()
@with_device
def heal_command(device: Device, *, files: tuple[str, ...], as_json: bool) -> int:
    """Bring FILE to this machine again, of which the copy here is corrupt or missing.

    What is good of the corrupt copy is kept, and the rest comes from other stores. Cancelling the download gives up
    what is left of the copy.

    \b
    Example:
      dmedia-transfer heal film.mkv
    """
    output = Output(as_json=as_json)
    file_ids = [device.file_id(file) for file in files]
    client = _client(device)
    for file_id in file_ids:
        state = client.heal(file_id).state()
        output.line(f"download {words.short(file_id)}: {words.status(state.status, state.reason, state.error)}")
        output.value({"file_id": file_id, "status": str(state.status)})
    return 0


@click.group(
    "jobs",
    short_help="List the imports and verifications, or steer them.",
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    context_settings={"help_option_names": HELP_NAMES},
)
@json_option()
@click.pass_context
def jobs_command(ctx: click.Context, *, as_json: bool) -> int:
    """List the imports and verifications of the daemon, or steer them.

    A job is named by its ID or the beginning of it.

    \b
    Examples:
      dmedia-transfer jobs
      dmedia-transfer jobs show SI76
      dmedia-transfer jobs pause SI76
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError("--json goes after the command.", ctx)
        return 0
    with ctx.obj.device() as device:
        states = _client(device).jobs()
    output = Output(as_json=as_json)
    output.value([as_values(state) for state in states])
    output.table(
        ["ID", "job", "status", ">files", ">size", "what"],
        [
            {
                "ID": (state.id[:8], state.id),
                "job": str(state.kind),
                "status": words.status(state.status, state.reason, state.error),
                "files": f"{state.files_done:,}/{state.files_total:,}",
                "size": words.size(state.progress.bytes_total),
                "what": summary(state),
            }
            for state in states
        ],
        empty="There are no jobs.",
    )
    return 0


@jobs_command.command("show", short_help="Say what a job has found.")
@click.argument("job")
@json_option()
@with_device
def show_command(device: Device, *, job: str, as_json: bool) -> int:
    """Say how far JOB is, and which files somebody should look at."""
    handle = _named(_client(device), job)
    _tell(Output(as_json=as_json), handle.state(), handle.problems())
    return 0


def _steering(action: str, help_text: str) -> None:
    @jobs_command.command(action, short_help=help_text, help=help_text)
    @click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
    @json_option()
    @with_device
    def steer(device: Device, *, jobs: tuple[str, ...], as_json: bool) -> int:
        output = Output(as_json=as_json)
        client = _client(device)
        for handle in [_named(client, job) for job in jobs]:
            changed = bool(getattr(handle, action)())
            output.line(f"{handle.id} {(_CHANGED if changed else _UNCHANGED)[action]}")
            output.value({"id": handle.id, "changed": changed})
        return 0


_steering("pause", "Pause jobs, until somebody resumes them.")
_steering("resume", "Let paused jobs go on.")
_steering("cancel", "Give jobs up; what they have done stays.")
_steering("retry", "Let failed jobs go on.")


@jobs_command.command("wait", short_help="Wait for the end of a job.")
@click.argument("job")
@json_option()
@with_device
def wait_command(device: Device, *, job: str, as_json: bool) -> int:
    """Wait for the end of JOB, and say what it has found."""
    output = Output(as_json=as_json)
    handle = _named(_client(device), job)
    end = wait_for(output, handle)
    _tell(output, end, handle.problems())
    return 0 if end.status is Status.DONE else 1


def import_in_background(device: Device, paths: tuple[Path, ...], store: str, *, as_json: bool) -> int:
    """Hand an import to the daemon."""
    output = Output(as_json=as_json)
    store_id = device.store_id(store)
    absolute = [str(path.absolute()) for path in paths]
    job = _client(device).import_files(absolute, store_id=store_id, requested_by=REQUESTED_BY)
    output.line(f"{job.id}  `dmedia-transfer jobs` shows how far it is")
    output.value(as_values(job.state()))
    return 0


def wait_for(output: Output, job: Job) -> JobState:
    """Wait for the end of a job, and show on the terminal how far it is."""
    try:
        with _display(output) as show:
            return job.wait(show)
    except KeyboardInterrupt:
        note(f"the job goes on; `dmedia-transfer jobs cancel {job.id}` would end it")
        raise


def summary(state: JobState) -> str:
    """What came of the files of a job."""
    return ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(state.outcomes.items()))


def as_values(state: JobState) -> dict[str, Any]:
    """A job for programs."""
    return {
        "id": state.id,
        "kind": str(state.kind),
        "store_id": state.store_id or None,
        "paths": list(state.paths),
        "status": str(state.status),
        "reason": str(state.reason) if state.reason else None,
        "bytes_done": state.progress.bytes_done,
        "bytes_total": state.progress.bytes_total,
        "files_done": state.files_done,
        "files_total": state.files_total,
        "listed": state.listed,
        "rate": state.progress.rate,
        "eta_s": state.progress.eta_s,
        "outcomes": dict(state.outcomes),
        "problem_count": state.problem_count,
        "error": state.error or None,
        "requested_by": state.requested_by,
        "time": state.time,
        "ended": state.ended or None,
    }


def _tell(output: Output, state: JobState, problems: list[Problem]) -> None:
    output.line(f"{state.kind} {state.id}: {words.status(state.status, state.reason, state.error)}; {summary(state)}")
    for problem in problems:
        output.line(f"{problem.outcome}: {problem.message}")
    output.value({**as_values(state), "problems": [problem._asdict() for problem in problems]})


def _client(device: Device) -> Client:
    if device.client is None:
        raise ConnectionLost(f"this is the daemon's work, and it is not running: {device.no_daemon}")
    return device.client


def _named(client: Client, text: str) -> Job:
    """The job whose ID begins with a text.

    Raises:
        Unknown: There is none.
        InvalidRequest: There are several.
    """
    found = [state.id for state in client.jobs() if state.id.startswith(text.upper())]
    if not found:
        raise Unknown(f"there is no job {words.printable(text)}; `dmedia-transfer jobs` lists them")
    if len(found) > 1:
        raise InvalidRequest(f"{text} could be {len(found)} jobs: {', '.join(found)}")
    return client.job(found[0])


@contextmanager
def _display(output: Output) -> Iterator[Callable[[JobState], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
    if not output.terminal:
        said = 0.0

        def say(state: JobState) -> None:
            nonlocal said
            if not state.status.ended and time.monotonic() >= said:
                said = time.monotonic() + LINE_EVERY_S
                percent = words.percent(state.progress)
                how_far = "" if percent is None else f", {percent}% of {words.size(state.progress.bytes_total)}"
                output.line(
                    f"{state.kind} {state.id}: {words.status(state.status, state.reason, state.error)}{how_far}"
                )

        yield say
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(state: JobState) -> None:
            status = words.status(state.status, state.reason, state.error)
            files = f"{state.files_done:,} of {words.counted(state.files_total, 'file')}"
            total = state.progress.bytes_total if state.listed else None
            bar.update(task, description=f"{status}, {files}", completed=state.progress.bytes_done, total=total)

        yield show
