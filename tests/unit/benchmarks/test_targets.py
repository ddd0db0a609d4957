"""The targets are held against what the benchmarks tell."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import imports, peer, s3, small
from benchmarks.targets import MIB, TARGETS, verdicts

PEERS = ("s5cmd", "rclone, 8 streams", "AWS CRT")


def runs(*walls: float, cpu_s: float = 1.0) -> dict[str, Any]:
    return {"runs": [{"wall_s": wall_s, "cpu_s": cpu_s} for wall_s in walls]}


def s3_table(title: str, ours: str, theirs: str) -> dict[str, Any]:
    """We take a second, boto3 four and the others one and a half; of CPU time, all take the same but s5cmd."""
    others = {name: runs(1.5, 1.5, 1.5, cpu_s=2.0 if name == "s5cmd" else 1.0) for name in PEERS}
    return {"title": title, "results": {ours: runs(1.0, 1.0, 1.0), theirs: runs(4.0, 4.0, 4.0), **others}}


def whole_run() -> dict[str, Any]:
    """A run that reaches everything."""
    queue = [{"entries": n, "cpu_s": n * 0.001, "entries_per_s": 2500.0, "peak_bytes": 80 * MIB} for n in (100, 10_000)]
    hashing = {imports.OURS: runs(1.0), imports.SHA256SUM: runs(2.0), imports.HASHING: runs(0.95)}
    return {
        "s3": [s3_table(f"{word} of one file of 1024 MiB", s3.OURS, s3.WARM) for word in ("upload", "download")],
        "small": [s3_table(f"{word} of 200 files", small.OURS, small.WARM) for word in ("upload", "download")],
        "peer": [
            {"title": "one file of 1024 MiB", "results": {peer.OURS: runs(1.0, 1.0), "curl from nginx": runs(0.9, 0.9)}}
        ],
        "imports": [
            {"title": "import of 4 files of 256 MiB", "results": hashing},
            {"title": "import of 4 files of 256 MiB, on a file system that shares blocks", "results": hashing},
        ],
        "latency": {
            "results": {
                "PUT to the worker's first request": {"median_ms": 11.0},
                "PUT to the bare feed": {"median_ms": 4.0},
            }
        },
        "queue": {"results": queue},
        "memory": {"results": [{"worker_bytes": 100 * MIB}, {"worker_bytes": 120 * MIB}]},
        "overhead": {"more_cpu_percent": 1.5},
    }


def words(told: dict[str, Any]) -> dict[str, str]:
    """Of each target that is not met, what it is and what is said of it."""
    return {f"{each.target.beside}: {each.target.wanted}": each.word for each in verdicts(told) if each.word != "met"}


def test_a_run_can_reach_every_target() -> None:
    assert words(whole_run()) == {}
    shown = [verdict.shown for verdict in verdicts(whole_run())]
    assert len(shown) == len(TARGETS)
    assert shown[:4] == ["1.50 times", "0.50 times", "4.00 times", "1.50 times"]
    assert "7.0 ms" in shown
    assert "+1.5 %" in shown


def test_what_is_too_slow_is_missed() -> None:
    told = whole_run()
    told["s3"][0]["results"][s3.WARM] = runs(1.4, 1.4, 1.4)
    told["queue"]["results"][1]["cpu_s"] *= 1.6
    told["memory"]["results"][1]["worker_bytes"] = 151 * MIB
    assert words(told) == {
        "boto3 with defaults: at least 1.5 times": "missed",
        ": CPU of an entry flat within 1.5 times": "missed",
        ": a worker under 150 MiB at any file size": "missed",
    }


def test_as_fast_is_not_faster() -> None:
    told = whole_run()
    told["s3"][0]["results"]["AWS CRT"] = runs(1.0, 1.0, 1.0)
    assert words(told) == {"AWS CRT: faster": "missed"}


@pytest.mark.parametrize("benchmark", ["s3", "small", "peer", "imports", "latency", "queue", "memory", "overhead"])
def test_what_was_not_measured_is_not_called_missed(benchmark: str) -> None:
    told = whole_run()
    del told[benchmark]
    assert set(words(told).values()) == {"not measured"}


def test_a_program_that_was_not_there_is_not_measured() -> None:
    told = whole_run()
    del told["s3"][0]["results"]["AWS CRT"]
    del told["imports"][1]
    assert words(told) == {
        "AWS CRT: faster": "not measured",
        "hashing alone (OpenSSL): at least 0.9 times": "not measured",
    }


def test_a_short_queue_says_nothing_of_a_long_one() -> None:
    told = whole_run()
    told["queue"]["results"][1]["entries"] = 1000
    assert set(words(told).values()) == {"not measured", "missed"}  # the cost of an entry, by now, is not flat
    assert ": at least 2,000 per second" in words(told)
