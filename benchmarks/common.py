"""What every benchmark needs: honest numbers of child processes, rounds that alternate, and a table.

A contestant is a command line, started fresh for each run, since what a process once used is inherited by what it
forks. All contestants run once per round, in turn, so that a machine that gets slower in the middle harms them alike;
the median of the rounds is shown.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

MIB: Final = 1024 * 1024
SAMPLE_S: Final = 0.02  # how often the memory of a tree of processes is looked at
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run cost."""

    wall_s: float
    cpu_s: float  # user and system, of the process and all its children
    peak_bytes: int  # the most memory that one process of it had at once (VmHWM)
    payload_bytes: int = 0  # moved by the run; 0 where a rate means nothing
    server_cpu_s: float = 0.0  # of the server that was asked, where it is counted apart

    @property
    def mb_per_s(self) -> float:
        """Payload per second of wall time, in 10^6 bytes; 0 where there is none."""
        return self.payload_bytes / self.wall_s / 1e6 if self.wall_s else 0.0


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do the work."""

    name: str
    command: Sequence[str]
    payload_bytes: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of ours
    before: Callable[[], object] = lambda: None  # not measured: removes what the last run left
    check: Callable[[], object] = lambda: None  # not measured: raises if the work was not done


class RunFailed(Exception):
    """A contestant did not do the work; a number of it would mean nothing."""


def measure(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    inherit: bool = True,
    timeout_s: float = 600,
) -> Usage:
    """Run a command to its end and say what it and its children cost.

    The memory is that of the largest process of its tree, looked at while it runs: `ru_maxrss` would count what we
    ourselves had when it was forked.

    Args:
        command: What is run.
        environment: On top of ours, or all of it.
        inherit: Whether ours is below that.
        timeout_s: After which it is ended.

    Raises:
        RunFailed: It ended with an error, or not in time; with what it said last.
    """
    with tempfile.TemporaryFile() as output:
        start_s = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**(os.environ if inherit else {}), **(environment or {})},
            start_new_session=True,
        )
        watch = Watch(process.pid)
        late = threading.Timer(timeout_s, _kill_group, [process.pid])
        late.start()
        try:
            # With WNOWAIT the process stays readable in /proc; wait4 then tells of it and of its children that ended.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            wall_s = time.perf_counter() - start_s
        finally:
            late.cancel()
            peak_bytes = watch.stop()
            _kill_group(process.pid)  # what it left behind would disturb the next one
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            said = output.read()[-2000:].decode(errors="replace").strip()
            raise RunFailed(f"{' '.join(command)} ended with {process.returncode}: {said}")
    return Usage(wall_s, used.ru_utime + used.ru_stime, peak_bytes)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


class Watch:
    """Looks at a tree of processes while it works: how much memory its largest process ever had."""

    def __init__(self, pid: int) -> None:
        self.peaks: dict[int, int] = {}  # by pid, also of processes that ended
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End, and say the most bytes that one process had at once."""
        self._over.set()
        self._thread.join()
        return max(self.peaks.values(), default=0)

    def _run(self) -> None:
        while True:
            for pid in tree(self._pid):
                self.peaks[pid] = max(self.peaks.get(pid, 0), peak_bytes(pid))
            if self._over.wait(SAMPLE_S):
                return


def tree(pid: int) -> list[int]:
    """A process and all that descend from it and still run."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                with contextlib.suppress(OSError):
                    found += [int(child) for child in (task / "children").read_text().split()]
    return found


def peak_bytes(pid: int) -> int:
    """The most memory that a process had since its exec; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process that runs, and of its children that ended; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11:15]) / _TICKS_PER_S


