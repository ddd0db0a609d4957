"""Server: the thread that runs the REST API, the event stream and the page."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from dmedia_transfer.errors import TransferError
from dmedia_transfer.serving.pace import Pace
from dmedia_transfer.serving.tus import Tus
from dmedia_transfer.web import doors
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.bridge import Bridge, CallSoon
from dmedia_transfer.web.doors import Doors
from dmedia_transfer.web.edges import Edges
from dmedia_transfer.web.guard import Guard
from dmedia_transfer.web.intake import WebIntake
from dmedia_transfer.web.pump import Pump
from dmedia_transfer.web.service import Service
from dmedia_transfer.web.table import TABLE, description
from dmedia_transfer.web.tokens import Tokens
from dmedia_transfer.web.uploads import location

THREADS: Final = 8  # for what blocks; a database that does not answer must not take all of them for long
CLOSE_S: Final = 0.5
STALL_S: Final = 60.0  # for a client that sends nothing
SOCKET_NAME: Final = "web.sock"
NAMES: Final = ("localhost", "127.0.0.1", "[::1]")

log = logging.getLogger(__name__)


class WebServer:
    """All methods are for the manager's thread."""

    def __init__(
        self,
        edges: Edges,
        *,
        secret: str,
        host: str,
        port: int | None,
        socket_path: Path | None,
        call_soon: CallSoon,
    ) -> None:
        """Nothing is listened to yet.

        Args:
            edges: What is served.
            secret: What programs show; see `tokens.load_secret`.
            host: The address of this machine to listen on.
            port: 0 for any; None for no port.
            socket_path: The Unix socket; None for none.
            call_soon: Calls something on the manager's thread.
        """
        self._edges = edges
        self._host = host
        self._port = port
        self._socket_path = socket_path
        self._tokens = Tokens(secret)
        self._guard = Guard(self._tokens, NAMES)
        self._loop = asyncio.new_event_loop()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="web")
        self._api = Api(edges, bridge=Bridge(call_soon, self._executor), tokens=self._tokens, guard=self._guard)
        self._api.description = description()
        self._pump = Pump(self._api, self._loop)
        intake = WebIntake(edges.receiver, edges.filestores, bridge=self._api.bridge, executor=self._executor)
        self._api.intake = intake
        self._api.tus = Tus(intake, location=location, pace=Pace(stall_s=STALL_S), expire_s=edges.receiver.expire_s)
        self._api.catch_up = self._pump.tell
        self._doors: Doors | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self.port = 0  # where it listens, once it does

    def start(self) -> list[str]:
        """Listen, and follow what the manager does. A port that is taken does not hinder the socket.

        Returns:
            What could not be listened on, and why.
        """
        problems: list[str] = []
        listeners: list[socket.socket] = []
        try:
            if self._port is not None:
                listeners.append(doors.listen_tcp(self._host, self._port))
                self.port = int(listeners[-1].getsockname()[1])
        except TransferError as error:
            problems.append(str(error))
        try:
            if self._socket_path is not None:
                listeners.append(doors.listen_unix(self._socket_path))
        except TransferError as error:
            problems.append(str(error))
        self._guard.listens(self.port)
        control, jobs = self._edges.control, self._edges.jobs
        self._pump.mirror.load(control.transfers().values(), jobs.jobs().values() if jobs is not None else ())
        control.subscribe(self._pump.mirror)
        control.subscribe(self._api.counts)
        if jobs is not None:
            jobs.subscribe(self._pump.mirror)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(listeners), self._loop).result()
        for listener in listeners:
            log.info("the REST API is at %s", listener.getsockname())
        return problems

    def stop(self) -> None:
        """Cut everybody, and end the thread."""
        if not self._thread.is_alive():
            return
        self._edges.control.unsubscribe(self._pump.mirror)
        self._edges.control.unsubscribe(self._api.counts)
        if self._edges.jobs is not None:
            self._edges.jobs.unsubscribe(self._pump.mirror)
        asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        self._thread.join(CLOSE_S * 4)
        if self._thread.is_alive():
            log.warning("the REST API does not end, and is left alone")
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _open(self, listeners: list[socket.socket]) -> None:
        self._pump.tell()
        self._doors = Doors(Service(self._api, TABLE))
        if self._api.intake is not None:
            self._sweeper = self._loop.create_task(self._api.intake.sweep())
        for listener in listeners:
            listener.setblocking(False)
            await self._doors.open(listener)

    async def _close(self) -> None:
        try:
            self._pump.close()
            if self._doors is not None:
                await self._doors.close(CLOSE_S)
            mine = asyncio.current_task()
            left = [task for task in asyncio.all_tasks() if task is not mine]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        finally:
            self._loop.stop()
