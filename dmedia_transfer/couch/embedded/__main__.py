"""The process: command line, signals, the end.

    python -m dmedia_transfer.couch.embedded --file FILE [--host 127.0.0.1] [--port 0]
        (--credentials-fd FD | --credentials-file FILE) [--ready-fd FD] [--parent-fd FD] [--lock-wait SECONDS]

One line `USER:PASSWORD` is read from the credentials. One line is written to the ready fd: the URL once the server
listens, or `error: …` if it cannot. It ends on SIGTERM, on SIGINT, and when the parent fd, the reading end of a pipe,
comes to its end, which it does when the parent dies; it may be the credentials' fd. It ends with 0 after that, and
with 1 if it could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import sqlite3
import sys
import uuid
from pathlib import Path

from aiohttp import web

from dmedia_transfer.couch.embedded.app import make_app
from dmedia_transfer.couch.embedded.handlers.common import Context
from dmedia_transfer.couch.embedded.hub import Hub
from dmedia_transfer.couch.embedded.lock import Address, FileLock, Locked
from dmedia_transfer.couch.embedded.sqlite import Engine

log = logging.getLogger("dmedia_transfer.couch.embedded")

MAX_LINE_BYTES = 65536  # of a URL: replicators list revisions in it
SHUTDOWN_S = 2.0  # how long requests under way may take at the end


class CannotStart(Exception):
    """Says why."""


def main(argv: list[str] | None = None) -> int:
    """Run the server until it is told to end."""
    options = _parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(levelname)s: %(message)s")
    os.umask(0o077)  # documents are nobody else's business
    ready_fd: int | None = options.ready_fd
    lock = FileLock(options.file)
    try:
        user, password = _credentials(options)
        options.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire(wait_s=options.lock_wait)
        asyncio.run(_serve(options, user, password, lock))
    except (CannotStart, Locked, OSError, sqlite3.Error) as error:
        if ready_fd is not None:
            os.write(ready_fd, f"error: {error}\n".replace("\n", " ").rstrip().encode() + b"\n")
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        lock.release()
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dmedia_transfer.couch.embedded", description="A small document server.")
    parser.add_argument("--file", type=Path, required=True, help="the SQLite database; made if it is not there")
    parser.add_argument("--host", default="127.0.0.1", type=_loopback, help="a loopback address")
    parser.add_argument("--port", default=0, type=int, help="0: any that is free")
    credentials = parser.add_mutually_exclusive_group(required=True)
    credentials.add_argument("--credentials-fd", type=int, metavar="FD", help="read USER:PASSWORD from here")
    credentials.add_argument("--credentials-file", type=Path, metavar="FILE", help="read USER:PASSWORD from here")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write the URL here")
    parser.add_argument("--parent-fd", type=int, metavar="FD", help="end when this pipe ends")
    parser.add_argument("--lock-wait", type=float, default=5.0, metavar="SECONDS", help="for another server to end")
    return parser.parse_args(argv)


def _loopback(text: str) -> str:
    if not ipaddress.ip_address(text).is_loopback:
        raise argparse.ArgumentTypeError("this server listens on loopback only; for more there is Apache CouchDB")
    return text


def _credentials(options: argparse.Namespace) -> tuple[str, str]:
    if options.credentials_file is not None:
        line = options.credentials_file.read_bytes()
    else:
        line = b""
        while not line.endswith(b"\n") and (byte := os.read(options.credentials_fd, 1)):
            line += byte  # no more than the line: what follows is the parent's
    user, colon, password = line.decode("utf-8").strip().partition(":")
    if not (user and colon and password):
        raise CannotStart("the credentials are not USER:PASSWORD")
    return user, password


async def _serve(options: argparse.Namespace, user: str, password: str, lock: FileLock) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if options.parent_fd is not None:
        loop.add_reader(options.parent_fd, _listen_to_parent, options.parent_fd, ended)
    hub = Hub()
    engine = Engine(options.file, committed=hub.publish)
    try:
        server_uuid = uuid.uuid5(uuid.NAMESPACE_URL, options.file.resolve().as_uri()).hex
        app = make_app(Context(engine, hub, user, server_uuid), password=password)
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_S,
            max_line_size=MAX_LINE_BYTES,
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, options.host, options.port)
            await site.start()
            host, port = runner.addresses[0][:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            lock.publish(Address(url, user, password))
            if options.ready_fd is not None:
                os.write(options.ready_fd, url.encode() + b"\n")
            await ended.wait()
            hub.close()
        finally:
            await runner.cleanup()
    finally:
        engine.close()


def _listen_to_parent(fd: int, ended: asyncio.Event) -> None:
    """The parent says nothing; when its end of the pipe is closed, nothing is what we read."""
    if not os.read(fd, 4096):
        asyncio.get_running_loop().remove_reader(fd)
        ended.set()


if __name__ == "__main__":
    sys.exit(main())
