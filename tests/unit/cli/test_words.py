"""Numbers and names as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.cli import words
from dmedia_transfer.errors import InvalidRequest
from dmedia_transfer.model import Progress
from dmedia_transfer.states import Reason, Status


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (8 * 1024**2, "8.0 MiB"), (5 * 1024**4, "5.0 TiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0, "0 B/s"), (999, "999 B/s"), (2_000_000, "2.0 MB/s"), (1.5e9, "1.5 GB/s"), (1e13, "10000.0 GB/s")],
)
def test_rates(rate: float, text: str) -> None:
    assert words.rate(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (59.6, "1:00"), (185, "3:05"), (7200, "2:00:00"), (3 * 86400, "3 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("256MiB", 256 * 1024**2),
        ("1.5 GB", 1_500_000_000),
        ("1000", 1000),
        ("1k", 1000),
        ("2tib", 2 * 1024**4),
        ("7B", 7),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert words.parse_size(text) == count


@pytest.mark.parametrize(
    "text", ["", "0", "0.1", "-5MB", "5 iB", "5Mib/s", "MiB", "1e9", "5MiBB", "\N{ARABIC-INDIC DIGIT FIVE}"]
)
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a size like 256MiB"):
        words.parse_size(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("low", -10), ("Normal", 0), ("high", 10), ("now", 100), ("-3", -3), ("+7", 7), ("1000000", 1_000_000)],
)
def test_priorities_are_read(text: str, number: int) -> None:
    assert words.parse_priority(text) == number


@pytest.mark.parametrize("text", ["", "urgent", "1000001", "1.5", "--1", "99999999"])
def test_what_is_no_priority_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a priority"):
        words.parse_priority(text)


def test_a_priority_has_its_name_back() -> None:
    assert [words.priority(number) for number in (-10, 0, 10, 100, 5)] == ["low", "normal", "high", "now", "5"]


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31mb", "a\rb", "a\u202eb", "a\x00b", "a\udcffb"])
def test_nothing_that_a_terminal_would_obey_is_printed(text: str) -> None:
    shown = words.printable(text)
    assert shown.startswith("a")
    assert shown.endswith("b")
    assert shown.isprintable() or "\N{REPLACEMENT CHARACTER}" in shown
    assert not {"\n", "\x1b", "\r", "\u202e", "\x00"} & set(shown)


@given(st.text())
def test_what_is_printable_can_be_encoded_and_stays_so(text: str) -> None:
    shown = words.printable(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert words.printable(shown) == shown


def test_only_all_of_it_is_a_hundred_percent() -> None:
    assert words.percent(Progress(999_999, 1_000_000)) == 99
    assert words.percent(Progress(10, 10)) == 100
    assert words.percent(Progress(5, 0)) is None


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words(reason: Reason) -> None:
    assert words.status(Status.SUSPENDED, reason).startswith("waits for ")


def test_a_status_tells_of_the_error_where_one_matters() -> None:
    assert words.status(Status.FAILED, None, "no\nroom") == "failed: no\N{REPLACEMENT CHARACTER}room"
    assert words.status(Status.SUSPENDED, Reason.BACKOFF, "cut") == "waits for the next attempt: cut"
    assert words.status(Status.ONGOING, None, "cut") == "ongoing"


def test_moments_that_no_calendar_has_are_shown_all_the_same() -> None:
    assert words.moment(1e18) == "?"
    assert len(words.moment(1_790_000_000)) == len("2026-09-21 12:00")


def test_counting() -> None:
    assert words.counted(1, "file") == "1 file"
    assert words.counted(1234, "entry", "entries") == "1,234 entries"
