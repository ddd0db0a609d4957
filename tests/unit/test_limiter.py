"""Bandwidth budget and timetable, on a simulated clock."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmedia_transfer import limiter
from dmedia_transfer.errors import Interrupted, InvalidConfig
from dmedia_transfer.limiter import Limit, Timetable, TokenBucket, Use, divide, parse_rate

MIB = 1024 * 1024
BERLIN = ZoneInfo("Europe/Berlin")


class Line:
    """Threads that move bytes through one bucket, on a clock that only waiting moves."""

    def __init__(self, rate_bps: float | None, *, late_s: float = 0.0) -> None:
        self.now_s = 1000.0
        self.late_s = late_s  # how much later than asked a waiting thread wakes up
        self.bucket = TokenBucket(rate_bps, clock=lambda: self.now_s)
        self.moved: dict[int, list[tuple[float, int]]] = {}
        self._agenda: list[tuple[float, int, int, Iterator[float]]] = []
        self._turn = 0

    def add(self, name: int, piece_bytes: int | None = None) -> None:
        """A thread that always has more to move, in pieces of one size, or of the size that the bucket says."""
        self.moved[name] = []
        self._plan(self.now_s, name, self._life(name, piece_bytes))

    def _life(self, name: int, piece_bytes: int | None) -> Iterator[float]:
        while True:
            piece = piece_bytes or self.bucket.piece_bytes
            self.moved[name].append((self.now_s, piece))
            yield from self.bucket.delays(piece)
            yield 1e-5  # what moving costs

    def _plan(self, at_s: float, name: int, life: Iterator[float]) -> None:
        self._turn += 1
        heapq.heappush(self._agenda, (at_s, self._turn, name, life))

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self._agenda and self._agenda[0][0] < end_s:
            self.now_s, _, name, life = heapq.heappop(self._agenda)
            delay_s = next(life)
            self._plan(self.now_s + delay_s + self.late_s, name, life)
        self.now_s = end_s

    def bytes(self, name: int | None = None, *, since_s: float = 0.0, until_s: float = float("inf")) -> int:
        names = self.moved if name is None else [name]
        return sum(size for each in names for at_s, size in self.moved[each] if since_s <= at_s < until_s)


@settings(max_examples=60, deadline=None)
@given(
    rate_bps=st.floats(min_value=1e3, max_value=2e7),
    threads=st.integers(min_value=1, max_value=6),
    late_s=st.floats(min_value=0.0, max_value=0.01),
)
def test_ten_seconds_move_what_the_rate_allows_within_five_percent(
    rate_bps: float, threads: int, late_s: float
) -> None:
    line = Line(rate_bps, late_s=late_s)
    for name in range(threads):
        line.add(name, max(1, line.bucket.piece_bytes // threads))
    line.run(10)
    assert line.bytes() == pytest.approx(rate_bps * 10, rel=0.05)


@pytest.mark.parametrize("rate_bps", [1e6, 1e8, 1e9])
def test_pieces_of_a_mebibyte_keep_the_rate(rate_bps: float) -> None:
    line = Line(rate_bps)
    for name in range(4):
        line.add(name, MIB)
    line.run(2)  # the first pieces are a burst of 4 MiB at 1 MB/s, and are paid for
    start_s, before = line.now_s, line.bytes()
    line.run(10)
    # What moved between two moments is known to a piece of each thread.
    assert line.bytes(since_s=start_s) == pytest.approx(rate_bps * 10, rel=0.05, abs=4 * MIB)
    assert line.bytes() - before == line.bytes(since_s=start_s)


@settings(max_examples=40, deadline=None)
@given(rate_bps=st.floats(min_value=1e4, max_value=1e7), idle_s=st.floats(min_value=0, max_value=3600))
def test_an_idle_line_saves_up_no_more_than_a_quarter_of_a_second(rate_bps: float, idle_s: float) -> None:
    line = Line(rate_bps)
    line.run(idle_s)
    line.add(0)
    start_s = line.now_s
    line.run(1)
    # In every window: what was saved up, the rate, and the piece that is under way.
    for window_s in (0.05, 0.2, 1.0):
        assert line.bytes(until_s=start_s + window_s) <= rate_bps * (window_s + 0.25) + line.bucket.piece_bytes


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.one_of(
        st.lists(st.integers(min_value=int(1e6 * limiter.QUANTUM_S * 10), max_value=300_000), min_size=2, max_size=5),
        st.integers(min_value=100, max_value=300_000).map(lambda piece: [piece] * 3),
    )
)
def test_threads_get_equal_bytes_whatever_the_size_of_their_pieces(pieces: list[int]) -> None:
    line = Line(1e6)
    for name, piece in enumerate(pieces):
        line.add(name, piece)
    line.run(10)
    for name, piece in enumerate(pieces):
        assert line.bytes(name) == pytest.approx(1e7 / len(pieces), rel=0.1, abs=2 * max(pieces)), piece


@settings(max_examples=20, deadline=None)
@given(
    rates=st.lists(st.floats(min_value=1e4, max_value=1e7), min_size=2, max_size=4),
    threads=st.integers(min_value=1, max_value=4),
)
def test_a_changed_rate_holds_at_once_also_for_those_who_wait(rates: list[float], threads: int) -> None:
    line = Line(rates[0])
    for name in range(threads):
        line.add(name, 5000)
    for rate_bps in rates:
        line.bucket.set_rate(rate_bps)
        start_s = line.now_s
        line.run(10)
        assert line.bytes(since_s=start_s) == pytest.approx(rate_bps * 10, rel=0.05, abs=threads * 5000)


def test_a_lower_rate_cuts_what_was_saved_up_and_a_higher_one_shortens_a_wait() -> None:
    line = Line(1e6)
    bucket = line.bucket
    line.run(60)
    bucket.set_rate(1e4)
    assert list(itertools.islice(bucket.delays(2000), 1)) == [], "a fifth of a second at the new rate"
    assert list(itertools.islice(bucket.delays(100), 1)) != []
    delays = bucket.delays(10_000_000)
    assert 0 < next(delays) <= limiter.LOOK_S
    bucket.set_rate(None)
    assert list(delays) == []


def test_a_debt_is_paid_at_the_rate_of_its_time_and_forgiven_without_a_limit() -> None:
    line = Line(1e4)
    bucket = line.bucket
    waiting = bucket.delays(50)  # a quantum
    for _ in range(10):
        list(itertools.islice(bucket.delays(1000), 20))  # all that a quantum asks for is owed, and nobody pays
    assert next(waiting) > 0
    owed_s = bucket._delay(bucket._asked)
    line.now_s += owed_s / 2
    bucket.set_rate(1e6)
    assert bucket._delay(bucket._asked) == pytest.approx(owed_s / 2 * 1e4 / 1e6)
    bucket.set_rate(None)
    bucket.set_rate(1e4)
    assert bucket._delay(bucket._asked) == 0


def test_no_limit_never_waits() -> None:
    assert list(TokenBucket(None).delays(10**12)) == []
    assert TokenBucket(None).piece_bytes == MIB


@pytest.mark.parametrize("rate_bps", [0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(rate_bps: float) -> None:
    with pytest.raises(ValueError, match="positive number"):
        TokenBucket(rate_bps)


def test_a_stop_ends_the_wait_and_the_others_get_the_full_rate_again() -> None:
    now_s = 0.0
    bucket = TokenBucket(1e6, clock=lambda: now_s)
    with pytest.raises(Interrupted):
        bucket.take(50 * MIB, wait=lambda _: True)
    line = Line(1e6)
    for _ in range(20):
        with pytest.raises(Interrupted):
            line.bucket.take(MIB, wait=lambda _: True)
    line.add(0)
    line.run(10)
    assert line.bytes() == pytest.approx(1e7, rel=0.05)


def test_real_threads_on_the_real_clock_are_stopped_within_a_moment() -> None:
    bucket, stop, ends = TokenBucket(50_000), threading.Event(), []

    def work() -> None:
        try:
            while True:
                bucket.take(bucket.piece_bytes, stop.wait)
        except Interrupted:
            ends.append(time.monotonic())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    stop.wait(0.3)
    stop.set()
    for thread in threads:
        thread.join(timeout=10)
    assert len(ends) == 3


def test_the_real_clock_slows_a_thread_down() -> None:
    bucket = TokenBucket(1e6)
    start_s = time.monotonic()
    for _ in range(10):
        bucket.take(60_000)
    # 600 kB at 1 MB/s, less what was saved up; an upper bound would be a bet on the machine.
    assert time.monotonic() - start_s >= 0.6 - limiter.BURST_S - 0.05


# Shares

CAPACITIES = st.dictionaries(st.integers(0, 7), st.floats(min_value=0, max_value=1e8), min_size=1, max_size=8)


@given(limit_bps=st.floats(min_value=1e3, max_value=1e9), capacities=CAPACITIES)
def test_shares_settle_where_the_limit_or_all_capacity_is_used(limit_bps: float, capacities: dict[int, float]) -> None:
    shares: dict[int, float | None] = divide(limit_bps, dict.fromkeys(capacities, None))
    rates: dict[int, float] = {}
    for _ in range(40):
        rates = {key: min(capacity, shares[key] or 0.0) for key, capacity in capacities.items()}
        shares = divide(limit_bps, {key: Use(rate, shares[key]) for key, rate in rates.items()})
    assert sum(rates.values()) == pytest.approx(min(limit_bps, sum(capacities.values())), rel=0.05)
    fair_bps = limit_bps / len(capacities)
    for key, rate in rates.items():
        assert rate >= min(capacities[key], fair_bps) * 0.94, "nobody gets less than an equal share that it could use"


USES = st.dictionaries(
    st.integers(0, 7),
    st.one_of(
        st.none(),
        st.builds(
            Use, st.floats(min_value=0, max_value=1e9), st.one_of(st.none(), st.floats(min_value=1, max_value=1e9))
        ),
    ),
    min_size=1,
    max_size=8,
)


@given(limit_bps=st.floats(min_value=1e3, max_value=1e9), uses=USES)
def test_every_share_is_a_rate_and_together_they_leave_nothing_unused(
    limit_bps: float, uses: dict[int, Use | None]
) -> None:
    shares = divide(limit_bps, uses)
    assert shares.keys() == uses.keys()
    total = 0.0
    for share in shares.values():
        assert share is not None
        assert 0 < share <= limit_bps * 1.26
        total += share
    assert limit_bps * 0.99 <= total <= limit_bps * 1.26


@given(uses=USES)
def test_without_a_limit_nobody_has_one(uses: dict[int, Use | None]) -> None:
    assert divide(None, uses) == dict.fromkeys(uses, None)


def test_what_a_slow_worker_leaves_over_flows_to_the_others() -> None:
    shares = divide(9e6, {"slow": Use(1e6, 3e6), "a": Use(3e6, 3e6), "b": Use(3e6, 3e6)})
    assert shares == {"slow": 1.25e6, "a": 4e6, "b": 4e6}


def test_a_worker_that_has_just_begun_gets_an_equal_share() -> None:
    assert divide(8e6, {"old": Use(8e6, 8e6), "new": None}) == {"old": 4e6, "new": 4e6}


def test_nobody_to_share_with_is_fine() -> None:
    assert divide(1e6, {}) == {}


# Rates


@pytest.mark.parametrize(
    ("text", "rate_bps"),
    [
        ("5MB/s", 5e6),
        ("500kB/s", 5e5),
        ("500 KB/s", 5e5),
        ("2 MiB/s", 2 * 2**20),
        ("1.5GB/s", 1.5e9),
        ("64KiB/s", 65536),
        ("100000", 1e5),
        ("100000B", 1e5),
        ("5MB", 5e6),
        (" 5MB/s ", 5e6),
        ("0", None),
        ("0MB/s", None),
        ("off", None),
        ("OFF", None),
        ("", None),
        ("  ", None),
    ],
)
def test_a_rate_is_read(text: str, rate_bps: float | None) -> None:
    assert parse_rate(text) == rate_bps


@pytest.mark.parametrize(
    "text",
    ["fast", "-5MB/s", "5MB/h", "5 5MB/s", "1e6", "nan", "inf", "MB/s", "5TB/s", "٥MB/s", "5M", "1" * 5000],
)
def test_what_is_no_rate_is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse_rate(text, setting="download_limit")
    assert str(caught.value).startswith("download_limit: ")
    assert text[:10] in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["5Mb/s", "5 mb/s", "100kbit/s", "8Mbps", "5000bps"])
def test_bits_are_not_taken_for_bytes(text: str) -> None:
    with pytest.raises(InvalidConfig, match="bits are not understood"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["1", "999", "0.5kB/s", "2000GB/s"])
def test_a_rate_that_nobody_means_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="not between"):
        parse_rate(text)


# Timetables

DAY = "08:00 2MB/s, 18:00 off, 23:00 stop"
SLOW, FREE, STOP = Limit(2e6), Limit(), Limit(stop=True)


@pytest.mark.parametrize(
    ("clock", "limit", "next_clock", "days_on"),
    [
        ("00:00", STOP, "08:00", 0),
        ("07:59", STOP, "08:00", 0),
        ("08:00", SLOW, "18:00", 0),
        ("17:59", SLOW, "18:00", 0),
        ("18:00", FREE, "23:00", 0),
        ("23:00", STOP, "08:00", 1),
        ("23:59", STOP, "08:00", 1),
    ],
)
@pytest.mark.parametrize("zone", [UTC, BERLIN, None])
def test_a_timetable_holds_by_the_time_of_day_and_over_midnight(
    clock: str, limit: Limit, next_clock: str, days_on: int, zone: ZoneInfo | None
) -> None:
    timetable = Timetable.parse(DAY)
    now = datetime.fromisoformat(f"2026-02-03T{clock}").replace(tzinfo=zone)
    assert timetable.at(now) == limit
    expected = datetime.fromisoformat(f"2026-02-03T{next_clock}").replace(tzinfo=zone) + timedelta(days=days_on)
    assert timetable.next_change(now) == expected


def test_an_empty_timetable_limits_nothing_and_never_changes() -> None:
    now = datetime(2026, 2, 3, 12, tzinfo=UTC)
    assert Timetable.parse(" ").at(now) == Limit()
    assert Timetable.parse("").next_change(now) is None


def test_a_single_entry_holds_for_ever() -> None:
    now = datetime(2026, 2, 3, 12, tzinfo=UTC)
    timetable = Timetable.parse("20:00 1MB/s")
    assert timetable.at(now) == Limit(1e6)
    assert timetable.next_change(now) is None


def test_entries_may_come_in_any_order() -> None:
    assert Timetable.parse("23:00 stop,8:00 2MB/s , 18:00 OFF,") == Timetable.parse(DAY)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("24:00 off", "'24:00 off' is not like"),
        ("08:60 off", "'08:60 off' is not like"),
        ("8 off", "'8 off' is not like"),
        ("08:00", "'08:00' is not like"),
        ("08:00 off, 8:00 stop", "'8:00 stop': this time is there twice"),
        ("08:00 slow", "08:00 slow: 'slow' is not a rate"),
        ("08:00 2Mb/s", "bits are not understood"),
    ],
)
def test_a_bad_entry_is_named(text: str, problem: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        Timetable.parse(text)
    assert problem in str(caught.value)
    assert str(caught.value).startswith("timetable: ")


def test_a_time_that_the_clock_skips_comes_when_it_skips() -> None:
    timetable = Timetable.parse("02:30 stop, 12:00 off")
    before = datetime(2026, 3, 29, 1, 59, tzinfo=BERLIN)  # a minute before 02:00 becomes 03:00
    assert timetable.at(before) == FREE
    change = timetable.next_change(before)
    assert change is not None
    assert change.isoformat() == "2026-03-29T03:00:00+02:00"
    assert timetable.at(change) == STOP


def test_a_time_that_the_clock_shows_twice_comes_once() -> None:
    timetable = Timetable.parse("02:30 stop, 12:00 off")
    first = datetime(2026, 10, 25, 2, 29, tzinfo=BERLIN)
    change = timetable.next_change(first)
    assert change is not None
    assert change.isoformat() == "2026-10-25T02:30:00+02:00"
    again = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)  # later, though the clock shows less
    assert timetable.at(again) == STOP
    after = timetable.next_change(again)
    assert after is not None
    assert after.isoformat() == "2026-10-25T12:00:00+01:00"


def test_the_systems_own_zone_is_as_good_as_a_named_one(monkeypatch: pytest.MonkeyPatch) -> None:
    timetable = Timetable.parse("02:30 stop, 12:00 off")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        try:
            assert timetable.next_change(datetime(2026, 3, 29, 1, 59)) == datetime(2026, 3, 29, 3)  # noqa: DTZ001
            assert timetable.at(datetime(2026, 10, 25, 2, 10, fold=1)) == STOP  # noqa: DTZ001
        finally:
            patch.undo()
            time.tzset()


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.integers(0, 24 * 60 - 1), min_size=2, max_size=6, unique=True),
    moment=st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2028, 1, 1)),  # noqa: DTZ001
    zone=ZONES,
)
def test_nothing_changes_before_the_next_change_and_something_does_then(
    times: list[int], moment: datetime, zone: str
) -> None:
    timetable = Timetable.parse(",".join(f"{at // 60}:{at % 60:02} {1 + place}MB/s" for place, at in enumerate(times)))
    now = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    change = timetable.next_change(now)
    assert change is not None
    held_s = change.timestamp() - now.timestamp()
    assert 0 < held_s <= 26 * 3600
    assert timetable.at(change) != timetable.at(now)
    for share in (0.25, 0.5, 0.75, 0.999):
        between = datetime.fromtimestamp(now.timestamp() + held_s * share, ZoneInfo(zone))
        assert timetable.at(between) == timetable.at(now)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("8:00 2MB/s, 18:00 off, 23:00 stop", "08:00 2MB/s, 18:00 off, 23:00 stop"),
        ("12:00 1500kB/s", "12:00 1500kB/s"),
        ("00:00 2 MiB/s", "00:00 2097152B/s"),
        ("00:00 3GB/s", "00:00 3GB/s"),
        ("00:00 1234.5 kB/s", "00:00 1234500B/s"),
    ],
)
def test_a_timetable_is_told_as_it_can_be_read_again(text: str, told: str) -> None:
    timetable = Timetable.parse(text)
    assert str(timetable) == told
    assert Timetable.parse(told) == timetable
