"""What we want to reach, and whether a run has reached it.

A target is held against the results of a run, as the benchmarks tell them with `--json`. Ratios are medians of the
ratios of the rounds. What was not measured is told as that, not as missed.
"""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import small
from benchmarks.imports import HASHING, SHA256SUM
from benchmarks.imports import OURS as IMPORT
from benchmarks.s3 import OURS, WARM

Told = Mapping[str, Any]  # by benchmark, what it told
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table."""

    work: str
    beside: str  # empty if it is held against a number alone
    wanted: str
    measured: Callable[[Told], float]  # may raise LookupError: not measured
    bound: float
    reached: Callable[[float, float], bool]  # of what was measured and the bound
    shown: str = "{:.2f} times"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target, and what a run says of it."""

    target: Target
    figure: float | None  # None: not measured

    @property
    def word(self) -> str:
        """Met, missed, or not measured."""
        if self.figure is None:
            return "not measured"
        return "met" if self.target.reached(self.figure, self.target.bound) else "missed"

    @property
    def shown(self) -> str:
        """What was measured, for people."""
        return "" if self.figure is None else self.target.shown.format(self.figure)


def runs(told: Told, benchmark: str, word: str, name: str) -> Sequence[Mapping[str, float]]:
    """All rounds of one contestant, in the table of a benchmark whose title has that word.

    Raises:
        LookupError: There is no such table or no such contestant.
    """
    for table in told[benchmark]:
        if word in table["title"]:
            found: Sequence[Mapping[str, float]] = table["results"][name]["runs"]
            return found
    raise LookupError(word)


def ratio(
    benchmark: str, word: str, ours: str, theirs: str, *, of: str = "wall_s", inverse: bool = False
) -> Callable[[Told], float]:
    """How many times less of something we need than they do, or, inverse, how much of what they need."""

    def measured(told: Told) -> float:
        pairs = zip(runs(told, benchmark, word, ours), runs(told, benchmark, word, theirs), strict=True)
        if inverse:
            return statistics.median(our[of] / their[of] for our, their in pairs)
        return statistics.median(their[of] / our[of] for our, their in pairs)

    return measured


def more_than_feed(told: Told) -> float:
    """Milliseconds from the bare feed to the first request."""
    feed, request = (
        next(figures["median_ms"] for name, figures in told["latency"]["results"].items() if word in name)
        for word in ("feed", "request")
    )
    return float(request - feed)


def entries_per_s(told: Told) -> float:
    """How fast the queue of 10,000 ran."""
    return float(_longest(told)["entries_per_s"])


def unevenness(told: Told) -> float:
    """How much more CPU an entry costs in the queue where it costs most than in that where it costs least."""
    queues = _queues(told)
    if len(queues) < 2:
        raise LookupError("one length tells nothing")
    costs = [each["cpu_s"] / each["entries"] for each in queues]
    return float(max(costs) / min(costs))


def _queues(told: Told) -> list[Mapping[str, float]]:
    return sorted(told["queue"]["results"], key=operator.itemgetter("entries"))


def _longest(told: Told) -> Mapping[str, float]:
    longest = _queues(told)[-1]
    if longest["entries"] < 10_000:
        raise LookupError("the queue is too short")
    return longest


def worker_mib(told: Told) -> float:
    """The most memory of a worker, over all sizes."""
    return float(max(each["worker_bytes"] for each in told["memory"]["results"]) / MIB)


def daemon_mib(told: Told) -> float:
    """The most memory of the daemon's main process with the longest queue."""
    return float(_longest(told)["peak_bytes"] / MIB)


def more_cpu_percent(told: Told) -> float:
    """What progress and journal add to the CPU time of a transfer."""
    return float(told["overhead"]["more_cpu_percent"])


_S5CMD, _RCLONE, _CRT = "s5cmd", "rclone, 8 streams", "AWS CRT"
_UPLOAD, _DOWNLOAD = "upload", "download"
_PEER = "dmedia from a peer, verified"
_one_file = "one 1 GiB file"

