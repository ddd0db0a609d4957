"""The stream of events: consecutive numbers, going on, and word of what was missed."""

from __future__ import annotations

import asyncio

import pytest

from dmedia_transfer.web.stream import Stream, TooSlow


def test_events_are_numbered_one_by_one_and_read_once() -> None:
    async def scene() -> None:
        stream = Stream()
        for word in ("one", "two", "three"):
            stream.publish("word", {"word": word})
        events = await stream.read(1, wait_s=5)
        assert [event.number for event in events] == [2, 3]
        assert events[0].text == f'id: {stream.life}.2\nevent: word\ndata: {{"word":"two"}}\n\n'.encode()

    asyncio.run(scene())


def test_a_reader_goes_on_where_it_was_and_hears_when_it_missed_something() -> None:
    stream = Stream(kept_events=3)
    assert stream.after(stream.last_id) == 0
    first = stream.last_id
    for number in range(5):
        stream.publish("word", number)
    assert stream.after(stream.last_id) == 5
    assert stream.after(stream.id_of(2)) == 2
    assert stream.after(stream.id_of(1)) is None
    assert stream.after(first) is None
    assert stream.after("otherlife.5") is None


@pytest.mark.parametrize(
    "text", ["", "x", "5", ".5", "{life}.", "{life}.x", "{life}.-1", "{life}.99", "{life}." + "9" * 50]
)
def test_nonsense_is_no_place_to_go_on(text: str) -> None:
    stream = Stream()
    stream.publish("word", 1)
    assert stream.after(text.format(life=stream.life)) is None


def test_what_is_kept_has_a_limit_in_bytes_and_one_large_event_is_kept_all_the_same() -> None:
    stream = Stream(kept_bytes=1000)
    for _ in range(10):
        stream.publish("word", "x" * 300)
    assert stream.after(stream.id_of(9)) == 9
    assert stream.after(stream.id_of(5)) is None
    stream.publish("word", "x" * 5000)
    assert stream.after(stream.id_of(10)) == 10


def test_a_reader_that_is_too_slow_is_told_so() -> None:
    async def scene() -> None:
        stream = Stream(kept_events=2)
        for number in range(5):
            stream.publish("word", number)
        with pytest.raises(TooSlow):
            await stream.read(1, wait_s=5)

    asyncio.run(scene())


def test_a_reader_waits_for_what_comes_and_not_for_ever() -> None:
    async def scene() -> None:
        stream = Stream()
        assert await stream.read(0, wait_s=0.01) == ()
        reading = asyncio.create_task(stream.read(0, wait_s=30))
        await asyncio.sleep(0)
        stream.publish("word", "now")
        assert [event.number for event in await reading] == [1]

    asyncio.run(scene())
