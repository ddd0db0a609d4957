"""Long jobs in the middle of their work: what is settled by the journal, kills, and workers that stand still."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any

from tests.device import Device
from tests.waiting import WAIT_S, eventually

_SETTLED = "SELECT item FROM job_files JOIN jobs ON job_files.job = number WHERE outcome != '' AND id LIKE ?"


def settled(device: Device, job_id: str = "") -> set[str]:
    """The files (paths or IDs) of which the journal says that they are done."""
    journal = sqlite3.connect(f"file:{device.state_dir}/journal.sqlite?mode=ro", uri=True)
    try:
        rows = journal.execute(_SETTLED, (job_id or "%",)).fetchall()
    finally:
        journal.close()
    return {os.fsdecode(item) for (item,) in rows}


def kill(device: Device) -> set[str]:
    """Kill the daemon; returns what was settled when its workers were gone, too."""
    workers = device.workers()
    device.kill()
    for pid in workers:
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]
    return settled(device)


def carry_on(device: Device) -> None:
    """Workers that stand still go on."""
    for pid in device.workers():
        os.kill(pid, signal.SIGCONT)


class Rest:
    """The REST API of a device, through its Unix socket."""

    def __init__(self, device: Device) -> None:
        self._path = device.folder / "run" / "web.sock"

    def ask(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        """What it answers."""
        connection = http.client.HTTPConnection("localhost", timeout=WAIT_S)
        connection.sock = eventually(self._connect)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status == status, text
        return json.loads(text)

    def _connect(self) -> socket.socket | None:
        """A connection; None while the daemon does not listen yet."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(WAIT_S)
        try:
            connection.connect(str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        return connection

    def job(self, job_id: str) -> Any:
        """A long job."""
        return self.ask("GET", f"/jobs/{job_id}")

    def say(self, job_id: str, verb: str) -> bool:
        """Say something to it; whether that changed anything."""
        return bool(self.ask("POST", f"/jobs/{job_id}/{verb}")["changed"])

    def wait(self, job_id: str, *statuses: str) -> Any:
        """Wait until it has one of these statuses."""
        return eventually(lambda: (job := self.job(job_id))["status"] in statuses and job)