TARGETS: Final = (
    Target(f"S3 download, {_one_file}, verified", "s5cmd", "at least 1.2 times its speed",
           ratio("s3", _DOWNLOAD, OURS, _S5CMD), 1.2, operator.ge),
    Target("", "s5cmd", "at most 0.9 times its CPU seconds",
           ratio("s3", _DOWNLOAD, OURS, _S5CMD, of="cpu_s", inverse=True), 0.9, operator.le),
    Target("", "boto3 `download_file`", "at least 2 times",
           ratio("s3", _DOWNLOAD, OURS, WARM), 2.0, operator.ge),
    Target("", "rclone, 8 streams", "at least 0.7 times",
           ratio("s3", _DOWNLOAD, OURS, _RCLONE), 0.7, operator.ge),
    Target(f"S3 upload, {_one_file}", "s5cmd", "faster", ratio("s3", _UPLOAD, OURS, _S5CMD), 1.0, operator.gt),
    Target("", "rclone", "faster", ratio("s3", _UPLOAD, OURS, _RCLONE), 1.0, operator.gt),
    Target("", "AWS CRT", "faster", ratio("s3", _UPLOAD, OURS, _CRT), 1.0, operator.gt),
    Target("", "boto3 with defaults", "at least 1.5 times", ratio("s3", _UPLOAD, OURS, WARM), 1.5, operator.ge),
    Target("200 files of 1 MiB up, queue to done", "boto3, 10 threads", "at least 3 times",
           ratio("small", _UPLOAD, small.OURS, small.WARM), 3.0, operator.ge),
    Target("", "s5cmd", "at least 0.7 times",
           ratio("small", _UPLOAD, small.OURS, _S5CMD), 0.7, operator.ge),
    Target("200 files of 1 MiB down, queue to done", "boto3, 10 threads", "at least 3 times",
           ratio("small", _DOWNLOAD, small.OURS, small.WARM), 3.0, operator.ge),
    Target("", "s5cmd", "at least 0.7 times",
           ratio("small", _DOWNLOAD, small.OURS, _S5CMD), 0.7, operator.ge),
    Target("peer download with TLS, verified", "curl from nginx with TLS", "at least 0.85 times",
           ratio("peer", "one file of", _PEER, "curl from nginx"), 0.85, operator.ge),
    Target("import (hash and copy)", "`cp` then `sha256sum`", "at least 1.5 times",
           ratio("imports", "MiB", IMPORT, SHA256SUM), 1.5, operator.ge),
    Target("import where blocks are shared", "hashing alone (OpenSSL)", "at least 0.9 times",
           ratio("imports", "shares blocks", IMPORT, HASHING), 0.9, operator.ge),
    Target("machine document PUT to first request", "the bare feed", "at most 20 ms more",
           more_than_feed, 20.0, operator.le, "{:.1f} ms"),
    Target("10,000 entries of 4 KiB, memory backend", "", "at least 2,000 per second",
           entries_per_s, 2000.0, operator.ge, "{:,.0f} per second"),
    Target("queue of 100 / 1,000 / 10,000", "", "CPU of an entry flat within 1.5 times",
           unevenness, 1.5, operator.le),
    Target("memory", "", "a worker under 150 MiB at any file size", worker_mib, 150.0, operator.lt, "{:.0f} MiB"),
    Target("", "", "the daemon's main process under 90 MiB with 10,000 entries",
           daemon_mib, 90.0, operator.lt, "{:.0f} MiB"),
    Target("progress and journal", "the same transfer with both off", "at most 3 % more CPU",
           more_cpu_percent, 3.0, operator.le, "{:+.1f} %"),
)  # fmt: skip


def verdicts(told: Told) -> list[Verdict]:
    """Hold all targets against a run."""
    found = []
    for target in TARGETS:
        try:
            figure: float | None = target.measured(told)
        except LookupError:
            figure = None
        found.append(Verdict(target, figure))
    return found
