"""Replication logs: never further on than what both sides are known to have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.couch.replication.history import HISTORY_MAX, Log, Session, common_seq, same


def session(name: str, *seqs: str, before: Log | None = None) -> Log:
    """The log of a session that got to the last of these places."""
    line = Session(name, since="0", before=before)
    return [line.log(seq) for seq in seqs][-1]


def test_logs_that_agree_say_where_to_go_on() -> None:
    log = session("a", "5-x", "9-x")
    assert common_seq(log, log) == "9-x"


def test_what_only_one_side_knows_is_not_believed() -> None:
    assert common_seq(session("a", "9-x"), None) == "0"
    assert common_seq(None, session("a", "9-x")) == "0"
    assert common_seq(session("a", "9-x"), session("b", "9-x")) == "0"


def test_a_side_that_is_behind_in_the_same_session_decides() -> None:
    ahead, behind = session("a", "10-x"), session("a", "9-y")
    assert common_seq(ahead, behind) == common_seq(behind, ahead) == "9-y"


def test_a_side_that_came_back_from_a_backup_is_met_at_the_last_session_that_both_know() -> None:
    first = session("a", "5-x")
    second = session("b", "12-x", before=first)
    third = session("c", "20-x", before=second)
    assert common_seq(third, first) == "5-x"
    assert common_seq(second, third) == "12-x"
    other = session("d", "30-x", before=first)
    assert common_seq(third, other) == "5-x"


@pytest.mark.parametrize(
    "log",
    [
        {}, {"session_id": "a"}, {"session_id": "a", "source_last_seq": 5}, {"session_id": "a", "source_last_seq": ""},
        {"session_id": "", "source_last_seq": "9-x"}, {"session_id": "b", "history": 5},
        {"session_id": "b", "history": [5, {}, {"session_id": "a"}, {"session_id": "a", "recorded_seq": None}]},
    ],
)  # fmt: skip
def test_a_log_that_cannot_be_understood_leads_back_to_the_start(log: dict[str, Any]) -> None:
    assert common_seq(log, log) == "0"
    assert common_seq(session("a", "9-x"), log) == "0"


def test_places_that_cannot_be_compared_lead_back_to_the_start() -> None:
    assert common_seq(session("a", "x"), session("a", "y")) == "0"


def test_a_log_stays_short_and_keeps_the_newest() -> None:
    log: Log | None = None
    for number in range(HISTORY_MAX + 20):
        log = session(f"s{number}", f"{number}-x", before=log)
    assert log is not None
    assert len(log["history"]) == HISTORY_MAX
    assert log["history"][0]["session_id"] == f"s{HISTORY_MAX + 19}"


def test_logs_are_the_same_if_they_say_the_same_of_the_last_session() -> None:
    log = session("a", "5-x")
    assert same({**log, "_rev": "0-7"}, log)
    assert same(None, None)
    assert not same(log, None)
    assert not same(session("a", "6-x"), log)


steps = st.lists(st.tuples(st.sampled_from(["write", "half", "restore source", "restore target", "session"]),
                           st.integers(0, 50)), max_size=30)  # fmt: skip


@given(steps)
def test_whatever_is_cut_or_restored_nothing_that_a_side_lacks_is_skipped(steps: list[tuple[str, int]]) -> None:
    """The model: which changes the source has, in order, and which of all that there ever were the target has.

    A source that came back from a backup goes on with other changes than it had after that before.
    """
    changes: tuple[int, ...] = ()
    has: frozenset[int] = frozenset()
    source: list[tuple[Log | None, tuple[int, ...]]] = [(None, changes)]  # all states that a backup may hold
    target: list[tuple[Log | None, frozenset[int]]] = [(None, has)]
    begun_at, line = 0, Session("s0", since="0", before=None)
    for number, (what, choice) in enumerate(steps, start=1):
        if what == "session" or what.startswith("restore"):
            if what == "restore source":
                source.append(source[choice % len(source)])
                changes = source[-1][1]
            elif what == "restore target":
                target.append(target[choice % len(target)])
                has = target[-1][1]
            logs = source[-1][0], target[-1][0]
            since = common_seq(*logs)
            begun_at = int(since.partition("-")[0])
            assert begun_at <= len(changes)
            assert has.issuperset(changes[:begun_at])
            line = Session(f"s{number}", since=since, before=logs[0] if same(*logs) else None)
            continue
        changes = (*changes, number)
        has |= set(changes[begun_at:])
        log = line.log(f"{len(changes)}-x")
        source.append((log, changes))
        target.append((log if what == "write" else target[-1][0], has))
