"""Bridge: from the web's event loop to the main loop, and back with an answer; and into threads for what blocks."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, ParamSpec, Protocol, TypeVar

from dmedia_transfer.errors import ServerBusy

ANSWER_S: Final = 30.0  # the main loop never takes so long, unless the machine is in trouble

P = ParamSpec("P")
R = TypeVar("R")


class CallSoon(Protocol):
    """Calls something on the main loop's thread; from any thread."""

    def __call__(self, function: Callable[[], None], /) -> object: ...


class Bridge:
    """For the web's event loop."""

    def __init__(self, call_soon: CallSoon, executor: Executor, *, answer_s: float = ANSWER_S) -> None:
        self._call_soon = call_soon
        self._executor = executor
        self._answer_s = answer_s

    async def main(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something of the manager on its own thread.

        Raises:
            ServerBusy: The main loop does not come to it.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()

        def settle(result: R | None, error: BaseException | None) -> None:
            if answer.done():
                return  # whoever asked has gone away
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type] # None only where R is None

        def call() -> None:
            result, error = None, None
            try:
                result = function(*args, **kwargs)
            except Exception as problem:
                error = problem
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, error)

        self._call_soon(call)
        try:
            async with asyncio.timeout(self._answer_s):
                return await answer
        except TimeoutError:
            raise ServerBusy("the daemon is busy; try again", retry_after_s=5) from None

    async def thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do something that blocks, in a thread."""
        work = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
