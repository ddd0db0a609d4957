"""The benchmarks' own ruler is held against work of a known size."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import common
from benchmarks.common import Contestant, RunFailed, Usage

MIB = 1024 * 1024


def python(script: str) -> list[str]:
    return [sys.executable, "-S", "-c", script]


def test_a_run_costs_what_it_and_its_children_cost() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    usage = common.measure(
        python(f"import subprocess, sys\n{burn}\nsubprocess.run([sys.executable, '-S', '-c', {burn!r}])")
    )
    assert usage.cpu_s >= 0.6
    assert usage.wall_s >= 0.3


def test_waiting_is_wall_time_and_no_work() -> None:
    usage = common.measure(python("import time; time.sleep(0.4)"))
    assert usage.wall_s >= 0.4
    assert usage.cpu_s < 0.3


def test_memory_is_that_of_the_run_and_not_ours() -> None:
    ours = bytearray(150 * MIB)
    ours[::4096] = b"x" * len(ours[::4096])
    small = common.measure(python("import time; time.sleep(0.2)"))
    assert 1 * MIB < small.peak_bytes < 60 * MIB
    large = common.measure(python(f"import time; kept = b'x' * {100 * MIB}; time.sleep(0.2)"))
    assert 100 * MIB < large.peak_bytes < 145 * MIB
    assert len(ours) == 150 * MIB


def test_the_memory_of_a_child_counts_too() -> None:
    child = f"import time; kept = b'x' * {90 * MIB}; time.sleep(0.3)"
    usage = common.measure(python(f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"))
    assert usage.peak_bytes > 90 * MIB


def test_a_run_that_fails_gives_no_number_but_its_last_words() -> None:
    with pytest.raises(RunFailed, match="ended with 3: no such bucket"):
        common.measure(python("import sys; print('no such bucket'); sys.exit(3)"))


def test_a_run_that_hangs_is_ended_with_all_its_children() -> None:
    start_s = time.monotonic()
    script = "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])"
    with pytest.raises(RunFailed, match="ended with -9"):
        common.measure(python(script), timeout_s=0.5)
    assert time.monotonic() - start_s < 30


def test_a_contest_takes_turns_and_forgets_the_warm_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    say = "open({!r}, 'a').write({!r})"
    contestants = [
        Contestant(
            name, python(say.format(str(log), name)), payload_bytes=1000, before=lambda: log.open("a").write("-")
        )
        for name in "AB"
    ]
    results = common.contest(contestants, rounds=2, say=lambda _: None)
    assert log.read_text() == "-A-B" * 3
    assert {name: len(usages) for name, usages in results.items()} == {"A": 2, "B": 2}
    assert all(usage.payload_bytes == 1000 for usages in results.values() for usage in usages)


def test_a_contestant_that_did_not_do_the_work_has_no_place(tmp_path: Path) -> None:
    def check() -> None:
        raise RunFailed("the file is not there")

    with pytest.raises(RunFailed, match="not there"):
        common.contest([Contestant("liar", python("pass"), check=check)], say=lambda _: None)


def test_what_goes_on_running_is_measured_for_the_time_of_a_block() -> None:
    burn = (
        "import time, sys\nsys.stdin.readline()\nend = time.process_time() + 0.3\n"
        "while time.process_time() < end: pass\n"
        "print()\nsys.stdout.flush()\nsys.stdin.readline()"
    )
    with subprocess.Popen(python(burn), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        with common.measuring(lambda: [process.pid], payload_bytes=3_000_000) as result:
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
        (usage,) = result
        process.stdin.write(b"\n")
    assert 0.25 <= usage.cpu_s <= 2
    assert usage.wall_s >= 0.25
    assert usage.peak_bytes > MIB
    assert usage.mb_per_s == pytest.approx(3 / usage.wall_s)


def test_a_tree_has_all_descendants_and_a_dead_process_none() -> None:
    script = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True)\n"
        "sys.stdin.read(); child.kill(); child.wait()"
    )
    with subprocess.Popen(python(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        assert {process.pid, child} <= set(common.tree(process.pid))
        assert child in common.tree(os.getpid())
    assert common.tree(child) == [child]
    assert (common.peak_bytes(child), common.cpu_seconds(child)) == (0, 0.0)


RESULTS = {
    "ours": [Usage(1.0, 0.5, 100 * MIB, 10**9), Usage(3.0, 0.7, 50 * MIB, 10**9), Usage(2.0, 0.6, 60 * MIB, 10**9)],
    "theirs": [Usage(4.0, 2.0, 10 * MIB, 10**9)],
}


def test_each_number_is_the_median_of_the_rounds() -> None:
    assert common.median(RESULTS["ours"]) == Usage(2.0, 0.6, 60 * MIB, 10**9)


def test_results_are_told_to_people_and_to_programs() -> None:
    told = json.loads(common.as_json("up", RESULTS))
    assert told["results"]["ours"]["median"]["mb_per_s"] == 500
    assert len(told["results"]["ours"]["runs"]) == 3
    text = io.StringIO()
    Console(file=text, width=120).print(common.as_table("up", RESULTS))
    (row,) = [line for line in text.getvalue().splitlines() if "ours" in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "ours",
        "2.000",
        "1.000 - 3.000",
        "500",
        "0.60",
        "60",
        "3",
    ]
