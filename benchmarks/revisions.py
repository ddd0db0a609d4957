"""What a revision of a long queue costs the manager alone."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

from dmedia_transfer import documents
from dmedia_transfer.model import Entry, FileSpec
from tests.fakes import World

FILE_BYTES = 4096


def revision_ms(entries: int, *, added: int, rounds: int = 5) -> float:
    """Milliseconds that the manager takes for a revision with one entry changed, or with so many more."""
    best = float("inf")
    for _ in range(rounds):
        world = World()
        for number in range(entries + added):
            world.add_file(_file(number))
        queue = [_raw_entry(number) for number in range(entries)]
        world.edit_queue(*queue)
        if added:
            queue = [*queue, *(_raw_entry(entries + number) for number in range(added))]
        else:
            queue[entries // 2] = {**queue[entries // 2], "priority": 10}
        raw = {**world.machine, "_rev": "7-x", "queue": json.loads(json.dumps(queue))}
        gc.collect()
        began_s = time.thread_time()  # of this thread: other programs do not count
        world.manager.machine_changed(raw)
        best = min(best, (time.thread_time() - began_s) * 1000)
    return best


def _file(number: int) -> FileSpec:
    return FileSpec(f"{number:048d}".translate(str.maketrans("0189", "WXYZ")), FILE_BYTES, b"")


def _raw_entry(number: int) -> dict[str, Any]:
    entry = Entry(_file(number).file_id, id=f"entry-{number}", time=1.0, requested_by="tests")
    return documents.write_entry(entry)
