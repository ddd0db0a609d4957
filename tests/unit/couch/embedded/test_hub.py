"""Who waits for changes is woken by the commit, and by nothing else."""

from __future__ import annotations

import asyncio

from dmedia_transfer.couch.embedded.hub import Hub


def test_a_commit_wakes_the_feeds_of_its_database_only() -> None:
    async def scenario() -> tuple[bool, bool]:
        hub = Hub()
        waiting = asyncio.create_task(hub.wait(1, hub.commits(1), 5))
        other = asyncio.create_task(hub.wait(2, hub.commits(2), 0.05))
        await asyncio.sleep(0)
        hub.publish({1}, set())
        return await waiting, await other

    assert asyncio.run(scenario()) == (True, False)


def test_a_commit_between_the_look_and_the_wait_is_not_missed() -> None:
    async def scenario() -> bool:
        hub = Hub()
        seen = hub.commits(1)
        hub.publish({1}, set())
        return await hub.wait(1, seen, 0.05)

    assert asyncio.run(scenario())


def test_the_end_wakes_everybody_and_nobody_waits_after_it() -> None:
    async def scenario() -> list[bool]:
        hub = Hub()
        waiting = [asyncio.create_task(hub.wait(key, 0, 5)) for key in (1, 1, 2)]
        await asyncio.sleep(0)
        hub.close()
        return [*await asyncio.gather(*waiting), await hub.wait(3, 0, 5)]

    assert asyncio.run(scenario()) == [True] * 4


def test_who_gives_up_leaves_nothing_behind() -> None:
    async def scenario() -> Hub:
        hub = Hub()
        waiting = asyncio.create_task(hub.wait(1, 0, 5))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return hub

    assert asyncio.run(scenario())._waiting == {}
