"""Who waits for changes. Nobody polls: a commit wakes the feeds of its database."""

from __future__ import annotations

import asyncio


class Hub:
    """For the event loop's thread only."""

    def __init__(self) -> None:
        self._waiting: dict[int, set[asyncio.Future[None]]] = {}
        self._closing = False
        self._commits: dict[int, int] = {}

    @property
    def closing(self) -> bool:
        """Whether the server is about to end, and feeds with it."""
        return self._closing

    def commits(self, key: int) -> int:
        """A number that changes whenever this database does: remember it, look, then wait for what came after."""
        return self._commits.get(key, 0)

    def publish(self, advanced: set[int], dropped: set[int]) -> None:
        """These databases have changed or are gone."""
        for key in advanced | dropped:
            self._commits[key] = self.commits(key) + 1
            self._wake(key)

    def close(self) -> None:
        """Wake everybody for the last time."""
        self._closing = True
        for key in list(self._waiting):
            self._wake(key)

    async def wait(self, key: int, seen: int, timeout_s: float) -> bool:
        """Wait until a database changes; False if the time is over first.

        Args:
            key: The database.
            seen: What `commits` was before the last look at it.
            timeout_s: How long, in seconds.
        """
        if self._closing or seen != self.commits(key):
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        else:
            return True
        finally:
            if waiting := self._waiting.get(key):
                waiting.discard(future)
                if not waiting:
                    del self._waiting[key]

    def _wake(self, key: int) -> None:
        for future in self._waiting.pop(key, set()):
            if not future.done():
                future.set_result(None)
