"""Traffic: what has crossed the network since the start, by direction and store.

Nothing is counted while bytes move: workers say how much they have moved in their run, and that is added up when a run
has ended, or when somebody asks. What was told of a run once is never taken back.
"""

from __future__ import annotations

from collections import Counter

from dmedia_transfer.manager.board import Board
from dmedia_transfer.manager.item import Item
from dmedia_transfer.manager.runs import Live, Runs
from dmedia_transfer.model import Direction, Discard, Download, Ended, Upload
from dmedia_transfer.ports import Traffic

_By = tuple[Direction, str]  # which way, and the store


class TrafficCounter:
    """For the manager's thread."""

    def __init__(self, *, board: Board, runs: Runs) -> None:
        self._board = board
        self._runs = runs
        self._over: Counter[_By] = Counter()  # by runs that have ended
        self._told: dict[int, Counter[_By]] = {}  # of live runs, by their numbers
        self._backends: dict[str, str] = {}  # by store

    def ended(self, live: Live, item: Item | None, report: Ended) -> None:
        """A worker has let go of its job; `item` still has what it said of its run."""
        self._over.update(self._up_to_now(live, item, report.sent_bytes))
        self._told.pop(live.run_id, None)

    def now(self) -> list[Traffic]:
        """All of it, by direction and store."""
        counts = Counter(self._over)
        for live in self._runs:
            told = self._told[live.run_id] = self._up_to_now(live, self._board.get(live.job.key))
            counts.update(told)
        return [
            Traffic(direction, store_id, self._backends.get(store_id, ""), count)
            for (direction, store_id), count in sorted(counts.items())
        ]

    def _up_to_now(self, live: Live, item: Item | None, sent_bytes: int = 0) -> Counter[_By]:
        """What a run has moved, as far as anybody has said."""
        told = self._told.get(live.run_id, Counter())
        mine = item if item is not None and item.meter is not None else None  # else it is of another request
        found: Counter[_By] = Counter()
        match live.job:
            case Download() as job:
                self._backends.update((source.store_id, source.plugin) for source in job.sources if not source.local)
                for use in mine.transfer.sources if mine is not None else ():
                    if use.store_id in self._backends:
                        found[Direction.DOWNLOAD, use.store_id] = use.received_bytes
                if mine is None and not told:
                    found[Direction.DOWNLOAD, ""] = sent_bytes
                elif not found.total() and not job.sources[0].local:  # a small file came so fast that nobody told
                    found[Direction.DOWNLOAD, job.sources[0].store_id] = sent_bytes
            case Upload() as job if not job.destination.local:
                self._backends[job.destination.store_id] = job.destination.plugin
                sent = max(sent_bytes, mine.sent_bytes if mine is not None else 0)
                found[Direction.UPLOAD, job.destination.store_id] = sent
            case Upload() | Discard():
                pass  # from disk to disk, or nothing
        return found | told
