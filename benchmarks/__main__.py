"""All benchmarks, one after the other: `make bench`.

    python -m benchmarks [--quick] [--json]

Each also runs alone: `python -m benchmarks.s3 --help`. What one of them does not manage fails the run at its end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

TIMEOUT_S: Final = 1800


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A module that measures something."""

    module: str
    full: tuple[str, ...] = ()  # its arguments
    quick: tuple[str, ...] = ()  # for a look that takes seconds


BENCHMARKS: Final = (
    Benchmark("latency", full=("--rounds", "50"), quick=("--rounds", "10")),
    Benchmark("pause", full=("--rounds", "10"), quick=("--rounds", "3", "--size-mib", "256")),
    Benchmark("s3", full=("--size-mib", "1024", "--rounds", "5"), quick=("--size-mib", "128", "--rounds", "2")),
    Benchmark("idle", full=("--seconds", "30"), quick=("--seconds", "10", "--starts", "2", "--entries", "100")),
    Benchmark("bus", full=("--seconds", "10"), quick=("--seconds", "2")),
    Benchmark("queue", full=("--entries", "100,1000,10000"), quick=("--entries", "100")),
    Benchmark("peer", full=("--size-mib", "1024", "--rounds", "5"), quick=("--quick",)),
)


def main() -> int:
    """Run all; the exit code says whether each of them came to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small files and few rounds: figures for a first look")
    parser.add_argument("--json", action="store_true", help="one list of all results")
    options = parser.parse_args()
    told: list[Any] = []
    failed: list[str] = []
    for benchmark in BENCHMARKS:
        command = [sys.executable, "-m", f"benchmarks.{benchmark.module}"]
        command += benchmark.quick if options.quick else benchmark.full
        print(f"{benchmark.module}:", file=sys.stderr, flush=True)
        # Each in a process of its own: what one leaves in memory is no burden for the next.
        done = subprocess.run(
            [*command, *(["--json"] if options.json else [])],
            stdout=subprocess.PIPE if options.json else None,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            failed.append(benchmark.module)
        elif options.json:
            told.append(json.loads(done.stdout))
    if options.json:
        print(json.dumps(told, indent=2))
    for module in failed:
        print(f"benchmarks.{module} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
