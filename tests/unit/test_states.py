"""Every pair of status and event, against a description of the rules that is not a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.errors import IllegalEvent
from dmedia_transfer.states import TABLE, Event, Reason, Status, advance

PAIRS = [(status, event) for status in Status for event in Event]


def rules(status: Status, event: Event) -> Status | None:
    """What should follow, as the words of docs/documents.md and the promises of the project say; None: a fault.

    Three questions decide: has it ended, does a worker have it, and who wants it to rest.
    """
    ended = status in ("done", "failed", "cancelled")
    has_worker = status in ("ongoing", "pausing")
    rests_for = {"pausing": "person", "paused": "person", "suspended": "system"}.get(status)
    at_rest = {"person": Status.PAUSED, "system": Status.SUSPENDED, None: Status.QUEUED}[rests_for]

    match str(event):
        case "start":  # only what waits for its turn gets a worker
            return Status.ONGOING if status == "queued" else None
        case "finish":  # bytes that are there are there, whatever was meanwhile decided; cancelled stays cancelled
            return status if status == "cancelled" else Status.DONE
        case "fail":
            if status == "done":
                return None  # what is done cannot fail any more
            return status if ended else Status.FAILED
        case "lost" | "stopped":  # no worker has it any more: it rests, or waits for its turn
            if status in ("done", "failed"):
                return None  # these words were the worker's last
            return status if ended else at_rest
        case "pause":  # a person's word outranks the system's; what is in flight finishes first
            if ended:
                return status
            return Status.PAUSING if has_worker else Status.PAUSED
        case "resume":  # takes back a person's pause and nothing else
            if rests_for != "person":
                return status
            return Status.ONGOING if has_worker else Status.QUEUED
        case "cancel":  # also of a failed one: that is how a person removes it
            return status if status == "done" else Status.CANCELLED
        case "retry":
            return Status.QUEUED if status == "failed" else status
        case "suspend":  # the system never takes over what a person paused
            return status if ended or rests_for == "person" else Status.SUSPENDED
        case "clear":  # ends a suspension and nothing else
            return Status.QUEUED if status == "suspended" else status
        case _:
            raise AssertionError(f"{event} has no rule")


@pytest.mark.parametrize(("status", "event"), PAIRS)
def test_the_table_says_what_the_rules_say(status: Status, event: Event) -> None:
    expected = rules(status, event)
    if expected is None:
        with pytest.raises(IllegalEvent, match=f"{status} does not know {event}"):
            advance(status, event)
    else:
        assert advance(status, event) is expected


@pytest.mark.parametrize("event", [Event.PAUSE, Event.RESUME, Event.CANCEL, Event.SUSPEND, Event.CLEAR, Event.RETRY])
@pytest.mark.parametrize("status", Status)
def test_commands_are_known_everywhere_and_twice_is_once(status: Status, event: Event) -> None:
    once = advance(status, event)
    assert advance(once, event) is once


@pytest.mark.parametrize("event", [Event.STOPPED, Event.LOST, Event.FINISH])
@pytest.mark.parametrize("status", Status)
def test_a_workers_last_word_heard_twice_is_heard_once(status: Status, event: Event) -> None:
    if (status, event) in TABLE:
        once = advance(status, event)
        assert advance(once, event) is once


PERSON = {Event.PAUSE, Event.RESUME, Event.CANCEL, Event.RETRY}
SYSTEM = [event for event in Event if event not in PERSON]


@given(events=st.lists(st.sampled_from([Event.SUSPEND, Event.CLEAR, Event.LOST, Event.STOPPED])))
def test_what_a_person_paused_the_system_does_not_wake(events: list[Event]) -> None:
    status = advance(Status.ONGOING, Event.PAUSE)
    for event in events:
        status = advance(status, event)
        assert status in (Status.PAUSING, Status.PAUSED)


@given(events=st.lists(st.sampled_from(Event), max_size=40))
def test_only_a_person_ends_a_pause_and_only_a_start_makes_work(events: list[Event]) -> None:
    status = Status.QUEUED
    for event in events:
        if (status, event) not in TABLE:
            continue
        before, status = status, advance(status, event)
        if before is Status.PAUSED and status is not Status.PAUSED:
            assert event in PERSON or event in (Event.FINISH, Event.FAIL)
        if before is not Status.ONGOING and status is Status.ONGOING:
            assert event is Event.START or (before is Status.PAUSING and event is Event.RESUME)
        if before in (Status.DONE, Status.CANCELLED):
            assert status is before
        if status is Status.SUSPENDED and before is not Status.SUSPENDED:
            assert event is Event.SUSPEND


def test_a_pause_taken_back_in_time_was_never_one() -> None:
    assert advance(advance(Status.ONGOING, Event.PAUSE), Event.RESUME) is Status.ONGOING


@pytest.mark.parametrize("status", Status)
def test_three_statuses_have_ended(status: Status) -> None:
    assert status.ended == (status in ("done", "failed", "cancelled"))


@pytest.mark.parametrize("word", [*Status, *Reason, *Event])
def test_all_words_are_stored_as_what_people_read(word: Status | Reason | Event) -> None:
    assert str(word) == word.value == word.value.lower()
    assert type(word)(str(word)) is word
    assert not str(word).isdigit()


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TABLE[Status.DONE, Event.START] = Status.ONGOING  # type: ignore[index]
