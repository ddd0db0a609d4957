"""How long it takes from the PUT of the machine document to the worker's first request at the store.

Beside it, in the same run and for the same PUTs, the bare feed: how long it takes until a continuous `_changes` feed
that does nothing else has shown the new revision.

    python -m benchmarks.latency [--rounds 50] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import lean_s3
from benchmarks.lean_http import Request
from benchmarks.stage import BUCKET, Stage, stage
from tests.device import eventually
from tests.factories import content

WARM_UP = 5


class Moments:
    """When something was first seen, by name."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._changed = threading.Condition()

    def seen(self, name: str) -> None:
        """It is here now."""
        with self._changed:
            self._seen.setdefault(name, time.perf_counter())
            self._changed.notify_all()

    def wait(self, found: Callable[[dict[str, float]], float | None], *, within_s: float = 30.0) -> float:
        """When the first thing was seen that `found` accepts."""
        with self._changed:
            assert self._changed.wait_for(lambda: found(self._seen) is not None, within_s)
            moment = found(self._seen)
            assert moment is not None
            return moment


@contextlib.contextmanager
def endpoint(requests: Moments) -> Iterator[str]:
    """An S3 endpoint in this process that notes when each request arrives."""

    class Noting(lean_s3.Connection):
        def answer(self, request: Request) -> None:
            requests.seen(request.name)
            super().answer(request)

    with tempfile.TemporaryDirectory() as folder:
        server = lean_s3.Server(Path(folder))
        thread = threading.Thread(target=server.serve, args=[Noting], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.listener.close()


@contextlib.contextmanager
def bare_feed(on: Stage, revisions: Moments) -> Iterator[None]:
    """Follow the database with nothing but a feed."""
    with on.device.http() as (session, url):
        answer = session.get(
            f"{url}/_changes",
            params={"feed": "continuous", "since": "now", "heartbeat": "30000", "include_docs": "true"},
            stream=True,
            timeout=60,
        )

        def follow() -> None:
            with contextlib.suppress(Exception):  # the end of the feed
                for line in answer.iter_lines(chunk_size=1):
                    if line.strip():
                        for change in json.loads(line).get("changes", ()):
                            revisions.seen(change["rev"])

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        yield
        answer.close()


def measure(rounds: int) -> tuple[list[float], list[float]]:
    """Latencies in milliseconds: to the worker's first request, and to the bare feed."""
    requests, revisions = Moments(), Moments()
    to_request: list[float] = []
    to_feed: list[float] = []
    with endpoint(requests) as url, stage(url) as on, bare_feed(on, revisions):
        device = on.device
        for number in range(WARM_UP + rounds):
            data = content(1000, seed=number)
            file_id = device.add_file(data, on.bucket)
            with device.http() as (session, _):
                session.put(f"{url}/{BUCKET}/{file_id}", data=data, timeout=10).raise_for_status()
            requests._seen.clear()
            raw: dict[str, Any] = device.get(device.machine_id)
            raw["queue"] = [file_id]
            begun = time.perf_counter()
            revision = device.put(raw)
            fed = revisions.wait(lambda seen, revision=revision: seen.get(revision))  # type: ignore[misc]
            asked = requests.wait(
                lambda seen, file_id=file_id: next((at for name, at in seen.items() if file_id in name), None)  # type: ignore[misc]
            )
            if number >= WARM_UP:
                to_request.append((asked - begun) * 1000)
                to_feed.append((fed - begun) * 1000)
            eventually(lambda: device.queued() == [])
    return to_request, to_feed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    to_request, to_feed = measure(options.rounds)
    rows = {"PUT to the worker's first request": to_request, "PUT to the bare feed": to_feed}
    figures = {
        name: {
            "median_ms": round(statistics.median(values), 1),
            "p95_ms": round(statistics.quantiles(values, n=20, method="inclusive")[-1], 1),
            "max_ms": round(max(values), 1),
        }
        for name, values in rows.items()
    }
    if options.json:
        print(json.dumps({"title": "latency", "rounds": options.rounds, "results": figures}))
        return
    table = Table(title=f"latency, {options.rounds} rounds, warm pool")
    for heading in ("", "median ms", "p95 ms", "max ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, row in figures.items():
        table.add_row(name, *(f"{value:.1f}" for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
