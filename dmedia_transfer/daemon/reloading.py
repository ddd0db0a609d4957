"""Reloading: on SIGHUP the configuration is read anew; what can change while the daemon runs does, the rest is named.

All or nothing: a configuration that cannot be read or understood leaves the one before in force, and says so in
`Problems` until a good one is read. Only what has changed in the configuration is touched: a limit that somebody set
over D-Bus stays until its own line is another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from dmedia_transfer.config import Config
from dmedia_transfer.errors import TransferError

log = logging.getLogger(__name__)

SOURCE = "configuration"

Prepare = Callable[[Config], Callable[[], object]]
"""Understands what is new and returns what puts it in force; raises InvalidConfig, and has changed nothing then."""


class Reloading:
    """The configuration in force. For the main loop's thread."""

    def __init__(
        self, config: Config, *, read: Callable[[], Config], problem: Callable[[str, str | None], None]
    ) -> None:
        """Nothing can change before `live` says what.

        Args:
            config: What the daemon was started with.
            read: Reads the configuration anew; raises a TransferError that says what is wrong with it.
            problem: Told what is wrong, under the name of where it comes from, and None when it is right again.
        """
        self.config = config
        self._read = read
        self._problem = problem
        self._live: list[tuple[frozenset[str], Prepare]] = []

    def live(self, settings: Iterable[str], prepare: Prepare) -> None:
        """These settings can change while the daemon runs: `prepare` is called if one of them has."""
        self._live.append((frozenset(settings), prepare))

    def reload(self) -> None:
        """Read the configuration, and go by it as far as that can be."""
        before = self.config
        try:
            read = self._read()
            changed = {name for name in Config.model_fields if getattr(read, name) != getattr(before, name)}
            steps = [prepare(read) for settings, prepare in self._live if settings & changed]
        except TransferError as error:
            self._problem(SOURCE, f"{error}; the configuration of before stays in force")
            return
        self._problem(SOURCE, None)
        live = changed & frozenset[str]().union(*(settings for settings, _ in self._live))
        self.config = before.model_copy(update={name: getattr(read, name) for name in live})
        for step in steps:
            step()
        if live:
            log.info("the configuration was read anew; in force now: %s", ", ".join(sorted(live)))
        if changed - live:
            log.warning("needs a restart: %s", ", ".join(sorted(changed - live)))
        if not changed:
            log.info("the configuration was read anew; nothing in it has changed")
