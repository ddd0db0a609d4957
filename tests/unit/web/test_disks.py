"""Disks are looked at by one thread, and one that hangs holds up nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from dmedia_transfer.errors import StoreMissing
from dmedia_transfer.web.bridge import Bridge
from dmedia_transfer.web.disks import Disk, Disks
from tests.factories import OTHER_STORE_ID, STORE_ID
from tests.waiting import WAIT_S


class Drive:
    def __init__(self, store_id: str, *, there: bool = True) -> None:
        self.store_id = store_id
        self.there = there
        self.answers = threading.Event()
        self.answers.set()
        self.looks = 0

    def total_bytes(self) -> int:
        self.looks += 1
        self.answers.wait(WAIT_S)
        if not self.there:
            raise StoreMissing(f"store {self.store_id} is not mounted")
        return 1000

    def free_bytes(self) -> int:
        return 400


class Drives:
    def __init__(self, *drives: Drive) -> None:
        self.drives = drives

    def all(self) -> Sequence[Drive]:
        return self.drives


def disks(executor: ThreadPoolExecutor, *drives: Drive, wait_s: float = WAIT_S) -> Disks:
    return Disks(Drives(*drives), Bridge(lambda function: function(), executor), wait_s=wait_s)


def test_a_drive_that_is_gone_is_told_as_gone_and_the_others_as_they_are() -> None:
    async def look() -> list[Disk]:
        return await disks(executor, Drive(STORE_ID), Drive(OTHER_STORE_ID, there=False)).all()

    with ThreadPoolExecutor() as executor:
        assert asyncio.run(look()) == [Disk(STORE_ID, True, 1000, 400), Disk(OTHER_STORE_ID, False)]


def test_a_drive_that_hangs_takes_one_thread_however_often_somebody_asks_and_comes_back() -> None:
    drive = Drive(STORE_ID)

    async def look() -> None:
        seen = disks(executor, drive)
        assert await seen.all() == [Disk(STORE_ID, True, 1000, 400)]
        drive.answers.clear()
        drive.looks = 0
        seen._wait_s = 0.05
        for _ in range(3):
            assert await seen.all() == [Disk(STORE_ID, there=False)]
        assert drive.looks == 1
        drive.answers.set()
        seen._wait_s = WAIT_S
        assert list(await asyncio.gather(seen.all(), seen.all())) == [[Disk(STORE_ID, True, 1000, 400)]] * 2

    with ThreadPoolExecutor() as executor:
        try:
            asyncio.run(look())
        finally:
            drive.answers.set()


def test_a_fault_is_no_answer_and_the_next_look_is_a_new_one() -> None:
    drive = Drive(STORE_ID)

    async def look() -> None:
        seen = disks(executor, drive)
        drive.total_bytes = lambda: 1 // 0  # type: ignore[method-assign] # a fault of ours
        with pytest.raises(ZeroDivisionError):
            await seen.all()
        del drive.total_bytes
        assert await seen.all() == [Disk(STORE_ID, True, 1000, 400)]

    with ThreadPoolExecutor() as executor:
        asyncio.run(look())
