"""Workerlog: a line that a worker logged, in the daemon's log: with its transfer in front, and where it came from."""

from __future__ import annotations

import logging

from dmedia_transfer.model import Logged


def relay(line: Logged) -> None:
    """Log it as if it had been logged here."""
    logger = logging.getLogger(line.logger)
    if not logger.isEnabledFor(line.level):
        return
    path, number, function = line.code
    text, args = ("%s: %s", (line.key, line.message)) if line.key else ("%s", (line.message,))
    logger.handle(logger.makeRecord(line.logger, line.level, path, number, text, args, None, function))
