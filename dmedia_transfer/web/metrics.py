"""Metrics: what is told to Prometheus, made of one look at everything.

Nothing is counted here, so that nothing is while nobody asks. Labels have few values, whatever is in the library:
directions, statuses, kinds of errors, and the IDs of stores. No file is named.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from dmedia_transfer import __version__
from dmedia_transfer.limiter import Limit
from dmedia_transfer.model import Direction, JobKind, LongJob, Transfer
from dmedia_transfer.ports import Summary, Vitals
from dmedia_transfer.states import Status
from dmedia_transfer.web.counts import Totals
from dmedia_transfer.web.disks import Disk

PREFIX: Final = "dmedia_transfer_"

Labels = TypeVar("Labels", bound=tuple[str, ...])


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment."""

    summary: Summary
    transfers: Iterable[Transfer] = ()
    jobs: Iterable[LongJob] = ()
    totals: Totals = field(default_factory=Totals)
    vitals: Vitals = field(default_factory=Vitals)
    disks: Sequence[Disk] = ()
    allowed: Limit = field(default_factory=Limit)  # by the timetable, now


class TransferCollector(Collector):
    """Tells of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._at = snapshot

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield InfoMetricFamily(
            f"{PREFIX}build",
            "The daemon that answers.",
            value={"version": __version__, "python": platform.python_version()},
        )
        yield from self._queue()
        yield from self._bytes()
        yield from self._trouble()
        yield from self._limits()
        yield from self._jobs()
        yield from self._stores()
        yield from self._parts()

    def _queue(self) -> Iterator[Metric]:
        summary = self._at.summary
        transfers = list(self._at.transfers)
        live = [one for one in transfers if not one.status.ended]
        there = Counter((one.key.direction, one.status, one.reason or "") for one in transfers)
        none = {(direction, status, ""): 0 for direction, status in product(Direction, Status)}
        yield _gauges(
            "transfers",
            "Transfers by what they are doing; those that ended are seen for some seconds.",
            ("direction", "status", "reason"),
            none | there,
        )
        yield _gauge("queue_entries", "Transfers that have not ended.", len(live))
        yield _gauge("active_transfers", "Transfers that a worker has.", summary.active)
        yield _gauge("queue_paused", "Whether the whole queue is held.", summary.queue_paused)
        left = dict.fromkeys(Direction, 0)
        for one in live:
            left[one.key.direction] += max(0, one.progress.bytes_total - one.progress.bytes_done)
        yield _gauges(
            "queue_bytes",
            "Bytes that are to be moved yet, of transfers whose size is known.",
            ("direction",),
            {(direction,): count for direction, count in left.items()},
        )

    def _bytes(self) -> Iterator[Metric]:
        summary = self._at.summary
        yield _gauges(
            "rate_bytes_per_second",
            "How fast transfers go now, smoothed.",
            ("direction",),
            {(Direction.DOWNLOAD,): summary.download_rate, (Direction.UPLOAD,): summary.upload_rate},
        )
        yield _counters(
            "network_bytes",
            "Payload that transfers have moved over the network, also what was cut or thrown away.",
            ("direction", "store", "backend"),
            {(one.direction, one.store_id, one.backend): one.bytes for one in self._at.vitals.traffic},
        )
        yield _counters(
            "peers_served_bytes",
            "Payload that peers have fetched from this machine (upload) and sent to it (download).",
            ("direction",),
            {(each,): self._at.vitals.served.get(each, 0) for each in Direction},
        )

    def _trouble(self) -> Iterator[Metric]:
        totals = self._at.totals
        over = [status for status in Status if status.ended]
        yield _counters(
            "ended",
            "Transfers that have ended.",
            ("direction", "status"),
            dict.fromkeys(product(Direction, over), 0) | totals.ended,
        )
        yield _counters(
            "failures",
            "Transfers that have failed for good, by the kind of the error.",
            ("direction", "kind"),
            totals.failed,
        )
        yield _counters(
            "failed_attempts",
            "Attempts that went wrong, by the kind of the error, whether the transfer was tried again or not.",
            ("direction", "kind"),
            totals.attempts,
        )
        yield _counters(
            "retries",
            "Transfers to be tried again, because the daemon does so by itself or because a person said so.",
            ("direction", "by"),
            dict.fromkeys(product(Direction, ("daemon", "person")), 0) | totals.retries,
        )
        yield _gauge(
            "problems", "What a person should look at, transfers and jobs aside.", len(self._at.summary.problems)
        )

    def _limits(self) -> Iterator[Metric]:
        summary, allowed = self._at.summary, self._at.allowed
        limits = {Direction.DOWNLOAD: summary.download_limit_bps, Direction.UPLOAD: summary.upload_limit_bps}
        by_time = 0.0 if allowed.stop else _number(allowed.rate_bps)
        yield _gauges(
            "limit_bytes_per_second",
            "What transfers may use now, by limit and timetable; +Inf is no limit.",
            ("direction",),
            {(direction,): min(_number(limit), by_time) for direction, limit in limits.items()},
        )
        yield _gauge("limit_transfers", "How many transfers there may be at once.", summary.max_transfers)
        yield _gauge("limit_connections", "Leaves or parts at once in one transfer.", summary.connections)

    def _jobs(self) -> Iterator[Metric]:
        jobs = list(self._at.jobs)
        there = Counter((one.kind, one.status) for one in jobs)
        yield _gauges(
            "jobs",
            "Imports and verifications by what they are doing; those that ended stay for a while.",
            ("kind", "status"),
            dict.fromkeys(product(JobKind, Status), 0) | there,
        )
        problems = dict.fromkeys(JobKind, 0)
        for job in jobs:
            problems[job.kind] += job.problem_count
        yield _gauges(
            "job_problem_files",
            "Files that a person should look at, in the jobs that are there.",
            ("kind",),
            {(kind,): count for kind, count in problems.items()},
        )

    def _stores(self) -> Iterator[Metric]:
        disks = self._at.disks
        there = [one for one in disks if one.there]
        label = ("store",)
        yield _gauges(
            "filestore_up",
            "Whether a FileStore of this machine is there and answers.",
            label,
            {(one.store_id,): one.there for one in disks},
        )
        yield _gauges(
            "filestore_size_bytes", "The size of its disk.", label, {(one.store_id,): one.total_bytes for one in there}
        )
        yield _gauges(
            "filestore_free_bytes",
            "What can still be written, above the floor.",
            label,
            {(one.store_id,): one.free_bytes for one in there},
        )

    def _parts(self) -> Iterator[Metric]:
        summary, vitals = self._at.summary, self._at.vitals
        yield _gauges(
            "part_up",
            "Whether a part of the daemon works: the database answers, its changes are followed, and so on.",
            ("part",),
            {(part,): well for part, well in vitals.parts.items()},
        )
        yield _gauge("online", "Whether there is a connection to the Internet.", summary.online)
        yield _gauge("metered", "Whether that connection costs by the byte.", summary.metered)
        yield _gauge("peers", "Other machines of the library that are trusted.", vitals.peers)
        yield _gauge("workers", "Worker processes.", vitals.workers)


def _number(limit_bps: float | None) -> float:
    return math.inf if limit_bps is None else limit_bps


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=float(value))


def _gauges(name: str, text: str, labels: Sequence[str], values: Mapping[Labels, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values.items():
        family.add_metric([str(each) for each in key], float(value))
    return family


def _counters(name: str, text: str, labels: Sequence[str], values: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values.items():
        family.add_metric([str(each) for each in key], float(value))
    return family
