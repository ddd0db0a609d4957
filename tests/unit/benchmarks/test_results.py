"""RESULTS.md says what was measured, where, and what was missed, and nothing that names the machine."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.common import MIB, Usage, as_json
from benchmarks.results import document, markdown, tables

MACHINE = {
    "cores": 2,
    "processor": "A Processor",
    "memory_gib": 24,
    "system": "Debian",
    "load": 0.1,
    "versions": {"s5cmd": "2.3.0"},
}
USAGES = {
    "dmedia": [Usage(1.0, 0.5, 100 * MIB, 10**9, 0.25), Usage(2.0, 0.7, 50 * MIB, 10**9, 0.35)],
    "s5cmd": [Usage(4.0, 2.0, 10 * MIB, 10**9), Usage(4.0, 2.0, 10 * MIB, 10**9)],
}


def page(results: dict[str, Any], **changes: Any) -> str:
    run = {"date": "2026-01-02", "quick": False, "machine": MACHINE, "results": results, "failed": []}
    return document(run | changes)


def test_rounds_are_shown_with_medians_and_spread() -> None:
    ((title, header, rows),) = tables([json.loads(as_json("up", USAGES))])
    assert title == "up"
    assert header == ("", "MB/s", "seconds", "best – worst", "CPU s", "server's CPU s", "peak MiB", "rounds")
    assert rows[0] == ("dmedia", "667", "1.50", "1.00 – 2.00", "0.60", "0.30", "75", "2")


def test_other_figures_are_shown_by_their_names() -> None:
    told = {"title": "latency", "rounds": 3, "results": {"to the feed": {"median_ms": 3.61, "max_ms": 12.25}}}
    assert tables(told) == [("latency", ("", "median ms", "max ms"), [("to the feed", "3.61", "12.2")])]


def test_lists_of_figures_are_tables_and_memory_is_in_mib() -> None:
    told = [{"entries": 10_000, "daemon_bytes": 50 * MIB, "wakes_per_s": 0.5}]
    expected = [("", ["entries", "daemon MiB", "wakes/s"], [["10,000", "50.0", "0.50"]])]
    assert tables(told) == expected
    assert tables({"title": "idle", "results": told}) == [("idle", *expected[0][1:])]


def test_several_kinds_of_figures_in_one_benchmark_are_several_tables() -> None:
    told = {"title": "bus", "cpu_percent": {"alone": 0.5}, "calls": {"Pause": {"median_ms": 1.0}}}
    assert [title for title, *_ in tables(told)] == ["cpu percent", "calls"]


def test_single_figures_beside_rounds_are_shown_as_well() -> None:
    told = {**json.loads(as_json("overhead", USAGES)), "more_cpu_percent": 1.25, "more_cpu": {"upload": 1.25}}
    (title, _, rows), *figures = tables(told)
    assert (title, len(rows)) == ("overhead", 2)
    assert figures == [
        ("", ("", ""), [("more cpu percent", "1.25")]),
        ("more cpu", ("", ""), [("upload", "1.25")]),
    ]


def test_the_page_says_where_it_was_measured_and_what_with() -> None:
    text = page({"s3": [json.loads(as_json("upload of one file", USAGES))]})
    assert "2 cores of A Processor, 24 GiB of memory, Debian; load 0.1" in text
    assert "s5cmd 2.3.0." in text
    assert "**upload of one file**" in text
    assert "| S3 upload, one 1 GiB file | s5cmd | faster |" in text
    assert "results-dark.svg" in text


def test_a_quick_run_and_what_failed_are_named() -> None:
    text = page({}, quick=True, failed=["s3", "peer"])
    assert "A quick run" in text
    assert "failed: s3, peer" in text
    assert "not measured" in text
    assert "A quick run" not in page({})
    assert "failed" not in page({})


def test_numbers_are_on_the_right() -> None:
    assert markdown(("", "MB/s"), [("a", "1")]) == ["|  | MB/s |", "| --- | ---: |", "| a | 1 |"]


def test_the_machine_is_described_and_not_named() -> None:
    facts = machine.facts()
    assert facts["cores"] >= 1
    assert facts["memory_gib"] >= 1
    assert facts["versions"].keys() >= {"dmedia-transfer", "Python", "boto3"}
    text = json.dumps(facts)
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert "/" not in "".join(facts["versions"].values())