@contextlib.contextmanager
def measuring(pids: Callable[[], Sequence[int]], *, payload_bytes: int = 0) -> Iterator[list[Usage]]:
    """Measure what processes that go on running spend during a block: a daemon and its workers.

    Args:
        pids: Asked before and after; what started in between counts from its start.
        payload_bytes: Moved by the block.

    Yields:
        A list which has the `Usage` after the block.
    """
    result: list[Usage] = []
    before = {pid: cpu_seconds(pid) for pid in pids()}
    watch = [Watch(pid) for pid in before]
    start_s = time.perf_counter()
    yield result
    wall_s = time.perf_counter() - start_s
    peak = max((each.stop() for each in watch), default=0)
    cpu_s = sum(cpu_seconds(pid) - before.get(pid, 0.0) for pid in pids())
    result.append(Usage(wall_s, cpu_s, peak, payload_bytes))


def contest(
    contestants: Sequence[Contestant], *, rounds: int = 5, warm_up: bool = True, say: Callable[[str], object] = print
) -> dict[str, list[Usage]]:
    """Run all contestants in turn, `rounds` times, after a round that does not count.

    Raises:
        RunFailed: One of them did not do the work.
    """
    results: dict[str, list[Usage]] = {contestant.name: [] for contestant in contestants}
    for number in range(0 if warm_up else 1, rounds + 1):
        say(f"round {number} of {rounds}" if number else "warming up")
        for contestant in contestants:
            contestant.before()
            usage = measure(contestant.command, environment=contestant.environment)
            contestant.check()
            if number:
                paid = Usage(usage.wall_s, usage.cpu_s, usage.peak_bytes, contestant.payload_bytes)
                results[contestant.name].append(paid)
    return results


def median(usages: Sequence[Usage]) -> Usage:
    """The median of each number by itself."""
    return Usage(
        wall_s=statistics.median(usage.wall_s for usage in usages),
        cpu_s=statistics.median(usage.cpu_s for usage in usages),
        peak_bytes=int(statistics.median(usage.peak_bytes for usage in usages)),
        payload_bytes=usages[0].payload_bytes,
        server_cpu_s=statistics.median(usage.server_cpu_s for usage in usages),
    )


def as_json(title: str, results: Mapping[str, Sequence[Usage]]) -> str:
    """All runs and their medians, for programs."""
    told = {
        name: {"median": _told(median(usages)), "runs": [_told(usage) for usage in usages]}
        for name, usages in results.items()
    }
    return json.dumps({"title": title, "cores": os.cpu_count(), "results": told}, indent=2)


def _told(usage: Usage) -> dict[str, float]:
    return {**asdict(usage), "mb_per_s": usage.mb_per_s}


def as_table(title: str, results: Mapping[str, Sequence[Usage]]) -> Table:
    """The medians and the spread of the runs, for people."""
    shown = Table(title=title)
    shown.add_column("")
    served = any(usage.server_cpu_s for usages in results.values() for usage in usages)
    for heading in ("wall s", "best - worst", "MB/s", "CPU s", *(["server's"] if served else []), "peak MiB", "runs"):
        shown.add_column(heading, justify="right")
    for name, usages in results.items():
        middle = median(usages)
        walls = [usage.wall_s for usage in usages]
        shown.add_row(
            name,
            f"{middle.wall_s:.3f}",
            f"{min(walls):.3f} - {max(walls):.3f}",
            f"{middle.mb_per_s:,.0f}" if middle.payload_bytes else "",
            f"{middle.cpu_s:.2f}",
            *([f"{middle.server_cpu_s:.2f}"] if served else []),
            f"{middle.peak_bytes / MIB:.0f}",
            str(len(usages)),
        )
    return shown


def report(title: str, results: Mapping[str, Sequence[Usage]], *, as_json_text: bool = False) -> None:
    """Print the results: a table, or JSON for `--json`."""
    if as_json_text:
        print(as_json(title, results))
    else:
        Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120).print(as_table(title, results))


def reports(told: Mapping[str, Mapping[str, Sequence[Usage]]], *, as_json_text: bool = False) -> None:
    """Print several results by their titles: tables, or a list for `--json`."""
    if as_json_text:
        print(f"[{','.join(as_json(title, results) for title, results in told.items())}]")
        return
    for title, results in told.items():
        report(title, results)
