"""`demo`: the main job on this machine, from an import to the comparison of the bytes."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import click

from dmedia_transfer.cli import bars, words
from dmedia_transfer.cli.demo_parts import Parts
from dmedia_transfer.cli.demo_processes import DemoFailed
from dmedia_transfer.cli.output import Output
from dmedia_transfer.errors import TransferError
from dmedia_transfer.model import Direction, TransferKey
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.client import Client
    from dmedia_transfer.client.state import TransferState

QUIET_S: Final = 60.0  # so long nothing may happen before the demo gives up
PIECE_BYTES: Final = 1024 * 1024
SPARE_BYTES: Final = 64 * 1024 * 1024  # for all that is not the file
COPIES: Final = 3  # at most so many of the file at a time: the original, one here, and one at the server
REQUEST_TIMEOUT_S: Final = 10.0


def run(*, file: Path | None, size: int, keep: bool) -> int:
    """Show it; returns the exit code. The last line begins with `demo: OK` or `demo: FAILED`."""
    try:
        with _Interrupts() as interrupts, _folder(keep) as folder:
            summary = _show(folder, file, size, interrupts)
    except KeyboardInterrupt:
        click.echo("demo: interrupted; nothing of it is left running")
        raise
    except (DemoFailed, TransferError, OSError) as error:
        click.echo(f"demo: FAILED: {words.printable(str(error))}")
        return 1
    click.echo(f"demo: OK: {summary}")
    return 0


def _show(folder: Path, file: Path | None, size: int, interrupts: _Interrupts) -> str:
    began = time.monotonic()
    source = _source(folder, file, size)
    size = source.stat().st_size
    with Parts(folder, check=interrupts.check) as parts:
        _step("A private session bus, an S3 server (rclone) and the daemon with its own document server")
        parts.start()
        link = parts.command("web")
        click.echo(f"  To watch it in a browser, while it lasts: {link['url']}")
        _step("Two places that keep files: a folder of this machine, and a bucket")
        parts.command("stores", "add-filestore", str(folder / "filestore"))
        bucket = str(parts.command("stores", "add-s3", parts.bucket, "--endpoint", parts.s3_url)["store_id"])
        _step(f"Import {words.printable(source.name)} ({words.size(size)})")
        file_id = str(parts.command("import", str(source))["file_id"])
        _step("Upload it: an app asks for it over D-Bus")
        click.echo(f"  QueueUpload({words.short(file_id)}..., {words.short(bucket)}..., {{}})")
        key = TransferKey(Direction.UPLOAD, file_id, bucket)
        upload_s = _follow(parts, key, source.name, lambda client: client.queue_upload(file_id, bucket))
        _step("Drop the local copy")
        parts.command("drop", file_id)
        if parts.succeeds("path", file_id):
            raise DemoFailed("the file is still here after it was dropped")
        _step("Download it: another device edits the queue in this machine's document, over HTTP")
        key = TransferKey(Direction.DOWNLOAD, file_id, "")
        download_s = _follow(parts, key, source.name, lambda _: _queue_over_http(parts, file_id))
        _step("Compare the bytes")
        path = Path(str(parts.command("path", file_id)["path"]))
        digest = _compare(source, path)
        _step("End")
        parts.stop()
    took_s = time.monotonic() - began
    return (
        f"{words.size(size)} up at {words.rate(size / upload_s)}, down at {words.rate(size / download_s)}, "
        f"the bytes are equal (sha256 {digest[:16]}), {took_s:.0f} s in all"
    )


def _source(folder: Path, file: Path | None, size: int) -> Path:
    """The file to show it with: the one that was given, or a new one with content that does not compress."""
    size = file.stat().st_size if file else size
    if not size:
        raise DemoFailed(f"{file} is empty, and empty files are not transferred")
    needed, free = size * COPIES + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise DemoFailed(f"{folder} has {words.size(free)} left, and {words.size(needed)} are needed")
    if file:
        return file.resolve()
    path = folder / "film.mkv"
    with path.open("wb") as out:
        for start in range(0, size, PIECE_BYTES):
            out.write(os.urandom(min(PIECE_BYTES, size - start)))
    return path


def _follow(parts: Parts, key: TransferKey, name: str, ask: Callable[[Client], object]) -> float:
    """Ask for a transfer and watch it to its end by the daemon's D-Bus signals; returns the seconds that it took."""
    from dmedia_transfer import busnames
    from dmedia_transfer.client import Client

    path = busnames.path_of(key)
    with Client(parts.bus_address) as client:
        watched = client.watch(every_s=0.1)
        next(watched)  # from here on nothing is missed
        began = time.monotonic()
        ask(client)
        with bars.display(Output(as_json=False), lambda _: name) as display:
            for states in _not_quiet(watched):
                parts.check()
                state = states.get(path)
                if state is None:
                    continue
                display.show({path: state})
                if state.status is Status.DONE:
                    return max(time.monotonic() - began, 0.001)
                if state.status.ended:
                    raise DemoFailed(f"the {key.direction} {state.status}: {state.error}")
    raise DemoFailed(f"nobody says how the {key.direction} ended")


def _queue_over_http(parts: Parts, file_id: str) -> None:
    """What a phone does: read the machine's document, add a line to its queue, write it back."""
    import requests

    couch = parts.document_server()
    with requests.Session() as session:
        session.trust_env = False  # no proxy between two ends of one machine
        session.auth = (couch.user, couch.password)
        url = f"{couch.url}/{parts.database}/{parts.machine_id}"
        for _ in range(10):
            answer = session.get(url, timeout=REQUEST_TIMEOUT_S)
            if answer.status_code != 200:
                break
            document = answer.json()
            document.setdefault("queue", []).append({"file_id": file_id})
            answer = session.put(url, json=document, timeout=REQUEST_TIMEOUT_S)
            if answer.status_code != 409:  # the daemon was writing it as well
                break
    click.echo(f'  PUT /{parts.database}/{parts.machine_id}  queue: [{{"file_id": "{words.short(file_id)}..."}}]')
    if answer.status_code != 201:
        raise DemoFailed(f"the document server answers {answer.status_code} for this machine: {answer.text[:200]}")


def _not_quiet(
    watched: Iterator[Mapping[str, TransferState]],
) -> Iterator[Mapping[str, TransferState]]:
    """Go on as long as something happens."""

    def give_up(*_: object) -> None:
        raise DemoFailed(f"nothing has happened for {QUIET_S:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_REAL, QUIET_S)
        for states in watched:
            signal.setitimer(signal.ITIMER_REAL, QUIET_S)
            yield states
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _compare(source: Path, path: Path) -> str:
    """Compare byte by byte; returns the SHA-256 of both."""
    if not filecmp.cmp(source, path, shallow=False):
        raise DemoFailed(f"{path} differs from {source}")
    digests = []
    for each in (source, path):
        with each.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
        click.echo(f"  sha256 {digests[-1]}  {each}")
    if digests[0] != digests[1]:
        raise DemoFailed(f"{path} and {source} have different SHA-256")
    return digests[0]


def _step(text: str) -> None:
    click.secho(text, bold=True)


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    """A folder for all that is made; it goes, unless somebody wants to look at it."""
    folder = Path(tempfile.mkdtemp(prefix="dmedia-demo-"))
    try:
        yield folder
    finally:
        if keep:
            click.echo(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


class _Interrupts:
    """Whoever ends us, nothing is left behind: SIGTERM and SIGHUP clean up as Ctrl-C does, and a second one waits."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise if somebody has asked: an exception that came within a callback of GLib's was only printed."""
        if self._asked:
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        self._asked = True
        raise KeyboardInterrupt
