"""When the other devices are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dmedia_transfer.manager.telling import COALESCE_S, MOVING_S, Telling
from dmedia_transfer.model import Entry, TransferKey
from tests.factories import MACHINE_ID, content, file_spec
from tests.fakes import World


class Told:
    """A manager that tells, and what it told when."""

    def __init__(self) -> None:
        self.world = World()
        self.bodies: list[tuple[float, Mapping[str, Any]]] = []
        self.telling = Telling(
            self.world.manager,
            machine_id=MACHINE_ID,
            publish=lambda body: self.bodies.append((self.world.clock.now, body)),
            call_later=self.world.clock.call_later,
            clock=self.world.clock,
            wall=self.world.clock,
        )
        self.world.manager.subscribe(self.telling)

    def start(self) -> TransferKey:
        file = self.world.add_file(file_spec(content(1000)))
        (key,) = self.world.queue(Entry(file.file_id))
        return key


def test_nothing_is_told_while_nothing_happens() -> None:
    told = Told()
    told.world.clock.advance(3600)
    assert told.bodies == []


def test_changes_of_status_are_told_together_after_a_moment() -> None:
    told = Told()
    begun = told.world.clock.now
    told.start()
    told.world.clock.advance(60)
    ((when, body),) = told.bodies
    assert when == begun + COALESCE_S
    assert [line["status"] for line in body["transfers"]] == ["ongoing"]


def test_while_bytes_move_it_is_told_every_fifteen_seconds_and_no_more_often() -> None:
    told = Told()
    key = told.start()
    told.world.clock.advance(COALESCE_S)
    told.bodies.clear()
    for step in range(600):
        told.world.clock.advance(0.1)
        told.world.move(key, step + 1)
    assert 3 <= len(told.bodies) <= 60 / MOVING_S
    assert told.bodies[-1][1]["transfers"][0]["bytes_done"] > 400


def test_what_ended_last_is_told_also_when_it_is_not_on_the_board_any_more() -> None:
    told = Told()
    key = told.start()
    told.world.end(key)
    told.world.clock.advance(3600)
    body = told.bodies[-1][1]
    assert body["transfers"] == []
    assert [line["status"] for line in body["finished"]] == ["done"]


def test_the_same_is_not_told_twice() -> None:
    told = Told()
    told.start()
    told.world.clock.advance(10)
    count = len(told.bodies)
    told.telling.summary_changed()
    told.world.clock.advance(10)
    assert len(told.bodies) == count
