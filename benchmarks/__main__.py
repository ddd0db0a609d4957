"""All benchmarks, one after the other, and RESULTS.md from what they tell: `make bench`.

    python -m benchmarks [--quick] [--only NAME] [--json] [--no-write]

Each also runs alone: `python -m benchmarks.s3 --help`. What one of them does not manage fails the run at its end; what
the others measured is kept. All figures are in `build/benchmarks.json` as well, from which `python -m
benchmarks.results` writes the page again. A quick run, or one of some benchmarks only, writes its page into `build/`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import machine, results
from benchmarks.targets import verdicts

TIMEOUT_S: Final = 1800
KEPT: Final = Path("build/benchmarks.json")
_LARGE: Final = ("--size-mib", "1024", "--rounds", "5")
_REAL: Final = ("--server", "rclone", "--only", "boto3", "--only", "s5cmd", "--only", "rclone, 8 streams")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Something that is measured."""

    name: str
    full: tuple[str, ...] = ()  # its arguments
    quick: tuple[str, ...] = ()  # for a look that takes seconds
    module: str = ""  # where it is, if not in one of its name


BENCHMARKS: Final = (
    Benchmark("s3", full=_LARGE, quick=("--size-mib", "128", "--rounds", "2")),
    # The server checks signatures and does what it does; not all of the others get along with it.
    Benchmark(
        "s3-real",
        module="s3",
        full=("--size-mib", "512", "--rounds", "5", *_REAL),
        quick=("--size-mib", "64", "--rounds", "1", *_REAL),
    ),
    Benchmark("small", full=("--files", "200", "--rounds", "5"), quick=("--files", "50", "--rounds", "1")),
    Benchmark("peer", full=_LARGE, quick=("--quick",)),
    Benchmark("imports", full=("--size-mib", "256", "--rounds", "5"), quick=("--size-mib", "32", "--rounds", "2")),
    Benchmark("latency", full=("--rounds", "50"), quick=("--rounds", "10")),
    Benchmark("queue", full=("--entries", "100,1000,10000"), quick=("--entries", "100,500")),
    Benchmark("memory", full=("--sizes-mib", "64,1024,2048"), quick=("--sizes-mib", "64,256")),
    Benchmark("pause", full=("--rounds", "10"), quick=("--rounds", "3", "--size-mib", "256")),
    Benchmark("idle", full=("--seconds", "30"), quick=("--seconds", "10", "--starts", "2", "--entries", "100")),
    Benchmark("bus", full=("--seconds", "10"), quick=("--seconds", "2")),
    Benchmark("overhead", full=("--mib", "1024", "--rounds", "7"), quick=("--mib", "64", "--rounds", "2")),
)


def measure(benchmark: Benchmark, *, quick: bool) -> Any:
    """What one told, None if it failed: in a process of its own, so that nobody inherits what another leaves."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark.module or benchmark.name}", "--json"]
    command += benchmark.quick if quick else benchmark.full
    began_s = time.monotonic()
    print(f"{benchmark.name}:", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=True)
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        print(f"{benchmark.name} failed: {error}", file=sys.stderr)
        return None
    finally:
        print(f"  {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    """Run all; the exit code says whether each of them came to its end, not whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small files and few rounds: figures for a first look")
    parser.add_argument("--only", action="append", default=[], help="these alone; may be given again")
    parser.add_argument("--json", action="store_true", help="print all that was measured")
    parser.add_argument("--no-write", action="store_true", help="no page: figures only")
    options = parser.parse_args()
    run: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "quick": options.quick,
        "machine": machine.facts(),
        "results": {},
        "failed": [],
    }
    KEPT.parent.mkdir(exist_ok=True)
    for benchmark in BENCHMARKS:
        if options.only and benchmark.name not in options.only:
            continue
        told = measure(benchmark, quick=options.quick)
        if told is None:
            run["failed"].append(benchmark.name)
        else:
            run["results"][benchmark.name] = told
        KEPT.write_text(json.dumps(run, indent=1), encoding="utf-8")  # after each: half a run is better than none
    if options.json:
        print(json.dumps(run, indent=2))
    else:
        print("\n".join(results.targets(verdicts(run["results"]))))
    if not options.no_write:
        # A part of a run, or a quick one, does not take the place of figures that mean something.
        is_whole = not options.quick and not options.only
        print(results.write(run, results.FOLDER if is_whole else KEPT.parent), file=sys.stderr)
    for name in run["failed"]:
        print(f"{name} failed", file=sys.stderr)
    return 1 if run["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
