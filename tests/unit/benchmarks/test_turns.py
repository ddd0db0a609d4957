"""All contestants take turns, and nobody is always the first."""

from __future__ import annotations

import os
import time

import pytest

from benchmarks.common import Usage
from benchmarks.turns import cpu_ratio, speed_ratio, take_turns


def test_each_round_begins_with_another_one_and_the_first_is_forgotten() -> None:
    said: list[str] = []
    called: list[str] = []

    def turn(name: str) -> Usage:
        called.append(name)
        return Usage(float(len(called)), 1.0, 0)

    results = take_turns(
        {name: lambda name=name: turn(name) for name in "ABC"},  # type: ignore[misc] # mypy cannot infer the default
        rounds=2,
        say=said.append,
    )
    assert "".join(called) == "ABC" + "BCA" + "CAB"
    assert {name: [usage.wall_s for usage in usages] for name, usages in results.items()} == {
        "A": [6.0, 8.0],
        "B": [4.0, 9.0],
        "C": [5.0, 7.0],
    }
    assert len(said) == 3


def test_what_the_server_spends_is_counted_apart() -> None:
    def turn() -> Usage:  # this process plays the server, too
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        return Usage(1.0, 0.5, 0, 10)

    (usage,) = take_turns({"one": turn}, rounds=1, servers=lambda: [os.getpid()], say=lambda _: None)["one"]
    assert usage.server_cpu_s >= 0.15
    assert (usage.wall_s, usage.cpu_s, usage.payload_bytes) == (1.0, 0.5, 10)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    ours = [Usage(1.0, 2.0, 0), Usage(10.0, 2.0, 0), Usage(1.0, 8.0, 0)]  # the second round had bad weather for all
    theirs = [Usage(2.0, 1.0, 0), Usage(30.0, 4.0, 0), Usage(1.0, 4.0, 0)]
    assert speed_ratio(ours, theirs) == 2.0
    assert cpu_ratio(ours, theirs) == 2.0
    with pytest.raises(ValueError, match="shorter"):
        speed_ratio(ours, theirs[:2])
