"""`pause`, `resume`, `cancel`, `retry`, `prioritize`, `metered`, `reorder`: say something to transfers under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.options import command, json_option, on_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.errors import Unknown
from dmedia_transfer.model import Verb
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.client.state import TransferState

_CHANGED: Final = {
    "pause": "paused",
    "resume": "goes on",
    "cancel": "cancelled",
    "retry": "is tried again",
    "prioritize": "has priority",
    "spend": "goes on where a connection costs, too",
    "spare": "waits where a connection costs",
}
_UNCHANGED: Final = {
    "pause": "was paused already",
    "resume": "was not paused",
    "cancel": "had ended already",
    "retry": "has not failed",
    "prioritize": "had this priority already",
    "spend": "did so already",
    "spare": "did so already",
}


def _options(all_help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in (
            json_option(),
            on_option(),
            click.option("--to", "store", default="", metavar="STORE", help="Only the uploads to STORE."),
            click.option("-a", "--all", "everything", is_flag=True, help=all_help),
            click.argument("files", nargs=-1, metavar="[FILE]..."),
        ):
            function = decorator(function)
        return function

    return decorated


@command("pause", "Pause transfers, until somebody resumes them.")
@_options("The whole queue, and what comes into it later.")
@with_device
def pause_command(
    device: Device, *, files: tuple[str, ...], everything: bool, store: str, machine: str, as_json: bool
) -> int:
    """Pause the transfers of FILE, until somebody resumes them.

    \b
    Examples:
      dmedia-transfer pause film.mkv
      dmedia-transfer pause --all
    """
    return _hold(device, "pause", files, everything, store, machine, as_json)


@command("resume", "Let paused transfers go on.")
@_options("The whole queue; what was paused by itself stays paused.")
@with_device
def resume_command(
    device: Device, *, files: tuple[str, ...], everything: bool, store: str, machine: str, as_json: bool
) -> int:
    """Let paused transfers of FILE go on."""
    return _hold(device, "resume", files, everything, store, machine, as_json)


@command("cancel", "Give transfers up.")
@_options("All transfers.")
@with_device
def cancel_command(
    device: Device, *, files: tuple[str, ...], everything: bool, store: str, machine: str, as_json: bool
) -> int:
    """Give the transfers of FILE up, and remove what has arrived of it."""
    return _steer(device, "cancel", files, everything, store, machine, as_json)


@command("retry", "Try failed transfers again.")
@_options("All that have failed.")
@with_device
def retry_command(
    device: Device, *, files: tuple[str, ...], everything: bool, store: str, machine: str, as_json: bool
) -> int:
    """Try failed transfers of FILE again."""
    return _steer(device, "retry", files, everything, store, machine, as_json)


# An option that is not known may be a number below 0.
@command("prioritize", "Do transfers sooner or later.", ignore_unknown_options=True)
@click.argument("priority", metavar="low|normal|high|now|N")
@_options("All transfers.")
@with_device
def prioritize_command(
    device: Device, *, priority: str, files: tuple[str, ...], everything: bool, store: str, machine: str, as_json: bool
) -> int:
    """Do the transfers of FILE sooner or later.

    Higher goes first: low is -10, normal 0, high 10. `now` is 100, and takes the place of what is lower.

    \b
    Examples:
      dmedia-transfer prioritize now film.mkv
      dmedia-transfer prioritize low --all
    """
    number = words.parse_priority(priority)
    return _steer(device, "prioritize", files, everything, store, machine, as_json, priority=number)


@command("metered", "Let transfers go on where a connection costs, or not.")
@click.argument("answer", metavar="yes|no", type=click.Choice(["yes", "no"]))
@_options("All transfers.")
@with_device
def metered_command(
    device: Device, *, answer: str, files: tuple[str, ...], everything: bool, store: str, machine: str, as_json: bool
) -> int:
    """Let the transfers of FILE go on over a connection that costs by the byte, too; or not any more.

    \b
    Examples:
      dmedia-transfer metered yes film.mkv
      dmedia-transfer metered no --all
    """
    return _steer(device, "spend" if answer == "yes" else "spare", files, everything, store, machine, as_json)


@command("reorder", "Put transfers elsewhere in the queue.")
@click.option("--before", "other", default="", metavar="OTHER", help="Just before the transfer of OTHER, as urgent.")
@click.option("--first", "first", is_flag=True, help="Before all others of the same priority.")
@click.option("--last", "last", is_flag=True, help="After all others of the same priority.")
@click.option("--to", "store", default="", metavar="STORE", help="Only the uploads to STORE.")
@on_option()
@json_option()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@with_device
def reorder_command(
    device: Device,
    *,
    files: tuple[str, ...],
    other: str,
    first: bool,
    last: bool,
    store: str,
    machine: str,
    as_json: bool,
) -> int:
    """Put the transfers of FILE elsewhere in the queue, next to each other.

    \b
    Examples:
      dmedia-transfer reorder film.mkv --first
      dmedia-transfer reorder part2.mkv part3.mkv --before credits.mkv
    """
    if bool(other) + first + last != 1:
        raise click.UsageError("Say one of --before, --first and --last.")
    from dmedia_transfer.cli import queue

    with queue.opened(device, machine) as wanted:
        states = sorted(
            (state for state in wanted.transfers() if state.status not in (Status.DONE, Status.CANCELLED)),
            key=lambda state: (-state.priority, state.order),
        )
        moved = _meant(device, states, files, device.store_id(store))
        keys = [state.key for state in moved]
        before = None
        if other:
            before = _meant(device, states, [other], "")[0].key
        elif first:
            rest = (one for one in states if one.key not in keys and one.priority == moved[0].priority)
            before = next((one.key for one in rest), None)
        changed = wanted.put_before(keys, before)
    output = Output(as_json=as_json)
    output.value({"changed": changed})
    where = f"before the {before.direction} of {words.short(before.file_id)}" if before else "after all others"
    for state in moved:
        output.line(f"{state.key.direction} of {words.short(state.key.file_id)}: {where if changed else 'stays there'}")
    if wanted.note:
        note(wanted.note)
    return 0


def _check_usage(files: Sequence[str], everything: bool, store: str) -> None:
    if everything and (files or store):
        raise click.UsageError("--all goes without FILE and --to.")
    if not everything and not files:
        raise click.UsageError("Name a FILE, or say --all.")


def _hold(
    device: Device, verb: str, files: Sequence[str], everything: bool, store: str, machine: str, as_json: bool
) -> int:
    """Pause and resume, of which --all is about the queue as a whole."""
    if not everything:
        return _steer(device, verb, files, everything, store, machine, as_json)
    _check_usage(files, everything, store)
    from dmedia_transfer.cli import queue

    with queue.opened(device, machine) as wanted:
        changed = wanted.hold(verb == "pause")
    output = Output(as_json=as_json)
    output.value({"queue_paused": verb == "pause", "changed": changed})
    output.line(f"the whole queue {_CHANGED[verb] if changed else _UNCHANGED[verb]}")
    if wanted.note:
        note(wanted.note)
    return 0


def _steer(
    device: Device,
    verb: str,
    files: Sequence[str],
    everything: bool,
    store: str,
    machine: str,
    as_json: bool,
    *,
    priority: int = 0,
) -> int:
    _check_usage(files, everything, store)
    from dmedia_transfer.cli import queue

    with queue.opened(device, machine) as wanted:
        states = [state for state in wanted.transfers() if state.status not in (Status.DONE, Status.CANCELLED)]
        if verb == "retry" and everything:
            states = [state for state in states if state.status is Status.FAILED]
        if not everything:
            states = _meant(device, states, files, device.store_id(store))
        changed = wanted.steer(Verb(verb), [state.key for state in states], priority=priority)
    output = Output(as_json=as_json)
    output.value(
        [
            {
                "action": str(state.key.direction),
                "file_id": state.key.file_id,
                "store_id": state.key.store_id,
                "changed": state.key in changed,
            }
            for state in states
        ]
    )
    detail = f" {words.priority(priority)}" if verb == "prioritize" else ""
    for state in states:
        said = f"{_CHANGED[verb]}{detail}" if state.key in changed else _UNCHANGED[verb]
        output.line(f"{state.key.direction} of {words.short(state.key.file_id)}: {said}")
    if not states:
        output.line("there is none" if verb == "retry" else "nothing is on its way")
    if wanted.note:
        note(wanted.note)
    return 0


def _meant(device: Device, states: Sequence[TransferState], files: Sequence[str], store_id: str) -> list[TransferState]:
    """The transfers of these files, each once."""
    meant: list[TransferState] = []
    for text in files:
        file_id = _file_id(device, states, text)
        found = [state for state in states if state.key.file_id == file_id and store_id in ("", state.key.store_id)]
        if not found:
            to = f" to store {store_id}" if store_id else ""
            raise Unknown(f"no transfer of {words.printable(text)!r}{to} is on its way")
        meant.extend(state for state in found if state not in meant)
    return meant


def _file_id(device: Device, states: Sequence[TransferState], text: str) -> str:
    """What `text` means among the files on their way, whose beginnings are shorter; else in the library."""
    begun = {state.key.file_id for state in states if state.key.file_id.startswith(text.upper())} if text else set()
    return begun.pop() if len(begun) == 1 else device.file_id(text)
