"""All contestants take turns: once per round, each round begun by another one, after a round that does not count.

A machine that gets slower in the middle harms them alike, and nobody always comes after the one that leaves the most
behind. What the server spends is counted apart.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks.common import Usage, cpu_seconds

Turn = Callable[[], Usage]  # does the work once, and says what it cost


def take_turns(
    turns: Mapping[str, Turn],
    *,
    rounds: int,
    servers: Callable[[], Sequence[int]] = lambda: (),
    say: Callable[[str], object] = lambda text: print(text, file=sys.stderr, flush=True),
) -> dict[str, list[Usage]]:
    """Run them all.

    Args:
        turns: By name.
        rounds: That count.
        servers: The processes of the server; asked before and after each turn.
        say: Is told which round it is.

    Returns:
        By name, what each round cost: the same index is the same round.
    """
    results: dict[str, list[Usage]] = {name: [] for name in turns}
    names = list(turns)
    for number in range(rounds + 1):
        say(f"  round {number} of {rounds}" if number else "  warming up")
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            before = {pid: cpu_seconds(pid) for pid in servers()}
            usage = turns[name]()
            spent = sum(cpu_seconds(pid) - before.get(pid, 0.0) for pid in servers())
            if number:
                results[name].append(replace(usage, server_cpu_s=spent))
    return results


def speed_ratio(ours: Sequence[Usage], theirs: Sequence[Usage]) -> float:
    """How many times as fast we are: the median of the rounds' ratios, as each round had its own weather."""
    return statistics.median(their.wall_s / our.wall_s for our, their in zip(ours, theirs, strict=True))


def cpu_ratio(ours: Sequence[Usage], theirs: Sequence[Usage]) -> float:
    """How many of their CPU seconds we need: again the median of the rounds' ratios."""
    return statistics.median(our.cpu_s / their.cpu_s for our, their in zip(ours, theirs, strict=True))
