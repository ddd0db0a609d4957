"""`import`, `path` and `drop`: the files of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dmedia_transfer.cli import words
from dmedia_transfer.cli.options import command, json_option, with_device
from dmedia_transfer.cli.output import Output, console, note
from dmedia_transfer.errors import FileMissing, Permanent, StoreMissing, TransferError
from dmedia_transfer.model import FileSpec, RecordStored

if TYPE_CHECKING:
    from concurrent.futures import Future

    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.couch.database import Database
    from dmedia_transfer.filestore import FileStore
    from dmedia_transfer.jobs import walking

_force = click.option("-f", "--force", is_flag=True, help="Also the last copy that is known. The file is lost then.")


@command("import", "Copy files and folders into the library.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("-s", "--store", default="", metavar="STORE", help="The FileStore to copy into; else the emptiest.")
@click.option("-b", "--background", is_flag=True, help="Hand it to the daemon, which survives what may come.")
@json_option("Print a line of JSON for each file.")
@with_device
def import_command(device: Device, *, paths: tuple[Path, ...], store: str, background: bool, as_json: bool) -> int:
    """Copy files, and folders with all that is in them, into the library.

    The files stay where they are; where the file system can, the copy shares their blocks and costs nothing. Empty
    files and links within folders are skipped. One that fails does not stop the others. With --background, the daemon
    does it, goes on after a restart, and tells of it in `dmedia-transfer jobs`.

    \b
    Examples:
      dmedia-transfer import film.mkv
      dmedia-transfer import /media/camera --background
      dmedia-transfer import ~/Pictures --store attic
      dmedia-transfer import --json *.mkv | jq -r .file_id
    """
    if background:
        from dmedia_transfer.cli.jobs import import_in_background

        return import_in_background(device, paths, store, as_json=as_json)

    from dmedia_transfer.filestore import FileStore
    from dmedia_transfer.jobs import importing
    from dmedia_transfer.model import FileOutcome

    output = Output(as_json=as_json)
    failed = 0
    with _meanwhile(device) as database:
        if store:
            database.result()  # that is asked for its name
        importer = importing.Importer(
            destination=_destination(device, store),
            files=database.result,
            is_filestore=lambda folder: FileStore.store_at(folder) is not None,
        )
        unreachable = lambda: database.done() and database.exception() is not None  # noqa: E731
        with (
            _import_bar(output) as progress,
            closing(importer.run(paths, progress=progress, cancelled=unreachable)) as imported,
        ):
            for each in imported:
                failed += each.outcome is FileOutcome.FAILED
                _tell(output, each)
    if failed:
        note(f"{words.counted(failed, 'file')} could not be imported")
    return 1 if failed else 0


@command("path", "Print where a file is on this machine.")
@click.argument("file")
@json_option()
@with_device
def path_command(device: Device, *, file: str, as_json: bool) -> int:
    """Print where FILE is on this machine.

    \b
    Example:
      mpv "$(dmedia-transfer path film.mkv)"
    """
    file_id = device.file_id(file)
    path = device.filestores.path(file_id)
    if path is None:
        raise FileMissing(
            f"file {words.short(file_id)} is not on this machine; `dmedia-transfer download {words.short(file_id)}` "
            "brings it here"
        )
    output = Output(as_json=as_json)
    output.value({"file_id": file_id, "path": path})
    if not as_json:
        click.echo(path)  # as it is: a program opens it
    return 0


@command("drop", "Remove a copy of a file.")
@click.argument("file")
@click.argument("store", default="")
@_force
@json_option()
@with_device
def drop_command(device: Device, *, file: str, store: str, force: bool, as_json: bool) -> int:
    """Remove the copy of FILE from STORE, or from all FileStores of this machine.

    The last copy that the library knows of stays, unless --force is said.

    \b
    Examples:
      dmedia-transfer drop film.mkv
      dmedia-transfer drop film.mkv my-bucket
    """
    from dmedia_transfer import documents

    output = Output(as_json=as_json)
    with device.database() as database:
        raw = device.file(database, file)
        known = documents.read_file(raw)
        label = known.name or words.short(known.id)
        copies = {store_id: stored.copies for store_id, stored in known.stored.items() if stored.copies}
        chosen = [device.store_id(store)] if store else _here(device, known.id, copies)
        if not chosen:
            raise FileMissing(f"{words.printable(label)} is not on this machine")
        gone = {store_id for store_id in copies if _is_missing_here(device, store_id, known.id)}
        if not (copies.keys() - gone - set(chosen)) and not force:
            raise Permanent(
                f"{words.printable(label)} is kept: no other copy of it is known; --force removes it all the same"
            )
        for store_id in chosen:
            remove_copy(device, database, raw, store_id)
            output.line(f"removed {label} from store {store_id}")
    output.value({"file_id": known.id, "removed_from": chosen})
    return 0


@contextmanager
def _meanwhile(device: Device) -> Iterator[Future[Database]]:
    """The library's documents, which are opened while files are copied already: that takes as long as many files do."""
    from concurrent.futures import ThreadPoolExecutor

    with ExitStack() as opened, ThreadPoolExecutor(1, thread_name_prefix="database") as thread:
        yield thread.submit(opened.enter_context, device.database())


