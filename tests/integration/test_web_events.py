"""The event stream: consecutive, going on, coalesced, and bounded."""

from __future__ import annotations

import logging

import pytest

from dmedia_transfer.model import Direction, Progress, Transfer, TransferKey
from dmedia_transfer.states import Event
from tests.factories import content, file_spec
from tests.web import WebHost, reading

FILM = file_spec(content(1000, seed=1))
KEY = TransferKey(Direction.DOWNLOAD, FILM.file_id, "")
ID = f"download-{FILM.file_id}"


def key(number: int) -> TransferKey:
    return TransferKey(Direction.DOWNLOAD, f"{number:048d}".translate(str.maketrans("0189", "ABCD")), "")


def test_a_reader_is_told_to_look_and_then_of_all_that_happens_with_consecutive_numbers(web: WebHost) -> None:
    with reading(web) as reader:
        assert reader.content_type.startswith("text/event-stream")
        first = reader.next()
        assert first.kind == "reset"
        web.main.call(web.control.add, Transfer(KEY, progress=Progress(0, 1000)))
        told = reader.until(lambda event: event.kind == "transfers" and event.data["changed"])
        assert [one["id"] for one in told[-1].data["changed"]] == [ID]
        web.main.call(web.control.on, KEY, Event.START)
        told += reader.until(lambda event: event.kind == "transfers")
        assert told[-1].data["changed"][0]["status"] == "ongoing"
        web.main.call(web.control.move, KEY, 500, rate=50.0, eta_s=10.0)
        told += reader.until(lambda event: event.kind == "progress")
        assert told[-1].data["transfers"] == [[ID, 500, 1000, 50, 10.0]]
        assert told[-1].data["download_rate"] == 50
        web.main.call(web.control.remove, KEY)
        told += reader.until(lambda event: event.kind == "transfers")
        assert told[-1].data == {"changed": [], "removed": [ID]}
        numbers = [event.number for event in told]
        assert numbers == list(range(first.number + 1, first.number + 1 + len(numbers)))


def test_who_comes_back_gets_what_it_missed(web: WebHost) -> None:
    with reading(web) as reader:
        seen = reader.next()
    web.main.call(web.control.add, Transfer(KEY))
    with reading(web, seen.id) as reader:
        first = reader.next()
        assert first.number == seen.number + 1
        assert first.kind != "reset"
        told = [first] if first.kind == "transfers" else reader.until(lambda event: event.kind == "transfers")
        assert told[-1].data["changed"][0]["id"] == ID


def test_a_list_says_from_which_event_on_to_follow(web: WebHost) -> None:
    event_id = web.get("/transfers")["event_id"]
    web.main.call(web.control.add, Transfer(KEY))
    with reading(web, event_id) as reader:
        assert reader.until(lambda event: event.kind == "transfers")[-1].data["changed"][0]["id"] == ID


def test_an_event_of_another_run_or_one_that_is_not_kept_is_answered_with_a_reset(web: WebHost) -> None:
    for event_id in ("0000.7", "nonsense"):
        with reading(web, event_id) as reader:
            assert reader.next().kind == "reset"


def test_names_follow_when_they_are_known(web: WebHost) -> None:
    song = file_spec(content(10, seed=991))
    web.add_file(song, name="song.ogg")
    with reading(web) as reader:
        reader.next()
        web.main.call(web.control.add, Transfer(KEY._replace(file_id=song.file_id)))
        told = reader.until(lambda event: event.kind == "names")
        assert told[-1].data == {song.file_id: "song.ogg"}


def test_progress_is_told_four_times_a_second_at_most_and_the_last_value_always(web: WebHost) -> None:
    web.main.call(web.control.add, Transfer(KEY, progress=Progress(0, 10_000)))
    web.main.call(web.control.on, KEY, Event.START)
    with reading(web) as reader:
        reader.next()
        for done in range(1, 2001):
            web.main.call(web.control.move, KEY, done)
        told = reader.until(lambda event: event.kind == "progress" and event.data["transfers"][0][1] == 2000)
        assert sum(event.kind == "progress" for event in told) <= 20  # and not one for each


def test_of_thousands_of_changes_is_said_that_there_were_many(web: WebHost) -> None:
    def fill() -> None:
        for number in range(3000):
            web.control.add(Transfer(key(number)))

    with reading(web) as reader:
        reader.next()
        web.main.call(fill)
        told = reader.until(lambda event: event.kind == "reset")
        assert "transfers have changed" in told[-1].data["why"]
    assert web.get("/transfers?limit=1")["total"] == 3000


def test_the_summary_is_told_when_it_changes(web: WebHost) -> None:
    with reading(web) as reader:
        reader.next()
        web.main.call(web.control.change_summary, problems=("something",))
        told = reader.until(lambda event: event.kind == "summary" and event.data["problems"] == 1)
        assert told[-1].data["event_id"]


def test_a_reader_that_goes_away_is_no_error_in_the_log(web: WebHost, caplog: pytest.LogCaptureFixture) -> None:
    with reading(web) as reader, reading(web) as stays:
        reader.next()
        stays.next()
        reader.close()
        # What is told after that finds the connection closed; by the second reader it is known to have been told.
        for number in range(8):
            web.main.call(web.control.add, Transfer(key(number)))
            stays.until(lambda event: event.kind == "transfers" and bool(event.data["changed"]))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