def _destination(device: Device, store: str) -> Callable[[int], FileStore]:
    """The FileStore for a file of so many bytes: the one that was named, or the one with the most room."""
    if store:
        chosen = device.filestores.get(device.store_id(store))
        chosen.check()
        return lambda size: chosen

    def emptiest(size: int) -> FileStore:
        free: list[tuple[int, FileStore]] = []
        problems: list[str] = []
        for each in device.filestores.all():
            try:
                free.append((each.free_bytes(), each))
            except TransferError as error:
                problems.append(str(error))
        if not free:
            raise StoreMissing(
                "; ".join(problems)
                or "this machine has no FileStore; `dmedia-transfer stores add-filestore FOLDER` makes one"
            )
        return max(free, key=lambda pair: pair[0])[1]

    emptiest(0)  # before all files fail for the same reason
    return emptiest


def _tell(output: Output, each: walking.Imported) -> None:
    path = str(each.path)
    if each.file_id:
        output.line(f"{each.file_id}  {path}{'  (was in the library)' if each.outcome == 'known' else ''}")
    elif each.outcome == "skipped":
        output.line(f"skipped {path}: {each.reason}")
    else:
        note(each.reason if path in each.reason else f"{path}: {each.reason}")
    output.value(
        {
            "path": words.printable(path),
            "outcome": str(each.outcome),
            "file_id": each.file_id or None,
            "bytes": each.size or None,
            "reason": each.reason or None,
        }
    )


@contextmanager
def _import_bar(output: Output) -> Iterator[Callable[[Path, int, int], None]]:
    """A bar for the file that is being copied, on a terminal."""
    if not output.terminal:
        yield lambda path, done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("", total=None)
        current: list[Path] = []

        def show(path: Path, done: int, total: int) -> None:
            if current != [path]:
                current[:] = [path]
                bar.reset(task, description=words.printable(path.name), total=total)
            bar.update(task, completed=done)

        yield show


def _here(device: Device, file_id: str, copies: Mapping[str, int]) -> list[str]:
    """The FileStores of this machine that have the file, or should have it."""
    having = {spec.store_id for spec in device.filestores.holding(file_id)}
    return sorted(having | {store_id for store_id in copies if _is_missing_here(device, store_id, file_id)})


def _is_missing_here(device: Device, store_id: str, file_id: str) -> bool:
    """Whether a FileStore of this machine is there, and the file that is said to be in it is not."""
    if store_id not in device.bindings.filestores():
        return False
    store = device.filestores.get(store_id)
    try:
        store.size(file_id)
    except FileMissing:
        return True
    except StoreMissing:
        return False  # its drive may come back, and the file with it
    return False


def remove_copy(device: Device, database: Database, raw: Mapping[str, Any], store_id: str) -> None:
    """Remove a copy: first from the documents, so that nobody counts on a copy that is gone."""
    file_id = str(raw["_id"])
    remove = _remover(device, database, raw, store_id)
    _record(database, file_id, store_id, copies=0)
    try:
        remove()
    except TransferError:
        _record(database, file_id, store_id, copies=1)
        raise


def _remover(device: Device, database: Database, raw: Mapping[str, Any], store_id: str) -> Callable[[], object]:
    """What removes a copy, with all that can be checked checked before."""
    from dmedia_transfer import backends, documents

    file = documents.read_file(raw)
    if store_id in device.bindings.filestores():
        store = device.filestores.get(store_id)
        store.check()
        return lambda: store.remove(file.id)
    spec = device.local_stores(database.get_stores()).spec(store_id)
    backend = backends.create(spec, stall_s=device.config.stall_s, connections=1)
    named = FileSpec(file.id, file.bytes, b"", ext=file.ext, mime=file.mime)  # enough to name the object

    def remove() -> None:
        try:
            backend.delete(named)
        finally:
            backend.close()

    return remove


def _record(database: Database, file_id: str, store_id: str, *, copies: int) -> None:
    record = RecordStored(file_id, store_id, copies=copies, time=round(time.time(), 3))
    problem = database.record_stored([record]).get(file_id)
    if problem is not None:
        raise problem
